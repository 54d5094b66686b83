package controller

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"memgraph-controller/memgraph"
)

// replica has one more gateway than the lab's leader: quiet tells when its commits
// under way are done.
func (l *lab) replica(identity string, quiet func(context.Context) (int64, error)) (stop func()) {
	return l.replicaAmid(identity, quiet, newFleet(0))
}

// replicaAmid is replica for one that reaches the instances of fleet.
func (l *lab) replicaAmid(identity string, quiet func(context.Context) (int64, error), fleet *fleet) (stop func()) {
	c := newController(l.t, identity, l.cs, fleet)
	c.deps.Quiet = quiet
	c.gateways = c.newAttendance()
	ctx, cancel := context.WithCancel(l.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { assert.NoError(l.t, c.Run(ctx)) })
	return func() { cancel(); wg.Wait() }
}

// atOnce is a gateway without a commit under way, in that generation.
func atOnce(generation int64) func(context.Context) (int64, error) {
	return func(context.Context) (int64, error) { return generation, nil }
}

// demotedAfter hands MAIN over, and returns how long the leader waited for gateways.
func (l *lab) demotedAfter() time.Duration {
	l.t.Helper()
	began := time.Now()
	l.updatePod(0, terminate)
	for demoted := false; !demoted; <-time.After(time.Millisecond) {
		synctest.Wait()
		for _, s := range l.fleet.statements("demote 10.0.0.0") {
			demoted = demoted || s != ""
		}
	}
	return time.Since(began)
}

func TestAHandoverGoesOnAsSoonAsAllGatewaysHold(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer stop()
		defer l.replica("b", atOnce(2))()
		defer l.replica("c", atOnce(2))()
		l.settled()
		assert.Less(t, l.demotedAfter(), Defaults.Settle/2)
	})
}

func TestAHandoverDoesNotWaitForEverForAGateway(t *testing.T) {
	for name, quiet := range map[string]func(context.Context) (int64, error){
		"a commit does not end": func(ctx context.Context) (int64, error) { <-ctx.Done(); return 0, ctx.Err() },
		"it does not hold":      func(context.Context) (int64, error) { return 0, errors.New("not held") },
		"it holds by another":   atOnce(1),
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.running()
				_, stop := l.start("a")
				defer stop()
				defer l.replica("b", quiet)()
				l.settled()
				assert.InDelta(t, Defaults.Settle, l.demotedAfter(), float64(20*time.Millisecond))
			})
		})
	}
}

// A gateway that is stopped says so; one that died is waited for until its Lease
// is old.
func TestGatewaysComeAndGo(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		c, stop := l.start("a")
		defer stop()
		leave := l.replica("b", atOnce(2))
		l.settled()
		all, _, _ := c.gateways.roll("0")
		assert.Equal(t, 1, all)
		leave()
		synctest.Wait()
		all, _, _ = c.gateways.roll("0")
		assert.Zero(t, all)

		a := c.newAttendance()
		a.identity = "died"
		require.NoError(t, a.attend(l.t.Context()))
		synctest.Wait()
		all, missing, _ := c.gateways.roll("1")
		assert.Equal(t, []int{1, 1}, []int{all, missing})
		<-time.After(attendFor + time.Second)
		all, _, _ = c.gateways.roll("1")
		assert.Zero(t, all)
		<-time.After(forgetAfter)
		c.gateways.tidy(l.t.Context())
		left, err := l.cs.CoordinationV1().Leases(testNamespace).List(l.t.Context(), metav1.ListOptions{LabelSelector: gatewayOf})
		require.NoError(t, err)
		assert.Empty(t, left.Items)
	})
}

func TestEveryIdentityHasALeaseOfItsOwn(t *testing.T) {
	names := map[string]bool{}
	for _, identity := range []string{"pod-a", "pod-b", "My Host!", "mg_1"} {
		names[(&attendance{cluster: "mg", identity: identity}).leaseName()] = true
	}
	assert.Len(t, names, 4)
	for name := range names {
		assert.Regexp(t, `^mg-gateway-[0-9a-f]{8}$`, name)
	}
}

// Whoever never saw the record that is lost goes above it nevertheless: a gateway that
// did would not obey anything lower.
func TestGatewaysTellTheGenerationThatTheyObey(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		_, stop := l.start("a")
		defer l.replica("b", atOnce(2))()
		l.settled()
		l.lose(0)
		l.within(time.Minute, "a failover", func(r memgraph.Topology) bool { return r.Generation == 2 && r.Phase == memgraph.Stable })
		l.comeBack(0)
		l.settled()
		stop()
		require.NoError(t, l.cs.CoreV1().ConfigMaps(testNamespace).Delete(t.Context(), RecordName(testSet), metav1.DeleteOptions{}))
		_, stop = l.start("c")
		defer stop()
		l.within(time.Minute, "a record that is derived anew", func(r memgraph.Topology) bool { return r.Generation == 3 })
	})
}

// What is announced is always about the latest record.
func TestNothingIsAnnouncedOfARecordThatHasPassed(t *testing.T) {
	cs, _ := newClientset()
	records := []memgraph.Topology{
		{Generation: 2, Phase: memgraph.Switching, Revision: "5"},
		{Generation: 2, Phase: memgraph.Switching, Revision: "6"},
	}
	a := newController(t, "a", cs, newFleet(0)).newAttendance()
	looks := 0
	a.latest = func() memgraph.Topology { looks++; return records[min(looks, 2)-1] }
	a.quiet = atOnce(2)
	require.NoError(t, a.attend(t.Context()))
	lease, err := cs.CoordinationV1().Leases(testNamespace).Get(t.Context(), a.leaseName(), metav1.GetOptions{})
	require.NoError(t, err)
	assert.Empty(t, lease.Annotations[quietAt])
	require.NoError(t, a.attend(t.Context()))
	lease, err = cs.CoordinationV1().Leases(testNamespace).Get(t.Context(), a.leaseName(), metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "6", lease.Annotations[quietAt])
}

// timed is an API server that notes how much time each request is given.
type timed []time.Duration

func (given *timed) RoundTrip(r *http.Request) (*http.Response, error) {
	end, _ := r.Context().Deadline()
	*given = append(*given, time.Until(end))
	body := io.NopCloser(strings.NewReader(`{"kind": "Lease", "apiVersion": "coordination.k8s.io/v1"}`))
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: body}, r.Context().Err()
}

// A commit that does not come to an end is no reason to take the gateway for dead, nor
// does it take any of the time that the API server may need.
func TestACommitThatHangsCostsNoRenewal(t *testing.T) {
	cs, _ := newClientset()
	a := newController(t, "a", cs, newFleet(0)).newAttendance()
	a.latest = func() memgraph.Topology {
		return memgraph.Topology{Generation: 2, Phase: memgraph.Switching, Revision: "5"}
	}
	synctest.Test(t, func(t *testing.T) {
		var given timed
		api, err := kubernetes.NewForConfig(&rest.Config{Host: "http://api", Transport: &given})
		require.NoError(t, err)
		a.leases = api.CoordinationV1().Leases(testNamespace)
		a.quiet = func(ctx context.Context) (int64, error) { <-ctx.Done(); return 0, ctx.Err() }
		begun := time.Now()
		require.NoError(t, a.attend(t.Context()))
		assert.Equal(t, quietTimeout, time.Since(begun))
		assert.Equal(t, timed{attendTimeout}, given)
		assert.Less(t, quietTimeout+attendTimeout+attendEvery, attendFor, "the next renewal comes in time")
	})
}

// A gateway is told that the watch is alive though nothing else happens.
func TestAGatewayHearsOfAQuietWatch(t *testing.T) {
	inLab(t, func(l *lab) {
		l.running()
		c := newController(l.t, "a", l.cs, l.fleet)
		c.deps.Quiet = atOnce(0)
		c.gateways = c.newAttendance()
		ctx, cancel := context.WithCancel(l.t.Context())
		var watching sync.WaitGroup
		watching.Go(func() { assert.NoError(l.t, c.Run(ctx)) })
		for range 100 {
			<-time.After(attendEvery)
			synctest.Wait()
			l.fleet.mu.Lock()
			assert.WithinDuration(l.t, time.Now(), l.fleet.fresh, attendEvery)
			l.fleet.mu.Unlock()
		}
		cancel()
		watching.Wait()
	})
}
