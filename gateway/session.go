package gateway

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Why a bond was cut.
var (
	errReplaced = errors.New("its MAIN is not MAIN any more")
	errStopped  = errors.New("the gateway has stopped")
)

// sessionState is a step in a session's life; the label of the sessions gauge.
type sessionState int32

// The steps in their order, though a session may be parked again.
const (
	stateHandshake sessionState = iota // its first bytes are awaited
	stateParked
	stateAttaching // connecting to MAIN
	stateRelaying
	stateDetached // speaks Bolt, and is connected to no MAIN at the moment
	stateRefusing
	sessionStates // their number
)

func (s sessionState) String() string {
	return [sessionStates]string{"handshake", "parked", "attaching", "relaying", "detached", "refusing"}[s]
}

// session is one client connection. All but the atomic fields belong to the
// goroutine that leads it.
type session struct {
	id     uint64
	client *socket
	since  time.Time
	state  sessionState
	head   []byte // read from the client, and not relayed yet
	why    error  // what its connections failed with, if they did
	bond   atomic.Pointer[bond]

	visit visit

	talk   atomic.Pointer[talk]       // nil if it speaks no Bolt: it cannot be woken, and is cut
	login  atomic.Pointer[credential] // nil while it has none
	active atomic.Int64               // when its last unit began, in s since 1970

	leaving atomic.Bool // it ends as soon as it is between two units
	noop    atomic.Bool // its client is due a NOOP
	carried int64       // bytes when keepAwake last looked

	toMain, toClient atomic.Int64 // bytes relayed
}

// cutIfReplaced gives up the session's connection to any process but main. The
// bond is read first: a session that is tied to a newer main than the one we
// know would be cut otherwise.
func (s *session) cutIfReplaced(main *atomic.Pointer[incarnation]) {
	if b := s.bond.Load(); b != nil && b.main != main.Load() {
		b.cut(errReplaced)
	}
}

// stop ends the session, whatever it waits for; one that speaks Bolt has lastWord
// to answer its client.
func (s *session) stop() {
	if b := s.bond.Load(); b != nil {
		b.cut(errStopped)
	}
	if s.talk.Load() != nil {
		s.hurry()
	} else {
		reset(s.client)
	}
}

// lastWord is what a stopping gateway leaves a client to take its last answers,
// a few bytes.
const lastWord = time.Second

// hurry wakes a session that speaks Bolt, and gives it lastWord to end.
func (s *session) hurry() {
	_ = s.client.SetWriteDeadline(time.Now().Add(lastWord)) // these fail on a closed connection only
	_ = s.client.SetReadDeadline(past)
}

// dismiss has a session that speaks Bolt end when it is between two units.
func (s *session) dismiss() {
	s.leaving.Store(true)
	s.wake()
}

// wake has a session that speaks Bolt look at what has changed.
func (s *session) wake() {
	if s.talk.Load() != nil {
		_ = s.client.SetReadDeadline(past) // fails on a closed connection only
	}
}

// count adds n relayed bytes to the session's counters and to the totals.
func (s *session) count(m *metrics, to direction, n int64) {
	if to == toMain {
		s.toMain.Add(n)
	} else {
		s.toClient.Add(n)
	}
	m.moved[to].Add(float64(n))
}

// bond ties a session to the process that it is, or is being, connected to.
type bond struct {
	main *incarnation

	mu      sync.Mutex
	release func() // gives the connection up; must not wait
	why     error  // once it is cut
}

// hold has release called when the bond is cut, in the former one's stead. It
// returns why the bond was cut, if it was.
func (b *bond) hold(release func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.release = release
	return b.why
}

// broken is why the bond was cut, if it was.
func (b *bond) broken() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.why
}

// cut gives the connection up, and does not wait for that.
func (b *bond) cut(why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.why == nil {
		b.why = why
		b.release()
	}
}

// registry holds the sessions there are.
type registry struct {
	lobby   *lobby
	running sync.WaitGroup
	all     sync.Map // of *session; ranging over it blocks nobody
	states  [sessionStates]atomic.Int64
	number  atomic.Int64 // of sessions; the states do not add up while one moves
	lastID  atomic.Uint64
}

func (r *registry) add(client *socket) *session {
	s := &session{id: r.lastID.Add(1), client: client, since: time.Now()}
	r.number.Add(1)
	r.states[s.state].Add(1)
	r.all.Store(s, nil)
	return s
}

func (r *registry) remove(s *session) {
	r.lobby.leave(s)
	r.all.Delete(s)
	r.states[s.state].Add(-1)
	r.number.Add(-1)
}

// move counts s in its next state.
func (r *registry) move(s *session, to sessionState) {
	r.states[to].Add(1)
	r.states[s.state].Add(-1)
	s.state = to
}

func (r *registry) in(s sessionState) int64 { return r.states[s].Load() }

func (r *registry) len() int64 { return r.number.Load() }

func (r *registry) each(f func(*session)) {
	r.all.Range(func(s, _ any) bool {
		f(s.(*session))
		return true
	})
}
