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

	"memgraph-controller/controller"
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
func (s *scenario) converge(ctx context.Context, main *memgraphtest.Control, replica string) time.Duration {
	s.t.Helper()
	name := memgraph.ReplicaName(replica)
	begun := time.Now()
	require.NoError(s.t, Say(ctx, s.before.pod(s.before.Record.Main).IP+":7687", "DROP REPLICA "+name))
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
				took = append(took, s.converge(ctx, main, well))
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
	// flooders patch each pod at the same time, as fast as the API server takes it.
	flooders = 4
	// flooding is how long urgent events are counted amid the flood, and before it, one
	// each urgePace: one that comes while another is looked into waits for that, which
	// includes a request to the API server that is flooded.
	flooding, urgePace = 6 * time.Second, 150 * time.Millisecond
	// maxAddedWait is how much longer an urgent event may wait in it for a worker, p99.
	maxAddedWait = 10 * time.Millisecond
)

// urge changes the record in a way that says nothing, which the leader looks into as
// it does into all that happens to MAIN, and returns how long that waited.
func (s *scenario) urge(ctx context.Context) histogram {
	s.t.Helper()
	before := s.waits(ctx, "lane_wait_seconds", "urgent")
	for begun := time.Now(); time.Since(begun) < flooding; {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"touched":%q}}}`, time.Now())
		_, err := lab.Kube.CoreV1().ConfigMaps(namespace).Patch(ctx, controller.RecordName(statefulSet), types.MergePatchType, patch, metav1.PatchOptions{})
		require.NoError(s.t, err)
		require.NoError(s.t, Pause(ctx, urgePace))
	}
	return s.waits(ctx, "lane_wait_seconds", "urgent").since(before)
}

// A flood of news of the pods, of as much as the API server carries, holds up neither what is urgent nor the replacement of a MAIN that dies in it.
func TestAFloodDelaysNothingUrgent(t *testing.T) {
	ctx, s := newScenario(t)
	quiet := s.urge(ctx)

	flood, stop := context.WithCancel(ctx)
	var events atomic.Int64
	var all errgroup.Group
	for i := range flooders * len(s.before.Pods) {
		all.Go(func() error {
			for flood.Err() == nil {
				if err := touch(flood, s.before.Pods[i/flooders].Name); err != nil && flood.Err() == nil {
					return err
				}
				events.Add(1)
			}
			return nil
		})
	}
	begun := time.Now()
	flooded := s.urge(ctx)
	rate := float64(events.Load()) / time.Since(begun).Seconds()
	t.Logf("of %d urgent events amid %.0f others a second 99 of 100 waited %s at most, and of %d before %s",
		flooded.count(), rate, flooded.percentile(99), quiet.count(), quiet.percentile(99))
	assert.LessOrEqual(t, flooded.percentile(99)-quiet.percentile(99), maxAddedWait)
	s.round(ctx, failure{cause: func(ctx context.Context, main string) error {
		defer stop() // once MAIN is dead: the flood has a head start
		return lab.Kill(ctx, main)
	}})
	require.NoError(t, all.Wait())
	t.Logf("MAIN died amid them: %s until that was taken up, %s until it was recorded", s.queued[0], s.failed[0])
	assert.LessOrEqual(t, s.queued[0], maxAddedWait)
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
