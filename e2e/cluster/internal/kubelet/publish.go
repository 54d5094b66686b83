package kubelet

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// publish writes the pod's status whenever it has changed, the newest only, and
// again until the API takes it.
func (p *pod) publish(ctx context.Context) {
	sent := corev1.PodStatus{Conditions: p.seen().Status.Conditions}
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.dirty:
		}
		// Changes that come meanwhile are part of the same write.
		sleep(ctx, p.agent.timing.Report)
		status := podStatus(p.seen(), p.observe(), sent.Conditions, metav1.Now())
		if equality.Semantic.DeepEqual(status, sent) {
			continue
		}
		err := p.patchStatus(ctx, status)
		switch {
		case err == nil:
			sent = status
		case apierrors.IsNotFound(err), apierrors.IsConflict(err):
			// Gone, or another pod of that name: nobody to tell.
		default:
			p.agent.log.Warn("status not written", "pod", p.key, "err", err)
			sleep(ctx, callRetry)
			p.touch()
		}
	}
}

// patchStatus merges status into the pod's, if it still is this incarnation.
func (p *pod) patchStatus(ctx context.Context, status corev1.PodStatus) error {
	object := p.seen()
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": object.UID}, "status": status})
	if err != nil {
		return fmt.Errorf("marshal status: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pods := p.agent.client.CoreV1().Pods(object.Namespace)
	_, err = pods.Patch(ctx, object.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// delete removes the object without grace, if it still is this incarnation.
func (a *Agent) delete(ctx context.Context, object *corev1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return a.client.CoreV1().Pods(object.Namespace).Delete(ctx, object.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(object.UID)),
	})
}
