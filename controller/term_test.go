package controller

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

func isMain(pod string) func(memgraph.Topology) bool {
	return func(t memgraph.Topology) bool { return t.Main.Pod == pod && t.Phase == memgraph.Stable }
}

// hang is a REGISTER that nobody answers, and how each ended.
func hang(ended chan<- error) func(context.Context, memgraph.Registration) error {
	return func(ctx context.Context, _ memgraph.Registration) error {
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return ctx.Err()
	}
}

func TestANewGenerationEndsWhatTheOldOneIsDoing(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.settled()
		l.lose(2)
		ended := make(chan error, 9)
		l.fleet.with(0, func(i *instance) {
			i.unlist("mg_2")
			i.register = hang(ended)
		})
		l.comeBack(2)
		<-time.After(2 * time.Second)
		require.Len(t, l.fleet.statements("register mg_2 async 10.0.0.2:10000 on 10.0.0.0"), 2, "it is being registered again")
		require.Empty(t, ended)

		lost := time.Now()
		l.lose(0)
		assert.ErrorIs(t, <-ended, context.Canceled, "invariant 3")
		assert.Less(t, time.Since(lost), 50*time.Millisecond, "invariant 4: nothing waited for it")
		l.within(time.Second, "a new MAIN", isMain("mg-1"))
		l.protected()
		assert.Less(t, time.Since(lost), 500*time.Millisecond, "the others are looked at anew, not at their next interval")
	})
}

// effects must be refused one by one: between two of them a paused process may
// have lost the lease.
func TestWithoutAuthorityNothingIsChanged(t *testing.T) {
	cs, _ := newClientset()
	f := newFleet(2)
	c := newController(t, "a", cs, f)
	stale := effects{c: c, authority: func() error { return errLeaseStale }}
	pods := []memgraph.Pod{{Name: "mg-0", IP: "10.0.0.0"}, {Name: "mg-1", UID: "uid-1", IP: "10.0.0.1"}}
	f.with(1, func(i *instance) { i.id.Role = memgraph.RoleReplica })
	known := func(p memgraph.Pod) memgraph.Pod {
		p.Instance.RunID = "run-1"
		return p
	}
	for name, effect := range map[string]func() error{
		"put":      func() error { _, err := stale.Put(t.Context(), topology()); return err },
		"promote":  func() error { return roles{stale}.Promote(t.Context(), pods[1].Addr()) },
		"demote":   func() error { return roles{stale}.Demote(t.Context(), pods[1].Addr()) },
		"seal":     func() error { return roles{stale}.SealEpoch(t.Context(), pods[1].Addr()) },
		"follow":   func() error { return stale.Follow(t.Context(), pods[0], known(pods[1]), memgraph.Async) },
		"rejoin":   func() error { return stale.Demote(t.Context(), pods[1]) },
		"register": func() error { return stale.Register(t.Context(), pods[0], pods[1], memgraph.Async) },
		"drop":     func() error { return stale.Drop(t.Context(), pods[0], "mg_1") },
		"retire":   func() error { return stale.Retire(t.Context(), pods[0], memgraph.Replica{Name: "mg_1"}) },
		"evict":    func() error { return stale.Evict(t.Context(), pods[0], pods[1], "mg_1") },
	} {
		assert.ErrorIs(t, effect(), errLeaseStale, "invariant 3: %s", name)
	}
	assert.Empty(t, f.statements(""))
	record, err := c.store.Load(t.Context())
	require.NoError(t, err)
	assert.Zero(t, record)
}

func TestALeaseCountsFromBeforeItsRenewalWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &lock{limit: 4 * time.Second}
		expired := make(chan time.Time, 1)
		require.NoError(t, l.renew(func() error { return nil }))
		defer l.onExpiry(func() { expired <- time.Now() })()

		<-time.After(time.Second)
		begun := time.Now()
		require.NoError(t, l.renew(func() error { <-time.After(2 * time.Second); return nil }))
		require.Error(t, l.renew(func() error { return errors.New("no route") }), "and a failed one does not count")
		assert.NoError(t, l.valid())
		<-time.After(2*time.Second + time.Nanosecond)
		assert.ErrorIs(t, l.valid(), errLeaseStale)
		assert.Equal(t, begun.Add(4*time.Second), <-expired)
	})
}

// leases counts what is written to a Lease.
type leases struct {
	resourcelock.Interface
	written []string // holders
}

func (l *leases) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	l.written = append(l.written, r.HolderIdentity)
	return nil
}

// A leader that was paused for longer than its lease finds it in other hands: it
// must not clear it there.
func TestAnExpiredLeaseIsNotReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &leases{}
		l := &lock{Interface: api, limit: 4 * time.Second}
		mine, nobodys := resourcelock.LeaderElectionRecord{HolderIdentity: "a"}, resourcelock.LeaderElectionRecord{}
		require.NoError(t, l.Update(t.Context(), mine))
		<-time.After(3 * time.Second)
		require.NoError(t, l.Update(t.Context(), nobodys), "it is ours")
		<-time.After(2 * time.Second)
		assert.ErrorIs(t, l.Update(t.Context(), nobodys), errLeaseStale, "invariant 3: a release renews nothing")
		assert.Equal(t, []string{"a", ""}, api.written)
	})
}

func TestATermBeginsWithALiveRecord(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		l.settled()
		stop()
		var away atomic.Bool
		away.Store(true)
		l.cs.PrependReactor("get", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, errors.New("etcd is away")
		})
		l.fleet.with(0, func(i *instance) { i.unlist("mg_2") })
		before := l.fleet.statements("")
		_, stop = l.start("b")
		defer stop()
		<-time.After(10 * time.Second)
		assert.Equal(t, before, l.fleet.statements(""), "what the watch delivered may be old")
		away.Store(false)
		<-time.After(time.Second)
		assert.Len(t, l.fleet.statements(""), len(before)+1)
	})
}

// A new leader knows nothing of a pod that it cannot ask, which is no reason to
// hold the partner for less than the record does.
func TestANewLeaderKeepsWhatItCannotDisprove(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		before := l.protected()
		stop()
		l.fleet.with(2, func(i *instance) { i.err = memgraph.ErrUnreachable })
		_, stop = l.start("b")
		defer stop()
		<-time.After(10 * time.Second)
		assert.Equal(t, before, l.record())
	})
}

// On SIGTERM a process gives up the lease first; its clients stay connected, and
// have to be told of the next MAIN until they are gone.
func TestAReplicaThatNoLongerLeadsStillTellsItsGateway(t *testing.T) {
	inLab(t, func(l *lab) {
		_, resign, stop := l.startLeader("a")
		defer stop()
		l.protected()
		resign()
		_, stopSecond := l.start("b")
		defer stopSecond()
		<-time.After(Defaults.RetryPeriod)
		l.lose(0)
		l.within(time.Second, "a new MAIN", isMain("mg-1"))
		synctest.Wait()
		told := 0
		for _, s := range l.fleet.served {
			if s == "2 mg-1 run-1" {
				told++
			}
		}
		assert.GreaterOrEqual(t, told, 2, "invariant 5: each gateway learns it by itself")
	})
}

func TestAWaitIsOverAsSoonAsWhatWasAwaitedIsThere(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.protected()
		l.fleet.with(0, func(i *instance) { i.err = memgraph.ErrUnreachable })
		c.Suspect()
		<-time.After(550 * time.Millisecond)
		assert.Equal(t, "waiting", c.Status().Decision)
		l.fleet.with(0, func(i *instance) { i.err = memgraph.ErrRefused })
		l.within(waitingAgain+50*time.Millisecond, "a new MAIN, without any event", isMain("mg-1"))
	})
}

func TestALongWaitIsToldOnce(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		l.protected()
		for i := range 3 {
			l.fleet.with(i, func(in *instance) { in.err = memgraph.ErrUnreachable })
		}
		c.Suspect()
		<-time.After(waitingLong - time.Second)
		assert.Empty(t, l.alarms())
		<-time.After(time.Minute)
		assert.Equal(t, []string{"neither MAIN mg-0 nor its partner mg-1 answers: the controller may be cut off"}, l.alarms())
		stop()
	})
}

func TestWrongCredentialsAreNoReasonToReplaceMain(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		before := l.protected()
		for i := range 3 {
			l.fleet.with(i, func(in *instance) { in.err = memgraph.ErrUnauthenticated })
		}
		c.Suspect()
		<-time.After(20 * time.Second)
		assert.Equal(t, before, l.record())
		assert.Equal(t, "blocked", c.Status().Decision)
		assert.Contains(t, c.Status().Reason, "correct the Secret")
		for i := range 3 {
			l.fleet.with(i, func(in *instance) { in.err = nil })
		}
		<-time.After(3 * time.Second)
		assert.Equal(t, "nothing", c.Status().Decision, "and it goes on by itself")
	})
}

// The selector of a StatefulSet cannot change, but another of its name can come.
func TestAnotherSelectorEndsTheWatch(t *testing.T) {
	inLab(t, func(l *lab) {
		c := newController(t, "a", l.cs, l.fleet)
		ended := make(chan error)
		go func() { ended <- c.Run(l.t.Context()) }()
		synctest.Wait()
		set := statefulSet()
		set.Spec.Selector.MatchLabels = map[string]string{"app": "other"}
		_, err := l.cs.AppsV1().StatefulSets(testNamespace).Update(l.t.Context(), set, metav1.UpdateOptions{})
		require.NoError(t, err)
		assert.ErrorContains(t, <-ended, "selector has changed")
	})
}

func TestTheStatefulSetIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cs, _ := newClientset()
		c := newController(t, "a", cs, newFleet(0))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		<-time.After(10 * startRetry)
		assert.False(t, c.Synced())
		assert.Equal(t, Status{Cluster: testSet, Identity: "a"}, c.Status())
		_, err := cs.AppsV1().StatefulSets(testNamespace).Create(t.Context(), statefulSet(), metav1.CreateOptions{})
		require.NoError(t, err)
		<-time.After(startRetry + time.Second)
		assert.True(t, c.Synced())
		cancel()
		assert.NoError(t, <-ended)
	})
}

// waits records what a lane observes.
type waits []float64

func (w *waits) Observe(seconds float64) { *w = append(*w, seconds) }

func TestALaneMeasuresFromTheOldestEventOfAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(urgent, urgentFirstRetry, urgentLastRetry, newMetrics(prometheus.NewRegistry(), reconcile.NewBreakers()))
		defer l.queue.ShutDown()
		var observed waits
		l.wait = &observed
		first := time.Now()
		l.add(clusterKey, first)
		<-time.After(30 * time.Millisecond)
		l.add(clusterKey, time.Now())
		<-time.After(10 * time.Millisecond)
		key, received, ok := l.take()
		assert.True(t, ok)
		assert.Equal(t, clusterKey, key)
		assert.Equal(t, first, received)
		assert.Equal(t, waits{0.04}, observed)
		l.queue.Done(key)

		l.queue.AddAfter(clusterKey, time.Second)
		_, received, _ = l.take()
		assert.Equal(t, time.Now(), received, "a key that came back by itself has not waited")
		assert.Len(t, observed, 1)
	})
}

func TestHandlersOnlyEnqueue(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.protected()
		release := make(chan struct{})
		l.fleet.mu.Lock() // nobody can be asked anything
		go func() { <-release; l.fleet.mu.Unlock() }()
		defer close(release)
		begun := time.Now()
		h, pod := c.podHandler(), runningPod(0)
		h.OnDelete(pod)
		h.OnAdd(pod, false)
		c.recordHandler().OnDelete(&corev1.ConfigMap{})
		c.onSet(&appsv1.StatefulSet{Spec: statefulSet().Spec})
		c.Suspect()
		assert.Equal(t, begun, time.Now(), "invariant 1")
	})
}

// testTerm is a term over cs that nobody works in.
func testTerm(t testing.TB, cs *fake.Clientset, f *fleet) *term {
	t.Helper()
	c := newController(t, "a", cs, f)
	return &term{
		c: c, effects: effects{c: c, authority: func() error { return nil }},
		urgent:  newLane(urgent, urgentFirstRetry, urgentLastRetry, c.metrics),
		routine: newLane(routine, routineFirstRetry, routineLastRetry, c.metrics),
	}
}

// The gateway of the process that decides is told by the decision itself, and
// need not wait for the watch (invariant 5).
func TestWhatIsReadOrWrittenIsLearnt(t *testing.T) {
	cs, _ := newClientset()
	f := newFleet(2)
	term := testTerm(t, cs, f)
	written, err := term.effects.Put(t.Context(), topology())
	require.NoError(t, err)
	assert.Equal(t, "8 mg-1 run-1", f.lastServed())

	other := newFleet(2)
	next := testTerm(t, cs, other)
	loaded, err := next.load(t.Context())
	require.NoError(t, err)
	assert.Equal(t, written, loaded)
	assert.Equal(t, "8 mg-1 run-1", other.lastServed())
}

// Generations of a record that is no use else are passed over for ever.
func TestADamagedRecordStillRaisesTheFloor(t *testing.T) {
	cs, _ := newClientset()
	term := testTerm(t, cs, newFleet(2))
	written, err := term.effects.Put(t.Context(), topology())
	require.NoError(t, err)
	cms := cs.CoreV1().ConfigMaps(testNamespace)
	cm, err := cms.Get(t.Context(), RecordName(testSet), metav1.GetOptions{})
	require.NoError(t, err)
	cm.Data[keyGeneration], cm.Data[keyMainIndex] = "11", "?"
	cm, err = cms.Update(t.Context(), cm, metav1.UpdateOptions{})
	require.NoError(t, err)
	loaded, err := term.load(t.Context())
	require.NoError(t, err)
	assert.Equal(t, memgraph.Topology{Revision: cm.ResourceVersion}, loaded, "as good as none, but to be replaced at its revision")
	assert.NotEqual(t, written.Revision, loaded.Revision)
	assert.Equal(t, int64(11), term.c.record.highest())
}

func TestWhatBecomesOfAKeyDependsOnTheError(t *testing.T) {
	for name, c := range map[string]struct {
		err            error
		waiting, tries int
	}{
		"done":       {nil, 0, 0},
		"conflict":   {fmt.Errorf("put: %w", ErrConflict), 1, 0},
		"superseded": {context.Canceled, 0, 0},
		"stale":      {errLeaseStale, 0, 0},
		"failed":     {errors.New("no route"), 0, 1},
	} {
		cs, _ := newClientset()
		term := testTerm(t, cs, newFleet(0))
		term.settle(term.urgent, clusterKey, c.err)
		assert.Equal(t, c.waiting, term.urgent.queue.Len(), "%s: invariant 2: what conflicted is decided anew, at once", name)
		assert.Equal(t, c.tries, term.urgent.queue.NumRequeues(clusterKey), name)
		term.urgent.queue.ShutDown()
		term.routine.queue.ShutDown()
	}
}

func TestAStatefulSetWithoutACountWantsOne(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.settled()
		assert.Equal(t, 3, c.wanted())
		set := statefulSet()
		set.Spec.Replicas = nil
		_, err := l.cs.AppsV1().StatefulSets(testNamespace).Update(l.t.Context(), set, metav1.UpdateOptions{})
		require.NoError(t, err)
		synctest.Wait()
		assert.Equal(t, 1, c.wanted())
	})
}

// One step leads to the next without an interval between them: a fresh cluster
// is complete as soon as its instances can be.
func TestStepsFollowEachOtherAtOnce(t *testing.T) {
	inLab(t, func(l *lab) {
		begun := time.Now()
		_, stop := l.start("a")
		defer stop()
		l.protected()
		protected := time.Since(begun)
		for complete := false; !complete; <-time.After(time.Millisecond) {
			l.fleet.with(0, func(i *instance) { complete = len(i.replicas) == 2 })
		}
		t.Logf("protected after %v, complete after %v", protected, time.Since(begun))
		assert.Less(t, time.Since(begun), 25*time.Millisecond)
	})
}

// On SIGTERM a change of MAIN that is under way is finished first: the next leader
// would be elected seconds later, with clients waiting.
func TestAHandoverThatIsUnderWayIsFinishedOnTheWayOut(t *testing.T) {
	inLab(t, func(l *lab) {
		_, resign, stop := l.startLeader("a")
		defer stop()
		l.settled()
		l.updatePod(0, terminate)
		<-time.After(Defaults.Settle / 2)
		assert.Equal(t, memgraph.Switching, l.record().Phase)
		resign()
		r := l.record()
		assert.Equal(t, memgraph.Stable, r.Phase)
		assert.Equal(t, "mg-1", r.Main.Pod)
		before := l.record()
		l.lose(1)
		<-time.After(time.Second)
		assert.Equal(t, before, l.record(), "and nothing else is begun")
	})
}

// The process of a pod that was deleted by force lives on for seconds, and would
// acknowledge writes that nobody else keeps.
func TestAMainWhoseProcessOutlivesItsPodIsDemotedFirst(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.settled()
		before := len(l.fleet.statements(""))
		require.NoError(t, l.cs.CoreV1().Pods(testNamespace).Delete(l.t.Context(), "mg-0", metav1.DeleteOptions{}))
		r := l.within(time.Second, "a new MAIN", isMain("mg-1"))
		assert.Equal(t, "handover", r.History[0].Kind)
		assert.Equal(t, []string{"demote 10.0.0.0:7687", "promote 10.0.0.1:7687"}, l.fleet.statements("")[before:][:2])
	})
}

func TestAnAddressIsNotAskedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newObservations()
		assert.True(t, o.leftover("u"), "it may have gone just before we began")
		<-time.After(leftoverAge + time.Second)
		assert.False(t, o.leftover("u"), "the address may be another's")
		o.forget("u")
		assert.True(t, o.leftover("u"))
		<-time.After(leftoverAge + time.Second)
		assert.False(t, o.leftover("u"))
		o.forget("v")
		assert.Len(t, o.gone, 1, "what is old is not kept")
	})
}

// A leader whose first deed is a change of MAIN knows the other replicas by then.
func TestANewLeaderKnowsWhomANewMainIsToRegister(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		l.settled()
		stop()
		heir, drops := l.record().Partner, len(l.fleet.statements("drop"))
		l.updatePod(0, terminate)
		_, stop = l.start("b")
		defer stop()
		l.within(time.Second, "a protected MAIN", func(t memgraph.Topology) bool { return t.Main.Pod == heir.Pod && t.InSync })
		assert.Len(t, l.fleet.statements("drop"), drops)
		assert.Len(t, l.fleet.statements("on "+heir.IP), 1)
	})
}
