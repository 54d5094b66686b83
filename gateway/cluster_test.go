package gateway

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

// pair is a MAIN with its SYNC replica, a gateway in front of them, and the part
// of the controller that tells it where clients belong.
type pair struct {
	t          testing.TB
	nodes      [2]*memgraphtest.Server
	ports      [2]int // of replication
	main       int
	generation int64
	g          *Gateway
	auth       bolt.Auth
	clients    [2]*bolt.Client
}

func startPair(t testing.TB, edit func(*Config), options ...func(*memgraphtest.Config)) *pair {
	t.Helper()
	p := &pair{t: t}
	options = append([]func(*memgraphtest.Config){func(c *memgraphtest.Config) {
		c.CheckFrequency, c.PromotionPoll = 20*time.Millisecond, -1
	}}, append(options, func(c *memgraphtest.Config) { p.auth = bolt.Auth{User: c.User, Password: c.Password} })...)
	for i := range p.nodes {
		p.nodes[i], p.ports[i] = memgraphtest.RunT(t, options...), memgraphtest.FreePort(t, "127.0.0.1")
	}
	p.g = startGateway(t, func(c *Config) {
		c.Login, c.Logger = func() bolt.Auth { return p.auth }, nil
		if edit != nil {
			edit(c)
		}
	})
	p.demote(1)
	p.register()
	p.serve()
	waitForState(t, p.g, Serving)
	return p
}

// try runs one statement on a node itself, over a connection that is kept: to
// log in again may take long.
func (p *pair) try(node int, query string) (bolt.Result, error) {
	p.t.Helper()
	c := p.clients[node]
	if c == nil {
		conn, err := dial(p.t.Context(), p.nodes[node].Addr(), p.g.cfg.BackendTLS)
		require.NoError(p.t, err)
		p.t.Cleanup(func() { _ = conn.Close() })
		require.NoError(p.t, conn.SetDeadline(time.Now().Add(time.Minute)))
		c, err = bolt.Open(conn, p.auth, "test/1")
		require.NoError(p.t, err)
		p.clients[node] = c
	}
	return c.Run(query)
}

// ask is try, which must not fail.
func (p *pair) ask(node int, query string) bolt.Result {
	p.t.Helper()
	res, err := p.try(node, query)
	require.NoError(p.t, err, query)
	return res
}

// turn changes a node's role. Memgraph refuses while a commit holds the lock.
func (p *pair) turn(node int, statement, role string) {
	p.t.Helper()
	waitFor(p.t, "the role "+role, func() bool {
		_, _ = p.try(node, statement) // it may fail, and take effect nevertheless
		return p.ask(node, roleQuery).Rows[0][0] == role
	})
}

func (p *pair) demote(node int) {
	p.turn(node, fmt.Sprintf("SET REPLICATION ROLE TO REPLICA WITH PORT %d", p.ports[node]), "replica")
}

func (p *pair) promote(node int) { p.turn(node, "SET REPLICATION ROLE TO MAIN", roleMain) }

// register makes the other node MAIN's SYNC replica, and waits until it is.
func (p *pair) register() {
	other := 1 - p.main
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(p.ports[other]))
	p.ask(p.main, fmt.Sprintf("REGISTER REPLICA n%d SYNC TO %q", other, addr))
	waitFor(p.t, "the replica", func() bool {
		replicas := p.nodes[p.main].State().Replicas
		return len(replicas) == 1 && replicas[0].Status == "ready"
	})
}

// serve tells the gateway of a new generation, whose MAIN is the present one.
func (p *pair) serve() {
	p.generation++
	p.g.Serve(fmt.Sprintf("memgraph-%d", p.main), p.nodes[p.main].Addr(), p.nodes[p.main].State().RunID, p.generation)
}

// switchOver is a planned change of MAIN as the controller does it: the record,
// gap for other gateways to see it, and the roles.
func (p *pair) switchOver(gap time.Duration) {
	p.main = 1 - p.main
	p.serve()
	<-time.After(gap)
	p.demote(1 - p.main)
	p.promote(p.main)
}

// switchUntold changes the roles, and tells the gateway after delay.
func (p *pair) switchUntold(delay time.Duration) {
	p.main = 1 - p.main
	p.demote(1 - p.main)
	p.promote(p.main)
	<-time.After(delay)
	p.serve()
}

// failOver kills MAIN, and replaces it after gap.
func (p *pair) failOver(gap time.Duration) {
	p.nodes[p.main].Crash()
	<-time.After(gap)
	p.main = 1 - p.main
	p.serve()
	p.promote(p.main)
}

// written are the keys that MAIN has, and how often.
func (p *pair) written() map[string]int {
	keys := map[string]int{}
	for _, row := range p.ask(p.main, "MATCH (n:W) RETURN n.key").Rows {
		keys[row[0].(string)]++
	}
	return keys
}
