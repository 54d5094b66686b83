package memgraph_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

// In a storm the queue for a login is longer than anybody's patience.
const (
	stormSize, stormLogin = 8, 250 * time.Millisecond
	impatience            = 500 * time.Millisecond
	// throughStorm is twice what the queue takes, and the login itself.
	throughStorm = 2 * (stormSize + 1) * stormLogin
)

// storm has clients log in at s over and over, until the test ends.
func storm(t *testing.T, s *memgraphtest.Server, auth bolt.Auth) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	t.Cleanup(func() { cancel(); clients.Wait() })
	for range stormSize {
		clients.Go(func() {
			for ctx.Err() == nil {
				conn, err := net.Dial("tcp", s.Addr())
				if err != nil {
					return
				}
				stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
				_, _ = bolt.Open(conn, auth, "storm/1") // it comes again
				stop()
				_ = conn.Close()
			}
		})
	}
	require.Eventually(t, func() bool { return s.Counts().Logins >= 1 }, 5*time.Second, 10*time.Millisecond)
}

// Who gives a login up and begins another is at the end of the queue each time.
func TestNoLoginIsGivenUpInAStorm(t *testing.T) {
	auth := bolt.Auth{User: "someone", Password: "secret"}
	for name, ask := range map[string]func(context.Context, string) error{
		"client": func() func(context.Context, string) error {
			c := newClient(t, auth)
			return func(ctx context.Context, addr string) error {
				_, err := c.Replicas(ctx, addr)
				return err
			}
		}(),
		"prober": func() func(context.Context, string) error {
			p := memgraph.NewProber(auth, nil)
			t.Cleanup(p.Close)
			return func(ctx context.Context, addr string) error {
				_, err := p.Identify(ctx, addr)
				return err
			}
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, hosts[0], func(c *memgraphtest.Config) {
				c.User, c.Password, c.LoginTime, c.Workers = auth.User, auth.Password, stormLogin, 4*stormSize
			})
			storm(t, s, auth)
			begun := time.Now()
			for {
				ctx, cancel := context.WithTimeout(t.Context(), impatience)
				err := ask(ctx, s.Addr())
				cancel()
				if err == nil {
					break
				}
				assert.ErrorIs(t, err, memgraph.ErrUnreachable)
				require.Less(t, time.Since(begun), throughStorm)
			}
			t.Logf("answered after %v", time.Since(begun))
		})
	}
}
