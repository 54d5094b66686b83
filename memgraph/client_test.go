package memgraph_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is two stand-ins on addresses of their own, since a replica's port is
// always memgraph.ReplicationPort.
type pair struct {
	client        *memgraph.Client
	main, replica *memgraphtest.Server
}

// hosts are loopback addresses that no other test binary of ours uses.
var hosts = []string{"127.99.1.1", "127.99.1.2"}

func server(t *testing.T, host string, options ...func(*memgraphtest.Config)) *memgraphtest.Server {
	t.Helper()
	options = append(options, func(c *memgraphtest.Config) { c.Host = host })
	return memgraphtest.RunT(t, options...)
}

func newClient(t *testing.T, auth bolt.Auth) *memgraph.Client {
	t.Helper()
	c := memgraph.NewClient(func() bolt.Auth { return auth }, nil)
	t.Cleanup(func() { assert.NoError(t, c.Close(context.WithoutCancel(t.Context()))) })
	return c
}

func newPair(t *testing.T, options ...func(*memgraphtest.Config)) pair {
	t.Helper()
	p := pair{client: newClient(t, bolt.Auth{}), main: server(t, hosts[0], options...), replica: server(t, hosts[1], options...)}
	require.NoError(t, p.client.Demote(within(t, time.Second), p.replica.Addr()))
	return p
}

func (p pair) registration(mode memgraph.SyncMode) memgraph.Registration {
	return memgraph.Registration{Name: "mg_1", Mode: mode, Address: fmt.Sprintf("%s:%d", hosts[1], memgraph.ReplicationPort)}
}

// within is a context for a step that must not take longer.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// write runs a statement as any application would.
func write(t *testing.T, addr, statement string) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	driver, err := neo4j.NewDriverWithContext("bolt://"+addr, neo4j.NoAuth())
	require.NoError(t, err)
	defer func() { assert.NoError(t, driver.Close(ctx)) }()
	session := driver.NewSession(ctx, neo4j.SessionConfig{})
	defer func() { assert.NoError(t, session.Close(ctx)) }()
	result, err := session.Run(ctx, statement, nil)
	require.NoError(t, err)
	_, err = result.Consume(ctx)
	require.NoError(t, err)
}

func TestRolesChangeAndWhatIsThereAlreadyCountsAsDone(t *testing.T) {
	for _, version := range []string{"3.7.2", "3.12.0"} {
		t.Run(version, func(t *testing.T) {
			s := server(t, hosts[0], func(c *memgraphtest.Config) { c.Version = version })
			c := newClient(t, bolt.Auth{})
			ctx := within(t, 5*time.Second)
			role := func() memgraph.Role {
				r, err := c.Role(ctx, s.Addr())
				require.NoError(t, err)
				return r
			}
			assert.Equal(t, memgraph.RoleMain, role())
			for range 2 {
				require.NoError(t, c.Demote(ctx, s.Addr()))
				assert.Equal(t, memgraph.RoleReplica, role(), "invariant 1: it would not have taken effect yet")
			}
			for range 2 {
				require.NoError(t, c.Promote(ctx, s.Addr()))
				assert.Equal(t, memgraph.RoleMain, role())
			}
			said := s.Counts().Statements
			assert.Equal(t, []int64{1, 1}, []int64{said["SET REPLICATION ROLE TO REPLICA"], said["SET REPLICATION ROLE TO MAIN"]}, "invariant 2")
			v, err := c.Version(ctx, s.Addr())
			require.NoError(t, err)
			assert.Equal(t, version, v.String())
		})
	}
}

// A demotion onto a port that is taken is answered with a failure, and has taken
// effect (observed on 3.12.0).
func TestAFailedChangeOfRoleMayHaveTakenEffect(t *testing.T) {
	s := server(t, hosts[0])
	c := newClient(t, bolt.Auth{})
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", hosts[0], memgraph.ReplicationPort))
	require.NoError(t, err)
	defer func() { assert.NoError(t, l.Close()) }()
	require.NoError(t, c.Demote(within(t, time.Second), s.Addr()), "invariant 2")
	role, err := c.Role(within(t, time.Second), s.Addr())
	require.NoError(t, err)
	assert.Equal(t, memgraph.RoleReplica, role)
}

// The connection to MAIN breaks after it has done what it was told.
func TestARegistrationWhoseAnswerIsLostMayHaveTakenEffect(t *testing.T) {
	p := newPair(t)
	lossy := loseAnswer(t, p.main.Addr(), "REGISTER")
	require.NoError(t, p.client.Register(within(t, 5*time.Second), lossy, p.registration(memgraph.Async)))
	assert.Equal(t, int64(1), p.main.Counts().Statements["REGISTER REPLICA"])
}

// loseAnswer is the address of a proxy to addr that closes a connection when the
// answer comes to what contains part.
func loseAnswer(t *testing.T, addr, part string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); wg.Wait() })
	context.AfterFunc(ctx, func() { _ = l.Close() })
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if !assert.NoError(t, err) {
				_ = client.Close()
				return
			}
			context.AfterFunc(ctx, func() { _ = client.Close() })
			var said atomic.Bool
			wg.Go(func() {
				relay(server, client, func(b []byte) bool {
					said.CompareAndSwap(false, bytes.Contains(b, []byte(part)))
					return true
				})
			})
			wg.Go(func() { relay(client, server, func([]byte) bool { return !said.Load() }) })
		}
	})
	return l.Addr().String()
}

// relay copies until pass refuses what is next, and closes both ends.
func relay(to, from net.Conn, pass func([]byte) bool) {
	defer func() { _ = to.Close(); _ = from.Close() }()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if err != nil || !pass(buf[:n]) {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func TestARegistrationShipsWhatIsCommitted(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 5*time.Second)
	write(t, p.main.Addr(), "CREATE (:N {k: 1})")
	for range 2 {
		require.NoError(t, p.client.Register(ctx, p.main.Addr(), p.registration(memgraph.Async)))
	}
	var got []memgraph.Replica
	for len(got) == 0 || !got[0].InStep() {
		var err error
		got, err = p.client.Replicas(ctx, p.main.Addr())
		require.NoError(t, err)
	}
	require.Len(t, got, 1)
	assert.Equal(t, memgraph.Async, got[0].Mode)
	assert.Equal(t, p.main.Dump(), p.replica.Dump())
	for _, s := range []*memgraphtest.Server{p.main, p.replica} {
		info, err := p.client.StorageInfo(ctx, s.Addr())
		require.NoError(t, err)
		assert.Equal(t, int64(1), info.Vertices)
		assert.NotEmpty(t, info.Database)
	}
	for range 2 {
		require.NoError(t, p.client.Drop(ctx, p.main.Addr(), "mg_1"))
	}
	got, err := p.client.Replicas(ctx, p.main.Addr())
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestErrorsAreTyped(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 10*time.Second)
	other := p.registration(memgraph.Sync)
	require.NoError(t, p.client.Register(ctx, p.main.Addr(), p.registration(memgraph.Async)))
	assert.ErrorIs(t, p.client.Register(ctx, p.main.Addr(), other), memgraph.ErrNameTaken, "in another mode")
	other.Name = "mg_2"
	assert.ErrorIs(t, p.client.Register(ctx, p.main.Addr(), other), memgraph.ErrAddressTaken)
	assert.ErrorIs(t, p.client.Register(ctx, p.replica.Addr(), other), memgraph.ErrNotMain)
	assert.ErrorIs(t, p.client.Drop(ctx, p.replica.Addr(), "mg_1"), memgraph.ErrNotMain)
	_, err := p.client.Replicas(ctx, p.replica.Addr())
	assert.ErrorIs(t, err, memgraph.ErrNotMain)
	assert.ErrorIs(t, p.client.SealEpoch(ctx, p.replica.Addr()), memgraph.ErrNotMain)

	other.Address = fmt.Sprintf("%s:1", hosts[1])
	assert.ErrorIs(t, p.client.Register(ctx, p.main.Addr(), other), memgraph.ErrNotAccepted)
	replicas, err := p.client.Replicas(ctx, p.main.Addr())
	require.NoError(t, err)
	require.Len(t, replicas, 2)
	assert.True(t, replicas[1].Ghost(), "what a failed registration leaves")
}

// A change of MAIN that is resumed seals again, and finds replicas that were
// registered after the first seal, and have gone since.
func TestASealDoesNotWaitForReplicas(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 5*time.Second)
	require.NoError(t, p.client.SealEpoch(ctx, p.main.Addr()))
	require.NoError(t, p.client.Register(ctx, p.main.Addr(), p.registration(memgraph.StrictSync)))
	p.replica.Crash()
	assert.NoError(t, p.client.SealEpoch(ctx, p.main.Addr()))
}

func TestAReplicaWithCommitsOfItsOwnHasDiverged(t *testing.T) {
	p := newPair(t)
	ctx := within(t, 10*time.Second)
	require.NoError(t, p.client.Register(ctx, p.main.Addr(), p.registration(memgraph.Sync)))
	write(t, p.main.Addr(), "CREATE (:Shared)")
	p.main.Crash()
	require.NoError(t, p.client.Promote(ctx, p.replica.Addr()))
	require.NoError(t, p.client.SealEpoch(ctx, p.replica.Addr()))
	require.NoError(t, p.main.Start(ctx))
	require.NoError(t, p.client.Drop(ctx, p.main.Addr(), "mg_1"))
	write(t, p.main.Addr(), "CREATE (:Unique)")
	require.NoError(t, p.client.Demote(ctx, p.main.Addr()))
	back := memgraph.Registration{Name: "mg_0", Mode: memgraph.Async, Address: fmt.Sprintf("%s:%d", hosts[0], memgraph.ReplicationPort)}
	assert.ErrorIs(t, p.client.Register(ctx, p.replica.Addr(), back), memgraph.ErrDiverged)
}

func TestWhatIsBusyIsAskedAgainUntilTheDeadline(t *testing.T) {
	p := newPair(t)
	require.NoError(t, p.client.Register(within(t, time.Second), p.main.Addr(), p.registration(memgraph.Sync)))
	require.NoError(t, p.replica.SetNetwork(memgraphtest.Blackhole))
	blocked := make(chan struct{})
	go func() { // its commit waits for the replica, and holds the lock
		defer close(blocked)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		driver, err := neo4j.NewDriverWithContext("bolt://"+p.main.Addr(), neo4j.NoAuth())
		if !assert.NoError(t, err) {
			return
		}
		defer func() { _ = driver.Close(ctx) }()
		_, _ = driver.NewSession(ctx, neo4j.SessionConfig{}).Run(ctx, "CREATE (:N)", nil)
	}()
	waitFor(t, func() bool {
		replicas, err := p.client.Replicas(within(t, time.Second), p.main.Addr())
		require.NoError(t, err)
		return replicas[0].Status == memgraph.StatusReplicating
	})
	require.ErrorIs(t, p.client.Demote(within(t, 50*time.Millisecond), p.main.Addr()), memgraph.ErrBusy)
	role, err := p.client.Role(within(t, time.Second), p.main.Addr())
	require.NoError(t, err, "the role is told while commits are blocked")
	assert.Equal(t, memgraph.RoleMain, role)

	require.NoError(t, p.replica.SetNetwork(memgraphtest.Open))
	require.NoError(t, p.client.Demote(within(t, 10*time.Second), p.main.Addr()), "asked until the lock was free")
	<-blocked
}

// waitFor polls until is holds.
func waitFor(t *testing.T, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); <-time.After(time.Millisecond) {
		require.True(t, time.Now().Before(end), "in vain")
	}
}

// Promotions in a row, their times printed: one that is not nudged waits for what is
// left of the poll. What a busy machine adds is told by the demotions in between, which
// wait for nothing, and the best of a few series counts: unaided, each would fail.
func TestAPromotionDoesNotWaitForThePoll(t *testing.T) {
	const limit, series = 15 * time.Millisecond, 10
	s := server(t, hosts[0])
	c := newClient(t, bolt.Auth{})
	timed := func(do func() error) time.Duration {
		begun := time.Now()
		require.NoError(t, do())
		return time.Since(begun)
	}
	turns := func(times int, promote func() error) (promoted, demoted []time.Duration) {
		for range times {
			demoted = append(demoted, timed(func() error { return c.Demote(within(t, time.Second), s.Addr()) }))
			waitFor(t, func() bool { return listens(t, hosts[0]) }) // as a replica has for long
			promoted = append(promoted, timed(promote))
		}
		slices.Sort(promoted)
		slices.Sort(demoted)
		return promoted, demoted
	}
	unaided, _ := turns(20, func() error { write(t, s.Addr(), "SET REPLICATION ROLE TO MAIN"); return nil })
	t.Logf("unaided: median %v, max %v", unaided[10], unaided[19])
	assert.Greater(t, unaided[10], memgraphtest.DefaultPromotionPoll/4, "the model of the poll is in force")
	best := time.Hour
	for n := 0; n < series && best > limit; n++ {
		nudged, demoted := turns(100, func() error { return c.Promote(within(t, time.Second), s.Addr()) })
		t.Logf("nudged: median %v, p99 %v, max %v; demoted: p99 %v; the unaided median is %.0f times the nudged one",
			nudged[50], nudged[98], nudged[99], demoted[98], float64(unaided[10])/float64(nudged[50]))
		best = min(best, nudged[98]-demoted[98])
		assert.Less(t, nudged[50], unaided[10]/3, "whatever else the machine does, it does to both")
	}
	assert.LessOrEqual(t, best, limit, "p99 above that of a demotion, in the best series")
}

func listens(t *testing.T, host string) bool {
	t.Helper()
	prober := memgraph.NewProber(nil, nil)
	return prober.Listens(within(t, time.Second), fmt.Sprintf("%s:%d", host, memgraph.ReplicationPort)) == nil
}

// woken is a context as it is right after a pause of the process: its deadline has
// passed, and no timer has noticed.
type woken struct{ context.Context }

func (woken) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

func TestNothingIsSentAfterAPause(t *testing.T) {
	s := server(t, hosts[0])
	c := newClient(t, bolt.Auth{})
	require.NoError(t, c.Demote(within(t, time.Second), s.Addr()))
	before := s.Counts().Statements
	late := woken{within(t, time.Minute)}
	for name, err := range map[string]error{
		"promote": c.Promote(late, s.Addr()), "demote": c.Demote(late, s.Addr()), "seal": c.SealEpoch(late, s.Addr()),
		"register": c.Register(late, s.Addr(), memgraph.Registration{Name: "r", Address: "127.0.0.1:1", Mode: memgraph.Async}),
		"drop":     c.Drop(late, s.Addr(), "r"),
	} {
		assert.ErrorIs(t, err, context.DeadlineExceeded, "invariant 3: %s", name)
	}
	assert.Equal(t, before, s.Counts().Statements)
}

func TestNothingOutlivesItsContext(t *testing.T) {
	s := server(t, hosts[0])
	c := newClient(t, bolt.Auth{})
	prober := memgraph.NewProber(nil, nil)
	t.Cleanup(prober.Close)
	_, err := c.Role(within(t, time.Second), s.Addr())
	require.NoError(t, err)
	_, err = prober.Identify(within(t, time.Second), s.Addr())
	require.NoError(t, err)
	require.NoError(t, s.SetNetwork(memgraphtest.Blackhole))
	for name, ask := range map[string]func(context.Context) error{
		"the client": func(ctx context.Context) error { _, err := c.Role(ctx, s.Addr()); return err },
		"the prober": func(ctx context.Context) error { _, err := prober.Identify(ctx, s.Addr()); return err },
		"a dial":     func(ctx context.Context) error { return prober.Listens(ctx, s.Addr()) },
	} {
		for range 2 { // on a warm connection, then on none
			begun := time.Now()
			err := ask(within(t, 100*time.Millisecond))
			require.ErrorIs(t, err, memgraph.ErrUnreachable, name)
			assert.NotErrorIs(t, err, memgraph.ErrRefused, name)
			assert.Less(t, time.Since(begun), time.Second, "%s: invariant 3", name)
		}
	}
}

func TestWhoAnswersIsToldAcrossRestarts(t *testing.T) {
	s := server(t, hosts[0])
	prober := memgraph.NewProber(nil, nil)
	t.Cleanup(prober.Close)
	first, err := prober.Identify(within(t, time.Second), s.Addr())
	require.NoError(t, err)
	assert.Equal(t, memgraph.RoleMain, first.Role)
	again, err := prober.Identify(within(t, time.Second), s.Addr())
	require.NoError(t, err)
	assert.Equal(t, first, again)
	assert.Equal(t, int64(1), s.Counts().Logins, "over one connection")

	s.Crash()
	_, err = prober.Identify(within(t, time.Second), s.Addr())
	require.ErrorIs(t, err, memgraph.ErrRefused)
	require.NoError(t, s.Start(within(t, 5*time.Second)))
	restarted, err := prober.Identify(within(t, time.Second), s.Addr())
	require.NoError(t, err)
	assert.NotEqual(t, first.RunID, restarted.RunID)
	require.NoError(t, s.Restart(within(t, 5*time.Second)))
	_, err = prober.Identify(within(t, time.Second), s.Addr())
	require.NoError(t, err, "a connection that broke meanwhile is replaced")
	prober.Forget(s.Addr())
	waitFor(t, func() bool { return s.Counts().Sessions == 0 })
}

func TestAStatementAfterARestartIsNotLost(t *testing.T) {
	s := server(t, hosts[0])
	c := newClient(t, bolt.Auth{})
	for range 3 {
		_, err := c.Role(within(t, time.Second), s.Addr())
		require.NoError(t, err)
		require.NoError(t, s.Restart(within(t, 5*time.Second)))
	}
	require.NoError(t, c.Forget(t.Context(), s.Addr()))
	_, err := c.Role(within(t, time.Second), s.Addr())
	require.NoError(t, err)
}

func TestCredentials(t *testing.T) {
	s := server(t, hosts[0], func(c *memgraphtest.Config) { c.User, c.Password = "admin", "secret" })
	for name, c := range map[string]struct {
		auth bolt.Auth
		kind error
	}{
		"right": {bolt.Auth{User: "admin", Password: "secret"}, nil},
		"wrong": {bolt.Auth{User: "admin", Password: "guess"}, memgraph.ErrUnauthenticated},
		"none":  {bolt.Auth{}, memgraph.ErrUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newClient(t, c.auth).Role(within(t, time.Second), s.Addr())
			assert.ErrorIs(t, err, c.kind)
			prober := memgraph.NewProber(func() bolt.Auth { return c.auth }, nil)
			defer prober.Close()
			_, err = prober.Identify(within(t, time.Second), s.Addr())
			assert.ErrorIs(t, err, c.kind)
			if err != nil {
				assert.NotContains(t, err.Error(), "guess", "a password is never shown")
			}
		})
	}
}

// A password that is changed is first refused, and then, once the files hold the new
// one, not any more; who is logged in goes on.
func TestRotatedCredentials(t *testing.T) {
	s := server(t, hosts[0], func(c *memgraphtest.Config) { c.User, c.Password = "admin", "old" })
	dir := t.TempDir()
	files := memgraph.Credentials{UserFile: filepath.Join(dir, "user"), PasswordFile: filepath.Join(dir, "password")}
	write := func(path, content string) { require.NoError(t, os.WriteFile(path, []byte(content), 0o600)) }
	write(files.UserFile, "admin")
	write(files.PasswordFile, "old")
	login, err := files.Login(bolt.Auth{})
	require.NoError(t, err)
	warm, cold := memgraph.NewProber(login, nil), memgraph.NewProber(login, nil)
	t.Cleanup(warm.Close)
	t.Cleanup(cold.Close)
	client := memgraph.NewClient(login, nil)
	t.Cleanup(func() { assert.NoError(t, client.Close(context.WithoutCancel(t.Context()))) })
	identify := func(p *memgraph.Prober) error {
		_, err := p.Identify(within(t, time.Second), s.Addr())
		return err
	}
	require.NoError(t, identify(warm))

	require.NoError(t, s.SetFaults(memgraphtest.Faults{Password: "new"}))
	assert.NoError(t, identify(warm), "it is logged in")
	for range 2 {
		assert.ErrorIs(t, identify(cold), memgraph.ErrUnauthenticated)
		_, err = client.Role(within(t, time.Second), s.Addr())
		assert.ErrorIs(t, err, memgraph.ErrUnauthenticated)
	}
	require.NoError(t, os.Remove(files.PasswordFile)) // as a Secret is while it is replaced
	assert.ErrorIs(t, identify(cold), memgraph.ErrUnauthenticated)
	write(files.PasswordFile, "new")
	assert.NoError(t, identify(cold))
	_, err = client.Role(within(t, time.Second), s.Addr())
	assert.NoError(t, err)
	assert.NoError(t, identify(warm))
}

func TestAClosedClientRefuses(t *testing.T) {
	c := memgraph.NewClient(nil, nil)
	require.NoError(t, c.Close(t.Context()))
	_, err := c.Role(t.Context(), "127.0.0.1:1")
	assert.ErrorContains(t, err, "closed")
}

// The same script against a real server, where there is one: its answers must
// be those that the stand-in gives.
func TestARealServerAnswersAsTheStandIn(t *testing.T) {
	addr := os.Getenv("MEMGRAPH_ADDR")
	if addr == "" {
		t.Skip("MEMGRAPH_ADDR is not set: host:port of a Memgraph that may be demoted and promoted")
	}
	c := newClient(t, bolt.Auth{})
	ctx := within(t, 30*time.Second)
	version, err := c.Version(ctx, addr)
	require.NoError(t, err)
	s := server(t, hosts[0], func(cfg *memgraphtest.Config) { cfg.Version = version.String() })
	assert.Equal(t, answers(ctx, c, s.Addr()), answers(ctx, c, addr))
}

// answers are what a server says to a script, with what differs by nature left
// out.
func answers(ctx context.Context, c *memgraph.Client, addr string) []string {
	var out []string
	note := func(what string, v any, err error) {
		text := fmt.Sprintf("%s: %v %v", what, v, err)
		host, _, _ := net.SplitHostPort(addr)
		out = append(out, strings.ReplaceAll(strings.ReplaceAll(text, addr, "ADDR"), host, "HOST"))
	}
	role := func() {
		r, err := c.Role(ctx, addr)
		note("role", r, err)
	}
	nowhere := memgraph.Registration{Name: "nowhere", Mode: memgraph.Async, Address: "127.0.0.1:1"}
	role()
	note("register", "", c.Register(ctx, addr, nowhere))
	replicas, err := c.Replicas(ctx, addr)
	note("replicas", replicas, err)
	note("drop", "", c.Drop(ctx, addr, "nowhere"))
	note("demote", "", c.Demote(ctx, addr))
	role()
	_, err = c.Replicas(ctx, addr)
	note("replicas", "", err)
	note("seal", "", c.SealEpoch(ctx, addr))
	note("promote", "", c.Promote(ctx, addr))
	role()
	return out
}
