package memgraphtest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/config"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/db"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// connection is the bytes of one, as they were recorded.
type connection struct {
	Case  string
	Login bool // it had logged in before
	Turns []struct{ Sent, Received string }
}

// What a real server answered to these bytes is, message for message, what the
// stand-in answers.
func TestBytesOfARealServer(t *testing.T) {
	for _, version := range []string{"3.7.2", "3.12.0"} {
		s := RunT(t, func(c *Config) { c.Version = version })
		for _, c := range readLines[connection](t, "testdata/wire-"+version+".jsonl") {
			t.Run(version+"/"+c.Case, func(t *testing.T) {
				var conn net.Conn
				if c.Login {
					conn = login(t, s, v52).conn
				} else {
					var err error
					conn, err = net.Dial("tcp", s.Addr())
					require.NoError(t, err)
					defer conn.Close()
					require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
				}
				for _, turn := range c.Turns {
					repeat(t, conn, fromHex(t, turn.Sent), fromHex(t, turn.Received))
				}
			})
		}
	}
}

// repeat sends what was sent and compares what comes back with what came.
func repeat(t *testing.T, conn net.Conn, sent, received []byte) {
	t.Helper()
	_, err := conn.Write(sent)
	require.NoError(t, err)
	if len(received) == 4 { // a version
		got := make([]byte, 4)
		_, err := io.ReadFull(conn, got)
		require.NoError(t, err)
		require.Equal(t, received, got)
		return
	}
	want, got := bolt.NewReader(bytes.NewReader(received), 0), bolt.NewReader(conn, 0)
	for {
		recorded, err := want.ReadMessage()
		if err == io.EOF {
			return
		}
		require.NoError(t, err)
		payload, err := got.ReadMessage()
		require.NoError(t, err)
		require.Equal(t, comparable(t, recorded), comparable(t, payload))
	}
}

// comparable is a message without what may differ.
func comparable(t *testing.T, payload []byte) bolt.Message {
	t.Helper()
	m, err := bolt.ParseMessage(payload)
	require.NoError(t, err)
	switch m := m.(type) {
	case bolt.Success:
		meta := maps.Clone(m.Meta)
		for _, key := range []string{"run_id", "cost_estimate", "parsing_time", "planning_time", "plan_execution_time"} {
			if _, present := meta[key]; present {
				meta[key] = "differs"
			}
		}
		return bolt.Success{Meta: meta}
	case bolt.Failure:
		m.Message, _, _ = strings.Cut(m.Message, " The underlying parsing error")
		return m
	}
	return m
}

func fromHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

// Whatever bytes a client sends, the server serves the next one (invariant 4).
func FuzzBytes(f *testing.F) {
	s := RunT(f)
	for _, version := range []string{"3.7.2", "3.12.0"} {
		for _, c := range readLines[connection](f, "testdata/wire-"+version+".jsonl") {
			var sent []byte
			for _, turn := range c.Turns {
				sent = append(sent, fromHex(f, turn.Sent)...)
			}
			f.Add(c.Login, sent)
		}
	}
	f.Fuzz(func(t *testing.T, loggedIn bool, sent []byte) {
		conn, err := net.Dial("tcp", s.Addr())
		require.NoError(t, err)
		if loggedIn {
			require.NoError(t, conn.Close())
			conn = login(t, s, v52).conn
		}
		defer conn.Close()
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, _ = conn.Write(sent) // the server may hang up before it has all
		_ = conn.(*net.TCPConn).CloseWrite()
		_, err = io.Copy(io.Discard, conn)
		require.False(t, isTimeout(err), "it neither answers nor ends")
		require.Nil(t, login(t, s, v52).statement("RETURN 1").failure)
	})
}

// driven is what the Go driver made of an answer.
type driven struct {
	Lost             bool // the SYNC replica is dead
	Kind, URI, Query string
	Code, Text       string
	Retriable        bool
}

// The Go driver takes the stand-in's answers for what it took the real ones: the
// same errors, which it may or may not try again.
func TestWhatTheDriverMakesOfIt(t *testing.T) {
	for _, version := range []string{"3.7.2", "3.12.0"} {
		t.Run(version, func(t *testing.T) {
			nodes := newNodes(t, 2, func(c *Config) { c.Version = version })
			main, replica := nodes[0], nodes[1]
			main.join(replica, "SYNC")
			replica.name = "r2"
			main.must("DROP REPLICA n1")
			require.NoError(t, main.register(replica, "SYNC"))
			for _, want := range readLines[driven](t, "testdata/driver-"+version+".jsonl") {
				if want.Lost && replica.running() != nil {
					replica.Crash()
					main.awaitStatus(replica, "invalid")
				}
				got := drive(t, main.Server, want)
				assert.Equal(t, want, got)
			}
		})
	}
}

// drive runs the query in the way that is told.
func drive(t *testing.T, s *Server, d driven) driven {
	t.Helper()
	driver, err := neo4j.NewDriverWithContext(d.URI+"://"+s.Addr(), neo4j.NoAuth(), func(c *config.Config) { c.MaxTransactionRetryTime = 0 })
	require.NoError(t, err)
	ctx := context.WithoutCancel(t.Context())
	defer driver.Close(ctx)
	session := driver.NewSession(ctx, neo4j.SessionConfig{})
	defer session.Close(ctx)
	switch d.Kind {
	case "session.Run":
		var result neo4j.ResultWithContext
		if result, err = session.Run(ctx, d.Query, nil); err == nil {
			_, err = result.Consume(ctx)
		}
	case "ExecuteQuery":
		_, err = neo4j.ExecuteQuery(ctx, driver, d.Query, nil, neo4j.EagerResultTransformer)
	case "ExecuteWrite":
		_, err = session.ExecuteWrite(ctx, func(tx neo4j.ManagedTransaction) (any, error) { return tx.Run(ctx, d.Query, nil) })
	default:
		var tx neo4j.ExplicitTransaction
		if tx, err = session.BeginTransaction(ctx); err == nil {
			_, err = tx.Run(ctx, d.Query, nil)
			err = errors.Join(err, tx.Commit(ctx))
		}
	}
	got := driven{Lost: d.Lost, Kind: d.Kind, URI: d.URI, Query: d.Query}
	var failed *db.Neo4jError
	if errors.As(err, &failed) {
		got.Code, got.Text, got.Retriable = failed.Code, shortened(d.Text, failed.Msg), neo4j.IsRetryable(failed)
	} else {
		require.NoError(t, err)
	}
	return got
}
