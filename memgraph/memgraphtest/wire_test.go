package memgraphtest

import (
	"fmt"
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
	return dialAt(t, s.Addr(), v)
}

func dialAt(t *testing.T, addr string, v bolt.Version) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(2*time.Minute)))
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
	return loginAt(t, s.Addr(), v)
}

func loginAt(t *testing.T, addr string, v bolt.Version) *wire {
	t.Helper()
	w := dialAt(t, addr, v)
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
	a, err := w.try(query)
	require.NoError(w.t, err, query)
	return a
}

// try is statement where the connection may break.
func (w *wire) try(query string) (answered, error) {
	a := answered{at: "RUN", fields: []string{}}
	m, err := w.exchange(bolt.Run{Query: query}, nil)
	if err != nil {
		return a, err
	}
	if success, ok := m.(bolt.Success); ok {
		list, _ := success.Meta["fields"].([]any)
		a.fields = append(a.fields, asStrings(list)...)
		a.at = "PULL"
		if m, err = w.exchange(bolt.Pull{N: -1, QID: -1}, &a.rows); err != nil {
			return a, err
		}
	}
	switch m := m.(type) {
	case bolt.Success:
		a.meta = m.Meta
	case bolt.Failure:
		a.failure = &m
		_, err = w.exchange(bolt.Reset{}, nil)
	default:
		err = fmt.Errorf("unexpected answer: %v", m)
	}
	return a, err
}

// exchange sends a message and returns what ends its answer.
func (w *wire) exchange(m bolt.Message, rows *[][]any) (bolt.Message, error) {
	b, err := bolt.AppendMessage(nil, m)
	if err != nil {
		return nil, err
	}
	if _, err := w.conn.Write(b); err != nil {
		return nil, err
	}
	for {
		payload, err := w.reader.ReadMessage()
		if err != nil {
			return nil, err
		}
		answer, err := bolt.ParseMessage(payload)
		record, isRecord := answer.(bolt.Record)
		if err != nil || !isRecord {
			return answer, err
		}
		*rows = append(*rows, record.Values)
	}
}

var reset = bolt.Reset{}

func runOf(query string) bolt.Run { return bolt.Run{Query: query} }
