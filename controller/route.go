package controller

import (
	"memgraph-controller/memgraph"
)

// podEvent is a change of a pod as an informer told it: what it was, what it is.
// A nil before is an addition, a nil after a deletion.
type podEvent struct {
	before, after *memgraph.Pod
}

// pod is what the event is about.
func (e podEvent) pod() *memgraph.Pod {
	if e.after != nil {
		return e.after
	}
	return e.before
}

// route tells which lane an event is for. The urgent one gets what may take
// writes away: bad news of the pods that the record names.
//
//	pod               | change                                        | lane
//	MAIN or partner   | deleted, or the same name with another UID    | urgent
//	                  | begins to terminate                           | urgent
//	                  | its container ends, or is another one         | urgent
//	                  | no longer ready                               | urgent
//	                  | anything else                                 | routine
//	MAIN              | added, becomes ready or gets an address       | urgent
//	any other         | any                                           | routine
func route(e podEvent, t memgraph.Topology) laneName {
	pod := e.pod()
	isMain := pod.Name == t.Main.Pod
	if !isMain && (t.Partner.None() || pod.Name != t.Partner.Pod) {
		return routine
	}
	switch b, a := e.before, e.after; {
	case a == nil, b != nil && b.UID != a.UID:
		return urgent
	case b == nil:
		return urgentIf(isMain)
	case !b.Terminating && a.Terminating,
		b.Running && !a.Running,
		b.Container != a.Container,
		b.Ready && !a.Ready:
		return urgent
	case !b.Ready && a.Ready, b.IP != a.IP:
		return urgentIf(isMain)
	}
	return routine
}

func urgentIf(yes bool) laneName {
	if yes {
		return urgent
	}
	return routine
}
