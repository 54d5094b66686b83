package reconcile

import (
	"context"
	"slices"
	"sync"

	"memgraph-controller/memgraph"
)

// Runner sends the statements that steps stand for.
type Runner interface {
	// Answers makes sure that pod is a replica that MAIN can reach: towards one
	// that is not, REGISTER blocks MAIN for seconds.
	Answers(ctx context.Context, pod memgraph.Pod) error
	Demote(ctx context.Context, pod memgraph.Pod) error
	Drop(ctx context.Context, main memgraph.Pod, replica string) error
	Register(ctx context.Context, main, pod memgraph.Pod, mode memgraph.SyncMode) error
}

// Evictor deletes a pod for another to come in its place, and for main to let go
// of its registration meanwhile.
type Evictor interface {
	Evict(ctx context.Context, main, pod memgraph.Pod, replica string) error
}

// Turn is a lock that is waited for no longer than the context lasts.
type Turn interface {
	// Take returns the context's cause if that ends first.
	Take(ctx context.Context) error
	Give()
}

// Result is what became of a step.
type Result struct {
	Step Step
	Err  error
}

// Executor applies steps. Runs of it may overlap: statements on MAIN, which
// refuses two at once, are sent one at a time across all of them.
type Executor struct {
	runner   Runner
	evictor  Evictor
	breakers *Breakers
	// Main is taken for every statement on MAIN.
	Main Turn
}

// NewExecutor sends statements through r, behind b, and evicts through ev.
func NewExecutor(r Runner, ev Evictor, b *Breakers) *Executor {
	return &Executor{runner: r, evictor: ev, breakers: b, Main: make(token, 1)}
}

// Execute applies steps: those on one pod in order until one fails, the pods in
// parallel. It returns a result for every step it came to. Once ctx ends, by a
// change of generation or of leadership, no further statement is sent.
func (e *Executor) Execute(ctx context.Context, steps []Step) []Result {
	all := chains(steps)
	results := make([][]Result, len(all))
	var wg sync.WaitGroup
	for i, chain := range all {
		wg.Go(func() { results[i] = e.chain(ctx, chain) })
	}
	wg.Wait()
	return slices.Concat(results...)
}

// chain applies the steps on one pod, within PodTimeout.
func (e *Executor) chain(ctx context.Context, steps []Step) (results []Result) {
	ctx, cancel := context.WithTimeout(ctx, PodTimeout)
	defer cancel()
	for _, s := range steps {
		err := e.apply(ctx, s)
		results = append(results, Result{Step: s, Err: err})
		if err != nil {
			return results
		}
	}
	return results
}

// apply sends one statement. What is asked of the pod itself is behind its
// breaker and needs no turn on MAIN, so that a slow pod holds up nobody.
func (e *Executor) apply(ctx context.Context, s Step) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch s.Verb {
	case Evict:
		return e.evictor.Evict(ctx, s.Main, s.Pod, s.Replica)
	case Demote:
		return e.breakers.Do(BreakerKey(s.Pod), func() error { return e.runner.Demote(ctx, s.Pod) })
	case Register:
		if err := e.breakers.Do(BreakerKey(s.Pod), func() error { return e.runner.Answers(ctx, s.Pod) }); err != nil {
			return err
		}
	}
	if err := e.Main.Take(ctx); err != nil {
		return err
	}
	defer e.Main.Give()
	if s.Verb == Drop {
		return e.runner.Drop(ctx, s.Main, s.Replica)
	}
	return e.runner.Register(ctx, s.Main, s.Pod, s.Mode)
}

// token is the Turn of whoever has put one into it.
type token chan struct{}

func (t token) Take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t token) Give() { <-t }

// chains groups steps by pod, in the order of each pod's first step.
func chains(steps []Step) [][]Step {
	var out [][]Step
	index := map[string]int{}
	for _, s := range steps {
		key := s.Pod.UID
		if key == "" {
			key = s.Replica // a registration without a pod
		}
		i, seen := index[key]
		if !seen {
			i = len(out)
			index[key] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], s)
	}
	return out
}

// BreakerKey names the breaker of a pod: another for every pod of the same name
// and for every container in it.
func BreakerKey(p memgraph.Pod) string { return p.UID + "/" + p.Container }
