package sim

import (
	"strconv"
	"time"

	"memgraph-controller/memgraph"
)

// order has an operator's order stand in the record, where there is one and no
// other order does.
func (a *apiServer) order(verb memgraph.Verb) {
	if a.record.Generation == 0 || a.record.Order != nil {
		return
	}
	a.w.tracef("an operator orders a %s", verb)
	a.record.Revision, a.record.Order = strconv.Itoa(a.next()), &memgraph.Order{Verb: verb}
	t := a.record
	a.publish(func(c *contender) { c.onRecord(t) })
}

// operate is an operator at work at a bad time: a switchover, now and then there and
// back, or a pause for d.
func (m *menace) operate(d time.Duration) {
	if !m.w.chance(3) {
		m.w.api.order(memgraph.OrderSwitchover)
		if m.w.chance(3) {
			m.w.after(d/4, func() { m.w.api.order(memgraph.OrderSwitchover) })
		}
		return
	}
	m.w.api.order(memgraph.OrderPause)
	m.lasts(d, m.unpause)
}

// unpause orders the end of a pause until that has come.
func (m *menace) unpause() {
	api := m.w.api
	if api.record.Paused == nil && api.record.Order == nil {
		return
	}
	api.order(memgraph.OrderResume)
	m.w.after(200*time.Millisecond, m.unpause)
}

// held judges a record that is being written while an operator has paused.
func (w *world) held(t memgraph.Topology) {
	before := w.api.record
	if before.Paused != nil && before.Phase == memgraph.Stable && t.Generation != before.Generation && (t.Pending == nil || t.Pending.Order == nil) {
		w.convict("MAIN changes though an operator has paused that")
	}
}
