package memgraphtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// SyncMode is how a replica was registered, in the words of SHOW REPLICAS.
type SyncMode string

// Modes of registration.
const (
	ModeSync       SyncMode = "sync"
	ModeAsync      SyncMode = "async"
	ModeStrictSync SyncMode = "strict_sync"
)

// clientState is what MAIN thinks of a replica, in the words of SHOW REPLICAS.
type clientState string

// States. Source: Memgraph v3.12 query/interpreter.cpp:2069-2082.
const (
	stateReady       clientState = "ready"
	stateReplicating clientState = "replicating"
	stateRecovery    clientState = "recovery"
	stateInvalid     clientState = "invalid" // MAYBE_BEHIND
	stateDiverged    clientState = "diverged"
)

const (
	// missesUntilInvalid is how many checks in a row must fail before a replica
	// is invalid. Source: kFailureAfterN, Memgraph v3.12 replication_client.hpp.
	missesUntilInvalid = 3
	// asyncPatience is how long an ASYNC replica that works takes for a commit at
	// most, and then some.
	asyncPatience = time.Second
	// logBatch bounds the transactions of one recovery call, in bytes.
	logBatch = 4 << 20
)

// client keeps one replica in step: MAIN's ReplicationStorageClient and its one
// worker thread. Its states:
//
//	invalid      nobody knows where the replica is; commits pass it by, and the
//	             frequent check has it asked
//	recovery     it is being sent what it lacks; commits pass it by
//	ready        it has all; the next commit goes to it
//	replicating  a commit is on its way to it
//	diverged     it has what MAIN has not; nothing but a new connection or
//	             registration makes MAIN ask again
//
// Source: Memgraph v3.12 storage/v2/replication/replication_client.cpp.
type client struct {
	name    string
	mode    SyncMode
	main    string // main_uuid under which it was registered
	storage *storage
	link    *link
	// readsRefusals says that a heartbeat which is refused is not taken for that of
	// an empty replica. (Observed: on 3.7.2 one that obeys another MAIN goes to and
	// fro between recovery and invalid, on 3.12.0 it is invalid.)
	readsRefusals bool
	// fromLast says that histories are searched from their end, as before 3.5.
	fromLast bool
	// tasks of the worker: a commit's answer, a check and a recovery at most.
	tasks chan func()
	stop  context.CancelFunc
	wg    sync.WaitGroup

	mu       sync.Mutex
	state    clientState
	ts       int64 // the replica's durable timestamp as last learnt
	checking bool  // a check is in tasks
}

// newClient does not talk to the replica yet: check and then start it. It
// belongs to the reign of the present main_uuid: a new reign registers anew.
func newClient(life context.Context, r *replication, reg Registration) *client {
	ctx, stop := context.WithCancel(life)
	return &client{
		name: reg.Name, mode: reg.Mode, main: r.mainUUID(), storage: r.storage,
		link:     newLink(ctx, r, reg.Address),
		fromLast: r.version.before(3, 5), readsRefusals: r.version.atLeast(3, 8), tasks: make(chan func(), 8), stop: stop, state: stateInvalid,
	}
}

// start runs the worker, and the frequent check unless its period is 0.
func (c *client) start(every time.Duration) {
	c.wg.Go(c.work)
	if every > 0 {
		c.wg.Go(func() { c.watch(every) })
	}
}

// close ends all that start began, and every call.
func (c *client) close() {
	c.stop()
	c.wg.Wait()
	c.link.drop() // nobody has the turn any more
}

// work is the worker thread: one task after the other, so that a check, a
// recovery and the answer to an ASYNC commit never overlap.
func (c *client) work() {
	for {
		select {
		case task := <-c.tasks:
			task()
		case <-c.link.life.Done():
			return
		}
	}
}

// watch is the frequent heartbeat: it notices a silent replica, and has one
// that is invalid checked.
func (c *client) watch(every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for misses := 0; ; {
		select {
		case <-ticker.C:
		case <-c.link.life.Done():
			return
		}
		if c.link.network.mode() == Hang { // its clock stands still
			c.link.network.awake(c.link.life)
			ticker.Reset(every)
			continue
		}
		if _, err := c.link.turnCall(request{method: frequentHeartbeat}); err != nil {
			if misses++; misses == missesUntilInvalid {
				c.setState(stateInvalid)
			}
			continue
		}
		misses = 0
		if c.is(stateInvalid) {
			c.queueCheck()
		}
	}
}

func (c *client) is(s clientState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == s
}

func (c *client) setState(s clientState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state = s
}

// change goes from one state to another; false if it was in none of them.
func (c *client) change(from, to clientState) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != from {
		return false
	}
	c.state = to
	return true
}

// lacks reports whether the replica is not known to have all up to ldt.
func (c *client) lacks(ldt int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ts < ldt
}

// isSilent reports whether the replica does not answer, nor refuse to.
func (c *client) isSilent() bool {
	if !c.link.take(c.link.scaled(asyncPatience)) {
		return true // another call has waited longer
	}
	defer c.link.give()
	_, err := c.link.call(request{method: frequentHeartbeat})
	return errors.Is(err, errTimeout) || isTimeout(err)
}

// learn raises the replica's timestamp as MAIN knows it.
func (c *client) learn(ts int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ts = max(c.ts, ts)
}

// queueCheck has the worker ask the replica, unless it is about to.
func (c *client) queueCheck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.checking {
		return
	}
	c.checking = true
	c.tasks <- func() {
		c.mu.Lock()
		c.checking = false
		c.mu.Unlock()
		c.check()
	}
}

// check asks the replica where it stands and decides what it is (UpdateReplicaState).
func (c *client) check() {
	at := c.storage.position()
	a, err := c.link.turnCall(request{method: heartbeat, main: c.main, database: c.storage.identity(), epoch: at.epoch, ts: at.ldt})
	switch {
	case err != nil:
		c.setState(stateInvalid)
		return
	case !a.ok && !c.readsRefusals:
		a = answer{}
	case !a.ok: // another MAIN's
		return
	case c.branches(at, a):
		c.setState(stateDiverged)
		return
	}
	c.storage.engine.Lock() // no commit may pass between the comparison and the verdict
	defer c.storage.engine.Unlock()
	ldt := c.storage.position().ldt // a commit may have passed since the question
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == stateRecovery {
		return
	}
	c.ts = max(c.ts, a.ldt)
	if !a.ok {
		c.ts = 0
	}
	if a.ldt >= ldt {
		c.state = stateReady
		return
	}
	c.state = stateRecovery
	c.tasks <- func() { c.recover(a.ldt) }
}

// branches is Memgraph's rule of divergence, taken literally: that it looks at
// the first entry of an epoch that may stand there twice is its defect since
// 3.5 (invariant 3). Source: Memgraph v3.12 replication_client.cpp:140-190, and
// v2.21.0 :69.
func (c *client) branches(main position, replica answer) bool {
	if replica.epoch == main.epoch || replica.ldt == 0 {
		return false
	}
	history := main.history
	if c.fromLast {
		history = slices.Clone(history)
		slices.Reverse(history)
	}
	i := slices.IndexFunc(history, func(r reign) bool { return r.epoch == replica.epoch })
	return i < 0 || history[i].ldt < replica.ldt
}

// recover sends what the replica lacks above ldt. It is ready afterwards unless
// something was committed meanwhile; then the next check begins another round.
func (c *client) recover(ldt int64) {
	if !c.is(stateRecovery) {
		return
	}
	ldt, err := c.sendMissing(ldt)
	if err == nil { // the log's current file, which has grown
		ldt, err = c.sendMissing(ldt)
	}
	c.storage.engine.Lock()
	defer c.storage.engine.Unlock()
	if err != nil || ldt < c.storage.position().ldt {
		c.setState(stateInvalid)
		return
	}
	c.learn(ldt)
	c.change(stateRecovery, stateReady)
}

var errRefused = errors.New("the replica refused")

// sendMissing sends a snapshot, if the log does not reach back to ldt, and then
// the log. It returns how far the replica got. One that nothing was committed on
// gets the snapshot there is, which empties it of what it holds nevertheless.
func (c *client) sendMissing(ldt int64) (int64, error) {
	missing, ok := c.storage.log.after(ldt)
	if !ok || ldt == 0 && c.storage.hasSnapshot() {
		packed, err := c.storage.newestSnapshot()
		if err != nil {
			return ldt, err
		}
		if ldt, err = c.send(recoverSnapshot, ldt, packed); err != nil {
			return ldt, err
		}
		missing, _ = c.storage.log.after(ldt)
	}
	var batch [][]byte
	size := 0
	for i, packed := range missing {
		batch, size = append(batch, packed), size+len(packed)
		if size < logBatch && i < len(missing)-1 {
			continue
		}
		var err error
		if ldt, err = c.send(recoverLog, ldt, batch...); err != nil {
			return ldt, err
		}
		batch, size = nil, 0
	}
	return ldt, nil
}

// send is one call of a recovery; it returns how far the replica got.
func (c *client) send(m method, ldt int64, payload ...[]byte) (int64, error) {
	a, err := c.link.turnCall(request{method: m, main: c.main, payload: payload})
	if err != nil {
		return ldt, err
	}
	if !a.ok {
		return ldt, errRefused
	}
	return a.ldt, nil
}
