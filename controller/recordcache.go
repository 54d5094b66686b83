package controller

import (
	"sync"

	"k8s.io/apimachinery/pkg/util/resourceversion"

	"memgraph-controller/memgraph"
)

// recordCache holds the newest record that was seen. The watch and our own
// writes tell of it in any order.
type recordCache struct {
	mu    sync.Mutex
	t     memgraph.Topology
	floor int64 // the highest generation ever seen
}

func (r *recordCache) latest() memgraph.Topology {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.t
}

// highest is the highest generation ever seen.
func (r *recordCache) highest() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.floor
}

// raise notes a generation that was seen in a record which was no use else.
func (r *recordCache) raise(generation int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.floor = max(r.floor, generation)
}

// offer takes t if it is newer than what is held, and tells whether it was. A
// record whose generation went back was damaged or restored from a backup: it is
// not taken, and the next that is written goes above.
func (r *recordCache) offer(t memgraph.Topology) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t.Generation < r.floor {
		return false
	}
	if order, err := resourceversion.CompareResourceVersion(t.Revision, r.t.Revision); err == nil && order <= 0 {
		return false
	}
	r.t, r.floor = t, t.Generation
	return true
}
