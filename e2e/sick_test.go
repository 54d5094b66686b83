package e2e

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/memgraphtest"
	"memgraph-controller/reconcile"
)

const (
	// convergences is how often a replica is repaired beside each kind of sick pod, and
	// as often just before and after that together: enough for their medians to be
	// compared, on a machine that others use as well.
	convergences = 24
	// maxSlowdown is by how much longer that may take beside a sick pod.
	maxSlowdown = 1.2
	// settling is for what one repair sets off, so that it is not in the way of the next.
	settling = 50 * time.Millisecond
)

// bystanders are the replicas that are not the partner.
func bystanders(s Status) (pods []string) {
	for _, p := range s.Pods {
		if p.Name != s.Record.Main && p.Name != s.Record.Partner {
			pods = append(pods, p.Name)
		}
	}
	return pods
}

// converge is how long it takes until a replica whose registration was dropped by hand
// is registered and ready again. Something is heard of its pod meanwhile: the pause
// between two looks is not what is measured.
func (s *scenario) converge(ctx context.Context, hand *memgraph.Client, main *memgraphtest.Control, replica string) time.Duration {
	s.t.Helper()
	name := memgraph.ReplicaName(replica)
	begun := time.Now()
	require.NoError(s.t, hand.Drop(ctx, s.before.pod(s.before.Record.Main).IP+":7687", name))
	require.NoError(s.t, touch(ctx, replica))
	for {
		state, err := main.State(ctx)
		require.NoError(s.t, err)
		ready := func(r memgraphtest.Replica) bool { return r.Name == name && r.Status == string(memgraph.StatusReady) }
		if slices.ContainsFunc(state.Replicas, ready) {
			return time.Since(begun)
		}
		require.NoError(s.t, Pause(ctx, time.Millisecond))
	}
}

// touch changes a pod in a way that matters to nobody.
func touch(ctx context.Context, pod string) error {
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"touched":%q}}}`, time.Now())
	_, err := lab.Kube.CoreV1().Pods(namespace).Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}

// A replica is repaired as fast beside one that hangs, cannot be reached or refuses as
// beside one that is well.
func TestSickPodsDelayNoOther(t *testing.T) {
	ctx, s := newScenario(t)
	for _, w := range s.writers {
		w.Stop() // a registration that is dropped under load can kill MAIN
	}
	require.NoError(t, lab.Scale(ctx, 4))
	s.recover(ctx)
	t.Cleanup(func() { require.NoError(t, lab.Scale(context.WithoutCancel(ctx), 3)) })
	var err error
	s.before, err = lab.Leader(ctx)
	require.NoError(t, err)
	main, err := lab.Control(s.before.Record.Main)
	require.NoError(t, err)
	defer main.Close()
	hand := memgraph.NewClient(nil, nil)
	defer func() { assert.NoError(t, hand.Close(context.WithoutCancel(ctx))) }()
	well, sick := bystanders(s.before)[0], bystanders(s.before)[1]
	work := s.waits(ctx, "queue_work_seconds", "routine")

	network := func(m memgraphtest.Mode) func() error { return func() error { return lab.Network(ctx, sick, m) } }
	var before, amid Sample
	rows := []Row{}
	for _, ill := range []struct {
		name       string
		fall, mend func() error
	}{
		{"hangs", func() error { return lab.Pause(ctx, sick) }, func() error { return lab.Resume(sick) }},
		{"cannot be reached", network(memgraphtest.Blackhole), network(memgraphtest.Open)},
		{"refuses", network(memgraphtest.Refuse), network(memgraphtest.Open)},
	} {
		converge := func(times int) (took Sample) {
			for range times {
				took = append(took, s.converge(ctx, hand, main, well))
				require.NoError(t, Pause(ctx, settling))
			}
			return took
		}
		alone := converge(convergences / 2)
		require.NoError(t, ill.fall())
		beside := converge(convergences)
		require.NoError(t, ill.mend())
		s.recover(ctx)
		alone = append(alone, converge(convergences/2)...)
		before, amid = append(before, alone...), append(amid, beside...)
		rows = append(rows, Row{"all are well", alone}, Row{"another " + ill.name, beside})
	}
	require.NoError(t, PrintTable(t.Output(), "until a replica is repaired", rows))
	ratio := amid.Percentile(50).Seconds() / before.Percentile(50).Seconds()
	t.Logf("beside a sick pod it takes %.2f times as long (medians)", ratio)
	assert.LessOrEqual(t, ratio, maxSlowdown)
	passes := s.waits(ctx, "queue_work_seconds", "routine").since(work)
	assert.LessOrEqual(t, passes.percentile(100), reconcile.PodTimeout, "of %d passes over a pod", passes.count())
}

// histogram is one of a controller's metrics: how often something took at most so long.
type histogram map[float64]float64

// waits reads a histogram of the leader's for one lane.
func (s *scenario) waits(ctx context.Context, metric, lane string) histogram {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+strings.TrimSuffix(s.before.Addr, ":7687")+":8080/metrics", nil)
	require.NoError(s.t, err)
	resp, err := lab.http.Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	h := histogram{}
	prefix := fmt.Sprintf(`memgraph_controller_%s_bucket{lane="%s",le="`, metric, lane)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		rest, found := strings.CutPrefix(lines.Text(), prefix)
		bound, count, _ := strings.Cut(rest, `"} `)
		if !found {
			continue
		}
		le, err := strconv.ParseFloat(bound, 64)
		require.NoError(s.t, err)
		h[le], err = strconv.ParseFloat(count, 64)
		require.NoError(s.t, err)
	}
	require.NotEmpty(s.t, h, prefix)
	return h
}

// since is what was added after before.
func (h histogram) since(before histogram) histogram {
	added := histogram{}
	for le, n := range h {
		added[le] = n - before[le]
	}
	return added
}

func (h histogram) count() int { return int(h[math.Inf(1)]) }

// percentile is the lowest bound that so many of a hundred kept to.
func (h histogram) percentile(p float64) time.Duration {
	for _, le := range slices.Sorted(maps.Keys(h)) {
		if h[le] >= p/100*h[math.Inf(1)] && !math.IsInf(le, 1) {
			return time.Duration(le * float64(time.Second))
		}
	}
	return time.Hour // above all bounds
}

const (
	// flooders patch a pod at the same time, as fast as the API server takes it: its
	// disk bounds that, and the flood of 10,000 a second is BenchmarkFlood's.
	flooders = 4
	// maxUrgentWait is what an urgent event may wait for a worker.
	maxUrgentWait = 10 * time.Millisecond
)

// flood has news of pod told until stop, which returns how many there were.
func flood(ctx context.Context, pod string) (stop func() (events int64, err error)) {
	ctx, cancel := context.WithCancel(ctx)
	var events atomic.Int64
	var all errgroup.Group
	for range flooders {
		all.Go(func() error {
			for ctx.Err() == nil {
				if err := touch(ctx, pod); err != nil && ctx.Err() == nil {
					return err
				}
				events.Add(1)
			}
			return nil
		})
	}
	return func() (int64, error) {
		cancel()
		return events.Load(), all.Wait()
	}
}

// MAIN dies in a flood of news of a replica's pod, which holds up nothing.
func TestAFloodDelaysNothingUrgent(t *testing.T) {
	ctx, s := newScenario(t)
	for range (*rounds + 1) / 2 {
		var err error
		s.before, err = lab.Leader(ctx)
		require.NoError(t, err)
		begun, stop := time.Now(), flood(ctx, s.async())
		s.round(ctx, failure{cause: lab.Kill, mend: func(string) error {
			events, err := stop()
			t.Logf("MAIN died amid %.0f events a second", float64(events)/time.Since(begun).Seconds())
			return err
		}})
	}
	require.NoError(t, PrintTable(t.Output(), "MAIN's process killed in a flood", []Row{
		{"failure to record", s.failed}, {"longest gap between acknowledged writes", s.gap}, {"urgent queue wait", s.queued},
	}))
	assert.NotEmpty(t, s.queued)
	assert.LessOrEqual(t, s.queued.Percentile(99), maxUrgentWait)
	s.judgeWrites(ctx)
}

// All asynchronous replicas vanish as MAIN is deleted: they are asked in vain, and
// nothing waits for that.
func TestMainIsDeletedAmidPodsThatCannotBeReached(t *testing.T) {
	var lost []string
	switchTo := func(ctx context.Context, m memgraphtest.Mode) error {
		for _, pod := range lost {
			if err := lab.Network(ctx, pod, m); err != nil {
				return err
			}
		}
		return nil
	}
	t.Cleanup(func() { assert.NoError(t, switchTo(context.WithoutCancel(t.Context()), memgraphtest.Open)) }) // if the test ends early
	r := repeat(t, failure{
		title: "MAIN deleted, all asynchronous replicas cut off", deletes: true,
		cause: func(ctx context.Context, main string) error {
			before, err := lab.Leader(ctx)
			if err != nil {
				return err
			}
			lost = bystanders(before)
			if err := switchTo(ctx, memgraphtest.Blackhole); err != nil {
				return err
			}
			return lab.Delete(ctx, main, new(int64(0)))
		},
		mend: func(string) error { return switchTo(t.Context(), memgraphtest.Open) },
	}, (*rounds+1)/2)
	assert.Less(t, r.seen.Percentile(99), 250*time.Millisecond, "deletion seen to record, p99")
}
