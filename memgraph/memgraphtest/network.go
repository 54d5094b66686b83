package memgraphtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Mode is the state of an instance's network.
type Mode string

// Modes. Refuse and Blackhole hold for the Bolt and the replication port alike.
const (
	// Open lets everything through.
	Open Mode = "open"
	// Refuse closes the ports and resets what was connected to them.
	Refuse Mode = "refuse"
	// Blackhole leaves every packet unanswered, in both directions: a dial hangs,
	// and so does an established connection until the mode is Open again.
	Blackhole Mode = "blackhole"
)

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
	mode  Mode
	ended chan struct{}
}

// newNetwork is an open one.
func newNetwork() *network {
	n := &network{listeners: map[*listener]struct{}{}, conns: map[*conn]struct{}{}}
	n.state.Store(&networkState{mode: Open, ended: make(chan struct{})})
	return n
}

func (n *network) mode() Mode { return n.state.Load().mode }

// set changes the mode and returns when it is in force.
func (n *network) set(m Mode) error {
	n.changing.Lock()
	defer n.changing.Unlock()
	if m != Open && m != Refuse && m != Blackhole {
		return fmt.Errorf("network mode %q: wanted open, refuse or blackhole", m)
	}
	listeners, conns := n.members()
	var errs []error
	if m == Open {
		for _, l := range listeners {
			errs = append(errs, l.apply(m))
		}
	}
	was := n.state.Swap(&networkState{mode: m, ended: make(chan struct{})})
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

// dial connects to another instance; ctx bounds it.
func (n *network) dial(ctx context.Context, addr string) (net.Conn, error) {
	for s := n.state.Load(); s.mode == Blackhole; s = n.state.Load() {
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

// conn is a connection that goes deaf and dumb in a black hole.
type conn struct {
	net.Conn
	network  *network
	inbound  bool
	deadline atomic.Pointer[time.Time]
	once     sync.Once
	closed   chan struct{}
}

// Read loses what was sent into a black hole by somebody who gave up meanwhile.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.network.mode() != Blackhole {
		return n, err
	}
	if err := c.pass(); err != nil {
		return 0, err
	}
	if c.abandoned() {
		return 0, io.EOF
	}
	return n, err
}

// Write into a black hole waits for its end.
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

// pass waits for a black hole to end.
func (c *conn) pass() error {
	for s := c.network.state.Load(); s.mode == Blackhole; s = c.network.state.Load() {
		var expired <-chan time.Time
		if d := c.deadline.Load(); d != nil && !d.IsZero() {
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

// SetDeadline also bounds the wait in a black hole.
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

// listener is a port of an instance. Its address stays the same in all modes.
type listener struct {
	network *network
	addr    string
	closed  chan struct{}

	mu      sync.Mutex
	tcp     *net.TCPListener // nil while the port is closed
	fillers []net.Conn       // what keeps the backlog full in a black hole
}

// listen opens addr in the present mode; port 0 is chosen by the system.
func (n *network) listen(addr string) (*listener, error) {
	n.changing.Lock()
	defer n.changing.Unlock()
	l := &listener{network: n, addr: addr, closed: make(chan struct{})}
	if err := l.apply(Open); err != nil {
		return nil, err
	}
	l.addr = l.tcp.Addr().String()
	if err := l.apply(n.mode()); err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.listeners[l] = struct{}{}
	n.mu.Unlock()
	return l, nil
}

// acceptPause is the wait after an accept that failed for lack of resources.
const acceptPause = 10 * time.Millisecond

// accept returns the next connection, or net.ErrClosed once l is closed. Where
// the mode lets nobody in it waits for another.
func (l *listener) accept() (*conn, error) {
	for {
		s := l.network.state.Load()
		var again <-chan time.Time // never, while the mode is not Open
		if s.mode == Open {
			if c := l.acceptOpen(); c != nil {
				return c, nil
			}
			again = time.After(acceptPause)
		}
		select {
		case <-s.ended:
		case <-l.closed:
			return nil, net.ErrClosed
		case <-again:
		}
	}
}

// acceptOpen waits for one connection; nil if there is none to be had.
func (l *listener) acceptOpen() *conn {
	l.mu.Lock()
	tcp := l.tcp
	l.mu.Unlock()
	if tcp == nil {
		return nil
	}
	accepted, err := tcp.AcceptTCP()
	if err != nil {
		return nil
	}
	c := l.network.adopt(accepted, true)
	if l.network.mode() == Refuse {
		c.reset()
		return nil
	}
	return c
}

// backlog for an open port; the kernel caps it at net.core.somaxconn.
const backlog = 1024

// apply puts the port into a mode.
func (l *listener) apply(m Mode) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unfillLocked()
	if m == Refuse {
		return l.closeLocked()
	}
	if l.tcp == nil {
		tcp, err := net.Listen("tcp", l.addr)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		l.tcp = tcp.(*net.TCPListener)
	}
	if m == Blackhole {
		return l.deafenLocked()
	}
	if err := resize(l.tcp, backlog); err != nil {
		return err
	}
	return l.tcp.SetDeadline(time.Time{})
}

// deafenLocked keeps the socket and stops accepting: with a backlog of one that
// is full, Linux drops every further SYN, which is how a black hole looks.
func (l *listener) deafenLocked() error {
	if err := l.tcp.SetDeadline(time.Unix(1, 0)); err != nil {
		return err
	}
	if err := resize(l.tcp, 0); err != nil {
		return err
	}
	for range 4 { // one is enough unless somebody is just connecting
		c, err := net.DialTimeout("tcp", l.addr, 20*time.Millisecond)
		if err != nil {
			return nil
		}
		l.fillers = append(l.fillers, c)
	}
	return fmt.Errorf("black hole at %s: it still accepts", l.addr)
}

// unfillLocked makes room in the backlog again.
func (l *listener) unfillLocked() {
	for _, c := range l.fillers {
		_ = c.Close() // it carries nothing
	}
	l.fillers = nil
}

// resize changes the backlog of a socket that listens already.
func resize(tcp *net.TCPListener, n int) error {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = syscall.Listen(int(fd), n) })
	return errors.Join(err, failed)
}

func (l *listener) closeLocked() error {
	if l.tcp == nil {
		return nil
	}
	err := l.tcp.Close()
	l.tcp = nil
	return err
}

// close ends the listener; connections stay.
func (l *listener) close() {
	l.network.mu.Lock()
	delete(l.network.listeners, l)
	l.network.mu.Unlock()
	close(l.closed)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unfillLocked()
	_ = l.closeLocked() // nothing to do about it
}
