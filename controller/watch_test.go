package controller

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

// absence is an API server that nobody can list or watch at while it is away.
type absence struct {
	mu      sync.Mutex
	away    bool
	watches []watch.Interface
}

func newAbsence(l *lab) *absence {
	a := &absence{}
	refusal := func() (bool, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.away, errors.New("connection refused")
	}
	l.cs.PrependReactor("list", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
		away, err := refusal()
		return away, nil, err
	})
	l.cs.PrependWatchReactor("*", func(action clienttesting.Action) (bool, watch.Interface, error) {
		if away, err := refusal(); away {
			return true, nil, err
		}
		w, err := l.cs.Tracker().Watch(action.GetResource(), action.GetNamespace())
		a.mu.Lock()
		defer a.mu.Unlock()
		a.watches = append(a.watches, w)
		return true, w, err
	})
	return a
}

// begin takes the API server away, and ends every watch.
func (a *absence) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = true
	for _, w := range a.watches {
		w.Stop()
	}
	a.watches = nil
}

func (a *absence) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.away = false
}

// Each absence makes client-go's pause before the next attempt longer.
func TestWhatHappenedWhileTheAPIServerWasAwayIsKnownOnceItIsBack(t *testing.T) {
	inLab(t, func(l *lab) {
		a := newAbsence(l)
		l.running()
		first, stop := l.start("a")
		defer stop()
		l.settled()
		second, stopSecond := l.start("b")
		defer stopSecond()
		<-time.After(time.Second)
		controllers := []*Controller{first, second}
		for round, away := range []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second, time.Minute} {
			a.begin()
			<-time.After(away)
			uid := types.UID("returned-" + string(rune('a'+round)))
			l.lose(2)
			l.comeBackAs(2, uid)
			for _, c := range controllers {
				for kind, w := range c.metrics.watches {
					assert.InDelta(t, away.Seconds(), w.stale().Seconds(), 0.1, kind)
				}
			}
			a.end()
			<-time.After(watchAgain)
			synctest.Wait()
			for _, c := range controllers {
				pods := c.pods()
				assert.Len(t, pods, 3)
				assert.Equal(t, string(uid), pods[2].UID, "round %d", round)
				for kind, w := range c.metrics.watches {
					assert.Zero(t, w.stale(), kind)
				}
			}
		}
	})
}

// witnessed checks that what an informer tells its handler hangs together.
type witnessed struct {
	t   *testing.T
	mu  sync.Mutex
	now map[string]*corev1.Pod
}

func (w *witnessed) handler() cache.ResourceEventHandler {
	told := func(before, after any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		was, _ := unwrapped(before).(*corev1.Pod)
		is, _ := after.(*corev1.Pod)
		name := ""
		for _, p := range []*corev1.Pod{was, is} {
			if p != nil {
				name = p.Name
			}
		}
		known := w.now[name]
		if known == nil {
			assert.Nil(w.t, was, "%s was not there", name)
		} else if assert.NotNil(w.t, was, "%s was there", name) {
			assert.Equal(w.t, known.UID, was.UID)
		}
		delete(w.now, name)
		if is != nil {
			w.now[name] = is
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) { told(nil, obj) }, UpdateFunc: told, DeleteFunc: func(obj any) { told(obj, nil) },
	}
}

// Whatever happens between and amid absences, what is known is in the end what there is.
func TestNoAbsenceHidesWhatHappens(t *testing.T) {
	for seed := range uint64(20) {
		inLab(t, func(l *lab) {
			a := newAbsence(l)
			c := newController(l.t, "a", l.cs, l.fleet)
			defer c.news.broadcaster.Shutdown()
			pods := watching(watchedPods, l.cs.CoreV1().Pods(testNamespace), metav1.ListOptions{}, &corev1.Pod{}, c)
			w := &witnessed{t: l.t, now: map[string]*corev1.Pod{}}
			_, err := pods.AddEventHandler(w.handler())
			require.NoError(l.t, err)
			ctx, cancel := context.WithCancel(l.t.Context())
			var running sync.WaitGroup
			defer running.Wait()
			defer cancel()
			running.Go(func() { pods.RunWithContext(ctx) })
			l.comeAndGo(a, rand.New(rand.NewPCG(seed, 0)))
			a.end()
			<-time.After(watchAgain)
			synctest.Wait()
			present, err := l.cs.CoreV1().Pods(testNamespace).List(ctx, metav1.ListOptions{})
			require.NoError(l.t, err)
			want, told := map[string]string{}, map[string]string{}
			for _, p := range present.Items {
				want[p.Name] = p.ResourceVersion
			}
			for _, p := range w.now {
				told[p.Name] = p.ResourceVersion
			}
			assert.Equal(l.t, want, versionsIn(pods), "seed %d", seed)
			assert.Equal(l.t, want, told, "seed %d", seed)
		})
	}
}

// comeAndGo has pods and the API server do so, and pods change.
func (l *lab) comeAndGo(a *absence, random *rand.Rand) {
	present := []bool{true, true, true}
	for range 40 {
		index, now := random.IntN(len(present)), time.Now().String()
		switch what := random.IntN(5); {
		case what == 0:
			a.begin()
		case what == 1:
			a.end()
		case !present[index]:
			l.comeBackAs(index, types.UID(now))
			present[index] = true
		case what == 2:
			l.lose(index)
			present[index] = false
		default:
			l.updatePod(index, func(p *corev1.Pod) { p.Annotations = map[string]string{"touched": now} })
		}
		<-time.After(time.Duration(random.Int64N(int64(1500 * time.Millisecond))))
	}
}

// versionsIn are those of the pods that an informer knows, by name.
func versionsIn(i informer) map[string]string {
	versions := map[string]string{}
	for _, obj := range i.GetIndexer().List() {
		p := obj.(*corev1.Pod)
		versions[p.Name] = p.ResourceVersion
	}
	return versions
}
