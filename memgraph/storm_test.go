package memgraph_test

import (
	"context"
	"io"
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

// askers are those who put questions, each with what puts one.
func askers(t *testing.T, auth bolt.Auth) map[string]func(context.Context, string) error {
	t.Helper()
	c, p := newClient(t, auth), memgraph.NewProber(func() bolt.Auth { return auth }, nil)
	t.Cleanup(p.Close)
	return map[string]func(context.Context, string) error{
		"client": func(ctx context.Context, addr string) error {
			_, err := c.Role(ctx, addr)
			return err
		},
		"prober": func(ctx context.Context, addr string) error {
			_, err := p.Identify(ctx, addr)
			return err
		},
	}
}

// A late answer costs its caller the answer, and nobody a login.
func TestASessionOutlivesALateAnswer(t *testing.T) {
	for name, ask := range askers(t, bolt.Auth{}) {
		t.Run(name, func(t *testing.T) {
			s := server(t, hosts[0])
			require.NoError(t, ask(within(t, time.Second), s.Addr()))
			require.NoError(t, s.SetFaults(memgraphtest.Faults{Delay: impatience}))
			begun := time.Now()
			require.ErrorIs(t, ask(within(t, impatience/5), s.Addr()), memgraph.ErrUnreachable)
			assert.Less(t, time.Since(begun), impatience, "invariant 3")
			require.NoError(t, s.SetFaults(memgraphtest.Faults{}))
			for time.Since(begun) < 2*impatience {
				require.NoError(t, ask(within(t, 5*time.Second), s.Addr()))
			}
			counts := s.Counts()
			assert.Equal(t, counts.Logins, counts.Sessions, "none was ended")
			assert.LessOrEqual(t, counts.Logins, int64(2), "the late one's, and one meanwhile")
		})
	}
}

// When all sessions break at once, whoever waits for one has another.
func TestSessionsThatBreakMakeRoom(t *testing.T) {
	const most = 4
	s := server(t, hosts[0])
	c := newClient(t, bolt.Auth{})
	ask := func(limit time.Duration, until func() bool) *sync.WaitGroup {
		var asking sync.WaitGroup
		for range 2 * most {
			asking.Go(func() {
				for done := false; !done; done = until() {
					_, _ = c.Role(within(t, limit), s.Addr()) // whatever is answered, it is soon
				}
			})
		}
		return &asking
	}
	require.NoError(t, s.SetFaults(memgraphtest.Faults{Delay: 20 * time.Millisecond}))
	ask(5*time.Second, func() bool { return s.Counts().Sessions == most }).Wait()
	require.NoError(t, s.SetNetwork(memgraphtest.Hang))
	asking := ask(20*time.Second, func() bool { return true })
	begun := time.Now()
	s.Crash()
	asking.Wait()
	assert.Less(t, time.Since(begun), 5*time.Second)
}

// Who gives a login up and begins another is at the end of the queue each time.
func TestNoLoginIsGivenUpInAStorm(t *testing.T) {
	auth := bolt.Auth{User: "someone", Password: "secret"}
	for name, ask := range askers(t, auth) {
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

// A connection that nobody has answered on is no place in a queue.
func TestWhoIsNotGreetedComesAgain(t *testing.T) {
	for name, ask := range askers(t, bolt.Auth{}) {
		t.Run(name, func(t *testing.T) {
			addr := losingFirst(t, server(t, hosts[0]).Addr())
			begun := time.Now()
			for ask(within(t, impatience), addr) != nil {
				require.Less(t, time.Since(begun), 5*time.Second)
			}
		})
	}
}

// losingFirst is a way to the server at addr that has lost the first connection, as a
// network does that fails for a while: nothing is ever heard on it.
func losingFirst(t *testing.T, addr string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var carrying sync.WaitGroup
	t.Cleanup(func() { cancel(); _ = l.Close(); carrying.Wait() })
	carrying.Go(func() {
		for first := true; ; first = false {
			client, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { _ = client.Close() })
			if first {
				continue
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { _ = server.Close() })
			carrying.Go(func() { _, _ = io.Copy(server, client); _ = server.Close() })
			carrying.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
		}
	})
	return l.Addr().String()
}
