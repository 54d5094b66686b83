package e2e

import (
	"context"
	"flag"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

// trouble is how long something looks like the death of MAIN.
var trouble = flag.Duration("trouble", 3*time.Second, "how long something lasts that only looks like a failure")

const (
	// crowdSize is how many clients log in again at once when MAIN changes, each for
	// loginTime, as with bcrypt, one after the other.
	crowdSize, loginTime = 100, 200 * time.Millisecond
	// starvedFor of every period a process may run: 5 % of a core, as a limit of
	// cgroups has it.
	starvedFor, period = 5 * time.Millisecond, 100 * time.Millisecond
	// apiAsleep and apiAwake alternate.
	apiAsleep, apiAwake = 1500 * time.Millisecond, 300 * time.Millisecond
)

// What a process can go through without being dead. Nobody is made MAIN in its place.
func TestNoFalseAlarm(t *testing.T) {
	for name, endure := range map[string]func(context.Context, *scenario){
		"MAIN gets 5 % of a core":          starve,
		"a commit keeps all others":        stall,
		"the API server is slow":           slowAPI,
		"a hundred clients log in at once": storm,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, s := newScenario(t)
			endure(ctx, s)
			l, err := lab.Leader(ctx)
			require.NoError(t, err)
			verdict := l.pod(s.before.Record.Main).Verdict
			t.Logf("MAIN was %s: %s", verdict, l.Reason)
			assert.False(t, verdict.Lost(), verdict)
			s.assertSteady()
			s.mend(ctx)
			s.recover(ctx)
			s.assertSteady()
			s.judgeWrites(ctx)
		})
	}
}

// ail gives MAIN faults.
func (s *scenario) ail(ctx context.Context, pod string, f memgraphtest.Faults) {
	s.t.Helper()
	control, err := lab.Control(pod)
	require.NoError(s.t, err)
	defer control.Close()
	require.NoError(s.t, control.SetFaults(ctx, f))
	s.t.Cleanup(func() { s.mend(context.WithoutCancel(ctx)) }) // if the test ends early
}

// mend ends the faults of all pods.
func (s *scenario) mend(ctx context.Context) {
	for _, p := range s.before.Pods {
		control, err := lab.Control(p.Name)
		if assert.NoError(s.t, err) {
			assert.NoError(s.t, control.SetFaults(ctx, memgraphtest.Faults{}))
			control.Close()
		}
	}
}

// starve has MAIN run for a twentieth of the time.
func starve(ctx context.Context, s *scenario) {
	main := s.before.Record.Main
	s.t.Cleanup(func() { _ = lab.Resume(main) }) // if the test ends early
	for end := time.Now().Add(*trouble); time.Now().Before(end); {
		require.NoError(s.t, lab.Pause(ctx, main))
		require.NoError(s.t, Pause(ctx, period-starvedFor))
		require.NoError(s.t, lab.Resume(main))
		require.NoError(s.t, Pause(ctx, starvedFor))
	}
}

// stall has one commit on MAIN take as long as the trouble.
func stall(ctx context.Context, s *scenario) {
	s.ail(ctx, s.before.Record.Main, memgraphtest.Faults{CommitTime: *trouble})
	begun := time.Now()
	require.NoError(s.t, Pause(ctx, *trouble/2))
	s.mend(ctx) // but for the commit that is under way
	for _, w := range s.writers {
		first, err := w.FirstAck(ctx, begun.Add(*trouble/4))
		require.NoError(s.t, err)
		assert.Greater(s.t, first.Sub(begun), *trouble-time.Second, "it has stalled")
	}
}

func slowAPI(ctx context.Context, s *scenario) {
	s.t.Cleanup(func() { _ = lab.ResumeAPI() }) // if the test ends early
	for end := time.Now().Add(*trouble); time.Now().Before(end); {
		require.NoError(s.t, lab.PauseAPI(ctx))
		require.NoError(s.t, Pause(ctx, apiAsleep))
		require.NoError(s.t, lab.ResumeAPI())
		require.NoError(s.t, Pause(ctx, apiAwake))
	}
	s.assertSpared()
}

// storm has MAIN die, and all that were connected to it log in to the next, which is
// MAIN for the rest of the scenario.
func storm(ctx context.Context, s *scenario) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	s.gather(ctx)
	s.ail(ctx, s.before.Record.Partner, memgraphtest.Faults{LoginTime: loginTime})
	require.NoError(s.t, lab.Kill(ctx, s.before.Record.Main))
	sight, err := lab.Eye.First(ctx, "the next MAIN to be protected", func(now Sight) bool {
		return now.Generation > s.before.Record.Generation && now.Phase == string(memgraph.Stable) && now.InSync
	})
	if err != nil {
		s.t.Log(logs())
	}
	require.NoError(s.t, err)
	require.NoError(s.t, Pause(ctx, *trouble))
	s.before, err = lab.Leader(ctx)
	require.NoError(s.t, err)
	s.begun = sight.At.Add(1) // what held before is no matter
}

// gather has a crowd of clients at the gateways until the test ends, each with a
// question now and then. It returns once all are connected.
func (s *scenario) gather(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var crowd, arriving sync.WaitGroup
	s.t.Cleanup(func() { cancel(); crowd.Wait() })
	for n := range crowdSize {
		arriving.Add(1)
		arrived := sync.OnceFunc(arriving.Done)
		crowd.Go(func() {
			defer arrived()
			for addr := s.writers[n%len(s.writers)].addr; ctx.Err() == nil; _ = Pause(ctx, retryPause) {
				_ = speakFor(ctx, addr, roundTimeout, func(c *bolt.Client) (err error) { // it comes again
					for err == nil {
						_, err = c.Run("RETURN 1")
						arrived()
						if err == nil {
							err = Pause(ctx, period)
						}
					}
					return err
				})
			}
		})
	}
	arriving.Wait()
}
