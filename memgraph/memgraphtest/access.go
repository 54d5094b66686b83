package memgraphtest

import (
	"sync"
	"time"
)

const (
	// accessTimeout is how long a transaction waits for its share of the storage.
	// Source: storage_access_timeout_sec, Memgraph v3.12 flags/general.cpp.
	accessTimeout = time.Second
	// aloneTimeout is how long a snapshot of MAIN waits for the storage. Source:
	// Memgraph v3.12 dbms/inmemory/replication_handlers.cpp, kWaitForMainLockTimeout.
	aloneTimeout = 30 * time.Second
)

// access is the main lock of a storage: each transaction has a share of it, and
// what replaces all data has it alone.
type access struct {
	mu      sync.Mutex
	shares  int
	alone   bool
	held    bool          // one of the shares is a fault's
	changed chan struct{} // closed when somebody leaves
}

func newAccess() *access { return &access{changed: make(chan struct{})} }

// share waits for a share, at most d; leave gives it back.
func (a *access) share(d time.Duration) bool {
	return a.wait(d, func() bool {
		if !a.alone {
			a.shares++
		}
		return !a.alone
	})
}

func (a *access) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.shares--
	a.announceLocked()
}

// take waits until nobody has a share, at most d; giveBack ends it.
func (a *access) take(d time.Duration) bool {
	return a.wait(d, func() bool {
		free := !a.alone && a.shares == 0
		a.alone = a.alone || free
		return free
	})
}

func (a *access) giveBack() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.alone = false
	a.announceLocked()
}

// hold is a share that a fault has, or has no more.
func (a *access) hold(held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case held && !a.held:
		a.shares++
	case !held && a.held:
		a.shares--
		a.announceLocked()
	}
	a.held = held
}

func (a *access) announceLocked() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// wait tries whenever somebody has left, for at most d. The mutex is held while
// it tries.
func (a *access) wait(d time.Duration, try func() bool) bool {
	var expired <-chan time.Time
	for {
		a.mu.Lock()
		ok, changed := try(), a.changed
		a.mu.Unlock()
		if ok {
			return true
		}
		if expired == nil {
			expired = time.After(d)
		}
		select {
		case <-changed:
		case <-expired:
			return false
		}
	}
}
