package failover

import (
	"fmt"
	"slices"
	"strings"

	"memgraph-controller/memgraph"
)

// first decides for a cluster without a record, or whose record was damaged. A
// pod "claims" if it is MAIN and holds data or has replicas.
//
//	not every pod is fit and has answered lately       | Waiting
//	the database of a MAIN is broken                   | Blocked
//	two or more claim                                  | Blocked
//	one claims, holds nothing, and another pod does    | Blocked
//	one claims, and replicas hold data, none from it   | Blocked
//	one claims                                         | Adopt it
//	none claims, no pod is MAIN                        | Blocked
//	none claims, a replica holds data                  | Blocked
//	none claims, one is MAIN                           | Adopt it
//	none claims, several are MAIN                      | Bootstrap the lowest ordinal
func first(s memgraph.Snapshot) Plan {
	if missing := unanswered(s); missing != "" {
		return Plan{Kind: Waiting, Reason: "there is no record yet: waiting for " + missing}
	}
	var mains, claimants []memgraph.Pod
	for _, p := range s.Pods {
		if p.Instance.Role == memgraph.RoleMain {
			mains = append(mains, p)
		}
		if claims(p) {
			claimants = append(claimants, p)
		}
	}
	holder := replicaWithData(s)
	broken := slices.IndexFunc(mains, func(p memgraph.Pod) bool { return p.Instance.Storage.Broken })
	switch {
	case broken >= 0:
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("the database of %s is broken, and it may have been MAIN last: restore its volume, or demote it by hand",
			mains[broken].Name)}
	case len(claimants) > 1:
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("%s are all MAIN with data or replicas: demote the wrong ones by hand",
			names(claimants))}
	case holder != "" && (len(claimants) == 0 || claimants[0].Instance.Storage.Vertices == 0):
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("replica %s holds data and no MAIN does: promote it by hand", holder)}
	case len(claimants) == 1 && holder != "" && !followed(s, claimants[0]):
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("replica %s holds data and does not follow %s, nor does another: register it there by hand if %s is the latest MAIN",
			holder, claimants[0].Name, claimants[0].Name)}
	case len(claimants) == 1:
		return begin(s, Adopt, claimants[0], "it is the only MAIN with data or replicas")
	case len(mains) == 0:
		return Plan{Kind: Blocked, Reason: "every pod is a replica: promote one by hand"}
	case len(mains) == 1:
		return begin(s, Adopt, mains[0], "it is the only MAIN")
	}
	return begin(s, Bootstrap, mains[0], "nobody holds data, and it is the first MAIN")
}

// replicaWithData is one that holds some, "" if none does.
func replicaWithData(s memgraph.Snapshot) string {
	for _, p := range s.Pods {
		if p.Instance.Role == memgraph.RoleReplica && p.Instance.Storage.Vertices > 0 {
			return p.Name
		}
	}
	return ""
}

// followed holds where a replica with data obeys main, as it does the MAIN that
// registered it last.
func followed(s memgraph.Snapshot, main memgraph.Pod) bool {
	for _, p := range s.Pods {
		r, ok := s.Registration(main, p)
		if ok && r.Status != memgraph.StatusInvalid && !r.Ghost() && p.Instance.Role == memgraph.RoleReplica && p.Instance.Storage.Vertices > 0 {
			return true
		}
	}
	return false
}

// begin is the first record. In an adopted cluster the replica that MAIN ships
// to synchronously is the partner, in a new one the next pod after MAIN; it is
// in sync once it was confirmed.
func begin(s memgraph.Snapshot, kind Kind, main memgraph.Pod, why string) Plan {
	next := s.Topology.Said()
	next.Main, next.Generation, next.Phase = main.Member(), nextGeneration(s), memgraph.Stable
	for _, p := range s.Pods {
		r, ok := s.Registration(main, p)
		follows := ok && r.Mode.Synchronous() && r.InStep() && p.Fit() && p.Answers(memgraph.RoleReplica)
		if follows || kind == Bootstrap && p.Index != main.Index {
			next.Partner = p.Member()
			break
		}
	}
	return recordOnly(s, kind, next, why)
}

// unanswered says which of the wanted pods are not known well enough to found a
// record on; "" if all are.
func unanswered(s memgraph.Snapshot) string {
	var waiting []string
	for i := range s.Wanted {
		p, ok := s.Pod(i)
		switch {
		case !ok:
			waiting = append(waiting, fmt.Sprintf("pod %d to exist", i))
		case !p.Fit():
			waiting = append(waiting, p.Name+" to be ready")
		case p.Instance.Reach != memgraph.Answered || s.Now.Sub(p.Instance.Asked) > patience || !weighed(s, p):
			waiting = append(waiting, p.Name+" to answer")
		case p.Instance.Role == memgraph.RoleMain && p.Instance.ReplicasAt.IsZero():
			waiting = append(waiting, p.Name+" to list its replicas")
		}
	}
	if s.Wanted == 0 {
		waiting = append(waiting, "the StatefulSet to ask for pods")
	}
	return strings.Join(waiting, ", ")
}

func names(pods []memgraph.Pod) string {
	var out []string
	for _, p := range pods {
		out = append(out, p.Name)
	}
	return strings.Join(out, " and ")
}
