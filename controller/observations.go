package controller

import (
	"errors"
	"maps"
	"sync"
	"time"

	"memgraph-controller/memgraph"
)

// observations keeps what instances last said, by pod UID. A pod that restarts
// keeps its UID and loses everything that was known of its last process.
type observations struct {
	began    time.Time
	blocking blocking // why some may say nothing

	mu    sync.Mutex
	byUID map[string]memgraph.Instance
	gone  map[string]time.Time // when pods were lately found to be gone
	calm  map[string]int       // how often pods had restarted when last ready, or first seen
}

func newObservations() *observations {
	return &observations{began: time.Now(), byUID: map[string]memgraph.Instance{}, gone: map[string]time.Time{}, calm: map[string]int{}}
}

func (o *observations) of(uid string) memgraph.Instance {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.byUID[uid]
}

// forget drops what was known of a pod that is gone.
func (o *observations) forget(uid string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byUID, uid)
	delete(o.calm, uid)
	maps.DeleteFunc(o.gone, func(_ string, at time.Time) bool { return time.Since(at) > leftoverAge })
	o.gone[uid] = time.Now()
}

// saw takes note of how often a pod has restarted.
func (o *observations) saw(p memgraph.Pod) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, seen := o.calm[p.UID]; !seen || p.Ready {
		o.calm[p.UID] = p.Restarts
	}
}

// crashes is how often p has restarted without being ready in between, as far as
// that was seen.
func (o *observations) crashes(p memgraph.Pod) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	calm, seen := o.calm[p.UID]
	if !seen || p.Ready {
		return 0
	}
	return p.Restarts - calm
}

// leftover reports whether processes of a pod that is gone may still run. One that
// was gone before we began is given as long from then.
func (o *observations) leftover(uid string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	since, seen := o.gone[uid]
	if !seen {
		since = o.began
	}
	return time.Since(since) <= leftoverAge
}

// update changes what is known of a process. What was asked of one that has been
// replaced meanwhile is dropped.
func (o *observations) update(uid, runID string, change func(*memgraph.Instance)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := o.byUID[uid]
	if i.RunID != runID {
		return
	}
	change(&i)
	o.byUID[uid] = i
}

// judge notes what a row of probes says of an instance that has been met.
func (o *observations) judge(uid string, v memgraph.Verdict) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if i, known := o.byUID[uid]; known {
		i.Verdict = v
		o.byUID[uid] = i
	}
}

// met notes the end of an attempt to identify an instance that was begun at
// asked, and tells whether it ended otherwise than the one before. Attempts may
// overlap: an older one never hides a newer.
func (o *observations) met(uid string, asked time.Time, id memgraph.Identity, err error) (changed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := o.byUID[uid]
	if asked.Before(i.Asked) {
		return false
	}
	is := reach(err)
	changed = i.Reach != is
	if err == nil && id != i.Identity {
		changed = true
		if id.RunID != i.RunID {
			i = memgraph.Instance{}
		}
		i.Identity = id
		i.StorageAt = time.Time{} // a change of role may have changed whose data it is
		i.Outdate(asked)
	}
	if changed {
		i.Since = asked
	}
	i.Asked, i.Reach = asked, is
	o.byUID[uid] = i
	return changed
}

func reach(err error) memgraph.Reach {
	switch {
	case err == nil:
		return memgraph.Answered
	case errors.Is(err, memgraph.ErrRefused):
		return memgraph.Refused
	case errors.Is(err, memgraph.ErrUnauthenticated):
		return memgraph.Denied
	}
	return memgraph.Silent
}
