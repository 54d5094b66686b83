package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/memgraphtest"
)

// successionGap is for a change of MAIN that a new leader has to make or finish,
// after the old one has released the lease: the election tries for it again
// after 1 to 2.2 s.
const successionGap = 4 * time.Second

// leaseGap is for a change of MAIN by a leader that has to wait first until the
// lease of one that went silent has run out: 6 s, and the election's next attempt.
const leaseGap = 10 * time.Second

// scenario is one thing that happens once, to a whole cluster under load.
type scenario struct {
	*run
	before Status // the leader's
	begun  time.Time
}

func newScenario(t *testing.T) (context.Context, *scenario) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*roundTimeout)
	t.Cleanup(cancel)
	s := &scenario{run: newRun(ctx, t)}
	var err error
	s.before, err = lab.Leader(ctx)
	require.NoError(t, err)
	s.begun = time.Now()
	return ctx, s
}

// async is the replica that is not the partner.
func (s *scenario) async() string {
	pods := bystanders(s.before)
	require.NotEmpty(s.t, pods)
	return pods[0]
}

// assertSteady asserts that the record has kept MAIN, and never said that the
// partner is out of sync.
func (s *scenario) assertSteady() {
	s.t.Helper()
	for _, sight := range lab.Eye.Since(s.begun) {
		assert.Equal(s.t, s.before.Record.Generation, sight.Generation)
		assert.True(s.t, sight.InSync, "%+v", sight)
	}
}

// assertGap asserts that w never had to wait for longer than limit.
func (s *scenario) assertGap(w *Writer, limit time.Duration) {
	s.t.Helper()
	gap := w.Gap(s.begun).Length()
	s.t.Logf("%s: longest gap %s", w.name, gap)
	assert.Less(s.t, gap, limit, w.name)
}

// assertSpared asserts that no client saw an error, or had to wait for long.
func (s *scenario) assertSpared() {
	s.t.Helper()
	for _, w := range s.writers {
		s.assertGap(w, maxGap)
		assert.Empty(s.t, w.Errors(), w.name)
	}
}

// awaitCopy waits until pod holds what the writers wrote, who have stopped.
func (s *run) awaitCopy(ctx context.Context, pod string) {
	s.t.Helper()
	for _, w := range s.writers {
		err := lab.until(ctx, "a copy in "+pod, func(controllers []Status) error {
			lost, err := w.Missing(ctx, leader(controllers).pod(pod).IP+":7687")
			if err == nil && len(lost) > 0 {
				err = fmt.Errorf("%d writes are missing", len(lost))
			}
			return err
		})
		require.NoError(s.t, err)
	}
}

func TestLeaderIsTerminatedAsMainIsDeleted(t *testing.T) {
	ctx, s := newScenario(t)
	var both errgroup.Group
	both.Go(func() error { return lab.Delete(ctx, s.before.Record.Main, nil) })
	both.Go(func() error { return lab.Delete(ctx, s.before.Pod, nil) })
	require.NoError(t, both.Wait())
	_, err := lab.Eye.Decision(ctx, s.before.Record.Generation)
	require.NoError(t, err)
	s.recover(ctx)

	after, err := lab.Leader(ctx)
	require.NoError(t, err)
	assert.NotEqual(t, s.before.Pod, after.Pod)
	assert.NotEqual(t, s.before.Record.Main, after.Record.Main)
	assert.Equal(t, s.before.Record.Generation+1, after.Record.Generation, "one decision, finished once")
	t.Logf("%s led, %s finished", s.before.Identity, after.Record.History[0].Leader)
	for _, w := range s.writers {
		if w.name != s.before.Pod {
			s.assertGap(w, successionGap)
		}
	}
	s.judgeWrites(ctx)
}

func TestAsyncReplicaIsDeleted(t *testing.T) {
	ctx, s := newScenario(t)
	async := s.async()
	require.NoError(t, lab.Delete(ctx, async, new(int64(0))))
	require.NoError(t, lab.Replaced(ctx, s.before, async))
	s.recover(ctx)

	s.assertSpared()
	s.judgeWrites(ctx)
	s.awaitCopy(ctx, async)
	s.assertSteady()
}

func TestNewLeaderCannotReachAPod(t *testing.T) {
	ctx, s := newScenario(t)
	async := s.async()
	require.NoError(t, lab.Network(ctx, async, memgraphtest.Blackhole))
	heal := func() { assert.NoError(t, lab.Network(context.WithoutCancel(ctx), async, memgraphtest.Open)) }
	t.Cleanup(heal) // as below, if the test ends early
	require.NoError(t, lab.Kill(ctx, s.before.Pod))
	err := lab.until(ctx, "a new leader to have looked", func(controllers []Status) error {
		l := leader(controllers)
		_, started, err := lab.Process(l.Pod)
		switch {
		case err != nil:
			return err
		case l.Pod == s.before.Pod && started.Before(s.begun):
			return fmt.Errorf("%s leads as before", l.Pod)
		}
		for _, p := range l.Pods {
			if p.Reach == memgraph.NotAsked || (p.Reach == memgraph.Silent) != (p.Name == async) {
				return fmt.Errorf("%s: %q", p.Name, p.Reach)
			}
		}
		return nil
	})
	require.NoError(t, err)
	heal()
	s.recover(ctx)

	for _, w := range s.writers {
		if w.name != s.before.Pod {
			s.assertGap(w, maxGap)
			assert.Empty(t, w.Errors(), w.name)
		}
	}
	s.judgeWrites(ctx)
	s.awaitCopy(ctx, async)
	s.assertSteady()
}

// A leader that was stopped for longer than its lease comes back believing that it
// leads, with the news of MAIN's deletion still unread.
func TestLeaderIsPausedBeyondItsLease(t *testing.T) {
	ctx, s := newScenario(t)
	require.NoError(t, lab.Pause(ctx, s.before.Pod))
	resume := func() error { return lab.Resume(s.before.Pod) }
	t.Cleanup(func() { _ = resume() }) // if the test ends early
	require.NoError(t, lab.Delete(ctx, s.before.Record.Main, new(int64(0))))
	sight, err := lab.Eye.First(ctx, "another MAIN in a stable record", func(sight Sight) bool {
		return sight.Generation > s.before.Record.Generation && sight.Phase == string(memgraph.Stable)
	})
	require.NoError(t, err)
	require.NoError(t, resume())
	s.recover(ctx)
	require.NoError(t, Pause(ctx, 3*time.Second)) // for whatever it might still do

	after, err := lab.Leader(ctx)
	require.NoError(t, err)
	if !assert.NotEqual(t, s.before.Pod, after.Pod) {
		t.Log(logs())
	}
	assert.Equal(t, sight.Generation, after.Record.Generation, "one decision")
	assert.Equal(t, after.Pod, after.Record.History[0].Leader)
	for _, seen := range lab.Eye.Since(sight.At) {
		assert.Equal(t, sight.MainRunID, seen.MainRunID)
	}
	for _, w := range s.writers {
		if w.name != s.before.Pod {
			s.assertGap(w, leaseGap)
		}
	}
	s.judgeWrites(ctx)
}
