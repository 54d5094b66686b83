package kubelet

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"memgraph-controller/e2e/cluster/internal/process"
)

const (
	// callTimeout bounds one API call; a server that answers takes milliseconds.
	callTimeout = 5 * time.Second
	// setUpRetry is the pause before another look for what a pod refers to.
	setUpRetry = 100 * time.Millisecond
	// callRetry is the pause after an API call that failed.
	callRetry = time.Second
)

// pod is one incarnation of a pod, that is one UID, on one of our nodes:
//
//	set up → sandbox → init containers, one by one → containers, together
//	→ (deletion) stop hooks, SIGTERM, SIGKILL → clean up → remove the object
//
// Its goroutine goes through this once; each container has one of its own.
type pod struct {
	agent      *Agent
	node       *node
	key        string // namespace/name
	ip         string
	dir        string
	started    time.Time
	containers []*container // init containers first
	ending     *ending
	dirty      chan struct{} // the status may have changed

	mu       sync.Mutex
	object   *corev1.Pod // newest that was seen
	sandbox  bool
	finished bool     // no container will run again
	over     bool     // the worker has ended
	removed  bool     // the object is gone
	claims   []string // directories of its persistent volumes
}

// newPod makes the pod's containers; nothing runs before run.
func newPod(ctx context.Context, a *Agent, n *node, object *corev1.Pod, ip string) *pod {
	p := &pod{
		agent: a, node: n, key: object.Namespace + "/" + object.Name, ip: ip,
		dir: filepath.Join(a.dir, "pods", string(object.UID[:8])), started: time.Now(),
		ending: newEnding(ctx), dirty: make(chan struct{}, 1), object: object,
	}
	waiting := "ContainerCreating"
	if len(object.Spec.InitContainers) > 0 {
		waiting = "PodInitializing"
	}
	for i := range object.Spec.InitContainers {
		c := newContainer(p, &object.Spec.InitContainers[i], waiting)
		c.init = true
		p.containers = append(p.containers, c)
	}
	for i := range object.Spec.Containers {
		c := newContainer(p, &object.Spec.Containers[i], waiting)
		c.companion = i > 0
		p.containers = append(p.containers, c)
	}
	return p
}

// run takes the pod from its binding to the removal of its object.
func (p *pod) run(ctx context.Context) {
	var publishing sync.WaitGroup
	publish, stopPublishing := context.WithCancel(ctx)
	publishing.Go(func() { p.publish(publish) })
	if p.prepare() {
		p.runContainers(ctx)
	}
	p.set(&p.finished)
	// A pod whose containers have completed keeps its object, and its address,
	// until it is deleted.
	<-p.ending.alive.Done()
	if sleep(ctx, p.agent.timing.CleanUp) {
		p.removeObject(ctx)
	}
	stopPublishing()
	publishing.Wait()
	p.ending.release()
	if err := os.RemoveAll(p.dir); err != nil {
		p.agent.log.Error("directory of pod not removed", "pod", p.key, "err", err)
	}
	p.set(&p.over)
}

// prepare sets the pod up and makes its sandbox; it repeats what fails until
// the pod ends, and shows why in the containers' state.
func (p *pod) prepare() bool {
	alive := p.ending.alive
	for alive.Err() == nil {
		err := p.setUp(alive)
		if err == nil {
			break
		}
		p.showWaiting(err)
		sleep(alive, setUpRetry)
	}
	if !sleep(alive, p.agent.timing.Create) {
		return false
	}
	p.set(&p.sandbox)
	return true
}

// runContainers runs the init containers one by one, then the others together,
// and returns when they are done for good.
func (p *pod) runContainers(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	for _, c := range p.containers {
		if !c.init {
			running.Go(func() { c.run(ctx) })
		} else if !c.run(ctx) {
			return
		}
	}
}

// see takes note of a newer object, and of its deletion.
func (p *pod) see(object *corev1.Pod) {
	p.mu.Lock()
	p.object = object
	p.mu.Unlock()
	p.touch()
	if object.DeletionTimestamp != nil {
		p.ending.within(time.Duration(*object.DeletionGracePeriodSeconds) * time.Second)
	}
}

// lose takes note that the object is gone.
func (p *pod) lose() {
	p.set(&p.removed)
	p.ending.force()
}

// removeObject deletes the object for good, unless it is gone already.
func (p *pod) removeObject(ctx context.Context) {
	object := p.seen()
	for !p.isRemoved() {
		err := p.agent.delete(ctx, object)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || !sleep(ctx, callRetry) {
			return
		}
	}
}

// processes are those that run now, without those of companions: faults are of what the
// pod is for.
func (p *pod) processes() []*process.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*process.Process
	for _, c := range p.containers {
		if c.proc != nil && !c.proc.HasEnded() && !c.companion {
			out = append(out, c.proc)
		}
	}
	return out
}

func (p *pod) name() string { return p.key[strings.IndexByte(p.key, '/')+1:] }

// seen is the newest object; it is the informer's and must not be changed.
func (p *pod) seen() *corev1.Pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.object
}

func (p *pod) isRemoved() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.removed
}

// isForgettable says whether nothing more will come of the pod.
func (p *pod) isForgettable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over && p.removed
}

func (p *pod) claimDirs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.claims
}

// set makes one of the pod's facts true.
func (p *pod) set(fact *bool) {
	p.mu.Lock()
	*fact = true
	p.mu.Unlock()
	p.touch()
}

func (p *pod) restartPolicy() corev1.RestartPolicy { return p.seen().Spec.RestartPolicy }

// gracePeriod is what a process gets that is restarted for its health.
func (p *pod) gracePeriod() time.Duration {
	return time.Duration(*p.seen().Spec.TerminationGracePeriodSeconds) * time.Second
}

// touch has the status published.
func (p *pod) touch() {
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// showWaiting is where a user of a real cluster would look, too.
func (p *pod) showWaiting(err error) {
	for _, c := range p.containers {
		c.update(func(s *corev1.ContainerStatus) {
			s.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: err.Error()}
		})
	}
}

// observe is what the node knows of the pod now.
func (p *pod) observe() observed {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := observed{
		ip: p.ip, hostIP: p.node.ip, started: metav1.NewTime(p.started),
		sandbox: p.sandbox, finished: p.finished,
	}
	for _, c := range p.containers {
		if c.init {
			o.init = append(o.init, *c.status.DeepCopy())
		} else {
			o.main = append(o.main, *c.status.DeepCopy())
		}
	}
	return o
}
