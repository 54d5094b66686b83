package kubelet

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// recheck is how often scheduler and provisioner look again without an event,
// for what failed.
const recheck = time.Second

// loop calls step whenever it is woken, and each recheck.
type loop struct {
	woken chan struct{}
	step  func(context.Context)
}

func newLoop(step func(context.Context)) loop {
	return loop{woken: make(chan struct{}, 1), step: step}
}

func (l loop) wake() {
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

func (l loop) run(ctx context.Context) {
	ticker := time.NewTicker(recheck)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.woken:
		case <-ticker.C:
		}
		l.step(ctx)
	}
}

func wakeOnChange(wake func()) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { wake() },
		UpdateFunc: func(any, any) { wake() },
		DeleteFunc: func(any) { wake() },
	}
}

// scheduler binds pods to nodes.
type scheduler struct {
	loop
	agent *Agent
	pods  listers.PodLister
	// bound holds what the lister does not know yet.
	bound map[types.UID]string
}

func newScheduler(a *Agent, pods listers.PodLister) *scheduler {
	s := &scheduler{agent: a, pods: pods, bound: map[types.UID]string{}}
	s.loop = newLoop(s.bindAll)
	return s
}

// bindAll counts what it has just bound, though the lister will not know it for
// a while: otherwise pods created together would land on one node.
func (s *scheduler) bindAll(ctx context.Context) {
	pods, err := s.pods.List(labels.Everything())
	if err != nil {
		return // a cache has no errors
	}
	placed := map[types.UID]string{}
	for _, p := range pods {
		node := orElse(p.Spec.NodeName, s.bound[p.UID])
		if node != "" {
			placed[p.UID] = node
		}
	}
	s.bound = placed
	for _, p := range pods {
		if placed[p.UID] != "" || p.DeletionTimestamp != nil {
			continue
		}
		node := place(p, s.agent.nodes, pods, placed)
		if err := s.bind(ctx, p, node); err != nil {
			s.agent.log.Warn("pod not bound", "pod", p.Name, "err", err)
			continue
		}
		placed[p.UID] = node
	}
}

// bind names the UID, so that a pod of the same name is not bound in its place.
func (s *scheduler) bind(ctx context.Context, p *corev1.Pod, node string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := s.agent.client.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, UID: p.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: node},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("bind to %s: %w", node, err)
	}
	return nil
}

// place spreads: the node with the fewest pods of the same owner, among those
// the one with the fewest pods, the first of equals. Pods that end do not count.
func place(pod *corev1.Pod, nodes []*node, pods []*corev1.Pod, placed map[types.UID]string) string {
	type load struct{ siblings, all int }
	loads := map[string]load{}
	for _, p := range pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		l := loads[placed[p.UID]]
		l.all++
		if owner(p) == owner(pod) {
			l.siblings++
		}
		loads[placed[p.UID]] = l
	}
	best := nodes[0].name
	for _, n := range nodes[1:] {
		a, b := loads[n.name], loads[best]
		if a.siblings < b.siblings || a.siblings == b.siblings && a.all < b.all {
			best = n.name
		}
	}
	return best
}

// owner is what siblings have in common; a pod without a controller is alone.
func owner(p *corev1.Pod) types.UID {
	if ref := metav1.GetControllerOf(p); ref != nil {
		return ref.UID
	}
	return p.UID
}
