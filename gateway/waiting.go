package gateway

import "container/list"

// ticket is a session's place before the gate. After it was admitted, a session
// that has to connect must leave before it may wait again, then ahead of all
// newcomers.
type ticket struct {
	admitted  chan *incarnation // capacity 1
	connected *incarnation      // to which it is already; nil: it has to connect
	place     *list.Element     // nil while not waiting
	before    bool              // it has been admitted before
}

func newTicket() *ticket { return &ticket{admitted: make(chan *incarnation, 1)} }

// newPause is the ticket of a session that is connected, and waits for the end of
// a hold: nothing else keeps it.
func newPause(connected *incarnation) *ticket {
	t := newTicket()
	t.connected = connected
	return t
}

// wait puts t into the line; t.admitted delivers when it is its turn, which may
// be at once. It returns false, and does nothing, where the line is full.
func (g *gate) wait(t *ticket) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case t.before:
		t.place = g.waiting.PushFront(t)
	case g.waiting.Len()+g.paused.Len() >= g.maxWaiting:
		return false
	case t.connected != nil:
		t.place = g.paused.PushBack(t)
	default:
		t.place = g.waiting.PushBack(t)
	}
	g.admitLocked()
	return true
}

// withdraw takes t out of the line. Where it had been admitted meanwhile, it
// returns what for: the session is in, and has to leave.
func (g *gate) withdraw(t *ticket) *incarnation {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.place == nil {
		return <-t.admitted
	}
	if t.connected != nil {
		g.paused.Remove(t.place)
	} else {
		g.waiting.Remove(t.place)
	}
	t.place = nil
	return nil
}

// leave gives back the place that an admitted session holds while it connects.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.attaching--
	g.admitLocked()
}

func (g *gate) admitLocked() {
	for g.hold.Load() == nil && g.paused.Len() > 0 {
		t := g.paused.Remove(g.paused.Front()).(*ticket)
		t.place = nil
		t.admitted <- t.connected
	}
	for g.passable && g.attaching < g.maxAttaching && g.waiting.Len() > 0 {
		t := g.waiting.Remove(g.waiting.Front()).(*ticket)
		t.place, t.before = nil, true
		g.attaching++
		t.admitted <- g.main.Load()
	}
}
