package gateway

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

// target is a statement about where clients belong; the first has no address and
// says that they wait. It is immutable, but for what its gate's mutex guards.
type target struct {
	pod, addr, runID string
	generation       int64
	replica          bool          // it is to be one, and not MAIN
	replaced         chan struct{} // closed when a higher statement has come
	served           bool          // clients were let through to it; of its gate's mutex
}

// role is what the target has to answer.
func (t *target) role() string { return roleOf(t.replica) }

// as is the target's process runID.
func (t *target) as(runID string) incarnation {
	return incarnation{t.addr, runID, t.generation, t.replica}
}

func roleOf(replica bool) string {
	if replica {
		return roleReplica
	}
	return roleMain
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
	replica     bool // it has answered as one
}

// concerns reports whether t is about the process that other is about.
func (t *target) concerns(other *target) bool {
	return t.generation == other.generation && t.addr == other.addr && (t.runID == "" || t.runID == other.runID)
}

// holder is why clients are held.
type holder byte

// The holders, which do not exclude each other.
const (
	heldByWord      holder = 1 << iota // Expect's
	heldInIsolation                    // MAIN may have been replaced
)

// hold is a time for which clients are kept from all that could take effect,
// while MAIN may answer. It is immutable.
type hold struct {
	by         holder
	generation int64
	began      time.Time // by whomever, in whatever generation
}

// gate decides who may pass to which process, and keeps those who wait in the
// order of their arrival. It does no I/O, and none of its methods waits.
//
//	event                                       newcomers       relays   their units
//	a higher statement (order)                  wait            are cut  move
//	the same process is named (order)           as before       live on  as before
//	target is only expected (order)             wait            live on  wait
//	MAIN may have been replaced (isolate)       wait            live on  wait
//	nobody holds any more (order, isolate)      pass, if open   live on  go on
//	target answers as MAIN (confirm)            pass, unless    live on  as before
//	another process answers as it (confirm)       they are held are cut  move
//	target does not answer (shut)               wait            live on  as before
//	target answers as something else (dismiss)  wait            are cut  move
type gate struct {
	main  atomic.Pointer[incarnation] // whose relays may live; nil: nobody's
	hold  atomic.Pointer[hold]        // nil while clients are not held
	stale chan struct{}               // capacity 1: main has changed
	named atomic.Pointer[string]      // where MAIN is, if main is a replica

	maxWaiting, maxAttaching int

	mu         sync.Mutex
	target     *target
	open       bool      // main answers now; then main is not nil
	passable   bool      // it is open, and clients are not held
	since      time.Time // when passable or target last changed
	verifiedAt time.Time // main's last answer; zero if target had none yet
	trouble    error     // why the gate is not open, if that is known
	waiting    list.List // of *ticket, to be connected
	paused     list.List // of *ticket, connected already
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
	case g.passable:
		return Serving
	case g.open:
		return Holding
	case g.target.addr != "":
		return Verifying
	}
	return Parked
}

// order makes t the target if it outranks the present one. The verified MAIN
// stays only where t merely names the process that it already is. Clients are
// held, or not any more, if t is the target then or is about the same process. It
// returns for how long newcomers could not pass, if they can now, and for how long
// clients were held, if they are not any more.
func (g *gate) order(t *target, held bool) (shut, heldFor time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case t.outranks(g.target):
		t.replaced = make(chan struct{})
		close(g.target.replaced)
		g.target, g.since = t, time.Now()
		if m := g.main.Load(); m == nil || *m != t.as(t.runID) {
			g.dismissLocked(nil)
		}
	case !t.concerns(g.target):
		return 0, 0
	}
	heldFor = g.holdLocked(heldByWord, held)
	return g.turnLocked(), heldFor
}

// isolate has clients held, or not any more, whatever was ordered. It returns what
// order does.
func (g *gate) isolate(held bool) (shut, heldFor time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	heldFor = g.holdLocked(heldInIsolation, held)
	return g.turnLocked(), heldFor
}

// expecting is the hold in force if it is Expect's, else nil.
func (g *gate) expecting() *hold {
	if h := g.hold.Load(); h != nil && h.by&heldByWord != 0 {
		return h
	}
	return nil
}

// holdLocked begins or ends the hold by one holder, and returns how long clients
// were held if they are not any more. What goes on in another generation, or for
// another reason, is the same to clients.
func (g *gate) holdLocked(by holder, held bool) (lasted time.Duration) {
	was, next := g.hold.Load(), hold{began: time.Now()}
	if was != nil {
		next = *was
	}
	next.generation = g.target.generation
	if next.by &^= by; held {
		next.by |= by
	}
	switch {
	case next.by != 0:
		g.hold.Store(&next)
	case was != nil:
		g.hold.Store(nil)
		return time.Since(was.began)
	}
	return 0
}

// turnLocked follows a change: it lets pass who may now. It returns for how long
// newcomers could not, if they just became able to.
func (g *gate) turnLocked() (shut time.Duration) {
	if passable := g.open && g.hold.Load() == nil; passable != g.passable {
		now := time.Now()
		if passable {
			shut = now.Sub(g.since)
		}
		g.passable, g.since = passable, now
	}
	if g.passable {
		g.target.served = true
	}
	g.admitLocked()
	return shut
}

// letThroughTo reports whether clients were let through to t.
func (g *gate) letThroughTo(t *target) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return t.served
}

// current is the target to verify.
func (g *gate) current() *target {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.target
}

// confirm says that t's process, known by runID, has just answered as MAIN. It
// returns for how long newcomers could not pass, if they can now.
func (g *gate) confirm(t *target, runID string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.target != t {
		return 0
	}
	if m := t.as(runID); g.main.Load() == nil || *g.main.Load() != m {
		g.dismissLocked(nil)
		g.main.Store(&m)
	}
	g.verifiedAt, g.trouble, g.open = time.Now(), nil, true
	return g.turnLocked()
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
	g.open, g.trouble = false, why
	g.turnLocked()
	return was
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
	g.turnLocked()
	return was
}

func (g *gate) dismissLocked(why error) {
	g.open, g.trouble, g.verifiedAt = false, why, time.Time{}
	if g.main.Swap(nil) == nil {
		return
	}
	select {
	case g.stale <- struct{}{}:
	default: // the sweep that is due will see this change too
	}
}

// promotes reports whether the replica at addr may be MAIN by now.
func (g *gate) promotes(addr string) bool {
	named := g.named.Load()
	return named != nil && *named == addr
}

// shutFor is how long newcomers have not passed, or the target been waited for.
func (g *gate) shutFor() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return time.Since(g.since)
}
