package memgraphtest

import (
	"errors"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// outcome is what a client is told of a commit that some replicas missed.
type outcome struct {
	failed *failure      // nil if it is not an error
	note   *notification // nil if there is none
}

// commit ends a transaction. The lock on the replication state is held for all of
// it, which is why no role changes under a commit, and the engine lock, which is
// why nothing begins while a replica is silent. In an explicit transaction the
// failure's class is another before 3.8. Source: Memgraph v3.12
// storage/v2/inmemory/storage.cpp:1130-1272.
func (r *replication) commit(tx *graph.Tx, kind transactionKind) outcome {
	if !tx.Wrote() || r.storage.analytical.Load() {
		tx.Commit()
		return outcome{}
	}
	r.lock.RLock()
	defer r.lock.RUnlock()
	if r.role() != RoleMain {
		tx.Rollback()
		return outcome{failed: refuse(textNotMain)}
	}
	r.storage.engine.Lock()
	defer r.storage.engine.Unlock()
	sleep(r.life, r.faults.now().CommitTime)
	s := r.newShipment(tx)
	if err := s.run(); err != nil {
		return outcome{failed: dying}
	}
	return r.report(s, kind)
}

// report says which replicas missed s. A SYNC commit has taken effect whatever it
// says: as an error up to 3.12, as a warning after (pull request 4601).
func (r *replication) report(s *shipment, kind transactionKind) outcome {
	if len(s.misses) == 0 {
		return outcome{}
	}
	text := r.version.textReplication(s.misses, !s.twoPhase)
	switch {
	case !s.twoPhase && r.version.atLeast(3, 13):
		return outcome{note: &notification{"WARNING", "SyncReplicationFailure", text}}
	case kind == autoCommit && r.version.before(3, 8):
		return outcome{failed: &failure{codeTransient, text}}
	}
	return outcome{failed: refuse("%s", text)}
}

// shipment is a commit on its way to the replicas. The engine lock and a read
// lock on the replication state are held around it.
type shipment struct {
	*replication
	tx       *graph.Tx
	entry    entry
	previous int64
	packed   []byte
	twoPhase bool
	clients  []*client
	started  map[*client]bool // which clients' turns are held
	misses   []miss           // of replicas that are not ASYNC
}

// newShipment takes the commit's timestamp. The engine lock is held.
func (r *replication) newShipment(tx *graph.Tx) *shipment {
	at := r.storage.position()
	s := &shipment{replication: r, tx: tx, previous: at.ldt, clients: r.clients(), started: map[*client]bool{}}
	s.entry = entry{epoch: at.epoch, ts: r.storage.tick(), writes: tx.Writes()}
	s.packed = s.entry.pack()
	if r.withoutLog { // then nothing is replicated either, without an error
		s.clients = nil
	}
	return s
}

// run carries the commit through. With a STRICT_SYNC replica it takes all of
// them or has no effect; otherwise it takes effect here whatever they do. It
// fails only where the process dies.
func (s *shipment) run() error {
	for _, c := range s.clients {
		s.twoPhase = s.twoPhase || c.mode == ModeStrictSync
		s.start(c)
	}
	defer s.end()
	if s.twoPhase {
		return s.runTwoPhase()
	}
	if err := s.persist(); err != nil {
		return err
	}
	if err := s.faults.reach(BeforeShipping); err != nil {
		return s.abandon(err)
	}
	for _, c := range s.clients {
		s.send(c, c.mode)
	}
	s.apply()
	return nil
}

// runTwoPhase writes the log only once all have agreed, which comes to the same
// as Memgraph's record that is marked as not committed until then.
func (s *shipment) runTwoPhase() error {
	if err := s.faults.reach(BeforeShipping); err != nil {
		return s.abandon(err)
	}
	for _, c := range s.clients {
		if c.mode == ModeStrictSync {
			s.send(c, ModeStrictSync)
		}
	}
	if len(s.misses) > 0 {
		s.decide(false)
		s.tx.Rollback()
		return nil
	}
	if err := s.persist(); err != nil {
		return err
	}
	if err := s.faults.reach(BeforeFinalizing); err != nil {
		return s.abandon(err)
	}
	s.apply()
	s.decide(true)
	return nil
}

// persist writes the log: from here on the commit survives the process.
func (s *shipment) persist() error {
	if s.withoutLog {
		return nil
	}
	if err := s.storage.append(s.entry.ts, s.packed); err != nil {
		return s.abandon(err)
	}
	return nil
}

// abandon gives up because the process ends.
func (s *shipment) abandon(err error) error {
	s.tx.Rollback()
	return err
}

// apply makes the commit visible here, and notes who has it.
func (s *shipment) apply() {
	s.tx.Commit()
	s.storage.advance(s.entry.ts)
	for _, c := range s.clients {
		if c.mode != ModeAsync && !s.missed(c) {
			c.learn(s.entry.ts)
		}
	}
}

func (s *shipment) missed(c *client) bool {
	for _, m := range s.misses {
		if m.name == c.name {
			return true
		}
	}
	return false
}

// start takes the turn of a client that is ready and connects. Source: Memgraph
// v3.12 replication_client.cpp, StartTransactionReplication.
func (s *shipment) start(c *client) {
	switch c.begin() {
	case stateReady:
		why, ok := c.open()
		if ok {
			s.started[c] = true
		} else {
			s.miss(c, why)
		}
	case stateDiverged:
		s.miss(c, branched)
	default:
		s.miss(c, notInSync)
	}
}

// miss notes a failure that the client is told; nobody is told of an ASYNC one.
func (s *shipment) miss(c *client, why reason) {
	if c.mode != ModeAsync {
		s.misses = append(s.misses, miss{c.name, c.mode, why})
	}
}

// send ships to c if it is started; an ASYNC replica's answer is awaited by its
// worker, which also gives the turn back.
func (s *shipment) send(c *client, as SyncMode) {
	if !s.started[c] {
		return
	}
	r := request{method: prepareCommit, main: c.main, epoch: s.entry.epoch, previous: s.previous, ts: s.entry.ts,
		twoPhase: as == ModeStrictSync, payload: [][]byte{s.packed}}
	if as == ModeAsync {
		delete(s.started, c)
		c.tasks <- func() {
			defer c.link.give()
			if _, ok := c.ship(r); ok {
				c.learn(r.ts)
			}
		}
		return
	}
	if why, ok := c.ship(r); !ok {
		s.miss(c, why)
	}
}

// decide ends the second phase. Its failures are told to nobody, as in Memgraph.
// A SYNC replica beside STRICT_SYNC ones is left out of both phases.
func (s *shipment) decide(commit bool) {
	for _, c := range s.clients {
		switch {
		case !s.started[c]:
		case c.mode == ModeStrictSync && !s.missed(c):
			_, _ = c.link.call(request{method: finalizeCommit, main: c.main, ts: s.entry.ts, commit: commit})
		case c.mode == ModeAsync && commit:
			s.send(c, ModeAsync)
		case c.mode == ModeAsync:
			c.link.drop() // Memgraph has begun to write the call
		}
	}
}

// end gives back the turns that are still held.
func (s *shipment) end() {
	for c := range s.started {
		c.link.give()
	}
}

// begin says in what state a client is when a commit starts; if ready it
// becomes replicating.
func (c *client) begin() clientState {
	c.mu.Lock()
	was := c.state
	switch was {
	case stateReady:
		c.state = stateReplicating
	case stateReplicating: // an ASYNC one that is not done with the last commit
		c.state = stateInvalid
	}
	c.mu.Unlock()
	if was == stateInvalid {
		c.queueCheck()
	}
	return was
}

// open takes the turn and connects.
func (c *client) open() (reason, bool) {
	wait := c.link.scaled(asyncLockWait)
	if c.mode != ModeAsync {
		wait = 0
	}
	if !c.link.take(wait) {
		c.setState(stateInvalid)
		return rpcLock, false
	}
	if err := c.link.connect(); err != nil {
		c.link.give()
		c.setState(stateInvalid)
		return notInSync, false
	}
	return "", true
}

// ship sends a commit and judges the answer; the turn is held.
func (c *client) ship(r request) (reason, bool) {
	a, err := c.link.call(r)
	switch {
	case errors.Is(err, errTimeout):
		c.setState(stateInvalid)
		return timedOut, false
	case err != nil || !a.ok:
		c.setState(stateInvalid)
		return rpcError, false
	}
	if !c.change(stateReplicating, stateReady) { // it missed the next commit meanwhile
		return rpcError, false
	}
	return "", true
}
