package controller

import (
	"testing"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"memgraph-controller/memgraph"
)

func TestRoute(t *testing.T) {
	record := memgraph.Topology{
		Main:    memgraph.Member{Pod: "mg-0", Index: 0},
		Partner: memgraph.Member{Pod: "mg-1", Index: 1},
	}
	well := func(name string) *memgraph.Pod {
		return &memgraph.Pod{Name: name, UID: "u", IP: "10.0.0.1", Container: "c", Running: true, Ready: true}
	}
	change := func(name string, f func(*memgraph.Pod)) *memgraph.Pod {
		p := well(name)
		f(p)
		return p
	}
	deleted := func(name string) podEvent { return podEvent{well(name), nil} }
	added := func(name string) podEvent { return podEvent{nil, well(name)} }
	becomes := func(name string, f func(*memgraph.Pod)) podEvent { return podEvent{well(name), change(name, f)} }
	replaced := func(p *memgraph.Pod) { p.UID = "v" }
	terminating := func(p *memgraph.Pod) { p.Terminating = true }
	ended := func(p *memgraph.Pod) { p.Running = false }
	restarted := func(p *memgraph.Pod) { p.Container = "d" }
	unready := func(p *memgraph.Pod) { p.Ready = false }

	for _, c := range []struct {
		name                     string
		event                    func(pod string) podEvent
		ofMain, ofPartner, other laneName
	}{
		{"deleted", deleted, urgent, urgent, routine},
		{"replaced", func(p string) podEvent { return becomes(p, replaced) }, urgent, urgent, routine},
		{"begins to terminate", func(p string) podEvent { return becomes(p, terminating) }, urgent, urgent, routine},
		{"its container ended", func(p string) podEvent { return becomes(p, ended) }, urgent, urgent, routine},
		{"its container is another", func(p string) podEvent { return becomes(p, restarted) }, urgent, urgent, routine},
		{"no longer ready", func(p string) podEvent { return becomes(p, unready) }, urgent, urgent, routine},
		{"added", added, urgent, routine, routine},
		{"becomes ready", func(p string) podEvent { return podEvent{change(p, unready), well(p)} }, urgent, routine, routine},
		{"nothing that matters", func(p string) podEvent { return podEvent{well(p), well(p)} }, routine, routine, routine},
		{"goes on terminating", func(p string) podEvent { return podEvent{change(p, terminating), change(p, terminating)} }, routine, routine, routine},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.ofMain, route(c.event("mg-0"), record), "of MAIN")
			assert.Equal(t, c.ofPartner, route(c.event("mg-1"), record), "of its partner")
			assert.Equal(t, c.other, route(c.event("mg-2"), record), "of another")
			assert.Equal(t, routine, route(c.event("mg-2"), memgraph.Topology{}), "before there is a record")
		})
	}
}

func TestPodsAreReadFromWhateverAnInformerDelivers(t *testing.T) {
	cs, _ := newClientset()
	c := newController(t, "a", cs, newFleet(0))
	pod := runningPod(2)
	want := memgraph.Pod{
		Name: "mg-2", Index: 2, UID: "uid-2", IP: "10.0.0.2", Host: "mg-2.mg.ns.svc",
		Container: "process://c1", Running: true, Ready: true,
	}
	assert.Equal(t, &want, c.podOf(pod))
	assert.Equal(t, &want, c.podOf(cache.DeletedFinalStateUnknown{Key: "ns/mg-2", Obj: pod}), "a tombstone")
	assert.Nil(t, c.podOf(cache.DeletedFinalStateUnknown{Key: "ns/mg-2"}), "an empty tombstone")
	assert.Nil(t, c.podOf(nil))
	assert.Nil(t, c.podOf("not a pod"))

	pod.DeletionTimestamp = &metav1.Time{}
	pod.Status.ContainerStatuses[0].State = corev1.ContainerState{}
	want.Terminating, want.Running = true, false
	assert.Equal(t, &want, c.podOf(pod))

	for _, name := range []string{"mg", "mg-", "mg-x", "mg-01", "mg--1", "other-0", "mg-0-abc"} {
		pod.Name = name
		assert.Nil(t, c.podOf(pod), name)
	}
}
