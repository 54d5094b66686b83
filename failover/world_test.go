package failover

import (
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

// now is when every snapshot of these tests is taken.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// edit makes a snapshot differ from a healthy cluster.
type edit func(*memgraph.Snapshot)

// healthy is a cluster of three as its record says: pod 0 is MAIN, pod 1 its
// partner in sync, pod 2 an async replica. Every edit changes one thing.
func healthy(edits ...edit) memgraph.Snapshot {
	s := memgraph.Snapshot{Now: now, Cluster: "mg", Wanted: 3, Floor: 7}
	for i := range 3 {
		s.Pods = append(s.Pods, replica(i))
	}
	s.Pods[0].Instance.Role = memgraph.RoleMain
	s.Pods[0].Instance.ReplicasAt = now.Add(-time.Second)
	s.Pods[0].Instance.Replicas = []memgraph.Replica{
		{Name: "mg_1", Address: "10.0.0.1:10000", Mode: memgraph.StrictSync, Status: memgraph.StatusReady, Timestamp: 40},
		{Name: "mg_2", Address: "10.0.0.2:10000", Mode: memgraph.Async, Status: memgraph.StatusReady, Timestamp: 40},
	}
	s.Topology = memgraph.Topology{
		Main: s.Pods[0].Member(), Partner: s.Pods[1].Member(), InSync: true,
		Generation: 7, Phase: memgraph.Stable, Revision: "100",
	}
	for _, e := range edits {
		e(&s)
	}
	return s
}

// wantsNone is how the cluster looks while its StatefulSet is deleted.
func wantsNone(s *memgraph.Snapshot) { s.Wanted = 0 }

func replica(i int) memgraph.Pod {
	return memgraph.Pod{
		Name: memgraph.PodName("mg", i), Index: i, UID: fmt.Sprintf("uid-%d", i), IP: fmt.Sprintf("10.0.0.%d", i),
		Container: "c", Running: true, Ready: true,
		Instance: memgraph.Instance{
			Reach: memgraph.Answered, Asked: now, Since: now.Add(-time.Minute),
			Identity: memgraph.Identity{Role: memgraph.RoleReplica, RunID: fmt.Sprintf("run-%d", i)},
			Storage:  memgraph.StorageInfo{Vertices: 10, Database: fmt.Sprintf("db-%d", i)}, StorageAt: now,
			Version:  memgraph.Version{Major: 3, Minor: 12},
			ListedAt: now.Add(-time.Second), NearAt: now.Add(-time.Second),
		},
	}
}

// fresh is a cluster of three that nobody has ever run: every pod an empty MAIN.
func fresh(edits ...edit) memgraph.Snapshot {
	s := healthy()
	s.Topology, s.Floor = memgraph.Topology{}, 0
	for i := range s.Pods {
		in := &s.Pods[i].Instance
		in.Role, in.Storage.Vertices, in.Replicas, in.ReplicasAt = memgraph.RoleMain, 0, nil, now
	}
	for _, e := range edits {
		e(&s)
	}
	return s
}

func pod(i int, change func(*memgraph.Pod)) edit {
	return func(s *memgraph.Snapshot) {
		for k := range s.Pods {
			if s.Pods[k].Index == i {
				change(&s.Pods[k])
			}
		}
	}
}

func instance(i int, change func(*memgraph.Instance)) edit {
	return pod(i, func(p *memgraph.Pod) { change(&p.Instance) })
}

func record(change func(*memgraph.Topology)) edit {
	return func(s *memgraph.Snapshot) { change(&s.Topology) }
}

// listed changes what MAIN says of pod i's registration.
func listed(i int, change func(*memgraph.Replica)) edit {
	return func(s *memgraph.Snapshot) {
		rs := s.Pods[0].Instance.Replicas
		for k := range rs {
			if rs[k].Name == memgraph.ReplicaName(memgraph.PodName("mg", i)) {
				change(&rs[k])
			}
		}
	}
}

// invalid has MAIN know that pod i does not answer as its replica.
func invalid(i int) edit {
	return listed(i, func(r *memgraph.Replica) { r.Status = memgraph.StatusInvalid })
}

func gone(i int) edit {
	return func(s *memgraph.Snapshot) {
		var kept []memgraph.Pod
		for _, p := range s.Pods {
			if p.Index != i {
				kept = append(kept, p)
			}
		}
		s.Pods = kept
	}
}

// reached makes the last attempt to ask pod i end as r does, the first to.
func reached(i int, r memgraph.Reach) edit {
	return instance(i, func(in *memgraph.Instance) { in.Reach, in.Since = r, now })
}

// silent has pod i not answered for so long.
func silent(i int, since time.Duration) edit {
	return instance(i, func(in *memgraph.Instance) { in.Reach, in.Since = memgraph.Silent, now.Add(-since) })
}

// unknown makes pod i one that nobody has asked yet.
func unknown(i int) edit {
	return instance(i, func(in *memgraph.Instance) { *in = memgraph.Instance{} })
}

// pending makes pod i one that was just created.
func pending(i int) edit {
	return pod(i, func(p *memgraph.Pod) {
		*p = memgraph.Pod{Name: p.Name, Index: i, UID: p.UID + "b"}
	})
}

// wiped makes the process of pod i one that came back without its volume.
func wiped(i int) edit {
	return instance(i, func(in *memgraph.Instance) {
		in.RunID += "b"
		in.Storage = memgraph.StorageInfo{Database: "new"}
	})
}

// untold makes this a version that tells no database's identity.
func untold(s *memgraph.Snapshot) {
	s.Topology.Main.Database = ""
	for i := range s.Pods {
		s.Pods[i].Instance.Storage.Database = ""
	}
}

func role(i int, r memgraph.Role) edit {
	return instance(i, func(in *memgraph.Instance) { in.Role = r })
}

func terminating(i int) edit { return pod(i, func(p *memgraph.Pod) { p.Terminating = true }) }

// leftover has the recorded MAIN's process answer although its pod is gone.
func leftover(change func(*memgraph.Pod)) edit {
	return func(s *memgraph.Snapshot) {
		s.Leftover = replica(0)
		s.Leftover.Instance.Role = memgraph.RoleMain
		change(&s.Leftover)
	}
}

func alive(*memgraph.Pod) {}

// replaced is a new pod of the same name, whose Memgraph answers.
func replaced(i int) edit {
	return pod(i, func(p *memgraph.Pod) { p.UID, p.Instance.RunID = p.UID+"b", p.Instance.RunID+"b" })
}

// broken is what a process says of data that it could not recover.
func broken(i int) edit {
	return instance(i, func(in *memgraph.Instance) { in.Storage.Vertices, in.Storage.Broken = 0, true })
}

func restarted(i int) edit {
	return instance(i, func(in *memgraph.Instance) { in.RunID += "b" })
}

func vertices(i int, n int64) edit {
	return instance(i, func(in *memgraph.Instance) { in.Storage.Vertices = n })
}

// none is a record that was deleted.
func none(s *memgraph.Snapshot) { s.Topology = memgraph.Topology{} }

func noPartner(s *memgraph.Snapshot) {
	s.Topology.Partner, s.Topology.InSync = memgraph.Member{}, false
}

func notInSync(s *memgraph.Snapshot) { s.Topology.InSync = false }

// underWay is a record of a change from pod 0 to pod 1 that is not finished.
func underWay(phase memgraph.Phase) edit {
	return func(s *memgraph.Snapshot) {
		from := s.Topology.Main
		s.Topology.Main, s.Topology.Generation = s.Topology.Partner, 8
		s.Topology.Phase = phase
		s.Topology.Pending = &memgraph.Pending{From: from, Kind: "failover", Reason: "because", Started: now}
		noPartner(s)
	}
}

// protecting is a record of mg-0 being given pod i as its partner.
func protecting(i int) edit {
	return record(func(t *memgraph.Topology) {
		t.Partner, t.InSync, t.Phase = replica(i).Member(), false, memgraph.Protecting
		t.Pending = &memgraph.Pending{Kind: string(LosePartner), Reason: "because", Started: now}
	})
}
