package controller

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"memgraph-controller/memgraph"
)

// pod reads what decisions need of a pod; ok is false where it is not one of the
// StatefulSet's.
func (c *Controller) pod(p *corev1.Pod) (pod memgraph.Pod, ok bool) {
	ordinal, named := strings.CutPrefix(p.Name, c.cfg.StatefulSet+"-")
	index, err := strconv.Atoi(ordinal)
	if !named || err != nil || index < 0 || memgraph.PodName(c.cfg.StatefulSet, index) != p.Name {
		return memgraph.Pod{}, false
	}
	pod = memgraph.Pod{
		Name: p.Name, Index: index, UID: string(p.UID), IP: p.Status.PodIP,
		// A pod's readiness gates may wait for us; its containers' do not.
		Ready:       conditionOf(p, corev1.ContainersReady).Status == corev1.ConditionTrue,
		Terminating: p.DeletionTimestamp != nil,
	}
	if p.Spec.Subdomain != "" {
		pod.Host = fmt.Sprintf("%s.%s.%s.svc", p.Name, p.Spec.Subdomain, p.Namespace)
	}
	memgraphs := container(&p.Spec).Name
	for _, status := range p.Status.ContainerStatuses {
		if status.Name == memgraphs {
			pod.Container = status.ContainerID
			pod.Running = status.State.Running != nil
			pod.Restarts = int(status.RestartCount)
		}
	}
	return pod, true
}

// container is Memgraph's: the first that has Bolt's port, or the first of all. What a
// mesh puts into pods may come before it.
func container(p *corev1.PodSpec) *corev1.Container {
	for i := range p.Containers {
		for _, port := range p.Containers[i].Ports {
			if port.ContainerPort == memgraph.BoltPort {
				return &p.Containers[i]
			}
		}
	}
	return &p.Containers[0]
}

// conditionOf is the zero condition where the pod has none of that kind.
func conditionOf(p *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}
