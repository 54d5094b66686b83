package sim

import (
	"errors"
	"fmt"
	"time"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
)

// judge holds everything against the guarantees, as it happens.
type judge struct {
	violation string // the first one
	tracing   bool
	trace     []string

	generation int64            // the highest recorded
	begun      time.Duration    // when a change of MAIN was recorded last
	mains      map[int64]string // the process recorded as MAIN of each generation
	served     incarnation      // to which a gateway opened, in the highest generation
	servedAt   time.Duration
	opened     map[*gate]incarnation // to whom each gateway has opened last
	volumes    map[string]*volume
	last       failover.Plan // the last decision
	kinds      map[failover.Kind]int
	forced     bool                      // an operator has accepted the loss of what the next MAIN lacks
	forcedTo   int64                     // the last generation that came about so
	forcedAt   time.Duration             // when it was recorded
	away       [contenders]time.Duration // since when each controller cannot reach the API server, 0 if it can
	shown      [contenders]showing
}

func newJudge() judge {
	return judge{mains: map[int64]string{}, opened: map[*gate]incarnation{}, volumes: map[string]*volume{}, kinds: map[failover.Kind]int{}}
}

// convict ends the schedule.
func (w *world) convict(format string, args ...any) {
	if w.judge.violation == "" {
		w.judge.violation = fmt.Sprintf(format, args...)
		w.tracef("VIOLATION: %s", w.judge.violation)
		w.until = w.now // nobody goes further
	}
}

// watchOver is called after every step: while the record calls the partner in
// sync, that holds whatever was acknowledged.
func (w *world) watchOver() {
	w.watchMains()
	t := &w.api.record
	if !t.InSync || t.Phase != memgraph.Stable {
		return
	}
	p := w.hosts[t.Partner.Index].proc()
	if p == nil || p.runID != t.Partner.RunID {
		return
	}
	if write := w.ledger.acked.lacking(&p.vol.data, &w.ledger.excused); write != none {
		w.convict("G1: %s is called in sync and lacks write %d, which was acknowledged", p, write)
	}
}

// decided notes a decision.
func (w *world) decided(c *contender, record memgraph.Topology, p failover.Plan) {
	if p.Kind != w.judge.last.Kind || p.Reason != w.judge.last.Reason {
		w.tracef("%s decides in generation %d: %s, %s", c.node, record.Generation, p.Kind, p.Reason)
	}
	w.judge.last = p
	w.judge.kinds[p.Kind]++
}

// recorded judges a record that is being written.
func (w *world) recorded(c *contender, t memgraph.Topology) {
	j := &w.judge
	w.tracef("record %s: generation %d, %s, MAIN %s %s, partner %s %s, in sync %v", t.Revision, t.Generation, t.Phase,
		t.Main.Pod, t.Main.RunID, t.Partner.Pod, t.Partner.RunID, t.InSync)
	if t.Generation < j.generation {
		w.convict("G4: generation %d follows %d", t.Generation, j.generation)
	}
	j.generation = max(j.generation, t.Generation)
	if is := j.mains[t.Generation]; is != "" && is != t.Main.RunID {
		w.convict("G4: generation %d has two MAINs, %s and %s", t.Generation, is, t.Main.RunID)
	}
	j.mains[t.Generation] = t.Main.RunID
	if t.Phase.ChangesMain() && !w.api.record.Phase.ChangesMain() {
		j.begun = w.now
	}
	w.held(t)
	w.forces(t)
	if w.api.record.Phase == memgraph.FailingOver || w.api.record.Phase == memgraph.Switching {
		w.finished(t)
	}
}

// finished judges a change of MAIN that is being called done.
func (w *world) finished(t memgraph.Topology) {
	p := w.hosts[t.Main.Index].proc()
	if t.Phase != memgraph.Stable || p == nil || p.runID != t.Main.RunID || !p.is(memgraph.RoleMain) {
		return
	}
	if pending := w.api.record.Pending; pending.From.RunID == p.runID && p.roleChanged < w.judge.begun {
		return // nobody was promoted: it was called off
	}
	if p.roleChanged < w.judge.begun {
		w.convict("G1: %s is called MAIN for good, in the epoch that it had before", p)
	}
	if n := len(p.vol.log); n == 0 || p.vol.log[n-1].epoch != p.epoch {
		w.convict("G1: %s is called MAIN for good, and would forget its epoch in a restart", p)
	}
}

// acts judges the sending of anything that changes something.
func (w *world) acts(c *contender, what string) {
	if err := c.valid(); err != nil {
		w.convict("G4: %s acts (%s) though its %v", c.node, what, err)
	}
	for _, o := range w.ctls {
		if o != c && !o.dead && o.valid() == nil {
			w.convict("G4: %s acts (%s) while %s leads", c.node, what, o.node)
		}
	}
}

// obeys judges what a gateway is told to serve.
func (w *world) obeys(g *gate, next incarnation) {
	if next.generation < g.target.generation {
		w.convict("G4: the gateway of %s goes back from generation %d to %d", g.c.node, g.target.generation, next.generation)
	}
}

// verifies judges what a gateway takes for MAIN, by what it asked at a moment: not
// long ago, and then or since it was MAIN.
func (w *world) verifies(g *gate, asked time.Duration) {
	p, _ := w.dial(g.c.node, g.main.addr)
	if p == nil || p.runID != g.main.runID || p.dead {
		return // it died while it answered
	}
	if !p.is(memgraph.RoleMain) && p.roleChanged < max(asked, w.now-answerAge) {
		w.convict("G3: the gateway of %s takes %s for MAIN", g.c.node, p)
	}
}

// opens judges a gateway that opens.
func (w *world) opens(g *gate) {
	w.tracef("gateway of %s opens to %s in generation %d", g.c.node, g.main.runID, g.main.generation)
	p, _ := w.dial(g.c.node, g.main.addr)
	switch {
	case w.judge.mains[g.main.generation] != g.main.runID:
		w.convict("G3: the gateway of %s opens to %s, not MAIN of generation %d", g.c.node, g.main.runID, g.main.generation)
	case p == nil || p.runID != g.main.runID || p.dead:
		return // it died while it answered
	case w.judge.opened[g] == *g.main && w.crowning(p) && g.main.generation < w.api.record.Generation:
		w.convict("G3: the gateway of %s opens again to %s, which becomes MAIN of generation %d", g.c.node, p, w.api.record.Generation)
	}
	w.judge.opened[g] = *g.main
	if g.main.generation > w.judge.served.generation {
		w.judge.served, w.judge.servedAt = *g.main, w.now
	}
	write := w.ledger.acked.lacking(&p.vol.data, &w.ledger.excused)
	if write == none || g.main.generation < w.judge.generation {
		return
	}
	w.convict("G1: %s is MAIN of generation %d and lacks write %d, which was acknowledged", p, g.main.generation, write)
}

// crowning holds while p has been promoted, and is not MAIN for good: clients are
// held.
func (w *world) crowning(p *process) bool {
	t := w.api.record
	return t.Phase.ChangesMain() && t.Main.RunID == p.runID && p.roleChanged >= w.judge.begun
}

// acknowledged judges the acknowledgement of a write that came as main's through the
// gateway of c. One that has not heard since of a failover that an operator forced past
// a silent MAIN goes on at that one, if it wakes: that is part of what was accepted.
func (w *world) acknowledged(c *contender, p *process, main *incarnation, write int) {
	w.ledger.acked.add(write)
	if main.generation < w.judge.forcedTo && c.fresh < w.judge.forcedAt {
		w.ledger.excused.add(write)
		return
	}
	s := w.judge.served
	if main.generation < s.generation && p.runID != s.runID && p.runID != w.judge.mains[w.judge.generation] && w.ledger.committed[write] > w.judge.servedAt && !w.ledger.excused.has(write) {
		w.convict("G2: %s accepts write %d in generation %d after %s served in generation %d", p, write, main.generation, s.runID, s.generation)
	}
}

// excuse forgives the loss of what was on a volume that is lost, and on no other
// any more: that takes more than one failure.
func (w *world) excuse(v *volume) {
	others := []*bits{}
	for _, h := range w.hosts {
		if h.vol != v {
			others = append(others, &h.vol.data)
		}
	}
	for i := range v.data {
		only := v.data[i]
		for _, o := range others {
			only &^= o[i]
		}
		w.ledger.excused[i] |= only
	}
}

var errUnsettled = errors.New("it has not settled")

// settled returns why the cluster is not as it should be with no fault left; nil
// if it is, or if it is blocked on what only people can mend.
func (w *world) settled() error {
	if w.judge.last.Kind == failover.Blocked {
		return w.justified()
	}
	t := w.api.record
	main := w.hosts[t.Main.Index].proc()
	switch {
	case t.Generation == 0 || t.Phase != memgraph.Stable:
		return fmt.Errorf("%w: the record says %q", errUnsettled, t.Phase)
	case t.Order != nil || t.Paused != nil || t.Reseed != nil:
		return fmt.Errorf("%w: order %v, paused %v, reseed %v", errUnsettled, t.Order, t.Paused, t.Reseed)
	case main == nil || main.runID != t.Main.RunID || !main.is(memgraph.RoleMain):
		return fmt.Errorf("%w: MAIN is not %s", errUnsettled, t.Main.RunID)
	}
	followers := 0
	for _, h := range w.hosts {
		p := h.proc()
		if p == main {
			continue
		}
		if p == nil || !p.open {
			return fmt.Errorf("%w: mg-%d does not run", errUnsettled, h.index)
		}
		if main.vol.data.count() == 0 && p.vol.ldt() > 0 {
			continue // a MAIN that has nothing to give empties nobody
		}
		followers++
		if err := main.follows(p); err != nil {
			return err
		}
	}
	if followers > 0 && !t.InSync {
		return fmt.Errorf("%w: no partner is in sync: %s lists %v", errUnsettled, main, main.replicas())
	}
	return nil
}

// follows returns why q is not a replica in step.
func (p *process) follows(q *process) error {
	m := p.member(q)
	switch {
	case m == nil:
		return fmt.Errorf("%w: MAIN does not list mg-%d", errUnsettled, q.index)
	case !m.live || m.state != memgraph.StatusReady && m.state != memgraph.StatusReplicating || q.vol.mainUUID != p.vol.mainUUID:
		return fmt.Errorf("%w: MAIN lists mg-%d as %q", errUnsettled, q.index, m.state)
	}
	return nil
}

// member is q as p has it registered, nil if it has not.
func (p *process) member(q *process) *member {
	for _, m := range p.members {
		if m.name == memgraph.ReplicaName(memgraph.PodName(cluster, q.index)) {
			return m
		}
	}
	return nil
}

// justified tells whether the last decision is rightly to wait for people: the
// volume is lost on which the recorded MAIN ran, or the record was.
func (w *world) justified() error {
	t := w.api.record
	if w.menace.recordLost || w.judge.volumes[t.Main.RunID] != w.hosts[t.Main.Index].vol {
		return nil
	}
	return fmt.Errorf("%w: blocked without a cause: %s", errUnsettled, w.judge.last.Reason)
}

// final judges the end: nothing acknowledged is missing, and whoever is said to
// be in step is.
func (w *world) final() {
	if w.judge.last.Kind == failover.Blocked {
		return
	}
	main := w.hosts[w.api.record.Main.Index].proc()
	if write := w.ledger.acked.lacking(&main.vol.data, &w.ledger.excused); write != none {
		w.convict("G1: %s lacks write %d, which was acknowledged", main, write)
	}
	for _, h := range w.hosts {
		p := h.proc()
		if p == main || main.follows(p) != nil {
			continue
		}
		if p.vol.data != main.vol.data {
			w.convict("G6: MAIN lists %s as ready, and its data is not that of %s", p, main)
		}
	}
}
