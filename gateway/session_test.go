package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// counters are the values of g's counters, histograms by their count, by name
// and label without the prefix: "refused_total no_main".
func counters(t testing.TB, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()[len(prefix):]
			for _, l := range slices.DeleteFunc(m.GetLabel(), isPort) {
				name += " " + l.GetValue()
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

func isPort[L interface{ GetName() string }](label L) bool { return label.GetName() == "port" }

// startCounted is startGateway with metrics to look at.
func startCounted(t testing.TB, edit func(*Config)) (*Gateway, func() map[string]float64) {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	g := startGateway(t, func(c *Config) {
		c.Registerer = r
		if edit != nil {
			edit(c)
		}
	})
	return g, func() map[string]float64 { return counters(t, r) }
}

func TestOneSideMayEndBeforeTheOther(t *testing.T) {
	p := startProcess(t, "main", "x")
	g, count := startCounted(t, nil)
	g.Serve("memgraph-0", p.addr, "x", 1)
	sent := append([]byte("GET / "), bytes.Repeat([]byte("x"), 3<<20)...)
	c := dialGateway(t, g)
	_, err := c.Write(sent)
	require.NoError(t, err)
	require.NoError(t, c.CloseWrite())
	got, err := io.ReadAll(c)
	require.NoError(t, err)
	assert.True(t, bytes.Equal(sent, got), "%d bytes came back of %d", len(got), len(sent))
	waitFor(t, "the session to end", func() bool { return g.Status().Sessions == 0 })
	values := count()
	assert.EqualValues(t, len(sent), values["bytes_total to_main"])
	assert.EqualValues(t, len(sent), values["bytes_total to_client"])
	assert.EqualValues(t, 1, values["closed_total finished"])
}

func TestTheDriverIsRefusedWithACodeThatItRetries(t *testing.T) {
	p := startProcess(t, "replica", "x")
	g := startGateway(t, func(c *Config) { c.HoldTimeout = 50 * time.Millisecond })
	driver, err := neo4j.NewDriverWithContext("bolt://"+g.Addr().String(), neo4j.NoAuth())
	require.NoError(t, err)
	defer func() { assert.NoError(t, driver.Close(t.Context())) }()

	verify := func() *neo4j.Neo4jError {
		err := driver.VerifyConnectivity(t.Context())
		var refusal *neo4j.Neo4jError
		require.True(t, errors.As(err, &refusal), "got %v", err)
		assert.True(t, neo4j.IsRetryable(err), "invariant 6")
		assert.Equal(t, codeNoMain, refusal.Code)
		return refusal
	}
	assert.Equal(t, "waited 50ms for a MAIN to be named (generation 0); nothing was begun", verify().Msg)

	g.Serve("memgraph-0", p.addr, "x", 1)
	waitFor(t, "trouble", func() bool { return g.Status().Trouble != "" })
	assert.Equal(t, "waited 50ms for memgraph-0 at "+p.addr+" to answer as MAIN (generation 1): "+
		errNotMain.Error()+"; nothing was begun", verify().Msg)

	p.set(func(p *process) { p.role = "main" })
	waitForState(t, g, Serving)
	assert.NoError(t, driver.VerifyConnectivity(t.Context()))
}

func TestEveryVersionIsRefusedInItsOwnWay(t *testing.T) {
	g := startGateway(t, func(c *Config) { c.HoldTimeout = time.Millisecond })
	for name, c := range map[string]struct {
		offered, want bolt.Version
	}{
		"5.2":               {bolt.Version{Major: 5, Minor: 2}, bolt.Version{Major: 5, Minor: 2}},
		"4.4":               {bolt.Version{Major: 4, Minor: 4}, bolt.Version{Major: 4, Minor: 4}},
		"a version too new": {bolt.Version{Major: 6}, bolt.Version{}},
		"no version at all": {},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialGateway(t, g)
			_, err := conn.Write(bolt.Propose(c.offered).Append(nil))
			require.NoError(t, err)
			got, err := bolt.ReadVersion(conn)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
			if c.want == (bolt.Version{}) {
				_, err := conn.Read(make([]byte, 1))
				assert.ErrorIs(t, err, io.EOF)
				return
			}
			hello, err := bolt.AppendMessage(nil, bolt.Hello{})
			require.NoError(t, err)
			_, err = conn.Write(hello)
			require.NoError(t, err)
			payload, err := bolt.NewReader(conn, 0).ReadMessage()
			require.NoError(t, err)
			m, err := bolt.ParseMessage(payload)
			require.NoError(t, err)
			assert.Equal(t, codeNoMain, m.(bolt.Failure).Code)

			logon, err := bolt.AppendMessage(nil, bolt.Logon{})
			require.NoError(t, err)
			_, err = conn.Write(logon)
			require.NoError(t, err)
			require.NoError(t, conn.CloseWrite())
			_, err = io.ReadAll(conn)
			assert.NoError(t, err, "what comes late does not make it a reset")
		})
	}
}

func TestParkingAddsUp(t *testing.T) {
	p := startProcess(t, "main", "x")
	g, count := startCounted(t, func(c *Config) { c.HoldTimeout = 500 * time.Millisecond })
	_, err := signIn(t, g)
	require.ErrorContains(t, err, codeNoMain)

	gone, served := loginLater(t, g), loginLater(t, g)
	waitFor(t, "two parked sessions", func() bool { return g.Status().Waiting == 2 })
	leave := dialGateway(t, g)
	hello, err := bolt.AppendMessage(bolt.Propose(bolt.Versions...).Append(nil), bolt.Hello{})
	require.NoError(t, err)
	_, err = leave.Write(hello)
	require.NoError(t, err)
	waitFor(t, "three parked sessions", func() bool { return g.Status().Waiting == 3 })
	require.NoError(t, leave.Close())
	waitFor(t, "one to be gone", func() bool { return g.Status().Waiting == 2 })
	g.Serve("memgraph-0", p.addr, "x", 1)
	served.wait(t)
	gone.wait(t)

	waitFor(t, "all to be counted", func() bool { return g.Status().Sessions == 2 && g.Status().Relaying == 2 })
	values := count()
	assert.EqualValues(t, 4, values["parked_total"])
	assert.EqualValues(t, 2, values["parked_seconds served"])
	assert.EqualValues(t, 1, values["parked_seconds expired"])
	assert.EqualValues(t, 1, values["parked_seconds gone"])
	assert.EqualValues(t, 2, values["sessions relaying"])
	assert.EqualValues(t, 1, values["refused_total no_main"])
	assert.EqualValues(t, 1, values["closed_total left"])
	assert.EqualValues(t, 4, values["accepted_total"], "the sum of the last three")
}

func TestTooManyAreRefused(t *testing.T) {
	for name, edit := range map[string]func(*Config){
		"sessions":        func(c *Config) { c.MaxSessions = 2 },
		"parked sessions": func(c *Config) { c.MaxParked = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, "main", "x")
			g, count := startCounted(t, edit)
			first, second := loginLater(t, g), loginLater(t, g)
			waitFor(t, "two parked sessions", func() bool { return g.Status().Waiting == 2 })
			_, err := signIn(t, g)
			assert.ErrorContains(t, err, codeOverloaded, "invariant 5")
			g.Serve("memgraph-0", p.addr, "x", 1)
			first.wait(t)
			second.wait(t)
			waitFor(t, "the refusal to be counted", func() bool { return count()["refused_total overloaded"] == 1 })
		})
	}
}

func TestAFloodIsResetOnceTheRefusalsAreTooMany(t *testing.T) {
	g, count := startCounted(t, func(c *Config) { c.MaxSessions, c.MaxUnauthenticated = 1, 2*maxTurnedAway })
	for range 1 + maxTurnedAway {
		dialGateway(t, g)
	}
	waitFor(t, "all to be accepted", func() bool { return g.Status().Sessions == 1+maxTurnedAway })
	c, err := net.Dial("tcp", g.Addr().String())
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		require.NoError(t, c.Close())
	}
	assert.ErrorIs(t, err, syscall.ECONNRESET)
	assert.EqualValues(t, 1, count()["refused_total overloaded"])
}

func TestWhatIsNotAClient(t *testing.T) {
	p := startProcess(t, "main", "x")
	g, count := startCounted(t, func(c *Config) { c.HandshakeTimeout = 500 * time.Millisecond })
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitForState(t, g, Serving)
	for name, c := range map[string]struct {
		act    func(*net.TCPConn) error
		counts string
	}{
		"a scanner that leaves":      {func(c *net.TCPConn) error { return c.Close() }, "closed_total left"},
		"a client that says nothing": {func(c *net.TCPConn) error { return nil }, "refused_total handshake_timeout"},
		"a client that stops in its handshake": {func(c *net.TCPConn) error {
			_, err := c.Write(bolt.Propose(bolt.Versions...).Append(nil)[:19])
			return err
		}, "refused_total handshake_timeout"},
		"garbage": {func(c *net.TCPConn) error {
			_, err := c.Write([]byte("SSH-2.0-scan\r\n"))
			return err
		}, "refused_total unknown_protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			before := count()[c.counts]
			conn := dialGateway(t, g)
			require.NoError(t, c.act(conn))
			waitFor(t, c.counts, func() bool { return count()[c.counts] == before+1 })
			_, err := conn.Read(make([]byte, 1))
			assert.Error(t, err)
			assert.Equal(t, 1, p.open(), "MAIN has seen nothing of it")
		})
	}
}

func TestTLSAndWebSocketsAreCarriedAsBytes(t *testing.T) {
	p := startProcess(t, "main", "x")
	g := startGateway(t, nil)
	for name, opening := range map[string]string{
		"a short ClientHello": "\x16\x03\x01\x00\x05",
		"a long ClientHello":  "\x16\x03\x01\x02\x00" + string(bytes.Repeat([]byte{1}, 512)),
		"a WebSocket":         "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := dialGateway(t, g)
			_, err := c.Write([]byte(opening))
			require.NoError(t, err)
			waitFor(t, "a session", func() bool { return g.Status().Sessions == 1 })
			g.Serve("memgraph-0", p.addr, "x", 1)
			waitFor(t, "a relay", func() bool { return g.Status().Relaying == 1 })
			require.NoError(t, c.CloseWrite())
			got, err := io.ReadAll(c)
			require.NoError(t, err)
			assert.Equal(t, opening, string(got))
			waitFor(t, "the end of it", func() bool { return g.Status().Sessions == 0 })
		})
	}
}

// A client that does not read fills every buffer on its way; neither a switch
// nor another client may feel it: invariant 4.
func TestASlowClientHoldsUpNobody(t *testing.T) {
	p, next := startProcess(t, "main", "x"), startProcess(t, "main", "y")
	g := startGateway(t, nil)
	g.Serve("memgraph-0", p.addr, "x", 1)
	slow := dialGateway(t, g)
	_, err := slow.Write(append([]byte("GET "), bytes.Repeat([]byte("x"), 16<<20)...))
	require.NoError(t, err)
	require.NoError(t, slow.CloseWrite())
	waitFor(t, "bytes on their way back", func() bool {
		stuck := false
		g.sessions.each(func(s *session) { stuck = s.toClient.Load() > 0 })
		return stuck
	})
	began := time.Now()
	g.Serve("memgraph-1", next.addr, "y", 2)
	assert.Less(t, time.Since(began), 50*time.Millisecond)
	c, err := signIn(t, g)
	require.NoError(t, err)
	got, err := c.who()
	require.NoError(t, err)
	assert.Equal(t, "y", got)
	waitFor(t, "the slow one to be cut", func() bool { return g.Status().Sessions == 1 })
}

func TestAHandshakeThatEndsDuringTheDrain(t *testing.T) {
	p := startProcess(t, "main", "x")
	g, err := New(Config{Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitForState(t, g, Serving)
	c := &client{conn: dialGateway(t, g)}
	waitFor(t, "a session", func() bool { return g.Status().Sessions == 1 })
	stop()
	waitForState(t, g, Draining)
	assert.ErrorContains(t, c.open(), codeDraining)
	require.NoError(t, <-done)
}

func TestDraining(t *testing.T) {
	p := startProcess(t, "main", "x")
	r := prometheus.NewPedanticRegistry()
	g, err := New(Config{
		Listen: "127.0.0.1:0", Registerer: r, Timeouts: Timeouts{DrainTimeout: 200 * time.Millisecond, VerifyInterval: time.Hour},
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.Serve("memgraph-0", p.addr, "x", 1)
	staying, leaving := relayed(t, g), relayed(t, g)
	idle, err := signIn(t, g)
	require.NoError(t, err)
	g.gate.shut(1, errSilent)
	parked := loginLater(t, g)
	waitFor(t, "a parked session", func() bool { return g.Status().Waiting == 1 })

	began := time.Now()
	stop()
	<-parked.done
	assert.ErrorContains(t, parked.err, codeDraining)
	_, err = idle.conn.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "whoever is between two units is sent away at once")
	waitForState(t, g, Draining)
	waitFor(t, "the listener to close", func() bool {
		c, err := net.Dial("tcp", g.Addr().String())
		return err != nil || c.Close() != nil
	})
	assert.NoError(t, exchange(leaving, []byte("more"), make([]byte, 4)))
	require.NoError(t, leaving.Close())
	assertCut(t, staying)
	assert.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond)
	require.NoError(t, <-done)

	values := counters(t, r)
	assert.EqualValues(t, 1, values["refused_total draining"])
	assert.EqualValues(t, 1, values["closed_total finished"])
	assert.EqualValues(t, 1, values["closed_total dismissed"])
	assert.EqualValues(t, 1, values["cut_total drained"])
	assert.Zero(t, g.Status().Sessions)
}

// Clients that are idle are sent away one after the other, so that they do not all
// come back elsewhere at once; until its turn each is served.
func TestIdleClientsAreSentAwayOneAfterTheOther(t *testing.T) {
	const clients, drain = 20, 2 * time.Second
	p := startProcess(t, "main", "x")
	g, err := New(Config{Listen: "127.0.0.1:0", Timeouts: Timeouts{DrainTimeout: drain}})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.Serve("memgraph-0", p.addr, "x", 1)
	ends := make(chan time.Time, clients)
	var served atomic.Int64
	for range clients {
		c, err := signIn(t, g)
		require.NoError(t, err)
		go func() {
			<-ctx.Done()
			for {
				if _, err := c.who(); err != nil {
					ends <- time.Now()
					return
				}
				served.Add(1)
			}
		}()
	}
	began := time.Now()
	stop()
	require.NoError(t, <-done)
	assert.Less(t, time.Since(began), drain, "nobody had to be cut")
	var took []time.Duration
	for range clients {
		took = append(took, (<-ends).Sub(began))
	}
	slices.Sort(took)
	t.Logf("sent away after %v, %v … %v, having been served %d times", took[0], took[1], took[clients-1], served.Load())
	assert.Less(t, took[0], drain/8)
	assert.Greater(t, took[clients/2], drain/8)
	assert.Greater(t, took[clients-1], drain/4)
}
