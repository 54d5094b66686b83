package failover

import (
	"fmt"
	"slices"
	"time"

	"memgraph-controller/memgraph"
)

// patience is how long an answer is awaited from a pod that may only be slow,
// before its silence counts: a storm of logins takes up to a second, and the
// driver's own retries bridge 30.
const patience = 5 * time.Second

// Decide says what to do about MAIN and its partner: what an operator asks for
// (see obey), and else what the cluster calls for, as far as operators let it. A
// garbled record is as good as none.
func Decide(s memgraph.Snapshot) Plan {
	if garbled(s) {
		s.Floor, s.Topology = max(s.Floor, s.Topology.Generation), s.Topology.Said()
	}
	if s.Topology.Order != nil && s.Topology.Generation > 0 {
		return obey(s)
	}
	return restrain(s, called(s))
}

// garbled holds for a record that names a process which answers elsewhere: nobody but a
// person can have written that. To believe it is to take a living MAIN for a dead one,
// or to send clients where nobody is.
func garbled(s memgraph.Snapshot) bool {
	for _, m := range []memgraph.Member{s.Topology.Main, s.Topology.Partner} {
		for _, p := range s.Pods {
			elsewhere := p.UID != m.UID || p.Index != m.Index || p.IP != m.IP
			if !m.None() && p.Instance.Reach == memgraph.Answered && p.Instance.RunID == m.RunID && elsewhere {
				return true
			}
		}
	}
	return false
}

// called is the plan that the cluster calls for. The first row that fits wins. An
// heir is a partner that is in sync and answers as the same process; "fit to be
// MAIN" is that a pod came back with the data it had (see refuse).
//
//	record      | MAIN's pod                          | else                  | plan
//	none        |                                     |                       | see first
//	changing    | it does not answer                  |                       | Waiting
//	MAIN        | it answers, in another process      | fit to be MAIN        | Failover to it
//	            |                                     |                       | Waiting, Blocked
//	            | it answers                          |                       | Resume
//	            | any, of a switchover                | the old MAIN is fit   | CallOff, Revert
//	else        | gone, replaced, restarted, refuses, | heir                  | Failover
//	            | stuck, terminating and silent, or   | heir silent for 5 s   | Waiting
//	            | its database is broken              | none, order to start  | EndReseed
//	            |                                     | empty                 |
//	            |                                     | not back              | Blocked
//	            |                                     | back as MAIN, fit     | Readopt
//	            |                                     | back as replica, fit  | Restore
//	            |                                     |                       | Waiting, Blocked
//	            | terminating, or gone but left over, | the list says unsafe  | Unsync-, LosePartner
//	            | answers main                        | heir                  | Handover
//	            |                                     | partner care          | see partner
//	            |                                     |                       | Waiting
//	            | answers replica                     | heir is main          | Failover
//	            |                                     | another claims        | Blocked
//	            |                                     | fit to be MAIN        | Restore
//	            |                                     |                       | Waiting, Blocked
//	            | silent, or not asked; or stuck, and |                       | Waiting
//	            | its partner is silent too           |                       |
//	            | wrong credentials                   |                       | Blocked
//	            | answers main                        |                       | see partner
//	            |                                     | nothing to do         | see reseed
func called(s memgraph.Snapshot) Plan {
	if s.Topology.Generation == 0 {
		return first(s)
	}
	if s.Topology.Phase.ChangesMain() {
		return resume(s)
	}
	state, why := mainState(s)
	switch state {
	case mainDead:
		return replaceDead(s, why)
	case mainLeaving:
		return handOver(s, why)
	case mainDemoted:
		return restoreDemoted(s, why)
	case mainUnclear:
		return Plan{Kind: Waiting, Reason: why}
	case mainDenied:
		return Plan{Kind: Blocked, Reason: why}
	}
	plan := partner(s)
	if plan.Kind == Nothing {
		return reseed(s, plan)
	}
	return plan
}

// mainCondition is what became of the recorded MAIN.
type mainCondition int

const (
	mainWell mainCondition = iota
	mainDead
	mainLeaving
	mainDemoted
	mainUnclear
	mainDenied
)

// mainState judges the pod that the record names as MAIN.
func mainState(s memgraph.Snapshot) (mainCondition, string) {
	m := s.Topology.Main
	p, exists := s.Pod(m.Index)
	switch leftover := s.Leftover; {
	case (!exists || p.UID != m.UID) && leftover.Is(m) && leftover.Answers(memgraph.RoleMain):
		return mainLeaving, fmt.Sprintf("the pod of MAIN %s is gone, its process is not yet", m.Pod)
	case !exists:
		return mainDead, fmt.Sprintf("the pod of MAIN %s is gone", m.Pod)
	case p.UID != m.UID:
		return mainDead, fmt.Sprintf("the pod of MAIN %s was replaced", m.Pod)
	case p.Instance.Reach == memgraph.Refused:
		return mainDead, fmt.Sprintf("MAIN %s refuses connections", m.Pod)
	case p.Instance.Reach == memgraph.Answered && !p.Is(m):
		return mainDead, fmt.Sprintf("MAIN %s has restarted", m.Pod)
	case p.Terminating && p.Instance.Reach == memgraph.Silent:
		return mainDead, fmt.Sprintf("MAIN %s is terminating and does not answer", m.Pod)
	case p.Instance.Reach == memgraph.Denied:
		return mainDenied, fmt.Sprintf("MAIN %s refuses our credentials: correct the Secret, nothing is wrong with MAIN", m.Pod)
	case p.Stuck() && alone(s):
		return mainUnclear, fmt.Sprintf("neither MAIN %s nor its partner %s answers: the controller may be cut off", m.Pod, s.Topology.Partner.Pod)
	case p.Stuck():
		return mainDead, fmt.Sprintf("MAIN %s is %s", m.Pod, p.Instance.Verdict)
	case p.Instance.Reach != memgraph.Answered:
		return mainUnclear, fmt.Sprintf("MAIN %s does not answer, and is not known to be dead", m.Pod)
	case p.Instance.Storage.Broken:
		return mainDead, fmt.Sprintf("the database of MAIN %s is broken", m.Pod)
	case p.Instance.Role == memgraph.RoleReplica:
		return mainDemoted, fmt.Sprintf("MAIN %s says that it is a replica", m.Pod)
	case p.Terminating:
		return mainLeaving, fmt.Sprintf("the pod of MAIN %s is terminating", m.Pod)
	}
	return mainWell, ""
}

// alone holds while the partner is silent as well: then it may be us who nobody
// can hear.
func alone(s memgraph.Snapshot) bool {
	p, ok := s.Pod(s.Topology.Partner.Index)
	return ok && !s.Topology.Partner.None() && p.Instance.Reach == memgraph.Silent
}

// replaceDead is the plan for a dead MAIN. Its return is second best while an
// heir may only be slow: what the node lost with MAIN, the heir has.
func replaceDead(s memgraph.Snapshot, why string) Plan {
	to, reason, soon := heir(s)
	why += "; "
	switch {
	case to != nil:
		return change(s, Failover, *to, why+"its partner "+to.Name+" is in sync")
	case soon:
		return Plan{Kind: Waiting, Reason: why + reason}
	case s.Topology.Reseed != nil:
		return keepData(s, why+reason)
	}
	back, ok := s.Pod(s.Topology.Main.Index)
	if !ok || back.Terminating || back.Instance.Reach != memgraph.Answered {
		return Plan{Kind: Blocked, Reason: why + reason + "; writes resume when its pod is back with its data"}
	}
	if plan, refused := refuse(s, back, why+reason); refused {
		return plan
	}
	if back.Instance.Role == memgraph.RoleReplica {
		return restore(s, back, why+reason)
	}
	next := s.Topology
	next.Main, next.Generation = back.Member(), nextGeneration(s)
	next.Partner, next.InSync = memgraph.Member{}, false
	next.Phase, next.Pending = memgraph.Stable, nil
	return recordOnly(s, Readopt, next, why+reason+"; its data is back")
}

// handOver is the plan for a living MAIN that Kubernetes is about to end. What
// it says itself of its partner counts more than the record.
func handOver(s memgraph.Snapshot, why string) Plan {
	care := Plan{Kind: Nothing}
	if _, ok := s.Main(); ok {
		care = partner(s)
	}
	if care.Kind == UnsyncPartner || care.Kind == LosePartner {
		return care
	}
	to, reason, _ := heir(s)
	if to != nil {
		plan := change(s, Handover, *to, why)
		plan.Demote = livingMain(s, s.Topology.Main)
		return plan
	}
	if !care.Idle() {
		return care // it may make an heir yet
	}
	return Plan{Kind: Waiting, Reason: why + "; " + reason}
}

// restoreDemoted is the plan for a MAIN that somebody made a replica.
func restoreDemoted(s memgraph.Snapshot, why string) Plan {
	if to, _, _ := heir(s); to != nil && to.Instance.Role == memgraph.RoleMain {
		return change(s, Failover, *to, why+", and "+to.Name+" that it is MAIN")
	}
	p, _ := s.Main()
	if plan, refused := refuse(s, p, why); refused {
		return plan
	}
	return restore(s, p, why)
}

// restore promotes the recorded MAIN that is a replica, unless another pod claims
// to be MAIN or might: whoever made it a replica may have meant that.
func restore(s memgraph.Snapshot, p memgraph.Pod, why string) Plan {
	for _, o := range s.Pods {
		switch {
		case o.Index == p.Index:
		case o.Instance.Reach != memgraph.Answered:
			return Plan{Kind: Waiting, Reason: fmt.Sprintf("%s; whether %s is MAIN is not known yet", why, o.Name)}
		case claims(o):
			return Plan{Kind: Blocked, Reason: fmt.Sprintf("%s, and %s that it is MAIN: demote the wrong one by hand", why, o.Name)}
		}
	}
	return change(s, Restore, p, why)
}

// claims holds for a MAIN with data or replicas. What a failed REGISTER left
// behind is no replica.
func claims(p memgraph.Pod) bool {
	if !p.Answers(memgraph.RoleMain) {
		return false
	}
	for _, r := range p.Instance.Replicas {
		if !r.Ghost() {
			return true
		}
	}
	return p.Instance.Storage.Vertices > 0
}

// resume finishes what the record says was begun. A target that restarted has
// the same data in a new process, and needs a generation of its own.
func resume(s memgraph.Snapshot) Plan {
	t := s.Topology
	if plan, back := giveBack(s); back {
		return plan
	}
	p, ok := s.Pod(t.Main.Index)
	if !ok || p.Instance.Reach != memgraph.Answered {
		return Plan{Kind: Waiting, Reason: fmt.Sprintf("%s is to become MAIN in generation %d and does not answer", t.Main.Pod, t.Generation)}
	}
	if !p.Is(t.Main) {
		why := fmt.Sprintf("%s restarted before it was known to be MAIN", t.Main.Pod)
		if plan, refused := refuse(s, p, why); refused {
			return plan
		}
		plan := change(s, Failover, p, t.Pending.Reason+"; "+why)
		plan.Record.Pending.From = t.Pending.From
		return renewed(plan, p)
	}
	plan := Plan{
		Kind: Resume, Reason: t.Pending.Reason, Record: t, Written: true,
		Promote: &p, Register: followers(s, p, left(t)),
	}
	switch {
	case t.Phase == memgraph.Switching:
		plan.Demote = livingMain(s, t.Pending.From)
	case t.Pending.Renew && p.Instance.Role == memgraph.RoleMain:
		plan.Demote = &p
	}
	return plan
}

// renewed is plan, which promotes p, such that p gets an epoch of its own also where it
// is MAIN already. It may have lost the one that came with that: to seal the old one
// would hide that another has diverged in it.
func renewed(plan Plan, p memgraph.Pod) Plan {
	if p.Instance.Role == memgraph.RoleMain {
		plan.Demote, plan.Record.Pending.Renew = &p, true
	}
	return plan
}

// livingMain is m, if it is the same process still and a MAIN, with its pod or
// left over.
func livingMain(s memgraph.Snapshot, m memgraph.Member) *memgraph.Pod {
	p, ok := s.Pod(m.Index)
	if !ok || p.UID != m.UID {
		p = s.Leftover
	}
	if p.Is(m) && p.Answers(memgraph.RoleMain) {
		return &p
	}
	return nil
}

// heir is the partner, if it may be promoted without losing an acknowledged
// write (invariant 2); else why it may not, and whether it may be soon.
func heir(s memgraph.Snapshot) (to *memgraph.Pod, why string, soon bool) {
	t := s.Topology
	if t.Partner.None() {
		return nil, "it has no partner", false
	}
	p, ok := s.Pod(t.Partner.Index)
	switch name := t.Partner.Pod; {
	case !t.InSync:
		return nil, fmt.Sprintf("its partner %s is not in sync", name), false
	case !ok || p.UID != t.Partner.UID:
		return nil, fmt.Sprintf("its partner %s is gone too", name), false
	case p.Terminating:
		return nil, fmt.Sprintf("its partner %s is terminating too", name), false
	case p.Instance.Reach == memgraph.Refused:
		return nil, fmt.Sprintf("its partner %s refuses connections", name), false
	case !p.Is(t.Partner):
		return nil, fmt.Sprintf("its partner %s has restarted", name), false
	case p.Instance.Reach != memgraph.Answered:
		return nil, fmt.Sprintf("its partner %s does not answer", name), !silentFor(s, p, patience)
	case p.Instance.Storage.Broken:
		return nil, fmt.Sprintf("the database of its partner %s is broken", name), false
	}
	return &p, "", false
}

// silentFor holds for a pod that has not answered for so long.
func silentFor(s memgraph.Snapshot, p memgraph.Pod, limit time.Duration) bool {
	return p.Instance.Reach != memgraph.Answered && !p.Instance.Since.IsZero() && s.Now.Sub(p.Instance.Since) >= limit
}

// refuse keeps a recorded MAIN that came back from being MAIN without the data
// that it had (invariant 5). A database that differs from the recorded one is a
// lost volume; where that is not told, an empty pod is compared with all others.
func refuse(s memgraph.Snapshot, p memgraph.Pod, why string) (Plan, bool) {
	held, holds := s.Topology.Main.Database, p.Instance.Storage
	const remedy = ": restore its volume, or promote the pod that holds the data by hand"
	switch {
	case p.Instance.StorageAt.IsZero():
		return Plan{Kind: Waiting, Reason: fmt.Sprintf("%s; what data %s holds is not known yet", why, p.Name)}, true
	case holds.Broken:
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("%s; the database of %s is broken%s", why, p.Name, remedy)}, true
	case held != "" && holds.Database != "" && held != holds.Database:
		return Plan{Kind: Blocked, Reason: fmt.Sprintf("%s; %s came back with another database%s", why, p.Name, remedy)}, true
	case holds.Vertices > 0 || held != "" && held == holds.Database:
		return Plan{}, false
	case s.Wanted == 0: // the StatefulSet is being replaced
		return Plan{Kind: Waiting, Reason: fmt.Sprintf("%s; %s holds no data, and how many pods there are to be is not known yet", why, p.Name)}, true
	}
	for i := range s.Wanted {
		o, ok := s.Pod(i)
		switch {
		case !ok || !weighed(s, o):
			return Plan{Kind: Waiting, Reason: fmt.Sprintf("%s; %s holds no data, and whether %s does is not known yet",
				why, p.Name, memgraph.PodName(s.Cluster, i))}, true
		case o.Instance.Storage.Vertices > 0:
			return Plan{Kind: Blocked, Reason: fmt.Sprintf("%s; %s holds no data and %s does%s", why, p.Name, o.Name, remedy)}, true
		}
	}
	return Plan{}, false
}

// weighed holds where it is known whether p holds data. One that was empty some time ago
// may have been filled since.
func weighed(s memgraph.Snapshot, p memgraph.Pod) bool {
	i := p.Instance
	return !i.StorageAt.IsZero() && (i.Storage.Vertices > 0 || s.Now.Sub(i.StorageAt) <= patience)
}

// nextGeneration is above all that were ever seen (invariant 3).
func nextGeneration(s memgraph.Snapshot) int64 { return max(s.Floor, s.Topology.Generation) + 1 }

// change is the plan that makes p MAIN in the next generation.
func change(s memgraph.Snapshot, kind Kind, p memgraph.Pod, why string) Plan {
	from := s.Topology.Main
	next := s.Topology
	next.Main, next.Generation = p.Member(), nextGeneration(s)
	next.Partner, next.InSync = memgraph.Member{}, false
	next.Phase = memgraph.FailingOver
	if kind == Handover || kind == Switchover {
		next.Phase = memgraph.Switching
	}
	next.Pending = &memgraph.Pending{From: from, Kind: string(kind), Reason: why, Started: s.Now}
	if partner, ok := nextPartner(s, p, from); ok {
		next.Partner = partner.Member()
	}
	main, _ := s.Main()
	undead := next.Phase == memgraph.FailingOver && main.Instance.Reach == memgraph.Silent
	s.Topology = next
	return Plan{Kind: kind, Reason: why, Record: next, Promote: &p, Register: followers(s, p, from), Undead: undead}
}

// nextPartner is the replica that protects the new MAIN from the start: the first
// that follows and has nothing to catch up on. Who has is left to be registered
// and to become partner later.
func nextPartner(s memgraph.Snapshot, main memgraph.Pod, old memgraph.Member) (memgraph.Pod, bool) {
	for _, p := range s.Pods {
		if _, known := s.PartnerMode(main, p); known && follows(main, p, old) && s.CatchesUp(main, p) {
			return p, true
		}
	}
	return memgraph.Pod{}, false
}

// recordOnly is a plan whose whole effect is the record. A change of MAIN goes
// into the history.
func recordOnly(s memgraph.Snapshot, kind Kind, next memgraph.Topology, why string) Plan {
	plan := Plan{Kind: kind, Reason: why, Record: next}
	if plan.ChangesMain() {
		plan.Record = next.WithChange(memgraph.Change{
			When: s.Now, Generation: next.Generation, Kind: string(kind), To: next.Main.Pod, Reason: why,
		})
	}
	return plan
}

// followers are the pods that a new MAIN takes over at once, its partner first.
func followers(s memgraph.Snapshot, main memgraph.Pod, old memgraph.Member) []Follower {
	var out []Follower
	for _, p := range s.Pods {
		if !follows(main, p, old) {
			continue
		}
		f := Follower{Pod: p, Mode: s.FirstMode(main, p)}
		if f.Mode.Synchronous() {
			out = slices.Insert(out, 0, f)
		} else {
			out = append(out, f)
		}
	}
	return out
}

// follows holds for a replica that answers and is well, is not the old MAIN's
// process, and holds no data that MAIN has not.
func follows(main, p memgraph.Pod, old memgraph.Member) bool {
	return p.Index != main.Index && p.UID != old.UID && p.Fit() && p.Answers(memgraph.RoleReplica) &&
		!p.Instance.Storage.Broken && !memgraph.WouldEmpty(main, p)
}
