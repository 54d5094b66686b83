package failover

import (
	"fmt"

	"memgraph-controller/memgraph"
)

// Decide says what to do about MAIN and its partner. The first row that fits
// wins; "heir" is a partner that is in sync and answers, "fit" is Pod.Fit.
//
//	record      | MAIN's pod                          | else              | plan
//	none        |                                     |                   | see first
//	not Stable  |                                     | target answers    | Resume
//	            |                                     | it has restarted  | Failover to it
//	            |                                     |                   | Waiting
//	Stable      | gone, replaced, restarted, refuses, | heir              | Failover
//	            | or terminating and silent           | MAIN is back      | Readopt
//	            |                                     |                   | Blocked
//	            | terminating, answers main           | heir              | Handover
//	            |                                     | partner care      | see partner
//	            |                                     |                   | Waiting
//	            | answers replica                     | heir is main      | Failover
//	            |                                     |                   | Restore
//	            | silent, or not asked                |                   | Waiting
//	            | wrong credentials                   |                   | Blocked
//	            | answers main                        |                   | see partner
func Decide(s memgraph.Snapshot) Plan {
	if s.Topology.Generation == 0 {
		return first(s)
	}
	if s.Topology.Phase != memgraph.Stable {
		return resume(s)
	}
	state, why := mainState(s)
	switch state {
	case mainDead:
		return replaceDead(s, why)
	case mainLeaving:
		return handOver(s)
	case mainDemoted:
		return restore(s)
	case mainUnclear:
		return Plan{Kind: Waiting, Reason: why}
	case mainDenied:
		return Plan{Kind: Blocked, Reason: why}
	}
	return partner(s)
}

// mainCondition is what became of the recorded MAIN.
type mainCondition int

const (
	mainWell mainCondition = iota
	mainDead
	mainLeaving
	mainDemoted
	mainUnclear
	mainDenied
)

// mainState judges the pod that the record names as MAIN.
func mainState(s memgraph.Snapshot) (mainCondition, string) {
	m := s.Topology.Main
	p, exists := s.Pod(m.Index)
	switch {
	case !exists:
		return mainDead, fmt.Sprintf("the pod of MAIN %s is gone", m.Pod)
	case p.UID != m.UID:
		return mainDead, fmt.Sprintf("the pod of MAIN %s was replaced", m.Pod)
	case p.Instance.Reach == memgraph.Refused:
		return mainDead, fmt.Sprintf("MAIN %s refuses connections", m.Pod)
	case p.Instance.Reach == memgraph.Answered && !p.Is(m):
		return mainDead, fmt.Sprintf("MAIN %s has restarted", m.Pod)
	case p.Terminating && p.Instance.Reach == memgraph.Silent:
		return mainDead, fmt.Sprintf("MAIN %s is terminating and does not answer", m.Pod)
	case p.Instance.Reach == memgraph.Denied:
		return mainDenied, fmt.Sprintf("MAIN %s refuses our credentials: correct the Secret, nothing is wrong with MAIN", m.Pod)
	case p.Instance.Reach != memgraph.Answered:
		return mainUnclear, fmt.Sprintf("MAIN %s does not answer, and is not known to be dead", m.Pod)
	case p.Instance.Role == memgraph.RoleReplica:
		return mainDemoted, fmt.Sprintf("MAIN %s says that it is a replica", m.Pod)
	case p.Terminating:
		return mainLeaving, fmt.Sprintf("the pod of MAIN %s is terminating", m.Pod)
	}
	return mainWell, ""
}

// replaceDead is the plan for a dead MAIN.
func replaceDead(s memgraph.Snapshot, why string) Plan {
	to, reason := heir(s)
	if to != nil {
		return change(s, Failover, *to, why)
	}
	back, ok := s.Pod(s.Topology.Main.Index)
	if !ok || back.Terminating || back.Instance.Reach != memgraph.Answered {
		return Plan{Kind: Blocked, Reason: why + "; " + reason + "; writes resume when its pod is back with its data"}
	}
	if plan, refused := refuseEmpty(s, back, why); refused {
		return plan
	}
	if back.Instance.Role == memgraph.RoleReplica {
		return change(s, Restore, back, why+"; "+reason)
	}
	next := s.Topology
	next.Main, next.Generation = back.Member(), next.Generation+1
	next.Partner, next.InSync = memgraph.Member{}, false
	return recordOnly(s, Readopt, next, why+"; "+reason+"; its data is back")
}

// handOver is the plan for a living MAIN that Kubernetes is about to end.
func handOver(s memgraph.Snapshot) Plan {
	_, why := mainState(s)
	to, reason := heir(s)
	if to != nil {
		plan := change(s, Handover, *to, why)
		plan.Demote = livingMain(s, s.Topology.Main)
		return plan
	}
	if plan := partner(s); !plan.Idle() {
		return plan // it may make an heir yet
	}
	return Plan{Kind: Waiting, Reason: why + "; " + reason}
}

// restore is the plan for a MAIN that somebody made a replica.
func restore(s memgraph.Snapshot) Plan {
	_, why := mainState(s)
	if to, _ := heir(s); to != nil && to.Instance.Role == memgraph.RoleMain {
		return change(s, Failover, *to, why+", and "+to.Name+" that it is MAIN")
	}
	p, _ := s.Main()
	if plan, refused := refuseEmpty(s, p, why); refused {
		return plan
	}
	return change(s, Restore, p, why)
}

// resume finishes what the record says was begun. A target that restarted has
// the same data in a new process, and needs a generation of its own.
func resume(s memgraph.Snapshot) Plan {
	t := s.Topology
	p, ok := s.Pod(t.Main.Index)
	if !ok || p.Instance.Reach != memgraph.Answered {
		return Plan{Kind: Waiting, Reason: fmt.Sprintf("%s is to become MAIN in generation %d and does not answer", t.Main.Pod, t.Generation)}
	}
	if !p.Is(t.Main) {
		why := fmt.Sprintf("%s restarted before it was known to be MAIN", t.Main.Pod)
		if plan, refused := refuseEmpty(s, p, why); refused {
			return plan
		}
		plan := change(s, Failover, p, t.Pending.Reason+"; "+why)
		plan.Record.Pending.From = t.Pending.From
		return plan
	}
	plan := Plan{
		Kind: Resume, Reason: t.Pending.Reason, Record: t, Written: true,
		Promote: &p, Register: followers(s, p, t.Pending.From),
	}
	if t.Phase == memgraph.Switching {
		plan.Demote = livingMain(s, t.Pending.From)
	}
	return plan
}

// livingMain is m's pod, if it is the same process still and a MAIN.
func livingMain(s memgraph.Snapshot, m memgraph.Member) *memgraph.Pod {
	if p, ok := s.Pod(m.Index); ok && p.Is(m) && p.Answers(memgraph.RoleMain) {
		return &p
	}
	return nil
}

// heir is the partner, if it may be promoted without losing an acknowledged
// write (invariant 2); else why it may not.
func heir(s memgraph.Snapshot) (*memgraph.Pod, string) {
	t := s.Topology
	if t.Partner.None() {
		return nil, "it has no partner"
	}
	p, ok := s.Pod(t.Partner.Index)
	switch {
	case !t.InSync:
		return nil, fmt.Sprintf("its partner %s is not in sync", t.Partner.Pod)
	case !ok || p.UID != t.Partner.UID:
		return nil, fmt.Sprintf("its partner %s is gone too", t.Partner.Pod)
	case p.Terminating:
		return nil, fmt.Sprintf("its partner %s is terminating too", t.Partner.Pod)
	case p.Instance.Reach != memgraph.Answered:
		return nil, fmt.Sprintf("its partner %s does not answer", t.Partner.Pod)
	case !p.Is(t.Partner):
		return nil, fmt.Sprintf("its partner %s has restarted", t.Partner.Pod)
	}
	return &p, ""
}

// refuseEmpty keeps an instance without data from becoming MAIN while another
// pod holds some (invariant 5).
func refuseEmpty(s memgraph.Snapshot, p memgraph.Pod, why string) (Plan, bool) {
	emptier, known := s.Emptier(p)
	switch {
	case !known:
		return Plan{Kind: Waiting, Reason: fmt.Sprintf("%s; how much data %s holds is not known yet", why, p.Name)}, true
	case emptier:
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("%s; %s holds no data while another pod does: "+
			"restore its volume, or promote the pod that holds the data by hand", why, p.Name)}, true
	}
	return Plan{}, false
}

// change is the plan that makes p MAIN in the next generation.
func change(s memgraph.Snapshot, kind Kind, p memgraph.Pod, why string) Plan {
	from := s.Topology.Main
	next := s.Topology
	next.Main, next.Generation = p.Member(), next.Generation+1
	next.Partner, next.InSync = memgraph.Member{}, false
	next.Phase = memgraph.FailingOver
	if kind == Handover {
		next.Phase = memgraph.Switching
	}
	next.Pending = &memgraph.Pending{From: from, Kind: string(kind), Reason: why, Started: s.Now}
	return Plan{Kind: kind, Reason: why, Record: next, Promote: &p, Register: followers(s, p, from)}
}

// recordOnly is a plan whose whole effect is the record. A change of MAIN goes
// into the history.
func recordOnly(s memgraph.Snapshot, kind Kind, next memgraph.Topology, why string) Plan {
	plan := Plan{Kind: kind, Reason: why, Record: next}
	if plan.ChangesMain() {
		plan.Record = next.WithChange(memgraph.Change{
			When: s.Now, Generation: next.Generation, Kind: string(kind), To: next.Main.Pod, Reason: why,
		})
	}
	return plan
}

// followers are the pods that a new MAIN can take over at once: replicas that
// answer, without the old MAIN's process and whoever is about to end, and none
// with data that MAIN has not.
func followers(s memgraph.Snapshot, main memgraph.Pod, old memgraph.Member) []memgraph.Pod {
	var out []memgraph.Pod
	emptier, known := s.Emptier(main)
	if emptier || !known {
		return nil
	}
	for _, p := range s.Pods {
		if p.Index != main.Index && p.UID != old.UID && p.Fit() && p.Answers(memgraph.RoleReplica) {
			out = append(out, p)
		}
	}
	return out
}
