package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"memgraph-controller/memgraph/memgraphtest"
)

// The figures in these tests are invariant 3's, as seen on three kubelets with
// containerd. Lower bounds are exact; upper ones leave room for a busy machine,
// except of medians.

func TestKilledProcessIsRestartedInPlace(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, nil)
	before := s.ready("db-0")
	var unready, restored []time.Duration
	for i := range 5 {
		// Kills fall on any phase of the relist, and outside of the back-off.
		<-time.After(2*time.Second + rand.N(time.Second))
		killed := time.Now()
		require.NoError(t, shared.Kill(t.Context(), s.pod("db-0")))
		_, noticed := s.await("db-0", isNotReady)
		after, ready := s.await("db-0", readyAfter(before))
		unready, restored = append(unready, noticed.Sub(killed)), append(restored, ready.Sub(killed))

		c := after.Status.ContainerStatuses[0]
		assert.Equal(t, int32(i+1), c.RestartCount)
		assert.Equal(t, int32(137), c.LastTerminationState.Terminated.ExitCode)
		assert.Equal(t, before.Status.ContainerStatuses[0].ContainerID, c.LastTerminationState.Terminated.ContainerID)
		assert.Equal(t, before.Status.PodIP, after.Status.PodIP)
		before = after
	}
	assert.Equal(t, 6, s.starts(before), "the volume is kept")

	slices.Sort(unready)
	slices.Sort(restored)
	t.Logf("killed to not ready: %v; to ready again: %v", unready, restored)
	assert.Greater(t, unready[0], 150*time.Millisecond)
	assert.Less(t, unready[2], 1300*time.Millisecond)
	assert.Greater(t, restored[0], 1200*time.Millisecond)
	assert.Less(t, restored[2], 2700*time.Millisecond)
}

func TestCrashLoopBacksOff(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, func(spec *corev1.PodSpec) { spec.Containers[0].Args = []string{"--no-such-flag"} })
	p, _ := s.await("db-0", func(p *corev1.Pod) bool {
		if len(p.Status.ContainerStatuses) == 0 {
			return false
		}
		c := p.Status.ContainerStatuses[0]
		return c.RestartCount >= 2 && c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
	})
	assert.Equal(t, corev1.PodRunning, p.Status.Phase)
	assert.Equal(t, int32(2), p.Status.ContainerStatuses[0].LastTerminationState.Terminated.ExitCode, "flag's code for usage")
}

func TestDeletedPodEndsGracefully(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, func(spec *corev1.PodSpec) {
		spec.Containers[0].Args = append(spec.Containers[0].Args, "--linger=300ms")
		spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 2}}}
	})
	before := s.ready("db-0")
	deleted := time.Now()
	require.NoError(t, shared.Delete(t.Context(), s.pod("db-0"), nil))
	doomed, err := s.client.CoreV1().Pods(s.name).Get(t.Context(), "db-0", metav1.GetOptions{})
	require.NoError(t, err)
	require.NotNil(t, doomed.DeletionTimestamp, "invariant 4")
	s.fetch(before, "healthz") // the hook comes first

	_, recreated := s.await("db-0", func(p *corev1.Pod) bool { return p.UID != before.UID })
	term := s.termTime("db-0")
	t.Logf("SIGTERM after %v, replaced %v later", term.Sub(deleted), recreated.Sub(term))
	assertBetween(t, 2*time.Second, 4*time.Second, term.Sub(deleted))
	assertBetween(t, 800*time.Millisecond, 5*time.Second, recreated.Sub(term))

	after, ready := s.await("db-0", isReady)
	t.Logf("ready %v after that", ready.Sub(recreated))
	assert.Greater(t, ready.Sub(recreated), 200*time.Millisecond)
	assert.NotEqual(t, before.Status.PodIP, after.Status.PodIP)
	assert.Equal(t, 2, s.starts(after), "the volume is kept")
}

// termTime is when the pod's server got its first SIGTERM.
func (s space) termTime(pod string) time.Time {
	s.Helper()
	logs, err := shared.Logs(s.pod(pod))
	require.NoError(s, err)
	_, rest, ok := strings.Cut(string(logs), "SIGTERM at ")
	require.True(s, ok, string(logs))
	var ms int64
	_, err = fmt.Sscan(rest, &ms)
	require.NoError(s, err)
	return time.UnixMilli(ms)
}

func TestGraceEndsWithSIGKILL(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, func(spec *corev1.PodSpec) {
		spec.Containers[0].Args = append(spec.Containers[0].Args, "--linger=1h")
	})
	s.ready("db-0")
	pid, _, err := shared.Process(s.pod("db-0"))
	require.NoError(t, err)
	deleted := time.Now()
	require.NoError(t, shared.Delete(t.Context(), s.pod("db-0"), new(int64(3))))
	waitFor(t, func() bool { return syscall.Kill(pid, 0) != nil })
	assertBetween(t, 3*time.Second, 5*time.Second, time.Since(deleted))
}

func TestProcessOutlivesAPodDeletedByForce(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, func(spec *corev1.PodSpec) {
		spec.Containers[0].Args = append(spec.Containers[0].Args, "--linger=1h")
	})
	before := s.ready("db-0")
	pid, _, err := shared.Process(s.pod("db-0"))
	require.NoError(t, err)

	deleted := time.Now()
	require.NoError(t, shared.Delete(t.Context(), s.pod("db-0"), new(int64(0))))
	now, err := s.client.CoreV1().Pods(s.name).Get(t.Context(), "db-0", metav1.GetOptions{})
	assert.True(t, apierrors.IsNotFound(err) || now.UID != before.UID, "invariant 4")
	assert.NoError(t, syscall.Kill(pid, 0))
	s.fetch(before, "healthz")

	after := s.ready("db-0")
	assert.NotEqual(t, before.Status.PodIP, after.Status.PodIP)
	waitFor(t, func() bool { return syscall.Kill(pid, 0) != nil })
	assert.GreaterOrEqual(t, time.Since(deleted), 2*time.Second, "kubelet's minimum grace")
}

func TestPausedProcessTurnsNotReady(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, nil)
	before := s.ready("db-0")
	paused := time.Now()
	require.NoError(t, shared.Pause(t.Context(), s.pod("db-0")))
	_, noticed := s.await("db-0", isNotReady)
	t.Logf("not ready after %v", noticed.Sub(paused))
	assertBetween(t, time.Second, 4*time.Second, noticed.Sub(paused)) // the probe's time-out and period

	require.NoError(t, shared.Resume(s.pod("db-0")))
	after := s.ready("db-0")
	assert.Equal(t, before.Status.ContainerStatuses[0].ContainerID, after.Status.ContainerStatuses[0].ContainerID)
	assert.Zero(t, after.Status.ContainerStatuses[0].RestartCount)
}

func TestFailedLivenessProbeRestarts(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, func(spec *corev1.PodSpec) {
		probe := healthProbe()
		probe.FailureThreshold = 3 // one that starves for a second is not stopped
		spec.Containers[0].LivenessProbe = probe
		spec.TerminationGracePeriodSeconds = new(int64(2))
	})
	before := s.ready("db-0")
	require.NoError(t, shared.Pause(t.Context(), s.pod("db-0")))
	after, _ := s.await("db-0", readyAfter(before))
	assert.Equal(t, int32(1), after.Status.ContainerStatuses[0].RestartCount)
}

func TestLostVolumeIsEmpty(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, nil)
	before := s.ready("db-0")
	require.NoError(t, shared.Kill(t.Context(), s.pod("db-0")))
	before, _ = s.await("db-0", readyAfter(before))
	require.Equal(t, 2, s.starts(before))

	require.NoError(t, shared.LoseVolume(t.Context(), s.pod("db-0")))
	after, _ := s.await("db-0", readyAfter(before))
	assert.Equal(t, 1, s.starts(after))
}

func TestVolumeGoesWithItsClaim(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, nil)
	before := s.ready("db-0")
	claims := s.client.CoreV1().PersistentVolumeClaims(s.name)
	require.NoError(t, claims.Delete(t.Context(), "data-db-0", metav1.DeleteOptions{}))
	require.NoError(t, shared.Delete(t.Context(), s.pod("db-0"), nil))
	// The first replacement may still find the old claim, which then keeps it
	// from being made: one of them comes up on a new one.
	after, _ := s.await("db-0", readyAfter(before))
	assert.Equal(t, 1, s.starts(after))
}

func TestNetworkIsSwitchedByTheProcess(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, nil)
	s.ready("db-0")
	require.NoError(t, shared.Network(t.Context(), s.pod("db-0"), memgraphtest.Refuse))
	s.await("db-0", isNotReady)
	require.NoError(t, shared.Network(t.Context(), s.pod("db-0"), memgraphtest.Open))
	s.ready("db-0")
}

func TestReadinessGateHoldsReadyBack(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(1, func(spec *corev1.PodSpec) {
		spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: "example.test/joined"}}
	})
	p, _ := s.await("db-0", func(p *corev1.Pod) bool {
		return conditionOf(p, corev1.ContainersReady) == corev1.ConditionTrue
	})
	assert.True(t, isNotReady(p))
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: "example.test/joined", Status: corev1.ConditionTrue})
	_, err := s.client.CoreV1().Pods(s.name).UpdateStatus(t.Context(), p, metav1.UpdateOptions{})
	require.NoError(t, err)
	s.ready("db-0")
}

func TestFaultOnNobody(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	assert.EqualError(t, shared.Kill(t.Context(), s.pod("db-0")), "pod "+s.pod("db-0")+": not on any node")
}

// Not parallel: the others need the API.
func TestPodsRunOnWithoutTheAPI(t *testing.T) {
	for name, away := range map[string]struct{ begin, end func() error }{
		"paused": {func() error { return shared.PauseAPI(t.Context()) }, shared.ResumeAPI},
		"killed": {func() error { return shared.KillAPI(t.Context()) }, func() error { return shared.StartAPI(t.Context()) }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpace(t)
			s.run(1, nil)
			before := s.ready("db-0")
			require.NoError(t, away.begin())
			defer away.end() // as below, if the test ends early
			require.NoError(t, shared.Kill(t.Context(), s.pod("db-0")))
			waitFor(t, func() bool {
				_, _, err := shared.Process(s.pod("db-0"))
				return err == nil
			})
			require.NoError(t, away.end())
			after, _ := s.await("db-0", readyAfter(before))
			assert.Equal(t, int32(1), after.Status.ContainerStatuses[0].RestartCount)
		})
	}
}

func assertBetween(t *testing.T, low, high, is time.Duration) {
	t.Helper()
	assert.GreaterOrEqual(t, is, low)
	assert.LessOrEqual(t, is, high)
}

// waitFor polls fn until it is true; 20 s are for a busy machine.
func waitFor(t *testing.T, fn func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !fn() {
		select {
		case <-deadline:
			require.FailNow(t, "waited in vain")
		case <-time.After(time.Millisecond):
		}
	}
}
