package graph

import (
	"errors"
	"slices"
	"sync"
)

// ErrConflict says that another transaction wrote the node, invariant 2.
var ErrConflict = errors.New("conflicting transactions")

// compactAfter is how many nodes must have been removed before the lists are
// rebuilt; below it rebuilding costs more than skipping.
const compactAfter = 1024

// Node is the identity of a node. What it holds depends on who reads.
type Node struct {
	ID      int64
	head    *version // guarded by Store.mu, as all below
	gone    bool     // removed, but still in the lists
	lingers bool     // in Store.lingers
}

// State is what a node holds at one moment. It is never changed.
type State struct {
	Labels []string
	Props  map[string]any
}

// version is one state in a node's history, newest first. A nil state is a
// deletion. Until its writer commits, tx is set and ts is not.
type version struct {
	state *State
	tx    *Tx
	ts    int64
	prev  *version
}

// Store holds the data of one instance. It is safe for concurrent use.
type Store struct {
	mu      sync.RWMutex
	clock   int64
	nextID  int64
	nodes   map[int64]*Node
	all     []*Node            // by creation
	labels  map[string][]*Node // by creation; labels never change
	gone    int                // how many in the lists are gone
	open    map[*Tx]struct{}
	lingers []*Node // written while an older transaction was open
	horizon int64   // the oldest open transaction when lingers was last gone through
}

// New is an empty store.
func New() *Store {
	return &Store{nodes: map[int64]*Node{}, labels: map[string][]*Node{}, open: map[*Tx]struct{}{}}
}

// Begin opens a transaction; end it with Commit or Rollback.
func (s *Store) Begin() *Tx {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	t := &Tx{store: s, start: s.clock}
	s.open[t] = struct{}{}
	return t
}

// Apply commits writes that another instance made. It returns ErrConflict, and
// changes nothing, if a transaction that is open here wrote one of the nodes.
func (s *Store) Apply(writes []Write) error {
	t := s.Begin()
	if err := t.Replay(writes); err != nil {
		t.Rollback()
		return err
	}
	t.Commit()
	return nil
}

// Replace swaps all data for the given nodes. Transactions that are open go on
// with the new data.
func (s *Store) Replace(writes []Write) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nodes, s.all, s.labels = map[int64]*Node{}, nil, map[string][]*Node{}
	s.gone, s.nextID, s.lingers = 0, 0, nil
	for _, w := range writes {
		if w.State != nil {
			s.addLocked(w.ID, &version{state: w.State})
		}
	}
}

// Len is the number of nodes that the newest transaction would see.
func (s *Store) Len() int {
	t := s.Begin()
	defer t.Rollback()
	return len(t.Nodes(""))
}

// endLocked closes t.
func (s *Store) endLocked(t *Tx) {
	delete(s.open, t)
	s.settleLocked(t)
	if t.Ended != nil {
		t.Ended()
		t.Ended = nil
	}
}

// addLocked lists a new node under its identity and labels.
func (s *Store) addLocked(id int64, v *version) *Node {
	n := &Node{ID: id, head: v}
	s.nodes[id] = n
	s.all = append(s.all, n)
	for _, label := range v.state.Labels {
		s.labels[label] = append(s.labels[label], n)
	}
	s.nextID = max(s.nextID, id+1)
	return n
}

// settleLocked forgets what nobody can see any more of the nodes that t wrote
// and, if an older transaction than before is the oldest, of those left over.
func (s *Store) settleLocked(t *Tx) {
	oldest := s.clock + 1
	for o := range s.open {
		oldest = min(oldest, o.start)
	}
	if oldest > s.horizon {
		s.horizon = oldest
		s.lingers = slices.DeleteFunc(s.lingers, func(n *Node) bool {
			n.lingers = !s.trimLocked(n, oldest)
			return !n.lingers
		})
	}
	for _, n := range t.touched {
		if !s.trimLocked(n, oldest) && !n.lingers {
			n.lingers = true
			s.lingers = append(s.lingers, n)
		}
	}
	if s.gone > compactAfter && s.gone > len(s.all)/2 {
		s.compactLocked()
	}
}

// trimLocked cuts n's history below the first version that every transaction
// sees (invariant 3); it reports whether nothing is left to cut later.
func (s *Store) trimLocked(n *Node, oldest int64) bool {
	if n.gone {
		return true
	}
	for v := n.head; v != nil; v = v.prev {
		if v.tx == nil && v.ts < oldest {
			v.prev = nil
			break
		}
	}
	v := n.head
	if v == nil || v.state == nil && v.tx == nil && v.ts < oldest {
		s.removeLocked(n)
		return true
	}
	return v.state != nil && v.prev == nil
}

// removeLocked takes out a node that is deleted for everybody or was never
// committed.
func (s *Store) removeLocked(n *Node) {
	n.gone = true
	s.gone++
	if s.nodes[n.ID] == n {
		delete(s.nodes, n.ID)
	}
}

// compactLocked rebuilds the lists without what is gone.
func (s *Store) compactLocked() {
	isGone := func(n *Node) bool { return n.gone }
	s.all = slices.DeleteFunc(s.all, isGone)
	for label, list := range s.labels {
		if list = slices.DeleteFunc(list, isGone); len(list) == 0 {
			delete(s.labels, label)
		} else {
			s.labels[label] = list
		}
	}
	s.gone = 0
}
