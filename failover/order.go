package failover

import (
	"cmp"
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

// obey is the plan for an operator's order: what begins it, or why not. Whatever
// is refused changes nothing.
//
//	order      | the cluster                                    | plan
//	pause      | any                                            | Reply: paused
//	resume     | any                                            | Reply: neither paused nor failing too often
//	switchover | anything under way, MAIN not well, no heir,    | Reply: refused
//	           | not listed as in sync, or another pod is named |
//	           | else                                           | Switchover
//	failover   | a MAIN answers as MAIN, and is not broken      | Reply: refused
//	           | another pod is in sync, or that one is no pod, | Reply: refused
//	           | silent, going, broken, or empty beside data    |
//	           | else                                           | ForcedFailover
//	reseed     | MAIN not well or empty, one is under way, or   | Reply: refused
//	           | that pod is no pod, MAIN, or in sync with it   |
//	           | else                                           | BeginReseed
//	any other  | any                                            | Reply: refused
func obey(s memgraph.Snapshot) Plan {
	switch order := *s.Topology.Order; order.Verb {
	case memgraph.OrderPause:
		next := s.Topology
		next.Paused = &memgraph.Pause{Reason: order.Argument, Since: s.Now}
		return answer(s, next, memgraph.OutcomeDone, "MAIN and its partner stay as they are until resume")
	case memgraph.OrderResume:
		next := s.Topology
		next.Paused, next.Acknowledged = nil, s.Now
		for _, c := range next.History {
			if c.When.After(next.Acknowledged) { // by the clock of another leader
				next.Acknowledged = c.When
			}
		}
		return answer(s, next, memgraph.OutcomeDone, "MAIN is replaced again where it has to be")
	case memgraph.OrderSwitchover:
		return switchOver(s, order)
	case memgraph.OrderFailover:
		return force(s, order)
	case memgraph.OrderReseed:
		return reseedOrdered(s, order)
	default:
		return refused(s, fmt.Sprintf("there is no order %q; give one of %v, and one at a time", order.Verb, memgraph.Verbs))
	}
}

// answer is a plan whose whole effect is the record, which answers the order.
func answer(s memgraph.Snapshot, next memgraph.Topology, outcome memgraph.Outcome, why string) Plan {
	order := *s.Topology.Order
	next = next.WithAnswer(memgraph.Answer{Order: order, Outcome: outcome, Reason: why, When: s.Now})
	return recordOnly(s, Reply, next, fmt.Sprintf("%s: %s: %s", order, outcome, why))
}

func refused(s memgraph.Snapshot, why string) Plan {
	return answer(s, s.Topology, memgraph.OutcomeRefused, why)
}

// accepted is plan as what the order asks for.
func accepted(s memgraph.Snapshot, plan Plan, why string) Plan {
	order := s.Topology.Order
	plan.Record.Pending.Order = order
	plan.Record = plan.Record.WithAnswer(memgraph.Answer{
		Order: *order, Outcome: memgraph.OutcomeAccepted, Reason: why, When: s.Now,
	})
	return plan
}

// switchOver is the plan for an order to change places with the partner. The old
// MAIN becomes the new one's partner: it lacks nothing.
func switchOver(s memgraph.Snapshot, order memgraph.Order) Plan {
	to, why := switchable(s, order.Argument)
	if why != "" {
		return refused(s, why)
	}
	main, _ := s.Main()
	plan := change(s, Switchover, *to, "an operator asked for it")
	plan.Demote = &main
	if mode, known := s.PartnerMode(*to, main); known && !main.Instance.Diverged && !main.Instance.Rejoin {
		plan.Record.Partner = main.Member()
		s.Topology = plan.Record
		plan.Register = append([]Follower{{Pod: main, Mode: mode}}, followers(s, *to, main.Member())...)
	}
	return accepted(s, plan, fmt.Sprintf("%s takes over from %s in generation %d", to.Name, main.Name, plan.Record.Generation))
}

// switchable is who can take over from a MAIN that is well, or why nobody can, or
// not who was named.
func switchable(s memgraph.Snapshot, named string) (to *memgraph.Pod, why string) {
	t := s.Topology
	if t.Phase != memgraph.Stable {
		return nil, fmt.Sprintf("a change is under way: %s, %s", t.Pending.Kind, t.Pending.Reason)
	}
	state, why := mainState(s)
	if state != mainWell {
		return nil, why
	}
	main, _ := s.Main()
	to, missing, _ := heir(s)
	switch {
	case named == main.Name:
		return nil, named + " is MAIN already"
	case to == nil:
		return nil, fmt.Sprintf("nobody can take over from MAIN %s: %s", main.Name, missing)
	case named != "" && named != to.Name:
		return nil, fmt.Sprintf("%s is not in sync: the partner of MAIN is %s", named, to.Name)
	case main.Instance.ReplicasAt.IsZero(), s.Now.Sub(main.Instance.ReplicasAt) > patience:
		return nil, "MAIN has not listed its replicas lately"
	}
	if why := lost(s, *to, true); why != "" {
		return nil, why
	}
	if r, registered := s.Registration(main, *to); !registered || !protects(r) {
		return nil, fmt.Sprintf("MAIN lists partner %s as %s", to.Name, describe(r, registered))
	}
	if !s.CatchesUp(main, *to) || memgraph.WouldEmpty(*to, main) || memgraph.WouldEmpty(main, *to) {
		return nil, fmt.Sprintf("whether %s holds all that MAIN does is not known", to.Name)
	}
	return to, ""
}

// force is the plan for an order to promote a pod that may lack what was
// acknowledged, in whatever phase the record is.
func force(s memgraph.Snapshot, order memgraph.Order) Plan {
	before := s // the change that is under way, if one is
	if s.Topology.Phase.ChangesMain() {
		if p := livingMain(s, s.Topology.Main); p != nil {
			return refused(s, p.Name+" is becoming MAIN and answers as that")
		}
		before.Topology.Main = s.Topology.Pending.From
	}
	if p := livingMain(before, before.Topology.Main); p != nil && !p.Instance.Storage.Broken {
		return refused(s, p.Name+" is MAIN and answers as that: ask for a switchover")
	}
	if state, why := mainState(before); state == mainDenied {
		return refused(s, why)
	}
	p, why := promotable(before, order.Argument)
	if why != "" {
		return refused(s, why)
	}
	loss := estimatedLoss(before, p)
	plan := renewed(change(before, ForcedFailover, p, "an operator asked for it"), p)
	plan.Record.Pending.EstimatedLoss = loss
	return accepted(s, plan, fmt.Sprintf("%s becomes MAIN in generation %d, estimated loss: %s",
		p.Name, plan.Record.Generation, cmp.Or(loss, "none, it was in sync")))
}

// promotable is the pod of that name, if it can be made MAIN at all (invariant 5).
func promotable(s memgraph.Snapshot, name string) (p memgraph.Pod, why string) {
	for _, p = range s.Pods {
		if p.Name == name {
			break
		}
	}
	to, _, _ := heir(s)
	switch {
	case p.Name != name || name == "":
		return p, fmt.Sprintf("there is no pod %q", name)
	case to != nil && to.Name != name:
		return p, fmt.Sprintf("%s is in sync: promote that and lose nothing", to.Name)
	case p.Terminating:
		return p, name + " is terminating"
	case p.Instance.Reach != memgraph.Answered:
		return p, name + " does not answer"
	case p.Instance.StorageAt.IsZero():
		return p, fmt.Sprintf("what data %s holds is not known yet", name)
	case p.Instance.Storage.Broken:
		return p, fmt.Sprintf("the database of %s is broken", name)
	case p.Instance.Storage.Vertices > 0:
		return p, ""
	}
	return p, mayHoldData(s, name)
}

// mayHoldData tells which pod holds data beside an empty one, or may; "" if all
// are known to be empty.
func mayHoldData(s memgraph.Snapshot, empty string) string {
	if s.Wanted == 0 { // the StatefulSet is being replaced
		return empty + " holds no data, and how many pods there are to be is not known"
	}
	for i := range s.Wanted {
		o, ok := s.Pod(i)
		switch {
		case !ok || o.Instance.StorageAt.IsZero():
			return fmt.Sprintf("%s holds no data, and whether %s does is not known", empty, memgraph.PodName(s.Cluster, i))
		case o.Instance.Storage.Vertices > 0:
			return fmt.Sprintf("%s holds no data and %s does", empty, o.Name)
		}
	}
	return ""
}

// estimatedLoss is what p may lack, by what MAIN last said of it; "" is nothing.
func estimatedLoss(s memgraph.Snapshot, p memgraph.Pod) string {
	in := p.Instance
	to, _, _ := heir(s)
	switch {
	case to != nil && to.UID == p.UID:
		return ""
	case in.ListedAt.IsZero():
		return "unknown, MAIN has not listed it"
	}
	return fmt.Sprintf("about %d commits, and those of the %s since MAIN listed it",
		(-in.Behind+1)/timestampsPerCommit, s.Now.Sub(in.ListedAt).Round(100*time.Millisecond))
}

// timestampsPerCommit: a commit takes one when it begins and one when it ends.
const timestampsPerCommit = 2

// restrain holds back what nobody ordered: all that an operator's pause excludes,
// and failovers that come too often. What protects acknowledged writes is written
// all the same: that the partner is no longer in sync.
func restrain(s memgraph.Snapshot, p Plan) Plan {
	t := s.Topology
	switch {
	case p.Idle() || t.Generation == 0 || t.Phase != memgraph.Stable:
		return p // nothing is begun
	case t.Paused != nil:
		return pausedPlan(s, p)
	case p.Kind == Failover && tooOften(s):
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("%s; but MAIN failed %d times within %s: acknowledge with `memgraph-controller resume`",
			p.Reason, s.Policy.MaxFailovers, s.Policy.FailoverWindow)}
	}
	return p
}

func pausedPlan(s memgraph.Snapshot, p Plan) Plan {
	switch {
	case p.Kind == UnsyncPartner || p.Kind == ConfirmPartner || p.Kind == EndReseed:
		return p
	case p.Kind == LosePartner && s.Topology.InSync:
		next := s.Topology
		next.InSync = false
		return recordOnly(s, UnsyncPartner, next, p.Reason)
	}
	return Plan{Kind: Blocked, Reason: fmt.Sprintf("paused by an operator (%s), held back: %s: %s",
		cmp.Or(s.Topology.Paused.Reason, "no reason given"), p.Kind, p.Reason)}
}

// tooOften holds if the history shows as many failovers as are allowed within the
// window, and since an operator acknowledged.
func tooOften(s memgraph.Snapshot) bool {
	if s.Policy.MaxFailovers == 0 {
		return false
	}
	recent := 0
	for _, c := range s.Topology.History {
		if c.Kind == string(Failover) && c.When.After(s.Topology.Acknowledged) && s.Now.Sub(c.When) < s.Policy.FailoverWindow {
			recent++
		}
	}
	return recent >= s.Policy.MaxFailovers
}
