package reconcile

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"memgraph-controller/memgraph"
)

// lately has MAIN have said a second ago that pod i is near.
func lately(i int) edit {
	return instance(i, func(in *memgraph.Instance) { in.ListedAt, in.NearAt = now.Add(-time.Second), now.Add(-time.Second) })
}

func TestLacking(t *testing.T) {
	for name, c := range map[string]struct {
		s    memgraph.Snapshot
		want int
	}{
		"nobody":                        {healthy(lately(2)), 0},
		"one is away":                   {healthy(gone(2)), 1},
		"one dies over and over":        {healthy(lately(2), unready(2)), 1},
		"nobody protects MAIN":          {healthy(lately(2), noPartner), 2},
		"one of which nothing is known": {healthy(), 0},
		"more than are asked for":       {healthy(lately(2), func(s *memgraph.Snapshot) { s.Wanted = 2 }), 0},
	} {
		assert.Equal(t, c.want, Lacking(c.s), name)
	}
}

func TestReady(t *testing.T) {
	vertices := func(i int, n int64) edit {
		return instance(i, func(in *memgraph.Instance) { in.Storage.Vertices = n })
	}
	terminating := func(i int) edit { return pod(i, func(p *memgraph.Pod) { p.Terminating = true }) }
	asIs := Readiness{}
	for _, c := range []struct {
		name string
		pod  int
		s    memgraph.Snapshot
		want Readiness
	}{
		{"MAIN", 0, healthy(), readyMain},
		{"MAIN while nobody protects it", 0, healthy(noPartner), readyMain},
		{"MAIN whose containers are not ready", 0, healthy(unready(0)), notRunning},
		{"MAIN that refuses", 0, healthy(reached(0, memgraph.Refused)), notRunning},
		{"MAIN that is silent", 0, healthy(reached(0, memgraph.Silent)), asIs},
		{"MAIN that has restarted", 0, healthy(instance(0, func(in *memgraph.Instance) { in.RunID = "next" })), asIs},
		{"MAIN that says that it is a replica", 0, healthy(instance(0, func(in *memgraph.Instance) { in.Role = memgraph.RoleReplica })), asIs},
		{"MAIN that is going", 0, healthy(terminating(0), unready(0)), asIs},
		{"nobody is recorded", 0, healthy(func(s *memgraph.Snapshot) { s.Topology = memgraph.Topology{} }), asIs},

		{"partner in sync", 1, healthy(), readyPartner},
		{"partner that is not in sync", 1, healthy(notInSync), notProtected},
		{"partner whose containers are not ready", 1, healthy(unready(1)), notRunning},
		{"partner that has restarted", 1, healthy(instance(1, func(in *memgraph.Instance) { in.RunID = "next" })), asIs},

		{"async replica, near lately", 2, healthy(lately(2)), readyReplica},
		{"async replica, near some time ago", 2, healthy(lately(2), func(s *memgraph.Snapshot) { s.Now = s.Now.Add(4500 * time.Millisecond) }), notNear},
		{"async replica, never near", 2, healthy(instance(2, func(in *memgraph.Instance) { in.ListedAt = now })), notNear},
		{"async replica of which MAIN has said nothing", 2, healthy(), asIs},
		{"async replica without the data of MAIN", 2, healthy(lately(2), vertices(2, 0)), notNear},
		{"async replica of an empty MAIN", 2, healthy(lately(2), vertices(0, 0), vertices(2, 0)), readyReplica},
		{"async replica of which it is not known what it holds", 2, healthy(lately(2), instance(2, func(in *memgraph.Instance) { in.StorageAt = time.Time{} })), asIs},
		{"async replica while MAIN has no partner", 2, healthy(lately(2), noPartner), notProtected},
		{"async replica while MAIN changes", 2, healthy(lately(2), notInSync, func(s *memgraph.Snapshot) { s.Topology.Phase = memgraph.FailingOver }), notProtected},
		{"async replica that refuses", 2, healthy(lately(2), reached(2, memgraph.Refused)), notRunning},
		{"async replica that is silent, near lately", 2, healthy(lately(2), reached(2, memgraph.Silent)), readyReplica},
		{"async replica of a MAIN that is silent", 2, healthy(lately(2), reached(0, memgraph.Silent)), asIs},
		{"async replica by an old list", 2, healthy(lately(2), instance(0, func(in *memgraph.Instance) { in.ReplicasAt = now.Add(-listAge - 1) })), asIs},
		{"replica that is not registered", 2, healthy(lately(2), unlisted(2)), notReplica},
		{"replica whose registration failed", 2, healthy(lately(2), status(2, memgraph.StatusNone)), notReplica},
		{"replica that is to be registered anew", 2, healthy(lately(2), instance(2, func(in *memgraph.Instance) { in.Rejoin = true })), notReplica},
		{"a MAIN without right", 2, healthy(lately(2), isMain(2)), notReplica},
		{"MAIN whose database is broken", 0, healthy(broken(0)), notWhole},
		{"replica whose database is broken", 2, healthy(lately(2), broken(2)), notWhole},
		{"replica that has diverged", 2, healthy(lately(2), instance(2, func(in *memgraph.Instance) { in.Diverged = true })), notSame},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, _ := c.s.Pod(c.pod)
			got, known := Ready(c.s, p)
			if assert.Equal(t, c.want != asIs, known) && known {
				assert.Equal(t, c.want, got)
			}
		})
	}
}
