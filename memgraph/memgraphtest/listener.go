package memgraphtest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

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
		if s.mode() == Open {
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

// longAgo ends an accept that waits.
var longAgo = time.Unix(1, 0)

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
	if m == Hang { // the kernel goes on to accept
		return l.tcp.SetDeadline(longAgo)
	}
	return l.tcp.SetDeadline(time.Time{})
}

// deafenLocked keeps the socket and stops accepting: with a backlog of one that
// is full, Linux drops every further SYN, which is how a black hole looks.
func (l *listener) deafenLocked() error {
	if err := l.tcp.SetDeadline(longAgo); err != nil {
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
