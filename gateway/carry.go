package gateway

import (
	"context"
	"fmt"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// carry leads s from its first bytes to its end. Once ctx is over, s is not
// connected any more; what is connected goes on. What is no Bolt that the gateway
// knows is relayed as bytes.
func (g *Gateway) carry(ctx context.Context, s *session) ending {
	if how := g.enter(ctx, s, g.cfg.HandshakeTimeout); how != "" {
		return how
	}
	if v, ok := g.speaks(s.head); ok {
		s.head = nil
		return g.converse(ctx, s, v)
	}
	g.sessions.lobby.leave(s) // for MAIN to judge
	expires := time.Now().Add(g.cfg.HoldTimeout)
	for place := newTicket(); ; {
		main, refusal := g.pass(ctx, s, place, expires)
		if main == nil {
			return g.refuse(s, refusal)
		}
		if how := g.attach(ctx, s, main); how != "" {
			return how
		}
	}
}

// turnAway is carry for a session that is one too many.
func (g *Gateway) turnAway(ctx context.Context, s *session) ending {
	if how := g.enter(ctx, s, refuseWithin); how != "" {
		return how
	}
	return g.refuse(s, endOverloaded)
}

// pass waits until s may connect, or need not pause any more, and returns to what;
// else nil and the ending that is left for s: none where it has lost what it was
// connected to.
func (g *Gateway) pass(ctx context.Context, s *session, place *ticket, expires time.Time) (*incarnation, ending) {
	for {
		if ctx.Err() != nil {
			return nil, endDraining
		}
		if !g.gate.wait(place) {
			return nil, endOverloaded
		}
		select {
		case main := <-place.admitted:
			return main, ""
		default:
		}
		main, how := g.park(ctx, s, place, expires)
		if main != nil || how != "" || place.connected != nil {
			return main, how
		}
	}
}

// unparkedEndings are what is left for a session that was not served.
var unparkedEndings = map[unparked]ending{
	unparkedExpired: endNoMain,
	unparkedGone:    endLeft,
	unparkedDrained: endDraining,
	unparkedLost:    "",
}

// park is pass for who has to wait.
func (g *Gateway) park(ctx context.Context, s *session, place *ticket, expires time.Time) (*incarnation, ending) {
	g.sessions.move(s, stateParked)
	g.metrics.parked.Inc()
	began := time.Now()
	watch := keepVigil(s.client)
	main, how := g.await(ctx, s, place, watch, expires)
	more, left := watch.end()
	s.head = append(s.head, more...)
	if main == nil {
		main = g.gate.withdraw(place)
	}
	switch {
	case left != nil:
		how = unparkedGone
		if main != nil && place.connected == nil {
			g.gate.leave()
		}
		main = nil
	case main != nil:
		how = unparkedServed
	}
	g.metrics.unpark(how, time.Since(began))
	return main, unparkedEndings[how]
}

// await returns what a parked session was admitted to, or why it waits no more.
// A client that sends something while it is parked is no longer watched.
func (g *Gateway) await(ctx context.Context, s *session, place *ticket, watch *vigil, expires time.Time) (*incarnation, unparked) {
	timer, noops := time.NewTimer(time.Until(expires)), make(<-chan time.Time)
	defer timer.Stop()
	if g.cfg.NoopInterval > 0 {
		ticker := time.NewTicker(g.cfg.NoopInterval)
		defer ticker.Stop()
		noops = ticker.C
	}
	for over := watch.over; ; {
		select {
		case main := <-place.admitted:
			return main, unparkedServed
		case <-timer.C:
			return nil, unparkedExpired
		case <-ctx.Done():
			return nil, unparkedDrained
		case <-noops:
			s.keepAwake()
		case <-over:
			if how := left(ctx, watch.err); how != "" {
				return nil, how
			}
			over = nil
		}
	}
}

// left is what the end of a vigil means to a parked session; nothing if its client
// has sent something.
func left(ctx context.Context, err error) unparked {
	switch {
	case err == nil:
		return ""
	case !isTimeout(err):
		return unparkedGone
	case ctx.Err() != nil: // which has woken the session
		return unparkedDrained
	}
	return unparkedLost
}

// attach connects s to main and relays until either side ends or main is not
// MAIN any more. It returns "" where no byte was relayed: s may be parked again.
//
// Invariants 1 and 3 hang on an order. A session is tied to main first and then
// checks that main is current; the gate gives up main first and then looks for
// sessions that are tied to it. The other way round, this would go wrong:
//
//  1. the session finds main current,
//  2. the gate gives main up, and the sweep finds nobody tied to it,
//  3. the session ties itself to what is not MAIN any more, for good.
func (g *Gateway) attach(ctx context.Context, s *session, main *incarnation) ending {
	g.sessions.move(s, stateAttaching)
	dialling, cancel := context.WithTimeout(ctx, g.cfg.DialTimeout)
	defer cancel()
	tie := &bond{main: main, release: cancel}
	s.bond.Store(tie)
	defer s.bond.Store(nil)
	s.cutIfReplaced(&g.gate.main)

	backend, err := g.connect(dialling, s, tie)
	if err != nil && tie.broken() == nil && ctx.Err() == nil {
		g.metrics.dialErrors.Inc()
		g.verifier.suspect(main, err)
	}
	g.gate.leave()
	if err != nil {
		return ""
	}
	defer func() { _ = backend.Close() }()
	g.sessions.move(s, stateRelaying)
	s.count(g.metrics, toMain, int64(len(s.head)))
	s.why = relay(s.client, backend, func(to direction, n int64) { s.count(g.metrics, to, n) })
	switch tie.broken() {
	case errReplaced:
		return endReplaced
	case errStopped:
		return endDrained
	}
	return endFinished
}

// connect opens the session's connection and sends what is due on it. Where the
// tie is cut before the end, the client's connection has not been touched.
func (g *Gateway) connect(ctx context.Context, s *session, tie *bond) (*socket, error) {
	rules := g.cfg.BackendTLS
	if opensTLS(s.head) {
		rules = nil // it is between the client and MAIN
	}
	backend, err := dial(ctx, tie.main.addr, rules)
	if err != nil {
		return nil, err
	}
	if err = tie.broken(); err == nil {
		_, err = backend.Write(s.head) // fits into an empty send buffer
	}
	if err == nil {
		err = tie.hold(func() { abort(s.client, backend) })
	}
	if err != nil {
		_ = backend.Close()
		return nil, err
	}
	return backend, nil
}

// speaks is the version to speak with a client that opened with head, if there is
// one that the gateway can carry from one MAIN to another.
func (g *Gateway) speaks(head []byte) (bolt.Version, bool) {
	if !isBolt(head) {
		return bolt.Version{}, false
	}
	h, err := bolt.ParseHandshake([bolt.HandshakeSize]byte(head))
	if err != nil {
		return bolt.Version{}, false
	}
	return h.Choose(g.cfg.Versions)
}

// refuse tells a client why, where there is something to tell.
func (g *Gateway) refuse(s *session, how ending) ending {
	f, told := g.refusal(how)
	if told {
		g.sessions.move(s, stateRefusing)
		s.why = refuse(s.client, s.head, f)
	}
	return how
}

// refusal is what a client is told that cannot be carried; false if nothing.
func (g *Gateway) refusal(how ending) (bolt.Failure, bool) {
	f, awaited := bolt.Failure{}, g.gate.status().awaited()
	if g.forReading() {
		awaited = "a replica to read from"
	}
	switch how {
	case endNoMain:
		f.Code = codeNoMain
		f.Message = fmt.Sprintf("waited %v for %s; nothing was begun", g.cfg.HoldTimeout, awaited)
	case endOverloaded:
		f.Code = codeOverloaded
		f.Message = fmt.Sprintf("the gateway carries all the connections it may (%d, %d of them parked); nothing was begun",
			g.cfg.MaxSessions, g.cfg.MaxParked)
	case endPlain:
		f.Code = codePlain
		f.Message = "this address is for TLS: connect with bolt+s, or neo4j+s; nothing was begun"
	case endDraining:
		f.Code = codeDraining
		f.Message = "the gateway is stopping; nothing was begun"
	}
	return f, f.Code != ""
}
