package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

// runner records statements. do, if set, decides how each ends.
type runner struct {
	mu     sync.Mutex
	log    []string
	onMain int // statements under way on MAIN
	most   int // at the same time
	do     func(ctx context.Context, statement string) error
}

func (r *runner) Answers(ctx context.Context, p memgraph.Pod) error {
	return r.statement(ctx, "ask "+p.Name)
}

func (r *runner) Demote(ctx context.Context, p memgraph.Pod) error {
	return r.statement(ctx, "demote "+p.Name)
}

func (r *runner) Drop(ctx context.Context, _ memgraph.Pod, replica string) error {
	return r.main(ctx, "drop "+replica)
}

func (r *runner) Register(ctx context.Context, _, p memgraph.Pod, mode memgraph.SyncMode) error {
	return r.main(ctx, fmt.Sprintf("register %s %s", p.Name, mode))
}

func (r *runner) main(ctx context.Context, statement string) error {
	r.mu.Lock()
	r.onMain++
	r.most = max(r.most, r.onMain)
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.onMain--
	}()
	return r.statement(ctx, statement)
}

func (r *runner) statement(ctx context.Context, statement string) error {
	r.mu.Lock()
	r.log = append(r.log, statement)
	r.mu.Unlock()
	if r.do != nil {
		return r.do(ctx, statement)
	}
	return nil
}

// returned is a cluster in which pods 1 and 2 came back as MAIN.
func returned() []Step {
	return Diff(healthy(noPartner, isMain(1), isMain(2), status(1, memgraph.StatusInvalid)))
}

func TestStepsOnAPodAreMadeInOrder(t *testing.T) {
	r := &runner{}
	results := NewExecutor(r, r, NewBreakers()).Execute(t.Context(), returned())
	assert.Len(t, results, 6)
	for _, res := range results {
		assert.NoError(t, res.Err)
	}
	for _, p := range []string{"1", "2"} {
		want := []string{"demote mg-" + p, "drop mg_" + p, "ask mg-" + p, "register mg-" + p + " async"}
		on := slices.DeleteFunc(slices.Clone(r.log), func(l string) bool { return !slices.Contains(want, l) })
		assert.Equal(t, want, on)
	}
}

func TestAFailedStepEndsItsPodsChainOnly(t *testing.T) {
	r := &runner{do: func(_ context.Context, statement string) error {
		if statement == "demote mg-1" {
			return memgraph.ErrBusy
		}
		return nil
	}}
	results := NewExecutor(r, r, NewBreakers()).Execute(t.Context(), returned())
	assert.Len(t, results, 4)
	assert.ErrorIs(t, results[0].Err, memgraph.ErrBusy)
	assert.NotContains(t, r.log, "drop mg_1")
	assert.Contains(t, r.log, "register mg-2 async")
}

func TestASlowPodDelaysNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var served time.Duration
		r := &runner{do: func(ctx context.Context, statement string) error {
			switch statement {
			case "demote mg-1": // it hangs
				<-ctx.Done()
				return fmt.Errorf("%w: %w", memgraph.ErrUnreachable, ctx.Err())
			case "register mg-2 async":
				served = time.Since(start)
			}
			return nil
		}}
		results := NewExecutor(r, r, NewBreakers()).Execute(t.Context(), returned())
		assert.Zero(t, served, "invariant 5")
		assert.Equal(t, PodTimeout, time.Since(start), "a pod costs no more than its time")
		assert.ErrorIs(t, results[0].Err, memgraph.ErrUnreachable)
	})
}

func TestAPodThatIsAskedInVainHoldsUpNobodyOnMain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var served time.Duration
		r := &runner{do: func(ctx context.Context, statement string) error {
			switch statement {
			case "ask mg-1":
				<-ctx.Done()
				return ctx.Err()
			case "register mg-2 async":
				served = time.Since(start)
			}
			return nil
		}}
		NewExecutor(r, r, NewBreakers()).Execute(t.Context(), returned())
		assert.Zero(t, served, "invariant 5")
		assert.NotContains(t, r.log, "register mg-1 async", "nobody is registered who does not answer")
	})
}

func TestStatementsOnMainNeverOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &runner{do: func(context.Context, string) error {
			<-time.After(time.Millisecond) // of the bubble
			return nil
		}}
		e := NewExecutor(r, r, NewBreakers())
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { e.Execute(t.Context(), returned()) })
		}
		wg.Wait()
		assert.Equal(t, 1, r.most)
	})
}

func TestNoStatementIsSentOnceTheGenerationHasEnded(t *testing.T) {
	errSuperseded := errors.New("superseded")
	ctx, end := context.WithCancelCause(t.Context())
	r := &runner{}
	r.do = func(context.Context, string) error { end(errSuperseded); return nil }
	steps := slices.DeleteFunc(returned(), func(s Step) bool { return s.Pod.Index != 1 })
	results := NewExecutor(r, r, NewBreakers()).Execute(ctx, steps)
	require.Len(t, results, 2)
	assert.Equal(t, []string{"demote mg-1"}, r.log)
	assert.ErrorIs(t, results[1].Err, errSuperseded)
}

func TestBreakers(t *testing.T) {
	unreachable := func() error { return memgraph.ErrUnreachable }
	well := func() error { return nil }
	trip := func(t *testing.T, b *Breakers) {
		for range tripAfter {
			require.ErrorIs(t, b.Do("a", unreachable), memgraph.ErrUnreachable)
		}
	}
	t.Run("one that failed repeatedly costs no call, the others do", func(t *testing.T) {
		b := NewBreakers()
		trip(t, b)
		assert.Equal(t, Open, b.State("a"))
		assert.ErrorIs(t, b.Do("a", func() error { panic("called") }), ErrBreakerOpen)
		assert.NoError(t, b.Do("b", well))
	})
	t.Run("it tries again with one call, which closes it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := NewBreakers()
			trip(t, b)
			<-time.After(openFor + openJitter) // of the bubble
			assert.Equal(t, HalfOpen, b.State("a"))
			assert.Equal(t, []int{0, 1, 0}, []int{b.Count(Closed), b.Count(HalfOpen), b.Count(Open)})
			err := b.Do("a", func() error {
				assert.ErrorIs(t, b.Do("a", well), ErrBreakerOpen, "one at a time")
				return nil
			})
			require.NoError(t, err)
			assert.Equal(t, Closed, b.State("a"))
		})
	})
	t.Run("those that failed together are not tried together", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := NewBreakers()
			const pods = 20
			for n := range pods * tripAfter {
				_ = b.Do(fmt.Sprint(n%pods), unreachable)
			}
			require.Equal(t, pods, b.Count(Open))
			<-time.After(openFor - 1)
			require.Equal(t, pods, b.Count(Open))
			<-time.After(openJitter / 2)
			assert.NotZero(t, b.Count(Open))
			assert.NotZero(t, b.Count(HalfOpen))
		})
	})
	t.Run("a server that says no is well", func(t *testing.T) {
		b := NewBreakers()
		for range 3 * tripAfter {
			require.ErrorIs(t, b.Do("a", func() error { return memgraph.ErrBusy }), memgraph.ErrBusy)
		}
		assert.Equal(t, Closed, b.State("a"))
	})
	t.Run("what a failover cancelled says nothing", func(t *testing.T) {
		b := NewBreakers()
		for range 3 * tripAfter {
			_ = b.Do("a", func() error { return fmt.Errorf("%w: %w", memgraph.ErrUnreachable, context.Canceled) })
		}
		assert.Equal(t, Closed, b.State("a"))
	})
	t.Run("those of pods that are gone are forgotten", func(t *testing.T) {
		b := NewBreakers()
		trip(t, b)
		b.Retain(map[string]bool{"b": true})
		assert.Equal(t, Closed, b.State("a"))
		assert.Empty(t, b.byKey)
	})
	t.Run("a restarted container has a new one", func(t *testing.T) {
		p := memgraph.Pod{UID: "u", Container: "c1"}
		before := BreakerKey(p)
		p.Container = "c2"
		assert.NotEqual(t, before, BreakerKey(p))
	})
}

func (r *runner) Evict(ctx context.Context, _, p memgraph.Pod, _ string) error {
	return r.statement(ctx, "evict "+p.Name)
}
