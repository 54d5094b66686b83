package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"memgraph-controller/controller"
	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// Pauses of package controller's workers.
const (
	waitingAgain   = 100 * time.Millisecond
	blockedAgain   = time.Second
	unsettledAgain = 100 * time.Millisecond
	spreadPause    = 10 * time.Millisecond
	askTimeout     = time.Second
	storageAge     = 10 * time.Second
)

// term is the work of one leadership.
type term struct {
	c        *contender
	ctx      context.Context
	end      context.CancelCauseFunc
	urgent   *lane
	routine  *lane
	executor *reconcile.Executor
	turn     mainTurn // the executor's
	single   turn     // of a bug

	generation context.Context // of the present one
	supersede  context.CancelFunc
}

// lanes makes them, each with workers of its own.
func (t *term) lanes() {
	urgent, routine := &workers{free: controller.Defaults.UrgentWorkers}, &workers{free: plenty}
	switch {
	case t.c.w.bug.sharedWorkers:
		routine.free = size
		urgent = routine
	case t.c.w.bug.oneRoutineWorker:
		routine.free = 1
	}
	t.urgent = newLane(t.c, "G5", urgent, 5*time.Millisecond, 250*time.Millisecond)
	t.routine = newLane(t.c, "G7", routine, 50*time.Millisecond, 30*time.Second)
	t.urgent.work, t.routine.work = t.syncFailover, t.syncPod
	t.urgent.limit = urgentRound
}

// syncFailover mirrors controller's: load, examine, decide, act.
func (t *term) syncFailover(string) error {
	received := t.c.w.clock()
	record, err := t.c.load()
	if t.c.w.bug.offline && errors.Is(err, errNoAPI) {
		record, err = t.c.record, nil
	}
	if err != nil {
		return err
	}
	t.examine(record)
	if err := errors.Join(t.c.goesOn(), context.Cause(t.ctx)); err != nil {
		return err
	}
	plan := t.decide(record)
	plan.Seen, plan.Taken = received, received
	switch plan.Kind {
	case failover.Nothing:
		return nil
	case failover.Waiting:
		t.urgent.addAfter(clusterKey, waitingAgain)
		return nil
	case failover.Blocked:
		t.urgent.addAfter(clusterKey, blockedAgain)
		return nil
	}
	if plan.ChangesMain() || plan.Protect != nil {
		t.supersede()
		t.turn.wake()
	}
	report, err := failover.Execute(t.ctx, plan, failover.Effects{
		Store: effects{t}, Roles: roles{effects{t}}, Registrar: effects{t}, Gateways: effects{t}, Sleep: effects{t}.pause, Timeout: t.c.limited, Leader: t.c.node.String(),
	})
	t.c.w.tracef("%s executed %s: missed %v, err %v", t.c.node, plan.Kind, report.Missed, err)
	if t.generation.Err() != nil {
		t.generation, t.supersede = context.WithCancel(t.ctx)
	}
	t.reconcileAll()
	if err == nil {
		t.urgent.add(clusterKey)
	}
	return err
}

// decide is failover.Decide, on what a bug under test may have distorted.
func (t *term) decide(record memgraph.Topology) failover.Plan {
	s := t.c.snapshot(record)
	if t.c.w.bug.seen != nil {
		t.c.w.bug.seen(&s)
	}
	plan := failover.Decide(s)
	if t.c.w.bug.planned != nil {
		t.c.w.bug.planned(&plan)
	}
	t.c.w.decided(t.c, record, plan)
	return plan
}

// concerns holds for whom a record, or an order in it, names.
func concerns(t memgraph.Topology, p memgraph.Pod) bool {
	return p.Index == t.Main.Index || !t.Partner.None() && p.Index == t.Partner.Index || t.Order != nil && p.Name == t.Order.Argument
}

// examine asks MAIN, its partner and whom an order names, all at once.
func (t *term) examine(record memgraph.Topology) {
	if record.Generation == 0 {
		return
	}
	limit := controller.Defaults.ProbeTimeout
	if t.c.w.bug.patient {
		limit = time.Minute
	}
	var asked []*result
	for _, p := range t.c.pods {
		if p == nil || p.IP == "" || !concerns(record, *p) {
			continue
		}
		r := &result{s: t.c.s}
		asked = append(asked, r)
		t.c.s.spawn(func() { r.set(t.c.identify(t.ctx, *p, limit)) })
	}
	for _, r := range asked {
		r.within(t.c.s.now + time.Hour)
	}
}

// syncPod mirrors controller's: look at one pod, and make the steps on it.
func (t *term) syncPod(name string) error {
	if t.generation.Err() != nil {
		return nil // all pods are looked at once the next generation begins
	}
	pod, ok := t.pod(name)
	if !ok {
		return nil
	}
	p := t.pass(pod)
	defer t.c.w.passed(t.c, name, p)
	ctx, cancel := t.c.limited(t.generation, reconcile.PodTimeout)
	defer cancel()
	observed := t.observe(ctx, pod)
	if err := t.c.goesOn(); err != nil {
		return err
	}
	record := t.c.record
	p.main = memgraph.Pod{IP: record.Main.IP}.Addr()
	s := t.c.snapshot(record)
	if plan := t.decideQuietly(s); !plan.Idle() && t.urgent.key(clusterKey).failures == 0 {
		t.urgent.add(clusterKey)
	}
	if t.c.w.bug.wanted != nil {
		t.c.w.bug.wanted(&s)
	}
	steps := reconcile.Diff(s)
	if t.c.w.bug.steps != nil {
		steps = t.c.w.bug.steps(steps)
	}
	if pod.UID == record.Main.UID {
		t.spread(steps)
	}
	if err := errors.Join(observed, t.carryOut(ctx, stepsOn(pod, record, steps))); err != nil {
		return err
	}
	again := controller.Defaults.ObserveInterval
	if len(steps) > 0 || !record.InSync {
		again = unsettledAgain
	}
	t.routine.addAfter(name, again)
	return nil
}

func (t *term) decideQuietly(s memgraph.Snapshot) failover.Plan {
	if t.c.w.bug.seen != nil {
		t.c.w.bug.seen(&s)
	}
	return failover.Decide(s)
}

func (t *term) spread(steps []reconcile.Step) {
	for _, step := range steps {
		if name := step.Pod.Name; name != "" && t.routine.key(name).failures == 0 {
			t.routine.addAfter(name, spreadPause)
		}
	}
}

// carryOut makes steps, and asks MAIN what came of them.
func (t *term) carryOut(ctx context.Context, steps []reconcile.Step) error {
	if len(steps) == 0 {
		return nil
	}
	if t.c.w.bug.oneExecutor {
		t.single.take(t.c.s)
		defer t.single.give()
	}
	var results []reconcile.Result
	for _, chain := range chains(steps) {
		results = append(results, t.executor.Execute(ctx, chain)...)
	}
	errs := []error{t.c.goesOn(), t.c.listReplicas(ctx, steps[0].Main)}
	t.routine.add(steps[0].Main.Name)
	for _, r := range results {
		t.c.w.tracef("%s %s: %v", t.c.node, r.Step, r.Err)
		if r.Err != nil && !errors.Is(r.Err, reconcile.ErrBreakerOpen) {
			errs = append(errs, fmt.Errorf("%s: %w", r.Step, r.Err))
		}
	}
	return errors.Join(errs...)
}

// chains splits the steps under one key so that each part concerns one pod or one
// registration: the executor would make several at the same time, and the baton is one.
// Those of different keys it makes at the same time.
func chains(steps []reconcile.Step) [][]reconcile.Step {
	var out [][]reconcile.Step
	for i, s := range steps {
		if i == 0 || s.Pod.UID == "" || s.Pod.UID != steps[i-1].Pod.UID {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], s)
	}
	return out
}

// observe learns all of a pod's instance, unless that is known to be vain.
func (t *term) observe(ctx context.Context, pod memgraph.Pod) error {
	if !pod.Fit() {
		return nil
	}
	unmet := t.c.breakers.Do(reconcile.BreakerKey(pod), func() error { return t.c.identify(ctx, pod, askTimeout) })
	if unmet != nil {
		return nil
	}
	return t.c.inquire(ctx, pod)
}

func (t *term) pod(name string) (memgraph.Pod, bool) {
	for _, p := range t.c.pods {
		if p != nil && p.Name == name {
			return *p, true
		}
	}
	return memgraph.Pod{}, false
}

func (t *term) reconcileAll() {
	for _, p := range t.c.pods {
		if p != nil {
			t.routine.add(p.Name)
		}
	}
}

// stepsOn mirrors controller's: the steps that are made under pod's key.
func stepsOn(pod memgraph.Pod, record memgraph.Topology, steps []reconcile.Step) []reconcile.Step {
	var out []reconcile.Step
	for _, s := range steps {
		if s.Pod.UID == pod.UID || s.Pod.UID == "" && pod.UID == record.Main.UID {
			out = append(out, s)
		}
	}
	return out
}
