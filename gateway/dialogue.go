package gateway

import (
	"slices"

	"memgraph-controller/memgraph/bolt"
)

// ask is a request by what it can do to a unit.
type ask byte

// The asks. What a PULL does in a transaction that is begun and ended in text
// depends on the statement before it: that of COMMIT is an askCommit.
const (
	askOther ask = iota // what Memgraph knows and the gateway has no use for
	askRun              // prepares a statement; nothing is executed
	askPull             // PULL or DISCARD: executes, and commits outside a transaction
	askBegin
	askCommit
	askRollback
	askReset
)

// unit is the smallest thing that takes effect or does not.
type unit byte

// The units.
const (
	unitNone        unit = iota
	unitAuto             // one RUN and its PULLs
	unitTransaction      // BEGIN to COMMIT or ROLLBACK
)

// fate is what became of a unit whose connection was lost.
type fate byte

// The fates.
const (
	fateNone    fate = iota // there is no unit, or it is over
	fateFailed              // it failed, and the client has been told
	fateUndone              // nothing of it took effect, nor ever will
	fateUnknown             // it may have taken effect
)

// keepAsked is how many answered requests are remembered for nothing.
const keepAsked = 1 << 10

// dialogue follows one client's requests and their answers, so that at any
// moment it is known what the loss of the connection would mean. A unit begins
// only when all that was asked before is answered; within a unit requests come
// as they like. It is pure: its owner guards it.
type dialogue struct {
	unit    unit
	failed  bool      // a FAILURE was answered and no RESET since
	closing bool      // its end was asked for: what follows belongs to another
	over    bool      // the unit has ended; a RESET may still be due
	text    statement // of the last RUN
	recalls int       // how often it was to be sent anew

	asked  []ask // in their order, the first answered ones included
	head   int   // of asked, answered
	unsent int   // of asked, from the end: not on their way to MAIN yet
}

// ask registers a request which is not sent yet. It must not be called where
// bounds says that all else is to be answered first.
func (d *dialogue) ask(a ask, s statement) {
	switch a {
	case askRun:
		if d.text = s; s == stmtBegin {
			a = askBegin
		}
	case askPull:
		a = d.pulls()
	}
	if d.unit == unitNone {
		d.unit = unitAuto
		if a == askBegin {
			d.unit = unitTransaction
		}
	}
	if d.head > keepAsked { // of a pipeline that never runs dry
		d.asked, d.head = append(d.asked[:0], d.asked[d.head:]...), 0
	}
	d.closing = d.closing || a == askCommit || a == askRollback || a == askReset
	d.asked = append(d.asked, a)
	d.unsent++
}

// pulls is what a PULL of the last RUN does.
func (d *dialogue) pulls() ask {
	switch d.text {
	case stmtCommit:
		return askCommit
	case stmtRollback:
		return askRollback
	}
	return askPull
}

// bounds reports whether a cannot be told to belong to the present unit before
// all that was asked is answered.
func (d *dialogue) bounds(a ask) bool {
	switch {
	case d.due() == 0 || a == askReset:
		return false
	case d.unit == unitAuto:
		return a != askPull
	}
	return d.closing
}

// due is the number of requests without an answer.
func (d *dialogue) due() int { return len(d.asked) - d.head }

// underway is how many of them are on their way.
func (d *dialogue) underway() int { return d.due() - d.unsent }

// first is the ask that the next answer is for.
func (d *dialogue) first() ask { return d.asked[d.head] }

// answer takes a summary; more says that a SUCCESS ends only a part of the
// rows. It returns false where nothing was asked.
func (d *dialogue) answer(tag bolt.Tag, more bool) bool {
	if d.underway() == 0 {
		return false
	}
	a := d.first()
	d.head++
	switch tag {
	case bolt.TagFailure:
		d.failed = true
	case bolt.TagSuccess:
		d.succeed(a, more)
	}
	if d.due() == 0 {
		d.asked, d.head = d.asked[:0], 0
		if d.over {
			d.clear()
		}
	}
	return true
}

func (d *dialogue) succeed(a ask, more bool) {
	switch a {
	case askReset:
		d.failed, d.over = false, true
	case askCommit, askRollback:
		d.over = d.over || !more
	case askPull:
		d.over = d.over || !more && d.unit == unitAuto
	case askOther:
		d.over = d.over || d.unit == unitAuto
	}
}

// clear forgets the unit.
func (d *dialogue) clear() {
	*d = dialogue{asked: d.asked[:0]}
}

// waits reports whether what is unsent must wait while clients are held: it begins
// a unit, or may have one take effect. It is sent as a whole or not at all.
//
//	unit         RESET, ROLLBACK   BEGIN, COMMIT   anything else
//	auto         sent              -               waits
//	transaction  sent              waits           sent
func (d *dialogue) waits() bool {
	return slices.ContainsFunc(d.asked[len(d.asked)-d.unsent:], func(a ask) bool {
		switch a {
		case askReset, askRollback:
			return false
		case askBegin, askCommit:
			return true
		}
		return d.unit == unitAuto
	})
}

// recall says that nothing is on its way any more: the connection is gone, and
// what is due may be sent on another.
func (d *dialogue) recall() { d.unsent = d.due() }

// fate is what became of the unit now that its connection is gone, if the
// answers so far are all there will ever be:
//
//	unit         on their way, unanswered     fate
//	none, over   RESET at most                none
//	failed       anything: it is ignored      failed
//	auto         a PULL, or a COMMIT in text  unknown
//	auto         RUN alone, or nothing        undone: executing is PULL's work
//	transaction  a COMMIT                     unknown
//	transaction  anything else, or nothing    undone: the session's end aborts it
func (d *dialogue) fate() fate {
	switch {
	case d.unit == unitNone || d.over:
		return fateNone
	case d.failed:
		return fateFailed
	}
	for _, a := range d.asked[d.head : len(d.asked)-d.unsent] {
		if a == askCommit || d.unit == unitAuto && (a == askPull || a == askOther) {
			return fateUnknown
		}
	}
	return fateUndone
}
