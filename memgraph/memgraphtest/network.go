package memgraphtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Mode is the state of an instance's network.
type Mode string

// Modes. They hold for the Bolt and the replication port alike.
const (
	// Open lets everything through.
	Open Mode = "open"
	// Refuse closes the ports and resets what was connected to them.
	Refuse Mode = "refuse"
	// Blackhole leaves every packet unanswered, in both directions: a dial hangs,
	// and so does an established connection until the mode is Open again.
	Blackhole Mode = "blackhole"
	// Hang is a process that is stopped: dials succeed, nothing is read or
	// answered, and what was sent meanwhile is obeyed when the mode is Open again.
	Hang Mode = "hang"
)

// modes are those that there are.
var modes = []Mode{Open, Refuse, Blackhole, Hang}

// network is an instance's share of the loopback interface. It outlives the
// processes that use it, as a pod's does.
type network struct {
	changing sync.Mutex // one change at a time
	state    atomic.Pointer[networkState]

	mu        sync.Mutex
	listeners map[*listener]struct{}
	conns     map[*conn]struct{}
}

// networkState is a mode and what is closed when it ends.
type networkState struct {
	set    Mode // from outside
	frozen bool // by the process itself
	ended  chan struct{}
}

// mode is what s comes to.
func (s *networkState) mode() Mode {
	if s.frozen && s.set == Open {
		return Hang
	}
	return s.set
}

// stuck reports whether nothing gets through and nothing breaks.
func (s *networkState) stuck() bool { return s.mode() == Blackhole || s.mode() == Hang }

// newNetwork is an open one.
func newNetwork() *network {
	n := &network{listeners: map[*listener]struct{}{}, conns: map[*conn]struct{}{}}
	n.state.Store(&networkState{set: Open, ended: make(chan struct{})})
	return n
}

func (n *network) mode() Mode { return n.state.Load().mode() }

// set changes the mode and returns when it is in force.
func (n *network) set(m Mode) error {
	if !slices.Contains(modes, m) {
		return fmt.Errorf("network mode %q: wanted one of %q", m, modes)
	}
	n.changing.Lock()
	defer n.changing.Unlock()
	return n.enterLocked(networkState{set: m, frozen: n.state.Load().frozen})
}

// freeze has the process hang, and thaw ends that; the mode from outside stays.
func (n *network) freeze() error { return n.setFrozen(true) }
func (n *network) thaw() error   { return n.setFrozen(false) }

func (n *network) setFrozen(frozen bool) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	was := n.state.Load()
	if was.frozen == frozen {
		return nil
	}
	return n.enterLocked(networkState{set: was.set, frozen: frozen})
}

// enterLocked puts a state in force.
func (n *network) enterLocked(s networkState) error {
	s.ended = make(chan struct{})
	m := s.mode()
	listeners, conns := n.members()
	var errs []error
	if m == Open {
		for _, l := range listeners {
			errs = append(errs, l.apply(m))
		}
	}
	was := n.state.Swap(&s)
	close(was.ended)
	if m != Open {
		for _, l := range listeners {
			errs = append(errs, l.apply(m))
		}
	}
	if m == Refuse {
		for _, c := range conns {
			if c.inbound {
				c.reset()
			}
		}
	}
	return errors.Join(errs...)
}

// members are the ports and connections that a change of mode concerns.
func (n *network) members() ([]*listener, []*conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var listeners []*listener
	for l := range n.listeners {
		listeners = append(listeners, l)
	}
	var conns []*conn
	for c := range n.conns {
		conns = append(conns, c)
	}
	return listeners, conns
}

// awake waits while the process hangs: no time passes for it.
func (n *network) awake(ctx context.Context) {
	for s := n.state.Load(); s.mode() == Hang; s = n.state.Load() {
		select {
		case <-s.ended:
		case <-ctx.Done():
			return
		}
	}
}

// dial connects to another instance; ctx bounds it.
func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	for s := n.state.Load(); s.stuck(); s = n.state.Load() {
		select {
		case <-s.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return n.adopt(c.(*net.TCPConn), false), nil
}

// adopt makes a connection subject to the modes.
func (n *network) adopt(tcp *net.TCPConn, inbound bool) *conn {
	c := &conn{Conn: tcp, network: n, inbound: inbound, closed: make(chan struct{})}
	n.mu.Lock()
	n.conns[c] = struct{}{}
	n.mu.Unlock()
	return c
}

// conn is a connection that goes deaf and dumb in a black hole, and while the
// process hangs.
type conn struct {
	net.Conn
	network  *network
	inbound  bool
	deadline atomic.Pointer[time.Time]
	once     sync.Once
	closed   chan struct{}
}

// Read loses what was sent into a black hole by somebody who gave up meanwhile;
// what was sent to a process that hung is still there.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	mode := c.network.mode()
	if err := c.pass(); err != nil {
		return 0, err
	}
	if mode == Blackhole && c.abandoned() {
		return 0, io.EOF
	}
	return n, err
}

// Write waits until something gets through.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// abandoned reports whether the other side has closed the connection.
func (c *conn) abandoned() bool {
	raw, err := c.Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = err == nil && n == 0
	})
	return closed || err != nil
}

// pass waits until something gets through.
func (c *conn) pass() error {
	for s := c.network.state.Load(); s.stuck(); s = c.network.state.Load() {
		var expired <-chan time.Time
		if d := c.deadline.Load(); d != nil && !d.IsZero() && s.mode() != Hang { // for which no time passes
			timer := time.NewTimer(time.Until(*d))
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-s.ended:
		case <-c.closed:
			return net.ErrClosed
		case <-expired:
			return os.ErrDeadlineExceeded
		}
	}
	return nil
}

// SetDeadline also bounds the wait for something to get through.
func (c *conn) SetDeadline(t time.Time) error {
	c.deadline.Store(&t)
	return c.Conn.SetDeadline(t)
}

func (c *conn) Close() error {
	err := net.ErrClosed
	c.once.Do(func() {
		close(c.closed)
		c.network.mu.Lock()
		delete(c.network.conns, c)
		c.network.mu.Unlock()
		err = c.Conn.Close()
	})
	return err
}

// reset closes the connection in a way that the other side notices at once.
func (c *conn) reset() {
	_ = c.Conn.(*net.TCPConn).SetLinger(0) // a connection that is gone already needs no reset
	_ = c.Close()
}
