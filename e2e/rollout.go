package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// RollOut replaces the pods one after the other, as a change of their template
// has it, and waits until each is of the new template and ready.
func (l *Lab) RollOut(ctx context.Context, template map[string]any) error {
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": template}})
	if err != nil {
		return fmt.Errorf("encode template: %w", err)
	}
	return l.reshape(ctx, patch)
}

// Restart is `kubectl rollout restart`; no two have the same stamp.
func (l *Lab) Restart(ctx context.Context, stamp string) error {
	return l.RollOut(ctx, map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{"kubectl.kubernetes.io/restartedAt": stamp},
	}})
}

// RestartControllers is `kubectl rollout restart` of the controller, which goes on
// when it returns.
func (l *Lab) RestartControllers(ctx context.Context, stamp string) error {
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, stamp)
	_, err := l.Kube.AppsV1().Deployments(namespace).Patch(ctx, deployment, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		return fmt.Errorf("patch deployment: %w", err)
	}
	return nil
}

// Scale asks for so many pods, and waits until there are, all ready.
func (l *Lab) Scale(ctx context.Context, pods int) error {
	return l.reshape(ctx, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, pods))
}

// Evict asks for the eviction of pod, as a drain of its node does, over and over
// until the disruption budget allows it. It returns how often it was refused, and when
// it asked for what was allowed.
func (l *Lab) Evict(ctx context.Context, pod string) (refused int, asked time.Time, err error) {
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod}}
	for {
		asked = time.Now()
		err := l.Kube.CoreV1().Pods(namespace).EvictV1(ctx, eviction)
		if err == nil {
			return refused, asked, nil
		}
		if !apierrors.IsTooManyRequests(err) {
			return refused, asked, fmt.Errorf("evict %s: %w", pod, err)
		}
		refused++
		if waiting := Pause(ctx, statusPoll); waiting != nil {
			return refused, asked, fmt.Errorf("evict %s: %w: %w", pod, waiting, err)
		}
	}
}

// reshape patches the StatefulSet, and waits until its pods are as it asks for.
func (l *Lab) reshape(ctx context.Context, patch []byte) error {
	sets := l.Kube.AppsV1().StatefulSets(namespace)
	if _, err := sets.Patch(ctx, statefulSet, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("patch statefulset: %w", err)
	}
	return l.shaped(ctx)
}

// Dismiss deletes the StatefulSet, with its pods or without, and returns what Install
// makes it anew of once it is gone. The volumes stay.
func (l *Lab) Dismiss(ctx context.Context, pods metav1.DeletionPropagation) (*appsv1.StatefulSet, error) {
	sets := l.Kube.AppsV1().StatefulSets(namespace)
	set, err := sets.Get(ctx, statefulSet, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get statefulset: %w", err)
	}
	if err := sets.Delete(ctx, statefulSet, metav1.DeleteOptions{PropagationPolicy: &pods}); err != nil {
		return nil, fmt.Errorf("delete statefulset: %w", err)
	}
	for {
		_, err := sets.Get(ctx, statefulSet, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			break
		}
		if waiting := Pause(ctx, statusPoll); waiting != nil {
			return nil, fmt.Errorf("wait for the end of the statefulset (%w): %w", err, waiting)
		}
	}
	set.ObjectMeta = metav1.ObjectMeta{Namespace: set.Namespace, Name: set.Name, Labels: set.Labels, Annotations: set.Annotations}
	return set, nil
}

// Install makes the StatefulSet that was dismissed, and waits until its pods are there.
func (l *Lab) Install(ctx context.Context, set *appsv1.StatefulSet) error {
	if _, err := l.Kube.AppsV1().StatefulSets(namespace).Create(ctx, set, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create statefulset: %w", err)
	}
	return l.shaped(ctx)
}

// shaped waits until the StatefulSet's pods are as it asks for.
func (l *Lab) shaped(ctx context.Context) error {
	sets := l.Kube.AppsV1().StatefulSets(namespace)
	for {
		set, err := sets.Get(ctx, statefulSet, metav1.GetOptions{})
		if err == nil {
			err = unshaped(set)
		}
		if err == nil {
			return nil
		}
		if waiting := Pause(ctx, statusPoll); waiting != nil {
			return fmt.Errorf("wait for the statefulset: %w: %w", waiting, err)
		}
	}
}

// unshaped tells what a StatefulSet still has to do; nil if nothing is.
func unshaped(set *appsv1.StatefulSet) error {
	s, want := set.Status, *set.Spec.Replicas
	switch {
	case s.ObservedGeneration < set.Generation:
		return fmt.Errorf("generation %d has not been looked at", set.Generation)
	case s.CurrentRevision != s.UpdateRevision || s.Replicas != want || s.ReadyReplicas != want:
		return fmt.Errorf("of %d pods %d are there, %d updated, %d ready", want, s.Replicas, s.UpdatedReplicas, s.ReadyReplicas)
	}
	return nil
}
