package reconcile

import (
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

// Verb is what a step does; its string is the word in logs and metrics.
type Verb string

// Verbs. Drop and Register are statements on MAIN, Demote is one on the pod.
const (
	Demote   Verb = "demote"
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
//	MAIN without right      | none                      | demote, register
//	                        | some, droppable           | demote, drop, register
//	replica                 | none                      | register
//	                        | ghost, another address,   | drop if droppable, register async
//	                        | or from before a wipe     |
//	                        | wrong mode, in step       | drop, register in the right mode
//	                        | async while not in step   | –
//	not fit                 | synchronous, not partner  | drop if droppable
//	gone                    | synchronous               | drop if droppable
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
	r, registered := d.s.Registration(d.main, p)
	if !p.Fit() || p.Instance.Reach != memgraph.Answered {
		if registered {
			d.release(p, r)
		}
		return
	}
	if p.Instance.Diverged || memgraph.WouldEmpty(d.main, p) {
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

// follow gives a replica the registration that the record wants.
func (d *differ) follow(p memgraph.Pod, r memgraph.Replica, registered bool) {
	mode := memgraph.Async
	if d.partner(p) {
		known := false
		if mode, known = memgraph.PartnerMode(d.main, p); !known {
			return
		}
	}
	switch {
	case !registered:
		d.register(p, d.s.FirstMode(d.main, p), "it is a replica without registration")
	case r.Ghost() || p.Instance.Rejoin || !p.HasAddress(r.Address):
		if d.droppable(r) {
			d.add(Step{Verb: Drop, Pod: p, Replica: r.Name, Reason: "its registration to " + r.Address + " does not lead to its data"})
			d.register(p, memgraph.Async, "its registration was dropped")
		}
	case r.Mode != mode && r.InStep():
		d.add(Step{Verb: Drop, Pod: p, Replica: r.Name, Reason: fmt.Sprintf("it is to be %s, not %s", mode, r.Mode)})
		d.register(p, mode, fmt.Sprintf("it is to be %s", mode))
	}
}

// release drops the synchronous registration of a pod that cannot confirm
// commits any more, unless it is the partner still.
func (d *differ) release(p memgraph.Pod, r memgraph.Replica) {
	if r.Mode.Synchronous() && !d.partner(p) && d.droppable(r) {
		d.add(Step{Verb: Drop, Pod: p, Replica: r.Name, Reason: "commits wait for it, and it is not the partner"})
	}
}

// orphans drops the registrations of pods that are gone: at once where commits
// wait for them, and else only where the StatefulSet asks for no such pod.
func (d *differ) orphans() {
	for _, r := range d.main.Instance.Replicas {
		if d.hasPod(r) || (d.s.Claimed(r) && !r.Mode.Synchronous()) {
			continue
		}
		if d.droppable(r) {
			d.add(Step{Verb: Drop, Replica: r.Name, Reason: "there is no pod behind it"})
		}
	}
}

func (d *differ) hasPod(r memgraph.Replica) bool {
	for _, p := range d.s.Pods {
		if own, ok := d.s.Registration(d.main, p); ok && own.Name == r.Name {
			return true
		}
	}
	return false
}

// droppable holds where MAIN survives DROP REPLICA (invariant 3), which depends
// on the process that r leads to: MAIN is known to freeze or crash over one that
// recovers, or that is silent with commits unsent. Source: observed on 3.7.2 and
// 3.12.0.
func (d *differ) droppable(r memgraph.Replica) bool {
	p, exists := d.s.At(r.Address)
	gone := !exists || p.Instance.Reach == memgraph.Refused
	alive := exists && p.Instance.Reach == memgraph.Answered
	switch r.Status {
	case memgraph.StatusNone:
		return true
	case memgraph.StatusReady, memgraph.StatusDiverged:
		return alive
	case memgraph.StatusInvalid:
		return gone
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
