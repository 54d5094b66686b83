package gateway

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

// target is a statement about where clients belong; the first has no address and
// says that they wait. It is immutable.
type target struct {
	pod, addr, runID string
	generation       int64
	replaced         chan struct{} // closed when a higher statement has come
}

// outranks is invariant 2. Since it is a strict order, the outcome of several
// statements does not depend on the order in which they arrive.
func (t *target) outranks(other *target) bool {
	if t.generation != other.generation {
		return t.generation > other.generation
	}
	return t.runID != "" && other.runID == ""
}

// incarnation is one process that has answered as the target's MAIN. A relay
// lives as long as the gate's main is the incarnation it was opened for.
type incarnation struct {
	addr, runID string
	generation  int64
}

// gate decides who may pass to which process, and keeps those who wait in the
// order of their arrival. It does no I/O, and none of its methods waits.
//
//	event                                       newcomers   relays
//	a higher statement (order)                  wait        are cut
//	the same process is named (order)           as before   live on
//	target answers as MAIN (confirm)            pass        live on
//	another process answers as it (confirm)     pass        are cut
//	target does not answer (shut)               wait        live on
//	target answers as something else (dismiss)  wait        are cut
type gate struct {
	main  atomic.Pointer[incarnation] // whose relays may live; nil: nobody's
	stale chan struct{}               // capacity 1: main has changed

	maxWaiting, maxAttaching int

	mu         sync.Mutex
	target     *target
	open       bool      // main answers now; then main is not nil
	since      time.Time // when open or target last changed
	verifiedAt time.Time // main's last answer; zero if target had none yet
	trouble    error     // why the gate is not open, if that is known
	waiting    list.List // of *ticket
	attaching  int       // admitted, and not yet back from it
}

func newGate(maxWaiting, maxAttaching int) *gate {
	return &gate{
		stale:        make(chan struct{}, 1),
		maxWaiting:   maxWaiting,
		maxAttaching: maxAttaching,
		target:       &target{replaced: make(chan struct{})},
		since:        time.Now(),
	}
}

func (g *gate) stateLocked() State {
	switch {
	case g.open:
		return Serving
	case g.target.addr != "":
		return Verifying
	}
	return Parked
}

// order makes t the target if it outranks the present one. The verified MAIN
// stays only where t merely names the process that it already is.
func (g *gate) order(t *target) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !t.outranks(g.target) {
		return false
	}
	t.replaced = make(chan struct{})
	close(g.target.replaced)
	g.target, g.since = t, time.Now()
	if m := g.main.Load(); m == nil || *m != (incarnation{t.addr, t.runID, t.generation}) {
		g.dismissLocked(nil)
	}
	return true
}

// current is the target to verify.
func (g *gate) current() *target {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.target
}

// confirm says that t's process, known by runID, has just answered as MAIN. It
// returns for how long the gate had been shut, 0 if it was open.
func (g *gate) confirm(t *target, runID string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.target != t {
		return 0
	}
	now := time.Now()
	if m := (incarnation{t.addr, runID, t.generation}); g.main.Load() == nil || *g.main.Load() != m {
		g.dismissLocked(nil)
		g.main.Store(&m)
	}
	g.verifiedAt, g.trouble = now, nil
	if g.open {
		return 0
	}
	shut := now.Sub(g.since)
	g.open, g.since = true, now
	g.admitLocked()
	return shut
}

// shut closes the gate of a generation until its MAIN is confirmed again, for
// want of an answer; relays live on, for they may still have one. It reports
// whether the gate was open.
func (g *gate) shut(generation int64, why error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.target.generation != generation {
		return false
	}
	was := g.open
	g.shutLocked(why)
	return was
}

func (g *gate) shutLocked(why error) {
	g.trouble = why
	if g.open {
		g.open, g.since = false, time.Now()
	}
}

// dismiss says that what answers at t's address is not the MAIN that t means:
// the gate is shut, and relays end. It reports whether the gate was open.
func (g *gate) dismiss(t *target, why error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.target != t {
		return false
	}
	was := g.open
	g.dismissLocked(why)
	return was
}

func (g *gate) dismissLocked(why error) {
	g.shutLocked(why)
	g.verifiedAt = time.Time{}
	if g.main.Swap(nil) == nil {
		return
	}
	select {
	case g.stale <- struct{}{}:
	default: // the sweep that is due will see this change too
	}
}

// shutFor is how long the gate has been shut, or its target been waited for.
func (g *gate) shutFor() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Since(g.since)
}
