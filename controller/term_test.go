package controller

import (
	"context"
	"errors"
	"fmt"
	"reflect"
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

	"memgraph-controller/failover"
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
		<-time.After(time.Second)
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

// changes are all effects that change something, on a MAIN, mg-0, whose replica is mg-1.
var changes = map[string]func(context.Context, effects, []memgraph.Pod) error{
	"Store.Put": func(ctx context.Context, e effects, _ []memgraph.Pod) error {
		_, err := e.Put(ctx, topology())
		return err
	},
	"Roles.Promote": func(ctx context.Context, e effects, pods []memgraph.Pod) error {
		return roles{e}.Promote(ctx, pods[1])
	},
	"Roles.Demote": func(ctx context.Context, e effects, pods []memgraph.Pod) error {
		return roles{e}.Demote(ctx, pods[0])
	},
	"Roles.SealEpoch": func(ctx context.Context, e effects, pods []memgraph.Pod) error {
		return roles{e}.SealEpoch(ctx, pods[0])
	},
	"Registrar.Follow": func(ctx context.Context, e effects, pods []memgraph.Pod) error {
		return e.Follow(ctx, pods[0], pods[1], memgraph.Async)
	},
	"Registrar.Retire": func(ctx context.Context, e effects, pods []memgraph.Pod) error {
		return e.Retire(ctx, pods[0], memgraph.Replica{Name: "mg_1"})
	},
	"Runner.Demote": func(ctx context.Context, e effects, pods []memgraph.Pod) error { return e.Demote(ctx, pods[0]) },
	"Runner.Drop":   func(ctx context.Context, e effects, pods []memgraph.Pod) error { return e.Drop(ctx, pods[0], "mg_1") },
	"Runner.Register": func(ctx context.Context, e effects, pods []memgraph.Pod) error {
		return e.Register(ctx, pods[0], pods[1], memgraph.Async)
	},
	"Evictor.Evict": func(ctx context.Context, e effects, pods []memgraph.Pod) error {
		return e.Evict(ctx, pods[0], pods[1], "mg_1")
	},
	"end": func(ctx context.Context, e effects, pods []memgraph.Pod) error {
		return e.end(ctx, failover.Eviction{Pod: pods[1]})
	},
	"showReadiness": func(ctx context.Context, e effects, _ []memgraph.Pod) error {
		t := topology()
		t.Main, t.Partner = t.Partner, t.Main
		return e.showReadiness(ctx, e.c.snapshot(t), "mg-0")
	},
}

// Whatever is added to what executors act through is a change, or only asks.
func TestNoChangeIsForgotten(t *testing.T) {
	asks := map[string]bool{"Registrar.Replicas": true, "Runner.Answers": true, "Gateways.Park": true}
	for _, through := range []reflect.Type{
		reflect.TypeFor[failover.Store](), reflect.TypeFor[failover.Roles](), reflect.TypeFor[failover.Registrar](),
		reflect.TypeFor[failover.Gateways](), reflect.TypeFor[reconcile.Runner](), reflect.TypeFor[reconcile.Evictor](),
	} {
		for method := range through.Methods() {
			name := through.Name() + "." + method.Name
			assert.NotEqual(t, asks[name], changes[name] != nil, name)
		}
	}
}

// bench has effects to be tried one by one on a fleet that has done nothing yet.
func (l *lab) bench() (e effects, pods []memgraph.Pod, made func() []string) {
	l.running()
	l.gated()
	c, resign, stop := l.startLeader("a")
	resign()
	l.t.Cleanup(stop)
	synctest.Wait()
	pods = c.pods()
	for i := range pods {
		assert.NoError(l.t, c.identify(l.t.Context(), l.fleet, pods[i], time.Second))
		pods[i].Instance = c.seen.of(pods[i].UID)
	}
	l.fleet.said = nil
	l.cs.ClearActions()
	return effects{c: c}, pods, func() []string {
		made := l.fleet.statements("")
		for _, a := range l.cs.Actions() {
			if a.GetVerb() != "get" && a.GetVerb() != "list" && a.GetVerb() != "watch" {
				made = append(made, a.GetVerb()+" "+a.GetResource().Resource)
			}
		}
		return made
	}
}

// A process may be paused between any two steps, and come back without the lease or
// in the next generation: each change is made with both, or not at all (invariant 3).
func TestWithoutAuthorityNothingIsChanged(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				e, pods, made := l.bench()
				e.authority = func() error { return errLeaseStale }
				require.ErrorIs(t, change(l.t.Context(), e, pods), errLeaseStale)
				superseded, end := context.WithCancel(l.t.Context())
				end()
				e.authority = func() error { return nil }
				require.ErrorIs(t, change(superseded, e, pods), context.Canceled)
				assert.Empty(t, made())
				require.NoError(t, change(l.t.Context(), e, pods), "and with it, it is made")
				assert.NotEmpty(t, made())
			})
		})
	}
}

// What is asked on the way to a change may take until the lease has run out.
func TestAuthorityThatEndsAmidAChangeEndsIt(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			for last, answers := 1, 1; last <= answers; last++ {
				inLab(t, func(l *lab) {
					e, pods, made := l.bench()
					l.fleet.with(0, func(i *instance) { i.register = refuse(memgraph.ErrDiverged) }) // which is cleared up after
					before := -1
					answers = 0
					l.fleet.answered = func() {
						if answers++; answers == last {
							before = len(l.fleet.said)
						}
					}
					e.authority = func() error {
						if before >= 0 {
							return errLeaseStale
						}
						return nil
					}
					err := change(l.t.Context(), e, pods)
					if answers < last {
						return // it was over before
					}
					assert.Len(t, made(), before, "%v after answer %d: %v", made(), last, err)
				})
			}
		})
	}
}

// What is begun with the oldest renewal that counts must be over before another leads.
func TestAChangeIsOverBeforeTheLeaseIs(t *testing.T) {
	inLab(t, func(l *lab) {
		e, pods, _ := l.bench()
		e.authority = func() error { return nil }
		l.fleet.with(0, func(i *instance) {
			i.register = func(ctx context.Context, _ memgraph.Registration) error { <-ctx.Done(); return memgraph.ErrUnreachable }
		})
		begun := time.Now()
		require.ErrorIs(t, e.Register(l.t.Context(), pods[0], pods[1], memgraph.Async), memgraph.ErrUnreachable)
		assert.Equal(t, Defaults.LeaseDuration, Defaults.RenewDeadline+time.Since(begun))
	})
}

// A record that is about to change leads to nothing: see term.generation.
func TestNothingRoutineIsDoneWhileMainChanges(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.settled()
		writes := 0
		l.api.intercept(func(a clienttesting.Action) error {
			if a.GetResource().Resource == "configmaps" {
				writes++
				working := c.term.Load()
				assert.ErrorIs(t, working.syncPod(working.presentGeneration(), "mg-1"), context.Canceled)
			}
			return nil
		})
		l.updatePod(0, terminate)
		l.within(time.Second, "a new MAIN", isMain("mg-1"))
		l.api.intercept(nil)
		assert.Equal(t, 2, writes)
		assert.NoError(t, c.term.Load().presentGeneration().Err())
	})
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
