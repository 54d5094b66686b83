package memgraph

import (
	"context"
	"net"
	"time"
)

// vigilDial bounds the dial: an instance in the same cluster accepts within
// milliseconds.
const vigilDial = time.Second

// Vigil holds a connection to the Bolt port at addr, on which nothing is said, and
// returns true when it breaks: within milliseconds of the death of the process
// where its host is up to say so. That is evidence and no verdict. It returns
// false if no connection can be had, and once ctx has ended.
func Vigil(ctx context.Context, addr string) (broke bool) {
	dialer := net.Dialer{Timeout: vigilDial}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	_, err = conn.Read(make([]byte, 1))
	return err != nil && ctx.Err() == nil
}
