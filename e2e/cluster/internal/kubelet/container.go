package kubelet

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"memgraph-controller/e2e/cluster/internal/process"
)

// startError is the exit code kubelet reports for a container whose process
// could not be started.
const startError = 128

// container is one of a pod's, over all its restarts.
type container struct {
	pod       *pod
	spec      *corev1.Container
	init      bool
	companion bool // of the first container
	command   process.Spec
	checks    map[*corev1.Probe]func(context.Context) error
	backOff   ladder
	restarts  int32

	// Guarded by pod.mu.
	status corev1.ContainerStatus
	proc   *process.Process
}

func newContainer(p *pod, spec *corev1.Container, waiting string) *container {
	return &container{
		pod: p, spec: spec, backOff: ladder{limit: p.agent.timing.BackOffCap},
		status: corev1.ContainerStatus{
			Name: spec.Name, Image: spec.Image, ImageID: repository(spec.Image), Started: new(false),
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: waiting}},
		},
	}
}

// run starts the process, again where the restart policy says so, until the
// container is done or the pod ends. It says whether it completed.
func (c *container) run(ctx context.Context) (completed bool) {
	alive := c.pod.ending.alive
	for sleep(alive, c.pod.agent.timing.Create) {
		end := c.live(ctx)
		if alive.Err() != nil {
			return false
		}
		if !c.again(end.ExitCode) {
			return end.ExitCode == 0
		}
		due := c.backOff.due(end.FinishedAt.Time)
		if time.Now().Before(due) {
			c.crashLooping()
		}
		if !sleepUntil(alive, due) {
			return false
		}
		c.backOff.climb(end.FinishedAt.Time, time.Now())
		c.restarts++
	}
	return false
}

// again says whether a container that ended with this code is restarted:
//
//	            code 0                   other
//	Always      unless it is for init    yes
//	OnFailure   no                       yes
//	Never       no                       no
func (c *container) again(exitCode int32) bool {
	switch c.pod.restartPolicy() {
	case corev1.RestartPolicyAlways:
		return !c.init || exitCode != 0
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return false
}

// live runs the process once and returns when the node has noticed its end.
// What the API is told lags behind what happens:
//
//	process   started ──────────────────────────── ended
//	relists  │        │ running, probes          │       │ terminated
//
// A process that ends before the first relist is never seen running.
func (c *container) live(ctx context.Context) corev1.ContainerStateTerminated {
	if !c.companion {
		_ = os.Remove(Container{Dir: c.pod.dir}.ControlSocket()) // a killed process has left it
	}
	proc, err := c.pod.agent.host.Start(c.command)
	if err != nil {
		return c.ended(corev1.ContainerStateTerminated{
			ExitCode: startError, Reason: "StartError", Message: err.Error(), FinishedAt: metav1.Now(),
		})
	}
	id := "process://" + string(uuid.NewUUID())
	c.setProcess(proc)
	c.pod.agent.log.Info("container started", "pod", c.pod.key, "container", c.spec.Name, "pid", proc.PID())

	var probes sync.WaitGroup
	probing, stopProbing := context.WithCancel(ctx)
	sick := make(chan struct{}, 1)
	// The API hears of the start at the next relist, and probes run from then on.
	if sleepUntil(c.pod.ending.alive, c.pod.node.relist.next(time.Now())) && !proc.HasEnded() {
		c.running(id, proc)
		probes.Go(func() { c.probe(probing, proc, sick) })
	}
	select {
	case <-proc.Done():
	case <-sick:
		grace, cancel := context.WithTimeout(c.pod.ending.grace, c.pod.gracePeriod())
		c.stop(grace, proc)
		cancel()
	case <-c.pod.ending.alive.Done():
		c.stop(c.pod.ending.grace, proc)
	}
	// So it is with the end. Until then readiness is probed: a probe may be the
	// first to find the process gone.
	sleepUntil(ctx, c.pod.node.relist.next(proc.Ended()))
	stopProbing()
	probes.Wait()
	c.setProcess(nil)
	return c.ended(termination(id, proc))
}

// stop runs the preStop hook and sends SIGTERM, then SIGKILL when grace is
// over, but no sooner than minGrace after SIGTERM: the hook may have used the
// grace up. It returns when the process has ended. A stopped process takes no
// SIGTERM, and ends by SIGKILL.
func (c *container) stop(grace context.Context, proc *process.Process) {
	c.preStop(grace, proc)
	_ = proc.Signal(syscall.SIGTERM) // what cannot be signalled has ended
	minimum := time.NewTimer(minGrace)
	defer minimum.Stop()
	select {
	case <-proc.Done():
		return
	case <-minimum.C:
	}
	select {
	case <-proc.Done():
		return
	case <-grace.Done():
	}
	_ = proc.Signal(syscall.SIGKILL)
	<-proc.Done()
}

// preStop waits for the hook, unless the process ends or time runs out first.
// The wait counts against the grace period.
func (c *container) preStop(grace context.Context, proc *process.Process) {
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil {
		return
	}
	hook := time.NewTimer(time.Duration(c.spec.Lifecycle.PreStop.Sleep.Seconds) * time.Second)
	defer hook.Stop()
	select {
	case <-hook.C:
	case <-proc.Done():
	case <-grace.Done():
	case <-c.pod.ending.hooks.Done():
	}
}

func (c *container) setProcess(p *process.Process) {
	c.pod.mu.Lock()
	defer c.pod.mu.Unlock()
	c.proc = p
}

// update changes the status and has it published.
func (c *container) update(change func(*corev1.ContainerStatus)) {
	c.pod.mu.Lock()
	change(&c.status)
	c.pod.mu.Unlock()
	c.pod.touch()
}

// report notes a state that the node has noticed.
func (c *container) report(id string, state corev1.ContainerState) {
	c.update(func(s *corev1.ContainerStatus) {
		if s.State.Terminated != nil {
			s.LastTerminationState = s.State
		}
		s.State, s.ContainerID, s.RestartCount = state, orElse(id, s.ContainerID), c.restarts
		s.Started, s.Ready = new(false), false
	})
}

func (c *container) running(id string, proc *process.Process) {
	c.report(id, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(proc.Started())}})
}

// ended reports the end of a run. An init container that has completed is
// ready, which is what Initialized asks for.
func (c *container) ended(t corev1.ContainerStateTerminated) corev1.ContainerStateTerminated {
	c.report(t.ContainerID, corev1.ContainerState{Terminated: &t})
	if c.init && t.ExitCode == 0 {
		c.update(func(s *corev1.ContainerStatus) { s.Ready = true })
	}
	c.pod.agent.log.Info("container ended", "pod", c.pod.key, "container", c.spec.Name, "exit_code", t.ExitCode)
	return t
}

// crashLooping shows that the next start is put off; the end moves to the last
// state.
func (c *container) crashLooping() {
	c.report("", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason:  "CrashLoopBackOff",
		Message: fmt.Sprintf("back-off %s restarting failed container", c.backOff.step),
	}})
}

func termination(id string, proc *process.Process) corev1.ContainerStateTerminated {
	t := corev1.ContainerStateTerminated{
		ExitCode: int32(proc.ExitCode()), Reason: "Completed", ContainerID: id,
		StartedAt: metav1.NewTime(proc.Started()), FinishedAt: metav1.NewTime(proc.Ended()),
	}
	if t.ExitCode != 0 {
		t.Reason = "Error"
	}
	return t
}
