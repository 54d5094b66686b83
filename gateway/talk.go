package gateway

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// talk is a session that speaks Bolt. Two goroutines share it: the session's own
// reads requests and sends them to MAIN, a leg's carries answers to the client.
// Each owns the direction that it writes to; where the gateway answers itself,
// the leg's has ended, or has nothing to deliver.
//
// A unit (see dialogue) belongs to one MAIN; between units the client does not.
// When MAIN changes, the leg is dropped, and the next unit goes over another one,
// logged in with what the client had sent. A unit that the change interrupts is
// run again, or answered by its fate: see settle.
type talk struct {
	g       *Gateway
	s       *session
	version bolt.Version
	login   login
	in      *intake // from the client
	journal journal
	proxy   proxy
	begun   bool   // some of the unit was sent, on whatever leg
	out     []byte // the gateway's own answers

	mu     sync.Mutex // guards what follows; but only the session's goroutine sets leg, and reads it as it likes
	quiet  *sync.Cond // all is answered and delivered, or the leg has ended
	leg    *leg       // nil while there is none
	d      dialogue
	seen   prints
	pinned bool // its connection was told what cannot be told to another
}

// endSignedOff is the end of a login, not of a session.
const endSignedOff ending = "signed_off"

// converse leads a session that speaks version to its end.
func (g *Gateway) converse(ctx context.Context, s *session, version bolt.Version) ending {
	t := &talk{g: g, s: s, version: version, journal: journal{limit: g.cfg.RerunLimit, budget: g.rerunBudget}}
	t.quiet = sync.NewCond(&t.mu)
	if t.in, s.why = newIntake(s.client, buffers); s.why != nil {
		return endLeft
	}
	defer t.close()
	s.talk.Store(t)
	if _, s.why = s.client.Write(version.Append(nil)); s.why != nil {
		return endLeft
	}
	for {
		if how := t.signIn(ctx); how != "" {
			return how
		}
		switch how := t.run(ctx); how {
		case endSignedOff:
		case endPinned, endTorn, endLostTrack, endStuck:
			s.client.sever() // for it is not the end of anything
			return how
		default:
			return how
		}
	}
}

// close ends what is left of the talk's.
func (t *talk) close() {
	if l := t.leg; l != nil {
		reset(l.conn)
		t.drop()
	}
	t.journal.clear()
	t.forgetLogin()
	t.in.close()
}

// run carries requests to MAIN until the session or its login ends. What was
// read at once is sent at once.
func (t *talk) run(ctx context.Context) ending {
	for {
		var how ending
		b := t.in.unread()
		size, tag := bolt.Scan(b)
		switch {
		case size > 0:
			how = t.take(ctx, b[:size], tag)
			t.in.drop(size)
		case t.in.full():
			how = t.takeLarge(ctx)
		default:
			if how = t.forward(ctx); how == "" {
				how = t.await(ctx)
			}
		}
		if how != "" {
			return how
		}
	}
}

// await waits for more from the client, or for the loss of the leg.
func (t *talk) await(ctx context.Context) ending {
	if how := t.dismissed(); how != "" {
		return how
	}
	err := t.in.fill()
	switch {
	case err == nil:
		return ""
	case !isTimeout(err):
		return t.hangUp(ctx, err)
	}
	t.resetDeadlines()
	if t.lost() {
		return t.settle()
	}
	if t.s.noop.Swap(false) {
		t.s.keepAwake()
	}
	return ""
}

// dismissed is how the session ends where the gateway is stopping: between two
// units, or anywhere once that has taken too long.
func (t *talk) dismissed() ending {
	if t.g.stopped.Load() {
		return endDrained
	}
	if !t.s.leaving.Load() || t.proxy.state != proxyIdle {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.d.unit != unitNone || !t.in.quiet() {
		return "" // it has begun another, or is about to
	}
	return endDismissed
}

// resetDeadlines undoes what woke the session, or hurried the client.
func (t *talk) resetDeadlines() {
	_ = t.s.client.SetReadDeadline(time.Time{}) // these fail on a closed connection only
	_ = t.s.client.SetWriteDeadline(time.Time{})
	if t.g.stopped.Load() {
		t.s.hurry()
	}
}

// lost reports whether there was a leg that has ended.
func (t *talk) lost() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leg != nil && t.leg.ended
}

// take deals with one whole request.
func (t *talk) take(ctx context.Context, m []byte, tag bolt.Tag) ending {
	switch {
	case tag == 0 && len(m) == 2:
		return "" // a NOOP, at which Memgraph would hang up
	case tag == bolt.TagGoodbye:
		return t.hangUp(ctx, nil)
	case tag == bolt.TagLogoff && t.login.logon != nil, tag == bolt.TagRoute:
		switch rests, how := t.rest(ctx); {
		case how != "":
			return how
		case rests && tag == bolt.TagRoute:
			return t.route(m)
		case rests:
			return t.signOff()
		}
	}
	a, s := classify(tag, m)
	if s == stmtCluster && t.g.cfg.Administration == AdministrationDenied {
		// In a transaction Memgraph refuses it anyway.
		if rests, how := t.rest(ctx); rests || how != "" {
			return t.deny(how)
		}
	}
	if how, done := t.enter(ctx, a, s); done {
		return how
	}
	t.journal.add(m)
	return ""
}

// deny answers a statement that is not for clients, unless the session has ended.
func (t *talk) deny(how ending) ending {
	if how != "" {
		return how
	}
	t.proxy = proxy{state: proxyLost, why: failDenied}
	t.g.metrics.stoodIn(failDenied)
	return t.reply(t.proxy.answer(t.out[:0], askRun))
}

// enter makes a request part of the present unit or of a new one. It returns
// true where the request has been answered, or the session has ended.
func (t *talk) enter(ctx context.Context, a ask, s statement) (ending, bool) {
	for t.bounds(a) {
		if how := t.calm(ctx); how != "" {
			return how, true
		}
	}
	if answer := t.register(a, s); answer != nil {
		return t.reply(answer), true
	}
	return "", false
}

// register counts a request in, or returns the gateway's own answer to it.
func (t *talk) register(a ask, s statement) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	nothingRuns := t.leg == nil && t.d.due() == 0
	switch {
	case t.proxy.state != proxyIdle:
		return t.proxy.answer(t.out[:0], a)
	case nothingRuns && (a == askReset || a == askRollback && t.d.unit == unitTransaction):
		t.d.clear() // it is rolled back
		return append(t.out[:0], replySuccess...)
	case t.d.unit == unitNone:
		t.seen.clear()
		t.journal.clear()
		t.begun = false
		t.s.active.Store(time.Now().Unix())
	}
	t.d.ask(a, s)
	t.pinned = t.pinned || s == stmtSetting
	return nil
}

// classify says what a request means to a unit.
func classify(tag bolt.Tag, m []byte) (ask, statement) {
	switch tag {
	case bolt.TagRun:
		var head [textHead]byte
		return askRun, readStatement(head[:bolt.Peek(head[:], m)])
	case bolt.TagPull, bolt.TagDiscard:
		return askPull, stmtPlain
	case bolt.TagBegin:
		return askBegin, stmtPlain
	case bolt.TagCommit:
		return askCommit, stmtPlain
	case bolt.TagRollback:
		return askRollback, stmtPlain
	case bolt.TagReset:
		return askReset, stmtPlain
	}
	return askOther, stmtPlain
}

func (t *talk) bounds(a ask) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.d.bounds(a)
}

// reply sends the gateway's own answers. They are few bytes, and the client
// waits for them.
func (t *talk) reply(b []byte) ending {
	t.out = b
	if _, t.s.why = t.s.client.Write(b); t.s.why != nil {
		return endFinished
	}
	return ""
}

// takeLarge deals with a request that is larger than the buffer: it passes on
// what arrives. Where the leg is lost meanwhile, the rest is read nevertheless.
func (t *talk) takeLarge(ctx context.Context) ending {
	var head [2]byte
	bolt.Peek(head[:], t.in.unread())
	a, s := classify(bolt.Tag(head[1]), t.in.unread())
	how, answered := t.enter(ctx, a, s)
	for skip := (bolt.Skipper{}); how == ""; {
		n, ended := skip.Skip(t.in.unread())
		if !answered {
			t.journal.add(t.in.unread()[:n])
			how = t.pour(ctx)
		}
		t.in.drop(n)
		if ended || how != "" {
			break
		}
		if err := t.in.fill(); isTimeout(err) && !t.g.stopped.Load() {
			t.resetDeadlines()
		} else if err != nil {
			return t.hangUp(ctx, err)
		}
	}
	return how
}

// pour sends a part of a request, or drops it where it cannot be sent.
func (t *talk) pour(ctx context.Context) ending {
	if t.leg == nil {
		return t.forward(ctx)
	}
	switch err := t.flush(); {
	case errors.Is(err, errHeld):
		return t.forward(ctx)
	case err != nil && t.journal.broken:
		t.journal.discard()
	}
	return ""
}

// forward sends what is due, over a leg that may have to be opened first. It may
// have to wait for that, or for the end of a hold.
func (t *talk) forward(ctx context.Context) ending {
	for expires := (time.Time{}); t.hasDue(); {
		var err error
		if t.leg != nil {
			if err = t.flush(); err == nil {
				return ""
			}
		}
		if expires.IsZero() {
			expires = time.Now().Add(t.g.cfg.HoldTimeout)
		}
		var how ending
		switch {
		case t.leg == nil:
			how = t.resume(ctx, expires)
		case errors.Is(err, errHeld):
			how = t.pause(ctx, expires)
		default:
			how = t.settle()
		}
		if how != "" {
			return how
		}
	}
	return ""
}

// hasDue reports whether something is to be sent.
func (t *talk) hasDue() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.d.unsent > 0 || t.leg != nil && len(t.journal.unsent()) > 0
}

// errHeld says that what is due must not be sent before the end of a hold.
var errHeld = errors.New("clients are held")

// flush sends what is due on the leg. Where that takes no more, it has the leg end.
// What was not sent at all counts as not asked yet.
func (t *talk) flush() error {
	l := t.leg
	unsent, err := t.dispatch(l)
	if errors.Is(err, errHeld) {
		return err
	}
	if err == nil {
		var n int
		n, err = l.conn.Write(t.journal.unsent())
		t.journal.sending(n)
		t.s.count(t.g.metrics, toMain, int64(n))
		t.begun = t.begun || n > 0
		if err != nil && n == 0 {
			t.mu.Lock()
			t.d.unsent = unsent
			t.mu.Unlock()
		}
	}
	if err != nil {
		t.hold(l)
	}
	return err
}

// dispatch counts what is due as under way on l, if it may be sent. What could
// take effect is counted in the same critical section in which nobody was held:
// see Gateway.Quiet. The hold is looked at before MAIN, for the statement that
// ends a hold has given up the MAIN before.
func (t *talk) dispatch(l *leg) (unsent int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := t.g.gate.hold.Load() != nil
	switch {
	case l.held, l.ended, l.main != t.g.gate.main.Load():
		return 0, errReplaced
	case held && t.d.waits():
		return 0, errHeld
	}
	unsent, t.d.unsent = t.d.unsent, 0
	return unsent, nil
}

// calm sends what is due and waits until all is answered and delivered. Where
// the leg is lost instead, it does what is to be done about it.
func (t *talk) calm(ctx context.Context) ending {
	if how := t.forward(ctx); how != "" {
		return how
	}
	t.mu.Lock()
	for t.leg != nil && !t.leg.ended && (t.d.due() > 0 || t.leg.delivering) {
		t.quiet.Wait()
	}
	t.mu.Unlock()
	if t.lost() {
		return t.settle()
	}
	return ""
}

// rest waits until all is answered, and reports whether no unit is open then: the
// gateway may answer something itself.
func (t *talk) rest(ctx context.Context) (bool, ending) {
	for {
		if how := t.calm(ctx); how != "" {
			return false, how
		}
		if t.calmNow() {
			break
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.d.unit == unitNone && t.proxy.state == proxyIdle, ""
}

// hangUp ends the session after its client has: what it asked for is done to
// its end, since it may be reading still.
func (t *talk) hangUp(ctx context.Context, why error) ending {
	if !errors.Is(why, io.EOF) {
		t.s.why = why
	}
	for {
		if how := t.forward(ctx); how != "" {
			return how
		}
		if t.leg == nil {
			return endFinished
		}
		_ = t.leg.conn.CloseWrite() // fails where the leg ends anyway
		t.leg.running.Wait()
		if t.calmNow() {
			return endFinished
		}
		if how := t.settle(); how != "" {
			return how
		}
	}
}

// calmNow reports whether nothing is asked for that was not answered.
func (t *talk) calmNow() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.d.due() == 0
}
