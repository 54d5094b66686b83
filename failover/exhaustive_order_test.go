package failover

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

// orders are what an operator may ask for, and be in the way of.
var orders = map[string]edit{
	"switchover":                ordered(memgraph.OrderSwitchover, ""),
	"switchover to the async":   ordered(memgraph.OrderSwitchover, "mg-2"),
	"failover to the partner":   ordered(memgraph.OrderFailover, "mg-1"),
	"failover to the async":     ordered(memgraph.OrderFailover, "mg-2"),
	"failover to MAIN itself":   ordered(memgraph.OrderFailover, "mg-0"),
	"resume":                    both(paused, ordered(memgraph.OrderResume, "")),
	"nothing, while paused":     paused,
	"nothing, after the limit":  failedOften,
	"nothing, writes may wait":  waiting,
	"switchover, while paused":  both(paused, ordered(memgraph.OrderSwitchover, "")),
	"failover, after the limit": both(failedOften, ordered(memgraph.OrderFailover, "mg-1")),
}

func failedOften(s *memgraph.Snapshot) {
	s.Policy.MaxFailovers, s.Policy.FailoverWindow = 1, patience
	s.Topology.History = []memgraph.Change{{Kind: string(Failover), When: now}}
}

func waiting(s *memgraph.Snapshot) { s.Policy.PartnerLoss = memgraph.LossWaits }

// Whatever an operator asks for, in every cluster of two and every record, and
// in every cluster of three that is as its record says or amid a switchover.
func TestEveryOrderIsObeyedSafely(t *testing.T) {
	var sets []clusters
	for _, order := range orders {
		for recorded := range records {
			sets = append(sets, changed(everyCondition(2, recorded, "as it should be"), order))
		}
		for _, recorded := range []string{"in sync", "switching by order"} {
			sets = append(sets, changed(everyCondition(3, recorded, "as it should be"), order))
		}
	}
	all := judgeAll(t, sets)
	for _, kind := range []Kind{Reply, Switchover, ForcedFailover, Blocked} {
		require.NotZero(t, all[kind], "no order leads to %s: the enumeration has a hole", kind)
	}
}

// changed is set with change made to each.
func changed(set clusters, change edit) clusters {
	return func(yield func(func() string, memgraph.Snapshot) bool) {
		for name, s := range set {
			change(&s)
			described := func() string { return fmt.Sprintf("%s, order %v", name(), s.Topology.Order) }
			if !yield(described, s) {
				return
			}
		}
	}
}

// obedient returns which property of orders p breaks in s.
//
//  11. An order is answered by the plan that begins it; one that is refused, or
//     only noted, changes nothing about MAIN and its partner.
//  12. A switchover takes MAIN from one that is well, and gives it to its partner.
//  13. A failover is not forced while a recorded MAIN answers as that, with its data,
//     and gives whoever is promoted an epoch of its own.
//  14. While an operator has paused, or MAIN failed too often, no change of MAIN
//     begins without an order.
//  15. By the policy to wait, a partner that nobody succeeds stays it.
func obedient(s memgraph.Snapshot, p Plan) error {
	if s.Policy.PartnerLoss == memgraph.LossWaits && p.Kind == LosePartner && p.Register == nil && s.Topology.Phase == memgraph.Stable {
		return fmt.Errorf("15: nobody succeeds %s", s.Topology.Partner.Pod)
	}
	if s.Topology.Generation == 0 || garbled(s) {
		return nil // there is no record to answer in
	}
	if s.Topology.Order == nil {
		held := s.Topology.Paused != nil && p.ChangesMain() || s.Policy.MaxFailovers > 0 && p.Kind == Failover
		if held && s.Topology.Phase == memgraph.Stable {
			return fmt.Errorf("14: %s", p.Kind)
		}
		return nil
	}
	if p.Record.Order != nil || len(p.Record.Answers) == 0 || p.Record.Answers[0].Order != *s.Topology.Order {
		return fmt.Errorf("11: no answer")
	}
	main, _ := s.Main()
	switch p.Kind {
	case Reply:
		if p.Record.Main != s.Topology.Main || p.Record.Partner != s.Topology.Partner || p.Record.InSync != s.Topology.InSync ||
			p.Record.Phase != s.Topology.Phase || p.Promote != nil || p.Demote != nil {
			return fmt.Errorf("11: changed")
		}
	case Switchover:
		if !main.Is(s.Topology.Main) || p.Demote.UID != main.UID || main.Terminating || p.Promote.UID != s.Topology.Partner.UID {
			return fmt.Errorf("12: from %s to %s", main.Name, p.Promote.Name)
		}
	case ForcedFailover:
		if main.Is(s.Topology.Main) && main.Answers(memgraph.RoleMain) && !main.Instance.Storage.Broken {
			return fmt.Errorf("13: %s is MAIN", main.Name)
		}
		if p.Promote.Answers(memgraph.RoleMain) && (p.Demote == nil || p.Demote.UID != p.Promote.UID) {
			return fmt.Errorf("13: %s keeps its epoch", p.Promote.Name)
		}
	default:
		return fmt.Errorf("11: %s", p.Kind)
	}
	return nil
}
