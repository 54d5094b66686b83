package gateway

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

func TestMainIsHeardWhenItAnswersAClient(t *testing.T) {
	main := startProcess(t, roleMain, "1")
	g := startGateway(t, nil)
	g.Serve("memgraph-0", main.addr, "1", 1)
	waitForState(t, g, Serving)
	assert.Zero(t, g.Heard(main.addr), "the gateway's own questions do not count")

	begun := time.Now()
	c, err := signIn(t, g)
	require.NoError(t, err)
	_, err = c.who()
	require.NoError(t, err)
	first := g.Heard(main.addr)
	assert.WithinRange(t, first, begun, time.Now())
	assert.Zero(t, g.Heard(nowhere))
	_, err = c.who()
	require.NoError(t, err)
	assert.True(t, g.Heard(main.addr).After(first))

	next := startProcess(t, roleMain, "2")
	g.Serve("memgraph-1", next.addr, "2", 2)
	waitForState(t, g, Serving)
	_, err = c.who()
	require.NoError(t, err)
	assert.Zero(t, g.Heard(main.addr), "another has been heard since")
	assert.NotZero(t, g.Heard(next.addr))
}

// A hundred clients that log in over and over, each for 0.2 s under one lock, keep
// questions for the role waiting. MAIN is heard all the same.
func TestMainIsHeardInAStormOfLogins(t *testing.T) {
	const login, clients, storm = 200 * time.Millisecond, 100, 3 * time.Second
	p := startPair(t, nil, func(c *memgraphtest.Config) { c.User, c.Password, c.LoginTime = "someone", "secret", login })
	end := time.Now().Add(storm)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for time.Now().Before(end) {
				p.logInOnce(end)
			}
		})
	}
	main := p.nodes[p.main].Addr()
	heard, longest := map[time.Time]bool{}, time.Duration(0)
	for ; time.Now().Before(end); <-time.After(time.Millisecond) {
		if at := p.g.Heard(main); !at.IsZero() {
			heard[at], longest = true, max(longest, time.Since(at))
		}
	}
	wg.Wait()
	t.Logf("heard %d times, silent for %s at most", len(heard), longest)
	assert.Greater(t, len(heard), int(storm/login)/2, "as good as every login")
}

// logInOnce is a client that goes as soon as it has logged in, or failed to, and
// does not wait for longer than until.
func (p *pair) logInOnce(until time.Time) {
	conn, err := net.Dial("tcp", p.g.Addr().String())
	if err != nil {
		return
	}
	defer conn.Close()
	if conn.SetDeadline(until) == nil {
		_, _ = bolt.Open(conn, p.auth, "storm/1") // the storm is what counts
	}
}
