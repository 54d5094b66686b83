package controller

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// podHandler turns what the pod informer tells into keys (invariant 1).
func (c *Controller) podHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { c.onPod(nil, obj) },
		UpdateFunc: func(before, after any) {
			if b, a := before.(*corev1.Pod), after.(*corev1.Pod); b.ResourceVersion != a.ResourceVersion {
				c.onPod(before, after)
			} // else a resync: the interval brings those
		},
		DeleteFunc: func(obj any) { c.onPod(obj, nil) },
	}
}

// onPod enqueues a change of a pod; before is nil for an addition, after for a
// deletion.
func (c *Controller) onPod(before, after any) {
	received := time.Now()
	e := podEvent{before: c.podOf(before), after: c.podOf(after)}
	if e.before == nil && e.after == nil {
		return // no pod of ours, or nothing that could be read
	}
	if readable(e.before) != readable(e.after) {
		c.tellReaders()
	}
	if gone := e.before; gone != nil && (e.after == nil || gone.UID != e.after.UID || gone.Container != e.after.Container) {
		c.ended(*gone, e.after)
	}
	if e.after != nil {
		c.seen.saw(*e.after)
	}
	term := c.term.Load()
	if term == nil {
		return
	}
	if route(e, c.record.latest()) == urgent {
		term.urgent.add(clusterKey, received)
	}
	name := e.pod().Name
	term.routine.hear(name, received)
	if main := c.record.latest().Main; !main.None() && main.Pod != name {
		term.routine.hear(main.Pod, received) // it may now let go of the pod's registration
	}
}

// readable is where clients may read from p, "" where they may not.
func readable(p *memgraph.Pod) string {
	if p == nil || !p.Fit() {
		return ""
	}
	return p.Addr()
}

// tellReaders tells of the pods that are fit to be read from.
func (c *Controller) tellReaders() {
	fit := map[string]string{}
	for _, p := range c.pods() {
		if addr := readable(&p); addr != "" {
			fit[memgraph.ReplicaName(p.Name)] = addr
		}
	}
	c.deps.Readers(fit)
}

// ended forgets what is kept about a process that is no more; after is its pod, if
// that goes on with another. Closing its connections is left to forgetting.
func (c *Controller) ended(gone memgraph.Pod, after *memgraph.Pod) {
	if after == nil || after.UID != gone.UID {
		c.seen.forget(gone.UID)
	}
	if gone.IP != "" {
		c.garbage.Add(gone.Addr())
	}
	alive := map[string]bool{}
	for _, p := range c.pods() {
		alive[reconcile.BreakerKey(p)] = true
	}
	c.breakers.Retain(alive)
}

// collectGarbage closes the connections to instances that have ended, until the
// queue of their addresses is shut down.
func (c *Controller) collectGarbage() {
	for {
		addr, shutdown := c.garbage.Get()
		if shutdown {
			return
		}
		c.deps.Forget(addr)
		c.garbage.Done(addr)
	}
}

// unwrapped is an informer's object without the tombstone that stands for a deletion
// that was missed.
func unwrapped(obj any) any {
	if tombstone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		return tombstone.Obj
	}
	return obj
}

// podOf reads an informer's object; nil if it is none of the StatefulSet's pods.
func (c *Controller) podOf(obj any) *memgraph.Pod {
	pod, ok := unwrapped(obj).(*corev1.Pod)
	if !ok {
		return nil
	}
	p, ok := c.pod(pod)
	if !ok {
		return nil
	}
	return &p
}

// recordHandler keeps up with the record, whoever writes it.
func (c *Controller) recordHandler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { c.onRecord(obj) },
		UpdateFunc: func(_, obj any) { c.onRecord(obj) },
		// A deleted record changes nothing for clients; the leader writes it anew.
		DeleteFunc: func(any) { c.decideSoon() },
	}
}

func (c *Controller) onRecord(obj any) {
	cm, ok := obj.(*corev1.ConfigMap)
	if !ok {
		return
	}
	t, err := c.store.decode(cm)
	if err != nil {
		c.decideSoon() // damaged: the leader derives it anew
		return
	}
	if c.learn(t) || t.Generation < c.record.highest() {
		c.decideSoon() // a generation that went back may only be an old echo
	}
}

// decideSoon asks the leader, if that is us, to decide on what is known now.
func (c *Controller) decideSoon() {
	if term := c.term.Load(); term != nil {
		term.urgent.add(clusterKey, time.Now())
	}
}

// onSet ends the watch of a StatefulSet whose selector has changed, which is only
// possible by making it anew: its pods have to be watched by other labels.
func (c *Controller) onSet(obj any) {
	if set, ok := obj.(*appsv1.StatefulSet); ok && metav1.FormatLabelSelector(set.Spec.Selector) != c.selector {
		c.end(fmt.Errorf("statefulset %s: its selector has changed, begin anew", set.Name))
	}
}

// Suspect says that MAIN may be dead, on the evidence of a broken connection.
// It returns at once; the urgent lane asks MAIN itself before it acts.
func (c *Controller) Suspect() { c.decideSoon() }
