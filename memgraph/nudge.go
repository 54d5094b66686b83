package memgraph

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"
)

// A promotion ends the replica's replication server, which notices that only at
// the next turn of its poll: after up to 200 ms, or at once if anything happens
// on a connection that it has. So we open a few, say nothing, and close them one
// after the other once the statement is under way. Observed on 3.7.2 and 3.12.0:
// median 2 to 3 ms, 10 ms at most, instead of 100 and 200.

// nudges are when the connections are closed, counted from when the statement is
// handed to the driver: the first event after the statement has begun counts, and
// when it begins is not known. The later ones are for a machine that is starved.
var nudges = []time.Duration{
	time.Millisecond, 3 * time.Millisecond, 8 * time.Millisecond, 20 * time.Millisecond,
	40 * time.Millisecond, 80 * time.Millisecond, 120 * time.Millisecond,
}

// nudgeDial bounds opening them. Without them a promotion is slow, not wrong.
const nudgeDial = 20 * time.Millisecond

// nudged runs the promotion of the instance at addr, nudging it meanwhile.
func nudged(ctx context.Context, addr string, promote func() error) error {
	conns := idle(ctx, addr, len(nudges))
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		begun := time.Now()
		for i, c := range conns {
			select {
			case <-done:
			case <-time.After(time.Until(begun.Add(nudges[i]))):
			}
			_ = c.Close() // nothing was sent on it
		}
	})
	err := promote()
	close(done)
	wg.Wait()
	return err
}

// idle opens up to n connections to the replication port of the instance whose
// Bolt is at addr.
func idle(ctx context.Context, addr string, n int) []net.Conn {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, nudgeDial)
	defer cancel()
	var conns []net.Conn
	for range n {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(ReplicationPort)))
		if err != nil {
			break // it does not listen, as one that is MAIN already
		}
		conns = append(conns, c)
	}
	return conns
}
