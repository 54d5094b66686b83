package sim

import (
	"time"

	"memgraph-controller/memgraph"
)

// incarnation is a process as MAIN of a generation.
type incarnation struct {
	addr, runID string
	generation  int64
}

// gate is a gateway: it obeys the newest record, and lets clients through only
// while that is stable and the process that it names answers as MAIN.
type gate struct {
	c       *contender
	target  incarnation
	held    bool         // the record is not stable
	main    *incarnation // whose relays may live
	open    bool         // it answers
	opened  bool         // clients were let through to it
	waiting []func()
	writing int // writes under way
	rounds  int // verifications begun; an older one is void
}

// serve obeys a record.
func (g *gate) serve(t memgraph.Topology) {
	next := incarnation{memgraph.Pod{IP: t.Main.IP}.Addr(), t.Main.RunID, t.Generation}
	held := t.Phase != memgraph.Stable
	switch {
	case next == g.target:
		g.held = held
		g.admitAll()
		return
	case t.Generation <= g.target.generation && !g.c.w.bug.forgetfulGateway:
		return
	}
	g.c.w.obeys(g, next)
	g.target, g.held = next, held
	g.cut()
	if g.c.w.bug.blindGateway {
		g.confirm()
		return
	}
	g.verify()
}

// cut ends the relays.
func (g *gate) cut() { g.main, g.open = nil, false }

// lost is the end of a connection to MAIN, of which the controller is told.
func (g *gate) lost() {
	g.open = false
	g.c.decideSoon()
	g.verify()
}

// verify asks the target who it is, now and again.
func (g *gate) verify() {
	g.rounds++
	round, t, began := g.rounds, g.target, g.c.s.now
	if t.generation == 0 {
		return
	}
	var ask func()
	ask = func() {
		if round != g.rounds {
			return
		}
		p, reach := g.c.w.dial(g.c.node, t.addr)
		if reach != memgraph.Answered || p.exclusive {
			g.open = false
			g.c.after(g.pause(began), ask)
			return
		}
		is := p.is(memgraph.RoleMain) && p.runID == t.runID
		g.c.after(g.c.w.latency(), func() {
			switch {
			case round != g.rounds:
			case is:
				began = g.c.s.now
				g.confirm()
				g.c.after(time.Second, ask)
			default:
				g.cut()
				g.c.after(g.pause(began), ask)
			}
		})
	}
	g.c.after(g.c.w.latency(), ask)
}

// pause before another attempt; it is short for the first second.
func (g *gate) pause(began time.Duration) time.Duration {
	if g.c.s.now-began < time.Second {
		return 15 * time.Millisecond
	}
	return 100 * time.Millisecond
}

func (g *gate) confirm() {
	if g.main == nil {
		main := g.target
		g.main, g.opened = &main, false
		g.c.w.verifies(g)
	}
	g.open = true
	g.admitAll()
}

// passable tells whether clients may pass.
func (g *gate) passable() bool { return g.open && !g.held }

// admitAll lets pass who waits, if that may be.
func (g *gate) admitAll() {
	if !g.passable() {
		return
	}
	if !g.opened {
		g.opened = true
		g.c.w.opens(g)
	}
	waiting := g.waiting
	g.waiting = nil
	for _, wake := range waiting {
		wake()
	}
}

// admit waits until clients may pass, and returns to whom; nil if that takes too
// long.
func (g *gate) admit(limit time.Duration) *incarnation {
	until := g.c.s.now + limit
	for !g.passable() && g.c.s.now < until && !g.c.dead {
		g.c.s.suspend(func(wake func()) {
			g.waiting = append(g.waiting, wake)
			g.c.s.after(until-g.c.s.now, wake)
		})
	}
	if !g.passable() || g.c.goesOn() != nil {
		return nil
	}
	return g.main
}
