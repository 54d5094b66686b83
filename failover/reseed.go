package failover

import (
	"fmt"
	"slices"
	"time"

	"memgraph-controller/memgraph"
)

const (
	// crashLoop is how many restarts without being ready in between make a pod one
	// that does not recover: with a kubelet's pauses, two and a half minutes.
	crashLoop = 5
	// reseedAgain is when an order is given anew whose pod came back with its data:
	// it could not ask for the order in time.
	reseedAgain = time.Minute
)

// reseed decides about replicas whose data keeps them from following MAIN, which is
// well, with a partner that is in sync or none. Only one pod at a time is to start
// empty, and only beside a MAIN that has data to give. One that crashes although it was
// told to is not told again: it is not its data that it dies of, as with a full disk, and
// what it held would be pruned for the sake of what it has copied since.
//
//	order | the pod                                          | plan
//	some  | is MAIN, the partner in sync, or beyond the      | EndReseed
//	      | StatefulSet                                      |
//	      | another incarnation, in step with MAIN           | EndReseed
//	      | another incarnation, useless, order a minute old | BeginReseed
//	      |                                                  | Nothing
//	none  | diverged, broken, or of another database         | BeginReseed, if the
//	      | in a crash loop, and MAIN is protected           | policy is auto
//	      |                                                  | Nothing
func reseed(s memgraph.Snapshot, idle Plan) Plan {
	main, ok := s.Main()
	if !ok || s.Topology.Phase != memgraph.Stable || !s.Topology.InSync && !s.Topology.Partner.None() {
		return idle
	}
	if s.Topology.Reseed != nil {
		return followUp(s, main)
	}
	if s.Policy.Reseed != memgraph.ReseedAuto {
		return idle
	}
	for _, p := range s.Pods {
		if why := useless(s, main, p); why != "" {
			return beginReseed(s, p, why)
		}
	}
	return idle
}

// keepData takes an order to start empty back while nobody is MAIN, nor may be: what the
// pod holds may be the best that there is.
func keepData(s memgraph.Snapshot, why string) Plan {
	return endReseed(s, why+"; until it is back "+s.Topology.Reseed.Pod+" keeps the data that it has")
}

// followUp is the plan for an order that stands.
func followUp(s memgraph.Snapshot, main memgraph.Pod) Plan {
	order := *s.Topology.Reseed
	if _, stands := s.Topology.StartsEmpty(order.Pod); !stands {
		return endReseed(s, order.Pod+" is MAIN or in sync: it keeps the data that it has")
	}
	p, exists := podNamed(s, order.Pod)
	if !exists && s.Wanted > 0 && !s.Claimed(memgraph.Replica{Name: memgraph.ReplicaName(order.Pod)}) {
		return endReseed(s, order.Pod+" is no longer asked for")
	}
	if !exists || p.UID == order.UID {
		return Plan{Kind: Nothing, Reason: order.Pod + " is to be replaced, and to start empty: " + order.Reason}
	}
	why := useless(s, main, p)
	switch r, registered := s.Registration(main, p); {
	case why == "" && registered && r.InStep() && p.Answers(memgraph.RoleReplica) && p.Crashes < crashLoop:
		return endReseed(s, fmt.Sprintf("%s started empty and is in step with MAIN", p.Name))
	case why != "" && p.Instance.Reach == memgraph.Answered && s.Elapsed(order.Since) > reseedAgain:
		return beginReseed(s, p, why)
	}
	return Plan{Kind: Nothing, Reason: order.Pod + " is starting empty: " + order.Reason}
}

func endReseed(s memgraph.Snapshot, why string) Plan {
	next := s.Topology
	next.Reseed = nil
	return recordOnly(s, EndReseed, next, why)
}

func beginReseed(s memgraph.Snapshot, p memgraph.Pod, why string) Plan {
	next := s.Topology
	next.Reseed = &memgraph.Reseed{Pod: p.Name, UID: p.UID, Reason: why, Since: s.Now}
	return recordOnly(s, BeginReseed, next, why)
}

// useless tells why p can never follow main with the data that it has; "" if it
// may. Beside an empty MAIN no data is useless, and what nobody knows is not.
func useless(s memgraph.Snapshot, main, p memgraph.Pod) string {
	t := s.Topology
	switch {
	case p.Index == t.Main.Index, p.Is(t.Partner), p.Terminating:
		return ""
	case main.Instance.StorageAt.IsZero(), main.Instance.Storage.Vertices == 0:
		return ""
	case p.Crashes >= crashLoop && t.InSync && t.Reseed == nil:
		return fmt.Sprintf("%s has crashed %d times without being ready", p.Name, p.Crashes)
	case p.Instance.Reach != memgraph.Answered:
		return ""
	case p.Instance.Diverged:
		return fmt.Sprintf("%s has diverged from MAIN", p.Name)
	case p.Instance.Storage.Broken:
		return fmt.Sprintf("the database of %s is broken", p.Name)
	}
	if r, _ := s.Registration(main, p); s.Forsaken(p, r) && memgraph.Foreign(main, p) {
		return fmt.Sprintf("%s holds another database than MAIN", p.Name)
	}
	return ""
}

// reseedOrdered is the plan for an operator's order to have a replica start empty.
func reseedOrdered(s memgraph.Snapshot, order memgraph.Order) Plan {
	if why := irreplaceable(s, order.Argument); why != "" {
		return refused(s, why)
	}
	p, _ := podNamed(s, order.Argument)
	plan := beginReseed(s, p, "an operator asked for it")
	plan.Record = plan.Record.WithAnswer(memgraph.Answer{
		Order: order, Outcome: memgraph.OutcomeDone, When: s.Now,
		Reason: p.Name + " is replaced, and starts empty; what it held is moved aside",
	})
	return plan
}

// irreplaceable tells why no operator may have pod start empty; "" if one may.
func irreplaceable(s memgraph.Snapshot, pod string) string {
	t := s.Topology
	main, ok := s.Main()
	switch _, exists := podNamed(s, pod); {
	case t.Phase != memgraph.Stable:
		return fmt.Sprintf("the record is %s, not %s", t.Phase, memgraph.Stable)
	case t.Paused != nil:
		return "nobody is replaced while paused: resume first"
	case t.Reseed != nil:
		return t.Reseed.Pod + " is starting empty already: one at a time"
	case !exists:
		return fmt.Sprintf("there is no pod %q", pod)
	case pod == t.Main.Pod:
		return pod + " is MAIN"
	case t.InSync && pod == t.Partner.Pod:
		return pod + " is in sync: it protects what MAIN acknowledges"
	case !ok || !main.Is(t.Main) || !main.Answers(memgraph.RoleMain):
		return fmt.Sprintf("MAIN %s does not answer as MAIN: its data may be needed", t.Main.Pod)
	case main.Instance.StorageAt.IsZero() || main.Instance.Storage.Vertices == 0:
		return fmt.Sprintf("MAIN %s is not known to hold any data", t.Main.Pod)
	}
	return ""
}

func podNamed(s memgraph.Snapshot, name string) (memgraph.Pod, bool) {
	i := slices.IndexFunc(s.Pods, func(p memgraph.Pod) bool { return p.Name == name })
	if i < 0 {
		return memgraph.Pod{}, false
	}
	return s.Pods[i], true
}
