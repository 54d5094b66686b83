package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"syscall"
	"time"
)

var (
	// clientKeepAlive keeps the idle timers of balancers (at least 4 min) from
	// running out, and finds a vanished client after a minute.
	clientKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}
	// backendKeepAlive finds a vanished pod 11 s after the last byte; on Linux,
	// where the user timeout stands in for Count, after that.
	backendKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3}
)

// past is a deadline that ends every wait.
var past = time.Unix(1, 0)

// dial connects to a pod, over TLS if there are rules for it, which ctx bounds too.
func dial(ctx context.Context, addr string, rules *tls.Config) (*socket, error) {
	d := net.Dialer{
		KeepAliveConfig: backendKeepAlive,
		Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			if failed := c.Control(func(fd uintptr) { err = setUserTimeout(int(fd)) }); failed != nil {
				return failed
			}
			return err
		},
	}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := newSocket(c.(*net.TCPConn))
	if rules == nil {
		return s, nil
	}
	if err := s.secure(ctx, rules, nil, tls.Client); err != nil {
		reset(s)
		return nil, fmt.Errorf("tls: %w", err)
	}
	return s, nil
}

// vigil is kept on a connection on which nothing should arrive, so that the
// peer's leaving is noticed at once. It reads one byte at most.
type vigil struct {
	over chan struct{} // closed when the peer has sent something or has left

	conn net.Conn
	buf  [1]byte
	n    int
	err  error
}

func keepVigil(c net.Conn) *vigil {
	v := &vigil{over: make(chan struct{}), conn: c}
	go v.read()
	return v
}

func (v *vigil) read() {
	defer close(v.over)
	v.n, v.err = v.conn.Read(v.buf[:])
}

// end stops the vigil. It returns the byte that the peer sent, if it sent one,
// and an error if it left; neither if all was quiet.
func (v *vigil) end() ([]byte, error) {
	_ = v.conn.SetReadDeadline(past)
	<-v.over
	_ = v.conn.SetReadDeadline(time.Time{})
	if isTimeout(v.err) {
		return nil, nil
	}
	return v.buf[:v.n], v.err
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
