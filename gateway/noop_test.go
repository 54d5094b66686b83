package gateway

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

func often(c *Config) { c.NoopInterval = 10 * time.Millisecond }

// noop takes one NOOP from the wire.
func (c *modelClient) noop(t testing.TB) {
	t.Helper()
	payload, err := c.reader.ReadMessage()
	require.NoError(t, err)
	require.Empty(t, payload)
}

// summary is the next one, NOOPs left out.
func (c *modelClient) summary(t testing.TB) bolt.Message {
	t.Helper()
	for {
		payload, err := c.reader.ReadMessage()
		require.NoError(t, err)
		if len(payload) == 0 {
			continue
		}
		m, err := bolt.ParseMessage(payload)
		require.NoError(t, err)
		if _, row := m.(bolt.Record); !row {
			return m
		}
	}
}

func TestASilentClientIsSentNoops(t *testing.T) {
	s := startSuccession(t, often)
	for range 3 {
		s.c.noop(t) // idle
	}
	s.c.send(begin)
	assert.IsType(t, bolt.Success{}, s.c.summary(t))
	for range 3 {
		s.c.noop(t) // within a transaction
	}
	s.expect()
	s.c.send(commit)
	waitFor(t, "a unit to be parked", func() bool { return s.g.Status().Waiting == 1 })
	for range 3 {
		s.c.noop(t) // parked, and connected
	}
	s.g.Expect("memgraph-1", nowhere, "", 2)
	for range 3 {
		s.c.noop(t) // parked, and not
	}
	s.change()
	s.g.Serve("memgraph-1", s.next.addr, "next", 3)
	assert.IsType(t, bolt.Success{}, s.c.summary(t))
	s.c.noop(t)
}

// A NOOP never gets between the parts of an answer, nor into a login.
func TestDriversDoNotMindNoops(t *testing.T) {
	for _, driver := range []string{"Go", "JavaScript"} {
		t.Run(driver, func(t *testing.T) {
			p := startPair(t, func(c *Config) { c.NoopInterval = time.Millisecond })
			url := "bolt://" + p.g.Addr().String()
			var l *load
			if driver == "Go" {
				l = startLoad(t, url, neo4j.NoAuth(), "managed", 8)
			} else {
				nodePath(t)
				l = startScript(t, url, "managed", 8)
			}
			l.await(100)
			p.switchOver(50 * time.Millisecond)
			l.await(100)
			l.verdict(t.Name(), p.written)
		})
	}
}

// A client that takes nothing while MAIN changes holds its session for so long; one
// that is only slow gets all that it is due.
func TestAClientThatTakesNothingIsCut(t *testing.T) {
	for name, slow := range map[string]bool{"nothing": false, "a little at a time": true} {
		t.Run(name, func(t *testing.T) {
			p := startOracle(t, &world{commits: map[string]int{}}, "x", -1, "")
			p.cell, p.rows = strings.Repeat("x", 64<<10), 200
			g, count := startCounted(t, func(c *Config) {
				c.StuckTimeout, c.FinishTimeout = 400*time.Millisecond, 10*time.Second
			})
			g.Serve("memgraph-0", p.addr, "x", 1)
			c := newModelClient(t, g)
			c.send(run("R")...)
			waitFor(t, "answers on their way", func() bool {
				var n int64
				g.sessions.each(func(s *session) { n = s.toClient.Load() })
				return n > 1<<18
			})
			g.Expect("memgraph-1", nowhere, "", 2)
			if slow {
				pace := time.NewTicker(20 * time.Millisecond)
				defer pace.Stop()
				for range 40 { // twice as long as it may take nothing
					<-pace.C
					_, err := io.CopyN(io.Discard, c.conn, 4*64<<10)
					require.NoError(t, err)
				}
				_, err := io.CopyN(io.Discard, c.conn, (200-160)*64<<10)
				assert.NoError(t, err)
				return
			}
			waitFor(t, "the session to be cut", func() bool { return g.Status().Sessions == 0 })
			_, err := io.Copy(io.Discard, c.conn)
			assert.ErrorIs(t, err, syscall.ECONNRESET)
			assert.EqualValues(t, 1, count()["cut_total stuck"])
		})
	}
}
