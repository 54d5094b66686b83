package failover

import (
	"fmt"
	"strings"

	"memgraph-controller/memgraph"
)

// first decides for a cluster without a record, or whose record was damaged. A
// pod "claims" if it is MAIN and holds data or has replicas.
//
//	not every pod has answered with role and data      | Waiting
//	two or more claim                                  | Blocked
//	one claims                                         | Adopt it
//	none claims, no pod is MAIN                        | Blocked
//	none claims, a replica holds data                  | Blocked
//	none claims, one is MAIN                           | Adopt it
//	none claims, all are MAIN                          | Bootstrap the lowest ordinal
func first(s memgraph.Snapshot) Plan {
	if missing := unanswered(s); missing != "" {
		return Plan{Kind: Waiting, Reason: "there is no record yet: waiting for " + missing}
	}
	var mains, claimants []memgraph.Pod
	holder := ""
	for _, p := range s.Pods {
		holds := p.Instance.Storage.Vertices > 0
		if holds && p.Instance.Role == memgraph.RoleReplica {
			holder = p.Name
		}
		if p.Instance.Role != memgraph.RoleMain {
			continue
		}
		mains = append(mains, p)
		if holds || len(p.Instance.Replicas) > 0 {
			claimants = append(claimants, p)
		}
	}
	switch {
	case len(claimants) > 1:
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("%s are both MAIN with data or replicas: demote the wrong one by hand",
			names(claimants))}
	case len(claimants) == 1:
		return begin(s, Adopt, claimants[0], "it is the only MAIN with data or replicas")
	case len(mains) == 0:
		return Plan{Kind: Blocked, Reason: "every pod is a replica: promote the one that holds the newest data by hand"}
	case holder != "":
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("replica %s holds data and no MAIN does: promote it by hand", holder)}
	case len(mains) == 1:
		return begin(s, Adopt, mains[0], "it is the only MAIN")
	}
	return begin(s, Bootstrap, mains[0], "every pod is an empty MAIN")
}

// begin is the first record. In an adopted cluster the replica that MAIN ships
// to synchronously is the partner, in a new one the next pod after MAIN; it is
// in sync once it was confirmed.
func begin(s memgraph.Snapshot, kind Kind, main memgraph.Pod, why string) Plan {
	next := memgraph.Topology{
		Main: main.Member(), Generation: s.Floor + 1, Phase: memgraph.Stable,
		Revision: s.Topology.Revision,
	}
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
		case p.Instance.Reach != memgraph.Answered || p.Instance.StorageAt.IsZero():
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
