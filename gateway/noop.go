package gateway

import (
	"context"
	"time"
)

// keepAwake has clients sent a NOOP whose connections have carried nothing for
// NoopInterval, for the sake of what stands between, until ctx ends.
func (g *Gateway) keepAwake(ctx context.Context) {
	if g.cfg.NoopInterval == 0 {
		return
	}
	ticker := time.NewTicker(g.cfg.NoopInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			g.sessions.each((*session).nudge)
		}
	}
}

// nudge wakes the session to send a NOOP, if it waits for its client and has carried
// nothing since the last time.
func (s *session) nudge() {
	was := s.carried
	s.carried = s.toMain.Load() + s.toClient.Load()
	if t := s.talk.Load(); t != nil && was == s.carried && s.login.Load() != nil && t.calmNow() {
		s.noop.Store(true)
		s.wake()
	}
}

// keepAwake sends a NOOP, in the session's own goroutine, to a client that speaks a
// Bolt which has it and gets no answers at the moment.
func (s *session) keepAwake() {
	if t := s.talk.Load(); t == nil || !t.version.AtLeast(4, 1) || !t.silent() {
		return
	}
	if _, err := s.client.Write(replyNoop); err != nil {
		reset(s.client) // half of one may be with the client; its session will see
	}
}

// silent reports whether no answer is on its way to the client.
func (t *talk) silent() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.d.underway() == 0 && (t.leg == nil || !t.leg.delivering)
}
