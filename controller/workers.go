package controller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

const (
	// loadTimeout bounds reading the record, which takes 1 to 5 ms.
	loadTimeout = 2 * time.Second
	// waitingAgain and blockedAgain are when a plan that could not be made is
	// tried again without an event: what is waited for is expected in
	// milliseconds to seconds, what needs an operator is not.
	waitingAgain = 100 * time.Millisecond
	blockedAgain = time.Second
	// unsettledAgain is when a pod is looked at again while the cluster is on its
	// way to where the record wants it.
	unsettledAgain = 100 * time.Millisecond
	// spreadPause bounds how often MAIN's list can call for steps on a pod, were
	// they ever to change nothing.
	spreadPause = 10 * time.Millisecond
)

// processUrgent takes one key of the urgent lane; false once it is shut down.
func (t *term) processUrgent(working, authority context.Context) bool {
	key, received, ok := t.urgent.take()
	if !ok {
		return false
	}
	defer t.urgent.queue.Done(key)
	t.settle(t.urgent, key, t.syncFailover(working, authority, received))
	return true
}

// processRoutine takes one key of the routine lane after the other until that is shut
// down. Each has a worker of its own, so that pods that hang, however many, leave one
// to every other: there are as many keys as pods, and each is in one place at a time.
func (t *term) processRoutine(workers *sync.WaitGroup) {
	for {
		key, _, ok := t.routine.take()
		if !ok {
			return
		}
		workers.Go(func() {
			defer t.routine.queue.Done(key)
			t.settle(t.routine, key, t.syncPod(t.presentGeneration(), key))
		})
	}
}

// settle is the one place where the errors of a lane end.
func (t *term) settle(l *lane, key string, err error) {
	switch {
	case err == nil:
		l.queue.Forget(key)
	case errors.Is(err, ErrConflict):
		t.c.deps.Log.Debug("record changed meanwhile", "lane", l.name, "key", key, "err", err)
		l.queue.Add(key)
	case errors.Is(err, context.Canceled), errors.Is(err, errLeaseStale):
		l.queue.Forget(key) // superseded, or no longer ours to do
	default:
		t.c.deps.Log.Warn("retrying", "lane", l.name, "key", key, "attempt", l.queue.NumRequeues(key)+1, "err", err)
		l.queue.AddRateLimited(key)
	}
}

// syncFailover reads the record, asks those it names, decides, and acts. What it
// has begun to act on ends with the authority only.
func (t *term) syncFailover(ctx, authority context.Context, received time.Time) error {
	taken := time.Now()
	record, err := t.load(ctx)
	if err != nil {
		return err
	}
	s := t.examine(ctx, record)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	plan := failover.Decide(s)
	plan.Seen, plan.Taken = received, taken
	t.c.news.decided(plan)
	switch plan.Kind {
	case failover.Nothing:
		return nil
	case failover.Waiting:
		t.urgent.queue.AddAfter(clusterKey, waitingAgain)
		return nil
	case failover.Blocked:
		t.urgent.queue.AddAfter(clusterKey, blockedAgain)
		return nil
	}
	if err := t.execute(ctx, authority, plan); err != nil {
		return err
	}
	t.urgent.queue.Add(clusterKey) // what is next, if anything
	return nil
}

// execute carries a plan out, and has all pods looked at after it. While MAIN or its
// partner changes, nothing routine is to meddle.
func (t *term) execute(ctx, authority context.Context, plan failover.Plan) error {
	defer t.reconcileAll()
	if plan.ChangesMain() || plan.Protect != nil {
		t.endGeneration()
		defer t.newGeneration(ctx)
	}
	report, err := failover.Execute(authority, plan, t.effects.failover())
	t.c.news.executed(plan, report, err)
	return err
}

// load reads the record, live: a decision on a stale one would only fail at its
// first write. One that is damaged, or whose generation has gone back, is as good
// as none, but for what operators said, and the revision at which it is replaced.
func (t *term) load(ctx context.Context) (memgraph.Topology, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	record, err := t.c.store.Load(ctx)
	if err != nil && !errors.Is(err, ErrDamaged) {
		return memgraph.Topology{}, err
	}
	if err != nil || record.Generation < t.c.record.highest() {
		t.c.record.raise(record.Generation)
		return record.Said(), nil
	}
	if record.Generation > 0 {
		t.c.learn(record)
	}
	return record, nil
}

// examine asks MAIN, its partner and whom an order names who they are, all at once, whatever their
// breakers say: the decision needs to know it now. A MAIN whose pod is gone is
// asked at the address that it had. A leader that is new asks everybody, and what
// they hold: whom it does not know the new MAIN would have to register later.
func (t *term) examine(ctx context.Context, record memgraph.Topology) memgraph.Snapshot {
	if record.Generation == 0 {
		return t.c.snapshot(record) // nobody is named; the routine lane asks all
	}
	var wg sync.WaitGroup
	last := lastMain(record)
	present := false
	for _, p := range t.c.pods() {
		present = present || p.UID == last.UID
		named := p.Index == record.Main.Index || !record.Partner.None() && p.Index == record.Partner.Index ||
			record.Order != nil && p.Name == record.Order.Argument
		stranger := p.Fit() && t.c.seen.of(p.UID).Reach == memgraph.NotAsked
		if p.IP != "" && (named || stranger) {
			wg.Go(func() { t.meet(ctx, p, stranger) })
		}
	}
	var leftover memgraph.Pod
	if !present && t.c.seen.leftover(last.UID) {
		wg.Go(func() { leftover = t.c.leftover(ctx, last) })
	}
	wg.Wait()
	s := t.c.snapshot(record)
	s.Leftover = leftover
	return s
}

// meet asks p who it is and, if it is a stranger, the rest. What it answers is
// noted with the pod, and what it does not is decided without.
func (t *term) meet(ctx context.Context, p memgraph.Pod, stranger bool) {
	if t.c.identify(ctx, t.c.deps.UrgentProber, p, t.c.cfg.ProbeTimeout) != nil || !stranger {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, t.c.cfg.ProbeTimeout)
	defer cancel()
	_ = t.c.inquire(ctx, p)
}

// lastMain is who took writes last: while MAIN changes, the one it changes from.
func lastMain(record memgraph.Topology) memgraph.Member {
	if record.Phase.ChangesMain() {
		return record.Pending.From
	}
	return record.Main
}

// syncPod looks at one pod and makes the steps that concern it. MAIN's key also
// stands for registrations without a pod. A pod that all went well with is
// looked at again by and by, one that failed when its back-off says so.
func (t *term) syncPod(ctx context.Context, name string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx) // all pods are looked at once the next generation begins
	}
	pod, ok := t.pod(name)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reconcile.PodTimeout)
	defer cancel()
	observed := t.observe(ctx, pod)
	record := t.c.record.latest()
	s := t.c.snapshot(record)
	if plan := failover.Decide(s); !plan.Idle() && t.urgent.queue.NumRequeues(clusterKey) == 0 {
		t.urgent.add(clusterKey, s.Now) // else it is about to be tried again
	}
	t.c.metrics.lacking.Set(float64(reconcile.Lacking(s)))
	steps := reconcile.Diff(s)
	if pod.UID == record.Main.UID {
		t.spread(steps)
	}
	err := errors.Join(observed, t.carryOut(ctx, stepsOn(pod, record, steps)), t.effects.showReadiness(ctx, s, name))
	if err != nil {
		return err
	}
	again := t.c.cfg.ObserveInterval
	if len(steps) > 0 || !record.InSync {
		again = unsettledAgain
	}
	t.routine.queue.AddAfter(name, again)
	return nil
}

// spread has the pods looked at that MAIN's list calls for steps on, unless they
// are waiting for another try.
func (t *term) spread(steps []reconcile.Step) {
	for _, step := range steps {
		if name := step.Pod.Name; name != "" && t.routine.queue.NumRequeues(name) == 0 {
			t.routine.queue.AddAfter(name, spreadPause)
		}
	}
}

// carryOut makes steps, and asks MAIN what came of them: the next look at the
// pod must not go by a list from before.
func (t *term) carryOut(ctx context.Context, steps []reconcile.Step) error {
	if len(steps) == 0 {
		return nil
	}
	results := t.executor.Execute(ctx, steps)
	t.c.news.reconciled(results)
	main := steps[0].Main
	errs := []error{t.c.list(ctx, main)}
	t.routine.add(main.Name, time.Now()) // whose key decides on what follows
	for _, r := range results {
		if r.Err != nil && !errors.Is(r.Err, reconcile.ErrBreakerOpen) {
			errs = append(errs, fmt.Errorf("%s: %w", r.Step, r.Err))
		}
	}
	return errors.Join(errs...)
}

// observe learns all of a pod's instance, unless that is known to be vain. That
// nobody answered is noted with the pod; other failures are returned.
func (t *term) observe(ctx context.Context, pod memgraph.Pod) error {
	if !pod.Fit() {
		return nil
	}
	unmet := t.c.breakers.Do(reconcile.BreakerKey(pod), func() error {
		return t.c.identify(ctx, t.c.deps.Prober, pod, askTimeout)
	})
	if unmet != nil {
		return nil
	}
	if err := t.c.inquire(ctx, pod); err != nil {
		return fmt.Errorf("observe %s: %w", pod.Name, err)
	}
	return nil
}

func (t *term) pod(name string) (memgraph.Pod, bool) {
	for _, p := range t.c.pods() {
		if p.Name == name {
			return p, true
		}
	}
	return memgraph.Pod{}, false
}

// stepsOn picks the steps that are made under pod's key.
func stepsOn(pod memgraph.Pod, record memgraph.Topology, steps []reconcile.Step) []reconcile.Step {
	var out []reconcile.Step
	for _, s := range steps {
		if s.Pod.UID == pod.UID || s.Pod.UID == "" && pod.UID == record.Main.UID {
			out = append(out, s)
		}
	}
	return out
}
