package controller

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
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

// What is no reason to replace MAIN, and what is said of it meanwhile.
func TestNoFalseAlarm(t *testing.T) {
	all := func(l *lab, change func(*instance)) {
		for i := range 3 {
			l.fleet.with(i, change)
		}
	}
	for name, c := range map[string]struct {
		trouble  func(l *lab)
		verdict  memgraph.Verdict
		decision string
		reason   string
		isolated float64
	}{
		"MAIN is slow": {func(l *lab) { l.fleet.with(0, func(i *instance) { i.slow = 700 * time.Millisecond }) },
			memgraph.Slow, "", "", 0},
		"MAIN starves": {func(l *lab) { l.fleet.with(0, func(i *instance) { i.slow = 299 * time.Millisecond }) },
			memgraph.Alive, "nothing", "as the record says", 0},
		"a storm of logins: no answer in time, but clients get theirs": {func(l *lab) { l.fleet.with(0, func(i *instance) { i.hangs, i.chatty = true, true }) },
			memgraph.Slow, "waiting", "not known to be dead", 0},
		"the controller is cut off": {func(l *lab) { all(l, func(i *instance) { i.err = memgraph.ErrUnreachable }) },
			memgraph.Unreachable, "waiting", "the controller may be cut off", 1},
		"everybody hangs": {func(l *lab) { all(l, func(i *instance) { i.hangs = true }) },
			memgraph.Hung, "waiting", "the controller may be cut off", 1},
		"the password was changed": {func(l *lab) { all(l, func(i *instance) { i.err = memgraph.ErrUnauthenticated }) },
			memgraph.Locked, "blocked", "correct the Secret", 0},
		"the node of MAIN is not ready, MAIN answers": {func(l *lab) {
			l.updatePod(0, func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse })
		}, memgraph.Alive, "nothing", "as the record says", 0},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				ctl, stop := l.start("a")
				defer stop()
				l.settled()
				before := l.record()
				c.trouble(l)
				<-time.After(time.Minute)
				after := l.record()
				assert.Equal(t, []any{before.Main, before.Generation}, []any{after.Main, after.Generation})
				status := ctl.Status()
				assert.Equal(t, c.verdict, status.Pods[0].Verdict)
				if c.decision != "" {
					assert.Equal(t, c.decision, status.Decision)
				}
				assert.Contains(t, status.Reason, c.reason)
				assert.Equal(t, c.isolated, value(t, ctl.metrics.probes.isolated))
				assert.Empty(t, l.fleet.statements("promote"))
				assert.Len(t, status.Pods, 3, "nobody is evicted")
			})
		})
	}
}

func TestReadinessThatFlapsForTenMinutes(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.settled()
		before := l.record()
		for i := range 600 {
			ready := []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue}[i%2]
			l.updatePod(0, func(p *corev1.Pod) { p.Status.Conditions[0].Status = ready })
			<-time.After(time.Second)
		}
		after := l.record()
		assert.Equal(t, []any{before.Main, before.Generation}, []any{after.Main, after.Generation})
	})
}

// REGISTER towards a target that hangs after all keeps MAIN from answering anybody
// for 10 s. It was us who sent it.
func TestAMainThatRegistersIsNotTakenForHung(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.settled()
		before := l.record()
		l.lose(2)
		l.fleet.with(0, func(i *instance) {
			i.unlist("mg_2")
			i.register = func(ctx context.Context, _ memgraph.Registration) error {
				l.fleet.with(0, func(i *instance) { i.hangs = true })
				<-ctx.Done()
				return memgraph.ErrUnreachable
			}
		})
		l.comeBack(2)
		registered := time.Now()
		for len(l.fleet.statements("register mg_2")) < 2 {
			<-time.After(time.Millisecond)
			require.Less(t, time.Since(registered), time.Minute)
		}
		begun := time.Now()
		<-time.After(blockedBy - 100*time.Millisecond)
		assert.Greater(t, time.Since(begun), reconcile.PodTimeout, "we have given up long before")
		assert.Equal(t, before.Generation, l.record().Generation)
		assert.Equal(t, memgraph.Slow, c.Status().Pods[0].Verdict)

		l.within(3*time.Second, "a new MAIN: it does not answer after that either", isMain("mg-1"))
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
