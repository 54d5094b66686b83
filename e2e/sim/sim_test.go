package sim

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"memgraph-controller/failover"
)

var (
	seeds = flag.Int("seeds", defaultSeeds, "schedules to play")
	first = flag.Uint64("seed", 0, "seed of the first one")
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // schedules are small, and make much garbage
	goleak.VerifyTestMain(m)
}

// playAll plays n schedules from the given seed, as many at a time as there are
// cores, until enough says so.
func playAll(t *testing.T, bug Bug, n int, enough func(Outcome) bool) {
	t.Helper()
	var next atomic.Uint64
	var done atomic.Bool
	var mu sync.Mutex
	var players sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		players.Go(func() {
			for i := next.Add(1) - 1; i < uint64(n) && !done.Load(); i = next.Add(1) - 1 {
				o := Run(t.Context(), *first+i, bug)
				mu.Lock()
				if enough(o) {
					done.Store(true)
				}
				mu.Unlock()
			}
		})
	}
	players.Wait()
}

// total adds up outcomes.
type total struct {
	Outcome
	schedules int
	failed    []Outcome
}

func (s *total) add(o Outcome) {
	s.schedules++
	s.Writes += o.Writes
	s.Acknowledged += o.Acknowledged
	s.Forbidden += o.Forbidden
	s.Took += o.Took
	for kind, n := range o.Decided {
		s.Decided[kind] += n
	}
	if o.Violation != "" {
		s.failed = append(s.failed, o)
	}
}

// Every schedule keeps invariants 2, 3, 4, 5, 6 and 7, and schedules are as eventful
// as they are meant to be.
func TestSchedulesKeepTheGuarantees(t *testing.T) {
	sum := total{Outcome: Outcome{Decided: map[failover.Kind]int{}}}
	began := time.Now()
	playAll(t, Bug{}, *seeds, func(o Outcome) bool {
		sum.add(o)
		return len(sum.failed) == 5
	})
	t.Logf("%d schedules from seed %d in %v, of %v each; %d writes, %d acknowledged, %d refused by a replica",
		sum.schedules, *first, time.Since(began), sum.Took/time.Duration(sum.schedules), sum.Writes, sum.Acknowledged, sum.Forbidden)
	for _, kind := range slices.Sorted(maps.Keys(sum.Decided)) {
		t.Logf("decided %d times: %s", sum.Decided[kind], kind)
	}
	for _, o := range sum.failed {
		t.Errorf("seed %d: %s", o.Seed, o.Violation)
	}
	if len(sum.failed) > 0 || *seeds == 1 {
		seed := slices.MinFunc(append(sum.failed, Outcome{Seed: *first + uint64(*seeds) - 1}), func(a, b Outcome) int {
			return int(a.Seed) - int(b.Seed)
		}).Seed
		t.Logf("make sim SEED=%d SEEDS=1 replays this:\n%s", seed, strings.Join(Replay(t.Context(), seed, Bug{}).Trace, "\n"))
	}
	if sum.schedules >= 1000 {
		for _, kind := range []failover.Kind{failover.Failover, failover.Handover, failover.Resume, failover.Readopt, failover.LosePartner,
			failover.Reply, failover.Switchover, failover.CallOff, failover.Revert, failover.BeginReseed, failover.EndReseed} {
			assert.NotZero(t, sum.Decided[kind], "no schedule calls for %s", kind)
		}
		assert.Greater(t, sum.Acknowledged, sum.schedules*50, "clients get something done")
	}
}

// This is invariant 1, whatever else the machine does.
func TestASeedIsOneSchedule(t *testing.T) {
	for seed := range uint64(20) {
		want := Replay(t.Context(), seed, Bug{})
		require.Equal(t, want, Replay(t.Context(), seed, Bug{}))
		assert.Greater(t, len(want.Trace), 20)
		want.Trace = nil
		require.Equal(t, want, Run(t.Context(), seed, Bug{}), "a trace changes nothing")
	}
}

// This is invariant 8: what each bug breaks shows within 20,000 schedules.
func TestBugsAreFound(t *testing.T) {
	for _, bug := range bugs {
		t.Run(bug.Name, func(t *testing.T) {
			var found Outcome
			playAll(t, bug, 20_000, func(o Outcome) bool {
				if o.Violation != "" && strings.HasPrefix(o.Violation, bug.Breaks) && found.Violation == "" {
					found = o
				}
				return found.Violation != ""
			})
			require.NotEmpty(t, found.Violation, "no schedule shows it")
			t.Logf("seed %d: %s", found.Seed, found.Violation)
		})
	}
}

func TestTheTraceTellsWhatHappened(t *testing.T) {
	trace := strings.Join(Replay(t.Context(), 1, Bug{}).Trace, "\n")
	for _, words := range []string{"leads", "record 1", "gateway of ctl-0 opens", "fault: ", "no more faults"} {
		assert.Contains(t, trace, words)
	}
}

func TestEventsHappenInTheOrderOfTheirTime(t *testing.T) {
	s := newScheduler()
	var log []string
	note := func(what string) { log = append(log, fmt.Sprintf("%v %s", s.now, what)) }
	lock := turn{}
	for _, who := range []string{"a", "b", "c"} {
		s.spawn(func() {
			lock.take(s)
			note(who + " has it")
			s.sleep(time.Second)
			lock.give()
		})
	}
	s.after(3*time.Second, func() { note("late") })
	s.after(time.Millisecond, func() { note("early") })
	s.after(3*time.Second, func() { note("later") })
	s.run(time.Minute)
	s.drain()
	assert.Equal(t, []string{"0s a has it", "1ms early", "1s b has it", "2s c has it", "3s late", "3s later"}, log)
}

// Whoever waits for the turn on MAIN gets it in time, or leaves: at the deadline, or
// once the context ends.
func TestTheTurnOnMainIsWaitedForInTime(t *testing.T) {
	s := newScheduler()
	w := &world{scheduler: s}
	m := mainTurn{c: &contender{actor: actor{s: s}, w: w}}
	var log []string
	ctx, supersede := context.WithCancel(t.Context())
	for _, limit := range []time.Duration{time.Minute, time.Second, 3 * time.Second, time.Minute} {
		s.spawn(func() {
			s.errand = &pass{}
			ctx, _ := m.c.limited(ctx, limit)
			if err := m.Take(ctx); err != nil {
				log = append(log, fmt.Sprintf("%v %v", s.now, err))
				return
			}
			done := m.c.waits("")
			s.sleep(2 * time.Second)
			done()
			log = append(log, fmt.Sprintf("%v served", s.now))
			m.Give()
		})
	}
	s.after(3*time.Second, func() {
		supersede()
		m.wake()
	})
	s.run(time.Hour)
	s.drain()
	assert.Equal(t, []string{"1s context deadline exceeded", "2s served", "3s context canceled", "4s served"}, log)
	assert.Empty(t, w.judge.violation)
}

func TestAStoppedActorGoesOnLater(t *testing.T) {
	s := newScheduler()
	a := &actor{s: s}
	var woke, fired time.Duration
	var err error
	s.spawn(func() { err = a.sleep(time.Second); woke = s.now })
	a.after(time.Second, func() { fired = s.now })
	s.after(time.Millisecond, a.stop)
	s.after(time.Minute, a.resume)
	s.run(time.Hour)
	require.NoError(t, err)
	assert.Equal(t, []time.Duration{time.Minute, time.Minute}, []time.Duration{woke, fired})
	assert.Equal(t, time.Hour-time.Minute+time.Millisecond, a.ran())

	s.spawn(func() { err = a.sleep(time.Second) })
	s.after(time.Millisecond, a.kill)
	s.run(2 * time.Hour)
	s.drain()
	assert.ErrorIs(t, err, errDead)
}
