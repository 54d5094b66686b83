package gateway

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// loss is what Lost was told.
type loss struct {
	addr       string
	generation int64
}

func startReporting(t testing.TB, edit func(*Config)) (*Gateway, chan loss) {
	t.Helper()
	losses := make(chan loss, 16)
	g := startGateway(t, func(c *Config) {
		c.Lost = func(addr string, generation int64) { losses <- loss{addr, generation} }
		if edit != nil {
			edit(c)
		}
	})
	return g, losses
}

func TestALostMainIsReportedAtOnceAndOnce(t *testing.T) {
	var took []time.Duration
	p := startProcess(t, "main", "x")
	g, losses := startReporting(t, func(c *Config) { c.VerifyInterval = time.Hour })
	g.Serve("memgraph-0", p.addr, "x", 7)
	for range 20 {
		waitForState(t, g, Serving)
		began := time.Now()
		p.kill()
		got := <-losses
		took = append(took, time.Since(began))
		require.Equal(t, loss{p.addr, 7}, got)
		waitForState(t, g, Verifying)
		p.listen(t, p.addr)
	}
	report(t, "kill to Lost", took, 50*time.Millisecond)
	assert.Empty(t, losses)
}

func TestARestartedMainIsNotTheOneThatWasNamed(t *testing.T) {
	for name, c := range map[string]struct {
		named string
		want  State
	}{
		"named":                   {"x", Verifying},
		"whichever process it is": {"", Serving},
	} {
		t.Run(name, func(t *testing.T) {
			p := startProcess(t, "main", "x")
			g, losses := startReporting(t, nil)
			g.Serve("memgraph-0", p.addr, c.named, 1)
			waitForState(t, g, Serving)
			p.kill()
			<-losses
			p.set(func(p *process) { p.runID = "y" })
			p.listen(t, p.addr)
			if c.want == Serving {
				waitForState(t, g, Serving)
				assert.Equal(t, "y", g.Status().RunID)
				return
			}
			waitFor(t, "the stranger to be seen", func() bool { return g.Status().Trouble == errOther.Error() })
			g.Serve("memgraph-0", p.addr, "y", 2)
			waitForState(t, g, Serving)
		})
	}
}

// A MAIN that was demoted and promoted again is MAIN of a later generation, if all is
// well: a gateway that has not been told of that yet must not let clients through, who
// would be held there.
func TestAMainThatWasAReplicaIsNoneBeforeTheRecordSaysSo(t *testing.T) {
	p := startProcess(t, "main", "x")
	g := startGateway(t, func(c *Config) { c.VerifyInterval = 10 * time.Millisecond })
	g.Fresh(time.Now())
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitForState(t, g, Serving)
	p.set(func(p *process) { p.role = "replica" })
	waitFor(t, "its demotion to be seen", func() bool { return g.Status().Trouble == errNotMain.Error() })
	p.set(func(p *process) { p.role = "main" })
	waitFor(t, "its promotion to be seen", func() bool { return g.Status().Trouble == errDeposed.Error() })
	assert.Equal(t, Verifying, g.Status().State)
	g.Fresh(time.Now())
	waitForState(t, g, Serving)
}

// The word that lets clients through is not followed by another question at once.
func TestAMainIsDeposedAsSoonAsClientsPass(t *testing.T) {
	for name, c := range map[string]struct {
		served bool
		want   error
	}{
		"clients were let through": {true, errDeposed},
		"clients are held still":   {false, nil}, // it is demoted to begin a new epoch
	} {
		t.Run(name, func(t *testing.T) {
			g, err := New(Config{Listen: "127.0.0.1:0"})
			require.NoError(t, err)
			defer g.listener.Close()
			g.Fresh(time.Now())
			says := func(role string) error {
				return g.verifier.judge(g.gate.current(), answer{role, "x", time.Now()})
			}
			g.Expect("memgraph-0", nowhere, "x", 1)
			require.NoError(t, says("main"))
			if c.served {
				g.Serve("memgraph-0", nowhere, "x", 1)
			}
			require.Equal(t, errNotMain, says("replica"))
			assert.Equal(t, c.want, says("main"))
		})
	}
}

// A gateway that was stopped finds answers from before: its MAIN may have been replaced
// since.
func TestAnOldAnswerSaysNothing(t *testing.T) {
	for name, c := range map[string]struct {
		role string
		age  time.Duration
		want error
	}{
		"main, now":         {"main", 0, nil},
		"main, in a storm":  {"main", time.Second, nil},
		"main, long ago":    {"main", giveUpAfter + time.Millisecond, errOld},
		"replica, now":      {"replica", 0, errNotMain},
		"replica, long ago": {"replica", giveUpAfter + time.Millisecond, errOld},
	} {
		t.Run(name, func(t *testing.T) {
			g, err := New(Config{Listen: "127.0.0.1:0"})
			require.NoError(t, err)
			defer g.listener.Close()
			g.Serve("memgraph-0", nowhere, "x", 1)
			got := g.verifier.judge(g.gate.current(), answer{c.role, "x", time.Now().Add(-c.age)})
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.want == nil, g.Status().State == Serving)
		})
	}
}

// A process that accepts and says nothing, as one that is stopped or behind a
// black hole, is never opened to, and holds up nobody.
func TestASilentTarget(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, silent.Close()) }()
	p := startProcess(t, "main", "x")
	g, losses := startReporting(t, nil)
	g.Serve("memgraph-0", silent.Addr().String(), "x", 1)
	parked := loginLater(t, g)
	waitFor(t, "a parked session", func() bool { return g.Status().Waiting == 1 })
	waitFor(t, "trouble", func() bool { return g.Status().Trouble != "" })
	assert.Equal(t, Verifying, g.Status().State)

	began := time.Now()
	g.Serve("memgraph-1", p.addr, "x", 2)
	parked.wait(t)
	assert.Less(t, time.Since(began), 500*time.Millisecond)
	assert.Empty(t, losses, "it never was MAIN")
}

func TestASilentMainTakesNoNewClients(t *testing.T) {
	p := startProcess(t, "main", "x")
	g, losses := startReporting(t, func(c *Config) { c.VerifyInterval = 10 * time.Millisecond })
	g.Serve("memgraph-0", p.addr, "x", 1)
	c, err := signIn(t, g)
	require.NoError(t, err)
	answer := make(chan struct{})
	p.set(func(p *process) { p.held = answer })
	waitForState(t, g, Verifying)
	assert.Equal(t, errSilent.Error(), g.Status().Trouble)
	_, err = c.who()
	assert.NoError(t, err, "whoever is connected stays so")
	close(answer)
	waitForState(t, g, Serving)
	assert.EqualValues(t, 1, p.links.Load(), "it was slow, so the link is kept")
	assert.Empty(t, losses)
}

func TestAMainThatStaysSilentIsLost(t *testing.T) {
	p := startProcess(t, "main", "x")
	g, losses := startReporting(t, func(c *Config) { c.VerifyInterval = 10 * time.Millisecond })
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitForState(t, g, Serving)
	answer := make(chan struct{})
	defer close(answer)
	p.set(func(p *process) { p.held = answer })
	assert.Equal(t, loss{p.addr, 1}, <-losses)
}

// A listener that is gone while the link still works is no loss, but no MAIN for
// clients either.
func TestClientsAreParkedWhileConnectionsAreRefused(t *testing.T) {
	p := startProcess(t, "main", "x")
	g, losses := startReporting(t, func(c *Config) { c.VerifyInterval = time.Hour })
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitForState(t, g, Serving)
	require.NoError(t, p.listener.Close())
	c := loginLater(t, g)
	waitFor(t, "a parked session", func() bool { return g.Status().Waiting == 1 })
	assert.Equal(t, Verifying, g.Status().State)
	p.listen(t, p.addr)
	c.wait(t)
	assert.Empty(t, losses)
}

// A password that was changed is told, and the new one taken once it is known.
func TestARefusedLoginIsNotRepeatedInHaste(t *testing.T) {
	p := startProcess(t, "main", "x")
	p.password = "changed"
	var password atomic.Value
	password.Store("secret")
	g := startGateway(t, func(c *Config) {
		c.Login = func() bolt.Auth { return bolt.Auth{User: "gateway", Password: password.Load().(string)} }
	})
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitFor(t, "trouble", func() bool { return g.Status().Trouble != "" })
	assert.Contains(t, g.Status().Trouble, "Authentication failure")
	assert.EqualValues(t, 1, p.links.Load())
	password.Store("changed")
	waitForState(t, g, Serving)
	assert.EqualValues(t, 2, p.links.Load())
}

// A connection to the MAIN before fails late: that is no reason to log in anew.
func TestSuspicionOfAFormerMainIsNoMatter(t *testing.T) {
	p, next := startProcess(t, "main", "x"), startProcess(t, "main", "y")
	g := startGateway(t, func(c *Config) { c.VerifyInterval = time.Hour })
	g.Serve("memgraph-0", p.addr, "x", 1)
	waitForState(t, g, Serving)
	former := g.gate.main.Load()
	g.Serve("memgraph-1", next.addr, "y", 2)
	waitForState(t, g, Serving)
	g.verifier.suspect(former, errSilent)
	assert.Equal(t, Serving, g.Status().State)
	assert.Empty(t, g.verifier.suspected)
}
