package kubelet

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"memgraph-controller/e2e/cluster/internal/process"
)

// Config is what an Agent is made of.
type Config struct {
	// Client may do everything.
	Client kubernetes.Interface
	// Server is the API server's URL, for the clients in pods.
	Server string
	// Host runs the containers' processes.
	Host *process.Host
	// Dir is where pods, volumes and logs are kept. It exists.
	Dir string
	// Subnet is the first three octets of all addresses.
	Subnet string
	// Nodes is how many there are: node-1, node-2, …
	Nodes  int
	Images []Image
	Timing Timing
	Log    *slog.Logger
}

// Agent plays scheduler, provisioner and the kubelets of all nodes:
//
//	pod events ──► scheduler ──► binding
//	          └──► a worker per pod ──► processes, probes ──► status
//	claim events ─► provisioner ──► volumes
//
// Workers share nothing but the Host, the addresses and this map.
type Agent struct {
	client    kubernetes.Interface
	server    string
	host      *process.Host
	dir       string
	images    []Image
	timing    Timing
	log       *slog.Logger
	nodes     []*node
	addresses *addresses
	workers   sync.WaitGroup

	mu   sync.Mutex
	pods map[types.UID]*pod
}

// node has an address and a relist clock of its own.
type node struct {
	name   string
	ip     string
	relist relist
}

// New returns an Agent that does nothing yet.
func New(c Config) *Agent {
	a := &Agent{
		client: c.Client, server: c.Server, host: c.Host, dir: c.Dir, images: c.Images,
		timing: c.Timing.withDefaults(), log: c.Log,
		addresses: newAddresses(c.Subnet), pods: map[types.UID]*pod{},
	}
	for i := range c.Nodes {
		phase := time.Duration(rand.Int64N(int64(a.timing.Relist)))
		a.nodes = append(a.nodes, &node{
			name:   fmt.Sprintf("node-%d", i+1),
			ip:     fmt.Sprintf("%s.%d", c.Subnet, firstNode+i),
			relist: relist{phase: time.Now().Add(-phase), period: a.timing.Relist},
		})
	}
	return a
}

// Register makes the nodes known to the API.
func (a *Agent) Register(ctx context.Context) error {
	for _, n := range a.nodes {
		object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: n.name, Labels: map[string]string{corev1.LabelHostname: n.name, corev1.LabelOSStable: "linux"},
		}}
		created, err := a.client.CoreV1().Nodes().Create(ctx, object, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create %s: %w", n.name, err)
		}
		created.Status = n.status()
		if _, err := a.client.CoreV1().Nodes().UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("update status of %s: %w", n.name, err)
		}
	}
	return nil
}

// status claims more than any test asks for: nothing is limited.
func (n *node) status() corev1.NodeStatus {
	room := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("64"),
		corev1.ResourceMemory: resource.MustParse("256Gi"),
		corev1.ResourcePods:   resource.MustParse("100"),
	}
	now := metav1.Now()
	return corev1.NodeStatus{
		Capacity: room, Allocatable: room,
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.ip}, {Type: corev1.NodeHostName, Address: n.name}},
		Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady",
			LastHeartbeatTime: now, LastTransitionTime: now,
		}},
	}
}

// Run plays until ctx ends. It returns when every worker has, which takes until
// the pods' processes end: close the Host.
func (a *Agent) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(a.client, 0)
	pods, claims := factory.Core().V1().Pods(), factory.Core().V1().PersistentVolumeClaims()
	sched := newScheduler(a, pods.Lister())
	prov := newProvisioner(a, claims.Lister())
	if _, err := pods.Informer().AddEventHandler(a.podHandler(ctx, sched.wake)); err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	if _, err := claims.Informer().AddEventHandler(wakeOnChange(prov.wake)); err != nil {
		return fmt.Errorf("watch claims: %w", err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	var loops sync.WaitGroup
	loops.Go(func() { sched.run(ctx) })
	loops.Go(func() { prov.run(ctx) })
	loops.Wait()
	factory.Shutdown()
	a.workers.Wait()
	return nil
}

// podHandler turns events into what a pod's worker needs to know. A deletion may
// come as a tombstone, or hidden in an update to the next pod of that name.
func (a *Agent) podHandler(ctx context.Context, wake func()) cache.ResourceEventHandler {
	see := func(obj any) {
		a.see(ctx, obj.(*corev1.Pod))
		wake()
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: see,
		UpdateFunc: func(before, after any) {
			if was := before.(*corev1.Pod); was.UID != after.(*corev1.Pod).UID {
				a.lose(was) // deleted and created again between two events
			}
			see(after)
		},
		DeleteFunc: func(obj any) {
			if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = gone.Obj
			}
			a.lose(obj.(*corev1.Pod))
		},
	}
}

// see hands the object to its worker, and starts one for a pod that is new on
// one of our nodes.
func (a *Agent) see(ctx context.Context, object *corev1.Pod) {
	n := a.node(object.Spec.NodeName)
	if n == nil {
		return
	}
	a.mu.Lock()
	p := a.pods[object.UID]
	if p == nil {
		ip, err := a.addresses.take()
		if err != nil {
			a.mu.Unlock()
			a.log.Error("pod not taken", "pod", object.Name, "err", err)
			return
		}
		p = newPod(ctx, a, n, object, ip)
		a.pods[object.UID] = p
		a.workers.Go(func() {
			p.run(ctx)
			a.addresses.release(p.ip)
			a.forget(object.UID)
		})
	}
	a.mu.Unlock()
	p.see(object)
}

// lose tells the worker that its object is gone.
func (a *Agent) lose(object *corev1.Pod) {
	a.mu.Lock()
	p := a.pods[object.UID]
	a.mu.Unlock()
	if p != nil {
		p.lose()
		a.forget(object.UID)
	}
}

// forget drops a pod whose worker and object have both ended: before, a late
// event would start it again.
func (a *Agent) forget(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if p := a.pods[uid]; p != nil && p.isForgettable() {
		delete(a.pods, uid)
	}
}

// node is nil for a name that is not one of ours, as for no name at all.
func (a *Agent) node(name string) *node {
	for _, n := range a.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

func (a *Agent) volumes() string { return filepath.Join(a.dir, "volumes") }

// logFile is where all incarnations of a pod's container write.
func (a *Agent) logFile(key, container string) string {
	return filepath.Join(a.dir, "logs", strings.ReplaceAll(key, "/", "_")+"_"+container+".log")
}
