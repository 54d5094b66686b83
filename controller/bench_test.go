package controller

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"memgraph-controller/memgraph"
)

// bench is a controller that leads a cluster whose MAIN is pod 0 and whose partner
// is pod 1, in real time.
type bench struct {
	*testing.B
	c     *Controller
	cs    *fake.Clientset
	fleet *fleet
	pods  *watch.FakeWatcher // tells the controller of pods, and of nothing else
	told  atomic.Int64       // versions of pods
	asked chan time.Time     // when the urgent lane asked MAIN; capacity 1
}

func newBench(b *testing.B, pods int) *bench {
	b.Helper()
	set := statefulSet()
	*set.Spec.Replicas = int32(pods)
	objects := []runtime.Object{set}
	for i := range pods {
		objects = append(objects, runningPod(i))
	}
	n := &bench{B: b, fleet: newFleet(pods), pods: watch.NewFake(), asked: make(chan time.Time, 1)}
	n.cs, _ = newClientset(objects...)
	n.cs.PrependWatchReactor("pods", func(clienttesting.Action) (bool, watch.Interface, error) { return true, n.pods, nil })
	n.c = newController(b, "a", n.cs, n.fleet)
	n.c.deps.Log = slog.New(slog.DiscardHandler)
	n.c.deps.UrgentProber = urgentProber{n.fleet, n.asked}
	n.c.cfg.LeaseDuration, n.c.cfg.RenewDeadline = time.Hour, time.Hour-time.Minute // however busy the machine is
	ctx, cancel := context.WithCancel(b.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = n.c.Run(ctx) })
	wg.Go(func() { n.c.Lead(ctx) })
	b.Cleanup(func() { cancel(); wg.Wait() })
	waitFor(b, func() bool {
		registered := 0
		n.fleet.with(0, func(i *instance) { registered = len(i.replicas) })
		return registered == pods-1 && n.c.record.latest().InSync
	})
	return n
}

// tell has the controller hear of a change of pod i.
func (n *bench) tell(i int, change func(*corev1.Pod)) {
	pod := runningPod(i)
	pod.ResourceVersion = fmt.Sprint(1_000_000 + n.told.Add(1))
	change(pod)
	n.pods.Modify(pod)
}

// converge is how long it takes until a replica that MAIN has dropped is registered
// again, once something is heard of its pod.
func (n *bench) converge(i int) time.Duration {
	registered := make(chan time.Time, 1)
	n.fleet.with(0, func(main *instance) {
		main.unlist(memgraph.ReplicaName(memgraph.PodName(testSet, i)))
		main.register = func(context.Context, memgraph.Registration) error {
			registered <- time.Now()
			return nil
		}
	})
	begun := time.Now()
	n.tell(i, func(*corev1.Pod) {})
	took := (<-registered).Sub(begun)
	<-time.After(2 * hearPause) // so that the next event is the first for a while
	return took
}

// waitFor waits until is holds.
func waitFor(t testing.TB, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); <-time.After(time.Millisecond) {
		require.True(t, time.Now().Before(end), "not within a minute")
	}
}

// median and p99 of measurements, in milliseconds.
func quantiles(took []time.Duration) (median, p99 float64) {
	slices.Sort(took)
	at := func(p int) float64 { return took[(len(took)-1)*p/100].Seconds() * 1000 }
	return at(50), at(99)
}

// BenchmarkSickPods has a replica registered again, in turns in a cluster of which
// all pods are well and in one of which the others hang, and reports how much longer
// it takes in the second: read the ratio, not the time.
func BenchmarkSickPods(b *testing.B) {
	for _, sick := range []int{1, 4, 12} {
		b.Run(fmt.Sprintf("%d of %d hang", sick, sick+3), func(b *testing.B) {
			clusters := []*bench{newBench(b, sick+3), newBench(b, sick+3)}
			for i := range sick {
				clusters[1].fleet.with(3+i, func(in *instance) { in.hangs = true })
			}
			var took [2][]time.Duration
			for b.Loop() {
				for i, n := range clusters {
					took[i] = append(took[i], n.converge(2))
				}
			}
			well, wellAtWorst := quantiles(took[0])
			amid, amidAtWorst := quantiles(took[1])
			b.ReportMetric(amid/well, "x-median")
			b.ReportMetric(amidAtWorst/wellAtWorst, "x-p99")
			b.ReportMetric(amid, "ms-median")
		})
	}
}

// urgentProber notes when the urgent lane asks MAIN, which is the first that it does
// for an event, but for reading the record.
type urgentProber struct {
	*fleet
	asked chan time.Time // capacity 1
}

func (p urgentProber) Identify(ctx context.Context, addr string) (memgraph.Identity, error) {
	if addr == "10.0.0.0:7687" {
		select {
		case p.asked <- time.Now():
		default:
		}
	}
	return p.fleet.Identify(ctx, addr)
}

const floodRate = 10_000 // events a second

// flood tells of a replica's pod at floodRate until ctx ends, and returns how often it
// did. Where the machine is too busy for the flood, it is not made up for.
func (n *bench) flood(ctx context.Context) (events int) {
	const burst = floodRate / 1000
	tick := time.NewTicker(time.Second / floodRate * burst)
	defer tick.Stop()
	for ctx.Err() == nil {
		for range burst {
			n.tell(2, func(*corev1.Pod) {})
		}
		events += burst
		<-tick.C
	}
	return events
}

// urge is how long it takes until the urgent lane acts on what is told of MAIN.
func (n *bench) urge(ready corev1.ConditionStatus) time.Duration {
	select {
	case <-n.asked: // for something else
	default:
	}
	begun := time.Now()
	n.tell(0, func(p *corev1.Pod) { p.Status.Conditions[0].Status = ready })
	select {
	case at := <-n.asked:
		return at.Sub(begun)
	case <-time.After(time.Minute):
		require.FailNow(n, "the urgent lane has not acted for a minute")
		return 0
	}
}

// urgesInARow are measured before the flood begins or ends.
const urgesInARow = 50

// BenchmarkFlood has the controller hear of a change of MAIN's pod, in turns while
// all is quiet and amid floodRate of events about a replica's, and reports how long
// after the event each is acted on: the informer and the lane are waited for.
func BenchmarkFlood(b *testing.B) {
	n := newBench(b, 3)
	var quiet, flooded []time.Duration
	var events int
	var flooding time.Duration
	urges := func() (took []time.Duration) {
		for i := range urgesInARow {
			took = append(took, n.urge([]corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue}[i%2]))
			<-time.After(2 * time.Millisecond)
		}
		return took
	}
	for b.Loop() {
		quiet = append(quiet, urges()...)
		ctx, stop := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		begun := time.Now()
		wg.Go(func() { events += n.flood(ctx) })
		flooded = append(flooded, urges()...)
		stop()
		wg.Wait()
		flooding += time.Since(begun)
	}
	_, before := quantiles(quiet)
	_, amid := quantiles(flooded)
	b.ReportMetric(float64(events)/flooding.Seconds(), "events/s")
	b.ReportMetric(before, "ms-quiet-p99")
	b.ReportMetric(amid, "ms-flooded-p99")
	b.ReportMetric(amid-before, "ms-added-p99")
}
