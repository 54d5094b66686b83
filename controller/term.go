package controller

import (
	"context"
	"sync"
	"time"

	"memgraph-controller/reconcile"
)

// term is the work of one leadership: two lanes, their workers, and the context
// of the present generation. It exists while the lease is held.
type term struct {
	c        *Controller
	urgent   *lane
	routine  *lane
	effects  effects
	executor *reconcile.Executor

	mu sync.Mutex
	// generation ends with the next decision about MAIN or its partner, and the next
	// begins when that is carried out; what the routine lane does runs under it
	// (invariant 3). Where the next began at once:
	//
	//  1. urgent: the generation ends, the next begins
	//  2. routine: takes it, and the record, which is as it was
	//  3. urgent: writes the record, demotes the old MAIN, promotes the new one
	//  4. routine: finds two claims to be MAIN, and demotes the new one
	generation context.Context
	supersede  context.CancelFunc
}

// runTerm works until ctx ends or the authority to, and returns when the last
// worker has. On ctx's end a change of MAIN that is under way is finished, which
// takes seconds at most: another leader would begin by finding out about it.
// valid tells at any moment whether the authority holds.
func (c *Controller) runTerm(ctx, authority context.Context, valid func() error) {
	e := effects{c: c, authority: valid}
	t := &term{
		c:        c,
		urgent:   newLane(urgent, urgentFirstRetry, urgentLastRetry, c.metrics),
		routine:  newLane(routine, routineFirstRetry, routineLastRetry, c.metrics),
		effects:  e,
		executor: reconcile.NewExecutor(e, e, c.breakers),
	}
	working, stop := context.WithCancel(authority)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	t.newGeneration(working)
	c.term.Store(t)
	t.urgent.add(clusterKey, time.Now())

	var wg sync.WaitGroup
	for range c.cfg.UrgentWorkers {
		wg.Go(func() {
			for working.Err() == nil && t.processUrgent(working, authority) {
			}
		})
	}
	for _, part := range []probed{probedMain, probedPartner} {
		wg.Go(func() { (&sentry{t: t, part: part}).run(working) })
	}
	wg.Go(func() { t.startRoutine(working, &wg) })
	wg.Go(func() { t.vigil(working, probedMain) })
	wg.Go(func() { t.vigil(working, probedPartner) })
	<-working.Done()
	c.term.Store(nil)
	t.urgent.queue.ShutDown()
	t.routine.queue.ShutDown()
	wg.Wait()
	t.endGeneration()
}

// startRoutine starts the routine lane once the record was read live: what the
// watch has delivered so far may be from before the last leader's last write.
func (t *term) startRoutine(ctx context.Context, wg *sync.WaitGroup) {
	for ctx.Err() == nil {
		if _, err := t.load(ctx); err == nil {
			break
		}
		_ = sleep(ctx, urgentLastRetry) // its end ends the loop
	}
	t.reconcileAll()
	t.processRoutine(wg)
}

// endGeneration ends what the routine lane does, and has it begin nothing.
func (t *term) endGeneration() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.supersede()
}

// newGeneration lets the routine lane act by the record as it is now.
func (t *term) newGeneration(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.generation, t.supersede = context.WithCancel(ctx)
}

func (t *term) presentGeneration() context.Context {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.generation
}

// reconcileAll has the routine lane look at every pod now.
func (t *term) reconcileAll() {
	now := time.Now()
	for _, p := range t.c.pods() {
		t.routine.add(p.Name, now)
	}
}
