package failover

import (
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

// partner decides about the partner of a MAIN that is well. "The list" is MAIN's
// SHOW REPLICAS, which counts for as long as patience lasts.
//
//	partner | it                                            | plan
//	any     | the list is older, or not known               | Nothing
//	none    | another replica is async, in step and fit     | AssignPartner, lowest ordinal
//	        |                                               | Nothing
//	some    | gone, restarted, refuses, terminating,        | LosePartner
//	        | diverged, or MAIN though it was in sync       |
//	        | silent for longer than patience               | Blocked
//	in sync | not listed as synchronous, ready or at it     | UnsyncPartner
//	not     | listed in the right mode, in step, and it     | ConfirmPartner
//	        | has answered since                            |
//	any     |                                               | Nothing
//
// A replica that is registered synchronously without being the partner is never
// assigned: it may be one that was lost, which MAIN can show as ready although
// it came back empty. Reconciliation registers it anew as async first.
func partner(s memgraph.Snapshot) Plan {
	main, _ := s.Main()
	if !s.Topology.Partner.None() {
		p, ok := s.Pod(s.Topology.Partner.Index)
		if why := lost(s, p, ok); why != "" {
			next := s.Topology
			next.Partner, next.InSync = memgraph.Member{}, false
			return recordOnly(s, LosePartner, next, why)
		}
		if silentFor(s, p, patience) {
			return Plan{Kind: Blocked, Reason: fmt.Sprintf("partner %s does not answer, and writes wait for it: delete its pod", p.Name)}
		}
	}
	switch listed := main.Instance.ReplicasAt; {
	case listed.IsZero():
		return Plan{Kind: Nothing, Reason: "the replicas of MAIN are not known yet"}
	case s.Now.Sub(listed) > patience:
		return Plan{Kind: Nothing, Reason: "MAIN has not listed its replicas lately"}
	case s.Topology.Partner.None():
		return assign(s, main)
	}
	return confirm(s, main)
}

func assign(s memgraph.Snapshot, main memgraph.Pod) Plan {
	for _, p := range s.Pods {
		r, ok := s.Registration(main, p)
		if !ok || r.Mode != memgraph.Async || !r.InStep() || p.Instance.Diverged || p.Instance.Rejoin {
			continue
		}
		if p.Index != main.Index && p.Fit() && p.Answers(memgraph.RoleReplica) {
			next := s.Topology
			next.Partner, next.InSync = p.Member(), false
			return recordOnly(s, AssignPartner, next, p.Name+" is in step with MAIN")
		}
	}
	return Plan{Kind: Nothing, Reason: "no replica is in step with MAIN"}
}

// lost tells why the partner can no longer be it; "" if it can.
func lost(s memgraph.Snapshot, p memgraph.Pod, exists bool) string {
	m := s.Topology.Partner
	switch {
	case !exists || p.UID != m.UID:
		return fmt.Sprintf("partner %s is gone", m.Pod)
	case p.Terminating:
		return fmt.Sprintf("partner %s is terminating", m.Pod)
	case p.Instance.Reach == memgraph.Refused:
		return fmt.Sprintf("partner %s refuses connections", m.Pod)
	case !p.Is(m):
		return fmt.Sprintf("partner %s has restarted", m.Pod)
	case s.Topology.InSync && p.Answers(memgraph.RoleMain):
		return fmt.Sprintf("partner %s says that it is MAIN", m.Pod)
	case p.Instance.Diverged:
		return fmt.Sprintf("partner %s has diverged", m.Pod)
	}
	return ""
}

// confirm compares the record with the list. What takes the partner out of sync
// is only what the list says of it: not being told something is no reason.
func confirm(s memgraph.Snapshot, main memgraph.Pod) Plan {
	p, _ := s.Pod(s.Topology.Partner.Index)
	r, registered := s.Registration(main, p)
	says := fmt.Sprintf("MAIN lists partner %s as %s", p.Name, describe(r, registered))
	protected := registered && r.Mode.Synchronous() && (r.Status == memgraph.StatusReady || r.Status == memgraph.StatusReplicating)
	mode, known := memgraph.PartnerMode(main, p)
	next := s.Topology
	switch {
	case s.Topology.InSync && !protected:
		next.InSync = false
		return recordOnly(s, UnsyncPartner, next, says)
	case s.Topology.InSync:
		return Plan{Kind: Nothing, Reason: "the cluster is as the record says"}
	case protected && known && r.Mode == mode && r.InStep() && !p.Instance.Rejoin && answersSince(p, main.Instance.ReplicasAt):
		next.InSync = true
		return recordOnly(s, ConfirmPartner, next, says)
	}
	return Plan{Kind: Nothing, Reason: "it is not in sync yet: " + says}
}

// answersSince holds for a replica that answered after MAIN listed it: the row
// was about this process, and not about one that has ended.
func answersSince(p memgraph.Pod, listed time.Time) bool {
	return p.Answers(memgraph.RoleReplica) && !p.Instance.Asked.Before(listed)
}

func describe(r memgraph.Replica, registered bool) string {
	switch {
	case !registered:
		return "not registered"
	case r.Ghost():
		return fmt.Sprintf("%s, registration failed", r.Mode)
	}
	return fmt.Sprintf("%s, %s, %d behind", r.Mode, r.Status, -r.Behind)
}
