package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"memgraph-controller/controller"
	"memgraph-controller/memgraph"
)

// Sight is a state of the record, and when the lab's own watch received it.
type Sight struct {
	At         time.Time
	Generation int64
	MainIndex  int
	MainRunID  string
	Phase      string
	InSync     bool
	// Reseed is the pod that is to start empty, "" if none is.
	Reseed string
}

// Main is the name of the pod that the record calls MAIN.
func (s Sight) Main() string { return statefulSet + "-" + strconv.Itoa(s.MainIndex) }

// Eye watches record and pods as a third party: neither the leader that acts on
// the pods and writes the record, nor the gateways that obey it.
type Eye struct {
	factory informers.SharedInformerFactory
	stop    context.CancelFunc

	mu        sync.Mutex
	sights    []Sight
	deletions map[types.UID]deletion
	changed   chan struct{} // closed with the next that is seen
}

// deletion is when a pod was first seen with a deletionTimestamp, or gone.
type deletion struct {
	pod string
	at  time.Time
}

func newEye() *Eye {
	return &Eye{deletions: map[types.UID]deletion{}, changed: make(chan struct{})}
}

func watch(ctx context.Context, client kubernetes.Interface) (*Eye, error) {
	e := newEye()
	e.factory = informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
	_, err := e.factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { e.seeRecord(obj, time.Now()) },
		UpdateFunc: func(_, obj any) { e.seeRecord(obj, time.Now()) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch record: %w", err)
	}
	_, err = e.factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, obj any) { e.seePod(obj, time.Now()) },
		DeleteFunc: func(obj any) { e.seeNoPod(obj, time.Now()) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch pods: %w", err)
	}
	var running context.Context
	running, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.factory.Start(running.Done())
	return e, nil
}

func (e *Eye) close() {
	e.stop()
	e.factory.Shutdown()
}

func (e *Eye) seeRecord(obj any, at time.Time) {
	record := obj.(*corev1.ConfigMap)
	if record.Name != controller.RecordName(statefulSet) {
		return
	}
	data := record.Data
	s := Sight{At: at, MainRunID: data["mainRunID"], Phase: data["phase"], InSync: data["inSync"] == "true"}
	var order memgraph.Reseed
	if json.Unmarshal([]byte(data["reseed"]), &order) == nil {
		s.Reseed = order.Pod
	}
	s.Generation, _ = strconv.ParseInt(data["generation"], 10, 64) // 0 is below every generation
	s.MainIndex, _ = strconv.Atoi(data["mainIndex"])
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sights = append(e.sights, s)
	e.announceLocked()
}

func (e *Eye) seePod(obj any, at time.Time) {
	if p := obj.(*corev1.Pod); p.DeletionTimestamp != nil {
		e.seeDeletion(p, at)
	}
}

func (e *Eye) seeNoPod(obj any, at time.Time) {
	if stone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = stone.Obj
	}
	e.seeDeletion(obj.(*corev1.Pod), at)
}

// seeDeletion keeps the first sight: a graceful deletion ends with a second.
func (e *Eye) seeDeletion(p *corev1.Pod, at time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, known := e.deletions[p.UID]; known {
		return
	}
	e.deletions[p.UID] = deletion{p.Name, at}
	e.announceLocked()
}

func (e *Eye) announceLocked() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// Last is the newest sight, zero if there is no record yet.
func (e *Eye) Last() Sight {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.sights) == 0 {
		return Sight{}
	}
	return e.sights[len(e.sights)-1]
}

// Since are the sights after t, and the one that held at t.
func (e *Eye) Since(t time.Time) []Sight {
	e.mu.Lock()
	defer e.mu.Unlock()
	after, _ := slices.BinarySearchFunc(e.sights, t, func(s Sight, t time.Time) int { return s.At.Compare(t) })
	return slices.Clone(e.sights[max(after-1, 0):])
}

// Reseeds are the pods that were told to start empty after t, once for each order.
func (e *Eye) Reseeds(t time.Time) (pods []string) {
	before := ""
	for _, s := range e.Since(t) {
		if s.Reseed != before && s.Reseed != "" && s.At.After(t) {
			pods = append(pods, s.Reseed)
		}
		before = s.Reseed
	}
	return pods
}

// First waits for the first sight that is as wanted; what says so in words.
func (e *Eye) First(ctx context.Context, what string, wanted func(Sight) bool) (first Sight, err error) {
	err = e.await(ctx, func() bool {
		i := slices.IndexFunc(e.sights, wanted)
		if i >= 0 {
			first = e.sights[i]
		}
		return i >= 0
	})
	if err != nil {
		return Sight{}, fmt.Errorf("wait for %s: %w", what, err)
	}
	return first, nil
}

// Decision waits for the first sight of a generation above the given one.
func (e *Eye) Decision(ctx context.Context, above int64) (Sight, error) {
	return e.First(ctx, fmt.Sprintf("a generation above %d", above), func(s Sight) bool { return s.Generation > above })
}

// Deletion waits until that pod was seen to be deleted after since, with or
// without grace, and returns when it first was.
func (e *Eye) Deletion(ctx context.Context, pod string, since time.Time) (at time.Time, err error) {
	err = e.await(ctx, func() bool {
		for _, d := range e.deletions {
			if d.pod == pod && d.at.After(since) && (at.IsZero() || d.at.Before(at)) {
				at = d.at
			}
		}
		return !at.IsZero()
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("wait for the deletion of %s: %w", pod, err)
	}
	return at, nil
}

// await calls seen under the lock, again whenever there is more, until it is
// true or ctx ends.
func (e *Eye) await(ctx context.Context, seen func() bool) error {
	for {
		e.mu.Lock()
		done, changed := seen(), e.changed
		e.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
