package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"memgraph-controller/memgraph/memgraphtest"
)

// The test's own binary is the process when this is set.
const asProcess = "MEMGRAPHTEST_AS_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) != "" {
		go func() { // ends with the tests, however they end
			_, _ = io.Copy(io.Discard, os.Stdin)
			os.Exit(3)
		}()
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// process is a stand-in in a process of its own.
type process struct {
	t       *testing.T
	dir     string
	args    []string
	port    int // of Bolt
	ship    int // of replication
	cmd     *exec.Cmd
	stderr  *output
	control *memgraphtest.Control
}

// output collects what a process prints.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start launches a process and waits until it serves.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "memgraph") // short enough for a socket's path
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &process{t: t, dir: dir, port: memgraphtest.FreePort(t, "127.0.0.1"), ship: memgraphtest.FreePort(t, "127.0.0.1")}
	socket := filepath.Join(dir, "control")
	p.args = append([]string{"--data-directory", filepath.Join(dir, "data"), "--bolt_port=" + strconv.Itoa(p.port),
		"--storage-wal-enabled=true", "--control-socket=" + socket, "--password-encryption-algorithm=sha256-multiple"}, args...)
	p.control = memgraphtest.NewControl(socket)
	t.Cleanup(p.control.Close)
	t.Cleanup(func() {
		if p.cmd != nil {
			p.kill()
		}
	})
	p.launch()
	return p
}

func (p *process) launch() {
	p.t.Helper()
	self, err := os.Executable()
	require.NoError(p.t, err)
	p.stderr = &output{}
	p.cmd = exec.Command(self, p.args...)
	p.cmd.Env = append(os.Environ(), asProcess+"=1", "MEMGRAPH_USER=u", "MEMGRAPH_PASSWORD=secret")
	p.cmd.Stderr = p.stderr
	_, err = p.cmd.StdinPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Start())
	p.waitFor("the process to serve", func() bool {
		state, err := p.control.State(p.t.Context())
		return err == nil && state.Running
	})
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	_ = p.cmd.Wait()
	p.cmd = nil
}

// stop is SIGSTOP; the signal takes a while to reach all threads.
func (p *process) stop() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGSTOP))
	p.waitFor("all threads to stop", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
		require.NoError(p.t, err)
		return !slices.ContainsFunc(threads, func(path string) bool {
			stat, err := os.ReadFile(path)
			return err == nil && !bytes.Contains(stat, []byte(") T "))
		})
	})
}

func (p *process) waitFor(what string, f func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !f() {
		require.True(p.t, time.Now().Before(deadline), "waited in vain: %s\n%s", what, p.stderr)
		<-time.After(5 * time.Millisecond)
	}
}

// run sends one statement on a connection of its own.
func (p *process) run(query string) ([][]any, error) {
	ctx := context.WithoutCancel(p.t.Context())
	driver, err := neo4j.NewDriverWithContext(fmt.Sprintf("bolt://127.0.0.1:%d", p.port), neo4j.BasicAuth("u", "secret", ""),
		func(c *config.Config) { c.SocketConnectTimeout = 10 * time.Second })
	require.NoError(p.t, err)
	defer driver.Close(ctx)
	session := driver.NewSession(ctx, neo4j.SessionConfig{})
	defer session.Close(ctx)
	result, err := session.Run(ctx, query, nil)
	if err != nil {
		return nil, err
	}
	records, err := result.Collect(ctx)
	rows := [][]any{}
	for _, r := range records {
		rows = append(rows, r.Values)
	}
	return rows, err
}

func (p *process) must(query string) [][]any {
	p.t.Helper()
	rows, err := p.run(query)
	require.NoError(p.t, err, query)
	return rows
}

func (p *process) dump() string {
	p.t.Helper()
	dump, err := p.control.Dump(p.t.Context())
	require.NoError(p.t, err)
	return dump
}

// join registers r.
func (p *process) join(r *process, mode string) {
	p.t.Helper()
	r.must(fmt.Sprintf("SET REPLICATION ROLE TO REPLICA WITH PORT %d", r.ship))
	p.must(fmt.Sprintf(`REGISTER REPLICA r %s TO "127.0.0.1:%d"`, mode, r.ship))
	p.awaitStatus("ready")
}

func (p *process) awaitStatus(status string) {
	p.t.Helper()
	p.waitFor("the replica to be "+status, func() bool {
		state, err := p.control.State(p.t.Context())
		return err == nil && len(state.Replicas) == 1 && state.Replicas[0].Status == status
	})
}

func TestTwoProcesses(t *testing.T) {
	main, replica := start(t), start(t)
	main.join(replica, "SYNC")
	main.must("CREATE (:A)")
	assert.Equal(t, main.dump(), replica.dump())
	counts, err := main.control.Counts(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(1), counts.Statements["REGISTER REPLICA"])

	replica.kill()
	_, err = main.run("CREATE (:B)")
	assert.ErrorContains(t, err, "RPC communication error")
	replica.launch()
	main.awaitStatus("ready")
	main.must("CREATE (:C)")
	assert.Equal(t, main.dump(), replica.dump())

	main.kill()
	replica.must("SET REPLICATION ROLE TO MAIN")
	replica.must("CREATE (:D)")
	main.launch()
	assert.Equal(t, [][]any{{int64(3)}}, main.must("MATCH (n) RETURN count(n)"), "kill -9 keeps what was acknowledged")
}

func TestStoppedProcess(t *testing.T) {
	main, replica := start(t), start(t)
	main.join(replica, "STRICT_SYNC")
	replica.stop()
	done := make(chan error, 1)
	go func() {
		_, err := main.run("CREATE (:N)")
		done <- err
	}()
	main.awaitStatus("replicating")
	require.NoError(t, replica.cmd.Process.Signal(syscall.SIGKILL))
	assert.ErrorContains(t, <-done, "Transaction was aborted on all instances.")
}

func TestFaultsOverTheSocket(t *testing.T) {
	p := start(t)
	ctx := t.Context()
	require.NoError(t, p.control.SetNetwork(ctx, memgraphtest.Refuse))
	_, err := p.run("RETURN 1")
	assert.ErrorContains(t, err, "refused")
	require.NoError(t, p.control.SetNetwork(ctx, memgraphtest.Open))
	p.must("CREATE (:N)")
	assert.ErrorContains(t, p.control.SetNetwork(ctx, "slow"), `network mode "slow": wanted one of`)

	require.NoError(t, p.control.SetFaults(ctx, memgraphtest.Faults{FullDisk: true, RecoveryTime: time.Millisecond}))
	for range 2 { // they outlive the process
		_, err = p.run("CREATE (:N)")
		assert.Error(t, err)
		require.Error(t, p.cmd.Wait())
		p.launch()
	}
	require.NoError(t, p.control.SetFaults(ctx, memgraphtest.Faults{}))

	require.NoError(t, p.control.CrashAt(ctx, memgraphtest.BeforeShipping))
	_, err = p.run("CREATE (:N)")
	assert.Error(t, err)
	require.Error(t, p.cmd.Wait())
	assert.Equal(t, syscall.SIGKILL, p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	p.launch()
	assert.Equal(t, [][]any{{int64(2)}}, p.must("MATCH (n) RETURN count(n)"))
}

func TestSIGTERM(t *testing.T) {
	p := start(t, "--storage-snapshot-on-exit", "--memgraph-version=3.7.2")
	p.must("CREATE (:N)")
	assert.Equal(t, [][]any{{"3.7.2"}}, p.must("SHOW VERSION"))
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGTERM))
	assert.NoError(t, p.cmd.Wait(), "status 0")
	assert.FileExists(t, filepath.Join(p.dir, "data", "snapshots", "newest"))
	p.launch()
	assert.Equal(t, [][]any{{int64(1)}}, p.must("MATCH (n) RETURN count(n)"))
	assert.Contains(t, p.stderr.String(), "You are running")
}

func TestFlags(t *testing.T) {
	o, err := parse([]string{"--bolt_port", "1", "--data-directory=d", "--storage_wal_enabled=true", "--log-level=TRACE",
		"--replication-replica-check-frequency-sec=0", "--data-recovery-on-startup=false", "--telemetry-enabled", "--also-log-to-stderr=true"})
	require.NoError(t, err)
	assert.Contains(t, o.Flags, memgraphtest.Flag{Name: "log_level", Default: "WARNING", Value: "TRACE"})
	assert.Contains(t, o.Flags, memgraphtest.Flag{Name: "telemetry_enabled", Default: "false", Value: "true"})
	assert.Len(t, o.Flags, 99)
	o.Flags = nil
	assert.Equal(t, options{Config: memgraphtest.Config{
		Version: memgraphtest.DefaultVersion, Host: "127.0.0.1", DataDirectory: "d", BoltPort: 1, CheckFrequency: -1,
		SnapshotInterval: 5 * time.Minute, ForgetData: true, LoginTime: 236 * time.Millisecond, SessionInactivity: 30 * time.Minute,
		TimeoutScale: 1,
	}}, o)
	for line, want := range map[string]string{
		"--bolt-pport=1":                        "unknown command line flag --bolt-pport",
		"bolt-port=1":                           `"bolt-port=1" is not a flag`,
		"--bolt-port":                           "flag --bolt-port lacks its value",
		"--bolt-port=x":                         "flag --bolt-port: ",
		"--storage-wal-enabled=perhaps":         "flag --storage-wal-enabled: ",
		"--password-encryption-algorithm=rot13": `algorithm "rot13" is not known`,
		"--timeout-scale=slow":                  "flag --timeout-scale: ",
	} {
		_, err := parse([]string{line})
		assert.ErrorContains(t, err, want, line)
	}
	_, err = parse([]string{"--storage-wal-enabled=true", "--storage-snapshot-interval-sec=0"})
	assert.ErrorContains(t, err, "needs --storage-snapshot-interval-sec")
}
