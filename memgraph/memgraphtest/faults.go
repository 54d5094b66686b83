package memgraphtest

import (
	"errors"
	"sync"
)

// CrashPoint is a moment within a commit at which the process can die.
type CrashPoint string

// Crash points. What they leave: after a death before shipping a SYNC commit
// survives on MAIN alone and a STRICT_SYNC one nowhere; after one before
// finalizing it survives on MAIN, and replicas do not know that it was decided.
const (
	BeforeShipping   CrashPoint = "before-shipping"
	BeforeFinalizing CrashPoint = "before-finalizing"
)

var errDying = errors.New("the process died at a crash point")

// faults are the switches that a process can be told to fail by. They end with
// the process.
type faults struct {
	die  func() // must not wait for anything
	died chan struct{}
	once sync.Once

	mu      sync.Mutex
	crashAt CrashPoint
}

func newFaults(die func()) *faults { return &faults{die: die, died: make(chan struct{})} }

// arm makes the next commit that reaches p the last; "" disarms.
func (f *faults) arm(p CrashPoint) error {
	if p != "" && p != BeforeShipping && p != BeforeFinalizing {
		return errors.New("crash point " + string(p) + ": wanted before-shipping or before-finalizing")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.crashAt = p
	return nil
}

// reach dies if p is armed.
func (f *faults) reach(p CrashPoint) error {
	f.mu.Lock()
	hit := f.crashAt == p
	f.mu.Unlock()
	if !hit {
		return nil
	}
	f.once.Do(func() {
		close(f.died) // before anybody can notice
		f.die()
	})
	return errDying
}
