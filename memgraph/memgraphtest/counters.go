package memgraphtest

import (
	"maps"
	"sync"
)

// Counts of what clients did, over all lives of a server.
type Counts struct {
	// Sessions are those that are logged in now, Logins all there ever were.
	Sessions, Logins int64
	// Statements by what they are: "SHOW REPLICATION ROLE", "read", "write" …
	Statements map[string]int64
}

type counters struct {
	mu sync.Mutex
	n  Counts
}

// Counts is a copy of the present state.
func (s *Server) Counts() Counts {
	s.counts.mu.Lock()
	defer s.counts.mu.Unlock()
	n := s.counts.n
	n.Statements = maps.Clone(n.Statements)
	return n
}

func (c *counters) login() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n.Sessions++
	c.n.Logins++
}

func (c *counters) logout() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n.Sessions--
}

func (c *counters) statement(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n.Statements == nil {
		c.n.Statements = map[string]int64{}
	}
	c.n.Statements[kind]++
}
