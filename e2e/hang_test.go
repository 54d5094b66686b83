package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/memgraphtest"
)

// hangs is how often MAIN stands still: a round takes longer than one in which it
// dies.
var hangs = flag.Int("hangs", 3, "rounds in which MAIN hangs")

// underWay is how many writes a MAIN that stands still has in its sockets at most: one
// of each writer.
const underWay = 2

func TestMainHangs(t *testing.T) {
	r := repeat(t, failure{
		title: "MAIN's process stopped",
		cause: func(ctx context.Context, main string) error { return lab.Pause(ctx, main) },
		mend:  func(main string) error { return wake(t, main) },
	}, *hangs)
	assert.Less(t, r.gap.Percentile(99), 2*time.Second, "until a write is acknowledged again, p99")
	ctx, cancel := context.WithTimeout(t.Context(), roundTimeout)
	defer cancel()
	l, err := lab.Leader(ctx)
	require.NoError(t, err)
	for _, p := range l.Pods {
		r.awaitCopy(ctx, p.Name) // whoever had diverged has started empty
	}
}

// wake continues a MAIN that stood still, and asserts that it is demoted before any
// client reaches it: all that it takes until then is what was on its way to it.
func wake(t *testing.T, main string) error {
	ctx, cancel := context.WithTimeout(t.Context(), roundTimeout)
	defer cancel()
	control, err := lab.Control(main)
	if err != nil {
		return err
	}
	defer control.Close()
	if err := lab.Resume(main); err != nil {
		return err
	}
	first, err := control.State(ctx)
	for now := first; err == nil; now, err = control.State(ctx) {
		if now.Role != memgraphtest.RoleMain || now.RunID != first.RunID {
			return nil
		}
		assert.LessOrEqual(t, now.Nodes, first.Nodes+underWay, "%s believes that it is MAIN", main)
		if err := Pause(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return err
}

// A MAIN that wakes up believes that it is MAIN still, whenever that is: in the
// moment in which another is promoted, too. What it then answers counts for nothing.
func TestMainWakesUpAsItIsReplaced(t *testing.T) {
	for _, delay := range []time.Duration{0, 5 * time.Millisecond, 20 * time.Millisecond, 80 * time.Millisecond} {
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			ctx, s := newScenario(t)
			main := s.before.Record.Main
			require.NoError(t, lab.Pause(ctx, main))
			t.Cleanup(func() { _ = lab.Resume(main) }) // if the test ends early
			sight, err := lab.Eye.Decision(ctx, s.before.Record.Generation)
			require.NoError(t, err)
			require.NoError(t, Pause(ctx, delay))
			require.NoError(t, lab.Resume(main))
			s.recover(ctx)
			assert.Equal(t, sight.Generation, lab.Eye.Last().Generation, "one decision")
			for _, w := range s.writers {
				s.assertGap(w, maxGap)
			}
			s.judgeWrites(ctx)
		})
	}
}

// Who can reach neither MAIN nor its partner has lost its own network, as far as it
// can tell.
func TestNobodyCanBeReached(t *testing.T) {
	ctx, s := newScenario(t)
	both := []string{s.before.Record.Main, s.before.Record.Partner}
	switchTo := func(ctx context.Context, m memgraphtest.Mode) error {
		return errors.Join(lab.Network(ctx, both[0], m), lab.Network(ctx, both[1], m))
	}
	t.Cleanup(func() { assert.NoError(t, switchTo(context.WithoutCancel(ctx), memgraphtest.Open)) }) // if the test ends early
	require.NoError(t, switchTo(ctx, memgraphtest.Blackhole))
	require.NoError(t, lab.until(ctx, "the leader to say so", func(controllers []Status) error {
		l := leader(controllers)
		if !l.pod(both[0]).Verdict.Lost() || !l.pod(both[1]).Verdict.Lost() {
			return fmt.Errorf("%s: %s", l.Decision, l.Reason)
		}
		return nil
	}))
	require.NoError(t, Pause(ctx, 3*time.Second)) // for whatever it might do
	l, err := lab.Leader(ctx)
	require.NoError(t, err)
	assert.Contains(t, l.Reason, "the controller may be cut off")
	require.NoError(t, switchTo(ctx, memgraphtest.Open))
	s.recover(ctx)
	after := lab.Eye.Last()
	assert.Equal(t, s.before.Record.Generation, after.Generation, "MAIN has not changed")
	assert.Equal(t, string(memgraph.Stable), after.Phase)
	s.judgeWrites(ctx)
}
