package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrNotHeld says that clients are not held, or not any more.
var ErrNotHeld = errors.New("clients are not held")

// quietPoll is between two looks at a session that MAIN owes an answer: a commit
// takes some ms.
const quietPoll = time.Millisecond

// Quiet waits, while clients are held by Expect, until nothing that this gateway has
// sent to any MAIN can still be acknowledged to a client as having taken effect; nor
// is anything sent that could, before the next Serve. An open transaction whose
// COMMIT was not sent is no obstacle, and what is relayed as bytes is not known. It
// returns the generation of the hold; ErrNotHeld if there is none or it ends.
func (g *Gateway) Quiet(ctx context.Context) (generation int64, err error) {
	first := g.gate.expecting()
	if first == nil {
		return 0, ErrNotHeld
	}
	last := first
	lasts := func() bool {
		last = g.gate.expecting()
		return last != nil && last.began.Equal(first.began)
	}
	settle := func(s *session) {
		for ctx.Err() == nil && lasts() && s.inDoubt() {
			sleep(ctx, quietPoll)
		}
	}
	g.sessions.each(settle)
	if g.read != nil {
		g.read.sessions.each(settle)
	}
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("wait for commits under way: %w", ctx.Err())
	case !lasts():
		return 0, ErrNotHeld
	}
	return last.generation, nil
}

// inDoubt reports whether the session's unit may be taking effect at the moment.
func (s *session) inDoubt() bool {
	t := s.talk.Load()
	return t != nil && !t.reads() && t.fate() == fateUnknown
}

// reads reports whether the session is at a replica, where nothing takes effect.
func (t *talk) reads() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.leg != nil && t.leg.main.replica
}
