package e2e

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

// diverge gives pod's Memgraph a commit that no other has: it is made MAIN behind
// everybody's back, and written to.
func (s *scenario) diverge(ctx context.Context, pod string) {
	s.t.Helper()
	addr := s.before.pod(pod).IP + ":7687"
	require.NoError(s.t, Say(ctx, addr, "SET REPLICATION ROLE TO MAIN", "CREATE (:Stray)"))
}

// asides are the directories that were moved aside in pod, by its own account.
func asides(t *testing.T, pod string) (dirs []string) {
	t.Helper()
	log, err := lab.Logs(pod)
	require.NoError(t, err)
	for line := range strings.Lines(string(log)) {
		var said struct{ Aside string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Aside != "" {
			dirs = append(dirs, said.Aside)
		}
	}
	return dirs
}

func TestDivergedReplicaIsHealedWithoutAHand(t *testing.T) {
	ctx, s := newScenario(t)
	stray := s.async()
	known := len(asides(t, stray))
	s.diverge(ctx, stray)
	ordered, err := lab.Eye.First(ctx, "an order to start empty", func(sight Sight) bool {
		return sight.At.After(s.begun) && sight.Reseed == stray
	})
	if err != nil {
		t.Log(logs())
	}
	require.NoError(t, err)
	require.NoError(t, lab.Replaced(ctx, s.before, stray))
	s.recover(ctx)
	healed, err := lab.Eye.First(ctx, "the order's end", func(sight Sight) bool {
		return sight.At.After(ordered.At) && sight.Reseed == ""
	})
	require.NoError(t, err)
	t.Logf("noted %s after the divergence, in step %s after that", ordered.At.Sub(s.begun), healed.At.Sub(ordered.At))

	assert.Equal(t, []string{stray}, lab.Eye.Reseeds(s.begun), "one order")
	dirs := asides(t, stray)
	require.Len(t, dirs, known+1)
	assert.DirExists(t, filepath.Join(dirs[known], "wal"), "what it held is kept")
	s.assertSpared()
	s.judgeWrites(ctx)
	s.awaitCopy(ctx, stray)
	s.assertSteady()
}

// MAIN loses its disk and comes back at once, empty, as a MAIN of its own.
func TestMainLosesItsVolume(t *testing.T) {
	ctx, s := newScenario(t)
	emptied := s.before.Record.Main
	require.NoError(t, lab.LoseVolume(ctx, emptied))
	sight, err := lab.Eye.Decision(ctx, s.before.Record.Generation)
	require.NoError(t, err)
	assert.Equal(t, s.before.Record.Partner, sight.Main())
	require.NoError(t, lab.Replaced(ctx, s.before, emptied))
	s.recover(ctx)
	for _, seen := range lab.Eye.Since(s.begun)[1:] {
		assert.NotEqual(t, emptied, seen.Main(), "an empty pod never becomes MAIN")
	}
	for _, w := range s.writers {
		s.assertGap(w, maxGap)
	}
	s.judgeWrites(ctx)
	s.awaitCopy(ctx, emptied)
}

func TestOperatorReseedsAReplica(t *testing.T) {
	ctx, s := newScenario(t)
	for _, needed := range []string{s.before.Record.Main, s.before.Record.Partner} {
		require.ErrorContains(t, s.order(ctx, memgraph.OrderReseed, needed), "refused: ")
	}
	async := s.async()
	known := len(asides(t, async))
	require.NoError(t, s.order(ctx, memgraph.OrderReseed, async))
	require.NoError(t, lab.Replaced(ctx, s.before, async))
	s.recover(ctx)
	assert.Len(t, asides(t, async), known+1, "what it held is moved aside")
	s.assertSpared()
	s.judgeWrites(ctx)
	s.awaitCopy(ctx, async)
	s.assertSteady()
}
