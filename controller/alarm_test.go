package controller

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// alarms are the notes of the Events by which the leader asks for people.
func (l *lab) alarms() (notes []string) {
	l.t.Helper()
	events, err := l.cs.EventsV1().Events("").List(l.t.Context(), metav1.ListOptions{})
	require.NoError(l.t, err)
	for _, e := range events.Items {
		if e.Reason == "Blocked" {
			notes = append(notes, e.Note)
		}
	}
	slices.Sort(notes)
	return slices.Compact(notes)
}

// What is no reason to replace MAIN, and what is said of it meanwhile: by the status
// of the pod, the decision and its reason, and after half a minute, where it may need
// somebody, by an Event and a metric.
func TestNoFalseAlarm(t *testing.T) {
	main := func(change func(*instance)) func(*lab) { return func(l *lab) { l.fleet.with(0, change) } }
	all := func(change func(*instance)) func(*lab) {
		return func(l *lab) {
			for i := range 3 {
				l.fleet.with(i, change)
			}
		}
	}
	ready := func(l *lab, is corev1.ConditionStatus) {
		l.updatePod(0, func(p *corev1.Pod) { p.Status.Conditions[0].Status = is })
	}
	const (
		well    = "as the record says"
		silent  = "MAIN mg-0 does not answer, and is not known to be dead"
		cutOff  = "neither MAIN mg-0 nor its partner mg-1 answers: the controller may be cut off"
		refused = "MAIN mg-0 refuses our credentials: correct the Secret, nothing is wrong with MAIN"
	)
	for name, c := range map[string]struct {
		trouble  func(l *lab) // lasts for a minute, or for as long as it takes itself
		verdict  memgraph.Verdict
		reason   string
		alarm    string // "" where nobody is needed
		isolated float64
	}{
		"MAIN is slow": {trouble: main(func(i *instance) { i.slow = 700 * time.Millisecond }),
			verdict: memgraph.Slow, reason: silent, alarm: silent},
		"MAIN starves, and answers just in time": {trouble: main(func(i *instance) { i.slow = 299 * time.Millisecond }),
			verdict: memgraph.Alive, reason: well},
		"MAIN starves, and answers one question in three in time": {trouble: func(l *lab) {
			for n := range 240 {
				l.fleet.with(0, func(i *instance) { i.slow = []time.Duration{700, 700, 1}[n%3] * time.Millisecond })
				<-time.After(Defaults.ProbeInterval)
			}
		}, verdict: memgraph.Slow},
		"a storm of logins: no answer in time, but clients get theirs": {trouble: main(func(i *instance) { i.hangs, i.chatty = true, true }),
			verdict: memgraph.Slow, reason: silent, alarm: silent},
		"a commit or a query keeps all others waiting, for 20 s": {trouble: func(l *lab) {
			l.fleet.with(0, func(i *instance) { i.stalled = true })
			<-time.After(20 * time.Second)
		}, verdict: memgraph.Alive, reason: well},
		"the controller is cut off": {trouble: all(func(i *instance) { i.err = memgraph.ErrUnreachable }),
			verdict: memgraph.Unreachable, reason: cutOff, alarm: cutOff, isolated: 1},
		"everybody hangs": {trouble: all(func(i *instance) { i.hangs = true }),
			verdict: memgraph.Hung, reason: cutOff, alarm: cutOff, isolated: 1},
		"the password was changed": {trouble: all(func(i *instance) { i.err = memgraph.ErrUnauthenticated }),
			verdict: memgraph.Locked, reason: refused, alarm: refused},
		"the node of MAIN is not ready, MAIN answers": {trouble: func(l *lab) { ready(l, corev1.ConditionFalse) },
			verdict: memgraph.Alive, reason: well},
		"readiness flaps for ten minutes": {trouble: func(l *lab) {
			for i := range 600 {
				ready(l, []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue}[i%2])
				<-time.After(time.Second)
			}
		}, verdict: memgraph.Alive, reason: well},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				ctl, stop := l.start("a")
				defer stop()
				l.settled()
				before, begun := l.record(), time.Now()
				c.trouble(l)
				if time.Since(begun) == 0 {
					<-time.After(time.Minute)
				}
				after := l.record()
				assert.Equal(t, []any{before.Main, before.Generation}, []any{after.Main, after.Generation})
				assert.Empty(t, l.fleet.statements("promote"))
				status := ctl.Status()
				assert.Equal(t, c.verdict, status.Pods[0].Verdict)
				assert.Contains(t, status.Reason, c.reason)
				assert.Len(t, status.Pods, 3, "nobody is evicted")
				assert.Equal(t, c.isolated, value(t, ctl.metrics.probes.isolated))
				assert.Equal(t, one(c.alarm != ""), value(t, ctl.metrics.blocked))
				assert.Equal(t, c.alarm != "", slices.Contains(l.alarms(), c.alarm), l.alarms())
			})
		})
	}
}

// A controller that loses its own network loses everything at once, the lease too. It
// does nothing meanwhile, and finds what it left.
func TestAControllerWithoutNetworkComesBackToWhatItLeft(t *testing.T) {
	inLab(t, func(l *lab) {
		var away atomic.Bool
		l.cs.PrependReactor("*", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, errors.New("no route to host")
		})
		ctl, stop := l.start("a")
		defer stop()
		l.settled()
		before := l.record()
		cut := func(is bool) {
			away.Store(is)
			for i := range 3 {
				l.fleet.with(i, func(in *instance) { in.err = map[bool]error{true: memgraph.ErrUnreachable}[is] })
			}
		}
		statements := l.fleet.statements("")
		cut(true)
		<-time.After(time.Minute)
		assert.False(t, ctl.Status().Leading, "its lease has run out")
		assert.Equal(t, statements, l.fleet.statements(""))
		cut(false)
		<-time.After(Defaults.LeaseDuration + 2*Defaults.RetryPeriod)
		assert.True(t, ctl.Status().Leading, "it goes on campaigning")
		after := l.record()
		assert.Equal(t, []any{before.Main, before.Generation, before.InSync}, []any{after.Main, after.Generation, after.InSync})
		assert.Equal(t, "nothing", ctl.Status().Decision)
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
