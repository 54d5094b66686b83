package e2e

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"memgraph-controller/controller"
	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
)

// switchovers is how often MAIN is handed over by order.
const switchovers = 5

// order gives an order as the command does.
func (s *scenario) order(ctx context.Context, verb memgraph.Verb, argument string) error {
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := controller.NewOperator(lab.Kube, namespace, statefulSet, &out).Order(ctx, verb, argument)
	s.t.Logf("%s%v", &out, err)
	return err
}

func TestOperatorSwitchesOver(t *testing.T) {
	ctx, s := newScenario(t)
	for verb, argument := range map[memgraph.Verb]string{memgraph.OrderSwitchover: s.async(), memgraph.OrderFailover: s.async()} {
		err := s.order(ctx, verb, argument)
		require.ErrorContains(t, err, "refused: ")
		s.assertSteady()
	}
	for range switchovers {
		before := lab.Eye.Last()
		require.NoError(t, s.order(ctx, memgraph.OrderSwitchover, ""))
		s.recover(ctx)
		after, err := lab.Leader(ctx)
		require.NoError(t, err)
		assert.Equal(t, before.Main(), after.Record.Partner, "MAIN and partner have changed places")
		assert.Equal(t, before.Generation+1, after.Record.Generation)
	}
	s.assertSpared()
	s.judgeWrites(ctx)
}

// Both pods that hold every write lose their volumes. Nobody is promoted until an
// operator says so, and then writes go on without what only those two held.
func TestOperatorForcesAFailover(t *testing.T) {
	ctx, s := newScenario(t)
	async := s.async()
	require.ErrorContains(t, s.order(ctx, memgraph.OrderFailover, async), "refused: ")
	lost := time.Now()
	var both errgroup.Group
	both.Go(func() error { return lab.LoseVolume(ctx, s.before.Record.Main) })
	both.Go(func() error { return lab.LoseVolume(ctx, s.before.Record.Partner) })
	require.NoError(t, both.Wait())
	require.NoError(t, lab.until(ctx, "a decision to wait for people", func(controllers []Status) error {
		if l := leader(controllers); l.Decision != string(failover.Blocked) {
			return assert.AnError
		}
		return nil
	}))
	require.NoError(t, s.order(ctx, memgraph.OrderFailover, async))
	s.recover(ctx)

	after, err := lab.Leader(ctx)
	require.NoError(t, err)
	assert.Equal(t, async, after.Record.Main)
	forced := after.Record.History[0]
	if !assert.Equal(t, string(failover.ForcedFailover), forced.Kind) {
		t.Log(logs())
	}
	assert.Contains(t, forced.EstimatedLoss, "about ")
	for _, w := range s.writers {
		_, err := w.FirstAck(ctx, time.Now())
		require.NoError(t, err)
		w.Stop()
		missing, err := w.Missing(ctx, after.Addr)
		require.NoError(t, err)
		for _, a := range missing {
			assert.WithinRange(t, a.At, lost.Add(-time.Second), lost.Add(time.Second), "only what the async replica had not received")
		}
		t.Logf("%s: %d of %d acknowledged writes are lost; estimated: %s", w.name, len(missing), len(w.Acks()), forced.EstimatedLoss)
	}
}
