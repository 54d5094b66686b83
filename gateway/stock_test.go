package gateway

import (
	"sync"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

// Forty busy clients of a MAIN with users are served by the next one as soon as
// there is one, though it takes 8 s to log forty in.
func TestACrowdDoesNotQueueForTheLoginLock(t *testing.T) {
	const gap = 300 * time.Millisecond
	workers, login := 40, 200*time.Millisecond
	if slowed {
		workers, login = 8, 50*time.Millisecond
	}
	r := prometheus.NewPedanticRegistry()
	p := startPair(t, func(c *Config) { c.Registerer = r }, func(c *memgraphtest.Config) {
		c.User, c.Password, c.LoginTime = "someone", "secret", login
	})
	p.ask(1, roleQuery)
	p.g.Prepare(p.nodes[1].Addr())
	l := startLoad(t, "bolt://"+p.g.Addr().String(), neo4j.BasicAuth("someone", "secret", ""), "managed", workers)
	waitForLong(t, "connections to be ready", func() bool {
		legs, link := p.g.stock.size()
		return legs == workers && link
	})
	l.forget()
	assert.EqualValues(t, workers, counters(t, r)["ready_connections"])
	before := p.nodes[1].Counts().Logins
	p.failOver(gap)
	l.await(5 * int64(workers))
	assert.Equal(t, before, p.nodes[1].Counts().Logins, "nobody had to log in")
	logins := counters(t, r)
	assert.EqualValues(t, workers, logins["logins_total spared"])
	assert.GreaterOrEqual(t, logins["logins_total accepted"], float64(workers), "as everybody had to at first")
	assert.GreaterOrEqual(t, logins["login_wait_seconds"], logins["logins_total accepted"], "each had its turn")
	l.mayFail = true
	l.verdict(t.Name(), p.written)
	l.within(gap + 100*time.Millisecond)
	if !slowed {
		assert.LessOrEqual(t, l.took[len(l.took)-1], gap+100*time.Millisecond, "the worst")
	}
}

func waitForLong(t testing.TB, what string, fn func() bool) {
	t.Helper()
	for range 6 {
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(time.Millisecond) {
			if fn() {
				return
			}
		}
	}
	require.FailNow(t, "waited in vain", "for %s", what)
}

func TestEqualLoginsAreSharedAndForgotten(t *testing.T) {
	s := newStock(1)
	v := bolt.Version{Major: 5, Minor: 2}
	fresh := func(logon string) *login { return &login{hello: []byte("hello"), logon: []byte(logon)} }
	own := fresh("secret")
	bytes := own.logon
	first := s.share(v, own)
	assert.Equal(t, make([]byte, len(bytes)), bytes, "the copy is wiped")
	second, other := s.share(v, fresh("secret")), s.share(v, fresh("another"))
	assert.Same(t, first, second)
	assert.NotSame(t, first, other)
	kept := first.logon
	s.release(first)
	assert.Equal(t, "secret", string(kept), "somebody has it still")
	s.release(second)
	assert.Equal(t, make([]byte, len(kept)), kept)
	s.release(other)
	assert.Empty(t, s.credentials)
}

func TestWhatIsReadyIsUsedOnlyForTheProcessThatItIsConnectedTo(t *testing.T) {
	s := startSuccession(t, nil)
	s.next.set(func(p *process) { p.role = "replica" })
	s.g.Prepare(s.next.addr)
	ready := func() bool {
		legs, link := s.g.stock.size()
		return legs == 1 && link
	}
	require.Nil(t, s.c.fly(run("R")))
	waitFor(t, "a connection to be ready", ready)
	t.Run("it broke", func(t *testing.T) {
		s.next.resetAll()
		s.next.set(func(p *process) { p.role = roleMain })
		s.change()
		assert.Nil(t, s.c.fly(run("W a")))
	})
	t.Run("it is another process by now", func(t *testing.T) {
		s.g.Prepare(s.old.addr)
		waitFor(t, "a connection to be ready", ready)
		s.old.set(func(p *process) { p.runID = "newer" })
		s.g.Serve("memgraph-0", s.old.addr, "newer", 3)
		assert.Nil(t, s.c.fly(run("R")))
		legs, _ := s.g.stock.size()
		assert.Zero(t, legs, "what was ready is closed")
	})
	t.Run("the next one is named before anybody has moved", func(t *testing.T) {
		s.g.Prepare(s.next.addr)
		waitFor(t, "a connection to be ready", ready)
		s.g.Expect("memgraph-1", s.next.addr, "next", 4)
		s.g.Serve("memgraph-1", s.next.addr, "next", 4)
		s.g.Prepare("")
		legs, link := s.g.stock.size()
		assert.Equal(t, 1, legs, "it is left to its client")
		assert.False(t, link)
		assert.Nil(t, s.c.fly(run("R")))
		legs, _ = s.g.stock.size()
		assert.Zero(t, legs)
	})
	t.Run("nowhere", func(t *testing.T) {
		s.g.Prepare("")
		legs, link := s.g.stock.size()
		assert.Zero(t, legs)
		assert.False(t, link)
	})
}

// A process that is named may take a while to be MAIN. The verifier has taken the
// link by then, and another login would hold up the one who asks for the role.
func TestNothingIsPreparedAtAProcessThatIsNamed(t *testing.T) {
	next, g := startProcess(t, roleReplica, "next"), startGateway(t, nil)
	linked := func() bool { _, link := g.stock.size(); return link }
	g.Prepare(next.addr)
	waitFor(t, "the link", linked)
	g.Serve("memgraph-1", next.addr, "next", 1)
	waitFor(t, "the verifier to take it", func() bool { return !linked() })
	for g.stockOne(t.Context()) {
	}
	assert.EqualValues(t, 1, next.links.Load(), "links that have logged in")
}

// Clients that come for the first time do not all log in at once: the verifier's
// question waits for as many logins as are under way.
func TestLoginsAreLimited(t *testing.T) {
	s := startSuccession(t, func(c *Config) { c.MaxLogins = 2 })
	s.old.set(func(p *process) { p.logins = make(chan struct{}) })
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() { newModelClient(t, s.g) })
	}
	waitFor(t, "logins to be under way", func() bool { return s.old.loggingIn.Load() == 2 })
	for range 6 {
		s.old.logins <- struct{}{}
	}
	all.Wait()
	assert.EqualValues(t, 2, s.old.mostLogins.Load())
}
