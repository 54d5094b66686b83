package kubelet

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clientgotesting "k8s.io/client-go/testing"

	"memgraph-controller/e2e/cluster/internal/process"
)

// host is an Agent that runs, with one node that reports at once. Its API is a
// fake, which deletes without grace and can be away.
type host struct {
	*testing.T
	client *fake.Clientset
	agent  *Agent
	away   atomic.Bool
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{T: t, client: fake.NewClientset()}
	h.client.PrependReactor("*", "*", func(clientgotesting.Action) (bool, runtime.Object, error) {
		return h.away.Load(), nil, errors.New("the API is away")
	})
	dir, processes := t.TempDir(), process.NewHost()
	for _, sub := range []string{"pods", "volumes", "logs"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, sub), 0o700))
	}
	h.agent = New(Config{
		Client: h.client, Host: processes, Dir: dir, Subnet: "127.0.0", Nodes: 1,
		Images: []Image{{Name: "sh", Path: "/bin/sh"}}, Log: slog.New(slog.DiscardHandler),
		Timing: Timing{
			Relist: time.Millisecond, Create: time.Millisecond, Report: time.Millisecond,
			CleanUp: time.Millisecond, BackOffCap: time.Millisecond,
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { assert.NoError(t, h.agent.Run(ctx)) })
	t.Cleanup(func() {
		cancel()
		processes.Close()
		running.Wait()
	})
	return h
}

// run creates a pod on the node that runs script, with each volume at the path
// of its name, and returns its process once there is one. No two have the same
// name: the fake knows pods by nothing else.
func (h *host) run(name, script string, volumes ...corev1.Volume) *process.Process {
	h.Helper()
	c := corev1.Container{Name: "c", Image: "sh", Args: []string{"-c", script}}
	for _, v := range volumes {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: v.Name, MountPath: "/" + v.Name})
	}
	_, err := h.client.CoreV1().Pods("ns").Create(h.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name + "-uid")},
		Spec: corev1.PodSpec{
			NodeName: "node-1", RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: new(int64(30)),
			Containers: []corev1.Container{c}, Volumes: volumes,
		},
	}, metav1.CreateOptions{})
	require.NoError(h, err)
	return h.process(name, 0)
}

// process waits until another process than the one with number before plays the
// pod.
func (h *host) process(name string, before int) (p *process.Process) {
	h.Helper()
	h.waitFor(func() (err error) {
		if p, err = h.agent.Process(name); err == nil && p.PID() == before {
			err = errors.New("it is the same process")
		}
		return err
	})
	return p
}

// delete removes the pod's object.
func (h *host) delete(name string) {
	h.Helper()
	require.NoError(h, h.client.CoreV1().Pods("ns").Delete(h.Context(), name, metav1.DeleteOptions{}))
}

// waitFor polls fn until it returns nil; 20 s are for a busy machine.
func (h *host) waitFor(fn func() error) {
	h.Helper()
	deadline := time.After(20 * time.Second)
	for err := fn(); err != nil; err = fn() {
		select {
		case <-deadline:
			require.NoError(h, err)
		case <-time.After(time.Millisecond):
		}
	}
}

func (h *host) restarts(name string) (int32, error) {
	p, err := h.client.CoreV1().Pods("ns").Get(h.Context(), name, metav1.GetOptions{})
	if err != nil || len(p.Status.ContainerStatuses) == 0 {
		return -1, errors.Join(err, errors.New("no status yet"))
	}
	return p.Status.ContainerStatuses[0].RestartCount, nil
}

func TestProcessesNeedNoAPI(t *testing.T) {
	h := newHost(t)
	first := h.run("db-0", "sleep 60")
	h.waitFor(func() error {
		_, err := h.restarts("db-0")
		return err
	})
	h.away.Store(true)
	require.NoError(t, first.Kill(t.Context()))
	second := h.process("db-0", first.PID())
	require.NoError(t, second.Kill(t.Context()))
	h.process("db-0", second.PID())
	h.away.Store(false)
	h.waitFor(func() error {
		n, err := h.restarts("db-0")
		if err == nil && n != 2 {
			err = errors.New("invariant 2: the status is not the newest")
		}
		return err
	})
}

func TestAddressIsHeldByTheProcess(t *testing.T) {
	h := newHost(t)
	p := h.run("db-0", "trap '' TERM; echo deaf; while :; do sleep 60; done")
	h.waitFor(func() error {
		log, err := os.ReadFile(h.agent.logFile("ns/db-0", "c"))
		if err == nil && len(log) == 0 {
			err = errors.New("it hears SIGTERM still")
		}
		return err
	})
	require.Equal(t, "127.0.0.10", h.ip("db-0"))
	h.delete("db-0")
	deleted := time.Now()
	h.run("db-1", "sleep 60")
	assert.False(t, p.HasEnded(), "invariant 3: it outlives its object")
	assert.Equal(t, "127.0.0.11", h.ip("db-1"), "invariant 3: the address is not free yet")
	<-p.Done()
	assert.GreaterOrEqual(t, time.Since(deleted), minGrace-100*time.Millisecond, "invariant 3: for the least grace")
	assert.Equal(t, 128+int(syscall.SIGKILL), p.ExitCode())
}

// ip is the pod's.
func (h *host) ip(name string) string {
	h.Helper()
	p, err := h.agent.find(name)
	require.NoError(h, err)
	return p.ip
}

func TestVolumeIsItsClaims(t *testing.T) {
	h := newHost(t)
	data := corev1.Volume{Name: "data", VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data"},
	}}
	claims := h.client.CoreV1().PersistentVolumeClaims("ns")
	claim := func(uid types.UID) string {
		_, err := claims.Create(t.Context(), &corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "data", UID: uid},
			Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		return claimDir(h.agent.volumes(), uid)
	}
	starts := func(dir string, want int) {
		h.waitFor(func() error {
			b, err := os.ReadFile(filepath.Join(dir, "starts"))
			if n := strings.Count(string(b), "\n"); err == nil && n != want {
				err = errors.New("invariant 4: the volume has seen " + string(b))
			}
			return err
		})
	}
	const script = "echo start >> /data/starts; exec sleep 60"
	first := claim("claim-01")
	h.run("db-0", script, data)
	starts(first, 1)
	h.delete("db-0")
	h.run("db-1", script, data)
	starts(first, 2)

	h.delete("db-1")
	require.NoError(t, claims.Delete(t.Context(), "data", metav1.DeleteOptions{}))
	h.waitFor(func() error {
		if _, err := os.Stat(first); !os.IsNotExist(err) {
			return errors.New("invariant 4: the volume outlives its claim")
		}
		return nil
	})
	second := claim("claim-02")
	h.run("db-2", script, data)
	starts(second, 1)
}
