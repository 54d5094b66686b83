package controller

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"memgraph-controller/memgraph"
)

// hangs is from the first question without answer to the verdict.
const hangs = 800 * time.Millisecond

// value of a metric.
func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	require.NoError(t, r.Register(c))
	families, err := r.Gather()
	require.NoError(t, err)
	m := families[0].GetMetric()[0]
	return m.GetGauge().GetValue() + m.GetCounter().GetValue()
}

func TestAHungMainIsReplaced(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		before := l.protected()
		l.fleet.with(0, func(i *instance) { i.hangs = true })
		<-time.After(hangs - time.Millisecond)
		assert.Equal(t, before.Generation, l.record().Generation, "three misses in a row, not two")
		l.fleet.with(0, func(*instance) { assert.NotContains(t, l.fleet.disowned, int64(2)) })
		r := l.within(Defaults.ProbeInterval+Defaults.ProbeTimeout+Defaults.Settle+10*time.Millisecond, "a new MAIN", isMain("mg-1"))
		assert.Contains(t, r.History[0].Reason, "MAIN mg-0 is hung")
		l.fleet.with(0, func(*instance) {
			assert.Contains(t, l.fleet.disowned, int64(2), "what it says when it wakes up counts for nothing")
		})

		l.fleet.with(0, func(i *instance) { i.hangs = false })
		<-time.After(10 * time.Second)
		assert.Equal(t, r.Generation, l.record().Generation, "it woke up, and MAIN is another")
		l.fleet.with(0, func(i *instance) { assert.Equal(t, memgraph.RoleReplica, i.id.Role) })
		assert.Equal(t, memgraph.Alive, c.Status().Pods[1].Verdict)
		assert.Contains(t, []memgraph.Verdict{memgraph.Unjudged, memgraph.Alive}, c.Status().Pods[0].Verdict, "no verdict outlives its part")
	})
}

func TestAMainWhoseNodeIsLostIsReplaced(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.protected()
		l.fleet.with(0, func(i *instance) { i.err = memgraph.ErrUnreachable })
		r := l.within(2*time.Second, "a new MAIN", isMain("mg-1"))
		assert.Contains(t, r.History[0].Reason, "MAIN mg-0 is unreachable")
	})
}

func TestARefusalIsSeenByTheNextProbe(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.protected()
		l.fleet.with(0, func(i *instance) { i.err = memgraph.ErrRefused })
		l.within(Defaults.ProbeInterval+50*time.Millisecond, "a new MAIN, without any event", isMain("mg-1"))
	})
}

func TestAHungPartnerIsEvicted(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.settled()
		before := l.record()
		l.fleet.with(1, func(i *instance) { i.hangs = true })
		gone := func(i int) bool {
			synctest.Wait()
			_, err := l.cs.CoreV1().Pods(testNamespace).Get(t.Context(), memgraph.PodName(testSet, i), metav1.GetOptions{})
			return apierrors.IsNotFound(err)
		}
		<-time.After(hangs - time.Millisecond)
		assert.False(t, gone(1))
		<-time.After(Defaults.ProbeInterval + Defaults.ProbeTimeout + Defaults.ProbeInterval)
		require.True(t, gone(1))
		l.fleet.with(1, func(i *instance) { i.hangs, i.err = false, memgraph.ErrRefused })
		evicted := time.Now()

		r := l.within(5*time.Second, "another partner", func(t memgraph.Topology) bool { return t.Partner.Pod == "mg-2" && t.InSync })
		assert.Equal(t, before.Generation, r.Generation)
		l.fleet.with(2, func(i *instance) { i.hangs = true })
		<-time.After(time.Until(evicted.Add(time.Minute - time.Second)))
		assert.False(t, gone(2), "one a minute")
		<-time.After(2 * time.Second)
		assert.True(t, gone(2))
		assert.Equal(t, 2.0, value(t, c.metrics.probes.evictions.WithLabelValues("ok")))
		assert.False(t, gone(0))
	})
}

func TestARefusedLoginIsNotRepeatedAllTheTime(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.settled()
		l.fleet.with(1, func(i *instance) { i.err = memgraph.ErrUnauthenticated })
		asked := func() (n int) { l.fleet.with(1, func(i *instance) { n = i.asked }); return n }
		<-time.After(time.Second)
		before := asked()
		<-time.After(time.Minute)
		assert.Less(t, asked()-before, 90, "each costs 0.24 s of everybody's logins")
	})
}

func TestNobodyIsProbedByAReplicaThatDoesNotLead(t *testing.T) {
	inLab(t, func(l *lab) {
		c, resign, stop := l.startLeader("a")
		defer stop()
		l.settled()
		require.Equal(t, memgraph.Alive, c.Status().Pods[0].Verdict)
		resign()
		assert.Equal(t, memgraph.Unjudged, c.Status().Pods[0].Verdict)
		var before int
		l.fleet.with(0, func(i *instance) { before = i.asked })
		<-time.After(time.Minute)
		l.fleet.with(0, func(i *instance) { assert.Equal(t, before, i.asked) })
	})
}

func TestBlockingStatements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b blocking
		first, second := b.begin("a:1"), b.begin("a:1")
		assert.True(t, b.holds("a:1"))
		assert.False(t, b.holds("b:1"))
		first(nil)
		assert.True(t, b.holds("a:1"), "the second is under way")
		second(memgraph.ErrUnreachable)
		<-time.After(blockedBy - time.Millisecond)
		assert.True(t, b.holds("a:1"), "we gave up, MAIN did not")
		<-time.After(2 * time.Millisecond)
		assert.False(t, b.holds("a:1"))
		b.begin("a:1")(memgraph.ErrNotAccepted)
		assert.False(t, b.holds("a:1"), "it has answered")
	})
}
