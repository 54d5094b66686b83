package e2e

import (
	"context"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rollouts is how often all pods are replaced.
var rollouts = flag.Int("rollouts", 1, "rolling restarts of the StatefulSet")

// rolloutTimeout is for one rollout: each pod takes 5 s for its preStop hook, a few
// to be back, and as many again until the next may go.
const rolloutTimeout = 3 * time.Minute

// roll replaces every pod rounds times under load, and checks what it did to
// clients.
func roll(t *testing.T, title string, rounds int, roll func(ctx context.Context, round int) error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rounds+1)*rolloutTimeout)
	defer cancel()
	r := newRun(ctx, t)
	var took, gap Sample
	for i := range rounds {
		begun := time.Now()
		if err := roll(ctx, i); err != nil {
			t.Log(logs())
			require.NoError(t, err)
		}
		r.recover(ctx)
		took = append(took, time.Since(begun))
		for _, w := range r.writers {
			gap = append(gap, w.Gap(begun).Length())
		}
	}
	require.NoError(t, PrintTable(t.Output(), title, []Row{{"until whole again", took}, {"longest gap between acknowledged writes", gap}}))
	assert.Empty(t, lab.Eye.Reseeds(r.begun), "nobody has diverged")
	assert.Less(t, gap.Percentile(100), maxGap)
	r.judgeWrites(ctx)
	for _, w := range r.writers {
		assert.Empty(t, w.Errors(), w.name)
	}
}

func TestRollingRestart(t *testing.T) {
	roll(t, "rolling restart", *rollouts, func(ctx context.Context, round int) error {
		return lab.Restart(ctx, fmt.Sprintf("%s %d", time.Now().Format(time.RFC3339), round))
	})
}

// Whoever is MAIN is evicted, twice in a row: the second has to wait until MAIN is
// protected again and all are back.
func TestEvictionWaitsForRedundancy(t *testing.T) {
	ctx, s := newScenario(t)
	_, err := lab.Evict(ctx, s.before.Record.Main)
	require.NoError(t, err)
	sight, err := lab.Eye.Decision(ctx, s.before.Record.Generation)
	require.NoError(t, err)
	refused, err := lab.Evict(ctx, sight.Main())
	require.NoError(t, err)
	assert.Positive(t, refused)
	allowed := lab.Eye.Last()
	assert.Equal(t, sight.Generation, allowed.Generation)
	assert.True(t, allowed.InSync, "it was not allowed before")
	_, err = lab.Eye.Decision(ctx, sight.Generation)
	require.NoError(t, err)
	s.recover(ctx)
	t.Logf("the second was refused %d times, for %s", refused, allowed.At.Sub(sight.At))
	for _, w := range s.writers {
		s.assertGap(w, maxGap)
	}
	s.judgeWrites(ctx)
}
