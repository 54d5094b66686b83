package cluster

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// shared is the cluster of all tests that do not start one themselves.
var (
	shared      *Cluster
	sharedImage Image
)

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv(asHarness) != "" {
		beHarness(ctx)
		return
	}
	code, err := runTests(ctx, m)
	stop()
	if err == nil {
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(ctx context.Context, m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "cluster")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	if err := Build(ctx, dir, "./e2e/cluster/testdata/server"); err != nil {
		return 1, err
	}
	sharedImage = serverImage(dir)
	if shared, err = Start(ctx, Options{Log: os.Stderr, Images: []Image{sharedImage}}); err != nil {
		return 1, err
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // these tests wait more than they work
		return 1, err
	}
	code := m.Run()
	if err := shared.Stop(); err != nil {
		return 1, err
	}
	if _, err := os.Stat(shared.lease.dir); !os.IsNotExist(err) {
		return 1, fmt.Errorf("run directory left behind: %v", err)
	}
	http.DefaultClient.CloseIdleConnections()
	return code, nil
}

func serverImage(dir string) Image {
	return Image{
		Name: "example.test/server",
		Path: filepath.Join(dir, "server"),
		Args: func(c Container) []string {
			return []string{"--listen=" + c.IP + ":8080", "--control-socket=" + c.ControlSocket()}
		},
	}
}

// space is a namespace of one test's own.
type space struct {
	*testing.T
	client kubernetes.Interface
	name   string
}

func newSpace(t *testing.T) space {
	t.Helper()
	client, err := kubernetes.NewForConfig(shared.Config())
	require.NoError(t, err)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	ns, err = client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	require.NoError(t, err)
	return space{t, client, ns.Name}
}

// pod names one of the space's, for faults.
func (s space) pod(name string) string { return s.name + "/" + name }

// await returns the pod as soon as it is as wanted, and when that was seen. It
// fails after 20 s, or with the test.
func (s space) await(pod string, wanted func(*corev1.Pod) bool) (*corev1.Pod, time.Time) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 20*time.Second)
	defer cancel()
	var last *corev1.Pod
	for ctx.Err() == nil {
		w, err := s.client.CoreV1().Pods(s.name).Watch(ctx, metav1.ListOptions{
			FieldSelector: fields.OneTermEqualSelector("metadata.name", pod).String(),
		})
		if err != nil {
			continue // the API is away
		}
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				break
			}
			if last = p; e.Type != "DELETED" && wanted(p) {
				w.Stop()
				return p, time.Now()
			}
		}
		w.Stop()
	}
	logs, _ := shared.Logs(s.pod(pod)) // empty is as good as an error here
	if last == nil {
		require.FailNow(s, "no such pod", pod)
	}
	require.FailNow(s, "waited in vain", "%s\n%+v", logs, last.Status)
	return nil, time.Time{}
}

func (s space) ready(pod string) *corev1.Pod {
	s.Helper()
	p, _ := s.await(pod, isReady)
	return p
}

// fetch asks the pod's server.
func (s space) fetch(p *corev1.Pod, path string) string {
	s.Helper()
	resp, err := http.Get("http://" + p.Status.PodIP + ":8080/" + path)
	require.NoError(s, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	require.Equal(s, http.StatusOK, resp.StatusCode, path)
	return string(body)
}

// starts is how often a server has started on the pod's volume.
func (s space) starts(p *corev1.Pod) int {
	s.Helper()
	return strings.Count(s.fetch(p, "data/starts"), "\n")
}

// run makes a StatefulSet "db" with a volume, changed as the test likes.
func (s space) run(replicas int32, change func(*corev1.PodSpec)) {
	s.Helper()
	labels := map[string]string{"app": "db"}
	set := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: "db", PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "server", Image: "example.test/server:1", Args: []string{"--data=/data"},
					Ports:          []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
					VolumeMounts:   []corev1.VolumeMount{{Name: "data", MountPath: "/data"}},
					ReadinessProbe: healthProbe(),
				}}},
			},
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: "data"},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
				},
			}},
		},
	}
	if change != nil {
		change(&set.Spec.Template.Spec)
	}
	_, err := s.client.AppsV1().StatefulSets(s.name).Create(s.Context(), set, metav1.CreateOptions{})
	require.NoError(s, err)
}

func healthProbe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("http")}},
		PeriodSeconds: 1, TimeoutSeconds: 1, FailureThreshold: 1,
	}
}

func isReady(p *corev1.Pod) bool { return conditionOf(p, corev1.PodReady) == corev1.ConditionTrue }

func isNotReady(p *corev1.Pod) bool { return conditionOf(p, corev1.PodReady) == corev1.ConditionFalse }

func conditionOf(p *corev1.Pod, t corev1.PodConditionType) corev1.ConditionStatus {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

// readyAfter is Ready, in an incarnation or a run other than before's.
func readyAfter(before *corev1.Pod) func(*corev1.Pod) bool {
	id := before.Status.ContainerStatuses[0].ContainerID
	return func(p *corev1.Pod) bool { return isReady(p) && p.Status.ContainerStatuses[0].ContainerID != id }
}

func TestStatefulSetComesUp(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	s.run(3, nil)
	ips, hosts := map[string]bool{}, map[string]bool{}
	for i := range 3 {
		p := s.ready(fmt.Sprintf("db-%d", i))
		ips[p.Status.PodIP], hosts[p.Spec.NodeName] = true, true
		assert.Contains(t, p.Status.PodIP, shared.lease.subnet+".")
		assert.Equal(t, 1, s.starts(p))

		c := p.Status.ContainerStatuses[0]
		assert.Regexp(t, `^process://[0-9a-f-]{36}$`, c.ContainerID)
		assert.Equal(t, corev1.ContainerStatus{
			Name: "server", Image: "example.test/server:1", ImageID: "example.test/server",
			ContainerID: c.ContainerID, State: c.State, Ready: true, Started: new(true),
		}, c)
		pid, started, err := shared.Process(s.pod(p.Name))
		require.NoError(t, err)
		assert.NoError(t, syscall.Kill(pid, 0))
		assert.Equal(t, started.Unix(), c.State.Running.StartedAt.Unix())
	}
	assert.Len(t, ips, 3, "each pod has an address of its own")
	assert.Equal(t, map[string]bool{"node-1": true, "node-2": true, "node-3": true}, hosts)
}

func TestContainerGetsWhatItsSpecSays(t *testing.T) {
	t.Parallel()
	s := newSpace(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "login"}, StringData: map[string]string{"password": "hunter2"}}
	_, err := s.client.CoreV1().Secrets(s.name).Create(t.Context(), secret, metav1.CreateOptions{})
	require.NoError(t, err)
	s.run(1, func(spec *corev1.PodSpec) {
		c := &spec.Containers[0]
		c.Command = []string{"/usr/bin/server", "--linger=$(LINGER)"}
		c.Env = []corev1.EnvVar{
			{Name: "LINGER", Value: "1ms"},
			{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
			{Name: "PASSWORD", ValueFrom: secretKey("login", "password", false)},
			{Name: "MISSING", ValueFrom: secretKey("nowhere", "password", true)},
			{Name: "FILE", Value: "/etc/login/password"},
		}
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "login", MountPath: "/etc/login"})
		spec.Volumes = []corev1.Volume{{Name: "login", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "login"}}}}
		spec.InitContainers = []corev1.Container{{
			Name: "first", Image: "example.test/server:1", Args: []string{"--data=/mnt", "--once=$(WORD)"},
			Env:          []corev1.EnvVar{{Name: "WORD", Value: "prepared"}},
			VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/mnt"}},
		}}
	})
	p := s.ready("db-0")
	assert.Equal(t, "prepared\n", s.fetch(p, "data/once"), "the init container has run, on the same volume")
	assert.Equal(t, "Completed", p.Status.InitContainerStatuses[0].State.Terminated.Reason)
	assert.Contains(t, s.fetch(p, "args"), "--linger=1ms\n")
	for name, want := range map[string]string{
		"POD_NAME": "db-0", "HOSTNAME": "db-0", "POD_IP": p.Status.PodIP, "PASSWORD": "hunter2", "MISSING": "",
	} {
		assert.Equal(t, want, s.fetch(p, "env/"+name), name)
	}
	password, err := os.ReadFile(s.fetch(p, "env/FILE"))
	require.NoError(t, err)
	assert.Equal(t, "hunter2", string(password))

	config, err := clientcmd.BuildConfigFromFlags("", s.fetch(p, "env/KUBECONFIG"))
	require.NoError(t, err)
	assert.Equal(t, "system:serviceaccount:"+s.name+":default", whoAmI(t, config))
}

func secretKey(name, key string, optional bool) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: name}, Key: key, Optional: &optional,
	}}
}

func TestPodThatCannotRunSaysWhy(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*corev1.Container)
		want   string
	}{
		"foreign image":   {func(c *corev1.Container) { c.Image = "busybox:1" }, `no binary plays image "busybox:1"`},
		"foreign command": {func(c *corev1.Container) { c.Command = []string{"sh"} }, `command "sh" is not the binary of image "example.test/server:1"`},
		"missing secret":  {func(c *corev1.Container) { c.Env = []corev1.EnvVar{{Name: "A", ValueFrom: secretKey("x", "y", false)}} }, `secrets "x" not found`},
		"exec probe": {func(c *corev1.Container) {
			c.ReadinessProbe.ProbeHandler = corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}
		}, "unsupported probe of container server"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSpace(t)
			s.run(1, func(spec *corev1.PodSpec) { c.change(&spec.Containers[0]) })
			s.await("db-0", func(p *corev1.Pod) bool {
				return len(p.Status.ContainerStatuses) == 1 && strings.Contains(p.Status.ContainerStatuses[0].State.Waiting.Message, c.want)
			})
		})
	}
}
