package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

// socket is a connection of a client's or to a pod: TCP, or TLS over it.
type socket struct {
	net.Conn // what is said; tcp itself where there is no TLS

	tcp     *net.TCPConn
	ground  *ground     // of TLS; nil where there is none
	from    net.Addr    // whose connection its peer forwards; nil if its own
	severed atomic.Bool // its peer shall see a reset
}

func newSocket(c *net.TCPConn) *socket { return &socket{Conn: c, tcp: c} }

// secure puts TLS on c, by the rules of wrap, which is tls.Client or tls.Server;
// head was read from c already. It shakes hands within ctx and c's deadlines.
func (c *socket) secure(ctx context.Context, cfg *tls.Config, head []byte, wrap func(net.Conn, *tls.Config) *tls.Conn) error {
	c.ground = &ground{TCPConn: c.tcp, head: head, fd: none}
	over := wrap(c.ground, cfg)
	c.Conn = over
	return over.HandshakeContext(ctx)
}

// readNow reads what there is, and returns syscall.EAGAIN where there is nothing.
// fd is c's, and c must not be read otherwise meanwhile.
func (c *socket) readNow(fd uintptr, b []byte) (int, error) {
	if c.ground == nil {
		return readNow(int(fd), b)
	}
	c.ground.fd = int(fd)
	defer func() { c.ground.fd = none }()
	return c.Read(b)
}

// RemoteAddr is the client's, also behind a balancer that tells of it.
func (c *socket) RemoteAddr() net.Addr { return cmp.Or(c.from, c.tcp.RemoteAddr()) }

// CloseWrite tells the peer that nothing more will come.
func (c *socket) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// sever has the peer see a reset when c is closed, rather than an end.
func (c *socket) sever() {
	c.severed.Store(true)
	_ = c.tcp.SetLinger(0) // fails on a closed connection only
}

// Close waits for nobody. Of TLS it takes leave, if the peer has room for it.
func (c *socket) Close() error {
	if c.ground == nil || c.severed.Load() {
		return c.tcp.Close()
	}
	c.ground.leaving.Store(true)
	return c.Conn.Close()
}

// reset closes c so that its peer learns of it at once, whatever is still
// queued for one that does not read. It does not wait for the peer.
func reset(c *socket) {
	c.sever()
	_ = c.tcp.Close()
}

// abort wakes whoever reads or writes, and has the peers see a reset when that
// one closes.
func abort(cs ...*socket) {
	for _, c := range cs {
		c.sever()
		_ = c.SetDeadline(past) // fails on a closed connection only
	}
}

// none is no file descriptor.
const none = -1

// ground is what TLS stands on. An idle connection shall hold no buffer, so that
// TLS must not wait within its own reading: as long as fd is one, it is told that
// there is nothing, which it takes for no error.
type ground struct {
	*net.TCPConn
	head    []byte      // was read already
	fd      int         // to read from at once; none to wait
	leaving atomic.Bool // nothing that is written is waited for
}

func (g *ground) Read(b []byte) (int, error) {
	switch {
	case len(g.head) > 0:
		n := copy(b, g.head)
		g.head = g.head[n:]
		return n, nil
	case g.fd == none:
		return g.TCPConn.Read(b)
	}
	return readNow(g.fd, b)
}

func (g *ground) Write(b []byte) (n int, err error) {
	if !g.leaving.Load() {
		return g.TCPConn.Write(b)
	}
	raw, err := g.SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(fd uintptr) { n, err = syscall.Write(int(fd), b) })
	return n, errors.Join(failed, err)
}

func readNow(fd int, b []byte) (int, error) {
	for {
		switch n, err := syscall.Read(fd, b); {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
