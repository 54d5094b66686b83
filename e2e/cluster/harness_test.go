package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// asHarness in the environment makes this test binary start a cluster with a
// pod, print what it is, and wait for its end. The value is the directory of
// the server's binary.
const asHarness = "CLUSTER_TEST_HARNESS"

// beginning is what a harness prints.
type beginning struct {
	Dir    string
	Subnet string
	Pod    int
}

func beHarness(ctx context.Context) {
	b, stop, err := begin(ctx, os.Getenv(asHarness))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(b); err != nil {
		os.Exit(1)
	}
	<-ctx.Done()
	if err := stop(); err != nil {
		os.Exit(1)
	}
}

func begin(ctx context.Context, bin string) (beginning, func() error, error) {
	c, err := Start(ctx, Options{Images: []Image{serverImage(bin)}})
	if err != nil {
		return beginning{}, nil, err
	}
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		return beginning{}, nil, err
	}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "lone"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "server", Image: "example.test/server", Args: []string{"--data=."}}}},
	}
	if _, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		return beginning{}, nil, err
	}
	b := beginning{Dir: c.lease.dir, Subnet: c.lease.subnet}
	for b.Pod == 0 && ctx.Err() == nil {
		if b.Pod, _, err = c.Process("lone"); err != nil {
			<-time.After(time.Millisecond)
		}
	}
	return b, c.Stop, ctx.Err()
}

// ownCache has what follows, also Start in this process, keep its runs apart
// from those that others may have on this machine. The programs are shared.
func ownCache(t *testing.T) string {
	t.Helper()
	common, err := cacheDir()
	require.NoError(t, err)
	own := t.TempDir()
	require.NoError(t, os.Symlink(filepath.Join(common, "bin"), filepath.Join(own, "bin")))
	t.Setenv(cacheVariable, own)
	return own
}

// startHarness returns another process that runs a cluster beside the shared
// one.
func startHarness(t *testing.T) (*exec.Cmd, beginning) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asHarness+"="+filepath.Dir(sharedImage.Path))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended unless the test failed
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	var b beginning
	require.NoError(t, json.Unmarshal([]byte(line), &b), line)
	return cmd, b
}

func TestKilledHarnessLeavesNothing(t *testing.T) {
	cache := ownCache(t)
	harness, b := startHarness(t)
	assert.NotEqual(t, shared.lease.subnet, b.Subnet, "invariant 1")
	pids := children(t, harness.Process.Pid)
	assert.Len(t, pids, 4, "etcd, API server, controllers, and the pod's process")
	assert.Contains(t, pids, b.Pod)

	require.NoError(t, harness.Process.Kill())
	_ = harness.Wait()
	waitFor(t, func() bool { return !slices.ContainsFunc(pids, isRunning) })
	require.DirExists(t, filepath.Join(b.Dir, "etcd"))
	next, err := acquire(cache)
	require.NoError(t, err)
	defer next.release()
	assert.NoDirExists(t, filepath.Join(b.Dir, "etcd"), "invariant 2")
}

func TestInterruptedHarnessStops(t *testing.T) {
	ownCache(t)
	harness, b := startHarness(t)
	require.NoError(t, harness.Process.Signal(os.Interrupt))
	require.NoError(t, harness.Wait())
	assert.False(t, isRunning(b.Pod))
	assert.NoDirExists(t, b.Dir)
}

func TestStartThatIsCalledOffLeavesNothing(t *testing.T) {
	cache := ownCache(t)
	before := children(t, os.Getpid())
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, Options{})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.Equal(t, before, children(t, os.Getpid()))
	left, err := filepath.Glob(filepath.Join(cache, "runs", "*", "*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestLeasesDoNotCollide(t *testing.T) {
	one, err := acquire(t.TempDir())
	require.NoError(t, err)
	defer one.release()
	cache := t.TempDir()
	two, err := acquire(cache)
	require.NoError(t, err)
	assert.NotEqual(t, one.subnet, two.subnet, "whatever the cache directories")
	defer two.release()
	three, err := acquire(cache)
	require.NoError(t, err)
	defer three.release()
	assert.NotEqual(t, two.subnet, three.subnet)
	assert.DirExists(t, two.dir, "nobody clears what is held")
}

// children are the processes whose parent is pid.
func children(t *testing.T, pid int) []int {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	require.NoError(t, err)
	var out []int
	for _, path := range stats {
		if s := stat(path); len(s) > 1 && s[1] == strconv.Itoa(pid) {
			child, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			require.NoError(t, err)
			out = append(out, child)
		}
	}
	return out
}

// isRunning says whether pid is a process that has not ended.
func isRunning(pid int) bool {
	s := stat(fmt.Sprintf("/proc/%d/stat", pid))
	return len(s) > 0 && s[0] != "Z"
}

// stat is state, parent and the rest of a process's line in /proc.
func stat(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
}
