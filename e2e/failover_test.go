package e2e

import (
	"context"
	"flag"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

// rounds is how often each test makes MAIN fail: five, by two gateways each, tell a
// bound that holds from one that held once, and leave the suite under ten minutes.
var rounds = flag.Int("rounds", 5, "failures of MAIN in each test")

// roundTimeout is for one round including the return of the failed pod, which
// takes up to 10 s.
const roundTimeout = 90 * time.Second

// maxGap is for how long a failure of MAIN may keep a client from writing.
const maxGap = 2 * time.Second

// failure is a way in which MAIN fails.
type failure struct {
	title   string
	cause   func(ctx context.Context, main string) error
	deletes bool // the pod, and not only its process
	// mend ends what cause began, once clients write again; nil where that ends by
	// itself.
	mend func(main string) error
	// ways are how clients write, beside in auto-commit transactions.
	ways []Way
}

// run is one test's: writers that go on through all its rounds, and what was
// measured. The record is timed from the call that made MAIN fail, and from when
// the eye saw the deletion; word is from the record that lets clients through to the
// new MAIN until a gateway does whose replica does not lead.
type run struct {
	t       *testing.T
	writers []*Writer
	begun   time.Time

	failed, seen, passage, word, gap, queued, whole Sample
}

// measure makes MAIN fail as often as asked, and checks what it did to clients.
func measure(t *testing.T, f failure) *run {
	n := *rounds
	if len(f.ways) > 0 {
		n = (n + 1) / 2 // there are more clients to measure
	}
	r := repeat(t, f, n)
	r.judgeTimes()
	return r
}

// repeat makes MAIN fail n times, prints what was measured, and checks what holds
// however MAIN fails.
func repeat(t *testing.T, f failure, n int) *run {
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n+1)*roundTimeout)
	defer cancel()
	r := newRun(ctx, t)
	for _, way := range f.ways {
		for _, door := range r.doors() {
			w, err := newWriter(ctx, door.name+", "+string(way), door.addr, way)
			require.NoError(t, err)
			t.Cleanup(w.Stop)
			r.writers = append(r.writers, w)
		}
	}
	for range n {
		r.round(ctx, f)
	}
	rows := []Row{{"failure to record", r.failed}}
	if f.deletes {
		rows = append(rows, Row{"deletion seen to record", r.seen})
	}
	rows = append(rows, Row{"record to gateway redirected", r.passage}, Row{"record lets clients through to redirected", r.word},
		Row{"longest gap between acknowledged writes", r.gap}, Row{"failure to full redundancy", r.whole},
		Row{"urgent queue wait", r.queued})
	require.NoError(t, PrintTable(t.Output(), f.title, rows))
	t.Logf("pods that had diverged and started empty: %v", lab.Eye.Reseeds(r.begun))
	assert.Less(t, r.passage.Percentile(99), 500*time.Millisecond, "record to redirect, p99")
	assert.Less(t, r.word.Percentile(50), 50*time.Millisecond, "record lets clients through to redirect, median")
	assert.Less(t, r.queued.Percentile(99), time.Second, "urgent queue wait, p99")
	assert.Len(t, r.queued, n, "every round left its line of history")
	r.judgeWrites(ctx)
	return r
}

// newRun has a whole cluster, and a writer through each gateway until the test
// ends.
func newRun(ctx context.Context, t *testing.T) *run {
	t.Helper()
	startLab(t)
	r := &run{t: t}
	r.recover(ctx)
	r.begun = time.Now()
	controllers, err := lab.Controllers(ctx)
	require.NoError(t, err)
	for _, c := range controllers {
		w, err := NewWriter(ctx, c.Pod, c.Addr)
		require.NoError(t, err)
		t.Cleanup(w.Stop)
		r.writers = append(r.writers, w)
	}
	return r
}

// doors are the writers of which there is one for each gateway.
func (r *run) doors() (doors []*Writer) {
	for _, w := range r.writers {
		if w.way == AutoCommit {
			doors = append(doors, w)
		}
	}
	return doors
}

// recover waits for a whole cluster.
func (r *run) recover(ctx context.Context) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	err := lab.Whole(ctx)
	if err != nil {
		r.t.Log(logs())
	}
	require.NoError(r.t, err)
}

// round makes MAIN fail once.
func (r *run) round(ctx context.Context, f failure) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	before := lab.Eye.Last()
	begun := time.Now()
	require.NoError(r.t, f.cause(ctx, before.Main()))
	sight, err := lab.Eye.Decision(ctx, before.Generation)
	require.NoError(r.t, err)
	require.NotEqual(r.t, before.MainRunID, sight.MainRunID)
	r.failed = append(r.failed, sight.At.Sub(begun))
	reached, err := Passages(ctx, r.doors(), sight.MainRunID)
	require.NoError(r.t, err)
	for _, at := range reached {
		r.passage = append(r.passage, at.Sub(sight.At))
	}
	r.hearWord(ctx, sight.Generation, reached)
	for _, w := range r.writers {
		_, err = w.FirstAck(ctx, reached[0])
		require.NoError(r.t, err)
	}
	if f.deletes {
		deleted, err := lab.Eye.Deletion(ctx, before.Main(), begun)
		require.NoError(r.t, err)
		r.seen = append(r.seen, sight.At.Sub(deleted))
	}
	if f.mend != nil {
		require.NoError(r.t, f.mend(before.Main()))
	}
	r.recover(ctx)
	r.whole = append(r.whole, time.Since(begun))
	for _, w := range r.writers {
		gap := w.Gap(begun).Length()
		if !assert.Less(r.t, gap, maxGap, "%s, generation %d, since %v", w.name, sight.Generation, w.Gap(begun)) {
			r.t.Log(logs())
		}
		r.gap = append(r.gap, gap)
	}
	changes, err := lab.History(ctx)
	require.NoError(r.t, err)
	for _, c := range changes {
		if c.Generation == sight.Generation {
			r.queued = append(r.queued, time.Duration(c.Stages["queued"]*float64(time.Millisecond)))
		}
	}
}

// hearWord notes how long the gateways took that hear of a change by their watch alone.
func (r *run) hearWord(ctx context.Context, generation int64, reached []time.Time) {
	word, err := lab.Eye.First(ctx, "the word to let clients through", func(s Sight) bool {
		return s.Generation == generation && s.Phase == string(memgraph.Stable)
	})
	require.NoError(r.t, err)
	leader, err := lab.Leader(ctx)
	require.NoError(r.t, err)
	for i, door := range r.doors() {
		if door.name != leader.Pod {
			r.word = append(r.word, max(0, reached[i].Sub(word.At)))
		}
	}
}

// judgeTimes asserts what the suite is for.
func (r *run) judgeTimes() {
	t := r.t
	for name, toRecord := range map[string]Sample{"failure": r.failed, "deletion seen": r.seen} {
		assert.Less(t, toRecord.Percentile(99), time.Second, "%s to record, p99", name)
		assert.Less(t, toRecord.Percentile(50), 150*time.Millisecond, "%s to record, median", name)
	}
}

// judgeWrites stops the writers, and asserts what holds whatever failed.
func (r *run) judgeWrites(ctx context.Context) {
	t := r.t
	controllers, err := lab.Controllers(ctx)
	require.NoError(t, err)
	for _, w := range r.writers {
		w.Stop()
		for text, n := range w.Errors() {
			t.Logf("%s: %d times %s", w.name, n, text)
			assert.NotContains(t, text, "forbidden", "invariant 2")
		}
		missing, err := w.Missing(ctx, controllers[0].Addr)
		require.NoError(t, err)
		require.NotEmpty(t, w.Acks())
		assert.Empty(t, missing, "invariant 1: of %d acknowledged writes", len(w.Acks()))
		for _, a := range missing {
			s := lab.Eye.Since(a.At)[0]
			t.Logf("write %d was acknowledged %s after the record of %+v", a.ID, a.At.Sub(s.At), s)
		}
		t.Logf("%s: %d writes acknowledged, %d missing", w.name, len(w.Acks()), len(missing))
	}
}

// MAIN is handed over while it lives: clients wait for a moment, and see no error
// however they write.
func TestMainIsDeletedGracefully(t *testing.T) {
	r := measure(t, failure{
		title: "MAIN deleted gracefully", deletes: true, ways: []Way{Unmanaged, Managed},
		cause: func(ctx context.Context, main string) error { return lab.Delete(ctx, main, nil) },
	})
	for _, w := range r.writers {
		assert.Empty(t, w.Errors(), w.name)
	}
	assert.Less(t, r.gap.Percentile(90), 500*time.Millisecond, "longest gap of a client, p90")
}

func TestMainIsDeletedWithoutGrace(t *testing.T) {
	measure(t, failure{
		title: "MAIN deleted with --grace-period=0", deletes: true,
		cause: func(ctx context.Context, main string) error { return lab.Delete(ctx, main, new(int64(0))) },
	})
}

func TestMainIsKilled(t *testing.T) {
	r := measure(t, failure{title: "MAIN's process killed", cause: func(ctx context.Context, main string) error { return lab.Kill(ctx, main) }})
	assert.Less(t, r.gap.Percentile(99), time.Second, "until a write is acknowledged again, p99")
}
