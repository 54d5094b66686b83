package memgraphtest

import (
	"context"
	"net"
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
	cfg := Config{DataDirectory: t.TempDir()}
	for _, option := range options {
		option(&cfg)
	}
	s, err := New(cfg)
	if err == nil {
		err = s.Start(t.Context())
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(s.Crash)
	return s
}

// FreePort is a port on host that nobody listens on at the moment, for a
// replica of RunT to listen on.
func FreePort(t T, host string) int {
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatalf("%v", err)
	}
	return l.Addr().(*net.TCPAddr).Port
}
