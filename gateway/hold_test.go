package gateway

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

func (s *succession) expect() { s.g.Expect("memgraph-0", s.old.addr, "old", 1) }
func (s *succession) serve()  { s.g.Serve("memgraph-0", s.old.addr, "old", 1) }

// flyLater flies f, which has to wait.
func (s *succession) flyLater(t testing.TB, f flight) (failure <-chan *bolt.Failure) {
	t.Helper()
	landed := make(chan *bolt.Failure, 1)
	go func() { landed <- s.c.fly(f) }()
	waitFor(t, "a unit to be parked", func() bool { return s.g.Status().Waiting == 1 })
	return landed
}

func TestClientsAreHeldFromAMainThatIsOnlyExpected(t *testing.T) {
	p := startProcess(t, "main", "x")
	g := startGateway(t, func(c *Config) { c.VerifyInterval = time.Hour })
	g.Expect("memgraph-0", p.addr, "x", 1)
	newcomer := loginLater(t, g)
	waitForState(t, g, Holding)
	waitFor(t, "a parked session", func() bool { return g.Status().Waiting == 1 })
	assert.Equal(t, 1, p.open(), "it is verified, and nobody is connected to it")

	g.Serve("memgraph-0", p.addr, "x", 1)
	assert.Equal(t, Serving, g.Status().State, "no question is needed any more")
	got, err := newcomer.wait(t).who()
	require.NoError(t, err)
	assert.Equal(t, "x", got)
	assert.EqualValues(t, 1, p.links.Load())
}

func TestWhatAHoldHolds(t *testing.T) {
	pull := bolt.Pull{N: -1, QID: -1}
	for name, c := range map[string]struct {
		before []flight
		then   flight
		waits  bool
		passes int // requests before it that need not wait, if they come before it
	}{
		"a statement of its own":                  {nil, run("W a"), true, 0},
		"its PULL":                                {[]flight{{bolt.Run{Query: "W a"}}}, flight{pull}, true, 0},
		"the beginning of a transaction":          {nil, flight{begin}, true, 0},
		"the beginning of one in text":            {nil, run("BEGIN"), true, 0},
		"a statement in a transaction":            {[]flight{{begin}}, run("W a"), false, 0},
		"a COMMIT":                                {[]flight{append(flight{begin}, run("W a")...)}, flight{commit}, true, 0},
		"a COMMIT in text":                        {[]flight{run("BEGIN"), run("W a")}, run("COMMIT"), true, 1},
		"a statement and a COMMIT":                {[]flight{{begin}}, append(run("W a"), commit), true, 2},
		"a ROLLBACK":                              {[]flight{append(flight{begin}, run("W a")...)}, flight{rollback}, false, 0},
		"a RESET":                                 {[]flight{append(flight{begin}, run("W a")...)}, flight{bolt.Reset{}}, false, 0},
		"a RESET between units":                   {[]flight{run("R")}, flight{bolt.Reset{}}, false, 0},
		"a ROLLBACK and the next transaction":     {[]flight{append(flight{begin}, run("W a")...)}, flight{rollback, begin}, true, 1},
		"more rows of a statement of its own":     {[]flight{{bolt.Run{Query: "W a"}, bolt.Pull{N: 1, QID: -1}}}, flight{pull}, true, 0},
		"more rows of one that is in transaction": {[]flight{{begin}, {bolt.Run{Query: "W a"}, bolt.Pull{N: 1, QID: -1}}}, flight{pull}, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSuccession(t, nil)
			for _, f := range c.before {
				require.Nil(t, s.c.fly(f))
			}
			s.expect()
			if !c.waits {
				assert.Nil(t, s.c.fly(c.then))
				assert.Zero(t, s.old.world.committed("a"))
				return
			}
			heard := s.old.count()
			landed := s.flyLater(t, c.then)
			assert.Zero(t, s.old.world.committed("a"))
			assert.LessOrEqual(t, s.old.count(), heard+c.passes, "invariant 9: it was not sent")
			s.serve()
			assert.Nil(t, <-landed)
			assert.Equal(t, 1, s.old.open()-1, "it is the same connection")
		})
	}
}

func TestWordOfAHold(t *testing.T) {
	expect, serve := true, false
	type word struct {
		addr, runID string
		generation  int64
		held        bool
	}
	for name, c := range map[string]struct {
		words []word
		want  bool // clients are held
	}{
		"expected":                           {[]word{{"a", "x", 1, expect}}, true},
		"served":                             {[]word{{"a", "x", 1, serve}}, false},
		"expected, then served":              {[]word{{"a", "x", 1, expect}, {"a", "x", 1, serve}}, false},
		"served, then expected":              {[]word{{"a", "x", 1, serve}, {"a", "x", 1, expect}}, true},
		"served, before the process is":      {[]word{{"a", "x", 1, expect}, {"a", "", 1, serve}}, false},
		"expected, as the process is named":  {[]word{{"a", "", 1, serve}, {"a", "x", 1, expect}}, true},
		"another process is served":          {[]word{{"a", "x", 1, expect}, {"a", "y", 1, serve}}, true},
		"a lower generation is served":       {[]word{{"a", "x", 2, expect}, {"a", "x", 1, serve}}, true},
		"a lower generation is expected":     {[]word{{"a", "x", 2, serve}, {"a", "x", 1, expect}}, false},
		"the next generation is served":      {[]word{{"a", "x", 1, expect}, {"b", "y", 2, serve}}, false},
		"the next generation is expected":    {[]word{{"a", "x", 1, expect}, {"b", "y", 2, expect}}, true},
		"served in the one, expected in the": {[]word{{"a", "x", 1, serve}, {"a", "x", 2, expect}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(1, 1)
			for _, w := range c.words {
				g.order(&target{addr: w.addr, runID: w.runID, generation: w.generation}, w.held)
			}
			s := g.status()
			assert.Equal(t, c.want, !s.HeldSince.IsZero())
			g.confirm(g.current(), "x")
			assert.Equal(t, c.want, g.status().State == Holding)
			assert.Equal(t, !c.want, g.status().State == Serving)
		})
	}
}

// What waits is told after HoldTimeout; nothing of it takes effect.
func TestAHoldIsBounded(t *testing.T) {
	for name, c := range map[string]struct {
		before flight
		then   flight
		want   string
	}{
		"a statement of its own": {nil, run("W a"), codeNoMain},
		"a transaction":          {append(flight{begin}, run("W a")...), flight{commit}, codeMainChanged},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSuccession(t, func(c *Config) { c.HoldTimeout = 100 * time.Millisecond })
			if c.before != nil {
				require.Nil(t, s.c.fly(c.before))
			}
			s.expect()
			failure := s.c.fly(c.then)
			require.NotNil(t, failure)
			assert.Equal(t, c.want, failure.Code)
			assert.Nil(t, s.c.fly(flight{bolt.Reset{}}))
			s.serve()
			assert.Nil(t, s.c.fly(run("R")), "the session goes on to work")
			assert.Zero(t, s.old.world.committed("a"))
		})
	}
}

// The MAIN that clients are held from is lost: what waited goes to the next.
func TestAHeldUnitMovesOn(t *testing.T) {
	s := startSuccession(t, nil)
	require.Nil(t, s.c.fly(append(flight{begin}, run("W a")...)))
	s.expect()
	landed := s.flyLater(t, flight{commit})
	s.old.kill()
	s.g.Expect("memgraph-1", s.next.addr, "next", 2)
	waitForState(t, s.g, Holding)
	assert.Zero(t, s.next.count())
	s.g.Serve("memgraph-1", s.next.addr, "next", 2)
	assert.Nil(t, <-landed)
	assert.Equal(t, 1, s.next.world.committed("a"))
}

// What is no Bolt cannot be held: it may be in the midst of anything.
func TestARelayIsNotHeld(t *testing.T) {
	p := startProcess(t, "main", "x")
	g := startGateway(t, nil)
	g.Serve("memgraph-0", p.addr, "x", 1)
	c := relayed(t, g)
	g.Expect("memgraph-0", p.addr, "x", 1)
	assert.NoError(t, exchange(c, []byte("more"), make([]byte, 4)))
}

func TestTheEndOfAHoldIsQuick(t *testing.T) {
	s := startSuccession(t, nil)
	require.Nil(t, s.c.fly(run("R")))
	var took []time.Duration
	for range 200 {
		s.expect()
		landed := s.flyLater(t, run("R"))
		heard := s.old.count()
		began := time.Now()
		s.serve()
		for s.old.count() == heard && time.Since(began) < time.Second {
		}
		took = append(took, time.Since(began))
		require.Nil(t, <-landed)
	}
	report(t, "Serve to a parked request's arrival", took, 5*time.Millisecond)
}

// Quiet waits for commits under way, and for nothing else.
func TestQuiet(t *testing.T) {
	quiet := func(s *succession, within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		_, err := s.g.Quiet(ctx)
		return err
	}
	for name, c := range map[string]struct {
		before []flight
		then   flight
		inTime bool
	}{
		"nothing is under way":                 {nil, nil, true},
		"a statement of its own":               {nil, run("W a"), false},
		"a COMMIT":                             {[]flight{append(flight{begin}, run("W a")...)}, flight{commit}, false},
		"an open transaction":                  {[]flight{append(flight{begin}, run("W a")...)}, nil, true},
		"a statement in an open transaction":   {[]flight{{begin}}, run("W a"), true},
		"a statement that was not executed":    {[]flight{{bolt.Run{Query: "W a"}}}, nil, true},
		"a transaction that is being given up": {[]flight{append(flight{begin}, run("W a")...)}, flight{rollback}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSuccession(t, nil)
			assert.ErrorIs(t, quiet(s, time.Second), ErrNotHeld)
			for _, f := range c.before {
				require.Nil(t, s.c.fly(f))
			}
			under, goOn := make(chan struct{}), make(chan struct{})
			s.old.failing.Lock()
			s.old.at, s.old.stage = len(s.old.heard)+len(c.then)-1, heldBefore
			s.old.hold = func() { close(under); <-goOn }
			s.old.failing.Unlock()
			if c.then != nil {
				s.c.send(c.then...)
				<-under
			}
			s.expect()
			if !c.inTime {
				assert.ErrorIs(t, quiet(s, 50*time.Millisecond), context.DeadlineExceeded)
				assert.Zero(t, s.old.world.committed("a"))
				close(goOn)
			}
			assert.NoError(t, quiet(s, 5*time.Second))
			assert.Equal(t, !c.inTime, s.old.world.committed("a") == 1)
			if c.inTime {
				close(goOn)
			}
		})
	}
	t.Run("the hold ends", func(t *testing.T) {
		s := startSuccession(t, nil)
		under, goOn := make(chan struct{}), make(chan struct{})
		s.old.at, s.old.stage, s.old.hold = s.old.count()+1, heldBefore, func() { close(under); <-goOn }
		s.c.send(run("W a")...)
		<-under
		s.expect()
		ended := make(chan error, 1)
		go func() { ended <- quiet(s, 5*time.Second) }()
		s.serve()
		assert.ErrorIs(t, <-ended, ErrNotHeld)
		close(goOn)
	})
}
