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

// answerAge is gateway's: what was asked for longer ago says nothing any more.
const answerAge = 2 * time.Second

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

	served    incarnation   // whom clients were let through to last
	deposed   incarnation   // the one of them that then answered as a replica
	deposedAt time.Duration // when it did so last

	outlook outlook
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
		g.confirm(g.c.s.now)
		return
	}
	g.verify()
}

// shut has newcomers wait for MAIN, by what was true at a moment.
func (g *gate) shut(at time.Duration) {
	if g.open {
		g.open = false
		g.c.w.shuts(g, at)
	}
}

// cut ends the relays.
func (g *gate) cut() { g.main, g.open = nil, false }

// lost is the end of a connection to main, of which the controller is told.
func (g *gate) lost(main *incarnation) {
	g.c.decideSoon()
	if g.main == main {
		g.shut(g.c.s.now)
		g.verify()
	}
}

// verify asks the target who it is, now and again.
func (g *gate) verify() {
	g.rounds++
	if g.target.generation > 0 {
		g.ask(g.rounds, g.c.s.now)
	}
}

// ask is one question of a round that has been without an answer since the given
// moment, and plans the next one.
func (g *gate) ask(round int, since time.Duration) {
	asked := g.c.s.now
	again := func(pause, since time.Duration) {
		g.c.after(pause, func() { g.ask(round, since) })
	}
	g.c.after(g.c.w.latency(), func() {
		if round != g.rounds {
			return
		}
		p, reach := g.c.w.dial(g.c.node, g.target.addr)
		if reach != memgraph.Answered || p.exclusive {
			g.shut(asked)
			again(g.pause(since), since)
			return
		}
		role, same := p.vol.role, p.runID == g.target.runID
		g.c.w.act("answer", atAnswer, g.c.struck)
		g.c.after(g.c.w.latency(), func() {
			switch {
			case round != g.rounds:
			case g.c.s.now-asked > answerAge && !g.c.w.bug.trustingGateway:
				g.shut(asked)
				again(0, since)
			case g.believe(role, same):
				g.confirm(asked)
				g.assure(round)
				again(verifyEvery, g.c.s.now)
			default:
				g.shut(asked)
				g.cut()
				again(g.pause(since), since)
			}
		})
	})
}

// doubt has main asked anew, which told a client that it is none, who asked it at a
// moment.
func (g *gate) doubt(main *incarnation, at time.Duration) {
	if g.main == main {
		g.shut(at)
		g.verify()
	}
}

// believe tells whether who answers so is the target as MAIN. One that was a replica
// since clients were let through to it may be MAIN of a later generation, unless the
// record was seen not to say so.
func (g *gate) believe(role memgraph.Role, same bool) bool {
	if role != memgraph.RoleMain {
		if g.served == g.target {
			g.deposed, g.deposedAt = g.target, g.c.s.now
		}
		return false
	}
	if g.deposed == g.target && g.c.fresh <= g.deposedAt && !g.c.w.bug.forgivingGateway {
		return false
	}
	return same
}

// pause before another attempt; it is short for the first second.
func (g *gate) pause(began time.Duration) time.Duration {
	if g.c.s.now-began < time.Second {
		return 15 * time.Millisecond
	}
	return 100 * time.Millisecond
}

// confirm takes the target, which was asked at the given moment, for MAIN.
func (g *gate) confirm(asked time.Duration) {
	if g.main == nil {
		main := g.target
		g.main, g.opened = &main, false
	}
	g.c.w.verifies(g, asked)
	g.open = true
	g.admitAll()
}

// passable tells whether clients may pass.
func (g *gate) passable() bool { return g.open && !g.held && !g.isolated() }

// admitAll lets pass who waits, if that may be.
func (g *gate) admitAll() {
	if !g.passable() {
		return
	}
	g.served = g.target
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
	if g.c.goesOn() != nil || !g.passable() {
		g.c.w.turnsAway(g)
		return nil
	}
	g.c.w.letsThrough(g)
	return g.main
}
