package memgraphtest

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

// T is what RunT needs of a *testing.T.
type T interface {
	Cleanup(func())
	Context() context.Context
	Fatalf(format string, args ...any)
	TempDir() string
}

// RunT starts a Server for the length of a test, on a port that it keeps over
// restarts. Options change its configuration.
func RunT(t T, options ...func(*Config)) *Server {
	cfg := Config{DataDirectory: t.TempDir(), Host: "127.0.0.1"}
	for _, option := range options {
		option(&cfg)
	}
	if cfg.BoltPort == 0 {
		cfg.BoltPort = FreePort(t, cfg.Host)
	}
	s, err := New(cfg)
	if err == nil {
		err = s.Start(t.Context())
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		s.Crash()
		_ = s.occupy(nil) // closing cannot fail
	})
	return s
}

// Ports that Linux does not give to outgoing connections, one of which might
// otherwise be in the way when a server comes back.
const firstFreePort, lastFreePort = 15000, 32000

// given are the ports that FreePort has returned.
var given sync.Map

// FreePort is a port on host that nobody listens on at the moment, for a
// replica of RunT to listen on. It returns none twice.
func FreePort(t T, host string) int {
	for range 100 {
		port := firstFreePort + rand.IntN(lastFreePort-firstFreePort)
		if _, taken := given.LoadOrStore(port, nil); taken {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
		if err == nil {
			_ = l.Close() // it listened a moment ago
			return port
		}
	}
	t.Fatalf("no free port on %s", host)
	return 0
}
