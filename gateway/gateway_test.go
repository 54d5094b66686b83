package gateway

import (
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAParkedClientIsServedWhenMainIsNamed(t *testing.T) {
	p := startProcess(t, "main", "x")
	g := startGateway(t, nil)
	early := loginLater(t, g)
	waitFor(t, "a parked session", func() bool { return g.Status().Waiting == 1 })
	assert.Equal(t, Parked, g.Status().State)

	g.Serve("memgraph-0", p.addr, "x", 1)
	got, err := early.wait(t).who()
	require.NoError(t, err)
	assert.Equal(t, "x", got)

	s := g.Status()
	assert.WithinDuration(t, time.Now(), s.VerifiedAt, 5*time.Second)
	s.VerifiedAt, s.Since = time.Time{}, time.Time{}
	assert.Equal(t, Status{
		State: Serving, Generation: 1, Pod: "memgraph-0", Addr: p.addr, RunID: "x", Sessions: 1, Relaying: 1,
	}, s)
}

func TestNobodyIsConnectedToWhatIsNotTheMainThatWasNamed(t *testing.T) {
	for name, c := range map[string]struct{ role, runID, want string }{
		"a replica":                           {"replica", "x", "x"},
		"another process":                     {"main", "y", "x"},
		"a replica, whichever the process":    {"replica", "x", ""},
		"another process, which is no longer": {"replica", "y", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, c.role, c.runID)
			g := startGateway(t, func(c *Config) { c.HoldTimeout = 150 * time.Millisecond })
			g.Serve("memgraph-0", p.addr, c.want, 1)
			_, err := signIn(t, g)
			assert.ErrorContains(t, err, codeNoMain)
			assert.Equal(t, Verifying, g.Status().State)
			assert.Equal(t, 1, p.open(), "invariant 1: the control link is the only connection")
			assert.EqualValues(t, 1, p.links.Load(), "one login does for all the questions")
		})
	}
}

func TestAPromotionIsNoticed(t *testing.T) {
	p := startProcess(t, "replica", "x")
	g := startGateway(t, nil)
	g.Serve("memgraph-0", p.addr, "x", 1)
	parked := loginLater(t, g)
	waitFor(t, "trouble", func() bool { return g.Status().Trouble == errNotMain.Error() })
	p.set(func(p *process) { p.role = "main" })
	parked.wait(t)
}

func TestADemotionCutsRelays(t *testing.T) {
	p := startProcess(t, "main", "x")
	g := startGateway(t, func(c *Config) { c.VerifyInterval = 10 * time.Millisecond })
	g.Serve("memgraph-0", p.addr, "x", 1)
	c := relayed(t, g)
	p.set(func(p *process) { p.role = "replica" })
	assertCut(t, c)
	assert.Equal(t, Verifying, g.Status().State)
}

// assertCut waits for the end of c, which must be a reset.
func assertCut(t testing.TB, c net.Conn) {
	t.Helper()
	_, err := c.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestNamingTheProcessKeepsItsRelays(t *testing.T) {
	p := startProcess(t, "main", "x")
	g := startGateway(t, nil)
	g.Serve("memgraph-0", p.addr, "", 1)
	c := relayed(t, g)
	g.Serve("memgraph-0", p.addr, "x", 1)
	assert.Equal(t, Serving, g.Status().State)
	waitFor(t, "a link for the new target", func() bool { return p.links.Load() == 2 })
	assert.NoError(t, exchange(c, []byte("more"), make([]byte, 4)))
}

func TestASwitchCutsTheOldAndServesTheNew(t *testing.T) {
	processes := []*process{startProcess(t, "main", "0"), startProcess(t, "main", "1")}
	g := startGateway(t, nil)
	g.Serve("memgraph-0", processes[0].addr, "0", 1)
	relay := relayed(t, g)
	var redirects, cuts []time.Duration
	for n := range int64(50) {
		p, generation := processes[(n+1)%2], 2*n+2
		began := time.Now()
		g.Serve("nobody", nowhere, "", generation)
		assertCut(t, relay)
		cuts = append(cuts, time.Since(began))
		parked := loginLater(t, g)
		waitFor(t, "a parked session", func() bool { return g.Status().Waiting == 1 })

		began = time.Now()
		g.Serve("memgraph", p.addr, p.runID, generation+1)
		c := parked.wait(t)
		redirects = append(redirects, time.Since(began))
		got, err := c.who()
		require.NoError(t, err)
		require.Equal(t, p.runID, got)
		require.NoError(t, c.conn.Close())
		relay = relayed(t, g)
	}
	report(t, "Serve to reset of a relay", cuts, 50*time.Millisecond)
	report(t, "Serve to login of a parked client", redirects, 20*time.Millisecond)
}

// report prints the spread of what was measured, and holds its median to want;
// the higher ones are the machine's as much as ours.
func report(t *testing.T, what string, took []time.Duration, want time.Duration) {
	t.Helper()
	slices.Sort(took)
	n := len(took)
	t.Logf("%s: n %d, min %v, median %v, p99 %v, max %v", what, n, took[0], took[n/2], took[n*99/100], took[n-1])
	assert.LessOrEqual(t, took[n/2], want, what)
}

// Two sources tell of the same generations, each in its own disorder, while
// clients come and go: nobody is ever connected to an older generation than the
// highest that was announced before it came, and nobody stays on one.
func TestNoSessionStaysOnAnOlderGeneration(t *testing.T) {
	const generations, clients = 20, 4
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	processes := make(map[string]int64)
	var of []*process
	for n := range int64(generations) {
		p := startProcess(t, "main", time.Duration(n).String())
		of = append(of, p)
		processes[p.runID] = n + 1
	}
	g := startGateway(t, nil)

	var highest atomic.Int64
	var stop atomic.Bool
	var sources, visitors sync.WaitGroup
	for range clients {
		visitors.Go(func() {
			for !stop.Load() {
				least := highest.Load()
				c, err := signIn(t, g)
				if err != nil {
					continue // cut on its way
				}
				got, err := c.who()
				if err == nil {
					assert.GreaterOrEqual(t, processes[got], least, "invariants 1 and 2")
				}
				if c.conn.Close() != nil {
					return
				}
			}
		})
	}
	for source := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, source))
		sources.Go(func() { announce(g, of, r, &highest) })
	}
	sources.Wait()
	waitForState(t, g, Serving)
	stop.Store(true)
	visitors.Wait()
	assert.EqualValues(t, generations, g.Status().Generation)
	waitFor(t, "old sessions to end", func() bool { return g.Status().Sessions == 0 })
}

// announce tells g of every generation, nearly in order.
func announce(g *Gateway, of []*process, r *rand.Rand, highest *atomic.Int64) {
	var statements []target
	for i, p := range of {
		n := int64(i + 1)
		statements = append(statements, target{addr: p.addr, generation: n}, target{addr: p.addr, runID: p.runID, generation: n})
	}
	for i := range statements {
		if j := i + r.IntN(5); j < len(statements) {
			statements[i], statements[j] = statements[j], statements[i]
		}
	}
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for _, s := range statements {
		g.Serve("memgraph", s.addr, s.runID, s.generation)
		for old := highest.Load(); s.generation > old && !highest.CompareAndSwap(old, s.generation); {
			old = highest.Load()
		}
		for range r.IntN(3) {
			<-pace.C
		}
	}
}

// A session that was let through just before the switch, and comes to its bond
// after the sweep for it, sees that itself.
func TestALateSessionIsNotTiedToAReplacedMain(t *testing.T) {
	p := startProcess(t, "main", "x")
	g := startGateway(t, func(c *Config) { c.VerifyInterval = time.Hour })
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitForState(t, g, Serving)
	place := newTicket()
	require.True(t, g.gate.wait(place))
	main := <-place.admitted
	g.Serve("nobody", nowhere, "", 2)
	waitFor(t, "the link to be closed", func() bool { return p.open() == 0 })

	s := g.sessions.add(newSocket(dialGateway(t, g)))
	defer g.sessions.remove(s)
	assert.Equal(t, ending(""), g.attach(t.Context(), s, main), "it may be parked again")
	assert.Zero(t, s.toMain.Load(), "invariant 1")
	assert.Zero(t, g.gate.attaching)
}

// The old MAIN's host is gone: connections to it neither succeed nor fail. That
// must not delay those who could be connected to the new one: invariant 4.
func TestASwitchDoesNotWaitForConnectionsToAVanishedHost(t *testing.T) {
	p, next := startProcess(t, "main", "x"), startProcess(t, "main", "y")
	g := startGateway(t, func(c *Config) { c.DialTimeout, c.VerifyInterval = time.Minute, time.Hour })
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitForState(t, g, Serving)
	p.vanish(t)
	var clients []*loggingIn
	for range DefaultMaxAttaching + 4 {
		clients = append(clients, loginLater(t, g))
	}
	waitFor(t, "all places to be taken", func() bool { return g.sessions.in(stateAttaching) == DefaultMaxAttaching })
	began := time.Now()
	g.Serve("memgraph-1", next.addr, "y", 2)
	for _, c := range clients {
		c.wait(t)
	}
	assert.Less(t, time.Since(began), 5*time.Second)
}
