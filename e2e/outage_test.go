package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"memgraph-controller/controller"
)

// outage is how long the API server is away: longer than a leader may go on without.
var outage = flag.Duration("outage", 6*time.Second, "how long the API server is away")

// returnGap is for a MAIN that died while the API server was away: from when that
// is ready again. The lease has run out by then, and each of two controllers tries for it
// again after 1 to 2.2 s.
const returnGap = 2 * time.Second

const (
	// noticedIn is for a change of a pod, from when the API server is back: each replica
	// tries once a second, on a busy machine.
	noticedIn = 2 * time.Second
	// heldFor is for how long a gateway parks a client, by default, before it refuses it.
	heldFor = 10 * time.Second
	// staleAfter is without what word of the API server a gateway calls itself stale.
	staleAfter = 15 * time.Second
)

// away has the API server away for a while, during which meanwhile is done, and
// returns when it was back. The eye is blind for longer: its watch sleeps.
func (s *scenario) away(ctx context.Context, meanwhile func() error) time.Time {
	s.t.Helper()
	require.NoError(s.t, lab.KillAPI(ctx))
	back := func() error { return lab.StartAPI(context.WithoutCancel(ctx)) }
	s.t.Cleanup(func() { _ = back() }) // if the test ends early
	gone := time.Now()
	require.NoError(s.t, errors.Join(meanwhile(), Pause(ctx, *outage)))
	for _, w := range s.writers {
		host, _, err := net.SplitHostPort(w.addr)
		require.NoError(s.t, err)
		status, err := lab.status(ctx, w.name, host)
		require.NoError(s.t, err)
		assert.False(s.t, status.Leading, "its lease has run out")
		assert.Less(s.t, status.Gateway.HeardAt, gone.Add(time.Second), "what it knows is as old as it says")
		assert.Equal(s.t, *outage > staleAfter, status.Gateway.Stale)
		s.t.Logf("%s, while the API server is away: gateway %s %s", w.name, status.Gateway.State, status.Gateway.Trouble)
	}
	require.NoError(s.t, back())
	return time.Now()
}

func TestTheAPIServerIsAway(t *testing.T) {
	ctx, s := newScenario(t)
	back := s.away(ctx, func() error { return nil })
	s.assertSpared()
	s.replaceUnseen(ctx, back)
	s.recover(ctx)
	s.awaitSight(ctx)
	s.assertSteady()
	s.judgeWrites(ctx)
}

// replaceUnseen has an async replica deleted as soon as the API server is back, and
// asserts that every controller notices.
func (s *scenario) replaceUnseen(ctx context.Context, back time.Time) {
	s.t.Helper()
	pod := s.async()
	was := s.before.pod(pod).IP
	require.NoError(s.t, lab.Delete(ctx, pod, new(int64(0))))
	for _, w := range s.writers {
		host, _, err := net.SplitHostPort(w.addr)
		require.NoError(s.t, err)
		for knows := was; knows == was; {
			status, err := lab.status(ctx, w.name, host)
			require.NoError(s.t, err)
			knows = status.pod(pod).IP
			require.NoError(s.t, Pause(ctx, statusPoll))
		}
		s.t.Logf("%s knows that %s was deleted %s after the API server was back", w.name, pod, time.Since(back))
		assert.Less(s.t, time.Since(back), noticedIn, w.name)
	}
}

// Nobody can write down who is MAIN next: clients wait, are refused, and are served
// again soon after the API server is back.
func TestMainDiesWhileTheAPIServerIsAway(t *testing.T) {
	ctx, s := newScenario(t)
	back := s.away(ctx, func() error { return lab.Kill(ctx, s.before.Record.Main) })
	for _, w := range s.writers {
		told := fmt.Sprint(w.Errors())
		if *outage > heldFor {
			assert.Contains(t, told, "Gateway.NoMain: waited", w.name)
		}
		first, err := w.FirstAck(ctx, back)
		require.NoError(t, err)
		t.Logf("%s: %s after the API server was back", w.name, first.Sub(back))
		assert.Less(t, first.Sub(back), returnGap, w.name)
	}
	s.recover(ctx)
	s.awaitSight(ctx)
	s.judgeWrites(ctx)
}

// awaitSight returns once the eye sees what changes, for the tests that follow.
func (s *scenario) awaitSight(ctx context.Context) {
	s.t.Helper()
	begun := time.Now()
	sign := fmt.Sprintf(`{"metadata":{"annotations":{"seen":%q}}}`, begun)
	_, err := lab.Kube.CoreV1().ConfigMaps(namespace).Patch(ctx, controller.RecordName(statefulSet), types.MergePatchType, []byte(sign), metav1.PatchOptions{})
	require.NoError(s.t, err)
	_, err = lab.Eye.First(ctx, "the eye to see again", func(sight Sight) bool { return sight.At.After(begun) })
	require.NoError(s.t, err)
}
