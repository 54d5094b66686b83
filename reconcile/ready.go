package reconcile

import "memgraph-controller/memgraph"

// Readiness is whether a pod does its part for redundancy, as its readiness gate
// tells Kubernetes: a rolling update and an eviction wait for it.
type Readiness struct {
	Ready bool
	// Reason is one word in the gate's condition, Message says it in a sentence.
	Reason, Message string
}

// What a gate can say.
var (
	readyMain    = Readiness{true, "Main", "it is MAIN"}
	readyPartner = Readiness{true, "InSync", "it holds every acknowledged write"}
	readyReplica = Readiness{true, "CaughtUp", "it follows MAIN and holds nearly all of its data"}
	notRunning   = Readiness{false, "Down", "its Memgraph does not run, or is not ready"}
	notProtected = Readiness{false, "MainUnprotected", "MAIN has no partner in sync"}
	notReplica   = Readiness{false, "NotReplica", "it is not a replica of MAIN yet"}
	notWhole     = Readiness{false, "Broken", "its database could not be recovered"}
	notSame      = Readiness{false, "Diverged", "its history has commits that MAIN's has not"}
	notNear      = Readiness{false, "Behind", "it has not caught up with MAIN"}
)

// Ready judges p; known is false where not enough is known, and the gate stays as
// it is. A MAIN without protection keeps everybody else's gate closed, so that
// nothing is disrupted that redundancy waits for.
//
//	pod      | it                                          | gate
//	any      | is terminating, or there is no record       | as it is
//	         | its containers are not ready, or it refuses | closed
//	         | its database is broken                      | closed
//	MAIN     | answers as MAIN, in the recorded process    | open
//	         | else                                        | as it is
//	replica  | the record is not in sync                   | closed
//	         | MAIN or its list are not known              | as it is
//	         | answers as MAIN, or is not registered,      | closed
//	         | or has diverged                             |
//	         | is the partner                              | open
//	         | nobody has said yet how far it is           | as it is
//	         | was near lately, with data if MAIN has some | open
//	         | else                                        | closed
func Ready(s memgraph.Snapshot, p memgraph.Pod) (r Readiness, known bool) {
	switch t := s.Topology; {
	case t.Generation == 0 || p.Terminating:
		return Readiness{}, false
	case !p.Fit() || p.Instance.Reach == memgraph.Refused:
		return notRunning, true
	case p.Instance.Storage.Broken:
		return notWhole, true
	case p.Index == t.Main.Index:
		return readyMain, p.Is(t.Main) && p.Answers(memgraph.RoleMain)
	case !t.InSync:
		return notProtected, true
	}
	main, ok := settledMain(s)
	if !ok {
		return Readiness{}, false
	}
	return replicaReady(s, main, p)
}

// Lacking is how many of the pods that there are to be are known not to do their part
// for redundancy.
func Lacking(s memgraph.Snapshot) int {
	lacking := max(0, s.Wanted-len(s.Pods))
	for _, p := range s.Pods {
		if r, known := Ready(s, p); known && !r.Ready {
			lacking++
		}
	}
	return lacking
}

// replicaReady judges a replica of a MAIN that is well and protected.
func replicaReady(s memgraph.Snapshot, main, p memgraph.Pod) (r Readiness, known bool) {
	registration, registered := s.Registration(main, p)
	switch i := p.Instance; {
	case i.Diverged:
		return notSame, true
	case !registered || registration.Ghost() || i.Rejoin || i.Role == memgraph.RoleMain:
		return notReplica, true
	case p.Is(s.Topology.Partner):
		return readyPartner, true
	case i.ListedAt.IsZero() || i.StorageAt.IsZero() || main.Instance.StorageAt.IsZero():
		return Readiness{}, false
	case !s.NearLately(p), i.Storage.Vertices == 0 && main.Instance.Storage.Vertices > 0:
		return notNear, true // one that was wiped may be listed as ready
	}
	return readyReplica, true
}
