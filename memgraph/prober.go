package memgraph

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// Identity is who answered: the role, and the run_id that the process made when
// it started. A restarted instance has another one.
type Identity struct {
	Role  Role
	RunID string
}

// Prober asks instances who they are, each over one warm connection of its own,
// so that an answer costs one exchange and a process that died is noticed by
// its connection. It is safe for concurrent use.
type Prober struct {
	login bolt.Login
	rules *tls.Config

	asking sync.WaitGroup

	mu    sync.Mutex
	links map[string]*link // by address
}

// link is a connection on which one question is put at a time: by whoever holds the
// token in turn. It is replaced when it breaks.
type link struct {
	life   context.Context // ends when it is forgotten
	end    context.CancelFunc
	turn   chan struct{}
	conn   net.Conn
	client *bolt.Client
}

// NewProber logs in by login everywhere; without a user it sends none. Its connections
// are secured by rules (see TLS), and plain if that is nil.
func NewProber(login bolt.Login, rules *tls.Config) *Prober {
	return &Prober{login: login, rules: rules, links: map[string]*link{}}
}

// Identify asks the instance at addr for its role and run_id. A connection that
// was warm and turns out broken is replaced once, so that ErrRefused stands for
// a fresh dial. It returns ErrRefused, ErrUnreachable or ErrUnauthenticated.
//
// A login that ctx is too short for goes on, and is of use to the next.
func (p *Prober) Identify(ctx context.Context, addr string) (Identity, error) {
	l := p.link(ctx, addr)
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return Identity{}, wrap("identify", addr, classify(ctx, ctx.Err()))
	}
	type answer struct {
		id  Identity
		err error
	}
	answers := make(chan answer, 1)
	p.asking.Go(func() {
		defer p.done(l, addr)
		id, err := p.ask(ctx, l, addr)
		answers <- answer{id, err}
	})
	select {
	case a := <-answers:
		return a.id, wrap("identify", addr, a.err)
	case <-ctx.Done():
		return Identity{}, wrap("identify", addr, classify(ctx, ctx.Err()))
	}
}

// ask puts the question on behalf of ctx, on a new connection if the old one broke.
func (p *Prober) ask(ctx context.Context, l *link, addr string) (Identity, error) {
	warm := l.client != nil
	id, err := p.exchange(ctx, l, addr)
	if warm && errors.Is(err, ErrUnreachable) && !errors.Is(err, context.DeadlineExceeded) && l.life.Err() == nil {
		return p.exchange(ctx, l, addr)
	}
	return id, err
}

// Listens returns nil if somebody accepts connections on addr, and ErrRefused or
// ErrUnreachable if not. It sends nothing.
func (p *Prober) Listens(ctx context.Context, addr string) error {
	conn, err := dial(ctx, addr, nil)
	if err != nil {
		return wrap("dial", addr, classify(ctx, err))
	}
	return conn.Close()
}

// Forget ends the connection to addr: what listened there is gone.
func (p *Prober) Forget(addr string) {
	p.mu.Lock()
	l := p.links[addr]
	delete(p.links, addr)
	idle := l != nil && l.begin()
	p.mu.Unlock()
	if l != nil {
		l.end()
	}
	if idle {
		l.drop()
		<-l.turn
	}
}

// done ends a turn, and the connection too if it was forgotten meanwhile. A turn
// ends under mu, so that Forget finds either a link in use, which is dropped
// here, or one that it drops itself.
func (p *Prober) done(l *link, addr string) {
	p.mu.Lock()
	kept := p.links[addr] == l
	if kept {
		<-l.turn
	}
	p.mu.Unlock()
	if !kept {
		l.drop()
		<-l.turn
	}
}

// Close ends all connections. Nothing may be asked afterwards.
func (p *Prober) Close() {
	p.mu.Lock()
	addrs := make([]string, 0, len(p.links))
	for addr := range p.links {
		addrs = append(addrs, addr)
	}
	p.mu.Unlock()
	for _, addr := range addrs {
		p.Forget(addr)
	}
	p.asking.Wait()
}

func (p *Prober) link(ctx context.Context, addr string) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.links[addr]
	if l == nil {
		l = &link{turn: make(chan struct{}, 1)}
		l.life, l.end = context.WithCancel(context.WithoutCancel(ctx))
		p.links[addr] = l
	}
	return l
}

// exchange asks once; on any failure but the server's own the link is dropped.
func (p *Prober) exchange(ctx context.Context, l *link, addr string) (id Identity, err error) {
	defer func() {
		var answered *ServerError
		if err != nil && !(errors.As(err, &answered) && l.client != nil) {
			l.drop()
		}
	}()
	if l.client == nil {
		if err := p.open(l, addr); err != nil {
			return Identity{}, err
		}
	}
	patient, cancel := patience(ctx, l.life)
	defer cancel()
	defer bound(patient, l.conn)()
	res, err := l.client.Run(showRole)
	if err != nil {
		return Identity{}, classify(patient, err)
	}
	return parseIdentity(res)
}

// open dials and logs in.
func (p *Prober) open(l *link, addr string) (err error) {
	ctx, cancel := context.WithTimeout(l.life, loginTimeout)
	defer cancel()
	if l.conn, err = dial(ctx, addr, p.rules); err != nil {
		return classify(ctx, err)
	}
	defer bound(ctx, l.conn)()
	_ = l.conn.SetDeadline(time.Now().Add(lateAnswer))
	client, err := bolt.Open(&greeting{Conn: l.conn, ctx: ctx}, p.login.Auth(), UserAgent)
	if err != nil {
		return classify(ctx, err)
	}
	l.client = client
	return nil
}

// greeting is a connection on which a login begins. At the peer's first word, which is
// its handshake, the rest is given as long as ctx.
type greeting struct {
	net.Conn
	ctx context.Context
	met bool
}

func (g *greeting) Read(p []byte) (n int, err error) {
	n, err = g.Conn.Read(p)
	if n > 0 && !g.met {
		g.met = true
		end, _ := g.ctx.Deadline()
		_ = g.SetDeadline(end)
		if g.ctx.Err() != nil { // which may have had it end before
			_ = g.SetDeadline(time.Unix(1, 0))
		}
	}
	return n, err
}

func dial(ctx context.Context, addr string, rules *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil || rules == nil {
		return conn, err
	}
	over := tls.Client(conn, rules)
	if err := over.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("tls: %w", err)
	}
	return over, nil
}

func parseIdentity(res bolt.Result) (Identity, error) {
	rows := make([]row, 0, len(res.Rows))
	for _, values := range res.Rows {
		r := row{}
		for i, field := range res.Fields {
			if i < len(values) {
				r[field] = values[i]
			}
		}
		rows = append(rows, r)
	}
	role, err := parseRole(rows)
	if err == nil && res.RunID() == "" {
		err = fmt.Errorf("no run_id in the summary: Memgraph 2.8 or later is needed")
	}
	return Identity{Role: role, RunID: res.RunID()}, err
}

// bound makes conn's exchanges end with ctx, however it ends, until the
// returned function is called.
func bound(ctx context.Context, conn net.Conn) (release func()) {
	deadline, _ := ctx.Deadline() // the zero time is none
	_ = conn.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// begin takes the turn if nobody has it.
func (l *link) begin() bool {
	select {
	case l.turn <- struct{}{}:
		return true
	default:
		return false
	}
}

func (l *link) drop() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
	l.conn, l.client = nil, nil
}
