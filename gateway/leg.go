package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// Why a leg ended, other than by an error of its connection.
var (
	errRefused     = errors.New("it answered that it is not MAIN")
	errUnasked     = errors.New("it answered what was not asked")
	errTorn        = errors.New("the connection was lost within an answer that is too large to hold back")
	errClientGone  = errors.New("the client takes no more")
	errClientStuck = errors.New("the client has taken nothing for too long while MAIN changes")
	errDone        = errors.New("its MAIN was replaced, and all answers have come")
)

// leg is a session's connection to MAIN. Until its answers are carried by a
// goroutine of their own, the session's reads them itself.
type leg struct {
	main    *incarnation
	runID   string // of the process, once it was asked
	conn    *socket
	in      *intake
	ear     *ear           // nil until a session has the leg
	running sync.WaitGroup // the goroutine
	why     error          // it ended; valid once it has

	// The talk's mutex guards what follows.
	held       bool // MAIN was replaced: nothing is sent any more
	ended      bool // nothing is carried any more
	delivering bool // answers were heard that the client may not have yet
}

func newLeg(main *incarnation, conn *socket) (*leg, error) {
	in, err := newIntake(conn, answerBuffers)
	if err != nil {
		return nil, err
	}
	return &leg{main: main, conn: conn, in: in}, nil
}

// close has the peer see a reset where something is still under way, so that it
// gives that up at once.
func (l *leg) close() {
	reset(l.conn)
	l.in.close()
}

// message waits for a whole message of at most answerBufferSize, and takes it. It is
// valid until the next call.
func (l *leg) message() ([]byte, bolt.Tag, error) {
	for {
		l.in.drop(0)
		b := l.in.unread()
		size, tag := bolt.Scan(b)
		switch {
		case size > 2:
			l.in.from += size // not dropped, for it is still to be read
			return b[:size], tag, nil
		case size > 0:
			l.in.drop(size)
		case l.in.full():
			return nil, 0, bolt.ErrTooLarge
		default:
			if err := l.fill(); err != nil {
				return nil, 0, err
			}
		}
	}
}

// exchange sends a request that is answered by one summary, and returns a copy
// of that.
func (l *leg) exchange(request []byte) ([]byte, bolt.Tag, error) {
	if _, err := l.conn.Write(request); err != nil {
		return nil, 0, err
	}
	answer, tag, err := l.message()
	return bytes.Clone(answer), tag, err
}

// shakeHands has MAIN speak version v.
func (l *leg) shakeHands(v bolt.Version) error {
	if _, err := l.conn.Write(bolt.Propose(v).Append(nil)); err != nil {
		return err
	}
	for len(l.in.unread()) < 4 {
		if err := l.fill(); err != nil {
			return err
		}
	}
	got := [4]byte(l.in.unread())
	l.in.drop(4)
	if got != [4]byte(v.Append(nil)) {
		return fmt.Errorf("handshake for %s: answered %x", v, got)
	}
	return nil
}

// logIn shows MAIN what there is of a login, and returns its last answer.
func (l *leg) logIn(v bolt.Version, as *login) (answer []byte, tag bolt.Tag, err error) {
	if err := l.shakeHands(v); err != nil {
		return nil, 0, err
	}
	for _, m := range [][]byte{as.hello, as.logon} {
		if err != nil || m == nil || tag == bolt.TagFailure {
			continue
		}
		answer, tag, err = l.exchange(m)
	}
	return answer, tag, err
}

// identify makes sure that the process at the other end is the very one that
// was verified, and is MAIN still: between that and now another may have begun
// to listen there.
func (l *leg) identify() error {
	role, err := l.ask()
	if err == nil && (role != roleOf(l.main.replica) || l.runID != l.main.runID) {
		err = errRefused
	}
	return err
}

// ask returns the process's role, and learns its run_id.
func (l *leg) ask() (role string, err error) {
	if _, err := l.conn.Write(roleRequest); err != nil {
		return "", err
	}
	var got [3]bolt.Message
	for i := range got {
		m, _, err := l.message()
		if err != nil {
			return "", err
		}
		if got[i], err = bolt.ParseMessage(bolt.Payload(m)); err != nil {
			return "", err
		}
	}
	row, isRow := got[1].(bolt.Record)
	summary, isSummary := got[2].(bolt.Success)
	if !isRow || !isSummary || len(row.Values) != 1 {
		return "", fmt.Errorf("ask for the role: answered %v", got)
	}
	l.runID, _ = summary.Meta["run_id"].(string)
	role, _ = row.Values[0].(string)
	return role, nil
}

// roleRequest asks for the role.
var roleRequest = func() (b []byte) {
	for _, m := range []bolt.Message{bolt.Run{Query: roleQuery}, bolt.Pull{N: -1, QID: -1}} {
		var err error
		if b, err = bolt.AppendMessage(b, m); err != nil {
			panic("gateway: the question for the role has no form: " + err.Error())
		}
	}
	return b
}()

// carry passes answers on to the client until the leg ends. It is the leg's
// goroutine, and the only one that writes to the client meanwhile.
func (t *talk) carry(l *leg) {
	l.why = t.carryAll(l)
	t.mu.Lock()
	l.ended = true
	t.quiet.Signal()
	t.mu.Unlock()
	_ = t.s.client.SetReadDeadline(past) // wakes the session, which waits for requests
}

func (t *talk) carryAll(l *leg) error {
	for {
		n, err := t.hear(l)
		if failed := t.deliver(l, n); failed != nil {
			return failed
		}
		switch {
		case err != nil:
			return err
		case l.in.full():
			err = t.deliverLarge(l)
		default:
			if err = t.delivered(l); err == nil {
				err = l.fill()
			}
		}
		if err != nil {
			return err
		}
	}
}

// deliver passes on the first n bytes.
func (t *talk) deliver(l *leg, n int) error {
	for n > 0 {
		took, err := t.s.client.Write(l.in.unread()[:n])
		l.in.drop(took)
		t.s.count(t.g.metrics, toClient, int64(took))
		n -= took
		switch {
		case err == nil:
		case !isTimeout(err) || t.g.stopped.Load():
			return errClientGone
		case took == 0:
			return errClientStuck
		default: // it is slow while MAIN changes, but takes something
			_ = t.s.client.SetWriteDeadline(time.Now().Add(t.g.cfg.StuckTimeout)) // fails on a closed connection only
		}
	}
	return nil
}

// deliverLarge passes on a message that is larger than the buffer. From here
// until its end nothing can be said to the client but its next bytes.
func (t *talk) deliverLarge(l *leg) error {
	var head [2]byte
	bolt.Peek(head[:], l.in.unread())
	tag, first := bolt.Tag(head[1]), int64(1)
	for skip := (bolt.Skipper{}); ; {
		n, ended := skip.Skip(l.in.unread())
		if tag == bolt.TagRecord {
			t.mu.Lock()
			t.seeRowsLocked(l.in.unread()[:n], first)
			t.mu.Unlock()
			first = 0
		}
		if err := t.deliver(l, n); err != nil {
			return err
		}
		if ended {
			break
		}
		if err := l.fill(); err != nil {
			return errTorn
		}
	}
	if tag == bolt.TagRecord {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.hearSummaryLocked(tag, nil)
}

// hear takes note of the whole messages that have arrived, and returns their
// size. A FAILURE that says that MAIN is elsewhere is not among them, nor are the
// rows that arrived with it: the client shall see neither.
func (t *talk) hear(l *leg) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, rows, from := l.in.unread(), int64(0), 0
	for {
		size, tag := bolt.Scan(b[n:])
		if tag == bolt.TagRecord {
			rows++
			n += size
			continue
		}
		if size > 2 && t.refusedLocked(tag, b[n:n+size]) {
			n, rows, err = from, 0, errRefused
		}
		t.seeRowsLocked(b[from:n], rows)
		if size == 0 || err != nil {
			break
		}
		if size > 2 { // or else it is a NOOP
			err = t.hearSummaryLocked(tag, bolt.Payload(b[n:n+size]))
		}
		n += size
		rows, from = 0, n
	}
	l.delivering = n > 0
	return n, err
}

func (t *talk) refusedLocked(tag bolt.Tag, m []byte) bool {
	return tag == bolt.TagFailure && !t.pinned && !t.leg.main.replica && t.d.underway() > 0 && isNotMain(bolt.Payload(m))
}

func (t *talk) seeRowsLocked(b []byte, count int64) {
	if t.d.unit != unitTransaction || t.g.cfg.Rerun != RerunVerified {
		b = nil // which nobody will compare
	}
	t.seen.rows(b, count)
}

// hearSummaryLocked takes a summary; one without payload is too large to look
// into, and will not tell whether more rows follow.
func (t *talk) hearSummaryLocked(tag bolt.Tag, payload []byte) error {
	if t.d.underway() == 0 {
		return errUnasked
	}
	if payload != nil {
		t.seen.summary(payload, t.d.first())
	}
	more := payload == nil || isTrue(bolt.Lookup(payload, "has_more"))
	t.pinned = t.pinned || payload == nil
	t.d.answer(tag, more)
	return nil
}

func isTrue(raw []byte) bool { return len(raw) == 1 && raw[0] == 0xC3 }

// delivered says that all that was heard is with the client. It returns errDone
// when that was the last that a replaced MAIN had to say.
func (t *talk) delivered(l *leg) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.delivering = false
	if t.d.due() == 0 {
		t.quiet.Signal()
	}
	if t.d.unit == unitNone && t.s.leaving.Load() {
		t.s.wake() // it waits for the next unit, which may begin elsewhere
	}
	if l.held && t.d.underway() == 0 {
		return errDone
	}
	return nil
}

// hold says that l's MAIN was replaced: from now on nothing is sent on it, and
// what is under way has FinishTimeout to be answered, but by one that is disowned. It waits for nobody. Open
// transactions are not let run to their end there: whether a COMMIT sent to a MAIN
// that is being demoted took effect could not be told, and before it is sent they
// can be run again on the next one.
func (t *talk) hold(l *leg) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.held {
		return
	}
	l.held = true
	now, until := time.Now(), past
	if t.d.underway() > 0 && !t.g.stopped.Load() && !t.g.disowns(l.main) {
		until = now.Add(t.g.cfg.FinishTimeout)
	}
	_ = l.conn.SetWriteDeadline(past) // these fail on a closed connection only
	_ = l.conn.SetReadDeadline(until)
	if !t.g.stopped.Load() {
		_ = t.s.client.SetWriteDeadline(now.Add(t.g.cfg.StuckTimeout))
	}
}
