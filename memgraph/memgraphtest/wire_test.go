package memgraphtest

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// wire is a connection on which every message is the test's own.
type wire struct {
	t      *testing.T
	conn   net.Conn
	reader *bolt.Reader
}

// dial shakes hands on one version.
func dial(t *testing.T, s *Server, v bolt.Version) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	_, err = conn.Write(bolt.Propose(v).Append(nil))
	require.NoError(t, err)
	got, err := bolt.ReadVersion(conn)
	require.NoError(t, err)
	require.Equal(t, v, got)
	return &wire{t: t, conn: conn, reader: bolt.NewReader(conn, 0)}
}

// login is dial with HELLO, and LOGON where the version wants it.
func login(t *testing.T, s *Server, v bolt.Version) *wire {
	t.Helper()
	w := dial(t, s, v)
	hello := bolt.Hello{Extra: map[string]any{"user_agent": "test/1", "scheme": "none"}}
	require.IsType(t, bolt.Success{}, w.ask(hello))
	if v.AtLeast(5, 1) {
		require.IsType(t, bolt.Success{}, w.ask(bolt.Logon{Auth: map[string]any{"scheme": "none"}}))
	}
	return w
}

func (w *wire) send(m bolt.Message) {
	w.t.Helper()
	b, err := bolt.AppendMessage(nil, m)
	require.NoError(w.t, err)
	_, err = w.conn.Write(b)
	require.NoError(w.t, err)
}

// receive returns nil once the server has closed.
func (w *wire) receive() bolt.Message {
	w.t.Helper()
	payload, err := w.reader.ReadMessage()
	if err == io.EOF {
		return nil
	}
	require.NoError(w.t, err)
	m, err := bolt.ParseMessage(payload)
	require.NoError(w.t, err)
	return m
}

// ask sends a message and returns its answer, records skipped.
func (w *wire) ask(m bolt.Message) bolt.Message {
	w.t.Helper()
	w.send(m)
	for {
		answer := w.receive()
		if _, record := answer.(bolt.Record); !record {
			return answer
		}
	}
}

// answered is all that a statement came to.
type answered struct {
	fields  []string
	rows    [][]any
	meta    map[string]any
	failure *bolt.Failure
	at      string
}

// statement sends RUN and PULL, and resets after a failure.
func (w *wire) statement(query string) answered {
	w.t.Helper()
	a := answered{at: "RUN", fields: []string{}}
	switch m := w.ask(bolt.Run{Query: query}).(type) {
	case bolt.Failure:
		a.failure = &m
		require.IsType(w.t, bolt.Success{}, w.ask(bolt.Reset{}))
		return a
	case bolt.Success:
		list, _ := m.Meta["fields"].([]any)
		a.fields = append(a.fields, asStrings(list)...)
	}
	a.at = "PULL"
	w.send(bolt.Pull{N: -1, QID: -1})
	for {
		switch m := w.receive().(type) {
		case bolt.Record:
			a.rows = append(a.rows, m.Values)
		case bolt.Success:
			a.meta = m.Meta
			return a
		case bolt.Failure:
			a.failure = &m
			require.IsType(w.t, bolt.Success{}, w.ask(bolt.Reset{}))
			return a
		default:
			require.Fail(w.t, "unexpected answer", "%v to %s", m, query)
		}
	}
}

var reset = bolt.Reset{}

func runOf(query string) bolt.Run { return bolt.Run{Query: query} }
