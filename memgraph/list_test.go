package memgraph_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"memgraph-controller/memgraph"
)

// How long MAIN has called a replica invalid is kept from list to list, until the
// replica is registered anew.
func TestSinceWhenAReplicaIsInvalid(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	lists := func(status memgraph.ReplicaStatus) []memgraph.Replica {
		return []memgraph.Replica{{Name: "mg_1", Status: status}}
	}
	lost := func(i memgraph.Instance, now int) bool { return memgraph.Snapshot{Now: at(now)}.Lost(i.Replicas[0]) }

	var i memgraph.Instance
	i.List(lists(memgraph.StatusInvalid), at(1), at(1))
	i.List(lists(memgraph.StatusInvalid), at(4), at(4))
	assert.Equal(t, at(1), i.Replicas[0].InvalidSince)
	assert.False(t, lost(i, 5))
	assert.True(t, lost(i, 6))

	i.NoteEvicted("mg_1", "uid")
	i.List(lists(memgraph.StatusInvalid), at(7), at(7))
	assert.Equal(t, "uid", i.Replicas[0].Evicted)

	i.Unlist("mg_1", at(8))
	assert.True(t, i.ReplicasAt.IsZero(), "what was listed before does not count")
	i.List(lists(memgraph.StatusInvalid), at(9), at(9))
	assert.Equal(t, memgraph.Replica{Name: "mg_1", Status: memgraph.StatusInvalid, InvalidSince: at(9)}, i.Replicas[0])

	i.List(lists(memgraph.StatusReady), at(10), at(10))
	i.List(lists(memgraph.StatusInvalid), at(11), at(11))
	assert.Equal(t, at(11), i.Replicas[0].InvalidSince, "it was well in between")

	moving := func(ts int64) []memgraph.Replica {
		return []memgraph.Replica{{Name: "mg_1", Status: memgraph.StatusInvalid, Timestamp: ts}}
	}
	i.List(moving(7), at(16), at(16))
	assert.Equal(t, at(16), i.Replicas[0].InvalidSince, "it catches up, if not fast enough")
	i.List(moving(7), at(21), at(21))
	assert.True(t, lost(i, 21), "until it does not any more")

	i.Outdate(at(22))
	assert.Empty(t, i.Replicas, "as a replica it has none")
}
