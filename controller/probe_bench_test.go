package controller

import (
	"context"
	"io"
	"log/slog"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/memgraphtest"
)

const (
	// maxShare of a core is what the probes of MAIN and its partner may cost.
	maxShare = 0.002
	// maxGrowth is for whatever else is on the heap, in bytes.
	maxGrowth = 64 << 10
	// anHour of probing one instance.
	anHour = time.Hour
)

// direct is a prober of the one instance that there is.
type direct struct {
	*memgraph.Prober
	addr string
}

func (d direct) Identify(ctx context.Context, _ string) (memgraph.Identity, error) {
	return d.Prober.Identify(ctx, d.addr)
}

// probing returns what puts one question to a Memgraph in this process, as a sentry
// does, over and over.
func probing(t testing.TB) (probe func()) {
	main := memgraphtest.RunT(t)
	prober := memgraph.NewProber(nil, nil)
	t.Cleanup(prober.Close)
	cs, _ := newClientset()
	term := testTerm(t, cs, newFleet(0))
	t.Cleanup(term.urgent.queue.ShutDown)
	term.c.deps.Sentinel = direct{prober, main.Addr()}
	term.c.deps.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	pod := memgraph.Pod{Name: "mg-0", UID: "uid-0", IP: "127.0.0.1"}
	require.NoError(t, term.c.identify(t.Context(), term.c.deps.Sentinel, pod, time.Second))
	s := &sentry{t: term, part: probedMain}
	s.follow(pod.UID)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(cancel)
	return func() { require.NoError(t, s.look(ctx, pod)) }
}

// cpu is what this process has used so far.
func cpu(t testing.TB) time.Duration {
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// heap is what is in use after a collection.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what has a finalizer lives for one more
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkProbe is one question with its answer. What it costs is reported as the
// share of a core that MAIN and its partner take at the default interval; it
// includes what the Memgraph spends on it, which is in the same process.
func BenchmarkProbe(b *testing.B) {
	probe := probing(b)
	b.ReportAllocs()
	before := cpu(b)
	for b.Loop() {
		probe()
	}
	each := (cpu(b) - before).Seconds() / float64(b.N)
	share := each * 2 / Defaults.ProbeInterval.Seconds()
	b.ReportMetric(100*share, "%-of-a-core")
	assert.Less(b, share, maxShare)
}

// BenchmarkAnHourOfProbes is as many of one instance as there are in an hour, and by
// how much the heap has grown then.
func BenchmarkAnHourOfProbes(b *testing.B) {
	probe := probing(b)
	probe()
	before := heap()
	for b.Loop() {
		for range anHour / Defaults.ProbeInterval {
			probe()
		}
	}
	growth := heap() - before
	b.ReportMetric(float64(growth), "B-heap-growth")
	assert.Less(b, growth, int64(maxGrowth))
}

func TestProbesLeaveNothingBehind(t *testing.T) {
	probe := probing(t)
	probe()
	before := heap()
	for range 2000 {
		probe()
	}
	assert.Less(t, heap()-before, int64(maxGrowth))
}
