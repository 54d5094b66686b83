package e2e

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
		if diverged := lab.Eye.Reseeds(r.begun); !assert.Empty(t, diverged, "nobody has diverged in rollout %d", i) {
			t.Log(logs(diverged...))
			break
		}
	}
	require.NoError(t, PrintTable(t.Output(), title, []Row{{"until whole again", took}, {"longest gap between acknowledged writes", gap}}))
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
	_, _, err := lab.Evict(ctx, s.before.Record.Main)
	require.NoError(t, err)
	sight, err := lab.Eye.Decision(ctx, s.before.Record.Generation)
	require.NoError(t, err)
	refused, asked, err := lab.Evict(ctx, sight.Main())
	require.NoError(t, err)
	assert.Positive(t, refused)
	// The answer may come after what the leader has made of the eviction.
	protected := func(now Sight) bool { return now.Generation == sight.Generation && now.InSync }
	assert.True(t, slices.ContainsFunc(lab.Eye.Since(asked), protected), "it was not allowed before")
	waited := time.Since(sight.At)
	_, err = lab.Eye.Decision(ctx, sight.Generation)
	require.NoError(t, err)
	s.recover(ctx)
	t.Logf("the second was refused %d times, for %s", refused, waited)
	for _, w := range s.writers {
		s.assertGap(w, maxGap)
	}
	s.judgeWrites(ctx)
}

// Three pods become five and then two, while MAIN is one of those that go.
func TestScaleDownHandsOverFirst(t *testing.T) {
	ctx, s := newScenario(t)
	for lab.Eye.Last().MainIndex < 2 {
		before := lab.Eye.Last()
		require.NoError(t, lab.Delete(ctx, before.Main(), nil))
		_, err := lab.Eye.Decision(ctx, before.Generation)
		require.NoError(t, err)
		s.recover(ctx)
	}
	require.NoError(t, lab.Scale(ctx, 5))
	s.recover(ctx)
	before := lab.Eye.Last()
	require.NoError(t, lab.Scale(ctx, 2))
	s.recover(ctx)
	after := lab.Eye.Last()
	assert.Equal(t, before.Generation+1, after.Generation, "one handover")
	assert.Less(t, after.MainIndex, 2)
	changes, err := lab.History(ctx)
	require.NoError(t, err)
	assert.Equal(t, "handover", changes[0].Kind)
	require.NoError(t, lab.Scale(ctx, 3))
	s.recover(ctx)
	assert.Empty(t, lab.Eye.Reseeds(s.begun), "nobody has diverged")
	for _, w := range s.writers {
		s.assertGap(w, maxGap)
	}
	s.judgeWrites(ctx)
}

// The version changes and, by that, the mode in which partners are registered:
// STRICT_SYNC is relied on from 3.8 on, and never mixed with SYNC.
func TestUpgrade(t *testing.T) {
	startLab(t)
	set, err := lab.Kube.AppsV1().StatefulSets(namespace).Get(t.Context(), statefulSet, metav1.GetOptions{})
	require.NoError(t, err)
	args := set.Spec.Template.Spec.Containers[0].Args
	versions := []string{"3.7.2", "3.12.0"}
	roll(t, "rolling change of version, to 3.7 and back", len(versions), func(ctx context.Context, round int) error {
		return lab.RollOut(ctx, map[string]any{"spec": map[string]any{"containers": []map[string]any{
			{"name": "memgraph", "args": append(slices.Clone(args), "--memgraph-version="+versions[round])},
		}}})
	})
}
