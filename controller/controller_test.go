package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"memgraph-controller/memgraph"
)

// lab is a cluster of three pods in a bubble: its clock stands still while
// anything can still happen, so that "soon" is exact.
type lab struct {
	t     *testing.T
	cs    *fake.Clientset
	api   *versions
	fleet *fleet
	// registerBy is ByIP unless set.
	registerBy RegisterBy
	// maxFailovers are those within ten minutes; 0 is any number.
	maxFailovers int
	// quiet is that of the gateway, whose Lease is only written if it is set.
	quiet func(context.Context) (int64, error)
	// change is made to what a controller is configured with, and wrap to what it acts
	// through, if they are set.
	change func(*Config)
	wrap   func(*Controller)
}

func inLab(t *testing.T, test func(l *lab)) {
	synctest.Test(t, func(t *testing.T) {
		objects := []runtime.Object{statefulSet()}
		for i := range 3 {
			objects = append(objects, runningPod(i))
		}
		cs, api := newClientset(objects...)
		test(&lab{t: t, cs: cs, api: api, fleet: newFleet(3)})
	})
}

// start runs a controller until stop, which waits for its end.
func (l *lab) start(identity string) (c *Controller, stop func()) {
	c, resign, end := l.startLeader(identity)
	return c, func() { resign(); end() }
}

// startLeader is start with two ends, as a process has on SIGTERM: resign ends
// its candidacy, stop its watch.
func (l *lab) startLeader(identity string) (c *Controller, resign, stop func()) {
	c = newController(l.t, identity, l.cs, l.fleet)
	c.cfg.RegisterBy, c.cfg.Policy.MaxFailovers = cmp.Or(l.registerBy, ByIP), l.maxFailovers
	if l.change != nil {
		l.change(&c.cfg)
	}
	c.deps.Quiet = l.quiet
	c.gateways = c.newAttendance()
	if l.wrap != nil {
		l.wrap(c)
	}
	run := func(f func(context.Context)) (end func()) {
		ctx, cancel := context.WithCancel(l.t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { f(ctx) })
		return func() { cancel(); wg.Wait() }
	}
	stop = run(func(ctx context.Context) { assert.NoError(l.t, c.Run(ctx)) })
	return c, run(c.Lead), stop
}

// record is the record as the API server holds it.
func (l *lab) record() memgraph.Topology {
	store := &configMapStore{configMaps: l.cs.CoreV1().ConfigMaps(testNamespace), statefulSet: testSet}
	t, err := store.Load(l.t.Context())
	require.NoError(l.t, err)
	return t
}

// within waits until the record is as asked, and fails if that takes longer.
func (l *lab) within(limit time.Duration, what string, is func(memgraph.Topology) bool) memgraph.Topology {
	l.t.Helper()
	for end := time.Now().Add(limit); ; <-time.After(time.Millisecond) {
		synctest.Wait()
		r := l.record()
		if is(r) {
			return r
		}
		require.True(l.t, time.Now().Before(end), "not within %v: %s; the record is %+v", limit, what, r)
	}
}

func (l *lab) protected() memgraph.Topology {
	l.t.Helper()
	return l.within(10*time.Second, "a partner in sync", func(t memgraph.Topology) bool {
		return t.Phase == memgraph.Stable && t.InSync
	})
}

// running makes the cluster one that has been in use: pod 0 is MAIN, all hold data,
// and the others follow.
func (l *lab) running() {
	for i := range 3 {
		l.fleet.with(i, func(in *instance) {
			in.vertices = 9
			if i > 0 {
				in.id.Role = memgraph.RoleReplica
			}
		})
		if i > 0 {
			require.NoError(l.t, l.fleet.Register(l.t.Context(), "10.0.0.0:7687", memgraph.Registration{
				Name: fmt.Sprintf("mg_%d", i), Mode: memgraph.Async, Address: fmt.Sprintf("10.0.0.%d:10000", i),
			}))
		}
	}
}

// settled is protected, with every pod registered.
func (l *lab) settled() {
	l.t.Helper()
	l.protected()
	<-time.After(3 * time.Second)
}

func (l *lab) updatePod(index int, change func(*corev1.Pod)) {
	l.t.Helper()
	pod, err := l.cs.CoreV1().Pods(testNamespace).Get(l.t.Context(), memgraph.PodName(testSet, index), metav1.GetOptions{})
	require.NoError(l.t, err)
	change(pod)
	_, err = l.cs.CoreV1().Pods(testNamespace).Update(l.t.Context(), pod, metav1.UpdateOptions{})
	require.NoError(l.t, err)
}

// terminate is the graceful deletion of a pod that takes its time.
func terminate(p *corev1.Pod) {
	p.DeletionTimestamp, p.Finalizers = new(metav1.Now()), []string{"x/y"}
}

// lose removes a pod and its Memgraph at once.
func (l *lab) lose(index int) {
	l.t.Helper()
	l.fleet.with(index, func(i *instance) { i.err = memgraph.ErrRefused })
	require.NoError(l.t, l.cs.CoreV1().Pods(testNamespace).Delete(l.t.Context(), memgraph.PodName(testSet, index), metav1.DeleteOptions{}))
}

// comeBack recreates a lost pod, whose Memgraph restarts with its data.
func (l *lab) comeBack(index int) { l.comeBackAs(index, types.UID(fmt.Sprintf("uid-%db", index))) }

// comeBackAs is comeBack as that incarnation.
func (l *lab) comeBackAs(index int, uid types.UID) {
	l.t.Helper()
	pod := runningPod(index)
	pod.UID = uid
	l.fleet.with(index, func(i *instance) { i.err, i.id.RunID = nil, i.id.RunID+"b" })
	_, err := l.cs.CoreV1().Pods(testNamespace).Create(l.t.Context(), pod, metav1.CreateOptions{})
	require.NoError(l.t, err)
}

func TestAFreshClusterBecomesAProtectedOne(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		r := l.protected()
		assert.Equal(t, "mg-0", r.Main.Pod)
		assert.Equal(t, "mg-1", r.Partner.Pod)
		assert.Equal(t, int64(1), r.Generation)
		assert.Equal(t, "1 mg-0 run-0", l.fleet.lastServed())
		assert.Equal(t, "10.0.0.1:7687", l.fleet.prepared)
		assert.Equal(t, map[string]string{"mg_0": "10.0.0.0:7687", "mg_1": "10.0.0.1:7687", "mg_2": "10.0.0.2:7687"}, *l.fleet.readers.Load())
		l.lose(2)
		synctest.Wait()
		assert.NotContains(t, *l.fleet.readers.Load(), "mg_2")
		l.fleet.with(0, func(i *instance) {
			modes := map[string]memgraph.SyncMode{}
			for _, r := range i.replicas {
				modes[r.Name] = r.Mode
			}
			assert.Equal(t, map[string]memgraph.SyncMode{"mg_1": memgraph.StrictSync, "mg_2": memgraph.Async}, modes)
		})
	})
}

func TestADeletedMainIsReplacedAndComesBackAsReplica(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.protected()

		deleted := time.Now()
		l.lose(0)
		r := l.within(time.Second, "a new MAIN", func(t memgraph.Topology) bool { return t.Main.Pod == "mg-1" })
		assert.Less(t, time.Since(deleted), 50*time.Millisecond, "nothing is waited for")
		assert.Equal(t, int64(2), r.Generation)
		assert.Equal(t, "failover", r.History[0].Kind)
		r = l.protected()
		assert.Equal(t, "mg-2", r.Partner.Pod)
		assert.Equal(t, "2 mg-1 run-1", l.fleet.lastServed())

		l.comeBack(0)
		<-time.After(3 * time.Second)
		l.fleet.with(0, func(i *instance) { assert.Equal(t, memgraph.RoleReplica, i.id.Role) })
		l.fleet.with(1, func(i *instance) { assert.Len(t, i.replicas, 2) })
		assert.Equal(t, int64(2), l.record().Generation, "its return changes nothing about MAIN")
	})
}

func TestATerminatingMainHandsOver(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.protected()
		l.updatePod(0, terminate)
		r := l.within(time.Second, "a new MAIN", func(t memgraph.Topology) bool { return t.Main.Pod == "mg-1" && t.Phase == memgraph.Stable })
		assert.Equal(t, "handover", r.History[0].Kind)
		l.fleet.with(0, func(i *instance) { assert.Equal(t, memgraph.RoleReplica, i.id.Role) })
	})
}

// Until a partner is there again, no client writes what only MAIN would hold, or
// what would be refused since a replica is missing.
func TestALostPartnerIsSucceededWhileClientsAreHeld(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		lost := l.record().Partner.Index
		next := 3 - lost
		l.lose(lost)
		r := l.within(500*time.Millisecond, "another partner", func(r memgraph.Topology) bool {
			return r.Partner.Index == next && r.InSync
		})
		assert.Equal(t, int64(1), r.Generation, "MAIN stays")
		held := len(l.fleet.expected)
		require.NotZero(t, held, "the gateway was told to hold its clients")
		assert.Equal(t, "1 mg-0 run-0", l.fleet.expected[held-1])
		assert.Equal(t, "1 mg-0 run-0", l.fleet.lastServed())
		statements := l.fleet.statements("10.0.0.0:7687")
		assert.Equal(t, []string{
			fmt.Sprintf("drop mg_%d on 10.0.0.0:7687", next),
			"seal 10.0.0.0:7687", // MAIN notices that its partner is gone
			fmt.Sprintf("drop mg_%d on 10.0.0.0:7687", lost),
			fmt.Sprintf("register mg_%d strict_sync 10.0.0.%d:10000 on 10.0.0.0:7687", next, next),
		}, statements[len(statements)-4:])
	})
}

// A living replica that obeys nobody is mended by ending its process: MAIN might
// not survive letting go of it before.
func TestAReplicaThatObeysNobodyIsEvicted(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		l.settled()
		stray := 3 - l.record().Partner.Index
		name := fmt.Sprintf("mg_%d", stray)
		l.fleet.with(0, func(i *instance) {
			for n := range i.replicas {
				if i.replicas[n].Name == name {
					i.replicas[n].Status = memgraph.StatusInvalid
				}
			}
		})
		<-time.After(10 * time.Second)
		synctest.Wait()
		_, err := l.cs.CoreV1().Pods(testNamespace).Get(l.t.Context(), memgraph.PodName(testSet, stray), metav1.GetOptions{})
		require.True(t, apierrors.IsNotFound(err), "%v", err)
		l.fleet.with(stray, func(i *instance) { i.err = memgraph.ErrRefused })
		<-time.After(3 * time.Second)
		synctest.Wait()
		dropped := len(l.fleet.statements("drop " + name))
		l.comeBack(stray)
		<-time.After(3 * time.Second)
		synctest.Wait()
		assert.Len(t, l.fleet.statements("drop "+name), dropped)
		registered := l.fleet.statements("register " + name)
		assert.Contains(t, registered[len(registered)-1], name+" async")
		assert.Greater(t, len(registered), 1)
	})
}

func TestAReplacementThatComesAsOneUpdateIsADeadMain(t *testing.T) {
	inLab(t, func(l *lab) {
		_, stop := l.start("a")
		defer stop()
		l.protected()
		l.fleet.with(0, func(i *instance) { i.id.RunID = "run-0b" })
		l.updatePod(0, func(p *corev1.Pod) { p.UID = types.UID("uid-0b") })
		l.within(50*time.Millisecond, "a new MAIN", func(t memgraph.Topology) bool { return t.Main.Pod == "mg-1" })
	})
}

func TestASuspicionIsLookedIntoBeforeItIsActedOn(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		before := l.protected()
		c.Suspect()
		<-time.After(time.Second)
		assert.Equal(t, before.Generation, l.record().Generation, "MAIN answers")

		l.fleet.with(0, func(i *instance) { i.err = memgraph.ErrUnreachable })
		c.Suspect()
		<-time.After(Defaults.ProbeTimeout)
		assert.Equal(t, before.Generation, l.record().Generation, "a moment's silence proves nothing")

		l.fleet.with(0, func(i *instance) { i.err = memgraph.ErrRefused })
		c.Suspect()
		l.within(50*time.Millisecond, "a new MAIN", func(t memgraph.Topology) bool { return t.Main.Pod == "mg-1" })
	})
}

func TestAnAmbiguousClusterIsRefusedWithAnEvent(t *testing.T) {
	inLab(t, func(l *lab) {
		l.fleet.with(0, func(i *instance) { i.vertices = 3 })
		l.fleet.with(2, func(i *instance) { i.vertices = 4 })
		c, stop := l.start("a")
		<-time.After(5 * time.Second)
		assert.Zero(t, l.record().Generation, "nobody is made MAIN")
		status := c.Status()
		assert.Equal(t, "blocked", status.Decision)
		assert.Contains(t, status.Reason, "mg-0 and mg-2 are all MAIN with data or replicas")
		for i := range 3 {
			l.fleet.with(i, func(in *instance) { assert.Equal(t, memgraph.RoleMain, in.id.Role, "nothing was touched") })
		}
		events, err := l.cs.EventsV1().Events("").List(l.t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		if assert.Len(t, events.Items, 1, "one Event, however often it was decided") {
			assert.Equal(t, "Blocked", events.Items[0].Reason)
			assert.Equal(t, testSet, events.Items[0].Regarding.Name)
		}
		stop()
	})
}

func TestARecordThatIsNoUseIsDerivedAnew(t *testing.T) {
	configMaps := func(l *lab) interface {
		Get(context.Context, string, metav1.GetOptions) (*corev1.ConfigMap, error)
		Update(context.Context, *corev1.ConfigMap, metav1.UpdateOptions) (*corev1.ConfigMap, error)
		Delete(context.Context, string, metav1.DeleteOptions) error
	} {
		return l.cs.CoreV1().ConfigMaps(testNamespace)
	}
	write := func(data map[string]string) func(*lab) error {
		return func(l *lab) error {
			cm, err := configMaps(l).Get(l.t.Context(), RecordName(testSet), metav1.GetOptions{})
			if err != nil {
				return err
			}
			maps.Copy(cm.Data, data)
			_, err = configMaps(l).Update(l.t.Context(), cm, metav1.UpdateOptions{})
			return err
		}
	}
	for name, spoil := range map[string]func(*lab) error{
		"damaged":                      write(map[string]string{keyMainIndex: "nine"}),
		"put back to what it was":      write(map[string]string{keyGeneration: "1", keyMainIndex: "0", keyPartnerIndex: "1"}),
		"of a generation without next": write(map[string]string{keyGeneration: "9223372036854775807"}),
		"of MAIN at nobody's address":  write(map[string]string{keyMainIP: "10.9.9.9"}),
		"of MAIN by nobody's UID":      write(map[string]string{keyMainUID: "uid-9"}),
		"deleted": func(l *lab) error {
			return configMaps(l).Delete(l.t.Context(), RecordName(testSet), metav1.DeleteOptions{})
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				_, stop := l.start("a")
				defer stop()
				l.protected()
				l.lose(0) // so that MAIN is not the pod that a default would name
				for i := range 3 {
					l.fleet.with(i, func(in *instance) { in.vertices = 7 })
				}
				l.within(time.Second, "another MAIN", func(r memgraph.Topology) bool { return r.Main.Pod == "mg-1" })
				l.protected()
				l.comeBack(0)
				<-time.After(3 * time.Second)

				require.NoError(t, spoil(l))
				synctest.Wait()
				<-time.After(3 * time.Second)
				r := l.protected()
				assert.Equal(t, "mg-1", r.Main.Pod)
				assert.Equal(t, int64(3), r.Generation, "above what was ever seen")
			})
		})
	}
}

func TestLeadershipPassesOnAtOnceWhenItIsGivenUp(t *testing.T) {
	inLab(t, func(l *lab) {
		first, stopFirst := l.start("a")
		l.protected()
		second, stopSecond := l.start("b")
		defer stopSecond()
		<-time.After(2 * time.Second)
		assert.True(t, first.Status().Leading)
		assert.False(t, second.Status().Leading)
		assert.True(t, second.Synced(), "a follower knows what the leader knows")
		assert.Equal(t, "mg-0", second.Status().Record.Main)

		stopFirst()
		<-time.After(Defaults.RetryPeriod * 23 / 10) // client-go jitters it by up to 1.2
		assert.True(t, second.Status().Leading)
		l.lose(0)
		l.within(50*time.Millisecond, "a new MAIN", func(t memgraph.Topology) bool { return t.Main.Pod == "mg-1" })
	})
}

func TestALeaderThatCannotRenewStopsBeforeAnotherMayBegin(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		before := l.protected()
		l.api.intercept(func(a clienttesting.Action) error {
			if a.GetResource().Resource == "leases" {
				return errors.New("no route to host")
			}
			return nil
		})
		<-time.After(Defaults.RenewDeadline + 10*time.Millisecond)
		assert.False(t, c.Status().Leading, "invariant 3")
		l.lose(0)
		<-time.After(time.Second)
		assert.Equal(t, before.Generation, l.record().Generation, "it changes nothing any more")

		l.api.intercept(nil)
		l.within(Defaults.LeaseDuration+5*time.Second, "leading again, and a new MAIN", func(t memgraph.Topology) bool { return t.Main.Pod == "mg-1" })
	})
}

func TestAFloodOfRoutineEventsDoesNotDelayAnUrgentOne(t *testing.T) {
	inLab(t, func(l *lab) {
		c, stop := l.start("a")
		defer stop()
		l.protected()
		handler := c.podHandler()
		for i := range 10_000 {
			before, after := runningPod(2), runningPod(2)
			after.ResourceVersion = fmt.Sprint(i + 2)
			handler.OnUpdate(before, after)
			handler.OnAdd(runningPod(i+3), false)
		}
		l.lose(0)
		l.within(50*time.Millisecond, "a new MAIN", func(t memgraph.Topology) bool { return t.Main.Pod == "mg-1" })
	})
}
