package gateway

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// succession is two MAINs, one after the other, with a client of the first.
type succession struct {
	g         *Gateway
	old, next *oracle
	c         *modelClient
}

func startSuccession(t testing.TB, edit func(*Config)) *succession {
	t.Helper()
	w := &world{commits: map[string]int{}}
	s := &succession{old: startOracle(t, w, "old", -1, ""), next: startOracle(t, w, "next", -1, "")}
	s.g = startGateway(t, edit)
	s.g.Serve("memgraph-0", s.old.addr, "old", 1)
	s.c = newModelClient(t, s.g)
	return s
}

func (s *succession) change() { s.g.Serve("memgraph-1", s.next.addr, "next", 2) }

func TestWhichTransactionsAreRunAgain(t *testing.T) {
	unseen, seen := flight{begin}, append(flight{begin}, run("R")...)
	for _, c := range []struct {
		name  string
		rerun Rerun
		first flight
		other func(*oracle) // how the next MAIN differs
		want  string        // code; none if the transaction goes on
	}{
		{"off", RerunOff, unseen, nil, codeMainChanged},
		{"unseen: nothing was seen", RerunUnseen, unseen, nil, ""},
		{"unseen: rows were", RerunUnseen, seen, nil, codeMainChanged},
		{"verified: rows are the same", RerunVerified, seen, nil, ""},
		{"verified: one is different", RerunVerified, seen, func(o *oracle) { o.cell = "else" }, codeMainChanged},
		{"verified: one more", RerunVerified, seen, func(o *oracle) { o.rows++ }, codeMainChanged},
		{"verified: one less", RerunVerified, seen, func(o *oracle) { o.rows-- }, codeMainChanged},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startSuccession(t, func(cfg *Config) { cfg.Rerun = c.rerun })
			if c.other != nil {
				c.other(s.next)
			}
			require.Nil(t, s.c.fly(c.first))
			s.change()
			failure := s.c.fly(append(run("W a"), commit))
			if c.want == "" {
				assert.Nil(t, failure)
				assert.Equal(t, 1, s.next.world.committed("a"))
				return
			}
			require.NotNil(t, failure)
			assert.Equal(t, c.want, failure.Code)
			assert.Zero(t, s.next.world.committed("a"))
			assert.Nil(t, s.c.fly(flight{bolt.Reset{}}))
			assert.Nil(t, s.c.fly(run("W a")))
		})
	}
}

// What may be committed in part is never said to be undone, and never run again.
func TestAStatementThatCommitsInPieces(t *testing.T) {
	batch := func(query string) flight { return flight{bolt.Run{Query: query}, bolt.Pull{N: 1, QID: -1}} }
	for _, c := range []struct {
		name        string
		first, then flight
		limit       int
		want        string // code; none if it goes on
	}{
		{"between two batches", batch("USING PERIODIC COMMIT 2 UNWIND"), flight{bolt.Pull{N: 1, QID: -1}}, 0, codeOutcomeUnknown},
		{"a subquery", batch("UNWIND $x AS y CALL { CREATE (n) } IN transactions\nOF 2 ROWS"), flight{bolt.Pull{N: 1, QID: -1}}, 0, codeOutcomeUnknown},
		{"a procedure in a transaction", append(flight{begin}, run("CALL periodic.iterate('', '', {})")...), flight{commit}, 0, codeOutcomeUnknown},
		{"one that is not kept", append(flight{begin}, run("CALL periodic.iterate('', '', {}) // "+strings.Repeat("x", 2000))...), flight{commit}, 1000, codeOutcomeUnknown},
		{"before it was sent", nil, run("USING PERIODIC COMMIT 2 UNWIND"), 0, ""},
		{"one that does not", batch("MATCH (n) WHERE n.x IN transactions RETURN n"), flight{bolt.Pull{N: 1, QID: -1}}, 0, codeMainChanged},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startSuccession(t, func(cfg *Config) { cfg.RerunLimit = c.limit })
			if c.first != nil {
				require.Nil(t, s.c.fly(c.first))
			}
			s.change()
			failure := s.c.fly(c.then)
			if c.want == "" {
				assert.Nil(t, failure)
				return
			}
			require.NotNil(t, failure)
			assert.Equal(t, c.want, failure.Code)
			assert.Equal(t, 0, s.next.count(), "it is not run again")
		})
	}
	t.Run("refused at once", func(t *testing.T) {
		s := startSuccession(t, nil)
		s.old.at, s.old.stage = s.old.count(), noMain
		s.c.send(run("W USING PERIODIC COMMIT 2")...)
		waitFor(t, "the refusal", func() bool { return s.old.count() > 0 })
		s.change()
		for range 2 {
			assert.IsType(t, bolt.Success{}, s.c.receive(), "nothing of it was executed")
		}
	})
}

// A transaction that grows beyond the limit goes on, but cannot be run again; it
// leaves nothing in the budget.
func TestALargeTransactionIsNotRunAgain(t *testing.T) {
	for name, limits := range map[string]Limits{"its own limit": {RerunLimit: 1000}, "all sessions' limit": {RerunTotal: 1000}} {
		t.Run(name, func(t *testing.T) {
			s := startSuccession(t, func(c *Config) { c.Limits = limits })
			require.Nil(t, s.c.fly(append(flight{begin}, run("R "+strings.Repeat("x", 2000))...)))
			require.Nil(t, s.c.fly(run("R")))
			s.change()
			failure := s.c.fly(flight{commit})
			require.NotNil(t, failure)
			assert.Equal(t, codeMainChanged, failure.Code)
			require.Nil(t, s.c.fly(flight{bolt.Reset{}}))
			require.Nil(t, s.c.fly(run("R")))
			require.NoError(t, s.c.conn.Close())
			waitFor(t, "the session to end", func() bool { return s.g.Status().Sessions == 0 })
			assert.Zero(t, s.g.rerunBudget.used.Load())
		})
	}
}

func TestMessagesLargerThanTheBuffer(t *testing.T) {
	large := strings.Repeat("x", 2*answerBufferSize+17)
	t.Run("a request", func(t *testing.T) {
		s := startSuccession(t, nil)
		assert.Nil(t, s.c.fly(run("R "+large)))
		s.change()
		assert.Nil(t, s.c.fly(append(append(flight{begin}, run("R "+large)...), commit)))
		assert.Nil(t, s.c.fly(run("W a")))
	})
	t.Run("a request in a transaction that is run again", func(t *testing.T) {
		s := startSuccession(t, nil)
		require.Nil(t, s.c.fly(append(flight{begin}, run("R "+large)...)))
		s.change()
		assert.Nil(t, s.c.fly(append(run("W a"), commit)))
		assert.Equal(t, 1, s.next.world.committed("a"))
	})
	t.Run("an answer", func(t *testing.T) {
		s := startSuccession(t, nil)
		s.old.cell, s.next.cell = large, large
		assert.Nil(t, s.c.fly(run("R")))
		require.Nil(t, s.c.fly(append(flight{begin}, run("R")...)))
		s.change()
		failure := s.c.fly(flight{commit})
		require.NotNil(t, failure, "rows that are not held back cannot be compared")
		assert.Equal(t, codeMainChanged, failure.Code)
	})
	t.Run("an answer that is torn", func(t *testing.T) {
		s := startSuccession(t, nil)
		s.old.cell, s.old.at, s.old.stage = large, s.old.count()+1, halfRow
		s.old.mayDie = make(chan struct{})
		s.c.send(run("R")...)
		assert.IsType(t, bolt.Success{}, s.c.receive())
		_, err := io.ReadFull(s.c.conn, make([]byte, 100))
		require.NoError(t, err)
		close(s.old.mayDie)
		_, err = io.Copy(io.Discard, s.c.conn)
		assert.ErrorIs(t, err, syscall.ECONNRESET, "there is nothing else that can be said within a message")
	})
}

func TestAConnectionWithSettingsOfItsOwnIsCut(t *testing.T) {
	s := startSuccession(t, nil)
	require.Nil(t, s.c.fly(run("SET SESSION TRACE ON")))
	s.change()
	assertCut(t, s.c.conn)
}

// What is under way when another MAIN is named gets its answer, for a while.
func TestAnswersThatAReplacedMainOwes(t *testing.T) {
	for name, c := range map[string]struct {
		patience time.Duration
		answers  bool
		disowned int64
	}{
		"one comes in time":                        {10 * time.Second, true, 0},
		"none comes":                               {DefaultFinishTimeout, false, 0},
		"one would come, of a MAIN that hung":      {10 * time.Second, false, 2},
		"another was disowned, a long time before": {10 * time.Second, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSuccession(t, func(cfg *Config) { cfg.FinishTimeout = c.patience })
			require.Nil(t, s.c.fly(flight{bolt.Run{Query: "W a"}}))
			s.old.failing.Lock() // it hangs
			s.c.send(bolt.Pull{N: -1, QID: -1})
			waitFor(t, "the request to be sent", func() bool {
				var sent int64
				s.g.sessions.each(func(each *session) { sent = each.toMain.Load() })
				return sent > int64(len(appendFlight(t, flight{bolt.Run{Query: "W a"}})))
			})
			s.g.Disown(c.disowned)
			s.g.Disown(0)
			changed := time.Now()
			s.change()
			waitForState(t, s.g, Serving)
			if c.answers {
				s.old.failing.Unlock()
			}
			got := s.c.receive()
			if !c.answers {
				s.old.failing.Unlock()
				assert.Equal(t, failOutcomeUnknown, got)
				assert.Less(t, time.Since(changed), 5*time.Second)
				return
			}
			assert.IsType(t, bolt.Success{}, got)
			assert.Equal(t, 1, s.old.world.committed("a"))
			assert.Nil(t, s.c.fly(run("R")))
			assert.Positive(t, s.next.count())
		})
	}
}

func appendFlight(t testing.TB, f flight) (b []byte) {
	t.Helper()
	for _, m := range f {
		var err error
		b, err = bolt.AppendMessage(b, m)
		require.NoError(t, err)
	}
	return b
}

func TestAUnitThatFindsNoMainInTime(t *testing.T) {
	s := startSuccession(t, func(c *Config) { c.HoldTimeout = 50 * time.Millisecond })
	s.g.Serve("nobody", nowhere, "", 2)
	failure := s.c.fly(run("W a"))
	require.NotNil(t, failure)
	assert.Equal(t, codeNoMain, failure.Code)
	assert.Nil(t, s.c.fly(flight{bolt.Reset{}}), "no MAIN is needed for it")
	s.g.Serve("memgraph-1", s.next.addr, "next", 3)
	assert.Nil(t, s.c.fly(run("W a")))
}

func TestALoginThatTheNextMainRefuses(t *testing.T) {
	s := startSuccession(t, nil)
	s.next.set(func(p *process) { p.converse, p.refuses = nil, "model/1" })
	s.change()
	failure := s.c.fly(flight{bolt.Run{Query: "R"}})
	require.NotNil(t, failure)
	assert.Equal(t, "Memgraph.ClientError.Security.Unauthenticated", failure.Code, "the server's own words")
	_, err := s.c.reader.ReadMessage()
	assert.ErrorIs(t, err, io.EOF)
}

func TestAnotherUserOnTheSameConnection(t *testing.T) {
	s := startSuccession(t, nil)
	require.Nil(t, s.c.fly(run("R")))
	require.Nil(t, s.c.fly(flight{bolt.Logoff{}, bolt.Logon{Auth: map[string]any{"principal": "other"}}}))
	assert.Nil(t, s.c.fly(run("R")))
	s.change()
	assert.Nil(t, s.c.fly(run("W a")))
}

func TestRoutingTable(t *testing.T) {
	s := startSuccession(t, nil)
	for _, extra := range []any{nil, map[string]any{"db": "other"}} {
		s.c.send(bolt.Route{Routing: map[string]any{"address": "db.example:7687"}, Bookmarks: []any{}, Extra: extra})
		table := s.c.receive().(bolt.Success).Meta["rt"].(map[string]any)
		assert.EqualValues(t, routeTTL, table["ttl"])
		for _, server := range table["servers"].([]any) {
			assert.Equal(t, []any{"db.example:7687"}, server.(map[string]any)["addresses"])
		}
		assert.Len(t, table["servers"], 3)
	}
	s.c.send(run("R")...)
	s.c.send(bolt.Route{})
	s.c.receive()
	s.c.receive()
	assert.Contains(t, s.c.receive().(bolt.Success).Meta, "rt", "after what was asked before")
	assert.Nil(t, s.c.fly(run("W a")))
}

func TestReplicationIsNotForClients(t *testing.T) {
	s := startSuccession(t, func(c *Config) { c.Administration = AdministrationDenied })
	require.Nil(t, s.c.fly(run("R")))
	heard := s.old.count()
	failure := s.c.fly(run("SET REPLICATION ROLE TO MAIN"))
	require.NotNil(t, failure)
	assert.Equal(t, codeDenied, failure.Code)
	require.Nil(t, s.c.fly(flight{bolt.Reset{}}))
	assert.Equal(t, heard, s.old.count(), "MAIN has seen nothing of it")
	assert.Nil(t, s.c.fly(run("W a")))
}

// Clients that have nothing to do cost the next MAIN nothing: neither a connection
// nor a login.
func TestIdleClientsAreMovedWhenTheyHaveSomethingToDo(t *testing.T) {
	const sessions = 500
	s := startSuccession(t, func(c *Config) { c.Logger = nil })
	clients := []*modelClient{s.c}
	for range sessions {
		clients = append(clients, newModelClient(t, s.g))
	}
	s.change()
	waitForState(t, s.g, Serving)
	waitFor(t, "the old MAIN to be left", func() bool { return s.old.open() == 0 })
	assert.Equal(t, 1, s.next.open(), "the control link")
	assert.EqualValues(t, sessions+1, s.g.Status().Sessions)
	for _, c := range clients {
		require.Nil(t, c.fly(run("R")))
	}
	assert.Equal(t, sessions+2, s.next.open())
}

// A request that it does not know, at which Memgraph hangs up, is not tried for ever: each
// time may cost MAIN a login, which everybody else waits for.
func TestARequestThatMainHangsUpOnIsGivenUp(t *testing.T) {
	s := startSuccession(t, nil)
	require.Nil(t, s.c.fly(flight{begin}))
	unknown := []byte{0, 2, 0xB0, 0x55, 0, 0}
	_, err := s.c.conn.Write(unknown)
	require.NoError(t, err)
	failure, isFailure := s.c.receive().(bolt.Failure)
	require.True(t, isFailure)
	assert.Equal(t, codeMainChanged, failure.Code)
	assert.Equal(t, 1+maxRefusals, s.old.count(), "times that the transaction was begun")
	require.Nil(t, s.c.fly(flight{bolt.Reset{}}))
	assert.Nil(t, s.c.fly(run("R")), "the session goes on to work")
}
