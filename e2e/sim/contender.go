package sim

import (
	"context"
	"errors"
	"strconv"
	"time"

	"memgraph-controller/controller"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// contender is one process of the controller's Deployment, with its gateway. It
// does what package controller does around the real decisions and executors:
// caches, routing, observations, leadership.
type contender struct {
	actor
	w    *world
	node node
	gate *gate

	// The watch: what it brought last, its number, and whether it is broken.
	told  time.Duration
	watch int
	deaf  bool

	pods   [size]*memgraph.Pod // the informer's cache
	record memgraph.Topology   // the newest that was seen
	floor  int64               // the highest generation that was seen
	fresh  time.Duration       // when the record was last known to be up to date
	seen   map[string]memgraph.Instance

	lease    leaseView
	term     *term // nil while another leads
	working  int   // keys being worked on, of this term or the one before
	breakers *reconcile.Breakers
}

func (w *world) newContender(n node) *contender {
	c := &contender{
		actor: actor{s: w.scheduler}, w: w, node: n,
		seen: map[string]memgraph.Instance{}, breakers: reconcile.NewBreakers(),
	}
	c.gate = &gate{c: c, outlook: w.newOutlook()}
	c.after(w.between(10*time.Millisecond, 300*time.Millisecond), c.begin)
	return c
}

// begin fills the caches, and then competes for the lease.
func (c *contender) begin() {
	if !c.w.api.reachable(c.node) {
		c.after(500*time.Millisecond, c.begin)
		return
	}
	c.list()
	c.relist()
	c.floor = max(c.floor, c.w.api.told)
	c.mend()
	c.gate.verify()
	c.refresh()
	c.campaign()
}

// refreshEvery is controller's: what lies between two live reads of the record.
const refreshEvery = time.Second

// refresh reads the record live, now and for ever.
func (c *contender) refresh() {
	c.s.spawn(func() {
		for c.sleep(refreshEvery) == nil {
			begun, t := c.s.now, memgraph.Topology{}
			err := c.request(func() error {
				t, c.w.api.told = c.w.api.record, max(c.w.api.told, c.floor)
				return nil
			})
			if err != nil {
				if c.w.bug.nervousGateway {
					c.gate.shut(c.s.now)
				}
				continue // it is tried again
			}
			if t.Generation > 0 && c.learn(t) {
				c.decideSoon()
			}
			c.fresh = begun
			c.gate.admitAll()
		}
	})
}

// mend replaces open breakers about when they would let a call through. They go
// by the real clock, in which a schedule takes no time.
func (c *contender) mend() {
	c.after(2*time.Second, func() {
		keep := map[string]bool{}
		for _, p := range c.pods {
			if p != nil && c.breakers.State(reconcile.BreakerKey(*p)) != reconcile.Open {
				keep[reconcile.BreakerKey(*p)] = true
			}
		}
		c.breakers.Retain(keep)
		c.mend()
	})
}

// crash ends the process; a new one starts after d.
func (c *contender) crash(d time.Duration) {
	if c.dead {
		return
	}
	c.endTerm(errDead)
	c.kill()
	c.gate.cut()
	c.w.after(d, func() {
		if !c.w.ended {
			c.w.ctls[c.node] = c.w.newContender(c.node)
		}
	})
}

// onPod is what a watch tells of a pod; nil is its deletion.
func (c *contender) onPod(index int, p *memgraph.Pod) {
	before := c.pods[index]
	if before == p {
		return
	}
	c.pods[index] = p
	if before != nil && (p == nil || p.UID != before.UID) {
		delete(c.seen, before.UID)
	}
	if c.term == nil {
		return
	}
	if c.isUrgent(index, before, p) {
		c.term.urgent.add(clusterKey)
	}
	c.term.routine.add(memgraph.PodName(cluster, index))
	c.term.routine.add(c.record.Main.Pod)
}

// isUrgent mirrors controller's route.
func (c *contender) isUrgent(index int, b, a *memgraph.Pod) bool {
	isMain := index == c.record.Main.Index
	if !isMain && (c.record.Partner.None() || index != c.record.Partner.Index) {
		return false
	}
	switch {
	case a == nil, b != nil && b.UID != a.UID:
		return true
	case b == nil:
		return isMain
	case !b.Terminating && a.Terminating, b.Running && !a.Running, b.Container != a.Container, b.Ready && !a.Ready:
		return true
	case !b.Ready && a.Ready, b.IP != a.IP:
		return isMain
	}
	return false
}

// onRecord is what a watch tells of the record.
func (c *contender) onRecord(t memgraph.Topology) {
	if c.learn(t) || t.Generation < c.floor {
		c.decideSoon()
	}
}

func (c *contender) decideSoon() {
	if c.term != nil {
		c.term.urgent.add(clusterKey)
	}
}

// learn takes a record if it is newer, and tells the gateway.
func (c *contender) learn(t memgraph.Topology) bool {
	older := t.Generation < c.floor || c.record.Revision != "" && number(t.Revision) <= number(c.record.Revision)
	if older {
		if c.w.bug.forgetfulGateway {
			c.gate.serve(t)
		}
		return false
	}
	c.record, c.floor = t, t.Generation
	if t.Phase != memgraph.Stable {
		c.s.spawn(func() { _ = c.request(func() error { c.w.api.told = max(c.w.api.told, t.Generation); return nil }) })
	} else {
		c.update(t.Main.UID, t.Main.RunID, func(i *memgraph.Instance) { i.Diverged = false })
	}
	c.gate.serve(t)
	return true
}

func number(revision string) int {
	n, _ := strconv.Atoi(revision)
	return n
}

// load reads the record live; one whose generation went back is as good as none.
func (c *contender) load() (t memgraph.Topology, err error) {
	err = c.request(func() error {
		t, c.floor = c.w.api.record, max(c.floor, c.w.api.told)
		return nil
	})
	if err != nil {
		return memgraph.Topology{}, err
	}
	if t.Generation < c.floor {
		return t.Said(), nil
	}
	if t.Generation > 0 {
		c.learn(t)
	}
	return t, nil
}

// policy is the default of what is modelled.
var policy = memgraph.Policy{Reseed: memgraph.ReseedAuto}

// snapshot puts together what is known.
func (c *contender) snapshot(t memgraph.Topology) memgraph.Snapshot {
	s := memgraph.Snapshot{Now: c.w.clock(), Cluster: cluster, Wanted: size, Topology: t, Floor: c.floor, Policy: policy, Pods: make([]memgraph.Pod, 0, size)}
	for _, p := range c.pods {
		if p != nil {
			pod := *p
			pod.Instance = c.seen[p.UID]
			s.Pods = append(s.Pods, pod)
		}
	}
	return s
}

// leaseView is what a contender knows of the lease.
type leaseView struct {
	revision int
	since    time.Duration // when that revision was first seen
	renewed  time.Duration // when our last successful renewal was begun
	held     bool
}

// errStale says that the lease was not renewed in time.
var errStale = errors.New("lease was not renewed in time")

// valid is the authority to act.
func (c *contender) valid() error {
	if !c.lease.held || c.s.now-c.lease.renewed > controller.Defaults.RenewDeadline {
		return errStale
	}
	return nil
}

// campaign competes for the lease, or renews it, now and for ever. What is left of a
// term ends before the next can begin.
func (c *contender) campaign() {
	c.s.spawn(func() {
		for c.goesOn() == nil {
			if c.term != nil || c.working == 0 {
				_ = c.compete() // it is tried again
			}
			if c.sleep(c.w.between(900*time.Millisecond, 1100*time.Millisecond)) != nil {
				return
			}
		}
	})
}

var errHeld = errors.New("another holds the lease")

// compete is one round of client-go's elector. Where a term ends in the midst of it, the
// next does not begin before the next round.
func (c *contender) compete() error {
	var seen lease
	of := c.term
	err := c.request(func() error {
		seen = c.w.api.lease
		return nil
	})
	if err != nil {
		return err
	}
	if seen.revision != c.lease.revision {
		c.lease.revision, c.lease.since = seen.revision, c.s.now
	}
	free := seen.revision == 0 || seen.holder == c.node
	if !free && c.s.now-c.lease.since < controller.Defaults.LeaseDuration {
		return errHeld
	}
	begun := c.s.now
	err = c.request(func() error {
		if c.w.api.lease.revision != seen.revision {
			return controller.ErrConflict
		}
		c.w.api.lease = lease{holder: c.node, revision: c.w.api.next()}
		c.lease.revision, c.lease.since = c.w.api.lease.revision, c.s.now
		return nil
	})
	if err != nil || c.term != of {
		return err
	}
	c.lease.renewed, c.lease.held = begun, true
	c.after(begun+controller.Defaults.RenewDeadline-c.s.now, func() {
		if c.lease.renewed == begun {
			c.endTerm(errStale)
		}
	})
	if c.term == nil && c.valid() == nil {
		c.startTerm()
	}
	return nil
}

func (c *contender) endTerm(why error) {
	if c.term == nil {
		return
	}
	c.w.tracef("%s leads no more: %v", c.node, why)
	c.lease.held = false
	c.term.urgent.closed, c.term.routine.closed = true, true
	c.term.end(why)
	c.term.turn.wake()
	c.term = nil
}

// startTerm begins to work.
func (c *contender) startTerm() {
	c.w.tracef("%s leads", c.node)
	t := &term{c: c}
	var ctx context.Context
	ctx, t.end = context.WithCancelCause(c.w.ctx)
	t.ctx = ctx
	t.generation, t.supersede = context.WithCancel(ctx)
	t.turn.c = c
	t.lanes()
	t.executor = reconcile.NewExecutor(effects{t}, effects{t}, c.breakers)
	t.executor.Main = &t.turn
	c.term = t
	t.urgent.add(clusterKey)
	c.s.spawn(func() {
		for ctx.Err() == nil && c.goesOn() == nil {
			if _, err := c.load(); err == nil {
				t.reconcileAll()
				return
			}
			if c.sleep(250*time.Millisecond) != nil {
				return
			}
		}
	})
}
