package reconcile

import (
	"fmt"
	"slices"
	"time"

	"memgraph-controller/memgraph"
)

// Verb is what a step does; its string is the word in logs and metrics.
type Verb string

// Verbs. Drop and Register are statements on MAIN, Demote is one on the pod, and
// Evict deletes the pod.
const (
	Demote   Verb = "demote"
	Evict    Verb = "evict"
	Drop     Verb = "drop"
	Register Verb = "register"
)

// Step is one statement towards the desired replication.
type Step struct {
	Verb Verb
	// Main is where Drop and Register are sent.
	Main memgraph.Pod
	// Pod is whom the step is about; the zero Pod where a registration belongs
	// to none.
	Pod memgraph.Pod
	// Replica is the registration's name.
	Replica string
	Mode    memgraph.SyncMode // of Register
	Reason  string
}

func (s Step) String() string {
	if s.Verb == Register {
		return fmt.Sprintf("%s %s %s: %s", s.Verb, s.Replica, s.Mode, s.Reason)
	}
	return fmt.Sprintf("%s %s: %s", s.Verb, s.Replica, s.Reason)
}

// listAge is how old MAIN's list of replicas may be to act on it: a few times
// what lies between two looks.
const listAge = 5 * time.Second

// Diff lists the steps from what was observed to what the record wants. The
// steps on one pod follow each other in the order in which they are to be made.
// It lists none while MAIN changes, is not known to be well, or has not listed
// its replicas lately, and none on the partner while the record calls it in sync.
//
//	pod                     | its registration          | steps
//	ordered to start empty  | any                       | evict
//	MAIN without right      | none                      | demote, register
//	                        | some, droppable           | demote, drop, register
//	replica                 | none, and it is deaf      | evict
//	                        | none                      | register
//	                        | ghost, diverged, another  | drop if droppable, register async
//	                        | address, or from before   |
//	                        | a wipe                    |
//	                        | lost, and nobody else is  | evict
//	                        | or commits wait for it    |
//	                        | any, but it has diverged, | evict if lost and commits
//	                        | is broken, or MAIN would  | wait for it
//	                        | empty it                  |
//	                        | synchronous, in step, not | drop, register async
//	                        | partner                   |
//	not fit, gone           | synchronous, not partner; | drop if droppable
//	                        | or evicted                |
//	beyond the StatefulSet  | any                       | drop if droppable
//
// Who is registered for the first time is so by the snapshot's FirstMode.
func Diff(s memgraph.Snapshot) []Step {
	main, ok := settledMain(s)
	if !ok {
		return nil
	}
	d := differ{s: s, main: main}
	for _, p := range s.Pods {
		if p.Index != main.Index && !(d.partner(p) && s.Topology.InSync) {
			d.pod(p)
		}
	}
	d.orphans()
	return d.steps
}

// settledMain is the recorded MAIN, if it answers as such, has listed its replicas
// lately, and is not about to change.
func settledMain(s memgraph.Snapshot) (memgraph.Pod, bool) {
	main, ok := s.Main()
	if !ok || s.Topology.Phase != memgraph.Stable || !main.Is(s.Topology.Main) || !main.Answers(memgraph.RoleMain) {
		return memgraph.Pod{}, false
	}
	listed := main.Instance.ReplicasAt
	return main, !listed.IsZero() && s.Now.Sub(listed) <= listAge
}

// differ collects the steps for one snapshot.
type differ struct {
	s     memgraph.Snapshot
	main  memgraph.Pod
	steps []Step
}

func (d *differ) pod(p memgraph.Pod) {
	if order, ordered := d.s.Topology.StartsEmpty(p.Name); ordered && order.UID == p.UID && !p.Terminating {
		d.evict(p, "it is to start empty: "+order.Reason)
		return
	}
	r, registered := d.s.Registration(d.main, p)
	if !p.Fit() || p.Instance.Reach != memgraph.Answered {
		if registered {
			d.release(p, r)
		}
		return
	}
	if p.Instance.Diverged || p.Instance.Storage.Broken || memgraph.WouldEmpty(d.main, p) {
		if registered && r.Mode.Synchronous() && d.forsaken(p, r) {
			d.evict(p, "commits wait for it, and it cannot follow MAIN")
		}
		return // invariant 4
	}
	if p.Instance.Role == memgraph.RoleMain {
		d.subdue(p, r, registered)
		return
	}
	d.follow(p, r, registered)
}

// subdue makes a pod that wrongly is MAIN a replica, and registers it. If it
// was registered its data was wiped: only a new registration heals that, and
// once it is a living replica again dropping the old one is safe.
func (d *differ) subdue(p memgraph.Pod, r memgraph.Replica, registered bool) {
	d.add(Step{Verb: Demote, Pod: p, Replica: memgraph.ReplicaName(p.Name), Reason: "it is MAIN and the record names another"})
	if registered {
		if r.Status == memgraph.StatusRecovery {
			return
		}
		d.add(Step{Verb: Drop, Pod: p, Replica: r.Name, Reason: "it came back as MAIN, without the data it was registered with"})
	}
	d.register(p, d.s.FirstMode(d.main, p), "it is to follow MAIN")
}

// follow gives a replica the registration that the record wants. To have the
// partner's in another mode takes clients that are held: it is failover's.
func (d *differ) follow(p memgraph.Pod, r memgraph.Replica, registered bool) {
	switch {
	case !registered && p.Deaf():
		d.evict(p, "it does not listen for its MAIN, which only another process mends")
	case !registered:
		d.register(p, d.s.FirstMode(d.main, p), "it is a replica without registration")
	case d.stray(p, r) && (r.Mode.Synchronous() || d.othersFit(p)):
		// MAIN survives letting go of it only once its process has ended.
		d.evict(p, "it obeys another MAIN than the one that lists it")
	case r.Ghost() || r.Status == memgraph.StatusDiverged || p.Instance.Rejoin || !p.HasAddress(r.Address):
		// What is listed as diverged was a ghost before MAIN restarted; whether it has
		// diverged, only REGISTER tells for good.
		if d.s.Droppable(r) {
			d.add(Step{Verb: Drop, Pod: p, Replica: r.Name, Reason: "its registration to " + r.Address + " does not lead to its data"})
			d.register(p, d.again(p), "its registration was dropped")
		}
	case r.Mode.Synchronous() && !d.partner(p) && !d.s.Awaited(p.Name) && r.InStep():
		d.add(Step{Verb: Drop, Pod: p, Replica: r.Name, Reason: "commits wait for it, and it is not the partner"})
		d.register(p, memgraph.Async, "it is not the partner")
	}
}

// release drops the registration of a pod that cannot confirm commits any more,
// unless it is the partner still, where commits wait for it or where it was evicted
// for that.
func (d *differ) release(p memgraph.Pod, r memgraph.Replica) {
	if (r.Mode.Synchronous() || r.Evicted != "") && !d.partner(p) && !d.awaited(r) && d.s.Droppable(r) {
		d.add(Step{Verb: Drop, Pod: p, Replica: r.Name, Reason: "it is gone, and registered anew when it is back"})
	}
}

// orphans drops the registrations of pods that are gone, where commits wait for
// them, the StatefulSet asks for no such pod, or they were evicted for that.
func (d *differ) orphans() {
	for _, r := range d.main.Instance.Replicas {
		if d.hasPod(r) || d.awaited(r) || d.s.Claimed(r) && !r.Mode.Synchronous() && r.Evicted == "" {
			continue
		}
		if d.s.Droppable(r) {
			d.add(Step{Verb: Drop, Replica: r.Name, Reason: "there is no pod behind it"})
		}
	}
}

// awaited holds for a registration that keeps writes waiting for a partner that is
// gone. One that was evicted is let go of, or MAIN would never take it back.
func (d *differ) awaited(r memgraph.Replica) bool {
	partner := d.s.Topology.Partner.Pod
	return d.s.Awaited(partner) && r.Name == memgraph.ReplicaName(partner) && r.Evicted == ""
}

// again is what a replica whose registration was dropped is registered with.
func (d *differ) again(p memgraph.Pod) memgraph.SyncMode {
	if d.s.Awaited(p.Name) {
		return d.s.FirstMode(d.main, p)
	}
	return memgraph.Async
}

// stray holds for a replica that a new registration would mend. One that holds
// another data set needs more than that.
func (d *differ) stray(p memgraph.Pod, r memgraph.Replica) bool {
	foreign := memgraph.Foreign(d.main, p) && p.Instance.Storage.Vertices > 0
	return d.forsaken(p, r) && !foreign
}

// forsaken holds for a process that MAIN has lost, and will not let go of while it
// lives.
func (d *differ) forsaken(p memgraph.Pod, r memgraph.Replica) bool {
	return d.s.Forsaken(p, r) && r.Evicted != p.UID
}

// evict deletes one pod at a time, and none while an operator has paused.
func (d *differ) evict(p memgraph.Pod, why string) {
	r, registered := d.s.Registration(d.main, p)
	if !registered {
		r.Name = memgraph.ReplicaName(p.Name)
	}
	if d.s.Topology.Paused == nil && !slices.ContainsFunc(d.steps, func(s Step) bool { return s.Verb == Evict }) {
		d.add(Step{Verb: Evict, Pod: p, Replica: r.Name, Reason: why})
	}
}

// othersFit holds where nobody else is missing.
func (d *differ) othersFit(p memgraph.Pod) bool {
	for _, o := range d.s.Pods {
		if o.Index != p.Index && !o.Fit() {
			return false
		}
	}
	return len(d.s.Pods) >= d.s.Wanted
}

func (d *differ) hasPod(r memgraph.Replica) bool {
	for _, p := range d.s.Pods {
		if own, ok := d.s.Registration(d.main, p); ok && own.Name == r.Name {
			return true
		}
	}
	return false
}

func (d *differ) partner(p memgraph.Pod) bool {
	return p.UID == d.s.Topology.Partner.UID && p.Index == d.s.Topology.Partner.Index && !d.s.Topology.Partner.None()
}

func (d *differ) register(p memgraph.Pod, mode memgraph.SyncMode, why string) {
	d.add(Step{Verb: Register, Pod: p, Replica: memgraph.ReplicaName(p.Name), Mode: mode, Reason: why})
}

func (d *differ) add(s Step) {
	s.Main = d.main
	d.steps = append(d.steps, s)
}
