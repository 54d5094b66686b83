package controller

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// clusterKey is the only key of the urgent lane: there is one MAIN.
const clusterKey = "cluster"

// startRetry is between two attempts to read the StatefulSet at the start; until
// it is there, there is nothing to do.
const startRetry = time.Second

// Dependencies are what a controller acts through.
type Dependencies struct {
	// Urgent is a clientset of its own for record and lease, without client-side
	// rate limit, so that nothing routine can throttle them.
	Urgent, Routine kubernetes.Interface
	Prober          Prober
	Asker           Asker
	Roles           failover.Roles
	Registrations   Registrations
	// Forget ends the connections to an instance that is gone.
	Forget     func(addr string)
	Switch     failover.Switch
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Controller keeps one StatefulSet's MAIN writable while it leads, and its own
// gateway informed always.
type Controller struct {
	cfg      Config
	deps     Dependencies
	store    *configMapStore
	record   recordCache
	seen     *observations
	breakers *reconcile.Breakers
	metrics  *metrics
	news     *news

	podLister corelisters.PodNamespaceLister
	setLister appslisters.StatefulSetNamespaceLister
	synced    atomic.Bool
	term      atomic.Pointer[term] // nil while another leads
}

// New checks cfg. The controller does nothing until Run.
func New(cfg Config, d Dependencies) (*Controller, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Controller{
		cfg: cfg, deps: d,
		store:    &configMapStore{configMaps: d.Urgent.CoreV1().ConfigMaps(cfg.Namespace), statefulSet: cfg.StatefulSet},
		seen:     newObservations(),
		breakers: reconcile.NewBreakers(),
		metrics:  newMetrics(d.Registerer),
	}
	c.news = newNews(c)
	return c, nil
}

// Run watches until ctx ends, and leads whenever it can. It returns once all it
// started has ended and the lease is released.
func (c *Controller) Run(ctx context.Context) error {
	selector, err := c.awaitSelector(ctx)
	if err != nil {
		return err
	}
	factories, err := c.informers(selector)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	wg.Go(func() { c.news.run(watch) })
	for _, f := range factories {
		f.Start(watch.Done())
		defer f.Shutdown()
		for kind, ok := range f.WaitForCacheSync(watch.Done()) {
			if !ok {
				return fmt.Errorf("sync cache of %s: %w", kind, context.Cause(ctx))
			}
		}
	}
	c.synced.Store(true)
	c.lead(ctx)
	stop()
	return nil
}

// awaitSelector reads which pods are the StatefulSet's, once it exists.
func (c *Controller) awaitSelector(ctx context.Context) (selector string, err error) {
	warned := false
	err = wait.PollUntilContextCancel(ctx, startRetry, true, func(ctx context.Context) (bool, error) {
		set, err := c.deps.Routine.AppsV1().StatefulSets(c.cfg.Namespace).Get(ctx, c.cfg.StatefulSet, metav1.GetOptions{})
		if apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) {
			return false, fmt.Errorf("get statefulset %s/%s: %w", c.cfg.Namespace, c.cfg.StatefulSet, err)
		}
		if err != nil {
			if !warned {
				c.deps.Log.Warn("statefulset cannot be read, trying on", "cluster", c.cfg.StatefulSet, "err", err)
			}
			warned = true
			return false, nil
		}
		selector = metav1.FormatLabelSelector(set.Spec.Selector)
		return true, nil
	})
	return selector, err
}

// informers watch the pods by label, and record and StatefulSet by name.
func (c *Controller) informers(selector string) ([]informers.SharedInformerFactory, error) {
	restricted := func(tweak func(*metav1.ListOptions)) informers.SharedInformerFactory {
		return informers.NewSharedInformerFactoryWithOptions(c.deps.Routine, 0,
			informers.WithNamespace(c.cfg.Namespace), informers.WithTweakListOptions(tweak))
	}
	named := func(name string) func(*metav1.ListOptions) {
		return func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		}
	}
	records := restricted(named(RecordName(c.cfg.StatefulSet)))
	sets := restricted(named(c.cfg.StatefulSet))
	pods := restricted(func(o *metav1.ListOptions) { o.LabelSelector = selector })

	c.setLister = sets.Apps().V1().StatefulSets().Lister().StatefulSets(c.cfg.Namespace)
	c.podLister = pods.Core().V1().Pods().Lister().Pods(c.cfg.Namespace)
	for _, w := range []struct {
		informer cache.SharedIndexInformer
		handler  cache.ResourceEventHandler
	}{
		{records.Core().V1().ConfigMaps().Informer(), c.recordHandler()},
		{sets.Apps().V1().StatefulSets().Informer(), cache.ResourceEventHandlerFuncs{}},
		{pods.Core().V1().Pods().Informer(), c.podHandler()},
	} {
		if _, err := w.informer.AddEventHandler(w.handler); err != nil {
			return nil, fmt.Errorf("watch: %w", err)
		}
	}
	// The record first: the gateway needs it, and handlers of pods consult it.
	return []informers.SharedInformerFactory{records, sets, pods}, nil
}

// learn takes a record that the watch or our own write told of, and tells the
// gateway if it is news (invariant 5).
func (c *Controller) learn(t memgraph.Topology) bool {
	if !c.record.offer(t) {
		return false
	}
	c.metrics.record(t)
	addr := memgraph.Pod{IP: t.Main.IP}.Addr()
	c.deps.Switch.Serve(t.Main.Pod, addr, t.Main.RunID, t.Generation)
	return true
}

// Synced reports whether the caches are filled: what is known can be acted on.
func (c *Controller) Synced() bool { return c.synced.Load() }
