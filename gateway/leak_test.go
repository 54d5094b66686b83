package gateway

import (
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// openFiles is the number of file descriptors that the test process holds.
func openFiles(t testing.TB) int {
	t.Helper()
	runtime.GC() // net keeps the pipes of ended relays in a pool that lives
	runtime.GC() // for two collections
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("needs /proc/self/fd")
	}
	return len(files)
}

// Two thousand sessions in groups, half of them relays and half of them moved to
// the next generation by a switch, or all closed by their clients: invariant 7,
// long before Run returns.
func TestSessionsLeaveNothingBehind(t *testing.T) {
	const groups, size = 10, 100
	p := startProcess(t, "main", "x")
	g, count := startCounted(t, nil)
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitForState(t, g, Serving)
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	var cuts []time.Duration
	for n := range groups {
		clients, relays := make([]*client, size), make([]*net.TCPConn, size)
		var logins sync.WaitGroup
		for i := range clients {
			clients[i], relays[i] = &client{conn: dialGateway(t, g)}, relayed(t, g)
			logins.Go(func() { assert.NoError(t, clients[i].open()) })
		}
		logins.Wait()
		waitFor(t, "all to be connected", func() bool { return g.Status().Relaying == 2*size })
		if n%2 == 0 {
			began := time.Now()
			generation := g.Status().Generation + 1
			g.Serve("nobody", nowhere, "", generation)
			for _, c := range relays {
				assertCut(t, c)
			}
			cuts = append(cuts, time.Since(began))
			g.Serve("memgraph-0", p.addr, "x", generation+1)
			for _, c := range clients {
				_, err := c.who()
				require.NoError(t, err)
			}
		}
		for i, c := range clients {
			require.NoError(t, c.conn.Close())
			require.NoError(t, relays[i].Close())
		}
		waitFor(t, "the sessions to end", func() bool { return g.Status().Sessions == 0 })
	}
	report(t, "Serve to the last of 100 resets", cuts, 200*time.Millisecond)
	waitFor(t, "goroutines to end", func() bool {
		return runtime.NumGoroutine() <= goroutines+1 // the link's vigil, which comes and goes
	})
	waitFor(t, "connections to be closed by MAIN", func() bool { return p.open() == 1 })
	waitFor(t, "files to be closed", func() bool { return openFiles(t) <= files })
	values := count()
	assert.EqualValues(t, groups/2*size, values["cut_total replaced"])
	assert.EqualValues(t, (groups/2+groups)*size, values["closed_total finished"])
}
