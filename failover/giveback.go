package failover

import (
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

// promotionTime is what the promotion of a switchover may take until the old MAIN
// is better: two attempts, where one takes 200 ms at most if all is well.
const promotionTime = 2 * time.Second

// giveBack is the plan for a switchover that will not succeed, while its old MAIN
// is the same process still, and no client was let through to another: it lacks
// nothing.
//
//	old MAIN        | the new one                               | plan
//	answers main    | does not answer as main                   | CallOff
//	answers replica | gone, refuses, another process, or        | Revert
//	                | a replica for longer than promotionTime   |
//	any             | any                                       | –
func giveBack(s memgraph.Snapshot) (Plan, bool) {
	t := s.Topology
	old, ok := s.Pod(t.Pending.From.Index)
	if t.Pending.Kind != string(Switchover) || !ok || old.Terminating || !old.Is(t.Pending.From) || old.Instance.Reach != memgraph.Answered {
		return Plan{}, false
	}
	p, exists := s.Pod(t.Main.Index)
	dead := !exists || !p.Is(t.Main) || p.Instance.Reach == memgraph.Refused
	if old.Instance.Role == memgraph.RoleMain {
		return callOff(s, old, p), dead || !p.Answers(memgraph.RoleMain)
	}
	switch {
	case dead:
		return revert(s, old, t.Main.Pod+" died before it was known to be MAIN"), true
	case p.Answers(memgraph.RoleReplica) && s.Elapsed(t.Pending.Started) > promotionTime:
		return revert(s, old, fmt.Sprintf("%s was not promoted within %s", p.Name, promotionTime)), true
	}
	return Plan{}, false
}

// callOff is the plan that leaves MAIN where it was. That the partner is in sync
// still is for MAIN to confirm.
func callOff(s memgraph.Snapshot, old, partner memgraph.Pod) Plan {
	why := fmt.Sprintf("%s was not demoted, and is MAIN as before", old.Name)
	next := calledOff(s, why)
	next.Main, next.Generation = s.Topology.Pending.From, nextGeneration(s)
	next.Partner, next.InSync = memgraph.Member{}, false
	if partner.Is(s.Topology.Main) {
		next.Partner = s.Topology.Main
	}
	next.Phase, next.Pending = memgraph.Stable, nil
	return recordOnly(s, CallOff, next, why)
}

// revert is the plan that promotes the old MAIN again, in a generation of its own.
func revert(s memgraph.Snapshot, old memgraph.Pod, why string) Plan {
	s.Topology = calledOff(s, why+", and "+old.Name+" is MAIN again")
	s.Topology.Main = s.Topology.Pending.From
	return change(s, Revert, old, why)
}

// calledOff is the record with the order that began the change answered.
func calledOff(s memgraph.Snapshot, why string) memgraph.Topology {
	if s.Topology.Pending.Order == nil {
		return s.Topology
	}
	return s.Topology.WithAnswer(memgraph.Answer{
		Order: *s.Topology.Pending.Order, Outcome: memgraph.OutcomeCalledOff, Reason: why, When: s.Now,
	})
}

// left is the member whom a change of MAIN leaves out of replication at first: it
// may hold what the new MAIN does not, unless it was demoted while it was well.
func left(t memgraph.Topology) memgraph.Member {
	if t.Pending.Kind == string(Switchover) {
		return memgraph.Member{}
	}
	return t.Pending.From
}
