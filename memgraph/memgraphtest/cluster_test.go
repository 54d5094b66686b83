package memgraphtest

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var latest = version{major: 3, minor: 12}

// node is a server with a session of the driver and the port on which it
// replicates.
type node struct {
	*Server
	*boltClient
	name string
	port int
}

// newNode is quick where a test does not want Memgraph's own times.
func newNode(t *testing.T, name string, options ...func(*Config)) *node {
	t.Helper()
	options = append([]func(*Config){func(c *Config) {
		c.CheckFrequency = 20 * time.Millisecond
		c.PromotionPoll = -1
	}}, options...)
	s := RunT(t, options...)
	return &node{Server: s, boltClient: connect(t, s), name: name, port: FreePort(t, "127.0.0.1")}
}

func newNodes(t *testing.T, n int, options ...func(*Config)) []*node {
	t.Helper()
	var nodes []*node
	for i := range n {
		nodes = append(nodes, newNode(t, fmt.Sprintf("n%d", i), options...))
	}
	return nodes
}

func (n *node) demote() {
	n.t.Helper()
	n.must(fmt.Sprintf("SET REPLICATION ROLE TO REPLICA WITH PORT %d", n.port))
}

func (n *node) promote() {
	n.t.Helper()
	n.must("SET REPLICATION ROLE TO MAIN")
}

func (n *node) replicationAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)) }

// register makes r a replica of n.
func (n *node) register(r *node, mode string) error {
	_, err := n.run(fmt.Sprintf("REGISTER REPLICA %s %s TO %q", r.name, mode, r.replicationAddr()))
	return err
}

func (n *node) status(r *node) string {
	for _, replica := range n.State().Replicas {
		if replica.Name == r.name {
			return replica.Status
		}
	}
	return "not registered"
}

func (n *node) awaitStatus(r *node, status string) {
	n.t.Helper()
	waitFor(n.t, fmt.Sprintf("%s to be %s", r.name, status), func() bool { return n.status(r) == status })
}

// join demotes r, registers it and waits until it is in step.
func (n *node) join(r *node, mode string) {
	n.t.Helper()
	r.demote()
	require.NoError(n.t, n.register(r, mode))
	n.awaitStatus(r, "ready")
}

// crashRestart is kill -9 and a new start with the data.
func (n *node) crashRestart() {
	n.t.Helper()
	n.Crash()
	require.NoError(n.t, n.Start(n.t.Context()))
}

// wipeRestart is kill -9 and a new start without data.
func (n *node) wipeRestart() {
	n.t.Helper()
	n.Crash()
	require.NoError(n.t, n.Wipe())
	require.NoError(n.t, n.Start(n.t.Context()))
}

func TestShipping(t *testing.T) {
	for _, mode := range []string{"SYNC", "ASYNC", "STRICT_SYNC"} {
		t.Run(mode, func(t *testing.T) {
			nodes := newNodes(t, 2)
			main, replica := nodes[0], nodes[1]
			main.must("CREATE (:Before {i: 0})")
			main.join(replica, mode)
			for i := range 20 {
				main.must("CREATE (:After {i: $i})", map[string]any{"i": i})
			}
			main.must("MATCH (n:After {i: 3}) DELETE n")
			main.must("MATCH (n:After {i: 4}) SET n.i = 44")
			if mode != "ASYNC" {
				assert.Equal(t, main.Dump(), replica.Dump(), "before the answer")
			}
			waitFor(t, "the same data", func() bool { return main.Dump() == replica.Dump() })
			assert.Equal(t, [][]any{{int64(20)}}, replica.must("MATCH (n) RETURN count(n)"))
		})
	}
}
