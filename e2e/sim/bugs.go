package sim

import (
	"slices"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// Bug is a deliberate mistake in the controller or its gateway, to show that the
// simulation would find it. The zero Bug is none.
type Bug struct {
	// Name says what is wrong, and Breaks which guarantee that breaks, if others have to
	// hold until it does.
	Name, Breaks string

	seen      func(*memgraph.Snapshot)                // before Decide
	planned   func(*failover.Plan)                    // after it
	wanted    func(*memgraph.Snapshot)                // before Diff
	steps     func([]reconcile.Step) []reconcile.Step // after it
	beforePut func(effects, *memgraph.Topology)

	blindPut         bool // no compare-and-set
	anyAuthority     bool // the lease is not looked at
	readyAtOnce      bool // a partner that was registered is held to be ready
	unsealed         bool // the new epoch is not made durable
	blindGateway     bool // the role is not verified
	forgetfulGateway bool // the generation is not looked at
	trustingGateway  bool // an answer never gets too old
	forgivingGateway bool // a MAIN that was a replica since is one again
	nervousGateway   bool // it closes when the record cannot be read
	lonelyGateway    bool // MAIN is not asked whether it was replaced
	boundlessGateway bool // that it does not show it is no matter

	sharedWorkers    bool // between both lanes, one for each pod
	patient          bool // the urgent lane has no deadline
	oneRoutineWorker bool // for all pods
	oneExecutor      bool // for all pods, one after the other
	asksInTurn       bool // a pod is asked while others wait for MAIN
	offline          bool // what cannot be read is as it was, what cannot be written as it should be
}

// bugs are those that the simulation is tried on.
var bugs = []Bug{
	{Name: "the record is written without compare-and-set", blindPut: true},
	{Name: "a leader acts on after its lease", anyAuthority: true},
	{Name: "MAIN is promoted before the record says so", beforePut: promoteFirst},
	{Name: "the generation stays when MAIN changes", planned: keepGeneration},
	{Name: "a partner is promoted that is not in sync", seen: trustPartner},
	{Name: "a partner is promoted that has restarted", seen: overlookRestart},
	{Name: "a partner is called in sync as soon as it is named", readyAtOnce: true},
	{Name: "a partner stays in sync while MAIN calls it behind", seen: overlookList},
	{Name: "the registration of the partner is renewed while it is in sync", wanted: forgetSync},
	{Name: "a MAIN is taken back without its data", seen: overlookLoss},
	{Name: "replicas are not registered", planned: registerNobody, steps: withoutRegister},
	{Name: "the epoch is not sealed", unsealed: true},
	{Name: "the gateway does not verify the role", blindGateway: true},
	{Name: "the gateway obeys older generations", forgetfulGateway: true},
	{Name: "the gateway believes answers from before it was stopped", trustingGateway: true},
	{Name: "the gateway takes back a MAIN that was a replica", forgivingGateway: true},
	{Name: "a MAIN by force keeps the epoch that it had", Breaks: "G1", planned: keepEpoch},
	{Name: "both lanes share the workers, one for each pod", Breaks: "G5", sharedWorkers: true},
	{Name: "a decision waits for whoever it asks", Breaks: "G5", patient: true},
	{Name: "the routine lane has one worker", Breaks: "G7", oneRoutineWorker: true},
	{Name: "the pods have one executor, which takes one after the other", Breaks: "G7", oneExecutor: true},
	{Name: "a pod is asked while others wait for MAIN", Breaks: "G7", asksInTurn: true},
	{Name: "a leader goes on without the API server", Breaks: "G8", offline: true},
	{Name: "the gateway closes while the record cannot be read", Breaks: "G8", nervousGateway: true},
	{Name: "the gateway is isolated whatever MAIN shows", Breaks: "G8", lonelyGateway: true},
	{Name: "the gateway is never isolated", Breaks: "G8", boundlessGateway: true},
}

// promoteFirst turns intent first into deed first.
func promoteFirst(e effects, t *memgraph.Topology) {
	if t.Phase == memgraph.Stable {
		return
	}
	addr := memgraph.Pod{IP: t.Main.IP}.Addr()
	_ = e.t.c.promote(e.t.ctx, addr, e.deadline(e.t.ctx)) // Execute does it again
}

func keepGeneration(p *failover.Plan) {
	if p.Kind == failover.Failover || p.Kind == failover.Handover {
		p.Record.Generation--
	}
}

func keepEpoch(p *failover.Plan) {
	if p.Kind == failover.ForcedFailover && p.Demote != nil && p.Demote.UID == p.Promote.UID {
		p.Demote, p.Record.Pending.Renew = nil, false
	}
}

func trustPartner(s *memgraph.Snapshot) {
	if mainIsBad(s) {
		s.Topology.InSync = !s.Topology.Partner.None()
	}
}

func overlookRestart(s *memgraph.Snapshot) {
	if p, ok := s.Pod(s.Topology.Partner.Index); ok && !s.Topology.Partner.None() && mainIsBad(s) {
		s.Topology.Partner.UID, s.Topology.Partner.RunID = p.UID, p.Instance.RunID
	}
}

// overlookList has MAIN list the partner as in step for ever, once it was.
func overlookList(s *memgraph.Snapshot) {
	eachRegistration(s, func(r *memgraph.Replica) {
		if s.Topology.InSync || r.Mode.Synchronous() {
			r.Status, r.Behind = memgraph.StatusReady, 0
		}
	})
}

func eachRegistration(s *memgraph.Snapshot, change func(*memgraph.Replica)) {
	for i := range s.Pods {
		rows := append([]memgraph.Replica{}, s.Pods[i].Instance.Replicas...)
		for j := range rows {
			change(&rows[j])
		}
		s.Pods[i].Instance.Replicas = rows
	}
}

// forgetSync has Diff make the partner an ASYNC replica again, and another one
// the partner, as if the record did not call it in sync.
func forgetSync(s *memgraph.Snapshot) {
	s.Topology.InSync, s.Topology.Partner = false, memgraph.Member{}
}

// overlookLoss takes whatever comes back in MAIN's pod for what it was.
func overlookLoss(s *memgraph.Snapshot) {
	p, ok := s.Pod(s.Topology.Main.Index)
	if !ok || !mainIsBad(s) {
		return
	}
	s.Topology.Main.Database = p.Instance.Storage.Database
	for i := range s.Pods {
		if s.Pods[i].Index == p.Index {
			s.Pods[i].Instance.Storage.Vertices = 1
		}
	}
}

// mainIsBad holds where the recorded MAIN's process is not known to go on.
func mainIsBad(s *memgraph.Snapshot) bool {
	main, ok := s.Main()
	return s.Topology.Generation > 0 && (!ok || !main.Is(s.Topology.Main) || main.Instance.Reach == memgraph.Refused)
}

func registerNobody(p *failover.Plan) { p.Register = nil }

func withoutRegister(steps []reconcile.Step) []reconcile.Step {
	var rest []reconcile.Step
	for _, s := range steps {
		if s.Verb != reconcile.Register {
			rest = append(rest, s)
		}
	}
	return rest
}

// readily is the list of a MAIN all of whose replicas are in step.
func readily(replicas []memgraph.Replica) []memgraph.Replica {
	replicas = slices.Clone(replicas)
	for i := range replicas {
		replicas[i].Status, replicas[i].Behind = memgraph.StatusReady, 0
	}
	return replicas
}
