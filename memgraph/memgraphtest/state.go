package memgraphtest

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// State is what an instance knows of itself, for assertions: much of it no
// statement tells.
type State struct {
	Running      bool      `json:"running"`
	Network      Mode      `json:"network"`
	RunID        string    `json:"run_id,omitempty"`
	Role         Role      `json:"role,omitempty"`
	MainUUID     string    `json:"main_uuid,omitempty"`
	DatabaseUUID string    `json:"database_uuid,omitempty"`
	Epoch        string    `json:"epoch,omitempty"`
	History      []Reign   `json:"history,omitempty"`
	Timestamp    int64     `json:"timestamp"` // last durable
	Nodes        int       `json:"nodes"`
	Replicas     []Replica `json:"replicas,omitempty"`
}

// Reign is an epoch that ended, and the last durable timestamp within it.
type Reign struct {
	Epoch     string `json:"epoch"`
	Timestamp int64  `json:"timestamp"`
}

// Replica is a registration and what MAIN knows of it; without a Status it is
// what a failed REGISTER left behind.
type Replica struct {
	Registration
	Status    string `json:"status,omitempty"`
	Timestamp int64  `json:"timestamp"`
	Behind    int64  `json:"behind"`
}

// State is read without any of the server's own locks: it answers at all times.
func (s *Server) State() State {
	state := State{Network: s.network.mode()}
	i := s.running()
	if i == nil {
		return state
	}
	at := i.storage.position()
	i.roles.mu.Lock()
	id := i.roles.id
	i.roles.mu.Unlock()
	state.Running, state.RunID, state.Role, state.MainUUID = true, i.runID, id.Role, id.MainUUID
	state.DatabaseUUID, state.Epoch, state.Timestamp = i.storage.identity(), at.epoch, at.ldt
	state.Nodes = i.storage.graph.Len()
	for _, r := range at.history {
		state.History = append(state.History, Reign{r.epoch, r.ldt})
	}
	for _, r := range i.roles.replicas() {
		state.Replicas = append(state.Replicas, Replica{r.Registration, string(r.state), r.ts, r.behind})
	}
	return state
}

// Dump lists the nodes in the order of their identities, one a line: equal dumps
// are equal data. It is empty while no process runs.
func (s *Server) Dump() string {
	i := s.running()
	if i == nil {
		return ""
	}
	tx := i.storage.graph.Begin()
	defer tx.Rollback()
	nodes := tx.Nodes("")
	slices.SortFunc(nodes, func(a, b *graph.Node) int { return int(a.ID - b.ID) })
	var b strings.Builder
	for _, n := range nodes {
		state := tx.State(n)
		fmt.Fprintf(&b, "%d", n.ID)
		for _, label := range state.Labels {
			b.WriteString(" :" + label)
		}
		for _, key := range slices.Sorted(maps.Keys(state.Props)) {
			fmt.Fprintf(&b, " %s=%v", key, state.Props[key])
		}
		b.WriteByte('\n')
	}
	return b.String()
}
