package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rounds is how often each test makes MAIN fail: ten tell a bound that holds
// from one that held once.
var rounds = flag.Int("rounds", 10, "failures of MAIN in each test")

// roundTimeout is for one round including the return of the failed pod, which
// takes up to 10 s.
const roundTimeout = 90 * time.Second

// startTimeout has room for the first build of the control plane.
const startTimeout = 15 * time.Minute

// lab is shared: it takes seconds to start and each test leaves it whole.
var lab *Lab

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := withLab(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withLab(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if lab, err = Start(ctx, os.Stderr); err != nil {
		return 1, err
	}
	defer func() {
		if stopped := lab.Stop(); err == nil {
			err = stopped
		}
	}()
	return m.Run(), nil
}

// run is one test's: writers that go on through all its rounds, and what was
// measured.
type run struct {
	t       *testing.T
	writers map[string]*Writer // by the address of their gateway
	emptied int

	toRecord, toPassage, gap, queued Sample
}

// fail makes a MAIN fail, and returns at the time from which everything counts.
type fail func(ctx context.Context, main string) error

// measure makes MAIN fail as often as asked, and checks what it did to clients.
func measure(t *testing.T, title string, f fail) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(*rounds+1)*roundTimeout)
	defer cancel()
	r := &run{t: t, writers: map[string]*Writer{}}
	r.recover(ctx)
	controllers, err := lab.Controllers(ctx)
	require.NoError(t, err)
	for _, c := range controllers {
		w, err := NewWriter(ctx, t.Name()+" "+c.Pod, c.Addr)
		require.NoError(t, err)
		defer w.Stop()
		r.writers[c.Addr] = w
	}
	for range *rounds {
		r.round(ctx, f)
	}
	for _, w := range r.writers {
		w.Stop()
	}
	require.NoError(t, PrintTable(t.Output(), title, []Row{
		{"deletion to record", r.toRecord}, {"record to gateway redirected", r.toPassage},
		{"longest gap between acknowledged writes", r.gap}, {"urgent queue wait", r.queued},
	}))
	r.judge(ctx)
}

// recover waits for a whole cluster.
func (r *run) recover(ctx context.Context) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	emptied, err := lab.Whole(ctx)
	r.emptied += emptied
	if err != nil {
		r.t.Log(logs())
	}
	require.NoError(r.t, err)
}

// round makes MAIN fail once.
func (r *run) round(ctx context.Context, f fail) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	before := lab.Eye.Last()
	begun := time.Now()
	require.NoError(r.t, f(ctx, before.Main()))
	sight, err := lab.Eye.First(ctx, before.Generation)
	require.NoError(r.t, err)
	require.NotEqual(r.t, before.MainRunID, sight.MainRunID)
	r.toRecord = append(r.toRecord, sight.At.Sub(begun))
	for addr, w := range r.writers {
		reached, err := Passage(ctx, addr, sight.MainRunID)
		require.NoError(r.t, err)
		r.toPassage = append(r.toPassage, reached.Sub(sight.At))
		_, err = w.FirstAck(ctx, reached)
		require.NoError(r.t, err)
	}
	r.recover(ctx)
	for _, w := range r.writers {
		r.gap = append(r.gap, w.Gap(begun))
	}
	changes, err := lab.History(ctx)
	require.NoError(r.t, err)
	for _, c := range changes {
		if c.Generation == sight.Generation {
			r.queued = append(r.queued, time.Duration(c.Stages["queued"]*float64(time.Millisecond)))
		}
	}
}

// judge asserts what the suite is for.
func (r *run) judge(ctx context.Context) {
	t := r.t
	assert.Less(t, r.toRecord.Percentile(99), time.Second, "deletion to record, p99")
	assert.Less(t, r.toRecord.Percentile(50), 150*time.Millisecond, "deletion to record, median")
	assert.Less(t, r.toPassage.Percentile(99), 500*time.Millisecond, "record to redirect, p99")
	assert.Less(t, r.queued.Percentile(99), time.Second, "urgent queue wait, p99")
	require.Len(t, r.queued, *rounds, "every round left its line of history")
	for addr, w := range r.writers {
		for text, n := range w.Errors() {
			t.Logf("%s: %d times %s", w.name, n, text)
			assert.False(t, strings.Contains(text, "forbidden"), "invariant 2: %s", text)
		}
		missing, err := w.Missing(ctx, addr)
		require.NoError(t, err)
		require.NotEmpty(t, w.Acks())
		assert.Empty(t, missing, "invariant 1: of %d acknowledged writes", len(w.Acks()))
		t.Logf("%s: %d writes acknowledged, %d missing", w.name, len(w.Acks()), len(missing))
	}
	t.Logf("pods that had diverged and were given an empty volume: %d", r.emptied)
}

// logs are the controllers' last words, for a test that failed.
func logs() string {
	controllers, err := lab.Controllers(context.Background())
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, c := range controllers {
		l, err := lab.Logs(c.Pod)
		fmt.Fprintf(&b, "%s (%v):\n%s\n", c.Pod, err, l[max(0, len(l)-20_000):])
	}
	return b.String()
}

func TestMainIsDeletedGracefully(t *testing.T) {
	measure(t, "MAIN deleted gracefully", func(ctx context.Context, main string) error {
		return lab.Delete(ctx, main, nil)
	})
}

func TestMainIsDeletedWithoutGrace(t *testing.T) {
	measure(t, "MAIN deleted with --grace-period=0", func(ctx context.Context, main string) error {
		return lab.Delete(ctx, main, new(int64(0)))
	})
}

func TestMainIsKilled(t *testing.T) {
	measure(t, "MAIN's process killed", func(ctx context.Context, main string) error {
		return lab.Kill(ctx, main)
	})
}
