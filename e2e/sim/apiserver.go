package sim

import (
	"errors"
	"strconv"
	"time"

	"memgraph-controller/controller"
	"memgraph-controller/memgraph"
)

// errNoAPI says that the API server did not answer; a write may have been done.
var errNoAPI = errors.New("the API server does not answer")

// requestTimeout is what a request to an API server out of reach costs.
const requestTimeout = 2 * time.Second

// lease is what the controller replicas compete for.
type lease struct {
	holder   node
	revision int
}

// apiServer holds the objects, and tells the watches of every change.
type apiServer struct {
	w        *world
	lag      time.Duration // of a slow watch, at most
	down     int           // outages at the same time
	revision int
	record   memgraph.Topology // Generation 0: there is none
	past     memgraph.Topology // the last one of the generation before
	pods     [size]*memgraph.Pod
	lease    lease
	told     int64 // the highest generation that a gateway's Lease tells of
}

func (a *apiServer) next() int {
	a.revision++
	return a.revision
}

// reachable tells whether a controller replica gets through.
func (a *apiServer) reachable(from node) bool {
	return a.down == 0 && !a.w.net.cut(from, apiNode)
}

// request has a controller replica send f to the API server. Where the answer
// gets lost, what f did stays done.
func (c *contender) request(f func() error) error {
	defer c.waits(apiAddr)()
	if err := c.sleep(c.w.latency()); err != nil {
		return err
	}
	if !c.w.api.reachable(c.node) {
		return errors.Join(c.sleep(requestTimeout), errNoAPI)
	}
	failed := f()
	if err := c.sleep(c.w.latency()); err != nil {
		return err
	}
	if !c.w.api.reachable(c.node) {
		return errors.Join(c.sleep(requestTimeout), errNoAPI)
	}
	return failed
}

// put is compare-and-set, by c.
func (a *apiServer) put(c *contender, t memgraph.Topology) (memgraph.Topology, error) {
	if t.Revision != a.record.Revision {
		return memgraph.Topology{}, controller.ErrConflict
	}
	if err := t.Validate(); err != nil {
		return memgraph.Topology{}, err
	}
	t.Revision = strconv.Itoa(a.next())
	a.w.recorded(c, t)
	if t.Generation != a.record.Generation {
		a.past = a.record
	}
	a.record = t
	a.publish(func(c *contender) { c.onRecord(t) })
	return t, nil
}

// loseRecord is somebody's kubectl delete.
func (a *apiServer) loseRecord() {
	a.next()
	a.record, a.past = memgraph.Topology{}, memgraph.Topology{}
	a.publish(func(c *contender) { c.decideSoon() })
}

// setPod is a change of a pod; nil removes it.
func (a *apiServer) setPod(index int, p *memgraph.Pod) {
	a.next()
	a.pods[index] = p
	a.publish(func(c *contender) { c.onPod(index, p) })
}

// publish tells every watch, in the order of the changes, some time later, and
// now and then twice.
func (a *apiServer) publish(tell func(*contender)) {
	for _, c := range a.w.ctls {
		delay := a.w.between(time.Millisecond, 10*time.Millisecond)
		if a.w.chance(20) {
			delay = a.w.between(0, a.lag)
		}
		c.feed(delay, tell)
		if a.w.chance(50) {
			c.feed(delay, tell)
		}
	}
}

// feed delivers a change by the watch, after those before it. A watch that is
// broken misses it.
func (c *contender) feed(delay time.Duration, tell func(*contender)) {
	c.told = max(c.told, c.s.now+delay)
	watch := c.watch
	c.after(c.told-c.s.now, func() {
		if watch != c.watch {
			return // what was listed since is newer
		}
		if c.deaf || !c.w.api.reachable(c.node) {
			c.deaf = true
			return
		}
		tell(c)
	})
}

// relist repairs a watch that missed something, as soon as that can be.
func (c *contender) relist() {
	c.after(c.w.between(100*time.Millisecond, time.Second), func() {
		defer c.relist()
		if !c.deaf || !c.w.api.reachable(c.node) {
			return
		}
		c.deaf = false
		c.list()
	})
}

// list fills the caches. A list may come from a cache of the API server's, and be
// older than what was seen before; the watch then brings what happened since.
func (c *contender) list() {
	c.watch++
	c.told = 0
	api := c.w.api
	for i, p := range api.pods {
		c.onPod(i, p)
	}
	if api.past.Generation > 0 && c.w.chance(2) {
		c.onRecord(api.past)
		c.after(c.w.between(time.Millisecond, time.Second), c.listRecord)
		return
	}
	c.listRecord()
}

func (c *contender) listRecord() {
	if t := c.w.api.record; t.Generation > 0 {
		c.onRecord(t)
		return
	}
	c.decideSoon()
}
