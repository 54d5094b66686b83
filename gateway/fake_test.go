package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"memgraph-controller/memgraph/bolt"
)

func TestMain(m *testing.M) {
	if main := os.Getenv(standAlone); main != "" {
		if err := runAlone(main); err != nil {
			panic(err)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// nowhere is an address that refuses connections: a MAIN there keeps the gate
// shut.
const nowhere = "127.0.0.1:1"

// whoQuery is answered with the run_id of the process that it reached.
const whoQuery = "WHO"

// process is a Memgraph as far as the gateway can tell: it logs everybody in
// and answers its role. What opens like TLS is echoed, and what opens like HTTP
// gets everything back once it has ended.
type process struct {
	addr     string
	listener net.Listener
	running  sync.WaitGroup
	links    atomic.Int64 // control links that have logged in, ever

	logins                chan struct{} // if set, what each LOGON of an oracle waits for
	loggingIn, mostLogins atomic.Int64

	mu       sync.Mutex
	role     string
	runID    string
	replicas []bolt.Message // what SHOW REPLICAS lists
	password string         // of any user; none if empty
	refuses  string         // user agent whose login fails
	held     chan struct{}  // the role is answered once it is closed
	deaf     *deafness
	conns    map[net.Conn]bool

	// converse, if set, leads what follows the handshake; set it before clients come.
	converse func(net.Conn, *bolt.Reader) error
}

// deafness of a process that has stopped to accept.
type deafness struct{ began, over chan struct{} }

func startProcess(t testing.TB, role, runID string) *process {
	t.Helper()
	p := &process{role: role, runID: runID, conns: map[net.Conn]bool{}}
	p.listen(t, "127.0.0.1:0")
	t.Cleanup(p.kill)
	return p
}

// listen starts the process again on its address, or for the first time.
func (p *process) listen(t testing.TB, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	p.listener, p.addr = l, l.Addr().String()
	p.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.hold(c)
			p.running.Go(func() {
				defer p.drop(c)
				_ = p.serve(c)
			})
		}
	})
}

// hold takes c as one of the process's connections, unless that is deaf.
func (p *process) hold(c net.Conn) {
	p.mu.Lock()
	p.conns[c] = true
	deaf := p.deaf
	p.mu.Unlock()
	if deaf != nil {
		close(deaf.began)
		<-deaf.over
	}
}

func (p *process) drop(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
	_ = c.Close()
}

func (p *process) set(change func(*process)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

// kill ends the process as SIGKILL would: its connections are reset.
func (p *process) kill() {
	_ = p.listener.Close()
	p.set(func(p *process) {
		if p.deaf != nil {
			close(p.deaf.over)
			p.deaf = nil
		}
	})
	p.resetAll()
	p.running.Wait()
}

func (p *process) resetAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		reset(newSocket(c.(*net.TCPConn)))
	}
}

func (p *process) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns)
}

func (p *process) serve(c net.Conn) error {
	var first [4]byte
	if _, err := io.ReadFull(c, first[:]); err != nil {
		return err
	}
	if first[0] == 0x16 {
		_, err := io.Copy(c, io.MultiReader(bytes.NewReader(first[:]), c))
		return err
	}
	if first != bolt.Magic {
		sent, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		_, err = c.Write(append(first[:], sent...))
		return err
	}
	h, err := bolt.ReadHandshake(io.MultiReader(bytes.NewReader(first[:]), c))
	if err != nil {
		return err
	}
	v, _ := h.Choose(bolt.Versions)
	if _, err := c.Write(v.Append(nil)); err != nil {
		return err
	}
	r, query := bolt.NewReader(c, 0), ""
	if p.converse != nil {
		return p.converse(c, r)
	}
	for {
		payload, err := r.ReadMessage()
		if err != nil {
			return err
		}
		m, err := bolt.ParseMessage(payload)
		if err != nil {
			return err
		}
		if run, ok := m.(bolt.Run); ok {
			query = run.Query
		}
		if err := p.reply(c, m, query); err != nil {
			return err
		}
	}
}

var unauthenticated = bolt.Failure{Code: "Memgraph.ClientError.Security.Unauthenticated", Message: "Authentication failure"}

func (p *process) reply(c net.Conn, m bolt.Message, query string) error {
	p.mu.Lock()
	role, runID, held, password, refuses, replicas := p.role, p.runID, p.held, p.password, p.refuses, p.replicas
	p.mu.Unlock()
	answers := []bolt.Message{bolt.Success{}}
	switch m := m.(type) {
	case bolt.Goodbye:
		return io.EOF
	case bolt.Hello:
		if m.Extra["user_agent"] == userAgent {
			p.links.Add(1)
		}
		if m.Extra["user_agent"] == refuses {
			answers = []bolt.Message{unauthenticated}
			break
		}
		answers = []bolt.Message{bolt.Success{Meta: map[string]any{"server": "Neo4j/v5.11.0 compatible", "connection_id": "bolt-1"}}}
	case bolt.Logon:
		if password != "" && m.Auth["credentials"] != password {
			answers = []bolt.Message{unauthenticated}
		}
	case bolt.Run:
		fields := []any{"answer"}
		if query == replicasQuery {
			fields = []any{"name", "sync_mode", "data_info"}
		}
		answers = []bolt.Message{bolt.Success{Meta: map[string]any{"fields": fields}}}
	case bolt.Pull:
		value := any(runID)
		if query == roleQuery {
			value = role
			if held != nil {
				<-held
			}
		}
		answers = []bolt.Message{bolt.Record{Values: []any{value}}}
		if query == replicasQuery {
			answers = slices.Clone(replicas)
		}
		answers = append(answers, bolt.Success{Meta: map[string]any{"run_id": runID, "has_more": false}})
	}
	var b []byte
	for _, a := range answers {
		var err error
		if b, err = bolt.AppendMessage(b, a); err != nil {
			return err
		}
	}
	_, err := c.Write(b)
	return err
}

// startGateway runs a gateway until the test ends; edit may change its config.
func startGateway(t testing.TB, edit func(*Config)) *Gateway {
	t.Helper()
	cfg := Config{Listen: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), Timeouts: Timeouts{DrainTimeout: time.Millisecond}}
	if edit != nil {
		edit(&cfg)
	}
	g, err := New(cfg)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return g
}

func waitFor(t testing.TB, what string, fn func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !fn(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			require.FailNow(t, "waited in vain", "for %s", what)
		}
	}
}

func waitForState(t testing.TB, g *Gateway, s State) {
	t.Helper()
	waitFor(t, string(s), func() bool { return g.Status().State == s })
}

// client is a Bolt client of the gateway's.
type client struct {
	*bolt.Client
	conn *net.TCPConn
}

func dialGateway(t testing.TB, g *Gateway) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", g.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c.(*net.TCPConn)
}

// open logs the client in, for which it may have to wait.
func (c *client) open() (err error) {
	if c.Client, err = bolt.Open(c.conn, bolt.Auth{}, "test/1"); err != nil {
		_ = c.conn.Close()
	}
	return err
}

// signIn opens a session through g.
func signIn(t testing.TB, g *Gateway) (*client, error) {
	t.Helper()
	c := &client{conn: dialGateway(t, g)}
	return c, c.open()
}

// who is the run_id of the process that the client is connected to.
func (c *client) who() (string, error) {
	res, err := c.Run(whoQuery)
	if err != nil {
		return "", err
	}
	return res.Rows[0][0].(string), nil
}

// relayed opens a session that is relayed as bytes, and echoed.
func relayed(t testing.TB, g *Gateway) *net.TCPConn {
	t.Helper()
	c := dialGateway(t, g)
	require.NoError(t, exchange(c, echoOpening, make([]byte, len(echoOpening))))
	return c
}

// loggingIn is a login under way.
type loggingIn struct {
	client *client
	err    error
	done   chan struct{}
}

func loginLater(t testing.TB, g *Gateway) *loggingIn {
	t.Helper()
	l := &loggingIn{client: &client{conn: dialGateway(t, g)}, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		l.err = l.client.open()
	}()
	t.Cleanup(func() { _ = l.client.conn.Close(); <-l.done })
	return l
}

func (l *loggingIn) wait(t testing.TB) *client {
	t.Helper()
	<-l.done
	require.NoError(t, l.err)
	return l.client
}

// vanish leaves new connections without an answer, by not accepting them and
// filling the queue of those that the kernel accepts.
func (p *process) vanish(t testing.TB) {
	t.Helper()
	deaf := &deafness{began: make(chan struct{}), over: make(chan struct{})}
	p.set(func(p *process) { p.deaf = deaf })
	dial := func() error {
		c, err := net.DialTimeout("tcp", p.addr, 200*time.Millisecond)
		if err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return err
	}
	require.NoError(t, dial())
	<-deaf.began
	raw, err := p.listener.(*net.TCPListener).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }))
	for err == nil {
		err = dial()
	}
	var timeout net.Error
	require.True(t, errors.As(err, &timeout) && timeout.Timeout(), "got %v", err)
}
