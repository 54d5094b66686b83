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

// slowStatements stretches a failover of some 20 ms so that the leader can be
// killed between two steps of it.
const slowStatements = 80 * time.Millisecond

// inARow is how many failovers follow each other as fast as they can.
const inARow = 10

// A leader that dies after any step of a failover leaves it to the next one, which
// finishes it in the same generation: no other pod becomes MAIN.
func TestLeaderDiesAtAStepOfAFailover(t *testing.T) {
	for _, step := range []struct {
		name    string
		reached func(Sight, memgraphtest.State) bool
	}{
		{"the decision is recorded", func(s Sight, _ memgraphtest.State) bool { return s.Phase == string(memgraph.FailingOver) }},
		{"the new MAIN is promoted", func(_ Sight, m memgraphtest.State) bool { return m.Role == memgraphtest.RoleMain }},
		{"the first replica is registered", func(_ Sight, m memgraphtest.State) bool {
			return m.Role == memgraphtest.RoleMain && len(m.Replicas) > 0
		}},
	} {
		t.Run(step.name, func(t *testing.T) {
			ctx, s := newScenario(t)
			heir, err := lab.Control(s.before.Record.Partner)
			require.NoError(t, err)
			defer heir.Close()
			require.NoError(t, heir.SetFaults(ctx, memgraphtest.Faults{Delay: slowStatements}))
			require.NoError(t, lab.Kill(ctx, s.before.Record.Main))
			s.awaitStep(ctx, heir, step.reached)
			require.NoError(t, lab.Kill(ctx, s.before.Pod))
			require.NoError(t, heir.SetFaults(ctx, memgraphtest.Faults{}))

			at, err := lab.Eye.First(ctx, "the end of the failover", func(now Sight) bool {
				return now.Generation > s.before.Record.Generation && now.Phase == string(memgraph.Stable)
			})
			require.NoError(t, err)
			assert.Equal(t, s.before.Record.Generation+1, at.Generation, "one decision, finished once")
			assert.Equal(t, s.before.Record.Partner, at.Main())
			s.recover(ctx)
			for _, w := range s.writers {
				if w.name != s.before.Pod {
					s.assertGap(w, leaseGap)
				}
			}
			s.judgeWrites(ctx)
		})
	}
}

// awaitStep waits until a failover to heir has come that far.
func (s *scenario) awaitStep(ctx context.Context, heir *memgraphtest.Control, reached func(Sight, memgraphtest.State) bool) {
	s.t.Helper()
	for {
		state, err := heir.State(ctx)
		require.NoError(s.t, err)
		if now := lab.Eye.Last(); now.Generation > s.before.Record.Generation && reached(now, state) {
			require.NotEqual(s.t, string(memgraph.Stable), now.Phase, "the failover was over before the leader could be killed")
			return
		}
		require.NoError(s.t, Pause(ctx, time.Millisecond))
	}
}

// Where MAIN and its partner go at the same time, nothing is lost: what they leave
// in order is handed to the third pod, and what dies is waited for.
func TestMainAndPartnerFailTogether(t *testing.T) {
	for name, fail := range map[string]func(context.Context, string) error{
		"deleted gracefully": func(ctx context.Context, pod string) error { return lab.Delete(ctx, pod, nil) },
		"killed":             func(ctx context.Context, pod string) error { return lab.Kill(ctx, pod) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s := newScenario(t)
			var both errgroup.Group
			for _, pod := range []string{s.before.Record.Main, s.before.Record.Partner} {
				both.Go(func() error { return fail(ctx, pod) })
			}
			require.NoError(t, both.Wait())
			for _, w := range s.writers {
				_, err := w.FirstAck(ctx, time.Now().Add(time.Second))
				require.NoError(t, err)
			}
			s.recover(ctx)
			for _, w := range s.writers {
				s.t.Logf("%s: longest gap %s", w.name, w.Gap(s.begun).Length())
			}
			s.judgeWrites(ctx)
		})
	}
}

// Failover follows failover as soon as there is a partner to fail over to.
func TestFailoversInARow(t *testing.T) {
	ctx, s := newScenario(t)
	now := lab.Eye.Last()
	for n := range inARow {
		require.NoError(t, lab.Kill(ctx, now.Main()))
		failed := time.Now()
		next, err := lab.Eye.First(ctx, fmt.Sprintf("failover %d", n+1), func(s Sight) bool {
			return s.Generation > now.Generation && s.Phase == string(memgraph.Stable) && s.InSync
		})
		require.NoError(t, err)
		t.Logf("failover %d: MAIN is %s, and protected after %s", n+1, next.Main(), next.At.Sub(failed).Round(time.Millisecond))
		now = next
	}
	s.recover(ctx)
	s.judgeWrites(ctx)
}
