package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// login is what a client has logged in with, as it was sent: it is shown to each
// MAIN that the client is carried to, and to nobody else.
type login struct{ hello, logon []byte }

// complete reports whether that is all that version wants.
func (l *login) complete(v bolt.Version) bool {
	return l.hello != nil && (l.logon != nil || !v.AtLeast(5, 1))
}

func (l *login) wipe() {
	clear(l.hello)
	clear(l.logon)
	*l = login{}
}

// add takes the next message of a login; false if m is not one.
func (l *login) add(v bolt.Version, tag bolt.Tag, m []byte) bool {
	switch {
	case tag == bolt.TagHello && l.hello == nil:
		l.hello = bytes.Clone(m)
	case tag == bolt.TagLogon && l.hello != nil && v.AtLeast(5, 1):
		l.logon = bytes.Clone(m)
	default:
		return false
	}
	return true
}

// signIn carries the client's login to MAIN, for which it may have to wait. The
// login of a client that is parked is shown to MAIN when there is one.
func (t *talk) signIn(ctx context.Context) ending {
	for !t.login.complete(t.version) {
		m, tag, how := t.loginMessage(ctx)
		switch {
		case how != "":
			return t.refuse(how)
		case !t.login.add(t.version, tag, m):
			return endUnknown
		}
		t.in.drop(len(m))
		answer, tag, how := t.present(ctx)
		if how != "" {
			return t.refuse(how)
		}
		if _, t.s.why = t.s.client.Write(answer); t.s.why != nil {
			return endLeft
		}
		if tag != bolt.TagSuccess {
			return t.finish(endFinished)
		}
	}
	shared := t.g.stock.share(t.version, &t.login)
	t.login = shared.login
	t.s.login.Store(shared)
	t.start()
	return ""
}

// forgetLogin is the end of a login.
func (t *talk) forgetLogin() {
	if shared := t.s.login.Swap(nil); shared != nil {
		t.login = login{}
		t.g.stock.release(shared)
	}
	t.login.wipe()
}

// loginMessage waits for the next message of a login, which stays in the buffer.
func (t *talk) loginMessage(ctx context.Context) ([]byte, bolt.Tag, ending) {
	expires := time.Now().Add(t.g.cfg.LoginTimeout)
	t.g.sessions.lobby.enter(t.s)
	defer t.g.sessions.lobby.leave(t.s)
	defer t.resetDeadlines()
	for {
		size, tag := bolt.Scan(t.in.unread())
		switch {
		case size == 2:
			t.in.drop(2)
			continue
		case tag == bolt.TagGoodbye:
			return nil, 0, endLeft
		case size > 0:
			return t.in.unread()[:size], tag, ""
		case t.in.full():
			return nil, 0, endUnknown
		}
		t.s.why = t.s.client.SetReadDeadline(expires)
		if ctx.Err() != nil { // which comes before what wakes the session
			return nil, 0, endDraining
		}
		if t.s.why == nil {
			t.s.why = t.in.fill()
		}
		switch {
		case t.s.why == nil:
		case t.s.visit.ousted.Load():
			return nil, 0, endOusted
		case !isTimeout(t.s.why):
			return nil, 0, endLeft
		case time.Now().After(expires): // and not only woken
			return nil, 0, endSlow
		}
	}
}

// present shows the newest part of the login to MAIN, and returns its answer.
func (t *talk) present(ctx context.Context) ([]byte, bolt.Tag, ending) {
	expires := time.Now().Add(t.g.cfg.HoldTimeout)
	if l := t.leg; l != nil {
		answer, tag, err := t.inTurn(expires, func() ([]byte, bolt.Tag, error) { return l.exchange(t.login.logon) })
		if err == nil && tag == bolt.TagSuccess {
			err = l.identify()
		}
		if err == nil {
			return answer, tag, ""
		}
		t.drop()
	}
	return t.attach(ctx, expires)
}

// attach opens a leg to MAIN, for which it may have to wait until expires, and
// logs in on it as far as the client has. It returns the last answer to that.
func (t *talk) attach(ctx context.Context, expires time.Time) ([]byte, bolt.Tag, ending) {
	place := newTicket()
	for spurned := 0; spurned < maxRefusals; {
		main, refusal := t.g.pass(ctx, t.s, place, expires)
		t.in.push(t.s.head)
		t.s.head = nil
		if main == nil {
			return nil, 0, refusal
		}
		answer, tag, err := t.connect(ctx, main, expires)
		if err == nil {
			return answer, tag, ""
		}
		t.s.why = err
		if errors.Is(err, errSpurned) {
			spurned++
		}
	}
	return nil, 0, endSpurned
}

// connect is attach's single attempt. It follows the order that Gateway.attach
// explains.
func (t *talk) connect(ctx context.Context, main *incarnation, expires time.Time) ([]byte, bolt.Tag, error) {
	g := t.g
	g.sessions.move(t.s, stateAttaching)
	defer g.sessions.move(t.s, stateDetached)
	dialling, cancel := context.WithTimeout(ctx, g.cfg.DialTimeout)
	defer cancel()
	tie := &bond{main: main, release: cancel}
	t.s.bond.Store(tie)
	t.s.cutIfReplaced(&g.gate.main)
	l, err := t.open(dialling, main)
	g.gate.leave()
	if err != nil {
		t.s.bond.Store(nil)
		if tie.broken() == nil && ctx.Err() == nil {
			g.metrics.dialErrors.Inc()
			g.verifier.suspect(main, err)
		}
		return nil, 0, err
	}
	answer, tag, err := t.occupy(tie, l, expires)
	if err != nil && tie.broken() == nil {
		g.verifier.doubt(main)
		err = fmt.Errorf("%w: %w", errSpurned, err)
	}
	return answer, tag, err
}

// errSpurned says that MAIN hung up on a login. It may have died, or the login be
// no such thing: that is no reason to shut the gate for others, but for a moment.
var errSpurned = errors.New("it hung up on a login")

// open returns a leg to main, one that is logged in already if there is one.
func (t *talk) open(ctx context.Context, main *incarnation) (*leg, error) {
	if l := t.g.stock.take(t.s.login.Load(), main); l != nil {
		t.g.metrics.logins.end(loginSpared)
		return l, nil
	}
	conn, err := dial(ctx, main.addr, t.g.cfg.BackendTLS)
	if err != nil {
		return nil, err
	}
	l, err := newLeg(main, conn)
	if err != nil {
		reset(conn)
	}
	return l, err
}

// occupy makes l the talk's leg, and logs in on it unless somebody has. It
// returns the last answer to that.
func (t *talk) occupy(tie *bond, l *leg, expires time.Time) (answer []byte, tag bolt.Tag, err error) {
	t.mu.Lock()
	t.leg, l.ear = l, &t.g.verifier.ear
	t.d.recall()
	err = l.conn.SetDeadline(expires)
	t.mu.Unlock()
	if err == nil {
		err = tie.hold(func() { t.hold(l) })
	}
	if err == nil && l.runID != "" {
		return nil, bolt.TagSuccess, nil
	}
	if err == nil {
		answer, tag, err = t.inTurn(expires, func() ([]byte, bolt.Tag, error) { return l.logIn(t.version, &t.login) })
	}
	if err == nil && tag == bolt.TagSuccess && t.login.complete(t.version) {
		err = l.identify()
	}
	if err != nil {
		t.drop()
		return nil, 0, fmt.Errorf("log in to %s: %w", tie.main.addr, err)
	}
	return answer, tag, nil
}

// inTurn logs in by f when there are few others at it: on a MAIN with users one
// login holds up all the rest, and the questions of the verifier with them.
func (t *talk) inTurn(expires time.Time, f func() ([]byte, bolt.Tag, error)) (answer []byte, tag bolt.Tag, err error) {
	began, timer := time.Now(), time.NewTimer(time.Until(expires))
	defer timer.Stop()
	select {
	case t.g.logins <- struct{}{}:
	case <-timer.C:
		return nil, 0, os.ErrDeadlineExceeded
	}
	defer func() { <-t.g.logins }()
	t.g.metrics.logins.wait.Observe(time.Since(began).Seconds())
	answer, tag, err = f()
	switch {
	case err != nil:
		t.g.metrics.logins.end(loginFailed)
	case tag != bolt.TagSuccess:
		t.g.metrics.logins.end(loginRefused)
	case t.login.complete(t.version): // or else it goes on
		t.g.metrics.logins.end(loginAccepted)
	}
	return answer, tag, err
}

// signOff ends a login: the next one may be another user's. It is answered here
// and MAIN is left, since Memgraph 3.7.2 does not answer LOGOFF.
func (t *talk) signOff() ending {
	if t.leg != nil {
		t.hold(t.leg)
		t.drop()
	}
	t.mu.Lock()
	t.d.clear()
	t.pinned = false
	t.mu.Unlock()
	hello := bytes.Clone(t.login.hello)
	t.forgetLogin()
	t.login.hello = hello
	if how := t.reply(append(t.out[:0], replySuccess...)); how != "" {
		return how
	}
	return endSignedOff
}

// refuse answers a login that was not carried to MAIN, and ends the session.
func (t *talk) refuse(how ending) ending {
	f, told := t.g.refusal(how)
	if !told {
		return how
	}
	t.g.sessions.move(t.s, stateRefusing)
	if why := t.reply(appendFailure(nil, f)); why != "" {
		return how
	}
	return t.finish(how)
}

// finish leaves the client time to read its last answer.
func (t *talk) finish(how ending) ending {
	if t.s.why = t.s.client.SetDeadline(time.Now().Add(refuseWithin)); t.s.why == nil {
		t.s.why = finish(t.s.client)
	}
	return how
}
