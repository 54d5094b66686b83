package kubelet

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"

	"memgraph-controller/e2e/cluster/internal/process"
)

// probe runs the container's probes until ctx ends, the startup probe first. It
// sends on sick when the process is to be restarted.
func (c *container) probe(ctx context.Context, proc *process.Process, sick chan<- struct{}) {
	if !c.startedUp(ctx, proc, sick) {
		return
	}
	c.update(func(s *corev1.ContainerStatus) { s.Started, s.Ready = new(true), c.spec.ReadinessProbe == nil })
	var wg sync.WaitGroup
	defer wg.Wait()
	if spec := c.spec.ReadinessProbe; spec != nil {
		wg.Go(func() {
			c.prober(spec, proc).run(ctx, func(ok bool) bool {
				c.update(func(s *corev1.ContainerStatus) { s.Ready = ok })
				return true
			})
		})
	}
	if spec := c.spec.LivenessProbe; spec != nil {
		wg.Go(func() {
			c.prober(spec, proc).run(ctx, func(ok bool) bool {
				if !ok {
					c.pod.agent.log.Info("liveness probe failed", "pod", c.pod.key, "container", c.spec.Name)
					sick <- struct{}{}
				}
				return ok
			})
		})
	}
}

// startedUp says whether the startup probe, if there is one, has succeeded.
func (c *container) startedUp(ctx context.Context, proc *process.Process, sick chan<- struct{}) bool {
	if c.spec.StartupProbe == nil {
		return true
	}
	started := false
	c.prober(c.spec.StartupProbe, proc).run(ctx, func(ok bool) bool {
		if started = ok; !ok {
			c.pod.agent.log.Info("startup probe failed", "pod", c.pod.key, "container", c.spec.Name)
			sick <- struct{}{}
		}
		return false
	})
	return started
}

func (c *container) prober(spec *corev1.Probe, proc *process.Process) prober {
	return prober{spec: spec, check: c.checks[spec], started: proc.Started()}
}
