package sim

import (
	"net"
	"strconv"
	"strings"
	"time"

	"memgraph-controller/memgraph"
)

// size of the cluster, and of the controller's Deployment.
const (
	size       = 3
	contenders = 2
)

// node is a party on the network: a controller replica with its gateway, a
// pod's ordinal, or the API server.
type node int

const (
	apiNode node = contenders + size
	nodes        = contenders + size + 1
)

func mgNode(index int) node { return node(contenders + index) }

func (n node) String() string {
	switch {
	case n == apiNode:
		return "api"
	case n >= contenders:
		return "mg-" + strconv.Itoa(int(n)-contenders)
	}
	return "ctl-" + strconv.Itoa(int(n))
}

// network counts the partitions between each two nodes.
type network struct{ cuts [nodes][nodes]int }

func (n *network) cut(a, b node) bool { return n.cuts[a][b] > 0 }

func (n *network) change(a, b node, by int) {
	n.cuts[a][b] += by
	n.cuts[b][a] += by
}

// latency of one message within a cluster.
func (w *world) latency() time.Duration {
	return w.between(100*time.Microsecond, maxLatency)
}

const maxLatency = 2 * time.Millisecond

// dial tells what a connection from a node to host:port comes to. A name leads
// to the pod that has it now.
func (w *world) dial(from node, addr string) (*process, memgraph.Reach) {
	host, _, _ := net.SplitHostPort(addr)
	if index, isName := strings.CutPrefix(host, cluster+"-"); isName {
		i, _ := strconv.Atoi(index[:1])
		host = w.hosts[i].ip
	}
	box, exists := w.boxes[host]
	switch {
	case !exists || w.net.cut(from, mgNode(box.index)):
		return nil, memgraph.Silent
	case box.proc == nil || !box.proc.open:
		return nil, memgraph.Refused
	case box.proc.stopped:
		return box.proc, memgraph.Silent
	}
	return box.proc, memgraph.Answered
}
