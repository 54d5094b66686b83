package sim

import (
	"strconv"
	"time"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
)

// order has an operator's order stand in the record, where there is one and no
// other order does.
func (a *apiServer) order(verb memgraph.Verb, argument string) {
	if a.record.Generation == 0 || a.record.Order != nil {
		return
	}
	a.w.tracef("an operator orders a %s %s", verb, argument)
	a.record.Revision, a.record.Order = strconv.Itoa(a.next()), &memgraph.Order{Verb: verb, Argument: argument}
	t := a.record
	a.publish(func(c *contender) { c.onRecord(t) })
}

// operate is an operator at work at a bad time: a switchover, now and then there and
// back, a pause for d, or a failover to whomever, whatever that loses.
func (m *menace) operate(d time.Duration) {
	api := m.w.api
	switch m.w.rand.IntN(4) {
	case 0:
		api.order(memgraph.OrderPause, "")
		m.lasts(d, m.unpause)
	case 1:
		to := memgraph.PodName(cluster, m.w.rand.IntN(size))
		m.w.after(d/4, func() { api.order(memgraph.OrderFailover, to) })
	default:
		api.order(memgraph.OrderSwitchover, "")
		if m.w.chance(3) {
			m.w.after(d/4, func() { api.order(memgraph.OrderSwitchover, "") })
		}
	}
}

// unpause orders the end of a pause until that has come.
func (m *menace) unpause() {
	api := m.w.api
	if api.record.Paused == nil && api.record.Order == nil {
		return
	}
	api.order(memgraph.OrderResume, "")
	m.w.after(200*time.Millisecond, m.unpause)
}

// forces notes whether a record that is being written lets MAIN be replaced by who may
// lack what was acknowledged. One who is said to lack nothing may lack nothing.
func (w *world) forces(t memgraph.Topology) {
	switch p := t.Pending; {
	case !t.Phase.ChangesMain():
		if main := w.hosts[t.Main.Index].proc(); main != nil {
			w.enthroned(main) // who was MAIN already is not promoted
		}
		w.judge.forced = false
	case p.Kind == string(failover.ForcedFailover):
		w.judge.forced = p.EstimatedLoss != ""
		if w.judge.forced && w.judge.forcedTo < t.Generation {
			w.judge.forcedTo, w.judge.forcedAt = t.Generation, w.now
		}
	}
}

// enthroned is the promotion of p. What it lacks where an operator has accepted that
// is lost, and nothing else.
func (w *world) enthroned(p *process) {
	if !w.judge.forced || w.api.record.Main.RunID != p.runID {
		return
	}
	for _, h := range w.hosts {
		for i, committed := range h.vol.data {
			w.ledger.excused[i] |= committed &^ p.vol.data[i]
		}
	}
}

// held judges a record that is being written while an operator has paused.
func (w *world) held(t memgraph.Topology) {
	before := w.api.record
	if before.Paused != nil && before.Phase == memgraph.Stable && t.Generation != before.Generation && (t.Pending == nil || t.Pending.Order == nil) {
		w.convict("MAIN changes though an operator has paused that")
	}
}
