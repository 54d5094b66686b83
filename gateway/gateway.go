package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxTurnedAway is how many sessions beyond the limit are told why, rather
	// than reset: enough for drivers that retry, and few for a flood.
	maxTurnedAway = 256
	// acceptPauseMin doubles up to acceptPauseMax while connections cannot be
	// accepted, for want of file descriptors as a rule.
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// Gateway carries clients to the MAIN that it has been told of and has verified.
// Three parts meet at its gate: Serve says what to verify, the verifier opens and
// shuts it, and sessions pass it one by one. What the gate gives up is swept:
// sessions tied to it are cut.
type Gateway struct {
	cfg      Config
	log      *slog.Logger
	listener *net.TCPListener
	accept   func() (*net.TCPConn, error) // the listener's, but in a test
	gate     *gate
	verifier *verifier
	sessions *registry
	metrics  *metrics
	draining atomic.Bool // nobody is let in any more
	stopped  atomic.Bool // nor waited for

	keyring     *keyring  // nil where clients' TLS is not ended here
	read        *readPort // nil where there is none
	rerunBudget *budget
	stock       *stock
	logins      chan struct{} // one for each under way on MAIN
}

// New checks cfg and listens. Clients that connect before Run wait for it. It
// fails where a field of cfg is wrong, which the error names, where the address
// cannot be had, and where the metrics are registered already.
func New(cfg Config) (*Gateway, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ring, err := newKeyring(&cfg)
	if err != nil {
		return nil, err
	}
	g, err := newPort(cfg, portMain, ring)
	if err != nil {
		return nil, err
	}
	if g.read, err = newReadPort(cfg, g); err != nil {
		_ = g.listener.Close()
		return nil, err
	}
	return g, nil
}

// newPort is a gateway with one port.
func newPort(cfg Config, is port, ring *keyring) (*Gateway, error) {
	l, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for clients: %w", err)
	}
	listener, sessions := l.(*net.TCPListener), &registry{lobby: newLobby(cfg.MaxUnauthenticated)}
	outlook := &outlook{staleAfter: cfg.StaleAfter, grace: cfg.IsolationGrace}
	gate, stock := newGate(cfg.MaxParked, cfg.MaxAttaching), newStock(cfg.MaxReady)
	m, err := newMetrics(cfg.Registerer, is, sessions, outlook, stock)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &Gateway{
		cfg:      cfg,
		log:      cfg.Logger,
		listener: listener,
		accept:   listener.AcceptTCP,
		gate:     gate,
		verifier: &verifier{
			gate: gate, cfg: cfg, metrics: m, log: cfg.Logger, stock: stock, outlook: outlook,
			heard: make(chan struct{}, 1), suspected: make(chan error, 1),
		},
		sessions: sessions,
		metrics:  m,

		keyring:     ring,
		rerunBudget: &budget{limit: int64(cfg.RerunTotal)},
		stock:       stock,
		logins:      make(chan struct{}, cfg.MaxLogins),
	}, nil
}

// Addr is where clients connect to.
func (g *Gateway) Addr() net.Addr { return g.listener.Addr() }

// ReadAddr is where clients connect to that only read; nil if they cannot.
func (g *Gateway) ReadAddr() net.Addr {
	if g.read == nil {
		return nil
	}
	return g.read.Addr()
}

// Serve lets clients through to the process runID of pod at addr once that has
// answered as MAIN itself. Until then new connections are held, and those to
// another process are cut. An empty runID means any process there. It is a no-op
// for a generation lower than the highest seen, and in the same one for another
// process, unless it adds the runID. It does not wait.
func (g *Gateway) Serve(pod, addr, runID string, generation int64) {
	g.order(&target{pod: pod, addr: addr, runID: runID, generation: generation}, false)
}

// Expect is Serve for a process that must not take effect yet: it is verified,
// and clients are held until Serve names it in the same generation, which then
// takes no question more. Whoever is connected to it already goes on but for what
// could commit; what is relayed as bytes is not held. In one generation the last of
// Expect and Serve counts.
func (g *Gateway) Expect(pod, addr, runID string, generation int64) {
	g.order(&target{pod: pod, addr: addr, runID: runID, generation: generation}, true)
}

func (g *Gateway) order(t *target, held bool) {
	g.verifier.turned(g.gate.order(t, held))
	if g.read != nil {
		g.read.follow()
	}
}

// Readers tells of the replicas that clients may read from, by the names that MAIN
// has for them, with their addresses. It does not wait.
func (g *Gateway) Readers(candidates map[string]string) {
	if g.read != nil {
		g.read.tell(candidates)
	}
}

// Prepare keeps connections to addr logged in as active clients are, since its
// process is expected to be MAIN next: clients that move there do not queue for
// its login lock. An empty addr keeps none. What was prepared for the MAIN named
// last is left to the clients that it is about to get. It does not wait.
func (g *Gateway) Prepare(addr string) { g.stock.prepare(addr, g.gate.current().addr) }

// Status is the gateway's state now.
func (g *Gateway) Status() Status {
	s := g.gate.status()
	s.Stale, s.HeardAt = g.verifier.outlook.at(time.Now()) != viewFresh, g.verifier.outlook.heardAt()
	if g.draining.Load() {
		s.State = Draining
	}
	if g.read != nil {
		read := g.read.Status()
		s.Read = &read
	}
	s.Sessions = g.sessions.len()
	s.Relaying = g.sessions.in(stateRelaying)
	s.Waiting = g.sessions.in(stateParked)
	return s
}

// Run carries clients until ctx ends. Then it accepts no more, refuses those that
// are parked, has one after the other of those that are connected end between two
// units, and cuts what is left after DrainTimeout. It
// returns after all that it started has ended, and an error only where
// accepting failed for good. It may be called once.
func (g *Gateway) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var others sync.WaitGroup
	var failed error
	if g.keyring != nil {
		others.Go(func() { g.keyring.watch(ctx) })
	}
	if g.read != nil {
		others.Go(func() {
			defer stop()
			failed = g.read.Run(ctx)
		})
	}
	err := g.runPort(ctx)
	stop()
	others.Wait()
	return errors.Join(err, failed)
}

func (g *Gateway) runPort(ctx context.Context) error {
	control, release := context.WithCancel(context.WithoutCancel(ctx))
	var controllers sync.WaitGroup
	controllers.Go(func() { g.verifier.run(control) })
	controllers.Go(func() { g.verifier.guard(control) })
	controllers.Go(func() { g.sweep(control) })
	controllers.Go(func() { g.keepAwake(control) })
	controllers.Go(func() { g.restock(control) })

	err := g.acceptAll(ctx)
	g.drain()
	release()
	controllers.Wait()
	return err
}

// acceptAll starts a session for each client until ctx ends, or accepting fails
// for good, which drains them.
func (g *Gateway) acceptAll(ctx context.Context) error {
	var closer sync.WaitGroup
	defer closer.Wait()
	ctx, drain := context.WithCancel(ctx)
	defer drain()
	closer.Go(func() {
		<-ctx.Done()
		g.draining.Store(true)
		_ = g.listener.Close()
	})
	for pause := time.Duration(0); ; {
		g.sessions.lobby.awaitRoom(ctx)
		client, err := g.accept()
		switch {
		case err == nil:
			pause = 0
			g.receive(ctx, client)
			continue
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept clients: %w", err)
		}
		if pause == 0 {
			g.log.Warn("accepting clients fails", "err", err)
		}
		g.metrics.acceptErrors.Inc()
		pause = min(max(2*pause, acceptPauseMin), acceptPauseMax)
		sleep(ctx, pause)
	}
}

// receive starts a session for client.
func (g *Gateway) receive(ctx context.Context, client *net.TCPConn) {
	g.metrics.accepted.Inc()
	lead := g.carry
	switch beyond := g.sessions.len() - int64(g.cfg.MaxSessions); {
	case beyond >= maxTurnedAway:
		g.metrics.end(endOverloaded)
		reset(newSocket(client))
		return
	case beyond >= 0:
		lead = g.turnAway
	}
	_ = client.SetKeepAliveConfig(clientKeepAlive) // fails on a closed connection only
	s := g.sessions.add(newSocket(client))
	g.sessions.lobby.enter(s)
	g.sessions.running.Go(func() {
		defer g.sessions.remove(s)
		defer func() { _ = s.client.Close() }()
		how := lead(ctx, s)
		g.metrics.end(how)
		g.log.Debug("session ended", "session", s.id, "client", s.client.RemoteAddr(), "how", how, "err", s.why,
			"took_ms", time.Since(s.since).Milliseconds(), "to_main_bytes", s.toMain.Load(), "to_client_bytes", s.toClient.Load())
	})
}

// sweep cuts the sessions that are tied to another process than the gate's, each
// time that this has changed, until ctx ends.
func (g *Gateway) sweep(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.gate.stale:
			g.sessions.each(func(s *session) { s.cutIfReplaced(&g.gate.main) })
		}
	}
}

// drainStep is between two looks at whose turn it is to be dismissed.
const drainStep = 10 * time.Millisecond

// drain has one session after the other end, each as soon as it is between two
// units, for if all did at once their clients would all come to another gateway at
// once. That takes half of DrainTimeout; what is left at its end is cut.
func (g *Gateway) drain() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		g.sessions.running.Wait()
	}()
	var left []*session
	g.sessions.each(func(s *session) { left = append(left, s) })
	began, each := time.Now(), g.cfg.DrainTimeout/2/time.Duration(max(1, len(left)))
	over, step := time.NewTimer(g.cfg.DrainTimeout), time.NewTicker(drainStep)
	defer over.Stop()
	defer step.Stop()
	for n := 0; ; {
		for ; n < len(left) && time.Since(began) >= each*time.Duration(n); n++ {
			left[n].dismiss()
		}
		select {
		case <-ended:
			return
		case <-step.C:
		case <-over.C:
			g.stopped.Store(true)
			g.sessions.each((*session).stop)
			<-ended
			return
		}
	}
}
