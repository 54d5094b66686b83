package sim

import (
	"context"
	"math"
	"time"

	"memgraph-controller/memgraph"
)

// deadline is the key of a context's deadline in virtual time.
type deadline struct{}

// limited is context.WithTimeout in virtual time, which ends no context: whoever waits
// looks at it.
func (c *contender) limited(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithValue(ctx, deadline{}, min(until(ctx), c.s.now+d)), func() {}
}

// until is the deadline of ctx.
func until(ctx context.Context) time.Duration {
	if at, limited := ctx.Value(deadline{}).(time.Duration); limited {
		return at
	}
	return math.MaxInt64
}

// soon is d from now, or the deadline of ctx.
func (c *contender) soon(ctx context.Context, d time.Duration) time.Duration {
	return min(until(ctx), c.s.now+d)
}

// pass is one look at a pod, with the steps on it, and how long it waited for whom it
// has to wait for: that pod, MAIN and the API server.
type pass struct {
	pod, main string // their addresses
	begun     time.Duration
	waited    time.Duration // for each of them
	onMain    time.Duration // of that, for MAIN
	waiting   bool
}

// apiAddr stands for the API server.
const apiAddr = "api"

// waits notes that the running task waits for who is at addr, until the returned
// function is called.
func (c *contender) waits(addr string) (done func()) {
	p, is := c.s.errand.(*pass)
	if !is || p.waiting || addr != p.pod && addr != p.main && addr != apiAddr {
		return func() {}
	}
	p.waiting = true
	began := c.ran()
	return func() {
		p.waiting = false
		p.waited += c.ran() - began
		if addr == p.main {
			p.onMain += c.ran() - began
		}
	}
}

// mainTurn is the executor's turn on MAIN, in virtual time.
type mainTurn struct {
	c       *contender
	held    bool
	waiting []func()
	since   time.Duration // when it was taken
	onMain  time.Duration // how long its holder had waited for MAIN by then
}

func (m *mainTurn) Take(ctx context.Context) error {
	c, p := m.c, m.c.s.errand.(*pass)
	done := c.waits(p.main)
	for m.held && ctx.Err() == nil && c.s.now < until(ctx) {
		c.s.suspend(func(wake func()) {
			m.waiting = append(m.waiting, wake)
			c.s.after(until(ctx)-c.s.now, wake)
		})
	}
	done()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case m.held:
		return context.DeadlineExceeded
	}
	m.held, m.since, m.onMain = true, c.ran(), p.onMain
	return nil
}

func (m *mainTurn) Give() {
	p := m.c.s.errand.(*pass)
	m.c.w.gives(m, p)
	m.held = false
	m.wake()
}

// wake has all who wait look again.
func (m *mainTurn) wake() {
	waiting := m.waiting
	m.waiting = nil
	for _, wake := range waiting {
		wake()
	}
}

// pass begins one on pod.
func (t *term) pass(pod memgraph.Pod) *pass {
	p := &pass{pod: pod.Addr(), begun: t.c.ran()}
	t.c.s.errand = p
	return p
}
