package controller

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"memgraph-controller/memgraph"
)

// What informers tell is a hint: whatever it was, and in whatever order, the
// decision is what the world asks for that is there in the end.

// end is how the world ends, and who is MAIN then.
type end struct {
	name   string
	happen func(l *lab)
	main   string
}

var ends = []end{
	{"nothing has happened", func(*lab) {}, "mg-0"},
	{"MAIN is gone", func(l *lab) { l.lose(0) }, "mg-1"},
	{"MAIN was replaced", func(l *lab) { l.lose(0); l.comeBack(0) }, "mg-1"},
	{"MAIN was replaced in one update", func(l *lab) {
		l.fleet.with(0, func(i *instance) { i.id.RunID += "b" })
		l.updatePod(0, func(p *corev1.Pod) { p.UID += "b" })
	}, "mg-1"},
	{"the async replica is gone", func(l *lab) { l.lose(2) }, "mg-0"},
	{"the partner was replaced", func(l *lab) { l.lose(1); l.comeBack(1) }, "mg-0"},
}

// rumour is an event about a pod that may be old news, or never have been true.
type rumour struct {
	name string
	tell func(h cache.ResourceEventHandler, pod *corev1.Pod)
}

func changed(pod *corev1.Pod, change func(*corev1.Pod)) *corev1.Pod {
	other := pod.DeepCopy()
	other.ResourceVersion += "0"
	change(other)
	return other
}

var rumours = []rumour{
	{"added", func(h cache.ResourceEventHandler, p *corev1.Pod) { h.OnAdd(p, false) }},
	{"listed", func(h cache.ResourceEventHandler, p *corev1.Pod) { h.OnAdd(p, true) }},
	{"resync", func(h cache.ResourceEventHandler, p *corev1.Pod) { h.OnUpdate(p, p.DeepCopy()) }},
	{"touched", func(h cache.ResourceEventHandler, p *corev1.Pod) { h.OnUpdate(p, changed(p, func(*corev1.Pod) {})) }},
	{"deleted", func(h cache.ResourceEventHandler, p *corev1.Pod) { h.OnDelete(p) }},
	{"missed the deletion", func(h cache.ResourceEventHandler, p *corev1.Pod) {
		h.OnDelete(cache.DeletedFinalStateUnknown{Key: p.Namespace + "/" + p.Name, Obj: p})
	}},
	{"missed the deletion of who knows what", func(h cache.ResourceEventHandler, p *corev1.Pod) {
		h.OnDelete(cache.DeletedFinalStateUnknown{Key: p.Namespace + "/" + p.Name})
	}},
	{"the deletion of one before", func(h cache.ResourceEventHandler, p *corev1.Pod) {
		h.OnDelete(changed(p, func(p *corev1.Pod) { p.UID = types.UID("before") }))
	}},
	{"replaced in one update", func(h cache.ResourceEventHandler, p *corev1.Pod) {
		h.OnUpdate(p, changed(p, func(p *corev1.Pod) { p.UID += "x" }))
	}},
	{"back in time", func(h cache.ResourceEventHandler, p *corev1.Pod) {
		h.OnUpdate(changed(p, func(p *corev1.Pod) { p.UID += "x" }), p)
	}},
	{"terminating", func(h cache.ResourceEventHandler, p *corev1.Pod) { h.OnUpdate(p, changed(p, terminate)) }},
	{"not ready", func(h cache.ResourceEventHandler, p *corev1.Pod) {
		h.OnUpdate(p, changed(p, func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }))
	}},
	{"another container", func(h cache.ResourceEventHandler, p *corev1.Pod) {
		h.OnUpdate(p, changed(p, func(p *corev1.Pod) { p.Status.ContainerStatuses[0].ContainerID = "process://x" }))
	}},
	{"without address", func(h cache.ResourceEventHandler, p *corev1.Pod) {
		h.OnUpdate(p, changed(p, func(p *corev1.Pod) { p.Status.PodIP = "" }))
	}},
	{"something else", func(h cache.ResourceEventHandler, _ *corev1.Pod) { h.OnAdd("no pod", false) }},
}

// tellAll has the informers of a cluster in order tell rumours, one for each byte,
// amid which the world comes to its end.
func tellAll(t *testing.T, e end, told []byte) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.settled()
		before := l.record()
		h := c.podHandler()
		for i, b := range told {
			if i == len(told)/2 {
				e.happen(l)
			}
			rumours[int(b)%len(rumours)].tell(h, runningPod(int(b)/len(rumours)%3))
			if b%2 == 0 {
				synctest.Wait()
			}
		}
		if len(told) == 0 {
			e.happen(l)
		}
		<-time.After(5 * time.Second)
		after := l.record()
		assert.Equal(t, e.main, after.Main.Pod)
		assert.Equal(t, e.main != before.Main.Pod, after.Generation == before.Generation+1, "as many decisions as there is reason for")
		assert.Equal(t, memgraph.Stable, after.Phase)
	})
}

func TestEachRumourIsLookedInto(t *testing.T) {
	for _, e := range ends {
		for i, r := range rumours {
			t.Run(fmt.Sprintf("%s; of MAIN: %s", e.name, r.name), func(t *testing.T) {
				tellAll(t, e, []byte{byte(i), byte(i)})
			})
		}
	}
}

func FuzzRumours(f *testing.F) {
	f.Add(byte(0), []byte{})
	f.Add(byte(1), []byte{4, 0, 4, 0})                             // flapping
	f.Add(byte(2), []byte{1, 16, 31, 1, 16, 31})                   // re-lists
	f.Add(byte(3), []byte{8, 9, 8, 9, 5, 6, 7, 20, 21, 22, 35, 4}) // out of order
	f.Add(byte(5), []byte{10, 25, 40, 12, 27, 42, 13, 28, 43, 14}) // everybody at once
	f.Fuzz(func(t *testing.T, which byte, told []byte) {
		tellAll(t, ends[int(which)%len(ends)], told[:min(len(told), 64)])
	})
}

// A watch that has gone silent is not noticed for a while.
func TestARecordWhoseWatchIsSilentIsReadAllTheSame(t *testing.T) {
	inLab(t, func(l *lab) {
		l.cs.PrependWatchReactor("configmaps", func(clienttesting.Action) (bool, watch.Interface, error) {
			return true, watch.NewFake(), nil
		})
		first, stop := l.start("a")
		defer stop()
		l.protected()
		second, stopSecond := l.start("b")
		defer stopSecond()
		<-time.After(2 * time.Second)
		l.lose(0)
		want := l.within(time.Second, "a new MAIN", isMain("mg-1"))
		<-time.After(refreshEvery + 10*time.Millisecond)
		for _, c := range []*Controller{first, second} {
			assert.Equal(t, want.Generation, c.Status().Record.Generation)
			assert.Equal(t, "mg-1", c.Status().Record.Main)
		}
		l.fleet.with(0, func(*instance) { assert.WithinRange(t, l.fleet.fresh, time.Now().Add(-refreshEvery), time.Now()) })
	})
}
