package kubelet

import (
	"context"
	"time"
)

// ending says how long a pod has. Its three contexts end in this order, and
// with the context they were made from:
//
//	               alive    hooks        grace
//	delete         at once  after grace  after grace
//	delete again   –        if sooner    if sooner
//	object gone    at once  at once      after minGrace
//
// Between hooks and SIGKILL a process has minGrace in any case, which is the
// container's business.
type ending struct {
	alive context.Context // ended: the pod is to end
	hooks context.Context // ended: there is no time for preStop hooks
	grace context.Context // ended: SIGKILL is due

	stop, skipHooks, kill context.CancelFunc
}

func newEnding(ctx context.Context) *ending {
	e := &ending{}
	e.alive, e.stop = context.WithCancel(ctx)
	e.hooks, e.skipHooks = context.WithCancel(ctx)
	e.grace, e.kill = context.WithCancel(ctx)
	return e
}

// within ends the pod in d at most; of several calls the earliest end counts.
func (e *ending) within(d time.Duration) {
	e.stop()
	// A hook that is not done by now has used the grace period up.
	time.AfterFunc(d, func() {
		e.skipHooks()
		e.kill()
	})
}

// force ends the pod without hooks and with the least grace, which is what a
// kubelet does when the object is gone.
func (e *ending) force() {
	e.stop()
	e.skipHooks()
	time.AfterFunc(minGrace, e.kill)
}

// release frees what the contexts hold.
func (e *ending) release() {
	e.stop()
	e.skipHooks()
	e.kill()
}
