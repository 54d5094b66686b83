package controller

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const (
	// watchAgain is between the beginnings of two attempts at the API server: one that
	// has just come back is not to be worn out.
	watchAgain = time.Second
	// listTimeout bounds an attempt, which takes milliseconds. Where packets get lost,
	// TCP tries again within it.
	listTimeout = 5 * time.Second
	// watchFor is when the API server ends a watch at the earliest, and twice of it at
	// the latest, lest one that it has forgotten stays silent for ever.
	watchFor = 5 * time.Minute
)

// source is where an informer has its objects from. It ends for the informer with its
// context only: whenever the API server ends the watch, or is gone, all there is is
// read again, over and over until that can be had, and the informer is told what is
// not as it was. client-go's own pause before that grows to 30 to 60 s.
//
// One goroutine reads the newest that the API server has, and watches on from there:
// what is told never goes back.
type source struct {
	kind  watched
	list  func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
	only  metav1.ListOptions // selects the objects
	log   *slog.Logger
	known map[string]object // by name; what the informer was told

	*freshness
}

// object is any of Kubernetes'.
type object interface {
	metav1.Object
	runtime.Object
}

// page is all there was at a version.
type page struct {
	list    runtime.Object
	objects []runtime.Object
	version string
}

// clientOf is a typed client; L is a list of what it is for.
type clientOf[L runtime.Object] interface {
	List(ctx context.Context, o metav1.ListOptions) (L, error)
	Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

// informer is a shared informer and the source that it has its objects from.
type informer struct {
	cache.SharedIndexInformer
	*source
}

// watching makes an informer of those objects that are selected by only.
func watching[L runtime.Object](kind watched, from clientOf[L], only metav1.ListOptions, example runtime.Object, c *Controller) informer {
	s := &source{
		kind: kind, only: only, watch: from.Watch,
		list:      func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return from.List(ctx, o) },
		log:       c.deps.Log.With("cluster", c.cfg.StatefulSet, "watch", kind),
		freshness: c.metrics.watches[kind],
	}
	lw := cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{ListWithContextFunc: s.begin, WatchFuncWithContext: s.goOn}, s)
	return informer{cache.NewSharedIndexInformer(lw, example, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}), s}
}

// IsWatchListSemanticsUnSupported has client-go list before it watches.
func (s *source) IsWatchListSemanticsUnSupported() bool { return true }

// begin returns all there is, once that can be read.
func (s *source) begin(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	p, err := s.await(ctx)
	if err != nil {
		return nil, err
	}
	s.differ(p.objects) // from nothing
	return p.list, nil
}

// goOn watches on from there.
func (s *source) goOn(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	ctx, stop := context.WithCancel(ctx)
	w := &endless{source: s, stop: stop, told: make(chan watch.Event)}
	w.running.Go(func() { w.run(ctx, o.ResourceVersion) })
	return w, nil
}

// await reads all there is, as soon as the API server lets it. It fails when ctx ends.
func (s *source) await(ctx context.Context) (page, error) {
	for {
		begun := time.Now()
		p, err := s.read(ctx)
		if err == nil {
			s.seen(begun)
			return p, nil
		}
		if ctx.Err() == nil && s.missed() {
			s.log.Warn("watch is stale, trying on", "err", err)
		}
		if err := sleep(ctx, time.Until(begun.Add(watchAgain))); err != nil {
			return page{}, err
		}
	}
}

func (s *source) read(ctx context.Context) (page, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	list, err := s.list(ctx, s.only)
	if err != nil {
		return page{}, err
	}
	of, err := meta.ListAccessor(list)
	if err != nil {
		return page{}, err
	}
	objects, err := meta.ExtractListWithAlloc(list)
	return page{list: list, objects: objects, version: of.GetResourceVersion()}, err
}

// differ takes note of all there is, and returns what is not as it was known.
func (s *source) differ(present []runtime.Object) (changes []watch.Event) {
	missing := s.known
	s.known = map[string]object{}
	for _, p := range present {
		o, ok := p.(object)
		if !ok {
			continue // there is no such list
		}
		was, known := missing[o.GetName()]
		delete(missing, o.GetName())
		s.known[o.GetName()] = o
		switch {
		case !known:
			changes = append(changes, watch.Event{Type: watch.Added, Object: o})
		case was.GetUID() != o.GetUID() || was.GetResourceVersion() != o.GetResourceVersion():
			changes = append(changes, watch.Event{Type: watch.Modified, Object: o})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		changes = append(changes, watch.Event{Type: watch.Deleted, Object: missing[name]})
	}
	return changes
}

// endless is a watch that goes on until it is stopped.
type endless struct {
	*source
	stop    context.CancelFunc
	told    chan watch.Event
	running sync.WaitGroup
}

// ResultChan is what happens.
func (w *endless) ResultChan() <-chan watch.Event { return w.told }

// Stop ends it.
func (w *endless) Stop() {
	w.stop()
	w.running.Wait()
}

// run tells what happens from version on, until ctx ends.
func (w *endless) run(ctx context.Context, version string) {
	defer close(w.told)
	for ctx.Err() == nil {
		begun := time.Now()
		err := w.follow(ctx, version)
		w.ended()
		w.log.Debug("watch has ended", "err", err)
		_ = sleep(ctx, time.Until(begun.Add(watchAgain))) // its end ends the loop
		version = w.catchUp(ctx)
	}
}

// follow tells what one watch tells, from version on, until that ends.
func (w *endless) follow(ctx context.Context, version string) error {
	watching, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	o := w.only
	o.ResourceVersion = version
	o.TimeoutSeconds = new(int64((watchFor + rand.N(watchFor)).Seconds()))
	late := time.AfterFunc(listTimeout, func() { cancel(context.DeadlineExceeded) })
	stream, err := w.watch(watching, o)
	late.Stop()
	if err != nil {
		return err
	}
	defer stream.Stop()
	if w.stands() {
		w.log.Info("watch stands again")
	}
	for {
		select {
		case <-watching.Done():
			return context.Cause(watching)
		case e, open := <-stream.ResultChan():
			if !open {
				return nil
			}
			if err := w.pass(ctx, e); err != nil {
				return err
			}
		}
	}
}

// pass tells one event, or returns why the watch has ended. It does not end with the
// watch: what is noted is told.
func (w *endless) pass(ctx context.Context, e watch.Event) error {
	if e.Type == watch.Error {
		return apierrors.FromObject(e.Object)
	}
	o, ok := e.Object.(object)
	switch {
	case !ok:
		return fmt.Errorf("%s event of %T", e.Type, e.Object)
	case e.Type == watch.Deleted:
		delete(w.known, o.GetName())
	default:
		w.known[o.GetName()] = o
	}
	return w.tell(ctx, e)
}

func (w *endless) tell(ctx context.Context, e watch.Event) error {
	select {
	case w.told <- e:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// catchUp tells what has happened since the watch ended, and returns the version from
// which to watch on, unless ctx ends.
func (w *endless) catchUp(ctx context.Context) (version string) {
	p, err := w.await(ctx)
	if err != nil {
		return ""
	}
	for _, e := range w.differ(p.objects) {
		if w.tell(ctx, e) != nil {
			return ""
		}
	}
	return p.version
}
