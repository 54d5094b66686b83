package gateway

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

// Clients that stop halfway fill the lobby, however many there are, and do not keep
// those out who mean well.
func TestHalfOpenClientsGiveWay(t *testing.T) {
	const room = 32
	main := startProcess(t, roleMain, "x")
	g, count := startCounted(t, func(c *Config) {
		c.Logger, c.MaxUnauthenticated, c.HandshakeTimeout, c.LoginTimeout = nil, room, time.Hour, time.Hour
	})
	g.Serve("memgraph-0", main.addr, "x", 1)
	opening := bolt.Propose(bolt.Versions...).Append(nil)
	hello := append(bytes.Clone(opening), appendFlight(t, flight{bolt.Hello{Extra: map[string]any{"user_agent": "hostile/1"}}})...)
	for i := range 3 * room {
		_, err := dialGateway(t, g).Write([][]byte{nil, opening[:19], opening, hello}[i%4])
		require.NoError(t, err)
	}
	began := time.Now()
	c, err := signIn(t, g)
	require.NoError(t, err)
	t.Logf("logged in after %v, behind %d that did not go on", time.Since(began), 3*room)
	got, err := c.who()
	require.NoError(t, err)
	assert.Equal(t, "x", got)
	waitFor(t, "most of those before it to be gone", func() bool { // whose hello MAIN answers is outside meanwhile
		return count()["refused_total unauthenticated"] >= room && g.Status().Sessions <= 2*room
	})
}

// A crowd that comes at once waits, and nobody of it has to go.
func TestACrowdPassesThroughASmallLobby(t *testing.T) {
	main := startProcess(t, roleMain, "x")
	g, count := startCounted(t, func(c *Config) { c.Logger, c.MaxUnauthenticated = nil, 2 })
	g.Serve("memgraph-0", main.addr, "x", 1)
	var all sync.WaitGroup
	for range 100 {
		c := &client{conn: dialGateway(t, g)}
		all.Go(func() { assert.NoError(t, c.open()) })
	}
	all.Wait()
	assert.Zero(t, count()["refused_total unauthenticated"])
}

// What clients send and nobody takes is not collected: the bound is a buffer each,
// and what may be kept to run a transaction again.
func TestOversizeMessagesAreNotCollected(t *testing.T) {
	const clients, size, limit = 16, 4 << 20, 64 << 10
	s := startSuccession(t, func(c *Config) { c.Logger, c.RerunLimit = nil, limit })
	message := appendFlight(t, run("R "+string(bytes.Repeat([]byte("x"), size))))
	idle := make([]*modelClient, clients)
	for i := range idle {
		idle[i] = newModelClient(t, s.g)
		require.NoError(t, idle[i].conn.SetDeadline(time.Now().Add(time.Minute)))
	}
	s.g.Serve("nobody", nowhere, "", 2)
	before := heap()
	var all sync.WaitGroup
	for _, c := range idle {
		all.Go(func() {
			_, err := c.conn.Write(message)
			assert.NoError(t, err)
		})
	}
	waitFor(t, "all to be parked", func() bool { return s.g.Status().Waiting == clients })
	each := (heap() - before) / clients
	t.Logf("%d KiB for each client that sends %d MiB", each>>10, size>>20)
	assert.Less(t, each, int64(4*(bufferSize+limit)), "as buffers grow, some is garbage still")
	s.g.Serve("memgraph-1", s.next.addr, "next", 3)
	all.Wait()
	for _, c := range idle {
		assert.IsType(t, bolt.Success{}, c.receive())
	}
}

// heap is how much the process has allocated and still holds, in bytes.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestALoginThatIsTooLarge(t *testing.T) {
	s := startSuccession(t, nil)
	heard := s.old.count()
	conn := dialGateway(t, s.g)
	b := bolt.Propose(bolt.Version{Major: 5, Minor: 2}).Append(nil)
	_, err := conn.Write(append(b, appendFlight(t, flight{bolt.Hello{Extra: map[string]any{"x": string(make([]byte, 2*bufferSize))}}})...))
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, conn) // it may be reset, since it said more than was read
	assert.Equal(t, heard, s.old.count())
	waitFor(t, "the session to end", func() bool { return s.g.Status().Sessions == 1 })
}

// A client that asks for much and reads nothing holds up neither others nor a
// switch, and what it does not read is not collected.
func TestASlowReaderHoldsUpNobody(t *testing.T) {
	const rows = 500_000
	e := fixed(t, "FIXED", rows)
	main, next := startFixed(t, e), startFixed(t, fixed(t, "FIXED", 1))
	g := startGateway(t, func(c *Config) { c.Logger = nil })
	g.Serve("memgraph-0", main.addr, "x", 1)
	slow, other := dialFixed(t, g.Addr().String()), dialFixed(t, g.Addr().String())
	before := heap()
	_, err := slow.Write(e.request)
	require.NoError(t, err)
	stuck := int64(-1)
	waitFor(t, "it to be stuck", func() bool {
		was := stuck
		g.sessions.each(func(s *session) { stuck = max(stuck, s.toClient.Load()) })
		<-time.After(10 * time.Millisecond)
		return was == stuck && stuck > 0
	})
	assert.Less(t, heap()-before, int64(4*answerBufferSize))
	assert.Less(t, stuck, int64(len(e.answer)))
	began := time.Now()
	g.Serve("memgraph-1", next.addr, "x", 2)
	require.NoError(t, fixed(t, "FIXED", 1).swap(other, make([]byte, 1<<10)))
	assert.Less(t, time.Since(began), 500*time.Millisecond)
}

// Port scanners come and go, with and without a word, and leave nothing.
func TestPortScanners(t *testing.T) {
	g, count := startCounted(t, func(c *Config) { c.Logger = nil })
	words := []string{"", "\x00", "GET / HTTP/1.0\r\n\r\n", "SSH-2.0-x\r\n", "\x16\x03\x01", "\x60\x60", string(proxySignature), "PROXY TCP4"}
	for i := range 400 {
		c := dialGateway(t, g)
		_, err := io.WriteString(c, words[i%len(words)])
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	waitFor(t, "all to be gone", func() bool { return count()["accepted_total"] == 400 && g.Status().Sessions == 0 })
}

// Ten thousand clients that are logged in and idle: what each costs, how long a
// switch takes, and that the next MAIN does not feel it. With TLS each costs more. The
// half of them logs in after the first switch, so that 16,000 open files are enough.
func TestTenThousandIdleClients(t *testing.T) {
	const warm = 100 // of them, before the first measurement
	a := memgraphtest.NewAuthority(t)
	rules := &tls.Config{RootCAs: a.Pool, ServerName: memgraphtest.CertificateName}
	for _, c := range []struct {
		name    string
		clients int
		door    string
		rules   *tls.Config
		limit   float64 // KiB for each client
	}{
		{"plain", 10_000, "plain", nil, 24},
		{"TLS", 2000, filepath.Dir(a.CertFile), rules, 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			if slowed {
				c.clients /= 10
			}
			allowFiles(t, c.clients+c.clients/2+1000)
			e := fixed(t, "FIXED", 1)
			main, next := startFixed(t, e), startFixed(t, e)
			p := startAlone(t, c.door, main.addr)
			idleClients(t, p, c.rules, e, warm)
			before := p.rss(t)
			each := func(n int) float64 { return float64(p.rss(t)-before) / float64(n) / 1024 }
			conns := idleClients(t, p, c.rules, e, c.clients/2)
			connected := each(c.clients / 2)
			assert.Equal(t, 1, leave(t, p, main, next), "connections to it: nobody has logged in")
			idleClients(t, p, c.rules, e, c.clients/2-warm)
			all := each(c.clients - warm)
			began := time.Now()
			assert.Equal(t, 1, leave(t, p, next, main), "connections to it: nobody has logged in")
			took := time.Since(began)
			got := make([]byte, 1<<10)
			for _, conn := range conns[:100] {
				require.NoError(t, e.swap(conn, got))
			}
			assert.Equal(t, 101, main.open(), "whoever had something to do has")
			t.Logf("%d clients: %.1f KiB for each, %.1f while connected to MAIN; left within %v", c.clients, all, connected, took)
			if !slowed {
				assert.LessOrEqual(t, all, c.limit)
				assert.LessOrEqual(t, connected, c.limit)
				assert.Less(t, took, 2*time.Second)
			}
		})
	}
}

// leave has p go from one MAIN to the next, and returns how many connections that has
// then.
func leave(t testing.TB, p peer, main, next *process) int {
	t.Helper()
	verified := next.links.Load()
	p.serve(next.addr)
	waitFor(t, "the old MAIN to be left", func() bool { return main.open() == 0 })
	waitFor(t, "the next one to be verified", func() bool { return next.links.Load() > verified })
	return next.open()
}

// idleClients are logged in by several at the same time, and have asked once.
func idleClients(t testing.TB, p peer, rules *tls.Config, e exchanged, n int) []net.Conn {
	t.Helper()
	conns := make([]net.Conn, n)
	var next atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got := make([]byte, 1<<10)
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				c, err := net.Dial("tcp", p.addr)
				if !assert.NoError(t, err) {
					return
				}
				t.Cleanup(func() { _ = c.Close() })
				if rules != nil {
					c = tls.Client(c, rules)
				}
				conns[i] = c
				_, err = bolt.Open(c, bolt.Auth{}, "test/1")
				if !assert.NoError(t, err) || !assert.NoError(t, e.swap(c, got)) {
					return
				}
			}
		})
	}
	all.Wait()
	require.False(t, t.Failed())
	return conns
}

// allowFiles skips where the process may not open as many files; that limit is
// inherited by the processes that it starts.
func allowFiles(t testing.TB, n int) {
	t.Helper()
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Cur >= uint64(n) {
		return
	}
	limit.Cur, limit.Max = uint64(n), max(limit.Max, uint64(n))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Skipf("needs %d open files: %v", n, err)
	}
}
