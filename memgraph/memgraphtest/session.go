package memgraphtest

import (
	"errors"
	"net"
	"time"

	"memgraph-controller/memgraph/bolt"
)

const (
	// maxMessage bounds what a client sends at once, in bytes.
	maxMessage = 64 << 20
	// flushAfter is how much is buffered before it is sent, in bytes.
	flushAfter = 64 << 10
)

// sessionState is what a session waits for. Source: Memgraph v3.12
// bolt/v1/states.
type sessionState int

const (
	expectHello sessionState = iota
	expectLogon
	expectRun  // State::Idle
	expectPull // State::Result
	expectReset
)

// session is one Bolt connection. It belongs to one goroutine.
type session struct {
	*instance
	conn     net.Conn
	reader   *bolt.Reader
	out      []byte
	protocol bolt.Version
	state    sessionState
	loggedIn bool
	tx       *transaction // explicit; nil outside
	result   *result      // what PULL takes from
}

// offers are the versions of Bolt that a version speaks. Source: Memgraph v3.12
// bolt/v1/constants.hpp:32; observed.
func offers(v version) []bolt.Version {
	list := []bolt.Version{{Major: 5, Minor: 2}, {Major: 4, Minor: 3}, {Major: 4, Minor: 1}, {Major: 4}, {Major: 1}}
	if v.atLeast(3, 12) {
		list = append(list, bolt.Version{Major: 4, Minor: 4})
	}
	return list
}

func newSession(i *instance, c net.Conn) *session {
	return &session{instance: i, conn: c, reader: bolt.NewReader(c, maxMessage)}
}

// run serves the connection until one side ends it.
func (s *session) run() {
	defer s.quit()
	if !s.handshake() {
		return
	}
	for {
		if s.reader.Buffered() == 0 && !s.flush() {
			return
		}
		payload, err := s.read()
		if err != nil {
			return
		}
		m, err := s.parse(payload)
		if err != nil || !s.handle(m) {
			if err != nil {
				s.violation()
			}
			s.flush()
			return
		}
	}
}

// read waits for a message, before 3.8 not for ever, and then for a worker.
func (s *session) read() ([]byte, error) {
	if s.version.before(3, 8) {
		if err := s.conn.SetDeadline(time.Now().Add(s.cfg.SessionInactivity)); err != nil {
			return nil, err
		}
	}
	payload, err := s.reader.ReadMessage()
	if err == nil {
		s.faults.pause(s.life)
		s.desk.visit(s.life)
	}
	return payload, err
}

func (s *session) parse(payload []byte) (bolt.Message, error) {
	if !s.protocol.AtLeast(4, 0) {
		return bolt.ParseOldMessage(payload)
	}
	return bolt.ParseMessage(payload)
}

// quit undoes what is open.
func (s *session) quit() {
	s.abort()
	s.logout()
}

// handshake chooses a version. Where there is none in common it answers with a
// failure, as the real server does (observed), not with four zeros.
func (s *session) handshake() bool {
	proposals, err := bolt.ReadHandshake(s.conn)
	if err != nil && !errors.Is(err, bolt.ErrNotBolt) {
		return false
	}
	v, ok := proposals.Choose(offers(s.version))
	if !ok {
		s.violation()
		s.flush()
		return false
	}
	s.protocol = v
	s.out = v.Append(s.out)
	return true
}

// handle obeys one message; false ends the session.
func (s *session) handle(m bolt.Message) bool {
	if _, bye := m.(bolt.Goodbye); bye {
		return false
	}
	switch s.state {
	case expectHello, expectLogon:
		return s.handleLogin(m)
	case expectReset:
		if _, reset := m.(bolt.Reset); !reset {
			return s.send(bolt.Ignored{})
		}
	}
	switch m := m.(type) {
	case bolt.Reset:
		s.abort()
		s.state = expectRun
		return s.send(bolt.Success{})
	case bolt.Logoff:
		return s.handleLogoff()
	case bolt.Route:
		return s.handleRoute()
	case bolt.Run:
		if s.state == expectRun {
			return s.handleRun(m)
		}
	case bolt.Begin, bolt.Commit, bolt.Rollback:
		if s.state == expectRun {
			return s.handleTransaction(m)
		}
	case bolt.Pull:
		if s.state == expectPull {
			return s.handlePull(m.N, s.record)
		}
	case bolt.Discard:
		if s.state == expectPull {
			return s.handlePull(m.N, func([]any) bool { return true })
		}
	}
	return s.violation()
}

// handleLogin obeys HELLO and LOGON; all else comes too early. Versions before
// 5.1 bring the credentials with HELLO.
func (s *session) handleLogin(m bolt.Message) bool {
	switch m := m.(type) {
	case bolt.Hello:
		if _, named := m.Extra["user_agent"].(string); !named || s.state != expectHello {
			return s.violation()
		}
		if s.protocol.AtLeast(5, 1) {
			s.state = expectLogon
			return s.greet()
		}
		return s.login(m.Extra)
	case bolt.Logon:
		if s.state == expectLogon {
			return s.login(m.Auth)
		}
	}
	return s.violation()
}

// login checks credentials; a wrong one ends the session.
func (s *session) login(auth map[string]any) bool {
	if !s.authenticate(auth) {
		s.send(bolt.Failure{Code: codeUnauthenticated, Message: textUnauthenticated})
		return false
	}
	s.loggedIn = true
	s.counts.login()
	s.state = expectRun
	return s.greet()
}

// greet answers HELLO and LOGON alike. Every connection_id is the same (observed).
func (s *session) greet() bool {
	return s.send(bolt.Success{Meta: map[string]any{"connection_id": "bolt-1", "server": serverName}})
}

// handleLogoff: 3.7.2 does not answer, 3.12.0 does (observed).
func (s *session) handleLogoff() bool {
	if s.state != expectRun || !s.protocol.AtLeast(5, 1) {
		return s.violation()
	}
	s.logout()
	s.state = expectLogon
	if s.version.before(3, 8) {
		return true
	}
	return s.send(bolt.Success{})
}

func (s *session) logout() {
	if s.loggedIn {
		s.loggedIn = false
		s.counts.logout()
	}
}

// handleRoute answers as a build without enterprise code (observed); 3.7.2
// hangs up on Bolt 4.3.
func (s *session) handleRoute() bool {
	if s.state != expectRun || !s.protocol.AtLeast(4, 3) {
		return s.violation()
	}
	if s.version.before(3, 8) && !s.protocol.AtLeast(5, 0) {
		return false
	}
	return s.fail(&failure{codeRoute, textRoute})
}

// violation answers a client that broke the protocol, and ends the session.
func (s *session) violation() bool {
	s.send(bolt.Failure{Code: codeProtocol, Message: textProtocol})
	return false
}

// fail answers a failure, after which all is ignored until RESET.
func (s *session) fail(err error) bool {
	f := asFailure(err)
	if f == dying {
		return false
	}
	s.state = expectReset
	return s.send(bolt.Failure{Code: f.code, Message: f.text})
}

// record sends one row.
func (s *session) record(row []any) bool {
	wire := make([]any, len(row))
	for i, v := range row {
		wire[i] = s.wire(v)
	}
	return s.send(bolt.Record{Values: wire})
}

// send buffers a message; false means that the client is gone.
func (s *session) send(m bolt.Message) bool {
	out, err := bolt.AppendMessage(s.out, m)
	if err != nil {
		return false // a value without a form on the wire: there is none
	}
	s.out = out
	return len(s.out) < flushAfter || s.flush()
}

// flush sends what is buffered; false means that the client is gone.
func (s *session) flush() bool {
	if len(s.out) == 0 {
		return true
	}
	_, err := s.conn.Write(s.out)
	s.out = s.out[:0]
	return err == nil
}

// abort undoes what is open: the statement and the transaction.
func (s *session) abort() {
	if s.result != nil {
		s.result.abandon()
		s.result = nil
	}
	if s.tx != nil {
		s.tx.graph.Rollback()
		s.tx = nil
	}
}
