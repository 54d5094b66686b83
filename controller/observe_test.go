package controller

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

func TestWhatAProcessSaidDiesWithIt(t *testing.T) {
	o := newObservations()
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	first := memgraph.Identity{Role: memgraph.RoleReplica, RunID: "run-1"}
	assert.True(t, o.met("u", at(1), first, nil), "news")
	assert.False(t, o.met("u", at(2), first, nil), "the same again")
	o.update("u", "run-1", func(i *memgraph.Instance) { i.Diverged, i.Storage.Vertices, i.StorageAt = true, 7, at(2) })

	assert.True(t, o.met("u", at(4), memgraph.Identity{}, memgraph.ErrUnreachable))
	assert.False(t, o.met("u", at(3), first, nil), "an attempt that was begun earlier hides nothing")
	i := o.of("u")
	assert.Equal(t, []any{memgraph.Silent, at(4), at(4), first}, []any{i.Reach, i.Asked, i.Since, i.Identity})
	assert.False(t, o.met("u", at(5), memgraph.Identity{}, memgraph.ErrUnreachable))
	assert.Equal(t, at(4), o.of("u").Since, "silent since then")

	promoted := memgraph.Identity{Role: memgraph.RoleMain, RunID: "run-1"}
	o.met("u", at(6), promoted, nil)
	i = o.of("u")
	assert.True(t, i.Diverged)
	assert.Zero(t, i.StorageAt, "a change of role may have changed whose data it is")

	second := memgraph.Identity{Role: memgraph.RoleMain, RunID: "run-2"}
	assert.True(t, o.met("u", at(7), second, nil))
	assert.Equal(t, memgraph.Instance{Identity: second, Reach: memgraph.Answered, Asked: at(7), Since: at(7), ReplicasAsked: at(7)}, o.of("u"))
	o.update("u", "run-1", func(i *memgraph.Instance) { i.Storage.Vertices = 9 })
	assert.Zero(t, o.of("u").Storage, "an answer of the process before")

	o.forget("u")
	assert.Zero(t, o.of("u"))
}

func TestCrashesAreCountedSinceAPodWasReady(t *testing.T) {
	o := newObservations()
	pod := func(restarts int, ready bool) memgraph.Pod {
		return memgraph.Pod{UID: "u", Restarts: restarts, Ready: ready}
	}
	assert.Zero(t, o.crashes(pod(7, false)), "nobody has seen it before")
	for _, step := range []struct {
		seen memgraph.Pod
		want int
	}{
		{pod(7, false), 0}, // how long it took to come to seven is not known
		{pod(8, false), 1},
		{pod(9, false), 2},
		{pod(9, true), 0},
		{pod(9, false), 0},
		{pod(10, false), 1},
	} {
		o.saw(step.seen)
		assert.Equal(t, step.want, o.crashes(step.seen), "%+v", step.seen)
	}
	o.forget("u")
	assert.Zero(t, o.crashes(pod(12, false)))
}

func TestReachTellsAProcessThatIsGoneFromOneThatIsSilent(t *testing.T) {
	for err, want := range map[error]memgraph.Reach{
		nil:                         memgraph.Answered,
		memgraph.ErrRefused:         memgraph.Refused,
		memgraph.ErrUnreachable:     memgraph.Silent,
		memgraph.ErrUnauthenticated: memgraph.Denied,
		memgraph.ErrBusy:            memgraph.Silent,
	} {
		assert.Equal(t, want, reach(err), "%v", err)
	}
}

func TestOneRefusalIsChance(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		before := l.protected()
		l.fleet.with(0, func(i *instance) { i.errs = []error{memgraph.ErrRefused} })
		c.Suspect()
		<-time.After(time.Second)
		assert.Equal(t, before.Generation, l.record().Generation)
	})
}

func TestWhoDoesNotListenIsNotRegistered(t *testing.T) {
	inLab(t, func(l *lab) {
		l.fleet.with(2, func(i *instance) { i.deaf = true })
		_, stop := l.start("a")
		defer stop()
		l.protected()
		<-time.After(4 * time.Second)
		assert.Empty(t, l.fleet.statements("register mg_2"), "REGISTER would block MAIN for as long as nobody answers")
		l.fleet.with(2, func(i *instance) { i.deaf = false })
		<-time.After(routineLastRetry)
		assert.Len(t, l.fleet.statements("register mg_2"), 1)
	})
}

// A demotion that finds its port taken leaves a replica that no MAIN can ever reach.
func TestWhoNeverListensIsReplaced(t *testing.T) {
	inLab(t, func(l *lab) {
		l.fleet.with(2, func(i *instance) { i.deaf = true })
		_, stop := l.start("a")
		defer stop()
		l.protected()
		<-time.After(time.Minute)
		assert.Empty(t, l.fleet.statements("register mg_2"))
		_, err := l.cs.CoreV1().Pods(testNamespace).Get(t.Context(), "mg-2", metav1.GetOptions{})
		assert.True(t, apierrors.IsNotFound(err), "%v", err)
	})
}

func TestARefusedRegistrationLeavesNothingBehind(t *testing.T) {
	for name, c := range map[string]struct {
		refusal  error
		diverged bool
	}{
		"diverged":     {memgraph.ErrDiverged, true},
		"not accepted": {memgraph.ErrNotAccepted, false},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				ctl, stop := l.start("a")
				defer stop()
				l.settled()
				l.lose(2)
				l.fleet.with(0, func(i *instance) {
					i.unlist("mg_2")
					i.register = refuse(c.refusal)
				})
				l.comeBack(2)
				<-time.After(time.Minute)
				tries := l.fleet.statements("register mg_2 async 10.0.0.2:10000 on 10.0.0.0")[1:]
				assert.Len(t, l.fleet.statements("drop mg_2"), len(tries), "one for each try")
				assert.Equal(t, c.diverged, ctl.Status().Pods[2].Diverged)
				if c.diverged {
					assert.Len(t, tries, 1, "only other data heals it")
				} else {
					assert.Greater(t, len(tries), 2)
				}
			})
		})
	}
}

func TestByNameARegistrationOutlivesTheAddress(t *testing.T) {
	inLab(t, func(l *lab) {
		l.registerBy = ByName
		_, stop := l.start("a")
		defer stop()
		l.settled()
		assert.Equal(t, []string{
			"register mg_1 strict_sync mg-1.mg.ns.svc:10000 on 10.0.0.0:7687",
			"register mg_2 async mg-2.mg.ns.svc:10000 on 10.0.0.0:7687",
		}, slices.Sorted(slices.Values(l.fleet.statements("register"))))
	})
}

// A name that leads elsewhere would have MAIN wait for nobody, or take another's replica.
func TestAReplicaIsRegisteredByANameThatLeadsToIt(t *testing.T) {
	const name = "mg-2.mg.ns.svc"
	for why, c := range map[string]struct {
		lookup
		registered bool
	}{
		"it does":                            {lookup{addrs: []string{"fd00::2", "10.0.0.2"}}, true},
		"to the pod before":                  {lookup{addrs: []string{"10.0.0.9"}}, false},
		"DNS fails":                          {lookup{err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}, false},
		"DNS is slow":                        {lookup{err: context.DeadlineExceeded}, false},
		"we are not where the name is known": {lookup{err: &net.DNSError{Err: "no such host", IsNotFound: true}}, true},
	} {
		t.Run(why, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.registerBy = ByName
				l.fleet.names = map[string]lookup{name: c.lookup}
				_, stop := l.start("a")
				defer stop()
				l.protected()
				<-time.After(5 * time.Second)
				assert.Equal(t, c.registered, len(l.fleet.statements("register mg_2")) == 1)
				l.fleet.mu.Lock()
				delete(l.fleet.names, name)
				l.fleet.mu.Unlock()
				<-time.After(routineLastRetry)
				assert.Equal(t, []string{"register mg_2 async " + name + ":10000 on 10.0.0.0:7687"}, l.fleet.statements("register mg_2"))
			})
		})
	}
}

func TestNothingIsKeptOfAPodThatIsGone(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.protected()
		l.fleet.with(2, func(i *instance) { i.err = memgraph.ErrUnreachable })
		<-time.After(time.Minute)
		key := reconcile.BreakerKey(memgraph.Pod{UID: "uid-2", Container: "process://c1"})
		assert.NotEqual(t, reconcile.Closed, c.breakers.State(key))
		shown := map[string]float64{}
		for s, gauge := range c.metrics.breakers {
			shown[string(s)] = value(t, gauge)
		}
		assert.Equal(t, 2.0, shown["closed"])
		assert.Equal(t, 1.0, shown["open"]+shown["half-open"])
		assert.Equal(t, c.breakers.State(key), c.Status().Pods[2].Breaker)
		l.lose(2)
		synctest.Wait()
		assert.Equal(t, []string{"10.0.0.2:7687"}, l.fleet.forgotten)
		assert.Zero(t, c.seen.of("uid-2"))
		assert.Equal(t, reconcile.Closed, c.breakers.State(key))
	})
}

func TestAProcessThatEndedIsForgottenWhereItsPodStays(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.protected()
		l.updatePod(2, func(p *corev1.Pod) { p.Status.ContainerStatuses[0].ContainerID = "process://c2" })
		synctest.Wait()
		assert.Equal(t, []string{"10.0.0.2:7687"}, l.fleet.forgotten, "connections to the old one")
		assert.NotZero(t, c.seen.of("uid-2"), "who it is now tells itself by its run_id")
	})
}

// An earlier list of replicas may arrive after a later one.
func TestALaterListIsNotHiddenByAnEarlierOne(t *testing.T) {
	cs, _ := newClientset()
	f := newFleet(1)
	c := newController(t, "a", cs, f)
	_, err := c.informers()
	require.NoError(t, err)
	main := memgraph.Pod{Name: "mg-0", UID: "uid-0", IP: "10.0.0.0"}
	assert.NoError(t, c.identify(t.Context(), f, main, time.Second))
	asked := time.Now().Add(time.Second) // by another worker, and answered at once
	newer := []memgraph.Replica{{Name: "mg_1"}}
	c.seen.update("uid-0", "run-0", func(i *memgraph.Instance) {
		i.Replicas, i.ReplicasAsked, i.ReplicasAt = newer, asked, asked
	})
	assert.NoError(t, c.list(t.Context(), main))
	assert.Equal(t, newer, c.seen.of("uid-0").Replicas)
}

// What our own end cut short says nothing of the instance.
func TestAnAttemptThatWeEndedTellsNothing(t *testing.T) {
	cs, _ := newClientset()
	f := newFleet(1)
	c := newController(t, "a", cs, f)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.with(0, func(i *instance) { i.err = memgraph.ErrUnreachable })
	assert.ErrorIs(t, c.identify(ctx, f, memgraph.Pod{UID: "uid-0", IP: "10.0.0.0"}, time.Second), context.Canceled)
	assert.Zero(t, c.seen.of("uid-0"))
}

func TestAPodThatIsNotFitIsNotAsked(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.settled()
		l.updatePod(2, func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse })
		asked := func() (n int) { l.fleet.with(2, func(i *instance) { n = i.asked }); return n }
		synctest.Wait()
		before := asked()
		<-time.After(10 * Defaults.ObserveInterval)
		assert.Equal(t, before, asked())
		l.updatePod(2, func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionTrue })
		synctest.Wait()
		assert.Greater(t, asked(), before)
	})
}

// DROP of an async replica under load can kill MAIN: whoever is known to have
// nothing to catch up on is the new MAIN's partner from its first registration.
func TestAFailoverNeedsNoDrop(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		before := len(l.fleet.statements("drop"))
		heir := l.record().Partner
		l.lose(0)
		l.within(50*time.Millisecond, "a protected MAIN", func(t memgraph.Topology) bool { return t.Main.Pod == heir.Pod && t.InSync })
		assert.Len(t, l.fleet.statements("drop"), before)
		registered := l.fleet.statements("on " + heir.IP)
		require.Len(t, registered, 1)
		assert.Contains(t, registered[0], " strict_sync ")
	})
}

func TestWhatMainIsSendingToIsNotDropped(t *testing.T) {
	for status, dropped := range map[memgraph.ReplicaStatus]bool{
		memgraph.StatusNone: true, memgraph.StatusReady: true, memgraph.StatusInvalid: true,
		memgraph.StatusReplicating: false, memgraph.StatusRecovery: false,
	} {
		cs, _ := newClientset()
		f := newFleet(1)
		c := newController(t, "a", cs, f)
		f.with(0, func(i *instance) { i.replicas = []memgraph.Replica{{Name: "mg_1", Status: status}} })
		err := effects{c: c, authority: func() error { return nil }}.Drop(t.Context(), memgraph.Pod{IP: "10.0.0.0"}, "mg_1")
		assert.Equal(t, dropped, err == nil, status)
		assert.Equal(t, dropped, len(f.statements("drop")) == 1, status)
		if !dropped {
			assert.ErrorIs(t, err, memgraph.ErrUnsafe, status)
		}
	}
}

func TestUnprotectedTimeIsCounted(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		c, stop := l.start("a")
		defer stop()
		l.settled()
		counted := c.metrics.unprotected.total()
		<-time.After(time.Minute)
		assert.Equal(t, counted, c.metrics.unprotected.total(), "the partner is in sync")
		l.listed("mg_2", memgraph.StatusInvalid) // so nobody can stand in
		l.lose(l.record().Partner.Index)
		l.within(time.Second, "no partner in sync", func(t memgraph.Topology) bool { return !t.InSync })
		<-time.After(3 * time.Second)
		assert.InDelta(t, 3, (c.metrics.unprotected.total() - counted).Seconds(), 0.5)
	})
}

func TestBreakersGateNoFailover(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.protected()
		for i := range 3 {
			key := reconcile.BreakerKey(memgraph.Pod{UID: fmt.Sprintf("uid-%d", i), Container: "process://c1"})
			for c.breakers.State(key) != reconcile.Open {
				_ = c.breakers.Do(key, func() error { return memgraph.ErrUnreachable })
			}
		}
		l.lose(0)
		l.within(50*time.Millisecond, "a new MAIN", isMain("mg-1"))
	})
}

// What a mesh or an injector puts into a pod may be its first container.
func TestMemgraphIsToldFromWhatRunsBesideIt(t *testing.T) {
	cs, _ := newClientset()
	c := newController(t, "a", cs, newFleet(1))
	p := runningPod(0)
	p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 7444}, {ContainerPort: memgraph.BoltPort}}
	p.Spec.Containers = slices.Insert(p.Spec.Containers, 0, corev1.Container{Name: "proxy", Ports: []corev1.ContainerPort{{ContainerPort: 15090}}})
	p.Status.ContainerStatuses = slices.Insert(p.Status.ContainerStatuses, 0, corev1.ContainerStatus{Name: "proxy", ContainerID: "process://p1", RestartCount: 7})
	pod, ok := c.pod(p)
	require.True(t, ok)
	assert.Equal(t, "process://c1", pod.Container)
	assert.Zero(t, pod.Restarts)
	assert.True(t, pod.Running)
}
