package e2e

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"

	"memgraph-controller/memgraph/bolt"
)

// passTimeout is above the time for which the gateway holds a connection.
const passTimeout = 15 * time.Second

// Passage opens connections through the gateway at addr until one reaches the
// Memgraph process runID, and returns when that one answered.
func Passage(ctx context.Context, addr, runID string) (time.Time, error) {
	for {
		reached, err := through(ctx, addr)
		if err == nil && reached == runID {
			return time.Now(), nil
		}
		if waiting := Pause(ctx, time.Millisecond); waiting != nil {
			return time.Time{}, fmt.Errorf("reach %s through %s (reached %q, %w): %w", runID, addr, reached, err, waiting)
		}
	}
}

// Passages is Passage through the gateways of all writers at once, and in their
// order.
func Passages(ctx context.Context, writers []*Writer, runID string) ([]time.Time, error) {
	reached := make([]time.Time, len(writers))
	group, ctx := errgroup.WithContext(ctx)
	for i, w := range writers {
		group.Go(func() (err error) {
			reached[i], err = Passage(ctx, w.addr, runID)
			return err
		})
	}
	return reached, group.Wait()
}

// through is which process answers a fresh connection.
func through(ctx context.Context, addr string) (runID string, err error) {
	err = speak(ctx, addr, func(c *bolt.Client) error {
		result, err := c.Run("SHOW REPLICATION ROLE")
		runID = result.RunID()
		return err
	})
	return runID, err
}

// Say runs statements on the Memgraph at addr, one after the other on a connection
// of their own, past every gateway.
func Say(ctx context.Context, addr string, statements ...string) error {
	return speak(ctx, addr, func(c *bolt.Client) error {
		for _, s := range statements {
			if _, err := c.Run(s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
}

// speak has do talk over a connection of its own, for passTimeout at most.
func speak(ctx context.Context, addr string, do func(*bolt.Client) error) error {
	return speakFor(ctx, addr, passTimeout, do)
}

// speakFor is speak for at most limit.
func speakFor(ctx context.Context, addr string, limit time.Duration, do func(*bolt.Client) error) error {
	conn, err := (&net.Dialer{Timeout: passTimeout}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	client, err := bolt.Open(conn, bolt.Auth{}, "e2e")
	if err != nil {
		return err
	}
	return do(client)
}
