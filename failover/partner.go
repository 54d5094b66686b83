package failover

import (
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

// partner decides about the partner of a MAIN that is well. "The list" is MAIN's
// SHOW REPLICAS, which counts for as long as patience lasts; a successor is a
// replica that it shows as async and in step, and that is fit and answers.
//
//	partner    | it                                            | plan
//	some       | terminating and stuck: it cannot be let go of | Waiting
//	           | before its process has ended                  |
//	           | gone, restarted, refuses, terminating,        | LosePartner, to a
//	           | diverged, broken, or MAIN though in sync      | successor or nobody
//	           | the same, no successor, and policy is to wait | UnsyncPartner; Blocked
//	           | the same, and back as a replica               | AssignPartner it is
//	           | silent for longer than patience               | Blocked
//	any        | the list is older, or not known               | Nothing
//	none       | a successor; commits wait for nobody          | AssignPartner
//	           |                                               | Nothing
//	in sync    | not listed as synchronous, ready or at it     | UnsyncPartner
//	not        | listed in the right mode, in step, and it     | ConfirmPartner
//	           | has answered since                            |
//	           | listed in another mode, in step, and fit      | AssignPartner
//	any        |                                               | Nothing
//	Protecting | it does not answer as the same replica        | LosePartner, as above
//	           | it does, or there is to be none               | the plan that was begun
//
// A replica that is registered synchronously without being the partner is never
// assigned: it may be one that was lost, which MAIN can show as ready although
// it came back empty. Reconciliation registers it anew as async first.
func partner(s memgraph.Snapshot) Plan {
	main, _ := s.Main()
	if s.Topology.Phase == memgraph.Protecting {
		return protect(s, main)
	}
	if !s.Topology.Partner.None() {
		p, ok := s.Pod(s.Topology.Partner.Index)
		if ok && p.Terminating && p.Stuck() {
			return Plan{Kind: Waiting, Reason: fmt.Sprintf("partner %s is %s, and its process is being ended", p.Name, p.Instance.Verdict)}
		}
		if why := lost(s, p, ok); why != "" {
			return succeed(s, p, why)
		}
		if silentFor(s, p, patience) {
			return Plan{Kind: Blocked, Reason: fmt.Sprintf("partner %s does not answer, and writes wait for it: delete its pod", p.Name)}
		}
	}
	switch {
	case main.Instance.ReplicasAt.IsZero():
		return Plan{Kind: Nothing, Reason: "the replicas of MAIN are not known yet"}
	case !lately(s, main):
		return Plan{Kind: Nothing, Reason: "MAIN has not listed its replicas lately"}
	case s.Topology.Partner.None():
		return assign(s, main)
	}
	return confirm(s, main)
}

// succeed is the plan for a partner that is lost, whose pod is p if there is one. By
// the policy to wait it stays partner and registered where nobody can succeed it, so
// that no commit succeeds without it, until a replica is back in its place.
func succeed(s memgraph.Snapshot, p memgraph.Pod, why string) Plan {
	main, _ := s.Main()
	to := successor(s, main)
	if to != nil || s.Policy.PartnerLoss != memgraph.LossWaits {
		return replacePartner(s, LosePartner, to, why)
	}
	next := s.Topology
	next.InSync = false
	switch {
	case s.Topology.InSync:
		return recordOnly(s, UnsyncPartner, next, why)
	case p.Fit() && p.Answers(memgraph.RoleReplica) && !p.Instance.Diverged && !p.Instance.Storage.Broken:
		next.Partner = p.Member()
		return recordOnly(s, AssignPartner, next, why+", and "+p.Name+" is back")
	}
	return Plan{Kind: Blocked, Reason: why + ", and writes wait for it by policy"}
}

// lately holds while MAIN's list counts.
func lately(s memgraph.Snapshot, main memgraph.Pod) bool {
	return s.Now.Sub(main.Instance.ReplicasAt) <= patience
}

// protect finishes the change of the partner that the record says was begun.
func protect(s memgraph.Snapshot, main memgraph.Pod) Plan {
	t := s.Topology
	plan := Plan{Kind: Kind(t.Pending.Kind), Reason: t.Pending.Reason, Record: t, Written: true, Protect: &main}
	if t.Partner.None() {
		return plan
	}
	p, ok := s.Pod(t.Partner.Index)
	why := lost(s, p, ok)
	switch {
	case why != "":
	case !p.Answers(memgraph.RoleReplica) || !p.Fit():
		why = fmt.Sprintf("%s was to be partner and does not answer as a replica", t.Partner.Pod)
	case !s.CatchesUp(main, p) || memgraph.WouldEmpty(main, p):
		why = fmt.Sprintf("%s was to be partner and may hold other data", t.Partner.Pod)
	}
	mode, known := s.PartnerMode(main, p)
	switch {
	case why != "":
		return replacePartner(s, LosePartner, successor(s, main), why)
	case !known:
		return Plan{Kind: Waiting, Reason: fmt.Sprintf("the versions of %s and %s are not known yet", main.Name, p.Name)}
	}
	plan.Register = []Follower{{Pod: p, Mode: mode}}
	return plan
}

// replacePartner is the plan that makes to the partner, nobody if it is nil.
func replacePartner(s memgraph.Snapshot, kind Kind, to *memgraph.Pod, why string) Plan {
	main, _ := s.Main()
	next := s.Topology
	next.Phase = memgraph.Protecting
	next.Pending = &memgraph.Pending{From: s.Topology.Partner, Kind: string(kind), Reason: why, Started: s.Now}
	next.Partner, next.InSync = memgraph.Member{}, false
	plan := Plan{Kind: kind, Reason: why, Protect: &main}
	if to != nil {
		mode, _ := s.PartnerMode(main, *to)
		next.Partner, plan.Register = to.Member(), []Follower{{Pod: *to, Mode: mode}}
	}
	plan.Record = next
	return plan
}

// assign waits for what commits wait for to be let go of: until then the change
// would hold clients for nothing.
func assign(s memgraph.Snapshot, main memgraph.Pod) Plan {
	to := successor(s, main)
	if to == nil {
		return Plan{Kind: Nothing, Reason: "no replica is in step with MAIN"}
	}
	for _, r := range main.Instance.Replicas {
		if r.Mode.Synchronous() && !s.Droppable(r) {
			return Plan{Kind: Nothing, Reason: fmt.Sprintf("MAIN cannot let go of %s yet, which is %s", r.Name, r.Status)}
		}
	}
	return replacePartner(s, AssignPartner, to, to.Name+" is in step with MAIN")
}

// successor is the replica with the lowest ordinal that can be partner at once.
func successor(s memgraph.Snapshot, main memgraph.Pod) *memgraph.Pod {
	for _, p := range s.Pods {
		r, ok := s.Registration(main, p)
		if ok && r.Mode == memgraph.Async && p.Index != main.Index && lately(s, main) && able(s, main, p, r) {
			return &p
		}
	}
	return nil
}

// able holds for a replica that can be partner as soon as its registration, r, is
// in the mode for that.
func able(s memgraph.Snapshot, main, p memgraph.Pod, r memgraph.Replica) bool {
	mode, known := s.PartnerMode(main, p)
	return known && r.Mode != mode && r.InStep() && s.CatchesUp(main, p) && !memgraph.WouldEmpty(main, p) &&
		p.Fit() && p.Answers(memgraph.RoleReplica)
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
	case p.Instance.Storage.Broken:
		return fmt.Sprintf("the database of partner %s is broken", m.Pod)
	}
	return ""
}

// confirm compares the record with the list. What takes the partner out of sync
// is only what the list says of it: not being told something is no reason.
func confirm(s memgraph.Snapshot, main memgraph.Pod) Plan {
	p, _ := s.Pod(s.Topology.Partner.Index)
	r, registered := s.Registration(main, p)
	says := fmt.Sprintf("MAIN lists partner %s as %s", p.Name, describe(r, registered))
	protected := registered && protects(r)
	mode, known := s.PartnerMode(main, p)
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
	case registered && able(s, main, p, r):
		return replacePartner(s, AssignPartner, &p, says)
	}
	return Plan{Kind: Nothing, Reason: "it is not in sync yet: " + says}
}

// protects holds for a replica that confirms every commit.
func protects(r memgraph.Replica) bool {
	return r.Mode.Synchronous() && (r.Status == memgraph.StatusReady || r.Status == memgraph.StatusReplicating)
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
