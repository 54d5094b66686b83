package kubelet

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var (
	waiting    = corev1.ContainerStatus{Name: "c"}
	running    = corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}
	ready      = corev1.ContainerStatus{Name: "c", State: running.State, Ready: true}
	completed  = corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}}
	crashed    = corev1.ContainerStatus{Name: "c", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}}}
	backingOff = corev1.ContainerStatus{Name: "c", LastTerminationState: crashed.State}
)

func TestPhase(t *testing.T) {
	for _, c := range []struct {
		name     string
		main     corev1.ContainerStatus
		finished bool
		want     corev1.PodPhase
	}{
		{"not started", waiting, false, corev1.PodPending},
		{"running", running, false, corev1.PodRunning},
		{"crashed, to be restarted", crashed, false, corev1.PodRunning},
		{"in crash loop", backingOff, false, corev1.PodRunning},
		{"completed for good", completed, true, corev1.PodSucceeded},
		{"crashed for good", crashed, true, corev1.PodFailed},
		{"ended before it was started", waiting, true, corev1.PodFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := phase(&corev1.Pod{}, observed{main: []corev1.ContainerStatus{c.main}, finished: c.finished})
			assert.Equal(t, c.want, got)
		})
	}
}

func TestConditions(t *testing.T) {
	const gate = "example.test/joined"
	gated := func(status corev1.ConditionStatus) *corev1.Pod {
		return &corev1.Pod{
			Spec:   corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{{ConditionType: gate}}},
			Status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: gate, Status: status}}},
		}
	}
	type conds map[corev1.PodConditionType]corev1.ConditionStatus
	for _, c := range []struct {
		name       string
		pod        *corev1.Pod
		init, main corev1.ContainerStatus
		want       conds
		reason     string
	}{
		{"initialising", &corev1.Pod{}, running, waiting, conds{corev1.PodInitialized: "False", corev1.ContainersReady: "False", corev1.PodReady: "False"}, "ContainersNotReady"},
		{"not ready", &corev1.Pod{}, ready, running, conds{corev1.PodInitialized: "True", corev1.ContainersReady: "False", corev1.PodReady: "False"}, "ContainersNotReady"},
		{"ready", &corev1.Pod{}, ready, ready, conds{corev1.PodInitialized: "True", corev1.ContainersReady: "True", corev1.PodReady: "True"}, ""},
		{"ready but for a gate", gated("False"), ready, ready, conds{corev1.PodInitialized: "True", corev1.ContainersReady: "True", corev1.PodReady: "False"}, "ReadinessGatesNotReady"},
		{"ready and the gate open", gated("True"), ready, ready, conds{corev1.PodInitialized: "True", corev1.ContainersReady: "True", corev1.PodReady: "True"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := observed{init: []corev1.ContainerStatus{c.init}, main: []corev1.ContainerStatus{c.main}, sandbox: true}
			got := conds{}
			all := conditions(c.pod, o)
			for _, cond := range all {
				got[cond.Type] = cond.Status
			}
			c.want[corev1.PodScheduled], c.want[corev1.PodReadyToStartContainers] = "True", "True"
			assert.Equal(t, c.want, got, "the gate's own condition is not the node's")
			assert.Equal(t, c.reason, condition(all, corev1.PodReady).Reason)
		})
	}
}

func TestTransitionTimeIsThatOfTheChange(t *testing.T) {
	before, now := metav1.NewTime(time.Unix(1, 0)), metav1.NewTime(time.Unix(2, 0))
	first := podStatus(&corev1.Pod{}, observed{main: []corev1.ContainerStatus{running}}, nil, before)
	second := podStatus(&corev1.Pod{}, observed{main: []corev1.ContainerStatus{ready}}, first.Conditions, now)
	assert.Equal(t, before, condition(second.Conditions, corev1.PodScheduled).LastTransitionTime)
	assert.Equal(t, now, condition(second.Conditions, corev1.PodReady).LastTransitionTime)
}
