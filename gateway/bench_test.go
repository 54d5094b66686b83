package gateway

import (
	"cmp"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// echoOpening is what the process echoes from then on.
var echoOpening = []byte("\x16\x03\x01\x00")

// startPlainProxy is the least that a proxy can be, to compare with.
func startPlainProxy(b *testing.B, to string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			backend, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			for _, way := range [][2]net.Conn{{client, backend}, {backend, client}} {
				running.Go(func() {
					_, _ = io.Copy(way[0], way[1])
					_ = way[0].Close()
				})
			}
		}
	})
	b.Cleanup(func() { _ = l.Close(); running.Wait() })
	return l.Addr().String()
}

// paths are echoing connections: straight to MAIN, through a plain proxy, and
// through the gateway.
func paths(b *testing.B) [3]net.Conn {
	p := startProcess(b, "main", "x")
	g := startGateway(b, nil)
	g.Serve("memgraph-0", p.addr, "x", 1)
	var conns [3]net.Conn
	for i, addr := range []string{p.addr, startPlainProxy(b, p.addr), g.Addr().String()} {
		c, err := net.Dial("tcp", addr)
		require.NoError(b, err)
		b.Cleanup(func() { _ = c.Close() })
		require.NoError(b, exchange(c, echoOpening, make([]byte, len(echoOpening))))
		conns[i] = c
	}
	return conns
}

// exchange writes out and reads as much as in holds, at the same time unless
// out fits into a socket's buffers.
func exchange(c net.Conn, out, in []byte) error {
	write := func() error {
		_, err := c.Write(out)
		return err
	}
	var group errgroup.Group
	if len(out) > 1<<10 {
		group.Go(write)
	} else if err := write(); err != nil {
		return err
	}
	_, err := io.ReadFull(c, in)
	return cmp.Or(err, group.Wait())
}

// BenchmarkRelay times the three paths in turns and reports the gateway's time
// as a multiple of the others': read the ratios, not the times.
func BenchmarkRelay(b *testing.B) {
	for _, c := range []struct {
		name        string
		size, turns int
	}{
		{"ping-pong of 64 bytes", 64, 100},
		{"16 MiB there and back", 16 << 20, 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			conns := paths(b)
			out, in := make([]byte, c.size), make([]byte, c.size)
			var took [3]time.Duration
			for b.Loop() {
				for i, conn := range conns {
					began := time.Now()
					for range c.turns {
						require.NoError(b, exchange(conn, out, in))
					}
					took[i] += time.Since(began)
				}
			}
			direct, plain, gateway := took[0].Seconds(), took[1].Seconds(), took[2].Seconds()
			b.ReportMetric(gateway/direct, "x-direct")
			b.ReportMetric(gateway/plain, "x-plain-proxy")
		})
	}
}
