package gateway

import (
	"context"
	"errors"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// Rerun says which interrupted transactions the gateway runs again on the next
// MAIN. One that may have taken effect is never among them.
type Rerun string

// The kinds of Rerun. Whatever was never sent to any MAIN is sent with each.
const (
	// RerunOff leaves it to the client: it is told to run the transaction again.
	RerunOff Rerun = "off"
	// RerunUnseen takes those of which the client has seen no row and no result.
	RerunUnseen Rerun = "unseen"
	// RerunVerified takes the others too, goes on where the client has seen the
	// very same on both MAINs, and does as RerunOff where it has not.
	RerunVerified Rerun = "verified"
)

// maxRefusals is how many MAINs in a row may answer a unit that they are none, each
// after it had answered the opposite, or hang up on it: then it is the unit's own
// doing, as Memgraph hangs up on requests out of turn. Each may cost a login.
const maxRefusals = 5

// start has the leg's answers carried to the client by a goroutine of its own.
func (t *talk) start() {
	l := t.leg
	t.mu.Lock()
	if !l.held {
		_ = l.conn.SetDeadline(time.Time{}) // fails on a closed connection only
	}
	t.mu.Unlock()
	t.g.sessions.move(t.s, stateRelaying)
	l.running.Go(func() { t.carry(l) })
}

// drop closes the leg, having waited for its end, and returns why it ended.
func (t *talk) drop() error {
	l := t.leg
	l.running.Wait()
	t.s.bond.Store(nil)
	t.mu.Lock()
	t.leg = nil
	t.mu.Unlock()
	t.g.sessions.move(t.s, stateDetached)
	l.close()
	t.resetDeadlines()
	return l.why
}

// settle decides what becomes of the unit whose leg was lost or is to be given
// up:
//
//	fate      asked for, and not answered   then
//	none      nothing, or RESET             nothing, or SUCCESS
//	failed    anything                      IGNORED, RESET: SUCCESS
//	undone    nothing                       run again with the next request, or told then
//	undone    RESET or ROLLBACK first       SUCCESS
//	undone    anything else                 run again, or MainChanged
//	unknown   a commit, somewhere           OutcomeUnknown
//
// A unit that commits in pieces is unknown as soon as one of those may have been.
// A session whose connection cannot be replaced by another is cut.
func (t *talk) settle() ending {
	main := t.leg.main
	why := t.drop()
	switch {
	case errors.Is(why, errTorn):
		return endTorn
	case errors.Is(why, errUnasked):
		return endLostTrack
	case errors.Is(why, errClientGone):
		return endFinished
	case errors.Is(why, errClientStuck):
		return endStuck
	case t.pinned:
		return endPinned
	}
	fate, refused := t.fate(), errors.Is(why, errRefused)
	if refused {
		t.g.metrics.refusals.Inc()
		t.g.verifier.doubt(main)
		fate = fateUndone
	}
	if fate == fateUndone && t.inPieces(refused) {
		fate = fateUnknown
	}
	if fate == fateUnknown && main.replica && !t.g.gate.promotes(main.addr) {
		fate = fateUndone // a replica refuses to write
	}
	switch {
	case fate == fateNone, fate == fateFailed:
		return t.stand(proxy{state: proxyFailed})
	case fate == fateUnknown:
		return t.stand(proxy{state: proxyLost, why: failOutcomeUnknown})
	case !t.recall():
		return t.stand(proxy{state: proxyLost, why: failMainChanged})
	}
	return ""
}

func (t *talk) fate() fate {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.d.fate()
}

// inPieces reports whether a part of the unit may have taken effect for good,
// though the unit as a whole has not. A RUN that was refused has executed nothing.
func (t *talk) inPieces(refused bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.begun || refused && t.d.unit == unitAuto && t.d.first() == askRun {
		return false
	}
	return t.journal.piecemeal()
}

// recall has what is due sent anew, with what led to it, if that is allowed and
// of any use.
func (t *talk) recall() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !t.mayRerunLocked():
		return false
	case t.d.due() > 0 && (t.d.first() == askReset || t.d.first() == askRollback):
		return false
	}
	if t.d.recalls++; t.d.recalls > maxRefusals {
		return false
	}
	t.d.recall()
	return true
}

func (t *talk) mayRerunLocked() bool {
	switch {
	case !t.begun:
		return true
	case t.journal.broken || t.g.cfg.Rerun == RerunOff:
		return false
	case !t.seen.seen:
		return true
	}
	return t.g.cfg.Rerun == RerunVerified && t.d.unit == unitTransaction
}

// stand gives up the unit: p answers what is due, and what is to come until the
// client has let go of it.
func (t *talk) stand(p proxy) ending {
	t.mu.Lock()
	if t.d.due() == 0 && t.d.fate() == fateNone {
		p.state = proxyIdle
	}
	out := t.out[:0]
	for ; t.d.due() > 0; t.d.head++ {
		out = p.answer(out, t.d.first())
	}
	t.d.clear()
	t.mu.Unlock()
	t.proxy = p
	t.g.metrics.stoodIn(p.why)
	if len(out) == 0 {
		return ""
	}
	return t.reply(out)
}

// Why a rerun came to nothing.
var errDiffers = errors.New("it answers differently from the MAIN before")

// pause parks what is due until clients are not held any more. Its leg is kept,
// unless that has waited for too long.
func (t *talk) pause(ctx context.Context, expires time.Time) ending {
	t.g.metrics.paused.Inc()
	main, how := t.g.pass(ctx, t.s, newPause(t.leg.main), expires)
	t.in.push(t.s.head)
	t.s.head = nil
	t.g.sessions.move(t.s, stateRelaying)
	switch {
	case main != nil, how == "":
		return ""
	case how == endLeft:
		return how
	}
	t.hold(t.leg)
	return t.settle()
}

// resume opens a leg, and brings the unit on it to where the client has seen it.
// What is due is sent by its caller.
func (t *talk) resume(ctx context.Context, expires time.Time) ending {
	for refusals := 0; refusals < maxRefusals; {
		answer, tag, how := t.attach(ctx, expires)
		switch {
		case how != "":
			return t.giveUp(how)
		case tag != bolt.TagSuccess:
			t.drop()
			_ = t.reply(answer)
			return t.finish(endFinished)
		}
		main := t.leg.main
		err := t.rerun()
		if err == nil {
			t.start()
			return ""
		}
		t.drop()
		switch {
		case errors.Is(err, errDiffers):
			t.g.metrics.rerun(rerunDiffers)
			return t.stand(proxy{state: proxyLost, why: failMainChanged})
		case errors.Is(err, errRefused):
			refusals++
			t.g.verifier.doubt(main)
		}
	}
	return t.stand(proxy{state: proxyLost, why: failMainChanged})
}

// giveUp answers a unit that found no MAIN in time.
func (t *talk) giveUp(how ending) ending {
	f, told := t.g.refusal(how)
	if !told {
		return how
	}
	if t.begun {
		f = failMainChanged
	}
	return t.stand(proxy{state: proxyLost, why: f})
}

// rerun sends, one by one, the requests whose answers the client has, if only in
// part, and compares what it gets. A commit is not among them: its answer ends
// the unit.
func (t *talk) rerun() error {
	l := t.leg
	t.journal.rewind()
	got, partly := t.seen.again(), false
	for got.count < t.seen.count {
		m := t.journal.next()
		if len(m) == 0 {
			return errDiffers
		}
		if _, err := l.conn.Write(m); err != nil {
			return err
		}
		t.journal.sending(len(m))
		var err error
		if partly, err = l.repeat(got, t.seen.count); err != nil {
			return err
		}
	}
	if !got.equal(&t.seen) {
		return errDiffers
	}
	if t.begun {
		t.g.metrics.rerun(rerunDone)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.d.recall()
	if partly {
		t.d.unsent--
	}
	return nil
}

// repeat reads the answers to one request up to its summary, or to as many
// messages as there are to be in all. It returns true where the summary is still
// to come.
func (l *leg) repeat(got *prints, all int64) (partly bool, err error) {
	for got.count < all {
		m, tag, err := l.message()
		switch {
		case errors.Is(err, bolt.ErrTooLarge):
			return false, errDiffers
		case err != nil:
			return false, err
		case tag == bolt.TagRecord:
			got.rows(m, 1)
		case tag == bolt.TagSuccess:
			got.summary(bolt.Payload(m), askOther)
			return false, nil
		case isNotMain(bolt.Payload(m)):
			return false, errRefused
		default:
			return false, errDiffers
		}
	}
	return true, nil
}
