package e2e

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"memgraph-controller/controller"
)

// Sight is a state of the record, and when the lab's own watch received it.
type Sight struct {
	At         time.Time
	Generation int64
	MainIndex  int
	MainRunID  string
	Phase      string
	InSync     bool
}

// Main is the name of the pod that the record calls MAIN.
func (s Sight) Main() string { return statefulSet + "-" + strconv.Itoa(s.MainIndex) }

// Eye watches the record as a third party: neither the leader that writes it nor
// the gateways that obey it.
type Eye struct {
	factory informers.SharedInformerFactory
	stop    context.CancelFunc

	mu      sync.Mutex
	sights  []Sight
	changed chan struct{} // closed with the next sight
}

func watch(ctx context.Context, client kubernetes.Interface) (*Eye, error) {
	e := &Eye{changed: make(chan struct{})}
	e.factory = informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, controller.RecordName(statefulSet)).String()
		}))
	_, err := e.factory.Core().V1().ConfigMaps().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    e.see,
		UpdateFunc: func(_, after any) { e.see(after) },
	})
	if err != nil {
		return nil, fmt.Errorf("watch record: %w", err)
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

func (e *Eye) see(obj any) {
	at := time.Now()
	data := obj.(*corev1.ConfigMap).Data
	s := Sight{At: at, MainRunID: data["mainRunID"], Phase: data["phase"], InSync: data["inSync"] == "true"}
	s.Generation, _ = strconv.ParseInt(data["generation"], 10, 64) // 0 is below every generation
	s.MainIndex, _ = strconv.Atoi(data["mainIndex"])
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sights = append(e.sights, s)
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

// First waits for the first sight of a generation above the given one.
func (e *Eye) First(ctx context.Context, above int64) (Sight, error) {
	for {
		e.mu.Lock()
		changed := e.changed
		for _, s := range e.sights {
			if s.Generation > above {
				e.mu.Unlock()
				return s, nil
			}
		}
		e.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Sight{}, fmt.Errorf("wait for a generation above %d: %w", above, context.Cause(ctx))
		}
	}
}
