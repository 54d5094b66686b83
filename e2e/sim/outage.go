package sim

import (
	"time"

	"memgraph-controller/controller"
	"memgraph-controller/memgraph"
)

// noteReach keeps since when each controller cannot reach the API server.
func (w *world) noteReach() {
	for i := range w.judge.away {
		switch since := &w.judge.away[i]; {
		case w.api.reachable(node(i)):
			*since = 0
		case *since == 0:
			*since = w.now
		}
	}
}

// changesRole judges a statement about a role that is being sent: the record says so
// already and, with the API server away, it comes within the lease.
func (w *world) changesRole(c *contender, addr string, to memgraph.Role) {
	t, promise := w.api.record, "G4"
	if since := w.judge.away[c.node]; since > 0 {
		promise = "G8"
		if away := w.now - since; away > controller.Defaults.RenewDeadline {
			w.convict("G8: %s makes %s %s, and has not reached the API server for %v", c.node, addr, to, away)
		}
	}
	if t.Generation == 0 {
		return
	}
	isMain := memgraph.Pod{IP: t.Main.IP}.Addr() == addr
	switch {
	case to == memgraph.RoleMain && (t.Phase == memgraph.Stable || !isMain):
		w.convict("%s: %s is promoted, and the record says %s, MAIN %s", promise, addr, t.Phase, t.Main.Pod)
	case to == memgraph.RoleReplica && t.Phase == memgraph.Stable && isMain:
		if p, _ := w.dial(c.node, addr); p != nil && p.runID == t.Main.RunID {
			w.convict("%s: %s is demoted, and the record says that it is MAIN", promise, addr)
		}
	}
}

// showing is what a gateway's MAIN would have shown while the record may be out of date,
// had it been asked all the time.
type showing struct {
	last time.Duration // when it last would have shown that it was not replaced
	not  time.Duration // when it last would not have, or nobody was there to ask, by the gateway's time
}

// watchMains keeps that.
func (w *world) watchMains() {
	for i, c := range w.ctls {
		switch s := &w.judge.shown[i]; {
		case c.dead || !c.stale():
			*s = showing{not: c.ran()}
		case !c.stopped && c.gate.shows():
			s.last = w.now
		default:
			s.not = c.ran()
		}
	}
}

// shuts judges a gateway that closes: not towards a MAIN that it reaches and that has
// been MAIN since a moment, whether or not the API server is there.
func (w *world) shuts(g *gate, since time.Duration) {
	p, reach := w.dial(g.c.node, g.main.addr)
	reaches := reach == memgraph.Answered && p.runID == g.main.runID && !p.exclusive && p.is(memgraph.RoleMain) && p.roleChanged < since
	if reaches && w.now-since <= answerAge && !g.c.dead {
		w.convict("G8: the gateway of %s closes though it reaches MAIN %s", g.c.node, p)
	}
}

// turnsAway judges a client that was not let through: a gateway is isolated only while
// its MAIN, asked as often as it is, does not show that it was not replaced. One that was
// stopped has to ask anew.
func (w *world) turnsAway(g *gate) {
	shown := min(g.c.ran()-w.judge.shown[g.c.node].not, w.now-g.c.resumed)
	if g.open && !g.held && !g.c.dead && shown > verifyEvery+4*maxLatency {
		w.convict("G8: the gateway of %s holds clients though MAIN has shown for %v that it was not replaced", g.c.node, shown)
	}
}

// letsThrough judges a client that was let through: MAIN cannot have been replaced for
// longer than the grace.
func (w *world) letsThrough(g *gate) {
	known := max(g.c.fresh+g.outlook.staleAfter, w.judge.shown[g.c.node].last)
	if g.c.stale() && w.now-known > g.outlook.grace {
		w.convict("G8: the gateway of %s lets a client through though MAIN may have been replaced for %v", g.c.node, w.now-known)
	}
}
