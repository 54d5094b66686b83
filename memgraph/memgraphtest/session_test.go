package memgraphtest

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

var (
	v43 = bolt.Version{Major: 4, Minor: 3}
	v44 = bolt.Version{Major: 4, Minor: 4}
	v52 = bolt.Version{Major: 5, Minor: 2}

	protocolFailure = bolt.Failure{Code: codeProtocol, Message: textProtocol}
	greeting        = bolt.Success{Meta: map[string]any{"connection_id": "bolt-1", "server": serverName}}
	empty           = bolt.Success{Meta: map[string]any{}}
)

// What a real 3.12.0 chose for these proposals.
func TestHandshake(t *testing.T) {
	s := RunT(t)
	old := RunT(t, func(c *Config) { c.Version = "3.7.2" })
	for _, c := range []struct {
		name   string
		server *Server
		open   []byte
		want   []byte // nil for a failure and the end
	}{
		{"the Go driver's", s, []byte{0x60, 0x60, 0xB0, 0x17, 0, 8, 8, 5, 0, 2, 4, 4, 0, 0, 1, 4, 0, 0, 0, 3}, []byte{0, 0, 2, 5}},
		{"a range of 4.x", s, []byte{0x60, 0x60, 0xB0, 0x17, 0, 2, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0, 0, 4, 4}},
		{"a range of 4.x, 3.7.2", old, []byte{0x60, 0x60, 0xB0, 0x17, 0, 2, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0, 0, 3, 4}},
		{"4.1 exactly", s, []byte{0x60, 0x60, 0xB0, 0x17, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0, 0, 1, 4}},
		{"4.0 exactly", s, []byte{0x60, 0x60, 0xB0, 0x17, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0, 0, 0, 4}},
		{"1 exactly", s, []byte{0x60, 0x60, 0xB0, 0x17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{0, 0, 0, 1}},
		{"a manifest first", s, []byte{0x60, 0x60, 0xB0, 0x17, 0, 0, 1, 0xFF, 0, 8, 8, 5, 0, 2, 4, 4, 0, 0, 0, 3}, []byte{0, 0, 2, 5}},
		{"only 5.1", s, []byte{0x60, 0x60, 0xB0, 0x17, 0, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil},
		{"HTTP", s, []byte("GET / HTTP/1.1\r\n\r\n\r\n"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn, err := net.Dial("tcp", c.server.Addr())
			require.NoError(t, err)
			defer conn.Close()
			_, err = conn.Write(c.open)
			require.NoError(t, err)
			if c.want == nil {
				w := &wire{t: t, conn: conn, reader: bolt.NewReader(conn, 0)}
				assert.Equal(t, protocolFailure, w.receive())
				assert.Nil(t, w.receive(), "closed")
				return
			}
			got := make([]byte, 4)
			_, err = conn.Read(got)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestMessagesInOrder(t *testing.T) {
	s := RunT(t)
	for _, v := range []bolt.Version{{Major: 4}, {Major: 4, Minor: 1}, v43, v44, v52} {
		t.Run(v.String(), func(t *testing.T) {
			w := login(t, s, v)
			for _, m := range []bolt.Message{bolt.Run{Query: "UNWIND [1, 2, 3] AS x RETURN x"}, bolt.Pull{N: 1, QID: -1}, bolt.Discard{N: -1, QID: -1}} {
				w.send(m)
			}
			assert.Equal(t, bolt.Success{Meta: map[string]any{"fields": []any{"x"}}}, w.receive())
			assert.Equal(t, bolt.Record{Values: []any{int64(1)}}, w.receive())
			assert.Equal(t, bolt.Success{Meta: map[string]any{"has_more": true, "run_id": s.State().RunID}}, w.receive())
			assert.Equal(t, false, w.receive().(bolt.Success).Meta["has_more"])

			node := w.statement("CREATE (n:N {k: 1}) RETURN n").rows[0][0].(bolt.Structure)
			assert.Len(t, node.Fields, map[bool]int{true: 4, false: 3}[v.AtLeast(5, 0)])

			w.send(bolt.Run{Query: "garbage"})
			w.send(bolt.Pull{N: -1, QID: -1})
			assert.IsType(t, bolt.Failure{}, w.receive())
			assert.Equal(t, bolt.Ignored{}, w.receive())
			assert.Equal(t, bolt.Ignored{}, w.ask(bolt.Run{Query: "RETURN 1"}))
			assert.Equal(t, empty, w.ask(bolt.Reset{}))

			assert.Equal(t, refusal(textNoCommit), w.ask(bolt.Commit{}))
			assert.Equal(t, empty, w.ask(bolt.Reset{}))
			if !v.AtLeast(4, 3) {
				assert.Equal(t, protocolFailure, w.ask(bolt.Route{Bookmarks: []any{}}), "it came with 4.3")
				assert.Nil(t, w.receive())
				return
			}
			assert.Equal(t, bolt.Failure{Code: codeRoute, Message: textRoute}, w.ask(bolt.Route{Bookmarks: []any{}}))
			assert.Equal(t, empty, w.ask(bolt.Reset{}))
			w.send(bolt.Goodbye{})
			assert.Nil(t, w.receive())
		})
	}
}

func refusal(text string) bolt.Failure { return bolt.Failure{Code: codeClient, Message: text} }

func TestLogoffAndLogon(t *testing.T) {
	w := login(t, RunT(t), v52)
	assert.Equal(t, empty, w.ask(bolt.Logoff{}))
	assert.Equal(t, greeting, w.ask(bolt.Logon{Auth: map[string]any{"scheme": "none"}}))
	assert.Equal(t, [][]any{{int64(1)}}, w.statement("RETURN 1").rows)
}

// What 3.7.2 does otherwise.
func TestOldManners(t *testing.T) {
	s := RunT(t, func(c *Config) { c.Version = "3.7.2" })
	w := login(t, s, v52)
	w.send(bolt.Logoff{}) // has no answer
	assert.Equal(t, greeting, w.ask(bolt.Logon{Auth: map[string]any{"scheme": "none"}}))
	assert.Nil(t, login(t, s, v43).ask(bolt.Route{Bookmarks: []any{}}), "it hangs up")
}

// Invariant 4.
func TestViolations(t *testing.T) {
	s := RunT(t)
	hello := bolt.Hello{Extra: map[string]any{"user_agent": "test/1"}}
	for name, violate := range map[string]func(*wire) bolt.Message{
		"RUN before HELLO":     func(w *wire) bolt.Message { return w.ask(bolt.Run{Query: "RETURN 1"}) },
		"HELLO without a name": func(w *wire) bolt.Message { return w.ask(bolt.Hello{}) },
		"RESET before LOGON":   func(w *wire) bolt.Message { w.ask(hello); return w.ask(bolt.Reset{}) },
		"HELLO twice":          func(w *wire) bolt.Message { w.ask(hello); return w.ask(hello) },
		"PULL without RUN":     func(w *wire) bolt.Message { w.logon(); return w.ask(bolt.Pull{N: -1, QID: -1}) },
		"RUN before PULL": func(w *wire) bolt.Message {
			w.logon()
			w.ask(bolt.Run{Query: "RETURN 1"})
			return w.ask(bolt.Run{Query: "RETURN 1"})
		},
		"BEGIN before PULL":         func(w *wire) bolt.Message { w.logon(); w.ask(bolt.Run{Query: "RETURN 1"}); return w.ask(bolt.Begin{}) },
		"a server's message":        func(w *wire) bolt.Message { w.logon(); return w.ask(bolt.Ignored{}) },
		"a client's NOOP":           func(w *wire) bolt.Message { w.logon(); w.raw(0, 0); return w.receive() },
		"an unknown message":        func(w *wire) bolt.Message { w.logon(); w.raw(0, 2, 0xB0, 0x55, 0, 0); return w.receive() },
		"TELEMETRY":                 func(w *wire) bolt.Message { w.logon(); w.raw(0, 3, 0xB1, 0x54, 1, 0, 0); return w.receive() },
		"a message that is no such": func(w *wire) bolt.Message { w.logon(); w.raw(0, 1, 1, 0, 0); return w.receive() },
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, s, v52)
			assert.Equal(t, protocolFailure, violate(w))
			assert.Nil(t, w.receive(), "closed")
		})
	}
}

func (w *wire) logon() {
	w.t.Helper()
	w.ask(bolt.Hello{Extra: map[string]any{"user_agent": "test/1"}})
	w.ask(bolt.Logon{Auth: map[string]any{"scheme": "none"}})
}

func (w *wire) raw(b ...byte) {
	w.t.Helper()
	_, err := w.conn.Write(b)
	require.NoError(w.t, err)
}

func TestCredentials(t *testing.T) {
	s := RunT(t, func(c *Config) { c.User, c.Password, c.LoginTime = "u", "secret", time.Millisecond })
	for name, c := range map[string]struct {
		auth map[string]any
		ok   bool
	}{
		"right":          {map[string]any{"scheme": "basic", "principal": "u", "credentials": "secret"}, true},
		"wrong password": {map[string]any{"scheme": "basic", "principal": "u", "credentials": "x"}, false},
		"unknown user":   {map[string]any{"scheme": "basic", "principal": "v", "credentials": "secret"}, false},
		"none":           {map[string]any{"scheme": "none"}, false},
		"nothing":        {map[string]any{}, false},
		"kerberos":       {map[string]any{"scheme": "kerberos", "principal": "u", "credentials": "secret"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := dial(t, s, v52)
			assert.Equal(t, greeting, w.ask(bolt.Hello{Extra: map[string]any{"user_agent": "test/1"}}))
			answer := w.ask(bolt.Logon{Auth: c.auth})
			if c.ok {
				assert.Equal(t, greeting, answer)
				return
			}
			assert.Equal(t, bolt.Failure{Code: codeUnauthenticated, Message: textUnauthenticated}, answer)
			assert.Nil(t, w.receive(), "closed")

			old := dial(t, s, v43)
			c.auth["user_agent"] = "test/1"
			assert.Equal(t, answer, old.ask(bolt.Hello{Extra: c.auth}), "before 5.1 HELLO brings the credentials")
		})
	}
	assert.Equal(t, int64(1), s.Counts().Logins)
}

func TestExplicitTransactions(t *testing.T) {
	s := RunT(t)
	c := connect(t, s)
	tx, err := c.session.BeginTransaction(t.Context())
	require.NoError(t, err)
	for i := range 2 {
		_, err = tx.Run(t.Context(), "CREATE (:N {i: $i})", map[string]any{"i": i})
		require.NoError(t, err)
	}
	other := connect(t, s)
	assert.Equal(t, [][]any{{int64(0)}}, other.must("MATCH (n) RETURN count(n)"), "not committed yet")
	require.NoError(t, tx.Commit(t.Context()))
	assert.Equal(t, [][]any{{int64(2)}}, other.must("MATCH (n) RETURN count(n)"))

	first, err := c.session.BeginTransaction(t.Context())
	require.NoError(t, err)
	_, err = first.Run(t.Context(), "MATCH (n {i: 0}) SET n.i = 10", nil)
	require.NoError(t, err)
	_, err = other.run("MATCH (n {i: 0}) SET n.i = 20")
	assert.True(t, neo4j.IsRetryable(err), "a conflict may be tried again: %v", err)
	require.NoError(t, first.Rollback(t.Context()))
	other.must("MATCH (n {i: 0}) SET n.i = 20")

	read := c.driver.NewSession(t.Context(), neo4j.SessionConfig{AccessMode: neo4j.AccessModeRead})
	defer read.Close(context.WithoutCancel(t.Context()))
	_, err = read.ExecuteRead(t.Context(), func(tx neo4j.ManagedTransaction) (any, error) {
		return tx.Run(t.Context(), "CREATE (:N)", nil)
	})
	assert.Equal(t, "Accessor type READ and query type WRITE are misaligned!", textOf(t, err))

	_, err = neo4j.ExecuteQuery(t.Context(), c.driver, "SHOW REPLICATION ROLE", nil, neo4j.EagerResultTransformer)
	assert.Equal(t, version{major: 3, minor: 12}.textMulticommand("Managing replication"), textOf(t, err))
}

func TestTransactionsAsStatements(t *testing.T) {
	w := login(t, RunT(t), v52)
	for _, query := range []string{"BEGIN", "CREATE (:N)", "ROLLBACK", "BEGIN", "CREATE (:M)", "COMMIT"} {
		require.Nil(t, w.statement(query).failure, query)
	}
	assert.Equal(t, [][]any{{[]any{"M"}}}, w.statement("MATCH (n) RETURN labels(n)").rows)
	assert.Equal(t, textNoRollback, w.statement("ROLLBACK").failure.Message)
	require.Nil(t, w.statement("BEGIN").failure)
	assert.Equal(t, textNested, w.statement("BEGIN").failure.Message)
}

// Rows come in batches of 1000 with this driver; the commit follows the last.
func TestLongResults(t *testing.T) {
	t.Parallel()
	s := RunT(t)
	c := connect(t, s)
	rows := c.must("UNWIND range(1, 100000) AS i CREATE (n:N {i: i}) RETURN n.i")
	require.Len(t, rows, 100000)
	assert.Equal(t, int64(100000), rows[99999][0])
	assert.Equal(t, 100000, s.State().Nodes)
}

// Any sequence of messages ends in answers, and leaves nothing behind.
func FuzzSession(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	f.Add([]byte{0, 1, 12, 4, 2, 7, 3, 5, 13, 14})
	f.Fuzz(func(t *testing.T, choice []byte) { converse(t, choice[:min(len(choice), 50)]) })
}

// TestSessions is FuzzSession with random choices.
func TestSessions(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	for range 30 {
		choice := make([]byte, 20+r.IntN(20))
		for i := range choice {
			choice[i] = byte(r.UintN(256))
		}
		converse(t, choice)
	}
}

// converse sends the messages that choice selects, half of them after a login.
func converse(t *testing.T, choice []byte) {
	s := RunT(t, func(c *Config) { c.PromotionPoll = -1 })
	messages := []bolt.Message{
		bolt.Hello{Extra: map[string]any{"user_agent": "f"}}, bolt.Logon{}, bolt.Run{Query: "CREATE (n:N) RETURN n"},
		bolt.Run{Query: "SHOW REPLICAS"}, bolt.Pull{N: -1, QID: -1}, bolt.Pull{N: 1, QID: 0}, bolt.Discard{N: -1, QID: -1}, bolt.Reset{},
		bolt.Begin{}, bolt.Begin{Extra: map[string]any{"mode": "r"}}, bolt.Commit{}, bolt.Rollback{}, bolt.Logoff{},
		bolt.Run{Query: "SET REPLICATION ROLE TO REPLICA WITH PORT 0"}, bolt.Run{Query: "SET REPLICATION ROLE TO MAIN"},
		bolt.Run{Query: "MATCH (n) SET n.k = 1 RETURN n.k"}, bolt.Run{Query: "BEGIN"}, bolt.Run{Query: "COMMIT"}, bolt.Route{Bookmarks: []any{}},
	}
	w := dial(t, s, v52)
	if len(choice)%2 == 0 {
		w.logon()
	}
	var out []byte
	for _, k := range choice {
		out, _ = bolt.AppendMessage(out, messages[int(k)%len(messages)])
	}
	out, _ = bolt.AppendMessage(out, bolt.Goodbye{})
	_, _ = w.conn.Write(out) // the server may hang up before it has all
	for {
		if _, err := w.reader.ReadMessage(); err != nil {
			break
		}
	}
	waitFor(t, "the session to end", func() bool { return s.Counts().Sessions == 0 })
	after := login(t, s, v52)
	require.Nil(t, after.statement("RETURN 1").failure, "nothing is left locked")
	s.Crash()
}
