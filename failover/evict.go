package failover

import (
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

const (
	// evictPause is between two evictions: a pod takes 2 to 4 s to come back, and
	// what ails a second one within the minute a restart may not mend.
	evictPause = time.Minute
	// recent is how old MAIN's last answer may be: a few times what lies between
	// two probes.
	recent = time.Second
	// abandoned is after what silence a pod that is being deleted is taken for one
	// whose node nobody hears either: a kubelet takes 3 s to end it.
	abandoned = 15 * time.Second
)

// Eviction is a pod to delete, for the sake of commits that wait for it.
type Eviction struct {
	Pod    memgraph.Pod
	Reason string
	// Force is for a pod that no kubelet will end: only its object is deleted.
	Force bool
}

// Evict says whose process has to end for commits to go on. MAIN lets go of a
// replica once its connections break or its pod is gone, and must not be told to
// before: DROP of a replica that hangs kills it (observed on 3.7.2 and 3.12.0).
//
//	a replica that commits wait for           | eviction
//	hung                                      | at once
//	unreachable for longer than patience      | if its pod is not being deleted
//	unreachable since its pod is being        | by force, 15 s after
//	deleted, or before                        |
//
// Nobody is evicted within a minute of last, which is the zero time if nobody was,
// or while the record is changing or an operator has paused. MAIN never is, and
// nobody is unless MAIN has just answered: who is cut off from all pods must delete
// none.
func Evict(s memgraph.Snapshot, last time.Time) (e Eviction, ok bool) {
	main, known := s.Main()
	held := s.Topology.Phase != memgraph.Stable || s.Topology.Paused != nil
	if !known || held || !well(s, main) {
		return Eviction{}, false
	}
	for _, p := range s.Pods {
		if p.Index == main.Index || !p.Stuck() || !awaited(s, main, p) {
			continue
		}
		e := Eviction{Pod: p, Reason: fmt.Sprintf("%s is %s, and commits on MAIN %s wait for it", p.Name, p.Instance.Verdict, main.Name)}
		lasting := p.Instance.Verdict == memgraph.Unreachable
		switch {
		case p.Terminating:
			e.Force = true
			if lasting && silentFor(s, p, abandoned) {
				return e, true
			}
		case (!lasting || silentFor(s, p, patience)) && (last.IsZero() || s.Now.Sub(last) >= evictPause):
			return e, true
		}
	}
	return Eviction{}, false
}

// well holds for a MAIN that has just answered as what the record says, with its data.
func well(s memgraph.Snapshot, main memgraph.Pod) bool {
	return main.Is(s.Topology.Main) && main.Answers(memgraph.RoleMain) && !main.Instance.Verdict.Lost() &&
		!main.Instance.Storage.Broken && s.Now.Sub(main.Instance.Asked) <= recent
}

// awaited holds for the partner, and for whom MAIN lists as synchronous.
func awaited(s memgraph.Snapshot, main, p memgraph.Pod) bool {
	if !s.Topology.Partner.None() && p.UID == s.Topology.Partner.UID {
		return true
	}
	r, listed := s.Registration(main, p)
	return listed && r.Mode.Synchronous()
}
