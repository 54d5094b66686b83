package failover

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

// main is who a plan makes or leaves MAIN, "" if it is idle.
func main(p Plan) string {
	if p.Idle() {
		return ""
	}
	return p.Record.Main.Pod
}

// decision is a row of a table.
type decision struct {
	name   string
	s      memgraph.Snapshot
	kind   Kind
	main   string
	reason string // a part of it
}

func (c decision) check(t *testing.T) {
	p := Decide(c.s)
	assert.Equal(t, c.kind, p.Kind, p.Reason)
	assert.Equal(t, c.main, main(p))
	assert.Contains(t, p.Reason, c.reason)
	checkPlan(t, c.s, p)
}

func TestDecide(t *testing.T) {
	for _, c := range []decision{
		{"all is as the record says: invariant 6", healthy(), Nothing, "", "as the record says"},

		// A dead MAIN and its heir.
		{"main is gone", healthy(gone(0)), Failover, "mg-1", "is gone"},
		{"main was replaced before anybody noticed", healthy(replaced(0)), Failover, "mg-1", "was replaced"},
		{"main refuses connections", healthy(reached(0, memgraph.Refused)), Failover, "mg-1", "refuses"},
		{"main restarted in place", healthy(restarted(0)), Failover, "mg-1", "has restarted"},
		{"main is terminating and refuses", healthy(terminating(0), reached(0, memgraph.Refused)), Failover, "mg-1", "refuses"},
		{"main is terminating and hangs", healthy(terminating(0), reached(0, memgraph.Silent)), Failover, "mg-1", "does not answer"},
		{"main is gone and the heir was promoted by hand", healthy(gone(0), role(1, memgraph.RoleMain)), Failover, "mg-1", "is gone"},
		{"main is gone, the third pod unknown", healthy(gone(0), unknown(2)), Failover, "mg-1", "is gone"},

		// No heir: nobody else is promoted.
		{"main is gone, the partner not in sync", healthy(gone(0), notInSync), Blocked, "", "mg-1 is not in sync"},
		{"main is gone, without partner", healthy(gone(0), noPartner), Blocked, "", "has no partner"},
		{"main and partner are gone", healthy(gone(0), gone(1)), Blocked, "", "mg-1 is gone too"},
		{"main is gone, the partner was replaced", healthy(gone(0), replaced(1)), Blocked, "", "mg-1 is gone too"},
		{"main is gone, the partner restarted", healthy(gone(0), restarted(1)), Blocked, "", "mg-1 has restarted"},
		{"main is gone, the partner refuses", healthy(gone(0), reached(1, memgraph.Refused)), Blocked, "", "mg-1 refuses"},
		{"main is gone, the partner terminating", healthy(gone(0), terminating(1)), Blocked, "", "mg-1 is terminating too"},
		{"main is gone, the partner silent for a moment", healthy(gone(0), silent(1, time.Second)), Waiting, "", "mg-1 does not answer"},
		{"main is gone, the partner silent for long", healthy(gone(0), silent(1, patience)), Blocked, "", "mg-1 does not answer"},
		{"main is gone, the partner was not asked yet", healthy(gone(0), unknown(1)), Waiting, "", "mg-1 does not answer"},

		// No heir, and MAIN comes back.
		{"main was replaced, no heir", healthy(replaced(0), notInSync), Readopt, "mg-0", "its data is back"},
		{"main restarted, no heir", healthy(restarted(0), noPartner), Readopt, "mg-0", "its data is back"},
		{"main restarted, the heir silent for a moment", healthy(restarted(0), silent(1, time.Second)), Waiting, "", "does not answer"},
		{"main restarted, the heir silent for long", healthy(restarted(0), silent(1, patience)), Readopt, "mg-0", "its data is back"},
		{"main came back, about to end", healthy(replaced(0), notInSync, terminating(0)), Blocked, "", "not in sync"},
		{"main came back as a replica, no heir", healthy(replaced(0), role(0, memgraph.RoleReplica), notInSync), Restore, "mg-0", "not in sync"},
		{"main came back as a replica, another claims", healthy(replaced(0), role(0, memgraph.RoleReplica), notInSync, role(2, memgraph.RoleMain)), Blocked, "", "mg-2 that it is MAIN"},
		{"main came back without its volume", healthy(wiped(0), notInSync), Blocked, "", "another database"},
		{"main came back without its volume, the others unknown", healthy(wiped(0), notInSync, unknown(1), unknown(2)), Blocked, "", "another database"},
		{"main came back, its data unknown", healthy(notInSync,
			instance(0, func(i *memgraph.Instance) { i.RunID, i.StorageAt = "run-0b", time.Time{} })), Waiting, "", "not known yet"},
		{"an empty cluster's main came back", healthy(replaced(0), notInSync, vertices(0, 0), vertices(1, 0), vertices(2, 0)), Readopt, "mg-0", "data is back"},
		{"main came back empty as it was, the others unknown", healthy(replaced(0), notInSync, vertices(0, 0), unknown(1)), Readopt, "mg-0", "data is back"},

		// The same, of a version that tells no database's identity.
		{"main came back empty, untold", healthy(replaced(0), notInSync, vertices(0, 0), untold), Blocked, "", "mg-0 holds no data and mg-1 does"},
		{"main came back empty, a third pod pending, untold", healthy(replaced(0), notInSync, vertices(0, 0), vertices(1, 0), pending(2), untold), Waiting, "", "whether mg-2 does"},
		{"main came back empty, a third pod gone, untold", healthy(replaced(0), notInSync, vertices(0, 0), vertices(1, 0), gone(2), untold), Waiting, "", "whether mg-2 does"},
		{"main came back empty, the StatefulSet gone, untold", healthy(replaced(0), notInSync, vertices(0, 0), gone(1), gone(2), untold, wantsNone), Waiting, "", "how many pods"},
		{"an empty cluster's main came back, untold", healthy(replaced(0), notInSync, vertices(0, 0), vertices(1, 0), vertices(2, 0), untold), Readopt, "mg-0", "data is back"},
		{"main came back empty, a third pod was empty some time ago, untold", healthy(replaced(0), notInSync, vertices(0, 0), vertices(1, 0), vertices(2, 0), untold,
			instance(2, func(i *memgraph.Instance) { i.StorageAt = now.Add(-patience - 1) })), Waiting, "", "whether mg-2 does"},

		// A living MAIN that is about to end.
		{"main is terminating", healthy(terminating(0)), Handover, "mg-1", "is terminating"},
		{"main is terminating, no heir", healthy(terminating(0), noPartner,
			listed(2, func(r *memgraph.Replica) { r.Behind = -4 })), Waiting, "", "has no partner"},
		{"main is terminating, an heir can be had", healthy(terminating(0), notInSync), ConfirmPartner, "mg-0", "strict_sync, ready"},
		{"main is terminating, and lists the partner as async", healthy(terminating(0),
			listed(1, func(r *memgraph.Replica) { r.Mode, r.Behind = memgraph.Async, -50 })), UnsyncPartner, "mg-0", "async, ready, 50 behind"},
		{"main is terminating, the partner too", healthy(terminating(0), terminating(1)), LosePartner, "mg-0", "mg-1 is terminating"},

		// A MAIN that is not what it should be.
		{"main says replica", healthy(role(0, memgraph.RoleReplica)), Restore, "mg-0", "is a replica"},
		{"main says replica and the partner main", healthy(role(0, memgraph.RoleReplica), role(1, memgraph.RoleMain)), Failover, "mg-1", "mg-1 that it is MAIN"},
		{"main says replica and a stranger main", healthy(role(0, memgraph.RoleReplica), role(2, memgraph.RoleMain)), Blocked, "", "mg-2 that it is MAIN"},
		{"main says replica and an empty stranger main", healthy(role(0, memgraph.RoleReplica), role(2, memgraph.RoleMain), vertices(2, 0)), Restore, "mg-0", "is a replica"},
		{"main says replica and a stranger nothing", healthy(role(0, memgraph.RoleReplica), reached(2, memgraph.Silent)), Waiting, "", "whether mg-2 is MAIN"},
		{"main says replica and is another database", healthy(role(0, memgraph.RoleReplica), record(func(t *memgraph.Topology) { t.Main.Database = "old" })), Blocked, "", "another database"},

		// Data that could not be recovered.
		{"main came back broken", healthy(restarted(0), broken(0)), Failover, "mg-1", "has restarted"},
		{"main is broken", healthy(broken(0)), Failover, "mg-1", "the database of MAIN mg-0 is broken"},
		{"main is broken, and says replica", healthy(broken(0), role(0, memgraph.RoleReplica)), Failover, "mg-1", "is broken"},
		{"main is broken, the partner not in sync", healthy(broken(0), notInSync), Blocked, "", "mg-1 is not in sync; the database of mg-0 is broken: restore its volume"},
		{"main is gone, the partner broken", healthy(gone(0), broken(1)), Blocked, "", "the database of its partner mg-1 is broken"},
		{"a failover was begun, the target came back broken", healthy(underWay(memgraph.FailingOver), restarted(1), broken(1)), Blocked, "", "the database of mg-1 is broken"},
		{"main is gone, the third pod broken", healthy(gone(0), broken(2)), Failover, "mg-1", "is gone"},

		// What proves nothing.
		{"main is silent", healthy(reached(0, memgraph.Silent)), Waiting, "", "not known to be dead"},
		{"main was not asked", healthy(reached(0, memgraph.NotAsked)), Waiting, "", "not known to be dead"},
		{"main refuses our password", healthy(reached(0, memgraph.Denied)), Blocked, "", "credentials"},
		{"main is not ready and answers", healthy(pod(0, func(p *memgraph.Pod) { p.Ready = false })), Nothing, "", ""},

		// What somebody began.
		{"a failover was begun", healthy(underWay(memgraph.FailingOver), gone(0)), Resume, "mg-1", "because"},
		{"a failover was begun, the target promoted", healthy(underWay(memgraph.FailingOver), gone(0), role(1, memgraph.RoleMain)), Resume, "mg-1", "because"},
		{"a failover was begun, the target silent", healthy(underWay(memgraph.FailingOver), reached(1, memgraph.Silent)), Waiting, "", "generation 8"},
		{"a failover was begun, the target gone", healthy(underWay(memgraph.FailingOver), gone(1)), Waiting, "", "generation 8"},
		{"a failover was begun, the target restarted", healthy(underWay(memgraph.FailingOver), restarted(1)), Failover, "mg-1", "restarted before"},
		{"a failover was begun, the target came back without its volume", healthy(underWay(memgraph.FailingOver), wiped(1)), Blocked, "", "another database"},
		{"a failover was begun, the target came back empty, peers unknown, untold", healthy(underWay(memgraph.FailingOver), wiped(1), unknown(0), unknown(2), untold),
			Waiting, "", "whether mg-0 does"},
	} {
		t.Run(c.name, c.check)
	}
}

// MAIN calls a replica that was killed ready for three seconds.
func TestAKilledPartnerIsLostThoughMainCallsItReady(t *testing.T) {
	for _, dead := range []edit{gone(1), reached(1, memgraph.Refused), restarted(1)} {
		s := healthy(dead)
		assert.Equal(t, memgraph.StatusReady, s.Pods[0].Instance.Replicas[0].Status)
		plan := Decide(s)
		assert.Equal(t, LosePartner, plan.Kind)
		assert.False(t, plan.Record.InSync)
	}
}

// One that was killed and started again refuses equal peers, once it is promoted, as if
// they had diverged.
func TestAPartnerThatRestartedIsSucceededByOneThatHasNot(t *testing.T) {
	plan := Decide(healthy(restarted(1)))
	assert.Equal(t, LosePartner, plan.Kind)
	assert.Equal(t, "mg-2", plan.Record.Partner.Pod)
	plan = Decide(healthy(restarted(1), gone(0)))
	assert.NotEqual(t, Failover, plan.Kind, "and is not promoted")
}

func TestDecideOnAClusterWithoutRecord(t *testing.T) {
	full := func(i int) edit { return vertices(i, 3) }
	hasReplica := func(i int) edit {
		return instance(i, func(in *memgraph.Instance) {
			in.Replicas = []memgraph.Replica{{Name: "x", Status: memgraph.StatusReady}}
		})
	}
	for _, c := range []decision{
		{"all empty mains", fresh(), Bootstrap, "mg-0", "nobody holds data"},
		{"one pod does not exist yet", fresh(gone(2)), Waiting, "", "pod 2 to exist"},
		{"one pod does not answer yet", fresh(reached(1, memgraph.Refused)), Waiting, "", "mg-1 to answer"},
		{"the StatefulSet is not known yet", fresh(func(s *memgraph.Snapshot) { s.Wanted = 0 }), Waiting, "", "StatefulSet"},
		{"one pod's replicas are not known yet",
			fresh(instance(0, func(i *memgraph.Instance) { i.ReplicasAt = time.Time{} })),
			Waiting, "", "list its replicas"},
		{"one pod is not ready yet", fresh(pod(1, func(p *memgraph.Pod) { p.Ready = false })), Waiting, "", "mg-1 to be ready"},
		{"one pod answered long ago", fresh(instance(1, func(i *memgraph.Instance) { i.Asked = now.Add(-patience - 1) })), Waiting, "", "mg-1 to answer"},
		{"one pod's data is not known yet", fresh(instance(1, func(i *memgraph.Instance) { i.StorageAt = time.Time{} })), Waiting, "", "mg-1 to answer"},
		{"one pod was empty some time ago", fresh(instance(1, func(i *memgraph.Instance) { i.StorageAt = now.Add(-patience - 1) })), Waiting, "", "mg-1 to answer"},
		{"one pod had data some time ago", fresh(full(1), instance(1, func(i *memgraph.Instance) { i.StorageAt = now.Add(-patience - 1) })), Adopt, "mg-1", "the only MAIN with data"},
		{"generations were seen before", fresh(func(s *memgraph.Snapshot) { s.Floor = 9 }), Bootstrap, "mg-0", "nobody holds data"},
		{"a main with a ghost, replicas with data", fresh(role(1, memgraph.RoleReplica), full(1), role(2, memgraph.RoleReplica), full(2),
			instance(0, func(i *memgraph.Instance) { i.Replicas = []memgraph.Replica{{Name: "x"}} })), Blocked, "", "replica mg-1 holds data"},
		{"an empty main with replicas, a replica with data", fresh(hasReplica(0), role(1, memgraph.RoleReplica), full(1)), Blocked, "", "replica mg-1 holds data"},
		{"two empty mains, an empty replica", fresh(role(1, memgraph.RoleReplica)), Bootstrap, "mg-0", "nobody holds data"},
		{"one main with data", fresh(full(1)), Adopt, "mg-1", "only MAIN with data"},
		{"one main with replicas", fresh(hasReplica(2)), Adopt, "mg-2", "data or replicas"},
		{"one main, two replicas", fresh(role(1, memgraph.RoleReplica), role(2, memgraph.RoleReplica)), Adopt, "mg-0", "only MAIN"},
		{"a main with data, replicas with data that follow nobody", healthy(none, instance(0, func(i *memgraph.Instance) { i.Replicas = nil })),
			Blocked, "", "replica mg-1 holds data and does not follow mg-0"},
		{"a main with data, a replica with data that obeys another", healthy(none, gone(2), invalid(1), func(s *memgraph.Snapshot) { s.Wanted = 2 }),
			Blocked, "", "register it there by hand"},
		{"a main with data, one of two replicas follows", healthy(none, invalid(2)), Adopt, "mg-0", "only MAIN with data"},
		{"a broken main", fresh(broken(1)), Blocked, "", "the database of mg-1 is broken, and it may have been MAIN last"},
		{"a main with data, a broken replica", fresh(full(0), role(1, memgraph.RoleReplica), broken(1)), Adopt, "mg-0", ""},
		{"two mains with data", fresh(full(0), full(2)), Blocked, "", "mg-0 and mg-2"},
		{"a main with data, another with replicas", fresh(full(0), hasReplica(2)), Blocked, "", "mg-0 and mg-2"},
		{"an empty main, a replica with data", fresh(role(1, memgraph.RoleReplica), full(1)), Blocked, "", "replica mg-1 holds data"},
		{"no main at all", fresh(role(0, memgraph.RoleReplica), role(1, memgraph.RoleReplica), role(2, memgraph.RoleReplica)), Blocked, "", "every pod is a replica"},
	} {
		t.Run(c.name, c.check)
	}
}

// Whatever a person writes into the record, it is derived anew where it contradicts
// what answers, in whatever phase and whatever is ordered.
func TestAGarbledRecordIsDerivedAnew(t *testing.T) {
	order := ordered(memgraph.OrderFailover, "mg-2")
	for name, garble := range map[string]func(*memgraph.Topology){
		"MAIN by another UID":           func(t *memgraph.Topology) { t.Main.UID = "uid-9" },
		"MAIN at another address":       func(t *memgraph.Topology) { t.Main.IP = "10.9.9.9" },
		"MAIN by another ordinal":       func(t *memgraph.Topology) { t.Main.Index, t.Main.Pod = 2, "mg-2" },
		"MAIN by one that there is not": func(t *memgraph.Topology) { t.Main.Index, t.Main.Pod = 7, "mg-7" },
		"a partner by another UID":      func(t *memgraph.Topology) { t.Partner.UID = "uid-9" },
		"a partner at another address":  func(t *memgraph.Topology) { t.Partner.IP = "10.9.9.9" },
		"a partner by another ordinal":  func(t *memgraph.Topology) { t.Partner.Index, t.Partner.Pod = 2, "mg-2" },
	} {
		for _, s := range []memgraph.Snapshot{healthy(record(garble)), healthy(record(garble), order), healthy(record(garble), paused)} {
			p := Decide(s)
			require.Equal(t, Adopt, p.Kind, "%s: %s", name, p.Reason)
			assert.Equal(t, []any{s.Pods[0].Member(), s.Pods[1].Member(), int64(8)}, []any{p.Record.Main, p.Record.Partner, p.Record.Generation}, name)
			assert.Equal(t, s.Topology.Order, p.Record.Order, "%s: it is answered next", name)
			checkPlan(t, s, p)
		}
	}
	underWayAndGarbled := healthy(underWay(memgraph.FailingOver), gone(0), record(func(t *memgraph.Topology) { t.Main.IP = "10.9.9.9" }))
	assert.Contains(t, Decide(underWayAndGarbled).Reason, "there is no record yet")
}

func TestANewClusterGetsItsFirstTwoPodsAsMainAndPartner(t *testing.T) {
	p := Decide(fresh())
	assert.Equal(t, "mg-0", p.Record.Main.Pod)
	assert.Equal(t, "mg-1", p.Record.Partner.Pod)
	assert.False(t, p.Record.InSync)
}

func TestARunningClusterIsAdoptedWithItsPartner(t *testing.T) {
	s := healthy(func(s *memgraph.Snapshot) { s.Topology = memgraph.Topology{Revision: "9"} })
	p := Decide(s)
	require.Equal(t, Adopt, p.Kind, p.Reason)
	assert.Equal(t, "mg-1", p.Record.Partner.Pod)
	assert.False(t, p.Record.InSync, "it is confirmed by itself")
	assert.Equal(t, int64(8), p.Record.Generation, "above all that was ever seen")
	assert.Equal(t, "9", p.Record.Revision, "a damaged record is replaced, not joined")
}

func TestDecideOnThePartner(t *testing.T) {
	isAsync := listed(1, func(r *memgraph.Replica) { r.Mode = memgraph.Async })
	for _, c := range []struct {
		name    string
		s       memgraph.Snapshot
		kind    Kind
		partner string
		inSync  bool
	}{
		{"no partner, the first replica is in step", healthy(noPartner, isAsync), AssignPartner, "mg-1", false},
		{"no partner, the first replica is behind", healthy(noPartner, isAsync,
			listed(1, func(r *memgraph.Replica) { r.Behind = -2 })), AssignPartner, "mg-2", false},
		{"no partner, the first replica recovers", healthy(noPartner, isAsync,
			listed(1, func(r *memgraph.Replica) { r.Status = memgraph.StatusRecovery })), AssignPartner, "mg-2", false},
		{"no partner, the first replica has diverged", healthy(noPartner, isAsync,
			instance(1, func(i *memgraph.Instance) { i.Diverged = true })), AssignPartner, "mg-2", false},
		{"no partner, the first replica is not ready", healthy(noPartner, isAsync,
			pod(1, func(p *memgraph.Pod) { p.Ready = false })), AssignPartner, "mg-2", false},
		{"no partner, the first is synchronous still, since it was lost", healthy(noPartner), AssignPartner, "mg-2", false},
		{"no partner, commits wait for who is gone", healthy(noPartner, gone(1)), Nothing, "", false},
		{"no partner, nobody in step", healthy(noPartner, gone(2)), Nothing, "", false},
		{"no partner, the first is to be registered anew", healthy(noPartner, isAsync,
			instance(1, func(i *memgraph.Instance) { i.Rejoin = true })), AssignPartner, "mg-2", false},
		{"no partner, the list is old", healthy(noPartner, isAsync,
			instance(0, func(i *memgraph.Instance) { i.ReplicasAt = now.Add(-patience - 1) })), Nothing, "", false},

		{"partner gone", healthy(gone(1)), LosePartner, "mg-2", false},
		{"partner replaced", healthy(replaced(1)), LosePartner, "mg-2", false},
		{"partner restarted, and listed as ready", healthy(restarted(1)), LosePartner, "mg-2", false},
		{"partner refuses connections", healthy(reached(1, memgraph.Refused)), LosePartner, "mg-2", false},
		{"partner terminating", healthy(terminating(1)), LosePartner, "mg-2", false},
		{"partner says main", healthy(role(1, memgraph.RoleMain)), LosePartner, "mg-2", false},
		{"partner says main and was never in sync", healthy(role(1, memgraph.RoleMain), notInSync), Nothing, "", false},
		{"partner diverged", healthy(instance(1, func(i *memgraph.Instance) { i.Diverged = true })), LosePartner, "mg-2", false},
		{"partner broken", healthy(broken(1)), LosePartner, "mg-2", false},
		{"no partner, the first replica is broken, MAIN empty", healthy(noPartner, isAsync, vertices(0, 0), broken(1), vertices(2, 0)), AssignPartner, "mg-2", false},
		{"partner gone, the third recovers", healthy(gone(1), listed(2, func(r *memgraph.Replica) { r.Status = memgraph.StatusRecovery })), LosePartner, "", false},
		{"partner gone, the list is old", healthy(gone(1),
			instance(0, func(i *memgraph.Instance) { i.ReplicasAt = now.Add(-patience - 1) })), LosePartner, "", false},
		{"partner silent for a moment", healthy(silent(1, time.Second)), Nothing, "", false},
		{"partner silent for long", healthy(silent(1, patience)), Blocked, "", false},
		{"a third pod pending", healthy(pending(2)), Nothing, "", false},
		{"a third pod unknown", healthy(unknown(2)), Nothing, "", false},
		{"all but main's list unknown to a new leader", healthy(unknown(1), unknown(2)), Nothing, "", false},

		{"in sync, listed as invalid", healthy(listed(1, func(r *memgraph.Replica) { r.Status = memgraph.StatusInvalid })), UnsyncPartner, "mg-1", false},
		{"in sync, listed as a ghost", healthy(listed(1, func(r *memgraph.Replica) { r.Status = memgraph.StatusNone })), UnsyncPartner, "mg-1", false},
		{"in sync, registered as async", healthy(isAsync), UnsyncPartner, "mg-1", false},
		{"in sync, registered as sync where strict_sync can be had", healthy(listed(1, func(r *memgraph.Replica) { r.Mode = memgraph.Sync })), Nothing, "", false},
		{"in sync, not registered", healthy(instance(0, func(i *memgraph.Instance) { i.Replicas = nil })), UnsyncPartner, "mg-1", false},
		{"in sync, busy with a commit", healthy(listed(1, func(r *memgraph.Replica) { r.Status, r.Behind = memgraph.StatusReplicating, -2 })), Nothing, "", false},

		{"not in sync, registered and in step", healthy(notInSync), ConfirmPartner, "mg-1", true},
		{"not in sync, registered as sync where strict_sync can be had", healthy(notInSync, listed(1, func(r *memgraph.Replica) { r.Mode = memgraph.Sync })), AssignPartner, "mg-1", false},
		{"not in sync, its version unknown", healthy(notInSync, instance(1, func(i *memgraph.Instance) { i.Version = memgraph.Version{} })), Nothing, "", false},
		{"not in sync, to be registered anew", healthy(notInSync, instance(1, func(i *memgraph.Instance) { i.Rejoin = true })), Nothing, "", false},
		{"not in sync, behind", healthy(notInSync, listed(1, func(r *memgraph.Replica) { r.Behind = -2 })), Nothing, "", false},
		{"not in sync, registered as async", healthy(notInSync, isAsync), AssignPartner, "mg-1", false},
		{"not in sync, registered as async and behind", healthy(notInSync, isAsync,
			listed(1, func(r *memgraph.Replica) { r.Behind = -2 })), Nothing, "", false},
		{"not in sync, listed after it was asked", healthy(notInSync,
			instance(0, func(i *memgraph.Instance) { i.ReplicasAt = now.Add(1) })), Nothing, "", false},
		{"not in sync, silent", healthy(notInSync, reached(1, memgraph.Silent)), Nothing, "", false},

		{"protecting", healthy(protecting(1)), LosePartner, "mg-1", false},
		{"protecting by nobody", healthy(protecting(1), noPartner), LosePartner, "", false},
		{"protecting, who was to be partner is gone", healthy(protecting(1), gone(1)), LosePartner, "mg-2", false},
		{"protecting, who was to be partner is silent", healthy(protecting(1), silent(1, time.Second)), LosePartner, "mg-2", false},
		{"protecting, a version is not known", healthy(protecting(1), instance(1, func(i *memgraph.Instance) { i.Version = memgraph.Version{} })), Waiting, "", false},
		{"protecting, main is terminating", healthy(protecting(1), terminating(0)), LosePartner, "mg-1", false},
		{"protecting, main is gone", healthy(protecting(1), gone(0)), Blocked, "", false},
		{"protecting, main is silent", healthy(protecting(1), silent(0, time.Second)), Waiting, "", false},

		{"main's replicas are not known", healthy(notInSync,
			instance(0, func(i *memgraph.Instance) { i.ReplicasAt = time.Time{} })), Nothing, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Decide(c.s)
			require.Equal(t, c.kind, p.Kind, p.Reason)
			checkPlan(t, c.s, p)
			if !p.Idle() {
				assert.Equal(t, c.partner, p.Record.Partner.Pod)
				assert.Equal(t, c.inSync, p.Record.InSync)
				assert.Equal(t, c.s.Topology.Main, p.Record.Main)
			}
		})
	}
}

func TestAHandoverDemotesTheLivingMainAndTakesItsReplicas(t *testing.T) {
	p := Decide(healthy(terminating(0)))
	require.Equal(t, Handover, p.Kind)
	assert.Equal(t, memgraph.Switching, p.Record.Phase)
	require.NotNil(t, p.Demote)
	assert.Equal(t, "mg-0", p.Demote.Name)
	assert.Equal(t, "mg-1", p.Promote.Name)
	require.Len(t, p.Register, 1)
	assert.Equal(t, "mg-2", p.Register[0].Pod.Name)
	assert.Equal(t, "mg-0", p.Record.Pending.From.Pod)
}

func TestAFailoverRegistersOnlyWhoFollowsAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		s    memgraph.Snapshot
		want int
	}{
		"a ready replica":                 {healthy(gone(0)), 1},
		"a silent one":                    {healthy(gone(0), reached(2, memgraph.Silent)), 0},
		"one that is terminating":         {healthy(gone(0), terminating(2)), 0},
		"one that says main":              {healthy(gone(0), role(2, memgraph.RoleMain)), 0},
		"one with data that the heir has": {healthy(gone(0), vertices(1, 5)), 1},
		"one with data, the heir empty":   {healthy(gone(0), vertices(1, 0)), 0},
		"one whose data is not known":     {healthy(gone(0), instance(2, func(i *memgraph.Instance) { i.StorageAt = time.Time{} })), 0},
		"an empty cluster":                {healthy(gone(0), vertices(1, 0), vertices(2, 0)), 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := Decide(c.s)
			require.Equal(t, Failover, p.Kind)
			assert.Len(t, p.Register, c.want)
		})
	}
}

func TestAResumedHandoverDemotesOnlyWhoIsMainStill(t *testing.T) {
	p := Decide(healthy(underWay(memgraph.Switching)))
	require.Equal(t, Resume, p.Kind)
	require.NotNil(t, p.Demote)
	assert.Equal(t, "mg-0", p.Demote.Name)
	assert.True(t, p.Written, "what is on record is not written again")

	for name, s := range map[string]memgraph.Snapshot{
		"it was demoted":    healthy(underWay(memgraph.Switching), role(0, memgraph.RoleReplica)),
		"it is gone":        healthy(underWay(memgraph.Switching), gone(0)),
		"it has restarted":  healthy(underWay(memgraph.Switching), restarted(0)),
		"it was a failover": healthy(underWay(memgraph.FailingOver)),
	} {
		p := Decide(s)
		assert.Equal(t, Resume, p.Kind, name)
		assert.Nil(t, p.Demote, name)
	}
}

// A target that restarted is MAIN in a new generation, of the change that was
// begun: its history tells who was MAIN before.
func TestARestartedTargetKeepsWhereTheChangeCameFrom(t *testing.T) {
	p := Decide(healthy(underWay(memgraph.FailingOver), restarted(1)))
	require.Equal(t, Failover, p.Kind)
	assert.Equal(t, "mg-0", p.Record.Pending.From.Pod)
	assert.Equal(t, "run-1b", p.Record.Main.RunID)
	assert.Nil(t, p.Demote)

	p = Decide(healthy(underWay(memgraph.FailingOver), restarted(1), role(1, memgraph.RoleMain)))
	require.NotNil(t, p.Demote, "it may be back in the old epoch")
	assert.Equal(t, p.Promote.UID, p.Demote.UID)
}

// What is adopted as partner follows MAIN already.
func TestAnAdoptedPartnerIsInStep(t *testing.T) {
	adopted := func(edits ...edit) string {
		p := Decide(healthy(append(edits, func(s *memgraph.Snapshot) { s.Topology = memgraph.Topology{} })...))
		require.Equal(t, Adopt, p.Kind)
		return p.Record.Partner.Pod
	}
	assert.Equal(t, "mg-1", adopted())
	assert.Empty(t, adopted(listed(1, func(r *memgraph.Replica) { r.Status = memgraph.StatusRecovery })))
	assert.Empty(t, adopted(listed(1, func(r *memgraph.Replica) { r.Mode = memgraph.Async })))
	assert.Empty(t, adopted(role(1, memgraph.RoleMain), vertices(1, 0), listing(1)), "a MAIN follows nobody")
}

// The new MAIN's partner is named with it, if it has nothing to catch up on: it
// is registered synchronously at once, and never by way of async.
func TestANewMainBeginsWithAPartnerThatIsNear(t *testing.T) {
	for name, c := range map[string]struct {
		edits   []edit
		partner string
		mode    memgraph.SyncMode
	}{
		"lately in step":              {nil, "mg-2", memgraph.StrictSync},
		"of a version without strict": {[]edit{instance(2, func(in *memgraph.Instance) { in.Version = memgraph.Version{Major: 3, Minor: 5} })}, "mg-2", memgraph.Sync},
		"of an unknown version":       {[]edit{instance(2, func(in *memgraph.Instance) { in.Version = memgraph.Version{} })}, "", memgraph.Async},
		"in step long ago":            {[]edit{instance(2, func(in *memgraph.Instance) { in.NearAt = now.Add(-time.Minute) })}, "", memgraph.Async},
		"nothing is known yet":        {[]edit{instance(2, func(in *memgraph.Instance) { in.ListedAt, in.NearAt = time.Time{}, time.Time{} })}, "mg-2", memgraph.StrictSync},
		"never in step":               {[]edit{instance(2, func(in *memgraph.Instance) { in.NearAt = time.Time{} })}, "", memgraph.Async},
		"was wiped":                   {[]edit{instance(2, func(in *memgraph.Instance) { in.Rejoin = true })}, "", memgraph.Async},
		"empty":                       {[]edit{vertices(2, 0)}, "", memgraph.Async},
		"empty, as is MAIN":           {[]edit{vertices(2, 0), vertices(1, 0)}, "mg-2", memgraph.StrictSync},
		"not known what it holds":     {[]edit{vertices(1, 0), vertices(2, 0), instance(1, func(in *memgraph.Instance) { in.StorageAt = time.Time{} })}, "", ""},
	} {
		p := Decide(healthy(append(c.edits, gone(0))...))
		require.Equal(t, Failover, p.Kind, name)
		assert.Equal(t, c.partner, p.Record.Partner.Pod, name)
		assert.False(t, p.Record.InSync, name)
		if c.mode == "" {
			assert.Empty(t, p.Register, name)
			continue
		}
		require.Len(t, p.Register, 1, name)
		assert.Equal(t, c.mode, p.Register[0].Mode, name)
	}
}

// A pod that was deleted by force is gone before its process is: that may still
// acknowledge writes, and is demoted before another is promoted.
func TestALeftoverMainIsHandedOver(t *testing.T) {
	for name, s := range map[string]memgraph.Snapshot{
		"gone":     healthy(gone(0), leftover(alive)),
		"replaced": healthy(replaced(0), leftover(alive)),
	} {
		p := Decide(s)
		require.Equal(t, Handover, p.Kind, name)
		assert.Equal(t, "10.0.0.0:7687", p.Demote.Addr(), name)
		assert.Equal(t, memgraph.Switching, p.Record.Phase, name)
		assert.Contains(t, p.Reason, "is gone, its process is not yet", name)
	}
	assert.Equal(t, Waiting, Decide(healthy(gone(0), leftover(alive), notInSync)).Kind, "nobody can take over")
	for name, other := range map[string]func(*memgraph.Pod){
		"another process at its address": func(p *memgraph.Pod) { p.Instance.RunID = "run-9" },
		"it is a replica by now":         func(p *memgraph.Pod) { p.Instance.Role = memgraph.RoleReplica },
		"it is silent":                   func(p *memgraph.Pod) { p.Instance.Reach = memgraph.Silent },
	} {
		p := Decide(healthy(gone(0), leftover(other)))
		assert.Equal(t, Failover, p.Kind, name)
		assert.Nil(t, p.Demote, name)
	}
	resumed := Decide(healthy(underWay(memgraph.Switching), gone(0), leftover(alive)))
	require.Equal(t, Resume, resumed.Kind)
	assert.Equal(t, "10.0.0.0:7687", resumed.Demote.Addr())
}

// checkPlan asserts what holds for every plan: the package's invariants.
func checkPlan(t *testing.T, s memgraph.Snapshot, p Plan) {
	t.Helper()
	assert.NotEmpty(t, p.Reason, "a plan says why")
	if p.Idle() {
		assert.Zero(t, p.Record.Generation, "a plan that changes nothing carries nothing")
		return
	}
	require.NoError(t, p.Record.Validate())
	assert.Equal(t, s.Topology.Revision, p.Record.Revision, "invariant 1: written on what was decided on")
	switch {
	case p.Written:
		assert.Equal(t, s.Topology, p.Record)
	case p.ChangesMain():
		assert.Equal(t, max(s.Floor, s.Topology.Generation)+1, p.Record.Generation, "invariant 3")
		assert.False(t, p.Record.InSync, "invariant 4")
	default:
		assert.Equal(t, s.Topology.Generation, p.Record.Generation, "invariant 3")
	}
	if p.Kind == Failover || p.Kind == Handover {
		partner := s.Topology.Partner
		if s.Topology.Phase == memgraph.Stable {
			assert.True(t, s.Topology.InSync, "invariant 2")
			assert.Equal(t, []string{partner.UID, partner.RunID}, []string{p.Record.Main.UID, p.Record.Main.RunID}, "invariant 2: the same process")
		}
	}
	next, known := s.Pod(p.Record.Main.Index)
	if p.ChangesMain() && known && p.Kind != Failover && p.Kind != Handover && p.Kind != Resume {
		assert.False(t, emptyBesideData(s, next), "invariant 5")
	}
}

// emptyBesideData holds for a pod without data while another is known to hold
// some, unless it is known to be the recorded database.
func emptyBesideData(s memgraph.Snapshot, p memgraph.Pod) bool {
	same := s.Topology.Main.Database != "" && s.Topology.Main.Database == p.Instance.Storage.Database
	if same || p.Instance.Storage.Vertices > 0 {
		return false
	}
	for _, o := range s.Pods {
		if o.Instance.Storage.Vertices > 0 {
			return true
		}
	}
	return false
}

// A MAIN that says nothing may live, whoever decides to replace it: what it told clients
// last must not count any more when another is MAIN.
func TestClientsAreKeptFromAMainThatMayLive(t *testing.T) {
	for name, c := range map[string]struct {
		s    memgraph.Snapshot
		want bool
	}{
		"it hangs":                         {healthy(stuck(0, memgraph.Hung)), true},
		"it hangs, and an operator forces": {healthy(stuck(0, memgraph.Hung), noPartner, ordered(memgraph.OrderFailover, "mg-2")), true},
		"it is gone":                       {healthy(gone(0)), false},
		"it is gone, an operator forces":   {healthy(gone(0), gone(1), ordered(memgraph.OrderFailover, "mg-2")), false},
		"it lives, and is to go":           {healthy(ordered(memgraph.OrderSwitchover, "")), false},
	} {
		plan := Decide(c.s)
		assert.True(t, plan.ChangesMain(), name)
		assert.Equal(t, c.want, plan.Undead, name)
	}
}
