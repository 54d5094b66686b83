package memgraphtest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Scripts and scenarios run on the stand-in, and where one of these is set on a
// real Memgraph as well, which must answer the same.
const (
	// realBinary is the path of an executable.
	realBinary = "MEMGRAPH_BINARY"
	// realAddrs is the Bolt address of an instance, of which the first counts if
	// there are several. What it holds is deleted. Scripts are played up to where
	// they need a process or a second instance, as replicas must be new.
	realAddrs = "MEMGRAPH_ADDRS"
)

// host is where one Memgraph runs: here, as a process, or elsewhere.
type host interface {
	// start begins a life with the data of the last one, after SIGKILL or SIGTERM.
	start(t *testing.T, flags ...string)
	signal(t *testing.T, s syscall.Signal)
	addr() string
	// wipe removes the data of a host that does not run.
	wipe(t *testing.T)
}

// ground is a kind of hosts.
type ground struct {
	host func(t *testing.T, version string, k int) host
	port func(t *testing.T, k int) int // of replication
	// exact says that the instances are new, so that identities of nodes and
	// timestamps are the recorded ones.
	exact bool
}

// onGrounds runs a test on the stand-in, and on real servers that are given.
func onGrounds(t *testing.T, test func(t *testing.T, g ground)) {
	free := func(t *testing.T, _ int) int { return FreePort(t, "127.0.0.1") }
	t.Run("stand-in", func(t *testing.T) { test(t, ground{newStandin, free, true}) })
	t.Run(realBinary, func(t *testing.T) {
		if os.Getenv(realBinary) == "" {
			t.Skip(realBinary + " is not set")
		}
		test(t, ground{newProcess, free, true})
	})
	t.Run(realAddrs, func(t *testing.T) {
		if os.Getenv(realAddrs) == "" {
			t.Skip(realAddrs + " is not set")
		}
		test(t, ground{newRemote, free, false})
	})
}

// standin is a host in this process. Its time-outs are shorter than Memgraph's.
type standin struct {
	cfg    Config
	server *Server
}

// standinScale makes 30 s of patience 1.2 s.
const standinScale = 0.04

func newStandin(t *testing.T, version string, _ int) host {
	return &standin{cfg: Config{
		Version: version, DataDirectory: filepath.Join(t.TempDir(), "data"), BoltPort: FreePort(t, "127.0.0.1"),
		SnapshotOnExit: true, CheckFrequency: 300 * time.Millisecond, TimeoutScale: standinScale,
	}}
}

func (h *standin) start(t *testing.T, flags ...string) {
	t.Helper()
	cfg := h.cfg
	cfg.ForgetRole = slices.Contains(flags, "--replication-restore-state-on-startup=false")
	cfg.ForgetData = slices.Contains(flags, "--data-recovery-on-startup=false")
	server, err := New(cfg)
	require.NoError(t, err)
	require.NoError(t, server.Start(t.Context()))
	t.Cleanup(server.Crash)
	h.server = server
}

func (h *standin) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(h.cfg.BoltPort)) }

func (h *standin) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	switch s {
	case syscall.SIGKILL:
		h.server.Crash()
	case syscall.SIGTERM:
		h.server.Terminate()
	case syscall.SIGSTOP:
		require.NoError(t, h.server.SetNetwork(Hang))
	case syscall.SIGCONT:
		require.NoError(t, h.server.SetNetwork(Open))
	}
}

func (h *standin) wipe(t *testing.T) {
	t.Helper()
	require.NoError(t, h.server.Wipe())
}

// process is a Memgraph of which we have the executable.
type process struct {
	dir  string
	args []string
	port int
	cmd  *exec.Cmd
}

func newProcess(t *testing.T, version string, _ int) host {
	dir, port := t.TempDir(), FreePort(t, "127.0.0.1")
	p := &process{dir: filepath.Join(dir, "data"), port: port, args: []string{
		"--bolt-address=127.0.0.1", fmt.Sprintf("--bolt-port=%d", port), "--data-directory=" + filepath.Join(dir, "data"),
		"--storage-wal-enabled=true", "--storage-snapshot-interval-sec=300", "--storage-snapshot-on-exit=true", "--telemetry-enabled=false",
		fmt.Sprintf("--monitoring-port=%d", FreePort(t, "127.0.0.1")), fmt.Sprintf("--metrics-port=%d", FreePort(t, "127.0.0.1")),
	}}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.signal(t, syscall.SIGKILL)
		}
	})
	return p
}

func (p *process) start(t *testing.T, flags ...string) {
	t.Helper()
	p.cmd = exec.Command(os.Getenv(realBinary), append(slices.Clone(p.args), flags...)...)
	require.NoError(t, p.cmd.Start())
	waitFor(t, "the process to serve", func() bool { return !refused(p.addr()) })
}

func (p *process) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port)) }

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	err := p.cmd.Process.Signal(s)
	if s == syscall.SIGKILL || s == syscall.SIGTERM {
		_ = p.cmd.Wait() // its state says how it ended
		p.cmd = nil
		return
	}
	require.NoError(t, err)
	if s == syscall.SIGSTOP {
		waitFor(t, "all threads to stop", func() bool { return stopped(p.cmd.Process.Pid) })
	}
}

// stopped reports whether no thread of a process runs: a signal takes a while to
// get to all of them.
func stopped(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	return err == nil && !slices.ContainsFunc(threads, func(path string) bool {
		stat, err := os.ReadFile(path)
		return err == nil && !bytes.Contains(stat, []byte(") T "))
	})
}

func (p *process) wipe(t *testing.T) {
	t.Helper()
	require.NoError(t, os.RemoveAll(p.dir))
}

// remote is an instance that somebody else runs: it is emptied, and left alone
// otherwise.
type remote struct{ at string }

// turn lets one test at a time have the remote instance.
var turn sync.Mutex

func newRemote(t *testing.T, version string, k int) host {
	if k > 0 {
		t.Skip("what has data of its own cannot be a replica: " + needsProcess)
	}
	first, _, _ := strings.Cut(os.Getenv(realAddrs), ",")
	return &remote{first}
}

// needsProcess is why the rest of a scenario is not played on a remote instance.
const needsProcess = "it needs a process of its own"

func (r *remote) start(t *testing.T, flags ...string) {
	t.Helper()
	if len(flags) > 0 {
		t.Skip(needsProcess)
	}
	turn.Lock()
	t.Cleanup(turn.Unlock)
	w := loginAt(t, r.at, v52)
	w.statement("SET REPLICATION ROLE TO MAIN") // fails on a MAIN
	for _, row := range w.statement("SHOW REPLICAS").rows {
		require.Nil(t, w.statement(fmt.Sprintf("DROP REPLICA `%s`", row[0])).failure)
	}
	require.Nil(t, w.statement("MATCH (n) DETACH DELETE n").failure)
}

func (r *remote) addr() string { return r.at }

func (r *remote) signal(t *testing.T, _ syscall.Signal) { t.Skip(needsProcess) }

func (r *remote) wipe(t *testing.T) { t.Skip(needsProcess) }

// versionOf is the version of a ground, "" where it is for the caller to choose.
func (g ground) versionOf(t *testing.T) string {
	t.Helper()
	h := g.host(t, DefaultVersion, 0)
	switch h.(type) {
	case *standin:
		return ""
	case *process:
		h.start(t)
	}
	row := loginAt(t, h.addr(), v52).statement("SHOW VERSION").rows[0]
	return row[0].(string)
}

// peer is a host with a session.
type peer struct {
	t    *testing.T
	host host
	name string
	port int // of replication
	wire *wire
}

func (g ground) newPeer(t *testing.T, version string, k int) *peer {
	t.Helper()
	return &peer{t: t, host: g.host(t, version, k), name: fmt.Sprintf("n%d", k+1), port: g.port(t, k)}
}

// session is the one that is open, or a new one.
func (p *peer) session() *wire {
	p.t.Helper()
	if p.wire == nil {
		p.wire = loginAt(p.t, p.host.addr(), v52)
	}
	return p.wire
}

// try asks on the session that is open; one that breaks is left.
func (p *peer) try(query string) (answered, error) {
	p.t.Helper()
	a, err := p.session().try(query)
	if err != nil {
		p.wire = nil
	}
	return a, err
}

// end is SIGKILL or SIGTERM.
func (p *peer) end(s syscall.Signal) {
	p.t.Helper()
	p.host.signal(p.t, s)
	p.wire = nil
}
