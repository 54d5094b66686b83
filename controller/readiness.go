package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// ReplicatedCondition is the readiness gate that the leader opens and closes in
// the pods that have it: see reconcile.Ready.
const ReplicatedCondition corev1.PodConditionType = "memgraph-controller/replicated"

// showReadiness brings the readiness gate of a pod in s up to date, if it has one
// and its condition says otherwise. A new leader finds there what the old one has
// said.
func (e effects) showReadiness(ctx context.Context, s memgraph.Snapshot, name string) error {
	object, err := e.c.cached.pods.Get(name)
	if err != nil || !isGated(object) {
		return nil // it is gone, or nobody waits for it
	}
	i := slices.IndexFunc(s.Pods, func(p memgraph.Pod) bool { return p.UID == string(object.UID) })
	if i < 0 {
		return nil // it was replaced
	}
	ready, known := reconcile.Ready(s, s.Pods[i])
	if !known {
		return nil
	}
	want := corev1.PodCondition{
		Type: ReplicatedCondition, Status: corev1.ConditionFalse, Reason: ready.Reason, Message: ready.Message,
		LastTransitionTime: metav1.NewTime(s.Now),
	}
	if ready.Ready {
		want.Status = corev1.ConditionTrue
	}
	is := conditionOf(object, ReplicatedCondition)
	if is.Status == want.Status {
		want.LastTransitionTime = is.LastTransitionTime
	}
	if is.Status == want.Status && is.Reason == want.Reason {
		return nil
	}
	return e.patchCondition(ctx, object, want)
}

// patchCondition writes one condition of pod, unless that is gone or replaced.
func (e effects) patchCondition(ctx context.Context, pod *corev1.Pod, condition corev1.PodCondition) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": pod.UID},
		"status":   map[string]any{"conditions": []corev1.PodCondition{condition}},
	})
	if err != nil {
		return fmt.Errorf("encode readiness of %s: %w", pod.Name, err)
	}
	err = e.change(ctx, func(ctx context.Context) error {
		_, err := e.c.deps.Routine.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch,
			metav1.PatchOptions{FieldManager: fieldManager}, "status")
		return err
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("patch readiness of %s: %w", pod.Name, err)
	}
	return nil
}

func isGated(pod *corev1.Pod) bool {
	return slices.Contains(pod.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: ReplicatedCondition})
}
