package failover

import (
	"time"

	"memgraph-controller/memgraph"
)

// Kind of plan; its string is the word in logs, metrics and the history.
type Kind string

// Kinds. The first three change nothing.
const (
	// Nothing is to be done: the cluster is as the record says.
	Nothing Kind = "nothing"
	// Waiting for something that is expected by itself, soon.
	Waiting Kind = "waiting"
	// Blocked on something that may need an operator.
	Blocked Kind = "blocked"

	// Bootstrap makes the first pod of an empty cluster MAIN.
	Bootstrap Kind = "bootstrap"
	// Adopt writes down the MAIN that a running cluster has.
	Adopt Kind = "adopt"
	// Failover promotes the partner of a dead MAIN.
	Failover Kind = "failover"
	// Handover promotes the partner of a MAIN that is alive and about to go.
	Handover Kind = "handover"
	// Switchover promotes the partner of a MAIN that is well, by an operator's order.
	Switchover Kind = "switchover"
	// ForcedFailover promotes who may lack writes, by an operator's order.
	ForcedFailover Kind = "forced-failover"
	// CallOff ends a switchover before anybody's role has changed.
	CallOff Kind = "call-off"
	// Revert promotes the old MAIN of a switchover whose promotion failed.
	Revert Kind = "revert"
	// Resume finishes a change of MAIN that somebody began.
	Resume Kind = "resume"
	// Readopt accepts the recorded MAIN back after a restart that nobody could
	// stand in for.
	Readopt Kind = "readopt"
	// Restore promotes a recorded MAIN that came to be a replica.
	Restore Kind = "restore"

	// AssignPartner has MAIN ship synchronously to a replica that is in step.
	AssignPartner Kind = "assign-partner"
	// ConfirmPartner says that the partner holds every acknowledged write.
	ConfirmPartner Kind = "confirm-partner"
	// UnsyncPartner says that it no longer surely does.
	UnsyncPartner Kind = "unsync-partner"
	// LosePartner lets a partner go that is gone, restarted or going, and has a
	// replica that is in step succeed it.
	LosePartner Kind = "lose-partner"

	// Reply answers an operator's order, and changes no role.
	Reply Kind = "reply"
	// BeginReseed orders a replica to start without the data that it has.
	BeginReseed Kind = "begin-reseed"
	// EndReseed takes the order back: it was followed, or no longer makes sense.
	EndReseed Kind = "end-reseed"
)

// Plan is a decision. Its zero fields mean that the step is left out.
type Plan struct {
	Kind   Kind
	Reason string
	// Record is what to write before anything else or, where Written, what is
	// written already.
	Record  memgraph.Topology
	Written bool
	// Demote is the living MAIN to demote once clients are parked. It may be who is
	// promoted next: a MAIN that restarted early, or that nobody recorded, needs a new
	// epoch.
	Demote *memgraph.Pod
	// Undead says that the old MAIN may live without hearing us: clients are kept
	// from its answers before another is promoted.
	Undead bool
	// Promote is the pod to make MAIN.
	Promote *memgraph.Pod
	// Protect is the MAIN that stays, and is to ship synchronously to who is in
	// Register and to nobody else.
	Protect *memgraph.Pod
	// Register are the replicas for MAIN to take over, the partner first. For a new
	// MAIN they are all that there are: the fence.
	Register []Follower
	// Seen is when the event that led to this plan was received, Taken when it
	// left its queue.
	Seen, Taken time.Time
}

// Follower is a replica and how it is to be registered.
type Follower struct {
	Pod  memgraph.Pod
	Mode memgraph.SyncMode
}

// Idle reports whether the plan changes nothing.
func (p Plan) Idle() bool { return p.Kind == Nothing || p.Kind == Waiting || p.Kind == Blocked }

// ChangesMain reports whether the plan moves or confirms MAIN, which needs a new
// generation, rather than the partner.
func (p Plan) ChangesMain() bool {
	switch p.Kind {
	case Bootstrap, Adopt, Failover, Handover, Resume, Readopt, Restore, Switchover, ForcedFailover, CallOff, Revert:
		return true
	}
	return false
}
