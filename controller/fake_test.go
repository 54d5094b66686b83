package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"memgraph-controller/memgraph"
)

const (
	testNamespace = "ns"
	testSet       = "mg"
)

// newClientset is a fake API server that numbers what is written and refuses
// stale writes, as a real one does and client-go's does not.
func newClientset(objects ...runtime.Object) (*fake.Clientset, *versions) {
	cs := fake.NewClientset(objects...)
	v := &versions{tracker: cs.Tracker()}
	cs.PrependReactor("create", "*", v.react)
	cs.PrependReactor("update", "*", v.react)
	cs.PrependReactor("patch", "*", v.react)
	return cs, v
}

// versions gives every write the next resourceVersion.
type versions struct {
	tracker clienttesting.ObjectTracker

	mu   sync.Mutex
	last int64
	// before is called before every write, which fails with what it returns.
	before func(clienttesting.Action) error
}

// intercept sets what is called before every write from now on.
func (v *versions) intercept(f func(clienttesting.Action) error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.before = f
}

func (v *versions) react(action clienttesting.Action) (bool, runtime.Object, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var err error
	if v.before != nil {
		if err = v.before(action); err != nil {
			return true, nil, err
		}
	}
	switch a := action.(type) {
	case clienttesting.PatchActionImpl:
		action, err = v.patch(a)
	case clienttesting.UpdateActionImpl:
		err = v.stamp(a, a.Object, true)
	case clienttesting.CreateActionImpl:
		err = v.stamp(a, a.Object, false)
	}
	if err != nil {
		return true, nil, err
	}
	return clienttesting.ObjectReaction(v.tracker)(action)
}

// stamp gives object the next version; in an update it must be at the present.
func (v *versions) stamp(action clienttesting.Action, object runtime.Object, update bool) error {
	o, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	if update {
		if err := v.current(action, o.GetName(), o.GetResourceVersion()); err != nil {
			return err
		}
	}
	v.last++
	o.SetResourceVersion(strconv.FormatInt(v.last, 10))
	return nil
}

// patch is a with the next version in it, if it names the present one.
func (v *versions) patch(a clienttesting.PatchActionImpl) (clienttesting.Action, error) {
	var patch map[string]any
	if err := json.Unmarshal(a.Patch, &patch); err != nil {
		return nil, err
	}
	metadata, ok := patch["metadata"].(map[string]any)
	if !ok {
		metadata = map[string]any{}
		patch["metadata"] = metadata
	}
	if revision, ok := metadata["resourceVersion"].(string); ok {
		if err := v.current(a, a.Name, revision); err != nil {
			return nil, err
		}
	}
	v.last++
	metadata["resourceVersion"] = strconv.FormatInt(v.last, 10)
	var err error
	a.Patch, err = json.Marshal(patch)
	return a, err
}

// current returns a Conflict unless the stored object is at revision.
func (v *versions) current(action clienttesting.Action, name, revision string) error {
	stored, err := v.tracker.Get(action.GetResource(), action.GetNamespace(), name)
	if err != nil {
		return err
	}
	o, err := meta.Accessor(stored)
	if err != nil {
		return err
	}
	if is := o.GetResourceVersion(); is != revision {
		return apierrors.NewConflict(action.GetResource().GroupResource(), name, fmt.Errorf("it is at %s, not %s", is, revision))
	}
	return nil
}

// statefulSet is one that asks for three pods.
func statefulSet() *appsv1.StatefulSet {
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: testSet},
		Spec: appsv1.StatefulSetSpec{
			Replicas: new(int32(3)), ServiceName: testSet,
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": testSet}},
		},
	}
}

// runningPod is a pod of that StatefulSet, ready.
func runningPod(index int) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: testNamespace, Name: memgraph.PodName(testSet, index), Labels: map[string]string{"app": testSet},
			UID: types.UID(fmt.Sprintf("uid-%d", index)), ResourceVersion: "1",
		},
		Spec: corev1.PodSpec{Subdomain: testSet, Containers: []corev1.Container{{Name: "memgraph"}}},
		Status: corev1.PodStatus{
			PodIP:      fmt.Sprintf("10.0.0.%d", index),
			Conditions: []corev1.PodCondition{{Type: corev1.ContainersReady, Status: corev1.ConditionTrue}},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "memgraph", ContainerID: "process://c1", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}},
		},
	}
}

// fleet is a set of Memgraphs by Bolt address, with no data but what replication
// says of itself. It is every interface through which the controller talks to
// instances, and the gateway.
type fleet struct {
	mu        sync.Mutex
	instances map[string]*instance
	expected  []string // whom the gateway was to hold clients for
	disowned  []int64  // below which generations
	served    []string // whom it was to let them through to
	prepared  string   // whom for
	fresh     time.Time
	forgotten []string                          // addresses
	said      []string                          // statements that change something, "verb address what"
	readers   atomic.Pointer[map[string]string] // whom clients may read from
	// names are those that do not lead to the pods that have them.
	names map[string]lookup
	// answered is called, if set, after every answer.
	answered func()
}

// lookup is what comes of looking up a name.
type lookup struct {
	addrs []string
	err   error
}

type instance struct {
	id     memgraph.Identity
	err    error   // answers every question
	errs   []error // answer one question each, before err
	deaf   bool    // nobody listens on the replication port
	chatty bool    // clients get answers from it
	// hangs leaves every question unanswered, though connections are accepted; slow
	// is what an answer takes.
	hangs    bool
	slow     time.Duration
	stalled  bool // commits and queries are kept waiting, what is asked of replication is not
	vertices int64
	replicas []memgraph.Replica
	asked    int
	// register answers REGISTER, if set; it must end with the context.
	register func(context.Context, memgraph.Registration) error
}

// newFleet has as many empty MAINs as there are pods.
func newFleet(pods int) *fleet {
	f := &fleet{instances: map[string]*instance{}}
	for i := range pods {
		f.instances[fmt.Sprintf("10.0.0.%d:7687", i)] = &instance{
			id: memgraph.Identity{Role: memgraph.RoleMain, RunID: fmt.Sprintf("run-%d", i)},
		}
	}
	return f
}

// with changes the instance of pod i.
func (f *fleet) with(i int, change func(*instance)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.instances[fmt.Sprintf("10.0.0.%d:7687", i)])
}

// at has the instance at addr answer one question.
func (f *fleet) at(addr string, answer func(*instance) error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, ok := f.instances[addr]
	if !ok {
		return memgraph.ErrRefused
	}
	i.asked++
	if f.answered != nil {
		defer f.answered()
	}
	if len(i.errs) > 0 {
		err := i.errs[0]
		i.errs = i.errs[1:]
		return err
	}
	if i.err != nil {
		return i.err
	}
	return answer(i)
}

// change is at for a statement that changes something.
func (f *fleet) change(addr, statement string, make func(*instance)) error {
	return f.at(addr, func(i *instance) error {
		f.said = append(f.said, statement+" "+addr)
		make(i)
		return nil
	})
}

// statements are those that changed something and contain part.
func (f *fleet) statements(part string) (found []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.said {
		if strings.Contains(s, part) {
			found = append(found, s)
		}
	}
	return found
}

func (f *fleet) Identify(ctx context.Context, addr string) (id memgraph.Identity, err error) {
	if err := f.delay(ctx, addr); err != nil {
		return id, err
	}
	err = f.at(addr, func(i *instance) error { id = i.id; return nil })
	return id, err
}

// delay is how the instance at addr makes questions wait.
func (f *fleet) delay(ctx context.Context, addr string) error {
	f.mu.Lock()
	i := f.instances[addr]
	slow, hangs := time.Duration(0), false
	if i != nil {
		slow, hangs = i.slow, i.hangs
	}
	f.mu.Unlock()
	if hangs {
		slow = time.Hour
	}
	if slow == 0 {
		return nil
	}
	select {
	case <-time.After(slow):
		return nil
	case <-ctx.Done():
		return memgraph.ErrUnreachable
	}
}

func (f *fleet) Listens(_ context.Context, addr string) error {
	host, _, _ := net.SplitHostPort(addr)
	return f.at(memgraph.Pod{IP: host}.Addr(), func(i *instance) error {
		if i.deaf {
			return memgraph.ErrRefused
		}
		return nil
	})
}

// lookup is what DNS says of a pod's name.
func (f *fleet) lookup(_ context.Context, host string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if said, ok := f.names[host]; ok {
		return said.addrs, said.err
	}
	ordinal, ours := strings.CutPrefix(host, testSet+"-")
	if !ours {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []string{"10.0.0." + strings.Split(ordinal, ".")[0]}, nil
}

func (f *fleet) Replicas(ctx context.Context, addr string) (rs []memgraph.Replica, err error) {
	if err := f.delay(ctx, addr); err != nil {
		return nil, err
	}
	err = f.at(addr, func(i *instance) error {
		if i.id.Role != memgraph.RoleMain {
			return memgraph.ErrNotMain
		}
		rs = append(rs, i.replicas...)
		return nil
	})
	return rs, err
}

func (f *fleet) StorageInfo(ctx context.Context, addr string) (s memgraph.StorageInfo, err error) {
	if f.stalls(addr) {
		<-ctx.Done()
		return s, memgraph.ErrUnreachable
	}
	err = f.at(addr, func(i *instance) error { s.Vertices = i.vertices; return nil })
	return s, err
}

func (f *fleet) stalls(addr string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.instances[addr] != nil && f.instances[addr].stalled
}

func (f *fleet) Version(_ context.Context, addr string) (memgraph.Version, error) {
	return memgraph.Version{Major: 3, Minor: 12}, f.at(addr, func(*instance) error { return nil })
}

func (f *fleet) Promote(_ context.Context, addr string) error {
	return f.change(addr, "promote", func(i *instance) { i.id.Role, i.replicas = memgraph.RoleMain, nil })
}

func (f *fleet) Demote(_ context.Context, addr string) error {
	return f.change(addr, "demote", func(i *instance) { i.id.Role, i.replicas = memgraph.RoleReplica, nil })
}

// SealEpoch is a commit, at which MAIN notices which of its replicas are gone.
func (f *fleet) SealEpoch(ctx context.Context, addr string) error {
	if f.stalls(addr) {
		<-ctx.Done()
		return memgraph.ErrUnreachable
	}
	return f.change(addr, "seal", func(main *instance) {
		for n, r := range main.replicas {
			if i, ok := f.instances[memgraph.Pod{IP: strings.Split(r.Address, ":")[0]}.Addr()]; !ok || i.err != nil {
				main.replicas[n].Status = memgraph.StatusInvalid
			}
		}
	})
}

func (f *fleet) Register(ctx context.Context, main string, r memgraph.Registration) error {
	answer := func(context.Context, memgraph.Registration) error { return nil }
	err := f.change(main, fmt.Sprintf("register %s %s %s on", r.Name, r.Mode, r.Address), func(i *instance) {
		if i.register != nil {
			answer = i.register
		}
	})
	if err == nil {
		err = answer(ctx, r)
	}
	if err != nil {
		return err
	}
	return f.at(main, func(i *instance) error {
		i.replicas = append(i.replicas, memgraph.Replica{Name: r.Name, Address: r.Address, Mode: r.Mode, Status: memgraph.StatusReady})
		return nil
	})
}

// refuse is a REGISTER that fails with err.
func refuse(err error) func(context.Context, memgraph.Registration) error {
	return func(context.Context, memgraph.Registration) error { return err }
}

func (f *fleet) Drop(_ context.Context, main, name string) error {
	return f.change(main, "drop "+name+" on", func(i *instance) { i.unlist(name) })
}

func (i *instance) unlist(name string) {
	i.replicas = slices.DeleteFunc(i.replicas, func(r memgraph.Replica) bool { return r.Name == name })
}

func (f *fleet) forget(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forgotten = append(f.forgotten, addr)
}

func (f *fleet) Serve(pod, _, runID string, generation int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.served = append(f.served, fmt.Sprintf("%d %s %s", generation, pod, runID))
}

// vigil lasts as long as the instance answers.
func (f *fleet) vigil(ctx context.Context, addr string) (broke bool) {
	answers := func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.instances[addr] != nil && f.instances[addr].err == nil
	}
	if !answers() {
		return false
	}
	for ; ctx.Err() == nil; <-time.After(time.Millisecond) {
		if !answers() {
			return true
		}
	}
	return false
}

func (f *fleet) Expect(pod, _, runID string, generation int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expected = append(f.expected, fmt.Sprintf("%d %s %s", generation, pod, runID))
}

func (f *fleet) disown(below int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.disowned = append(f.disowned, below)
}

func (f *fleet) Prepare(addr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.prepared = addr
}

func (f *fleet) Fresh(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fresh = at
}

func (f *fleet) heard(addr string) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.instances[addr]; i != nil && i.chatty {
		return time.Now()
	}
	return time.Time{}
}

// lastServed is what the gateway was told last.
func (f *fleet) lastServed() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.served) == 0 {
		return ""
	}
	return f.served[len(f.served)-1]
}

// newController is one over cs and f, with the given identity.
func newController(t testing.TB, identity string, cs *fake.Clientset, f *fleet) *Controller {
	t.Helper()
	cfg := Defaults
	cfg.Namespace, cfg.StatefulSet, cfg.Identity, cfg.RegisterBy = testNamespace, testSet, identity, ByIP
	c, err := New(cfg, Dependencies{
		Urgent: cs, Routine: cs, UrgentProber: f, Sentinel: f, Prober: f, Asker: f,
		Roles: f, Registrations: f, Resolve: f.lookup, Forget: f.forget, Gateway: f, Disown: f.disown, Heard: f.heard, Vigil: f.vigil,
		Readers:    func(addrs map[string]string) { f.readers.Store(&addrs) },
		Log:        slog.New(slog.NewTextHandler(testLog(t), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Registerer: prometheus.NewRegistry(),
	})
	require.NoError(t, err)
	return c
}

// testLog is where a failed test shows what the controller logged.
func testLog(t testing.TB) io.Writer { return t.Output() }
