package e2e

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/memgraphtest"
)

const (
	// evictionGap is for a partner that hangs: 1.4 s until that is known, and the 3 s
	// that a kubelet takes at least for a pod that does not end by itself.
	evictionGap = 6 * time.Second
	// cutOffGap is for one that nobody can reach but its node: it is deleted after 5 s of
	// silence, and ends as one that hangs does.
	cutOffGap = 12 * time.Second
	// evictPause is between two partners that a leader has end.
	evictPause = time.Minute
)

// evictable is when a leader may have a partner end again.
var evictable time.Time

// losePartner has the partner fail under load, prints what that cost, and asserts that
// no client had to wait for longer than limit.
func losePartner(t *testing.T, title string, fail func(ctx context.Context, pod string) error, limit time.Duration) {
	ctx, s := newScenario(t)
	partner := s.before.Record.Partner
	begun := time.Now()
	require.NoError(t, fail(ctx, partner))
	lost, err := lab.Eye.First(ctx, "a record out of sync", func(sight Sight) bool { return sight.At.After(begun) && !sight.InSync })
	require.NoError(t, err)
	back, err := lab.Eye.First(ctx, "a partner in sync", func(sight Sight) bool { return sight.At.After(lost.At) && sight.InSync })
	require.NoError(t, err)
	require.NoError(t, lab.Replaced(ctx, s.before, partner))
	s.recover(ctx)
	whole := time.Since(begun)

	gaps := Sample{}
	for _, w := range s.writers {
		gap := w.Gap(begun).Length()
		assert.Less(t, gap, limit, w.name)
		gaps = append(gaps, gap)
	}
	require.NoError(t, PrintTable(t.Output(), title, []Row{
		{"failure to record", Sample{lost.At.Sub(begun)}},
		{"failure to another partner in sync", Sample{back.At.Sub(begun)}},
		{"longest gap between acknowledged writes", gaps},
		{"failure to full redundancy", Sample{whole}},
	}))
	assert.Equal(t, s.before.Record.Generation, lab.Eye.Last().Generation, "MAIN has not changed")
	s.judgeWrites(ctx)
	s.awaitCopy(ctx, partner)
}

// evictPartner is losePartner for a failure upon which the leader has the partner end.
func evictPartner(t *testing.T, title string, fail func(ctx context.Context, pod string) error, limit time.Duration) {
	require.NoError(t, Pause(t.Context(), time.Until(evictable)))
	losePartner(t, title, fail, limit)
	evictable = time.Now().Add(evictPause)
}

func TestPartnerIsKilled(t *testing.T) {
	losePartner(t, "partner's process killed", func(ctx context.Context, pod string) error { return lab.Kill(ctx, pod) }, maxGap)
}

func TestPartnerHangs(t *testing.T) {
	evictPartner(t, "partner's process stopped", func(ctx context.Context, pod string) error { return lab.Pause(ctx, pod) }, evictionGap)
}

// With a guard in its pod it is ended as soon as the kubelet knows of the deletion.
func TestGuardedPartnerHangs(t *testing.T) {
	startLab(t)
	guard := func(change string) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), rolloutTimeout)
		defer cancel()
		var template map[string]any
		if err := json.Unmarshal([]byte(change), &template); err != nil {
			return err
		}
		return lab.RollOut(ctx, template)
	}
	require.NoError(t, guard(`{"spec": {"shareProcessNamespace": true,
		"$setElementOrder/containers": [{"name": "memgraph"}, {"name": "guard"}],
		"containers": [{"name": "guard", "image": "memgraph-controller:latest", "args": ["guard"]}]}}`))
	t.Cleanup(func() {
		assert.NoError(t, guard(`{"spec": {"shareProcessNamespace": null, "containers": [{"name": "guard", "$patch": "delete"}]}}`))
	})
	stop := func(ctx context.Context, pod string) error { return lab.Pause(ctx, pod) }
	evictPartner(t, "guarded partner's process stopped", stop, maxGap)
}

func TestPartnerIsCutOff(t *testing.T) {
	cut := func(ctx context.Context, pod string) error { return lab.Network(ctx, pod, memgraphtest.Blackhole) }
	evictPartner(t, "partner cut off", cut, cutOffGap)
}
