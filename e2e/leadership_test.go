package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/memgraphtest"
)

// successions is how often the leader dies: a round takes as long as its lease.
var successions = flag.Int("successions", 1, "deaths of the leader, alone and with MAIN each")

// releaseGap is for a leader that stops in good order, until another leads.
const releaseGap = time.Second

// crashes is how often a controller is killed as soon as it is back.
const crashes = 4

// A leader that dies leaves its lease to run out. What is not about MAIN meanwhile
// goes on without one.
func TestLeaderDies(t *testing.T) {
	for name, kills := range map[string]func(*scenario) []string{
		"alone":     func(*scenario) []string { return nil },
		"with MAIN": func(s *scenario) []string { return []string{s.before.Record.Main} },
	} {
		t.Run(name, func(t *testing.T) {
			var led, gap Sample
			for range *successions {
				ctx, s := newScenario(t)
				along := kills(s)
				led = append(led, s.succeed(ctx, along))
				for _, w := range s.survivors() {
					gap = append(gap, w.Gap(s.begun).Length())
					if len(along) == 0 {
						assert.Empty(t, w.Errors(), w.name)
					}
				}
				s.judgeWrites(ctx)
			}
			limit := leaseGap
			if name == "alone" {
				limit = maxGap
			}
			require.NoError(t, PrintTable(t.Output(), "leader killed, "+name, []Row{{"until another leads", led}, {"longest gap between acknowledged writes", gap}}))
			assert.Less(t, led.Percentile(99), leaseGap)
			assert.Less(t, gap.Percentile(99), limit)
		})
	}
}

// succeed kills the leader and its pod, and the processes of others at the same
// moment. It returns how long nobody led, once the cluster is whole.
func (s *scenario) succeed(ctx context.Context, others []string) time.Duration {
	s.t.Helper()
	for _, w := range s.writers {
		_, err := w.FirstAck(ctx, time.Time{})
		require.NoError(s.t, err)
	}
	s.begun = time.Now()
	var all errgroup.Group
	all.Go(func() error {
		return errors.Join(lab.Kill(ctx, s.before.Pod), lab.Delete(ctx, s.before.Pod, new(int64(0))))
	})
	for _, pod := range others {
		all.Go(func() error { return lab.Kill(ctx, pod) })
	}
	require.NoError(s.t, all.Wait())
	_, err := s.successor(ctx, s.before.Pod)
	require.NoError(s.t, err)
	took := time.Since(s.begun)
	for _, w := range s.survivors() {
		_, err := w.FirstAck(ctx, time.Now())
		require.NoError(s.t, err)
	}
	s.recover(ctx)
	return took
}

// successor waits for another leader than the one in pod.
func (s *scenario) successor(ctx context.Context, pod string) (l Status, err error) {
	err = lab.until(ctx, "another leader", func(controllers []Status) error {
		if l = leader(controllers); !l.Leading || l.Pod == pod {
			return fmt.Errorf("%q leads", l.Pod)
		}
		return nil
	})
	return l, err
}

// survivors are the writers through gateways of others than the first leader.
func (s *scenario) survivors() []*Writer {
	return slices.DeleteFunc(slices.Clone(s.writers), func(w *Writer) bool { return w.name == s.before.Pod })
}

// All controllers are replaced under load: leadership passes on as they stop, and no
// client sees an error before its own gateway does.
func TestControllersAreRolledOut(t *testing.T) {
	ctx, s := newScenario(t)
	var old []string
	var clients sync.WaitGroup
	for _, w := range s.writers {
		old = append(old, w.name)
		clients.Go(func() {
			_, err := lab.Eye.Deletion(ctx, w.name, s.begun)
			assert.NoError(t, err)
			w.Stop()
		})
	}
	require.NoError(t, lab.RestartControllers(ctx, s.begun.Format(time.RFC3339Nano)))
	var passed Sample
	for l := s.before; slices.Contains(old, l.Pod); {
		at, err := lab.Eye.Deletion(ctx, l.Pod, s.begun)
		require.NoError(t, err)
		l, err = s.successor(ctx, l.Pod)
		require.NoError(t, err)
		passed = append(passed, time.Since(at))
	}
	clients.Wait()
	s.recover(ctx)
	require.NoError(t, PrintTable(t.Output(), "rollout of the controller", []Row{{"leader told to stop until another leads", passed}}))
	assert.Less(t, passed.Percentile(100), releaseGap)
	for _, w := range s.writers {
		assert.Empty(t, w.Errors(), w.name)
	}
	s.assertSteady()
	s.judgeWrites(ctx)
}

// The leader is killed over and over, as soon as it is back.
func TestLeaderCrashesOverAndOver(t *testing.T) {
	ctx, s := newScenario(t)
	for range crashes {
		_, before, err := lab.Process(s.before.Pod)
		require.NoError(t, err)
		require.NoError(t, lab.Kill(ctx, s.before.Pod))
		for {
			_, now, err := lab.Process(s.before.Pod)
			if err == nil && now.After(before) {
				break
			}
			require.NoError(t, Pause(ctx, statusPoll))
		}
	}
	for _, w := range s.survivors() {
		s.assertGap(w, maxGap)
		assert.Empty(t, w.Errors(), w.name)
	}
	s.recover(ctx)
	s.assertSteady()
	s.judgeWrites(ctx)
}

// A leader that is told to stop finishes the failover that it is in.
func TestLeaderIsTerminatedAmidAFailover(t *testing.T) {
	ctx, s := newScenario(t)
	heir := s.failSlowly(ctx, func(p progress) bool { return p.Phase == string(memgraph.FailingOver) })
	require.NoError(t, lab.Delete(ctx, s.before.Pod, nil))
	s.awaitResignation(ctx)
	require.NoError(t, heir.SetFaults(ctx, memgraphtest.Faults{}))
	stable := s.awaitEnd(ctx)
	s.recover(ctx)
	changes, err := lab.History(ctx)
	require.NoError(t, err)
	assert.Equal(t, s.before.Record.Generation+1, stable.Generation, "one decision, finished once")
	assert.Equal(t, s.before.Pod, changes[0].Leader, "by whom it was begun")
	for _, w := range s.writers {
		if w.name != s.before.Pod {
			s.assertGap(w, maxGap)
		}
	}
	s.judgeWrites(ctx)
}

// awaitResignation waits until the leader begins nothing any more.
func (s *scenario) awaitResignation(ctx context.Context) {
	s.t.Helper()
	host, _, err := net.SplitHostPort(s.before.Addr)
	require.NoError(s.t, err)
	for {
		status, err := lab.status(ctx, s.before.Pod, host)
		require.NoError(s.t, err)
		if !status.Leading {
			return
		}
		require.NoError(s.t, Pause(ctx, time.Millisecond))
	}
}
