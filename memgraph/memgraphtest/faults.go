package memgraphtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"
)

// Faults are what ails a server besides its network. They hold until they are
// set anew: over the end of the process, and of its data.
type Faults struct {
	// Delay passes before each message, of a client or of MAIN, is obeyed.
	Delay time.Duration `json:"delay,omitempty"`
	// LoginTime is what each login costs, with or without a user, in the
	// configuration's place.
	LoginTime time.Duration `json:"login_time,omitempty"`
	// Password is what logins need, in the configuration's place: it was changed.
	Password string `json:"password,omitempty"`
	// CommitTime passes in each commit: nothing else begins, reads neither.
	CommitTime time.Duration `json:"commit_time,omitempty"`
	// FailPrepares is how many of the next commits a replica refuses to take; a
	// process that starts counts anew.
	FailPrepares int `json:"fail_prepares,omitempty"`
	// HoldStorage is a read that does not end: no snapshot of MAIN gets in.
	HoldStorage bool `json:"hold_storage,omitempty"`
	// RecoveryTime passes at each start before Bolt opens.
	RecoveryTime time.Duration `json:"recovery_time,omitempty"`
	// FullDisk kills the process when it writes to its log, as a failed write
	// does, and makes changes of the role and of registrations fail.
	FullDisk bool `json:"full_disk,omitempty"`
	// OccupiedPorts of the server's host are somebody else's.
	OccupiedPorts []int `json:"occupied_ports,omitempty"`
}

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

// faults are those of one process.
type faults struct {
	die  func() // must not wait for anything
	died chan struct{}
	once sync.Once

	mu      sync.Mutex
	set     Faults
	crashAt CrashPoint
}

func newFaults(die func(), set Faults) *faults {
	return &faults{die: die, died: make(chan struct{}), set: set}
}

// kill ends the process at once, as a signal that cannot be caught does.
func (f *faults) kill() {
	f.once.Do(func() {
		close(f.died) // before anybody can notice
		f.die()
	})
}

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
	f.kill()
	return errDying
}

// change replaces the faults that were set.
func (f *faults) change(set Faults) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set = set
}

func (f *faults) now() Faults {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.set
}

// pause waits before a message is obeyed.
func (f *faults) pause(ctx context.Context) { sleep(ctx, f.now().Delay) }

// refusesPrepare counts down the commits that a replica refuses.
func (f *faults) refusesPrepare() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.set.FailPrepares == 0 {
		return false
	}
	f.set.FailPrepares--
	return true
}

// sleep waits for d, or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// SetFaults replaces all faults; the zero value ends them.
func (s *Server) SetFaults(f Faults) error {
	s.failing.Lock()
	defer s.failing.Unlock()
	if err := s.occupy(f.OccupiedPorts); err != nil {
		return fmt.Errorf("set faults: %w", err)
	}
	if err := writeFaults(s.config().DataDirectory, f); err != nil {
		return fmt.Errorf("set faults: %w", err)
	}
	if i := s.running(); i != nil {
		i.suffer(f)
	}
	return nil
}

// occupy makes the given ports, and no others, somebody else's.
func (s *Server) occupy(ports []int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.occupants {
		_ = l.Close() // nobody was let in
	}
	s.occupants = nil
	for _, port := range ports {
		l, err := net.Listen("tcp", net.JoinHostPort(s.cfg.Host, strconv.Itoa(port)))
		if err != nil {
			return fmt.Errorf("occupy port: %w", err)
		}
		s.occupants = append(s.occupants, l)
	}
	return nil
}

// suffer puts faults in force for a process.
func (i *instance) suffer(f Faults) {
	i.faults.change(f)
	i.dir.full.Store(f.FullDisk)
	i.storage.access.hold(f.HoldStorage)
}

// faultsPath lies beside the data directory, so that wiping leaves it.
func faultsPath(directory string) string { return filepath.Clean(directory) + ".faults.json" }

func readFaults(directory string) (Faults, error) {
	b, err := os.ReadFile(faultsPath(directory))
	if errors.Is(err, fs.ErrNotExist) {
		return Faults{}, nil
	}
	var f Faults
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err != nil {
		return Faults{}, fmt.Errorf("read faults: %w", err)
	}
	return f, nil
}

func writeFaults(directory string, f Faults) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if string(b) != "{}" {
		return os.WriteFile(faultsPath(directory), b, 0o644)
	}
	if err := os.Remove(faultsPath(directory)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
