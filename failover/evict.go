package failover

import (
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

const (
	// evictPause is between two evictions: a pod takes 2 to 4 s to come back, and
	// what ails the second one within a minute a restart may not mend.
	evictPause = time.Minute
	// recent is how old MAIN's last answer may be: a few times what lies between
	// two probes.
	recent = time.Second
)

// Evictee is the pod whose process has to end so that commits go on: one that MAIN
// waits for and that is stuck. MAIN lets go of such a replica as soon as its
// connections break, and must not be told to while they do not: DROP of a replica
// that hangs kills MAIN (observed on 3.7.2 and 3.12.0).
//
// Nobody is evicted twice a minute, nor while the record is changing or an operator
// has paused; MAIN never is; and nobody at all unless MAIN has just answered us: who
// is cut off from all pods must delete none. last is when a pod was evicted last, the zero time if never.
func Evictee(s memgraph.Snapshot, last time.Time) (p memgraph.Pod, why string, ok bool) {
	main, known := s.Main()
	held := s.Topology.Phase != memgraph.Stable || s.Topology.Paused != nil
	if !known || held || !last.IsZero() && s.Now.Sub(last) < evictPause {
		return memgraph.Pod{}, "", false
	}
	well := main.Is(s.Topology.Main) && main.Answers(memgraph.RoleMain) && !main.Instance.Verdict.Lost()
	if !well || s.Now.Sub(main.Instance.Asked) > recent {
		return memgraph.Pod{}, "", false
	}
	for _, p := range s.Pods {
		if p.Index == main.Index || p.Terminating || !p.Stuck() || !awaited(s, main, p) {
			continue
		}
		return p, fmt.Sprintf("%s is %s, and commits on MAIN %s wait for it", p.Name, p.Instance.Verdict, main.Name), true
	}
	return memgraph.Pod{}, "", false
}

// awaited holds for the partner, and for whom MAIN lists as synchronous.
func awaited(s memgraph.Snapshot, main, p memgraph.Pod) bool {
	if !s.Topology.Partner.None() && p.UID == s.Topology.Partner.UID {
		return true
	}
	r, listed := s.Registration(main, p)
	return listed && r.Mode.Synchronous()
}
