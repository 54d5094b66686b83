package sim

import (
	"slices"
	"time"

	"memgraph-controller/gateway"
	"memgraph-controller/memgraph"
)

// verifyEvery lies between two questions to a MAIN that is one.
const verifyEvery = gateway.DefaultVerifyInterval

// outlook mirrors gateway's: for how long the record may be out of date, and MAIN not
// have shown that it was not replaced.
type outlook struct {
	staleAfter, grace time.Duration
	assured           time.Duration // when MAIN was last asked, and showed it
}

// newOutlook is what a gateway's flags say: as a rule the defaults, which outlast most
// faults, or less.
func (w *world) newOutlook() outlook {
	if w.chance(2) {
		return outlook{staleAfter: gateway.DefaultStaleAfter, grace: gateway.DefaultIsolationGrace}
	}
	return outlook{staleAfter: w.between(1500*time.Millisecond, 4*time.Second), grace: w.between(1200*time.Millisecond, 3*time.Second)}
}

// stale tells whether the record may be out of date.
func (c *contender) stale() bool { return c.fresh > 0 && c.s.now > c.fresh+c.gate.outlook.staleAfter }

// isolated tells whether MAIN may have been replaced.
func (g *gate) isolated() bool {
	if !g.c.stale() || g.c.w.bug.boundlessGateway {
		return false
	}
	return g.c.s.now-max(g.c.fresh+g.outlook.staleAfter, g.outlook.assured) > g.outlook.grace
}

// assure has MAIN show that it was not replaced, if the record cannot tell.
func (g *gate) assure(round int) {
	if !g.c.stale() || g.c.w.bug.lonelyGateway {
		return
	}
	asked := g.c.s.now
	g.c.after(g.c.w.latency(), func() {
		if round != g.rounds || !g.shows() {
			return
		}
		g.c.after(g.c.w.latency(), func() {
			if round == g.rounds {
				g.outlook.assured = asked
				g.admitAll()
			}
		})
	})
}

// shows tells whether the gateway's MAIN, if it were asked now, would show that.
func (g *gate) shows() bool {
	p, reach := g.c.w.dial(g.c.node, g.target.addr)
	return reach == memgraph.Answered && p.runID == g.target.runID && !p.exclusive && p.is(memgraph.RoleMain) && !replaceable(p.replicas())
}

// replaceable is gateway's rule: of those that could have been promoted, none is known
// to follow MAIN.
func replaceable(replicas []memgraph.Replica) bool {
	synchronous := slices.DeleteFunc(slices.Clone(replicas), func(r memgraph.Replica) bool { return !r.Mode.Synchronous() })
	follows := func(r memgraph.Replica) bool {
		return r.Status == memgraph.StatusReady || r.Status == memgraph.StatusReplicating
	}
	return len(synchronous) > 0 && !slices.ContainsFunc(synchronous, follows)
}
