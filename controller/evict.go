package controller

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
)

const (
	// evictGrace, in seconds, is the least that waits for the kubelet to say that
	// the process has ended: without it a second one could start on the same data.
	evictGrace = 1
	// deleteTimeout bounds the request, which takes 5 to 30 ms.
	deleteTimeout = 2 * time.Second
)

// relieve deletes the pod whose process commits wait for in vain, if there is one.
func (s *sentry) relieve(ctx context.Context) {
	c := s.t.c
	if e, ok := failover.Evict(c.snapshot(c.record.latest()), s.evicted); ok {
		s.evicted = time.Now()
		c.news.evicted(e, s.t.effects.end(ctx, e))
	}
}

// end deletes the pod of v with the least grace that is safe.
func (e effects) end(ctx context.Context, v failover.Eviction) error {
	grace := int64(evictGrace)
	if v.Force {
		grace = 0
	}
	return e.deletePod(ctx, v.Pod, &grace)
}

// deletePod asks for that, unless the pod went by itself. A nil grace is the pod's
// own, and else in seconds.
func (e effects) deletePod(ctx context.Context, pod memgraph.Pod, grace *int64) error {
	ctx, cancel := context.WithTimeout(ctx, deleteTimeout)
	defer cancel()
	err := e.change(ctx, func(ctx context.Context) error {
		return e.c.deps.Urgent.CoreV1().Pods(e.c.cfg.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: grace, Preconditions: metav1.NewUIDPreconditions(pod.UID),
		})
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete pod %s: %w", pod.Name, err)
	}
	return nil
}
