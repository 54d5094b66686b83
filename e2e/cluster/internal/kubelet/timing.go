package kubelet

import (
	"context"
	"time"
)

// Timing is how long a node takes to notice and to act. A zero field stands for
// the default, which is that of a real kubelet. What comes of the defaults, and
// what was seen on three kubelets v1.36 with containerd on two cores:
//
//	kill -9 → Ready=False          0.15–1.25 s   0.17–0.85 s
//	kill -9 → Ready again          1.3–2.4 s     1.9–2.1 s
//	SIGTERM taken → object gone    0.7–1.8 s     0.8–1.7 s
//	SIGSTOP → Ready=False (http)   1.1–2.2 s     1.4–1.9 s
type Timing struct {
	// Relist is the period at which a node looks for started and ended
	// containers; each node has its own phase. Default 1.1 s: pleg pauses 1 s,
	// and a relist takes a while.
	Relist time.Duration
	// Create is what a pod's sandbox takes, and each container again. Default
	// 150 ms, containerd with runc on two busy cores.
	Create time.Duration
	// Report is what passes between a change on a node and the status that
	// shows it: pod worker and status manager. Default 150 ms, so that a kill
	// shows no sooner than the 0.17 to 0.85 s that were seen.
	Report time.Duration
	// CleanUp is what passes, after the end of the last container was noticed,
	// until the object is removed. Default 700 ms: objects were seen to go 0.8
	// to 1.7 s after SIGTERM, a relist included.
	CleanUp time.Duration
	// BackOffCap bounds the pause before a crashed container's restart; it
	// starts at 10 s or the cap. Default 1 s, the least that
	// crashLoopBackOff.maxContainerRestartPeriod allows.
	BackOffCap time.Duration
}

const (
	// firstBackOff is kubelet's initial crash loop pause.
	firstBackOff = 10 * time.Second
	// minGrace is what a process gets between SIGTERM and SIGKILL even if its
	// pod was deleted by force: kuberuntime's minimumGracePeriodInSeconds.
	minGrace = 2 * time.Second
)

func (t Timing) withDefaults() Timing {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&t.Relist, 1100*time.Millisecond)
	set(&t.Create, 150*time.Millisecond)
	set(&t.Report, 150*time.Millisecond)
	set(&t.CleanUp, 700*time.Millisecond)
	set(&t.BackOffCap, time.Second)
	return t
}

// relist is a node's clock: it looks at its containers at phase plus multiples
// of period.
type relist struct {
	phase  time.Time
	period time.Duration
}

// next is the first relist after now.
func (r relist) next(now time.Time) time.Time {
	n := now.Sub(r.phase)/r.period + 1
	return r.phase.Add(n * r.period)
}

// ladder is the crash loop back-off of one container. One that ends at once
// every time waits 0, 1, 1, 1 s … with a limit of 1 s, and with kubelet's
// default of 5 min 0, 10, 20, 40, 80, 160, 300, 300 s …
type ladder struct {
	limit     time.Duration
	step      time.Duration
	restarted time.Time
}

// due is when a container that ended at that time may start again: at once the
// first time and after having run for twice the limit.
func (l *ladder) due(ended time.Time) time.Time {
	if l.fresh(ended) {
		return ended
	}
	return ended.Add(l.step)
}

// climb notes a restart at now of a container that ended at ended.
func (l *ladder) climb(ended, now time.Time) {
	if l.fresh(ended) {
		l.step = min(firstBackOff, l.limit)
	} else {
		l.step = min(2*l.step, l.limit)
	}
	l.restarted = now
}

// fresh says whether the crash counts as the first.
func (l *ladder) fresh(ended time.Time) bool {
	return l.step == 0 || ended.Sub(l.restarted) > 2*l.limit
}

// sleepUntil returns false if ctx was done first.
func sleepUntil(ctx context.Context, t time.Time) bool { return sleep(ctx, time.Until(t)) }

// sleep returns false if ctx was done first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
