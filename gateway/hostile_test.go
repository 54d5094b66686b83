package gateway

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// vocabulary of a client that means no good.
var vocabulary = []bolt.Message{
	bolt.Run{Query: "R"}, bolt.Run{Query: "W a"}, bolt.Run{Query: "BEGIN"}, bolt.Run{Query: "COMMIT"}, bolt.Run{Query: "SET SESSION TRACE ON"},
	bolt.Pull{N: -1, QID: -1}, bolt.Pull{N: 1, QID: -1}, bolt.Pull{N: 0, QID: 7}, bolt.Discard{N: -1, QID: -1}, begin, commit, rollback,
	bolt.Reset{}, bolt.Logoff{}, bolt.Logon{}, bolt.Hello{}, bolt.Route{}, bolt.Goodbye{}, bolt.Success{}, bolt.Ignored{},
}

// ramble is a random stream of messages, some of them torn, empty or garbage.
func ramble(t testing.TB, r *rand.Rand) (b []byte) {
	for range r.IntN(12) {
		switch r.IntN(10) {
		case 0:
			b = append(b, 0, 0)
		case 1:
			b = append(b, 0, byte(r.IntN(4)), byte(r.Uint32()), byte(r.Uint32()), 0, 0)
		case 2:
			b = append(b, bytes.Repeat([]byte{0xFF}, r.IntN(200_000))...)
		default:
			b = append(b, appendFlight(t, flight{vocabulary[r.IntN(len(vocabulary))]})...)
		}
	}
	return b[:len(b)-r.IntN(len(b)/8+1)]
}

// Clients that say anything in any order, hang up anywhere or never read, hold
// up neither a switch nor anybody else, and leave nothing behind.
func TestHostileClientsHarmNobody(t *testing.T) {
	const hostile, each = 4, 40
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := startSuccession(t, func(c *Config) { c.Logger = nil })
	var all sync.WaitGroup
	for n := range uint64(hostile) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, n))
			for range each {
				rambleAt(t, s.g, r)
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	var took []time.Duration
	generation, next := int64(2), s.next
	for going := true; going; {
		select {
		case <-ended:
			going = false
		default:
		}
		began := time.Now()
		s.g.Serve("memgraph", next.addr, next.runID, generation)
		require.Nil(t, s.c.fly(append(append(flight{begin}, run("R")...), commit)))
		took = append(took, time.Since(began))
		if next = s.old; generation%2 == 1 {
			next = s.next
		}
		generation++
	}
	report(t, "switch and transaction among hostile clients", took, 100*time.Millisecond)
	require.NoError(t, s.c.conn.Close())
	waitFor(t, "the sessions to end", func() bool { return s.g.Status().Sessions == 0 })
	assert.Zero(t, s.g.rerunBudget.used.Load())
	assert.Empty(t, s.g.stock.credentials)
}

// rambleAt is one hostile connection, from its first byte or after a login.
func rambleAt(t testing.TB, g *Gateway, r *rand.Rand) {
	conn, err := net.Dial("tcp", g.Addr().String())
	if !assert.NoError(t, err) {
		return
	}
	defer conn.Close()
	assert.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	b := bolt.Propose(bolt.Version{Major: 5, Minor: 2}).Append(nil)
	if r.IntN(3) > 0 {
		b = append(b, appendFlight(t, flight{bolt.Hello{Extra: map[string]any{"user_agent": "hostile/1"}}, bolt.Logon{}})...)
	}
	b = append(b, ramble(t, r)...)
	for len(b) > 0 {
		n, err := conn.Write(b[:min(len(b), 1+r.IntN(100_000))])
		if err != nil {
			return // it was cut, as it deserves
		}
		b = b[n:]
	}
	if r.IntN(2) == 0 {
		_ = conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, conn) // whatever it is told
	}
}
