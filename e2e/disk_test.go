package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/memgraphtest"
)

// diskTrouble is for how long a disk stays full: the process that died of it has come
// back by then, and MAIN has tried to ship to it.
const diskTrouble = 2 * time.Second

// fill has pod's disk be full, or not any more. A process that has just died of it
// cannot be told yet.
func (s *scenario) fill(ctx context.Context, pod string, full bool) {
	s.t.Helper()
	err := lab.until(ctx, "the disk of "+pod, func([]Status) error {
		control, err := lab.Control(pod)
		if err != nil {
			return err
		}
		defer control.Close()
		return control.SetFaults(ctx, memgraphtest.Faults{FullDisk: full})
	})
	require.NoError(s.t, err)
}

// filled has pod's disk be full for a while, and waits until the cluster is whole again.
func (s *scenario) filled(ctx context.Context, pod string) {
	s.t.Helper()
	s.fill(ctx, pod, true)
	require.NoError(s.t, lab.Replaced(ctx, s.before, pod))
	require.NoError(s.t, Pause(ctx, diskTrouble))
	s.fill(ctx, pod, false)
	s.recover(ctx)
	for _, w := range s.writers {
		s.assertGap(w, maxGap)
	}
	assert.Empty(s.t, lab.Eye.Reseeds(s.begun), "to start empty makes no room")
	s.judgeWrites(ctx)
	s.awaitCopy(ctx, pod)
}

// MAIN dies of the first write that it cannot log, and would again.
func TestMainHasAFullDisk(t *testing.T) {
	ctx, s := newScenario(t)
	s.filled(ctx, s.before.Record.Main)
	last := lab.Eye.Last()
	assert.Equal(t, s.before.Record.Partner, last.Main())
	assert.Equal(t, s.before.Record.Generation+1, last.Generation, "one decision")
}

func TestPartnerHasAFullDisk(t *testing.T) {
	ctx, s := newScenario(t)
	s.filled(ctx, s.before.Record.Partner)
	assert.Equal(t, s.before.Record.Generation, lab.Eye.Last().Generation, "MAIN has not changed")
}
