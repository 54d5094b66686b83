package gateway

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

// instance is a stand-in for Memgraph that runs as a process, so that it can be
// killed and stopped as one.
type instance struct {
	t          testing.TB
	executable string
	data       string
	port       int // of Bolt
	replicates int // port of replication
	process    *exec.Cmd
}

// buildMemgraph returns the stand-in's executable.
func buildMemgraph(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "memgraph")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../memgraph/memgraphtest/memgraph").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return path
}

func startInstance(t testing.TB, executable string) *instance {
	i := &instance{
		t: t, executable: executable, data: filepath.Join(t.TempDir(), "data"),
		port: memgraphtest.FreePort(t, "127.0.0.1"), replicates: memgraphtest.FreePort(t, "127.0.0.1"),
	}
	i.start()
	t.Cleanup(i.kill)
	return i
}

func (i *instance) start() {
	i.process = exec.Command(i.executable, "--listen-host=127.0.0.1", fmt.Sprintf("--bolt-port=%d", i.port),
		"--data-directory="+i.data, "--storage-wal-enabled=true") // without which nothing is replicated
	require.NoError(i.t, i.process.Start())
	waitFor(i.t, "the process to listen", func() bool {
		c, err := net.Dial("tcp", i.addr())
		return err == nil && c.Close() == nil
	})
}

func (i *instance) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(i.port)) }

func (i *instance) signal(s syscall.Signal) { require.NoError(i.t, i.process.Process.Signal(s)) }

// kill ends the process, a stopped one too.
func (i *instance) kill() {
	_ = i.process.Process.Kill() // it may have ended
	_ = i.process.Wait()         // as it was told to
}

// replace is another process in the place of i, without any data.
func (i *instance) replace() {
	i.kill()
	require.NoError(i.t, os.RemoveAll(i.data))
	i.start()
}

// ask runs statements over a connection of their own.
func (i *instance) ask(statements ...string) (res bolt.Result) {
	i.t.Helper()
	conn, err := net.Dial("tcp", i.addr())
	require.NoError(i.t, err)
	defer conn.Close()
	require.NoError(i.t, conn.SetDeadline(time.Now().Add(20*time.Second)))
	c, err := bolt.Open(conn, bolt.Auth{}, "test/1")
	require.NoError(i.t, err)
	for _, s := range statements {
		res, err = c.Run(s)
		require.NoError(i.t, err, s)
	}
	return res
}

func (i *instance) runID() string { return i.ask(roleQuery).RunID() }

// protect makes replica, which is empty, the SYNC replica of i.
func (i *instance) protect(replica *instance) {
	replica.ask(fmt.Sprintf("SET REPLICATION ROLE TO REPLICA WITH PORT %d", replica.replicates))
	i.ask(fmt.Sprintf("REGISTER REPLICA other SYNC TO \"127.0.0.1:%d\"", replica.replicates))
	waitFor(i.t, "the replica to be ready", func() bool {
		res := i.ask(replicasQuery)
		return len(res.Rows) == 1 && !replaceable(res)
	})
}

// MAIN's process is killed or stopped, time and again. Each time its partner is
// expected, promoted, protected by another and served: nothing that was acknowledged
// is lost, even to the next time, and nobody is told to repeat what took effect.
func TestProcessesThatAreKilledAndStopped(t *testing.T) {
	rounds := 6
	if slowed {
		rounds = 2
	}
	executable := buildMemgraph(t)
	main, partner := startInstance(t, executable), startInstance(t, executable)
	main.protect(partner)
	g := startGateway(t, func(c *Config) { c.Logger = nil })
	g.Serve("memgraph-0", main.addr(), main.runID(), 1)
	l := startLoad(t, "bolt://"+g.Addr().String(), neo4j.NoAuth(), "managed", 4)
	l.mayFail = true
	for n := range int64(rounds) {
		l.await(40)
		next := partner.runID()
		main.signal([]syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP}[n%2])
		g.Expect("memgraph", partner.addr(), next, n+2)
		main, partner = partner, main
		main.ask("SET REPLICATION ROLE TO MAIN")
		waitForState(t, g, Holding)
		partner.replace()
		main.protect(partner)
		g.Serve("memgraph", main.addr(), next, n+2)
	}
	l.await(40)
	l.verdict(t.Name(), func() map[string]int {
		keys := map[string]int{}
		for _, row := range main.ask("MATCH (n:W) RETURN n.key").Rows {
			keys[row[0].(string)]++
		}
		return keys
	})
}

// From the word of another MAIN to the first answer that it gives to a client, which
// has to be verified, connected to and logged in at; and how much of that comes after
// it was verified.
func TestARedirectIsQuick(t *testing.T) {
	const rounds = 300
	executable := buildMemgraph(t)
	instances := []*instance{startInstance(t, executable), startInstance(t, executable)}
	ids := []string{instances[0].runID(), instances[1].runID()}
	g := startGateway(t, func(c *Config) { c.VerifyInterval, c.Logger = time.Hour, nil })
	g.Serve("memgraph-0", instances[0].addr(), ids[0], 1)
	c, err := signIn(t, g)
	require.NoError(t, err)
	var redirects, releases []time.Duration
	for n := range rounds {
		i := (n + 1) % 2
		began := time.Now()
		g.Serve("memgraph", instances[i].addr(), ids[i], int64(n+2))
		res, err := c.Run("RETURN 1")
		answered := time.Now()
		require.NoError(t, err)
		require.Equal(t, ids[i], res.RunID())
		redirects = append(redirects, answered.Sub(began))
		releases = append(releases, answered.Sub(g.Status().VerifiedAt))
	}
	report(t, "record to a client's answer from the new MAIN", redirects, 50*time.Millisecond)
	report(t, "MAIN verified to a parked client's answer", releases, 20*time.Millisecond)
	if !slowed {
		assert.LessOrEqual(t, redirects[rounds*99/100], 50*time.Millisecond, "p99 of redirects")
		assert.LessOrEqual(t, releases[rounds*99/100], 20*time.Millisecond, "p99 of releases")
	}
}
