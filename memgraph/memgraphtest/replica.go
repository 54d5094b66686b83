package memgraphtest

import (
	"bufio"
	"context"
	"sync"
	"time"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// replicationServer is what a replica listens with. Source: Memgraph v3.12
// dbms/inmemory/replication_handlers.cpp.
type replicationServer struct {
	*replication
	listener *listener
	wg       sync.WaitGroup
	// happened holds one token after anything happened on a connection.
	happened chan struct{}

	mu    sync.Mutex
	last  time.Time // when something happened
	conns map[*conn]struct{}

	applying sync.Mutex // one call changes data at a time
	prepared *graph.Tx  // first phase of a STRICT_SYNC commit; by applying
	pending  entry      // what prepared is; by applying
}

// serveReplication listens on addr.
func (r *replication) serveReplication(addr string) (*replicationServer, error) {
	l, err := r.network.listen(addr)
	if err != nil {
		return nil, err
	}
	s := &replicationServer{replication: r, listener: l, happened: make(chan struct{}, 1), last: time.Now(), conns: map[*conn]struct{}{}}
	s.wg.Go(s.serve)
	return s, nil
}

// serve lets MAIN in, and anybody else: there is no authentication.
func (s *replicationServer) serve() {
	for {
		c, err := s.listener.accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.event()
		s.wg.Go(func() { s.converse(c) })
	}
}

// event is what ends a poll of the real server.
func (s *replicationServer) event() {
	s.mu.Lock()
	s.last = time.Now()
	s.mu.Unlock()
	select {
	case s.happened <- struct{}{}:
	default:
	}
}

// converse answers the calls on one connection.
func (s *replicationServer) converse(c *conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = c.Close() // both sides are done with it
		s.event()
	}()
	reader := bufio.NewReader(c)
	for {
		b, err := readFrame(reader)
		s.event()
		if err != nil {
			return
		}
		r, err := unpackRequest(b)
		if err != nil {
			return
		}
		s.faults.pause(s.life)
		if _, err := c.Write(appendFrame(nil, s.answer(r).pack())); err != nil {
			return
		}
	}
}

// shutdown closes the port at once and the connections when the server's poll
// has ended: after up to the whole period, or with the next event. Observed on
// 3.7.2 and 3.12.0: 0 to 200 ms, and 3 ms when nudged.
func (s *replicationServer) shutdown(ctx context.Context, poll time.Duration) {
	select {
	case <-s.happened: // before the shutdown
	default:
	}
	s.listener.close()
	s.mu.Lock()
	since := time.Since(s.last)
	s.mu.Unlock()
	if poll > 0 {
		timer := time.NewTimer(poll - since%poll)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-s.happened:
		case <-ctx.Done():
		}
	}
	s.close()
}

// close ends everything; a call that is being applied is waited for.
func (s *replicationServer) close() {
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close() // its goroutine notices
	}
	s.mu.Unlock()
	s.wg.Wait()
	s.applying.Lock()
	defer s.applying.Unlock()
	s.abortPrepared()
}

// answer obeys a call, if it comes from the MAIN that registered this replica
// last (invariant 2).
func (s *replicationServer) answer(r request) answer {
	switch r.method {
	case frequentHeartbeat:
		return answer{ok: true}
	case swapMainUUID:
		return answer{ok: s.obey(r.main) == nil}
	}
	if r.main != s.mainUUID() {
		return answer{}
	}
	switch r.method {
	case systemRecovery:
		s.storage.align(r.database)
		return answer{ok: true}
	case heartbeat:
		return s.standing()
	}
	return s.change(r)
}

// change obeys the calls that write data. From 3.8 on they fail while the role
// is being changed, and keep it from being changed; before, the change waits.
// (Observed: 3.7.2 waits, 3.12.0 fails.)
func (s *replicationServer) change(r request) answer {
	if s.version.atLeast(3, 8) {
		if !s.lock.TryRLock() {
			return answer{}
		}
		defer s.lock.RUnlock()
	}
	s.applying.Lock()
	defer s.applying.Unlock()
	ok := false
	switch r.method {
	case prepareCommit:
		ok = s.prepare(r)
	case finalizeCommit:
		ok = s.finalize(r)
	case recoverLog:
		ok = s.catchUp(r)
	case recoverSnapshot:
		s.abortPrepared()
		ok = len(r.payload) == 1 && s.storage.restore(r.payload[0], scaled(aloneTimeout, s.scale)) == nil
	}
	return answer{ok: ok, ldt: s.storage.position().ldt}
}

// prepare takes a commit, or its first phase. That a timestamp which it has
// already is answered with success is Memgraph's: a MAIN that came back with less
// data than its replica thereby loses writes without a word.
func (s *replicationServer) prepare(r request) bool {
	s.abortPrepared()
	if len(r.payload) != 1 || s.faults.refusesPrepare() {
		return false
	}
	e, err := unpackEntry(r.payload[0])
	if err != nil {
		return false
	}
	s.storage.adopt(r.epoch)
	switch ldt := s.storage.position().ldt; {
	case r.previous > ldt: // it lacks what came before
		return false
	case e.ts <= ldt: // it has it
		return true
	case !r.twoPhase:
		return s.storage.take(e, r.payload[0]) == nil
	}
	tx := s.storage.graph.Begin()
	if err := tx.Replay(e.writes); err != nil {
		tx.Rollback()
		return false
	}
	s.prepared, s.pending = tx, e
	return true
}

// finalize ends the second phase. Without the transaction it answers success
// all the same, which is Memgraph's defect up to 3.12 (pull request 4884).
func (s *replicationServer) finalize(r request) bool {
	if s.prepared == nil || s.pending.ts != r.ts {
		return s.version.before(3, 13)
	}
	if !r.commit {
		s.abortPrepared()
		return true
	}
	tx, e := s.prepared, s.pending
	s.prepared = nil
	if err := s.storage.append(e.ts, e.pack()); err != nil {
		tx.Rollback()
		return false
	}
	tx.Commit()
	s.storage.advance(e.ts)
	return true
}

// catchUp takes a part of MAIN's log, epochs and all: where one ends, the history
// gets an entry, as it would have if the replica had been there.
func (s *replicationServer) catchUp(r request) bool {
	s.abortPrepared()
	for _, packed := range r.payload {
		e, err := unpackEntry(packed)
		if err != nil {
			return false
		}
		if e.ts <= s.storage.position().ldt {
			continue
		}
		s.storage.adopt(e.epoch)
		if err := s.storage.take(e, packed); err != nil {
			return false
		}
	}
	return true
}

// abortPrepared undoes a first phase that was never decided: its MAIN died, or
// the replica is promoted. By applying.
func (s *replicationServer) abortPrepared() {
	if s.prepared != nil {
		s.prepared.Rollback()
		s.prepared = nil
	}
}

// take commits what MAIN has committed.
func (s *storage) take(e entry, packed []byte) error {
	tx := s.graph.Begin()
	if err := tx.Replay(e.writes); err != nil {
		tx.Rollback()
		return err
	}
	if err := s.append(e.ts, packed); err != nil {
		tx.Rollback()
		return err
	}
	tx.Commit()
	s.advance(e.ts)
	return nil
}

// standing is where this replica got, and in which epoch it got there; before
// 3.5 that is the present one. Source: Memgraph v3.12
// replication_handlers.cpp:413-421.
func (s *replicationServer) standing() answer {
	at := s.storage.position()
	a := answer{ok: true, ldt: at.ldt, epoch: at.epoch}
	if s.version.before(3, 5) {
		return a
	}
	if n := len(at.history); n > 0 && at.history[n-1].ldt == at.ldt {
		a.epoch = at.history[n-1].epoch
	}
	return a
}

// align takes over MAIN's identity of the database while nothing was committed.
// A build without enterprise code does not compare it later (observed).
func (s *storage) align(uuid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ldt == 0 {
		s.uuid = uuid
	}
}
