package controller

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// clusterKey is the only key of the urgent lane: there is one MAIN.
const clusterKey = "cluster"

// startRetry is between two attempts to read the StatefulSet at the start; until
// it is there, there is nothing to do.
const startRetry = time.Second

// Gateway is that of this process; it is told of every newer record, as the other
// processes' gateways are: who is to be MAIN while clients are held, who is MAIN,
// and who would be next ("" is nobody). Fresh is that the record is known to be up to
// date. It does not wait for anything.
type Gateway interface {
	Expect(pod, addr, runID string, generation int64)
	Serve(pod, addr, runID string, generation int64)
	Prepare(addr string)
	Fresh(at time.Time)
}

// Dependencies are what a controller acts through.
type Dependencies struct {
	// Urgent is a clientset of its own for record and lease, without client-side
	// rate limit, so that nothing routine can throttle them.
	Urgent, Routine kubernetes.Interface
	// UrgentProber has connections of its own too, and so has Sentinel, whose
	// questions may stay unanswered for long.
	UrgentProber, Sentinel, Prober Prober
	Asker                          Asker
	Roles                          Roles
	Registrations                  Registrations
	// Resolve finds the addresses that a host's name leads to, as (*net.Resolver).LookupHost.
	Resolve func(ctx context.Context, host string) ([]string, error)
	// Forget ends the connections to an instance that is gone.
	Forget  func(addr string)
	Gateway Gateway
	// Vigil holds a connection to an instance, and tells when it breaks.
	Vigil func(ctx context.Context, addr string) (broke bool)
	// Quiet returns once the gateway holds its clients and nothing that it has sent
	// may still take effect, with the generation of that; nil if it cannot tell.
	Quiet func(context.Context) (int64, error)
	// Readers is told of the pods that clients may read from, MAIN's included: their
	// addresses, by the names that MAIN has for them. It does not wait.
	Readers func(map[string]string)
	// Disown tells the gateway that the MAINs below a generation were given up without
	// having been demoted.
	Disown func(below int64)
	// Heard is when a client last got a byte from the process at addr: it lives.
	Heard      func(addr string) time.Time
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
	gateways *attendance
	garbage  workqueue.TypedInterface[string] // addresses of ended instances

	cached   caches
	selector string
	end      context.CancelCauseFunc // ends Run
	synced   chan struct{}           // closed once the caches are filled
	vacancy  chan struct{}           // capacity 1: the lease was released
	term     atomic.Pointer[term]    // nil while another leads
}

// caches are what the informers keep.
type caches struct {
	pods corelisters.PodNamespaceLister
	sets appslisters.StatefulSetNamespaceLister
}

// New checks cfg. The controller does nothing until Run and Lead.
func New(cfg Config, d Dependencies) (*Controller, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	c := &Controller{
		cfg: cfg, deps: d,
		store:    &configMapStore{configMaps: d.Urgent.CoreV1().ConfigMaps(cfg.Namespace), statefulSet: cfg.StatefulSet},
		seen:     newObservations(),
		breakers: reconcile.NewBreakers(),
		garbage:  workqueue.NewTyped[string](),
		synced:   make(chan struct{}),
		vacancy:  make(chan struct{}, 1),
	}
	c.metrics = newMetrics(d.Registerer, c.breakers)
	c.news, c.gateways = newNews(c), c.newAttendance()
	return c, nil
}

// Run watches, and keeps the gateway informed, until ctx ends. It returns once
// all it started has ended, with an error only where it cannot go on. It may be
// called once, and must outlast Lead.
func (c *Controller) Run(ctx context.Context) error {
	watch, end := context.WithCancelCause(ctx)
	defer end(nil)
	c.end = end
	var err error
	if c.selector, err = c.awaitSelector(watch); err != nil {
		return unlessAsked(ctx, err)
	}
	informers, err := c.informers()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.garbage.ShutDown()
	wg.Go(c.collectGarbage)
	wg.Go(func() { c.news.run(watch) })
	wg.Go(func() { c.gateways.run(watch) })
	for _, i := range informers {
		wg.Go(func() { i.RunWithContext(watch) })
	}
	for _, i := range informers {
		if !cache.WaitFor(watch, "", i.HasSyncedChecker()) {
			return unlessAsked(ctx, fmt.Errorf("sync cache of %s: %w", i.kind, context.Cause(watch)))
		}
	}
	close(c.synced)
	wg.Go(func() { c.refresh(watch) })
	<-watch.Done()
	return unlessAsked(ctx, context.Cause(watch))
}

// unlessAsked is nil where the end was asked for by ctx's, and else why it came.
func unlessAsked(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
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
func (c *Controller) informers() ([]informer, error) {
	kube, ns := c.deps.Routine, c.cfg.Namespace
	labelled := func(selector string) metav1.ListOptions { return metav1.ListOptions{LabelSelector: selector} }
	named := func(name string) metav1.ListOptions {
		return metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()}
	}
	records := watching(watchedRecord, kube.CoreV1().ConfigMaps(ns), named(RecordName(c.cfg.StatefulSet)), &corev1.ConfigMap{}, c)
	sets := watching(watchedStatefulSet, kube.AppsV1().StatefulSets(ns), named(c.cfg.StatefulSet), &appsv1.StatefulSet{}, c)
	pods := watching(watchedPods, kube.CoreV1().Pods(ns), labelled(c.selector), &corev1.Pod{}, c)
	leases := watching(watchedGateways, kube.CoordinationV1().Leases(ns), labelled(gatewayOf+"="+c.cfg.StatefulSet), &coordinationv1.Lease{}, c)
	leadership := watching(watchedLeadership, kube.CoordinationV1().Leases(ns), named(LeaseName(c.cfg.StatefulSet)), &coordinationv1.Lease{}, c)

	c.cached.sets = appslisters.NewStatefulSetLister(sets.GetIndexer()).StatefulSets(ns)
	c.cached.pods = corelisters.NewPodLister(pods.GetIndexer()).Pods(ns)
	for _, handle := range []struct {
		by informer
		cache.ResourceEventHandler
	}{
		{records, c.recordHandler()},
		{sets, cache.ResourceEventHandlerFuncs{AddFunc: c.onSet, UpdateFunc: func(_, obj any) { c.onSet(obj) }}},
		{pods, c.podHandler()},
		{leases, c.gateways.handler()},
		{leadership, cache.ResourceEventHandlerFuncs{UpdateFunc: func(_, obj any) { c.onLeadership(obj) }}},
	} {
		if _, err := handle.by.AddEventHandler(handle); err != nil {
			return nil, fmt.Errorf("watch %s: %w", handle.by.kind, err)
		}
	}
	return []informer{records, sets, pods, leases, leadership}, nil
}

// learn takes a record that the watch or our own write told of, and tells the
// gateway if it is news (invariant 5).
func (c *Controller) learn(t memgraph.Topology) bool {
	if !c.record.offer(t) {
		return false
	}
	c.metrics.record(t)
	addr := memgraph.Pod{IP: t.Main.IP}.Addr()
	if !handedOver(t) {
		c.deps.Disown(t.Generation)
	}
	if t.Phase != memgraph.Stable {
		c.deps.Gateway.Expect(t.Main.Pod, addr, t.Main.RunID, t.Generation)
		c.gateways.speak()
		return true // and clients are about to need what was prepared
	}
	c.seen.update(t.Main.UID, t.Main.RunID, func(i *memgraph.Instance) { i.Diverged = false }) // from now on others do, from it
	c.deps.Gateway.Serve(t.Main.Pod, addr, t.Main.RunID, t.Generation)
	switch {
	case t.InSync:
		c.deps.Gateway.Prepare(memgraph.Pod{IP: t.Partner.IP}.Addr())
	default:
		c.deps.Gateway.Prepare("")
	}
	return true
}

// handedOver reports whether the MAIN before t's was demoted, or will be, before
// another is promoted. It can be told of a record that was not seen in between.
func handedOver(t memgraph.Topology) bool {
	if t.Phase.ChangesMain() || len(t.History) == 0 {
		return t.Phase == memgraph.Switching
	}
	return failover.Kind(t.History[0].Kind) == failover.Handover
}

// Synced reports whether the caches are filled: what is known can be acted on.
func (c *Controller) Synced() bool {
	select {
	case <-c.synced:
		return true
	default:
		return false
	}
}
