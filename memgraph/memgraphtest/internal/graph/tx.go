package graph

// Write is the state in which a transaction leaves a node, nil if deleted.
type Write struct {
	ID    int64
	State *State
}

// Tx is a transaction. One goroutine at a time may use it.
type Tx struct {
	store   *Store
	start   int64
	touched []*Node // in the order of the first write to each
	// Ended is called when the transaction has ended, however it did.
	Ended func()
}

// Nodes lists the nodes that t sees, by creation; those with label, if not "".
func (t *Tx) Nodes(label string) []*Node {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	list := t.store.all
	if label != "" {
		list = t.store.labels[label]
	}
	seen := make([]*Node, 0, len(list))
	for _, n := range list {
		if t.stateLocked(n) != nil {
			seen = append(seen, n)
		}
	}
	return seen
}

// State is what n holds for t; nil if t does not see it, or deleted it.
func (t *Tx) State(n *Node) *State {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	return t.stateLocked(n)
}

// stateLocked finds the newest version that t sees (invariant 1).
func (t *Tx) stateLocked(n *Node) *State {
	for v := n.head; v != nil; v = v.prev {
		if v.tx == t || v.tx == nil && v.ts < t.start {
			return v.state
		}
	}
	return nil
}

// Create adds a node.
func (t *Tx) Create(s *State) *Node {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	n := t.store.addLocked(t.store.nextID, &version{state: s, tx: t})
	t.touched = append(t.touched, n)
	return n
}

// SetProps gives n other properties, or returns ErrConflict.
func (t *Tx) SetProps(n *Node, props map[string]any) error {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	now := t.stateLocked(n)
	if now == nil {
		return nil // deleted by t itself
	}
	return t.writeLocked(n, &State{Labels: now.Labels, Props: props})
}

// Delete removes n, or returns ErrConflict.
func (t *Tx) Delete(n *Node) error {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	return t.writeLocked(n, nil)
}

// writeLocked puts a version of t on top of n's history (invariant 2).
func (t *Tx) writeLocked(n *Node, s *State) error {
	switch head := n.head; {
	case head == nil:
		return ErrConflict
	case head.tx == t:
		head.state = s
		return nil
	case head.tx != nil || head.ts > t.start:
		return ErrConflict
	}
	n.head = &version{state: s, tx: t, prev: n.head}
	t.touched = append(t.touched, n)
	return nil
}

// Replay repeats another transaction's writes within t, or returns ErrConflict.
func (t *Tx) Replay(writes []Write) error {
	t.store.mu.Lock()
	defer t.store.mu.Unlock()
	for _, w := range writes {
		n := t.store.nodes[w.ID]
		switch exists := n != nil && (n.head.state != nil || n.head.tx != nil); {
		case !exists && w.State == nil: // created and deleted at once
		case !exists:
			t.touched = append(t.touched, t.store.addLocked(w.ID, &version{state: w.State, tx: t}))
		default:
			if err := t.writeLocked(n, w.State); err != nil {
				return err
			}
		}
	}
	return nil
}

// Wrote reports whether t changed anything, also if it undid it again.
func (t *Tx) Wrote() bool { return len(t.touched) > 0 }

// Writes lists what t changed, each node once (invariant 4).
func (t *Tx) Writes() []Write {
	t.store.mu.RLock()
	defer t.store.mu.RUnlock()
	writes := make([]Write, len(t.touched))
	for i, n := range t.touched {
		writes[i] = Write{ID: n.ID, State: n.head.state}
	}
	return writes
}

// Commit makes t's writes visible to transactions that begin from now on.
func (t *Tx) Commit() {
	s := t.store
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock++
	for _, n := range t.touched {
		n.head.tx, n.head.ts = nil, s.clock
	}
	s.endLocked(t)
}

// Rollback undoes t's writes.
func (t *Tx) Rollback() {
	s := t.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range t.touched {
		n.head = n.head.prev
	}
	s.endLocked(t)
}
