package gateway

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// lobbyPatience is for how long a client may think, with no room for others: one
// that means well has sent its login within a round trip or two.
const lobbyPatience = time.Second

// lobby is where clients are while they are to send something before they have
// logged in. There is room for limit; when it is full, no others are accepted until
// one leaves, and the one that has been there longest has to, after lobbyPatience.
// So a crowd that comes at once waits a little, and those who only fill the place
// do not keep others out.
type lobby struct {
	limit int
	room  chan struct{} // capacity 1: somebody has left

	mu      sync.Mutex
	waiting list.List // of *session, the longest first
}

// visit is a session's stay in the lobby, whose mutex guards it.
type visit struct {
	place   *list.Element // nil while the session is elsewhere
	entered time.Time
	ousted  atomic.Bool // the session ends for that; also read without the mutex
}

func newLobby(limit int) *lobby { return &lobby{limit: limit, room: make(chan struct{}, 1)} }

// enter has s wait, unless it does already.
func (l *lobby) enter(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.visit.place == nil {
		s.visit.entered, s.visit.place = time.Now(), l.waiting.PushBack(s)
	}
}

// leave is the end of that.
func (l *lobby) leave(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaveLocked(s)
}

func (l *lobby) leaveLocked(s *session) {
	if s.visit.place == nil {
		return
	}
	l.waiting.Remove(s.visit.place)
	s.visit.place = nil
	select {
	case l.room <- struct{}{}:
	default: // who waits for room will look
	}
}

// awaitRoom returns once there is room for another, or ctx has ended.
func (l *lobby) awaitRoom(ctx context.Context) {
	for {
		oldest, wait := l.full(time.Now())
		if oldest == nil {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.room:
		case <-timer.C:
			l.oust(oldest)
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// full is who has to go next, and when, if there is no room.
func (l *lobby) full(now time.Time) (oldest *session, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting.Len() < l.limit {
		return nil, 0
	}
	oldest = l.waiting.Front().Value.(*session)
	return oldest, lobbyPatience - now.Sub(oldest.visit.entered)
}

// oust ends a session that is still waiting.
func (l *lobby) oust(s *session) {
	l.mu.Lock()
	waits := s.visit.place != nil
	l.leaveLocked(s)
	s.visit.ousted.Store(waits)
	l.mu.Unlock()
	if waits {
		reset(s.client)
	}
}
