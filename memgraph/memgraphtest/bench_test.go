package memgraphtest

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"memgraph-controller/memgraph/bolt"
)

// BenchmarkCommits counts acknowledged single-node commits, by clients at once
// and by the replica's mode.
func BenchmarkCommits(b *testing.B) {
	for _, mode := range []string{"none", "ASYNC", "SYNC", "STRICT_SYNC"} {
		for _, clients := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/clients=%d", mode, clients), func(b *testing.B) { benchmarkCommits(b, mode, clients) })
		}
	}
}

func benchmarkCommits(b *testing.B, mode string, clients int) {
	start := func(name string) *Server {
		return RunT(b, func(c *Config) { c.DataDirectory = filepath.Join(b.TempDir(), name) })
	}
	main := start("main")
	if mode != "none" {
		port := FreePort(b, "127.0.0.1")
		ask(b, start("replica"), 1, fmt.Sprintf("SET REPLICATION ROLE TO REPLICA WITH PORT %d", port))
		ask(b, main, 1, fmt.Sprintf(`REGISTER REPLICA r %s TO "127.0.0.1:%d"`, mode, port))
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() { ask(b, main, (b.N+clients-1)/clients, "CREATE (:N {i: 1})") })
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// Tests start three instances each: that takes less than 0.1 s.
func TestStartsAtOnce(t *testing.T) {
	best := time.Hour
	for range 5 { // the machine may be busy
		began := time.Now()
		for range 3 {
			RunT(t)
		}
		best = min(best, time.Since(began))
	}
	assert.Less(t, best, 100*time.Millisecond)
}

// ask repeats a statement on a connection of its own.
func ask(b *testing.B, s *Server, times int, query string) {
	conn, err := s.network.dial(b.Context(), s.Addr())
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Close()
	c, err := bolt.Open(conn, bolt.Auth{}, "bench")
	for ; times > 0 && err == nil; times-- {
		_, err = c.Run(query)
	}
	if err != nil {
		b.Error(err)
	}
}
