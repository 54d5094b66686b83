package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// edit makes a snapshot differ from a healthy cluster.
type edit func(*memgraph.Snapshot)

// healthy is a cluster of three as its record wants it: pod 0 is MAIN, pod 1 its
// partner in sync, pod 2 an async replica.
func healthy(edits ...edit) memgraph.Snapshot {
	s := memgraph.Snapshot{Now: now, Cluster: "mg", Wanted: 3}
	for i := range 3 {
		s.Pods = append(s.Pods, memgraph.Pod{
			Name: memgraph.PodName("mg", i), Index: i, UID: fmt.Sprintf("uid-%d", i), IP: fmt.Sprintf("10.0.0.%d", i),
			Host: memgraph.PodName("mg", i) + ".mg.ns.svc", Container: "c", Running: true, Ready: true,
			Instance: memgraph.Instance{
				Reach: memgraph.Answered, Asked: now,
				Identity: memgraph.Identity{Role: memgraph.RoleReplica, RunID: fmt.Sprintf("run-%d", i)},
				Storage:  memgraph.StorageInfo{Vertices: 10}, StorageAt: now,
				Version: memgraph.Version{Major: 3, Minor: 12},
			},
		})
	}
	main := &s.Pods[0].Instance
	main.Role, main.ReplicasAt = memgraph.RoleMain, now
	main.Replicas = []memgraph.Replica{row(1, memgraph.StrictSync), row(2, memgraph.Async)}
	s.Topology = memgraph.Topology{
		Main: s.Pods[0].Member(), Partner: s.Pods[1].Member(), InSync: true,
		Generation: 1, Phase: memgraph.Stable,
	}
	for _, e := range edits {
		e(&s)
	}
	return s
}

func row(i int, mode memgraph.SyncMode) memgraph.Replica {
	return memgraph.Replica{
		Name: fmt.Sprintf("mg_%d", i), Address: fmt.Sprintf("10.0.0.%d:10000", i), Mode: mode, Status: memgraph.StatusReady,
	}
}

func pod(i int, change func(*memgraph.Pod)) edit {
	return func(s *memgraph.Snapshot) { change(&s.Pods[i]) }
}

func instance(i int, change func(*memgraph.Instance)) edit {
	return pod(i, func(p *memgraph.Pod) { change(&p.Instance) })
}

func reached(i int, r memgraph.Reach) edit {
	return instance(i, func(in *memgraph.Instance) { in.Reach = r })
}

func unready(i int) edit { return pod(i, func(p *memgraph.Pod) { p.Ready = false }) }

func isMain(i int) edit {
	return instance(i, func(in *memgraph.Instance) { in.Role = memgraph.RoleMain })
}

func listed(i int, change func(*memgraph.Replica)) edit {
	return instance(0, func(in *memgraph.Instance) { change(&in.Replicas[i-1]) })
}

func status(i int, st memgraph.ReplicaStatus) edit {
	return listed(i, func(r *memgraph.Replica) { r.Status = st })
}

// lost has MAIN call a replica invalid for long.
func lost(i int) edit {
	return listed(i, func(r *memgraph.Replica) { r.Status, r.InvalidSince = memgraph.StatusInvalid, now.Add(-time.Minute) })
}

func evicted(i int) edit { return listed(i, func(r *memgraph.Replica) { r.Evicted = "uid-before" }) }

// deaf has nobody listen for MAIN in pod i.
func deaf(i int, since time.Duration) edit {
	return instance(i, func(in *memgraph.Instance) { in.DeafSince, in.DeafAt = now.Add(-since), now })
}

// broken is what a process says of data that it could not recover.
func broken(i int) edit {
	return instance(i, func(in *memgraph.Instance) { in.Storage.Vertices, in.Storage.Broken = 0, true })
}

func unlisted(i int) edit {
	return instance(0, func(in *memgraph.Instance) { in.Replicas = slices.Delete(in.Replicas, i-1, i) })
}

// ordered is an order to the incarnation uid of pod i to start empty.
func ordered(i int, uid string) edit {
	return func(s *memgraph.Snapshot) {
		s.Topology.Reseed = &memgraph.Reseed{Pod: memgraph.PodName("mg", i), UID: uid, Reason: "it has diverged"}
	}
}

func database(i int, id string) edit {
	return instance(i, func(in *memgraph.Instance) { in.Storage.Database = id })
}

func gone(i int) edit {
	return func(s *memgraph.Snapshot) { s.Pods = slices.Delete(s.Pods, i, i+1) }
}

func noPartner(s *memgraph.Snapshot) {
	s.Topology.Partner, s.Topology.InSync = memgraph.Member{}, false
}

func notInSync(s *memgraph.Snapshot) { s.Topology.InSync = false }

// words are steps without their reasons.
func words(steps []Step) []string {
	out := []string{}
	for _, s := range steps {
		w := fmt.Sprintf("%s %s", s.Verb, s.Replica)
		if s.Verb == Register {
			w += " " + string(s.Mode)
		}
		out = append(out, w)
	}
	return out
}

func TestDiff(t *testing.T) {
	type steps = []string
	for _, c := range []struct {
		name string
		s    memgraph.Snapshot
		want steps
	}{
		{"all is as the record wants it", healthy(), steps{}},

		{"a MAIN without right", healthy(isMain(2), unlisted(2)), steps{"demote mg_2", "register mg_2 async"}},
		{"a MAIN without right that is registered, and so was wiped", healthy(isMain(2)),
			steps{"demote mg_2", "drop mg_2", "register mg_2 async"}},
		{"a MAIN without right whose registration recovers", healthy(isMain(2), status(2, memgraph.StatusRecovery)), steps{"demote mg_2"}},
		{"a MAIN without right, its data unknown", healthy(isMain(2), unlisted(2),
			instance(2, func(i *memgraph.Instance) { i.StorageAt = time.Time{} })), steps{}},

		{"a replica that is to start empty", healthy(ordered(2, "uid-2"), unlisted(2)), steps{"evict mg_2"}},
		{"a replica that is to start empty and does not run", healthy(ordered(2, "uid-2"), unready(2)), steps{"evict mg_2"}},
		{"a replica that is to start empty and is going", healthy(ordered(2, "uid-2"), pod(2, func(p *memgraph.Pod) { p.Terminating = true })), steps{}},
		{"a replica that has started empty", healthy(ordered(2, "uid-before"), unlisted(2)), steps{"register mg_2 async"}},
		{"the partner in sync is to start empty, whoever said so", healthy(ordered(1, "uid-1")), steps{}},
		{"MAIN is to start empty, whoever said so", healthy(ordered(0, "uid-0")), steps{}},
		{"a replica of another database", healthy(lost(2), database(0, "a"), database(2, "b")), steps{}},

		{"a replica without registration", healthy(unlisted(2)), steps{"register mg_2 async"}},
		{"a replica without registration that is deaf", healthy(unlisted(2), deaf(2, time.Minute)), steps{"evict mg_2"}},
		{"a replica without registration that is deaf for a moment", healthy(unlisted(2), deaf(2, time.Second)), steps{"register mg_2 async"}},
		{"a replica without registration that is deaf, while paused", healthy(unlisted(2), deaf(2, time.Minute), func(s *memgraph.Snapshot) { s.Topology.Paused = new(memgraph.Pause) }), steps{}},
		{"the partner without registration, far behind: async first", healthy(notInSync, unlisted(1),
			instance(1, func(i *memgraph.Instance) { i.ListedAt = now })), steps{"register mg_1 async"}},
		{"the partner without registration, near", healthy(notInSync, unlisted(1),
			instance(1, func(i *memgraph.Instance) { i.ListedAt, i.NearAt = now, now })), steps{"register mg_1 strict_sync"}},
		{"a partner of which nothing is known", healthy(notInSync, unlisted(1)), steps{"register mg_1 strict_sync"}},
		{"a ghost", healthy(status(2, memgraph.StatusNone)), steps{"drop mg_2", "register mg_2 async"}},
		{"listed as diverged, as a ghost is once MAIN has restarted", healthy(status(2, memgraph.StatusDiverged)),
			steps{"drop mg_2", "register mg_2 async"}},
		{"known to have diverged, and listed so", healthy(status(2, memgraph.StatusDiverged),
			instance(2, func(i *memgraph.Instance) { i.Diverged = true })), steps{}},
		{"another address, the old process noticed as gone", healthy(listed(2, func(r *memgraph.Replica) {
			r.Address, r.Status = "10.0.0.99:10000", memgraph.StatusInvalid
		})), steps{"drop mg_2", "register mg_2 async"}},
		{"another address, not noticed yet", healthy(listed(2, func(r *memgraph.Replica) { r.Address = "10.0.0.99:10000" })), steps{}},
		{"listed by a registration from before it was wiped", healthy(instance(2, func(i *memgraph.Instance) { i.Rejoin = true })),
			steps{"drop mg_2", "register mg_2 async"}},
		{"its name leads to another pod's address, which is alive", healthy(listed(2, func(r *memgraph.Replica) { r.Address = "10.0.0.1:10000" })),
			steps{"drop mg_2", "register mg_2 async"}},
		{"its name leads to another pod's address, which is dead", healthy(reached(1, memgraph.Refused), noPartner, unlisted(1),
			instance(0, func(i *memgraph.Instance) {
				i.Replicas[0].Address, i.Replicas[0].Status = "10.0.0.1:10000", memgraph.StatusInvalid
			})), steps{"drop mg_2", "register mg_2 async"}},
		{"a second registration of a pod, under a foreign name", healthy(instance(0, func(i *memgraph.Instance) {
			i.Replicas = append(i.Replicas, memgraph.Replica{Name: "r2", Address: "10.0.0.2:10000", Mode: memgraph.Async, Status: memgraph.StatusReady})
		})), steps{"drop r2"}},
		{"registered by its full name", healthy(listed(2, func(r *memgraph.Replica) { r.Address = "mg-2.mg.ns.svc.cluster.local:10000" })), steps{}},
		{"registered by its short name", healthy(listed(2, func(r *memgraph.Replica) { r.Address = "mg-2.mg:10000" })), steps{}},
		{"registered by name", healthy(listed(2, func(r *memgraph.Replica) { r.Address = "mg-2.mg.ns.svc:10000" })), steps{}},
		{"registered under a foreign name", healthy(listed(2, func(r *memgraph.Replica) { r.Name = "r2" })), steps{}},

		{"an async replica that MAIN has lost", healthy(lost(2)), steps{"evict mg_2"}},
		{"an async replica that MAIN has just lost", healthy(lost(2), instance(0, func(i *memgraph.Instance) {
			i.Replicas[1].InvalidSince = now.Add(-time.Second)
		})), steps{}},
		{"an async replica that MAIN has lost, of which a new process has just begun", healthy(lost(2), instance(2, func(i *memgraph.Instance) {
			i.Since = now.Add(-3 * time.Second)
		})), steps{}},
		{"an async replica that MAIN has lost, while another pod is away", healthy(lost(2), noPartner, unready(1)), steps{"drop mg_1"}},
		{"an async replica that MAIN has lost, evicted just now", healthy(lost(2), listed(2, func(r *memgraph.Replica) { r.Evicted = "uid-2" })), steps{}},
		{"an async replica that MAIN has lost, evicted in vain", healthy(lost(2), evicted(2)), steps{"evict mg_2"}},
		{"an async replica that MAIN has lost, while paused", healthy(lost(2), func(s *memgraph.Snapshot) { s.Topology.Paused = new(memgraph.Pause) }), steps{}},
		{"two replicas that MAIN has lost", healthy(lost(1), lost(2), noPartner), steps{"evict mg_1"}},
		{"an async replica that MAIN has lost and that was evicted", healthy(lost(2), evicted(2), gone(2)), steps{"drop mg_2"}},
		{"an async replica that MAIN has lost and that went by itself", healthy(lost(2), gone(2)), steps{}},
		{"an async replica that MAIN has lost, its next pod not running yet", healthy(lost(2), evicted(2), pod(2, func(p *memgraph.Pod) {
			p.Ready, p.Running, p.Instance = false, false, memgraph.Instance{}
		})), steps{"drop mg_2"}},
		{"a synchronous replica that MAIN has lost, while another pod is away", healthy(lost(1), noPartner, unready(2)), steps{"evict mg_1"}},
		{"the partner in sync that MAIN has just lost", healthy(lost(1)), steps{}},
		{"the partner in step, async still", healthy(notInSync, listed(1, func(r *memgraph.Replica) { r.Mode = memgraph.Async })), steps{}},
		{"the partner a ghost while the record says in sync", healthy(status(1, memgraph.StatusNone)), steps{}},
		{"the partner a MAIN while the record says in sync", healthy(isMain(1)), steps{}},
		{"the wrong mode while the record says in sync", healthy(listed(1, func(r *memgraph.Replica) { r.Mode = memgraph.Sync })), steps{}},
		{"synchronous without being the partner", healthy(noPartner), steps{"drop mg_1", "register mg_1 async"}},

		{"a pod that is not ready", healthy(unready(2), unlisted(2)), steps{}},
		{"a silent pod", healthy(reached(2, memgraph.Silent), unlisted(2)), steps{}},
		{"a terminating pod", healthy(unlisted(2), pod(2, func(p *memgraph.Pod) { p.Terminating = true })), steps{}},
		{"a diverged pod", healthy(unlisted(2), instance(2, func(i *memgraph.Instance) { i.Diverged = true })), steps{}},

		{"a dead former partner, noticed", healthy(noPartner, unready(1), reached(1, memgraph.Refused), status(1, memgraph.StatusInvalid)), steps{"drop mg_1"}},
		{"a dead former partner, not noticed yet", healthy(noPartner, unready(1), reached(1, memgraph.Refused)), steps{}},
		{"a hung former partner", healthy(noPartner, unready(1), reached(1, memgraph.Silent), status(1, memgraph.StatusInvalid)), steps{}},
		{"a former partner that is gone, noticed", healthy(noPartner, status(1, memgraph.StatusInvalid), gone(1)), steps{"drop mg_1"}},
		{"a former partner that is gone, recovering", healthy(noPartner, status(1, memgraph.StatusRecovery), gone(1)), steps{}},
		{"a former partner that is about to end", healthy(noPartner, pod(1, func(p *memgraph.Pod) { p.Terminating = true })), steps{"drop mg_1"}},
		{"an async replica that is gone for now", healthy(status(2, memgraph.StatusInvalid), gone(2)), steps{}},
		{"an async replica beyond the StatefulSet", healthy(status(2, memgraph.StatusInvalid), gone(2),
			func(s *memgraph.Snapshot) { s.Wanted = 2 }), steps{"drop mg_2"}},
		{"a registration that nobody knows", healthy(instance(0, func(i *memgraph.Instance) {
			i.Replicas = append(i.Replicas, memgraph.Replica{Name: "x", Address: "10.9.9.9:10000", Mode: memgraph.Async})
		})), steps{"drop x"}},

		{"an empty MAIN and a replica with data: invariant 4", healthy(unlisted(2),
			instance(0, func(i *memgraph.Instance) { i.Storage.Vertices = 0 })), steps{}},
		{"an empty MAIN whose commits wait for a replica with data that it has lost", healthy(lost(1), noPartner,
			instance(0, func(i *memgraph.Instance) { i.Storage.Vertices = 0 })), steps{"evict mg_1"}},
		{"an empty MAIN that has lost an async replica with data", healthy(lost(2), noPartner, gone(1),
			instance(0, func(i *memgraph.Instance) { i.Storage.Vertices, i.Replicas = 0, i.Replicas[1:] })), steps{}},
		{"commits wait for a replica that has diverged", healthy(lost(1), noPartner,
			instance(1, func(i *memgraph.Instance) { i.Diverged = true })), steps{"evict mg_1"}},
		{"a broken MAIN and empty replicas", healthy(unlisted(2), broken(0), func(s *memgraph.Snapshot) { s.Pods[2].Instance.Storage.Vertices = 0 }), steps{}},
		{"a broken replica", healthy(unlisted(2), broken(2)), steps{}},
		{"a broken MAIN without right", healthy(unlisted(2), broken(2), isMain(2)), steps{}},
		{"commits wait for a replica that is broken", healthy(lost(1), noPartner, broken(1)), steps{"evict mg_1"}},
		{"an empty cluster", healthy(unlisted(2), func(s *memgraph.Snapshot) {
			for i := range s.Pods {
				s.Pods[i].Instance.Storage.Vertices = 0
			}
		}), steps{"register mg_2 async"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := Diff(c.s)
			assert.Equal(t, c.want, words(got))
			checkSteps(t, c.s, got)
		})
	}
}

func TestAnEmptyMainRegistersNobodyWhoHoldsData(t *testing.T) {
	empty := instance(0, func(i *memgraph.Instance) { i.Storage.Vertices = 0 })
	for _, c := range []edit{unlisted(2), status(2, memgraph.StatusNone), isMain(2)} {
		assert.Empty(t, Diff(healthy(c, empty)), "invariant 4")
		assert.NotEmpty(t, Diff(healthy(c)), "but for that")
	}
}

// MAIN may list one that came back empty as ready, and 0 behind.
func TestAWipedReplicaIsRegisteredAnew(t *testing.T) {
	s := healthy(isMain(2), lately(2), instance(2, func(i *memgraph.Instance) { i.Storage.Vertices = 0 }))
	assert.Equal(t, []string{"demote mg_2", "drop mg_2", "register mg_2 async"}, words(Diff(s)))
	s.Pods[2].Instance.Role = memgraph.RoleReplica // somebody else was faster
	ready, known := Ready(s, s.Pods[2])
	assert.True(t, known)
	assert.Equal(t, notNear, ready)
}

// All writes fail while a synchronous replica catches up.
func TestWhoMustCatchUpIsRegisteredAsyncFirst(t *testing.T) {
	for _, behind := range []edit{
		instance(1, func(i *memgraph.Instance) { i.ListedAt = now }), // and never near
		instance(1, func(i *memgraph.Instance) { i.Storage.Vertices = 0 }),
		pod(1, func(p *memgraph.Pod) { p.UID = "uid-1b" }),
	} {
		assert.Equal(t, []string{"register mg_1 async"}, words(Diff(healthy(notInSync, unlisted(1), behind))))
	}
}

func TestNothingIsDoneUnlessTheRecordedMainSaysSo(t *testing.T) {
	broken := unlisted(2)
	for name, s := range map[string]memgraph.Snapshot{
		"it changes":                 healthy(broken, func(s *memgraph.Snapshot) { s.Topology.Phase = memgraph.FailingOver }),
		"its pod is gone":            healthy(broken, gone(0)),
		"its pod was replaced":       healthy(broken, pod(0, func(p *memgraph.Pod) { p.UID = "other" })),
		"it restarted":               healthy(broken, instance(0, func(i *memgraph.Instance) { i.RunID = "other" })),
		"it is a replica":            healthy(broken, instance(0, func(i *memgraph.Instance) { i.Role = memgraph.RoleReplica })),
		"it is silent":               healthy(broken, reached(0, memgraph.Silent)),
		"its replicas are not known": healthy(broken, instance(0, func(i *memgraph.Instance) { i.ReplicasAt = time.Time{} })),
		"its list is old":            healthy(broken, instance(0, func(i *memgraph.Instance) { i.ReplicasAt = now.Add(-listAge - 1) })),
		"its data is not known":      healthy(broken, instance(0, func(i *memgraph.Instance) { i.StorageAt = time.Time{} })),
	} {
		assert.Empty(t, Diff(s), "%s: invariant 2", name)
	}
}

// checkSteps asserts what holds for all steps: the package's invariants.
func checkSteps(t *testing.T, s memgraph.Snapshot, steps []Step) {
	t.Helper()
	for _, step := range steps {
		assert.NotEmpty(t, step.Reason)
		assert.NotEqual(t, s.Topology.Main.UID, step.Pod.UID, "invariant 2")
		if step.Verb != Drop && step.Verb != Evict && step.Pod.UID != "" {
			assert.True(t, step.Pod.Fit(), "invariant 5")
		}
		if step.Verb == Drop {
			assert.True(t, survives(s, step.Replica), "invariant 3: drop %s", step.Replica)
		}
	}
}

// survives tells, from the cases that were observed, whether MAIN survives the
// DROP of a replica: a ghost, one whose process answers and that is ready, refused as
// diverged or just found to be a MAIN, or one whose process is gone or has not begun and that
// MAIN calls invalid.
func survives(s memgraph.Snapshot, name string) bool {
	i := slices.IndexFunc(s.Pods[0].Instance.Replicas, func(r memgraph.Replica) bool { return r.Name == name })
	r := s.Pods[0].Instance.Replicas[i]
	if r.Ghost() {
		return true
	}
	behind := slices.IndexFunc(s.Pods, func(p memgraph.Pod) bool { return strings.HasPrefix(r.Address, p.IP+":") })
	if behind < 0 {
		return r.Status == memgraph.StatusInvalid
	}
	p := s.Pods[behind]
	return p.Instance.Reach == memgraph.Answered && (r.Status == memgraph.StatusReady || r.Status == memgraph.StatusDiverged || p.Instance.Role == memgraph.RoleMain) ||
		(p.Instance.Reach == memgraph.Refused || !p.Running) && r.Status == memgraph.StatusInvalid
}

// apply is what a Memgraph makes of steps, once it has come to rest.
func apply(s *memgraph.Snapshot, steps []Step) {
	main := &s.Pods[slices.IndexFunc(s.Pods, func(p memgraph.Pod) bool { return p.UID == s.Topology.Main.UID })].Instance
	for _, step := range steps {
		switch step.Verb {
		case Demote:
			i := slices.IndexFunc(s.Pods, func(p memgraph.Pod) bool { return p.UID == step.Pod.UID })
			s.Pods[i].Instance.Role = memgraph.RoleReplica
		case Drop:
			main.Replicas = slices.DeleteFunc(main.Replicas, func(r memgraph.Replica) bool { return r.Name == step.Replica })
		case Register:
			main.Replicas = append(main.Replicas, memgraph.Replica{
				Name: step.Replica, Address: step.Pod.ReplicationAddr(), Mode: step.Mode, Status: memgraph.StatusReady,
			})
		}
	}
}

// From every combination of what may be wrong with two pods, applying the steps
// comes to a cluster that needs none, in at most three rounds: invariant 1.
func TestDiffComesToRest(t *testing.T) {
	wrongs := []edit{
		func(*memgraph.Snapshot) {}, isMain(1), isMain(2), status(1, memgraph.StatusNone), status(2, memgraph.StatusNone),
		listed(1, func(r *memgraph.Replica) { r.Mode = memgraph.Async }), listed(2, func(r *memgraph.Replica) { r.Mode = memgraph.StrictSync }),
		listed(1, func(r *memgraph.Replica) { r.Address, r.Status = "10.1.1.1:10000", memgraph.StatusInvalid }),
		listed(2, func(r *memgraph.Replica) { r.Address, r.Status = "10.1.1.1:10000", memgraph.StatusInvalid }),
		noPartner, notInSync,
		instance(0, func(i *memgraph.Instance) { i.Replicas = nil }),
		func(s *memgraph.Snapshot) {
			s.Pods[0].Instance.Replicas = append(s.Pods[0].Instance.Replicas, memgraph.Replica{Name: "x"})
		},
	}
	for i, a := range wrongs {
		for j, b := range wrongs {
			if i == 11 && j != 11 { // what is not listed cannot be edited
				continue
			}
			s := healthy(notInSync, a, b)
			rounds := 0
			for steps := Diff(s); len(steps) > 0; steps = Diff(s) {
				require.Less(t, rounds, 3, "wrong %d and %d: %v", i, j, steps)
				apply(&s, steps)
				rounds++
			}
			for _, p := range s.Pods[1:] {
				r, ok := s.Registration(s.Pods[0], p)
				require.True(t, ok, "wrong %d and %d: %s is registered", i, j, p.Name)
				assert.True(t, p.UID == s.Topology.Partner.UID || r.Mode == memgraph.Async, "wrong %d and %d: %s", i, j, p.Name)
			}
		}
	}
}
