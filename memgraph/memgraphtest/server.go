package memgraphtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
)

// Server is one Memgraph: a place with an address, a network and a data
// directory, in which a process runs or does not. It is safe for concurrent use.
type Server struct {
	network *network
	counts  counters

	changing sync.Mutex // one start or end at a time
	failing  sync.Mutex // one change of the faults at a time
	mu       sync.Mutex
	cfg      Config    // BoltPort is filled in by the first start
	instance *instance // nil while no process runs
	// occupants are on ports that a fault has taken.
	occupants []net.Listener
}

// New checks the configuration; Start the server to use it.
func New(cfg Config) (*Server, error) {
	cfg, err := completed(cfg)
	if err != nil {
		return nil, fmt.Errorf("new memgraph: %w", err)
	}
	return &Server{network: newNetwork(), cfg: cfg}, nil
}

var errRunning = errors.New("it runs already")

// Start launches the process and returns once Bolt is open: after the recovery
// of its data, and for a MAIN after it has tried to reach its replicas.
func (s *Server) Start(ctx context.Context) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if i := s.running(); i != nil {
		return fmt.Errorf("start memgraph at %s: %w", s.Addr(), errRunning)
	}
	s.reap()
	cfg := s.config()
	f, err := readFaults(cfg.DataDirectory)
	if err == nil {
		err = s.occupy(f.OccupiedPorts)
	}
	if err != nil {
		return fmt.Errorf("start memgraph: %w", err)
	}
	i, err := launch(ctx, cfg, s.network, &s.counts)
	if err != nil {
		return fmt.Errorf("start memgraph: %w", err)
	}
	_, port, err := net.SplitHostPort(i.door.listener.addr)
	if err == nil {
		cfg.BoltPort, err = strconv.Atoi(port)
	}
	if err != nil {
		return fmt.Errorf("start memgraph: %w", err)
	}
	s.mu.Lock()
	s.cfg, s.instance = cfg, i
	s.mu.Unlock()
	cfg.Logger.Info("memgraph started", "addr", s.Addr(), "run_id", i.runID, "role", i.roles.role())
	return nil
}

// Addr is the address of Bolt, host:port; the port is 0 before the first start.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return net.JoinHostPort(s.cfg.Host, strconv.Itoa(s.cfg.BoltPort))
}

// Terminate ends the process as SIGTERM does, with a snapshot if configured.
// Without a process it does nothing, as the following.
func (s *Server) Terminate() { s.finish((*instance).terminate) }

// Crash ends the process as SIGKILL does: what is only in memory is lost, what
// was written stays.
func (s *Server) Crash() { s.finish((*instance).crash) }

// finish ends a process that runs, and cleans up after one that died.
func (s *Server) finish(end func(*instance)) {
	s.changing.Lock()
	defer s.changing.Unlock()
	if i := s.running(); i != nil {
		s.forget()
		end(i)
		s.config().Logger.Info("memgraph ended", "addr", s.Addr(), "run_id", i.runID)
	}
	s.reap()
}

// Restart terminates the process and starts it anew on the same ports.
func (s *Server) Restart(ctx context.Context) error {
	s.Terminate()
	return s.Start(ctx)
}

// Wipe removes the data of a server whose process has ended.
func (s *Server) Wipe() error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if s.running() != nil {
		return fmt.Errorf("wipe memgraph: %w", errRunning)
	}
	s.reap()
	if err := os.RemoveAll(s.config().DataDirectory); err != nil {
		return fmt.Errorf("wipe memgraph: %w", err)
	}
	return nil
}

// Died is closed when the present process dies at a crash point; nil without a
// process.
func (s *Server) Died() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance == nil {
		return nil
	}
	return s.instance.faults.died
}

// SetNetwork changes what reaches the server's ports and what it reaches. It
// holds over the end of the process, as it does for a pod.
func (s *Server) SetNetwork(m Mode) error { return s.network.set(m) }

// CrashAt makes the process die when a commit gets to p; "" calls it off.
func (s *Server) CrashAt(p CrashPoint) error {
	i := s.running()
	if i == nil {
		return errors.New("crash at a point: no process runs")
	}
	return i.faults.arm(p)
}

func (s *Server) config() Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cfg
}

// running is the process; nil if there is none or it died.
func (s *Server) running() *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.instance == nil {
		return nil
	}
	select {
	case <-s.instance.faults.died:
		return nil
	default:
		return s.instance
	}
}

// reap waits for the end of a process that died.
func (s *Server) reap() {
	if i := s.forget(); i != nil {
		i.end()
	}
}

// forget takes the process out.
func (s *Server) forget() *instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.instance
	s.instance = nil
	return i
}
