package memgraphtest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// maxHistory is how many epochs are remembered. Source: Memgraph v3.12
// replication_storage_state.cpp, kEpochHistoryRetention.
const maxHistory = 1000

// storage is the database: its data, its log, and how far and in which epoch it
// got. Source: Memgraph v3.12 storage/v2/inmemory/storage.cpp.
type storage struct {
	dir   *directory
	graph *graph.Store
	log   *journal
	// engine is held while a transaction begins and for a whole commit, with
	// all that replication makes of it: then nothing else can begin.
	engine sync.Mutex
	access *access
	// abort ends the process: Memgraph does not live on with a log that it cannot
	// write. Source: Memgraph v3.12 utils/file.cpp, OutputFile.
	abort func()
	// analytical storage keeps no log: what is committed has no timestamp, is not
	// replicated and does not survive the process.
	analytical atomic.Bool

	mu      sync.Mutex
	uuid    string
	clock   int64 // counts transactions' beginnings and commits
	ldt     int64 // last durable timestamp
	epoch   string
	history []reign
	saved   reign // what the newest snapshot holds
}

// position is where a database stands in the succession of epochs.
type position struct {
	epoch   string
	ldt     int64
	history []reign
}

// openStorage recovers the data in dir; without any it starts a new epoch.
func openStorage(dir *directory, uuid string, abort func()) (*storage, error) {
	s := &storage{dir: dir, graph: graph.New(), access: newAccess(), abort: abort, uuid: uuid, epoch: newUUID(), clock: 1}
	b, err := os.ReadFile(dir.file(snapshotFile))
	if err == nil {
		var snap snapshot
		if snap, err = unpackSnapshot(b); err == nil {
			s.load(snap)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("recover snapshot: %w", err)
	}
	log, entries, err := openJournal(dir.file(logFile), s.ldt)
	if err != nil {
		return nil, err
	}
	s.log = log
	for _, e := range entries {
		if err := s.replay(e); err != nil {
			return nil, errors.Join(err, log.close())
		}
	}
	if len(entries) > 0 {
		s.clock = s.ldt + 2 // one is lost (observed)
	}
	s.clock = max(s.clock, s.ldt+1)
	return s, nil
}

// load puts a snapshot in the place of everything.
func (s *storage) load(snap snapshot) {
	s.graph.Replace(snap.nodes)
	s.epoch, s.ldt, s.history = snap.epoch, snap.ldt, snap.history
	s.saved = reign{snap.epoch, snap.ldt}
}

// replay takes an entry of the log into account. That it writes the current
// epoch into the history is Memgraph's, and makes identical peers look diverged
// once this instance is promoted (invariant 3). Source: Memgraph v3.12
// durability.cpp:780-790.
func (s *storage) replay(e entry) error {
	if err := s.graph.Apply(e.writes); err != nil {
		return fmt.Errorf("replay %d: %w", e.ts, err)
	}
	s.ldt = e.ts
	if n := len(s.history); n > 0 && s.history[n-1].epoch == e.epoch {
		s.history[n-1].ldt = e.ts
		return nil
	}
	s.history = append(s.history, reign{e.epoch, e.ts})
	s.epoch = e.epoch
	return nil
}

// begin opens a transaction; it waits for a commit that is under way, and fails
// where a snapshot of MAIN is being loaded.
func (s *storage) begin() (*graph.Tx, error) {
	if !s.access.share(accessTimeout) {
		return nil, &failure{codeTransient, textNoAccess}
	}
	s.engine.Lock()
	defer s.engine.Unlock()
	s.tick()
	tx := s.graph.Begin()
	tx.Ended = s.access.leave
	return tx, nil
}

// append makes a commit durable; where the disk is full the process dies of it.
func (s *storage) append(ts int64, packed []byte) error {
	err := s.dir.room()
	if err != nil {
		s.abort()
		return err
	}
	return s.log.append(ts, packed)
}

// tick is the next timestamp.
func (s *storage) tick() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	ts := s.clock
	s.clock++
	return ts
}

// position is a copy: it may be outdated when it is looked at, unless the engine
// lock is held.
func (s *storage) position() position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return position{s.epoch, s.ldt, append([]reign(nil), s.history...)}
}

// identity is the database's UUID.
func (s *storage) identity() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uuid
}

// mode is the storage mode's name.
func (s *storage) mode() string {
	if s.analytical.Load() {
		return "IN_MEMORY_ANALYTICAL"
	}
	return "IN_MEMORY_TRANSACTIONAL"
}

// advance makes ts the last durable timestamp.
func (s *storage) advance(ts int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ldt = ts
	s.clock = max(s.clock, ts+1)
}

// newEpoch starts the reign of a promoted MAIN. It is in memory only until the
// first commit. Source: Memgraph v3.12 replication_handler.cpp:280-320.
func (s *storage) newEpoch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeEpochLocked()
	s.epoch = newUUID()
	s.clock = max(s.clock, s.ldt+1)
}

// adopt changes to the epoch of the MAIN that sent a commit.
func (s *storage) adopt(epoch string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if epoch != s.epoch {
		s.closeEpochLocked()
		s.epoch = epoch
	}
}

// closeEpochLocked notes how far the epoch got, unless nothing was committed
// since the last one was noted. Source: Memgraph v3.12
// replication_storage_state.cpp, SaveLatestHistory.
func (s *storage) closeEpochLocked() {
	if n := len(s.history); n > 0 && s.history[n-1].ldt == s.ldt {
		return
	}
	s.history = append(s.history, reign{s.epoch, s.ldt})
	s.history = s.history[max(0, len(s.history)-maxHistory):]
}

// save writes a snapshot, unless the newest one is as new. The history goes
// into it as it is, with its duplicates.
func (s *storage) save() error {
	s.engine.Lock()
	tx := s.graph.Begin()
	at := s.position()
	s.engine.Unlock()
	defer tx.Rollback()
	s.mu.Lock()
	before := s.saved
	s.mu.Unlock()
	if before == (reign{at.epoch, at.ldt}) {
		return nil
	}
	snap := snapshot{epoch: at.epoch, ldt: at.ldt, history: at.history}
	for _, n := range tx.Nodes("") {
		snap.nodes = append(snap.nodes, graph.Write{ID: n.ID, State: tx.State(n)})
	}
	return s.keep(snap.pack(), reign{at.epoch, at.ldt}, before.ldt)
}

// keep stores a snapshot and cuts the log behind the one before it.
func (s *storage) keep(packed []byte, at reign, before int64) error {
	if err := s.dir.replace(snapshotFile, packed); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	if err := s.log.restart(at.ldt, before); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.saved = at
	return nil
}

var errNoAccess = errors.New("a transaction holds the storage")

// restore replaces all data by a snapshot that MAIN sent; it waits for the end
// of open transactions.
func (s *storage) restore(packed []byte, wait time.Duration) error {
	snap, err := unpackSnapshot(packed)
	if err != nil {
		return err
	}
	if !s.access.take(wait) {
		return errNoAccess
	}
	defer s.access.giveBack()
	s.engine.Lock()
	defer s.engine.Unlock()
	s.mu.Lock()
	s.load(snap)
	s.clock = max(s.clock, s.ldt+1)
	s.mu.Unlock()
	return s.keep(packed, reign{snap.epoch, snap.ldt}, snap.ldt)
}

func (s *storage) hasSnapshot() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saved.ldt > 0
}

// newestSnapshot reads the newest snapshot; one that the log continues exists
// where the log does not begin at 0.
func (s *storage) newestSnapshot() ([]byte, error) {
	b, err := os.ReadFile(s.dir.file(snapshotFile))
	if err != nil {
		return nil, fmt.Errorf("read snapshot: %w", err)
	}
	return b, nil
}
