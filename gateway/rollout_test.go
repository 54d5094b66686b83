package gateway

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// service forwards new connections to one of several gateways, as a Service does.
type service struct {
	addr string
	to   atomic.Pointer[Gateway]
}

func startService(t testing.TB) *service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &service{addr: l.Addr().String()}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { forward(client, s.to.Load().Addr().String()) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return s
}

func forward(client net.Conn, addr string) {
	defer client.Close()
	backend, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(client, backend)
		_ = client.Close()
	})
	_, _ = io.Copy(backend, client)
	_ = backend.Close()
	back.Wait()
}

// Two gateways behind one address, as behind a Service: one after the other is
// stopped and replaced under load. Nobody who can connect anew between two units
// sees anything of it.
func TestARolloutUnderLoad(t *testing.T) {
	p := startPair(t, nil)
	service := startService(t)
	g, stop := startReplica(t, p)
	service.to.Store(g)
	l := startLoad(t, "bolt://"+service.addr, neo4j.NoAuth(), "managed", 8)
	for range 3 {
		l.await(40)
		next, stopNext := startReplica(t, p)
		service.to.Store(next)
		stop()
		stop = stopNext
	}
	l.await(40)
	l.verdict(t.Name(), p.written)
	stop()
}

// startReplica is another gateway, which is stopped by its end.
func startReplica(t testing.TB, p *pair) (*Gateway, func()) {
	g, err := New(Config{Listen: "127.0.0.1:0", Timeouts: Timeouts{DrainTimeout: time.Second}})
	require.NoError(t, err)
	g.Serve("memgraph", p.nodes[p.main].Addr(), "", p.generation)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	return g, func() {
		cancel()
		assert.NoError(t, <-done)
	}
}
