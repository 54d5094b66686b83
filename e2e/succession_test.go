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

// progress is how far a failover has come: the record, the new MAIN, and how often that
// was asked for its replicas since it has one.
type progress struct {
	Sight
	heir  memgraphtest.State
	asked int64
}

func (p progress) promoted() bool { return p.heir.Role == memgraphtest.RoleMain }

func (p progress) registered() bool { return p.promoted() && len(p.heir.Replicas) > 0 }

// A leader that dies after any step of a failover leaves it to the next one, which
// finishes it in the same generation: no other pod becomes MAIN.
func TestLeaderDiesAtAStepOfAFailover(t *testing.T) {
	for _, step := range []struct {
		name    string
		reached func(progress) bool
	}{
		{"the decision is recorded", func(p progress) bool { return p.Phase == string(memgraph.FailingOver) }},
		{"the new MAIN is promoted", progress.promoted},
		{"the first replica is registered", progress.registered},
		{"all is done but the last write", func(p progress) bool { return p.registered() && p.asked > 0 }},
	} {
		t.Run(step.name, func(t *testing.T) {
			ctx, s := newScenario(t)
			heir := s.failSlowly(ctx, step.reached)
			require.NoError(t, lab.Kill(ctx, s.before.Pod))
			require.NoError(t, heir.SetFaults(ctx, memgraphtest.Faults{}))
			at := s.awaitEnd(ctx)
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

// The old MAIN runs again, as the MAIN that it was, before any replica obeys the new
// one: it writes nothing that counts, and follows in the end.
func TestMainIsBackBeforeItIsFenced(t *testing.T) {
	ctx, s := newScenario(t)
	heir := s.failSlowly(ctx, progress.promoted)
	require.NoError(t, lab.Pause(ctx, s.before.Pod))
	resume := func() error { return lab.Resume(s.before.Pod) }
	t.Cleanup(func() { _ = resume() }) // if the test ends early
	require.NoError(t, heir.SetFaults(ctx, memgraphtest.Faults{}))
	s.awaitOldMain(ctx)
	state, err := heir.State(ctx)
	require.NoError(t, err)
	require.Empty(t, state.Replicas, "nobody obeys the new MAIN yet")

	assert.Equal(t, s.before.Record.Partner, s.awaitEnd(ctx).Main())
	require.NoError(t, resume())
	s.recover(ctx)
	s.judgeWrites(ctx)
}

// failSlowly kills MAIN, and returns once the failover has come so far; its
// heir takes its time over statements until its faults are set anew.
func (s *scenario) failSlowly(ctx context.Context, reached func(progress) bool) (heir *memgraphtest.Control) {
	s.t.Helper()
	heir, err := lab.Control(s.before.Record.Partner)
	require.NoError(s.t, err)
	s.t.Cleanup(heir.Close)
	require.NoError(s.t, heir.SetFaults(ctx, memgraphtest.Faults{Delay: slowStatements}))
	require.NoError(s.t, lab.Kill(ctx, s.before.Record.Main))
	s.awaitStep(ctx, heir, reached)
	return heir
}

// awaitEnd waits until the failover is over, and returns the record that says so.
func (s *scenario) awaitEnd(ctx context.Context) Sight {
	s.t.Helper()
	end, err := lab.Eye.First(ctx, "the end of the failover", func(now Sight) bool {
		return now.Generation > s.before.Record.Generation && now.Phase == string(memgraph.Stable)
	})
	require.NoError(s.t, err)
	return end
}

// awaitStep waits until a failover to heir has come that far.
func (s *scenario) awaitStep(ctx context.Context, heir *memgraphtest.Control, reached func(progress) bool) {
	s.t.Helper()
	for before := int64(-1); ; {
		counts, err := heir.Counts(ctx)
		require.NoError(s.t, err)
		state, err := heir.State(ctx)
		require.NoError(s.t, err)
		if asked := counts.Statements["SHOW REPLICAS"]; before < 0 || len(state.Replicas) == 0 {
			before = asked
		}
		now := progress{lab.Eye.Last(), state, counts.Statements["SHOW REPLICAS"] - before}
		if now.Generation > s.before.Record.Generation && reached(now) {
			require.NotEqual(s.t, string(memgraph.Stable), now.Phase, "the failover was over before the leader could be killed")
			return
		}
		require.NoError(s.t, Pause(ctx, time.Millisecond))
	}
}

// awaitOldMain waits until the MAIN that was killed runs again, as the MAIN that it was.
func (s *scenario) awaitOldMain(ctx context.Context) {
	s.t.Helper()
	back := func() bool {
		control, err := lab.Control(s.before.Record.Main)
		if err != nil {
			return false
		}
		defer control.Close()
		state, err := control.State(ctx)
		return err == nil && state.Running && state.RunID != s.before.pod(s.before.Record.Main).RunID && state.Role == memgraphtest.RoleMain
	}
	for !back() {
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
