package kubelet

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// observed is what a node knows of a pod.
type observed struct {
	ip, hostIP string
	started    metav1.Time
	sandbox    bool // made, so the address is known
	finished   bool // no container will run again
	init, main []corev1.ContainerStatus
}

// podStatus is what the node reports of the pod. Conditions that did not change
// keep the transition time that they have in before; those of others, such as
// readiness gates, are read from the pod and not reported.
func podStatus(pod *corev1.Pod, o observed, before []corev1.PodCondition, now metav1.Time) corev1.PodStatus {
	s := corev1.PodStatus{
		Phase:                 phase(pod, o),
		StartTime:             &o.started,
		HostIP:                o.hostIP,
		HostIPs:               []corev1.HostIP{{IP: o.hostIP}},
		InitContainerStatuses: o.init,
		ContainerStatuses:     o.main,
		Conditions:            conditions(pod, o),
	}
	if o.sandbox {
		s.PodIP, s.PodIPs = o.ip, []corev1.PodIP{{IP: o.ip}}
	}
	for i := range s.Conditions {
		c := &s.Conditions[i]
		c.LastTransitionTime = now
		if old := condition(before, c.Type); old != nil && old.Status == c.Status {
			c.LastTransitionTime = old.LastTransitionTime
		}
	}
	return s
}

// phase follows kubelet's getPhase; a container that will be restarted keeps
// the pod Running:
//
//	no container was ever seen running     Pending
//	some was, and some may run again       Running
//	none will run again, all completed     Succeeded
//	none will run again, otherwise         Failed
func phase(pod *corev1.Pod, o observed) corev1.PodPhase {
	failed := func(s corev1.ContainerStatus) bool {
		return s.State.Terminated != nil && s.State.Terminated.ExitCode != 0
	}
	seen := func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil
	}
	switch {
	case o.finished && (slices.ContainsFunc(o.main, failed) || !slices.ContainsFunc(o.main, seen)):
		return corev1.PodFailed
	case o.finished:
		return corev1.PodSucceeded
	case slices.ContainsFunc(o.main, seen):
		return corev1.PodRunning
	}
	return corev1.PodPending
}

// conditions are the node's own five, in kubelet's order, with its reasons.
func conditions(pod *corev1.Pod, o observed) []corev1.PodCondition {
	ready := all(corev1.ContainersReady, "ContainersNotReady", "containers with unready status", names(o.main, unready))
	return []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		{Type: corev1.PodReadyToStartContainers, Status: status(o.sandbox && !o.finished)},
		all(corev1.PodInitialized, "ContainersNotInitialized", "containers with incomplete status", names(o.init, unready)),
		ready,
		podReady(pod, ready),
	}
}

// podReady is true if the containers are ready and so is every gate.
func podReady(pod *corev1.Pod, containers corev1.PodCondition) corev1.PodCondition {
	if containers.Status != corev1.ConditionTrue {
		containers.Type = corev1.PodReady
		return containers
	}
	var closed []string
	for _, gate := range pod.Spec.ReadinessGates {
		if c := condition(pod.Status.Conditions, gate.ConditionType); c == nil || c.Status != corev1.ConditionTrue {
			closed = append(closed, string(gate.ConditionType))
		}
	}
	return all(corev1.PodReady, "ReadinessGatesNotReady", "readiness gates not true", closed)
}

// all is true if nothing is missing.
func all(t corev1.PodConditionType, reason, message string, missing []string) corev1.PodCondition {
	if len(missing) == 0 {
		return corev1.PodCondition{Type: t, Status: corev1.ConditionTrue}
	}
	message += ": [" + strings.Join(missing, " ") + "]"
	return corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
}

func unready(s corev1.ContainerStatus) bool { return !s.Ready }

func names(containers []corev1.ContainerStatus, which func(corev1.ContainerStatus) bool) []string {
	var out []string
	for _, c := range containers {
		if which(c) {
			out = append(out, c.Name)
		}
	}
	return out
}

func condition(list []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	if i := slices.IndexFunc(list, func(c corev1.PodCondition) bool { return c.Type == t }); i >= 0 {
		return &list[i]
	}
	return nil
}

func status(ok bool) corev1.ConditionStatus {
	if ok {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}
