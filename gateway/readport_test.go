package gateway

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

// library is a MAIN with two replicas, and a gateway with a port for reading.
type library struct {
	g        *Gateway
	main     *process
	replicas map[string]*oracle // by name
}

func startLibrary(t testing.TB, fallback ReadFallback) *library {
	t.Helper()
	w := &world{commits: map[string]int{}}
	l := &library{main: startProcess(t, roleMain, "main"), replicas: map[string]*oracle{}}
	told := map[string]string{}
	for _, name := range []string{"sync", "async"} {
		l.replicas[name] = startOracle(t, w, name, -1, "")
		l.replicas[name].set(func(p *process) { p.role = roleReplica })
		told[name] = l.replicas[name].addr
	}
	l.list("ready", "ready")
	l.g = startGateway(t, func(c *Config) {
		c.Read, c.VerifyInterval = Reading{Listen: "127.0.0.1:0", Fallback: fallback}, 20*time.Millisecond
	})
	l.g.Serve("memgraph-0", l.main.addr, "main", 1)
	l.g.Readers(told)
	return l
}

// list is what MAIN says of the status of its replicas.
func (l *library) list(sync, async string) {
	row := func(name, mode, status string) bolt.Message {
		return bolt.Record{Values: []any{name, mode, map[string]any{"memgraph": map[string]any{"status": status, "ts": int64(1), "behind": int64(0)}}}}
	}
	l.main.set(func(p *process) { p.replicas = []bolt.Message{row("sync", "sync", sync), row("async", "async", async)} })
}

// awaitReading waits until clients of the second port are at that replica.
func (l *library) awaitReading(t testing.TB, pod string) {
	t.Helper()
	waitFor(t, "reading from "+pod, func() bool {
		s := l.g.Status().Read
		return s.State == Serving && s.Pod == pod
	})
}

func TestWhoIsReadFrom(t *testing.T) {
	t.Run("asynchronous replicas before others", func(t *testing.T) {
		l := startLibrary(t, ReadFromMain)
		l.awaitReading(t, "async")
	})
	t.Run("none that is far behind", func(t *testing.T) {
		l := startLibrary(t, ReadFromMain)
		l.list("ready", "recovery")
		l.awaitReading(t, "sync")
		l.list("ready", "ready")
		for range 10 { // surveys
			<-time.After(20 * time.Millisecond)
			require.Equal(t, "sync", l.g.Status().Read.Pod, "whoever follows is kept")
		}
	})
	t.Run("MAIN where there is no other", func(t *testing.T) {
		l := startLibrary(t, ReadFromMain)
		l.list("invalid", "diverged")
		l.awaitReading(t, "memgraph-0")
		l.list("invalid", "replicating")
		l.awaitReading(t, "async")
	})
	t.Run("none whose process is no replica", func(t *testing.T) {
		l := startLibrary(t, ReadFromMain)
		l.awaitReading(t, "async")
		l.replicas["async"].set(func(p *process) { p.role = roleMain })
		l.awaitReading(t, "sync")
	})
	t.Run("none that the controller does not name", func(t *testing.T) {
		l := startLibrary(t, ReadFromMain)
		l.g.Readers(map[string]string{"sync": l.replicas["sync"].addr})
		l.awaitReading(t, "sync")
	})
	t.Run("nobody", func(t *testing.T) {
		l := startLibrary(t, ReadFromNobody)
		l.g.Readers(nil)
		waitFor(t, "nobody", func() bool { return l.g.Status().Read.State == Parked })
		l.g.read.cfg.HoldTimeout = 50 * time.Millisecond // no client has come yet
		_, err := signIn(t, l.g.read.Gateway)
		assert.ErrorContains(t, err, codeNoMain)
		assert.ErrorContains(t, err, "waited 50ms for a replica to read from")
	})
	t.Run("who was, while there is no MAIN", func(t *testing.T) {
		l := startLibrary(t, ReadFromMain)
		l.awaitReading(t, "async")
		l.main.kill()
		waitFor(t, "MAIN to be missed", func() bool { return l.g.Status().State == Verifying })
		c := newModelClient(t, l.g.read.Gateway)
		assert.Nil(t, c.fly(run("R")))
		l.replicas["async"].kill()
		assert.Nil(t, c.fly(run("R")))
		l.awaitReading(t, "sync")
	})
}

// What a replica that dies leaves unanswered can be run again: it has written
// nothing. That holds no longer once it has been named as MAIN.
func TestAReplicaThatDies(t *testing.T) {
	t.Run("at an idle client", func(t *testing.T) {
		l := startLibrary(t, ReadFromMain)
		l.awaitReading(t, "async")
		c := newModelClient(t, l.g.read.Gateway)
		require.Nil(t, c.fly(run("R")))
		l.replicas["async"].kill()
		assert.Nil(t, c.fly(run("R")))
		l.awaitReading(t, "sync")
	})
	for _, stage := range []stage{beforeApply, afterApply, halfAnswer} {
		for name, script := range map[string][]bolt.Message{
			"a read": run("R"), "a transaction": append(append(flight{begin}, run("R")...), commit),
		} {
			t.Run(fmt.Sprintf("in %s: %s", name, stage), func(t *testing.T) {
				l := startLibrary(t, ReadFromMain)
				l.awaitReading(t, "async")
				c := newModelClient(t, l.g.read.Gateway)
				o := l.replicas["async"]
				o.failing.Lock()
				o.at, o.stage = len(o.heard)+len(script)-1, stage
				o.failing.Unlock()
				failure := c.fly(script)
				if failure != nil { // the client has seen rows
					assert.Equal(t, codeMainChanged, failure.Code)
					assert.Equal(t, halfAnswer, stage)
					require.Nil(t, c.fly(flight{bolt.Reset{}}))
				}
				assert.Nil(t, c.fly(run("R")))
			})
		}
	}
	t.Run("after it was named as MAIN", func(t *testing.T) {
		l := startLibrary(t, ReadFromMain)
		l.awaitReading(t, "async")
		c, o := newModelClient(t, l.g.read.Gateway), l.replicas["async"]
		require.Nil(t, c.fly(flight{bolt.Run{Query: "R"}}))
		o.failing.Lock() // it hangs
		c.send(bolt.Pull{N: -1, QID: -1})
		waitFor(t, "it to be on its way", func() bool {
			sent := false
			l.g.read.sessions.each(func(s *session) { sent = s.toMain.Load() > int64(len(appendFlight(t, flight{bolt.Run{Query: "R"}}))) })
			return sent
		})
		l.g.Expect("memgraph-1", o.addr, "async", 2)
		o.resetAll()
		failure, isFailure := c.receive().(bolt.Failure)
		o.failing.Unlock()
		require.True(t, isFailure)
		assert.Equal(t, codeOutcomeUnknown, failure.Code)
	})
}

// Clients that read from MAIN could write there too: they are held with the others.
func TestReadersOfMainAreHeldAsOthersAre(t *testing.T) {
	l := startLibrary(t, ReadFromMain)
	l.g.Readers(nil)
	l.awaitReading(t, "memgraph-0")
	c, err := signIn(t, l.g.read.Gateway)
	require.NoError(t, err)
	l.g.Expect("memgraph-0", l.main.addr, "main", 1)
	require.Equal(t, Parked, l.g.Status().Read.State, "at once")
	asked := make(chan error, 1)
	go func() {
		_, err := c.who()
		asked <- err
	}()
	waitFor(t, "it to be parked", func() bool { return l.g.Status().Read.Waiting == 1 })
	l.g.Serve("memgraph-0", l.main.addr, "main", 1)
	assert.NoError(t, <-asked)
}

// What a client of the second port has under way at MAIN could be a write.
func TestReadersOfMainAreWaitedFor(t *testing.T) {
	l := startLibrary(t, ReadFromMain)
	l.g.Readers(nil)
	l.awaitReading(t, "memgraph-0")
	c := newModelClient(t, l.g.read.Gateway)
	l.main.mu.Lock() // it hangs
	request := appendFlight(t, run("R"))
	_, err := c.conn.Write(request)
	require.NoError(t, err)
	waitFor(t, "it to be on its way", func() bool {
		sent := int64(0)
		l.g.read.sessions.each(func(s *session) { sent = s.toMain.Load() })
		return sent >= int64(len(request))
	})
	l.g.Expect("memgraph-0", l.main.addr, "main", 1)
	hurried, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = l.g.Quiet(hurried)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	l.main.mu.Unlock()
	generation, err := l.g.Quiet(t.Context())
	require.NoError(t, err)
	assert.EqualValues(t, 1, generation)
}

func TestRoutingTableWithAPortForReading(t *testing.T) {
	l := startLibrary(t, ReadFromMain)
	l.awaitReading(t, "async")
	port := strconv.Itoa(l.g.ReadAddr().(*net.TCPAddr).Port)
	for name, c := range map[string]struct {
		g    *Gateway
		want map[string][]any
	}{
		"the first": {l.g, map[string][]any{"WRITE": {"db.example:7687"}, "READ": {"db.example:" + port}, "ROUTE": {"db.example:7687"}}},
		"its own":   {l.g.read.Gateway, map[string][]any{"WRITE": {}, "READ": {"db.example:7687"}, "ROUTE": {"db.example:7687"}}},
	} {
		assert.Equal(t, c.want, c.g.roles("db.example:7687"), name)
	}
}

// Of two real instances: reads go to the replica, which refuses writes itself; a
// driver that routes tells them apart by itself; when the roles change nobody who
// reads notices.
func TestReadingFromAReplica(t *testing.T) {
	p := startPair(t, func(c *Config) {
		c.Read, c.VerifyInterval = Reading{Listen: "127.0.0.1:0"}, 50*time.Millisecond
	}, func(c *memgraphtest.Config) {})
	p.g.Readers(map[string]string{"n0": p.nodes[0].Addr(), "n1": p.nodes[1].Addr()})
	reading := func(pod string) {
		waitFor(t, "reading from "+pod, func() bool {
			s := p.g.Status().Read
			return s.State == Serving && s.Pod == pod
		})
	}
	reading("n1")
	driver, err := neo4j.NewDriverWithContext("neo4j://"+p.g.Addr().String(), neo4j.NoAuth())
	require.NoError(t, err)
	defer func() { assert.NoError(t, driver.Close(t.Context())) }()
	query := func(q string, route neo4j.ExecuteQueryConfigurationOption) (int64, error) {
		res, err := neo4j.ExecuteQuery(t.Context(), driver, q, nil, neo4j.EagerResultTransformer, route)
		if err != nil {
			return 0, err
		}
		return res.Records[0].Values[0].(int64), nil
	}
	read := func() int64 {
		n, err := query("MATCH (n:W) RETURN count(n)", neo4j.ExecuteQueryWithReadersRouting())
		require.NoError(t, err)
		return n
	}
	for want := range int64(5) {
		assert.Equal(t, want, read())
		_, err := query("CREATE (n:W {key: 'k'}) RETURN 1", neo4j.ExecuteQueryWithWritersRouting())
		require.NoError(t, err)
	}
	_, err = query("CREATE (n:W {key: 'k'}) RETURN 1", neo4j.ExecuteQueryWithReadersRouting())
	assert.ErrorContains(t, err, "Write queries are forbidden on the replica instance")
	p.switchOver(10 * time.Millisecond)
	assert.EqualValues(t, 5, read())
	p.register()
	reading("n0")
	assert.EqualValues(t, 5, read())
}
