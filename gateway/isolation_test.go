package gateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

func TestWhatIsInView(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	for _, c := range []struct {
		name           string
		heard, assured int // s; -1: never
		now            int
		want           view
	}{
		{"nobody ever says", -1, -1, 1000, viewFresh},
		{"heard just now", 100, -1, 100, viewFresh},
		{"heard lately", 100, -1, 115, viewFresh},
		{"not heard any more", 100, -1, 116, viewStale},
		{"the grace is over", 100, -1, 120, viewIsolated},
		{"MAIN showed itself", 100, 117, 120, viewStale},
		{"and does so for ever", 100, 10_000, 10_001, viewStale},
		{"and does not any more", 100, 117, 122, viewIsolated},
		{"an assurance from before does not shorten the grace", 100, 101, 119, viewStale},
		{"heard again", 200, 117, 201, viewFresh},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := outlook{staleAfter: 15 * time.Second, grace: 4 * time.Second}
			if c.heard >= 0 {
				o.hear(at(c.heard))
				o.hear(at(c.heard - 50)) // word that was long under way
			}
			if c.assured >= 0 {
				o.assure(at(c.assured))
			}
			assert.Equal(t, c.want, o.at(at(c.now)))
		})
	}
}

func TestWhoMayHaveBeenReplaced(t *testing.T) {
	row := func(mode, status string) []any {
		info := map[string]any{}
		if status != "" {
			info["memgraph"] = map[string]any{"behind": int64(0), "status": status, "ts": int64(7)}
		}
		return []any{"r", "10.0.0.2:10000", mode, nil, info}
	}
	for name, c := range map[string]struct {
		rows [][]any
		want bool
	}{
		"there is no replica":                           {nil, false},
		"a synchronous one is ready":                    {[][]any{row("sync", "ready")}, false},
		"a strictly synchronous one is":                 {[][]any{row("strict_sync", "ready")}, false},
		"a commit waits for it":                         {[][]any{row("sync", "replicating")}, false},
		"it does not answer":                            {[][]any{row("sync", "invalid")}, true},
		"it recovers":                                   {[][]any{row("sync", "recovery")}, true},
		"its registration failed":                       {[][]any{row("sync", "")}, true},
		"there are asynchronous ones only":              {[][]any{row("async", "ready"), row("async", "invalid")}, false},
		"only an asynchronous one is ready":             {[][]any{row("async", "ready"), row("sync", "invalid")}, true},
		"the synchronous one is, an asynchronous not":   {[][]any{row("async", "invalid"), row("sync", "ready")}, false},
		"one of two synchronous ones, as it may happen": {[][]any{row("sync", "invalid"), row("sync", "ready")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			fields := []string{"name", "socket_address", "sync_mode", "system_info", "data_info"}
			assert.Equal(t, c.want, replaceable(bolt.Result{Fields: fields, Rows: c.rows}))
		})
	}
	assert.True(t, replaceable(bolt.Result{Fields: []string{"something", "else"}, Rows: [][]any{{1, 2}}}), "an answer that is not known")
}

// startOutOfSight is a pair whose gateway has heard of the record for the last time.
func startOutOfSight(t *testing.T, on Isolation) *pair {
	p := startPair(t, func(c *Config) {
		c.VerifyInterval, c.StaleAfter, c.IsolationGrace = 10*time.Millisecond, 100*time.Millisecond, time.Second
		c.OnIsolation = on
	})
	p.g.Fresh(time.Now())
	waitFor(t, "the record to be stale", func() bool { return p.g.Status().Stale })
	return p
}

// MAIN shows for longer than the grace that nobody has replaced it.
func servesOn(t *testing.T, p *pair) {
	t.Helper()
	c, err := signIn(t, p.g)
	require.NoError(t, err)
	for deadline := time.Now().Add(1500 * time.Millisecond); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		_, err := c.Run("CREATE (:W)")
		require.NoError(t, err)
		require.Equal(t, Serving, p.g.Status().State)
	}
}

func TestAGatewayOutOfSightServesOn(t *testing.T) {
	t.Run("while the partner is ready", func(t *testing.T) { servesOn(t, startOutOfSight(t, IsolationHold)) })
	t.Run("while there is none", func(t *testing.T) {
		p := startOutOfSight(t, IsolationHold)
		p.ask(p.main, "DROP REPLICA n1")
		servesOn(t, p)
	})
	t.Run("if it is told to", func(t *testing.T) {
		p := startOutOfSight(t, IsolationServe)
		p.nodes[1-p.main].Crash()
		waitFor(t, "isolation", func() bool { return p.g.verifier.outlook.at(time.Now()) == viewIsolated })
		assert.Equal(t, Serving, p.g.Status().State)
	})
}

// The partner may be MAIN elsewhere by now: nobody writes here until the record is
// heard of again, and then at once.
func TestAnIsolatedGatewayHoldsItsClients(t *testing.T) {
	p := startOutOfSight(t, IsolationHold)
	c, err := signIn(t, p.g)
	require.NoError(t, err)
	p.nodes[1-p.main].Crash()
	waitForState(t, p.g, Holding)
	assert.Equal(t, errIsolated.Error(), p.g.Status().Trouble)
	written := make(chan error, 1)
	go func() {
		_, err := c.Run("CREATE (:W {key: 'late'})")
		written <- err
	}()
	waitFor(t, "a unit to be parked", func() bool { return p.g.Status().Waiting == 1 })
	p.g.Serve("memgraph-0", p.nodes[p.main].Addr(), p.nodes[p.main].State().RunID, p.generation)
	assert.Equal(t, Holding, p.g.Status().State, "a statement that is repeated is no news of the record")
	assert.Empty(t, p.written(), "invariant 9")
	_, err = p.g.Quiet(t.Context())
	assert.ErrorIs(t, err, ErrNotHeld, "this hold may end without another Serve")

	p.ask(p.main, "DROP REPLICA n1")
	began := time.Now()
	p.g.Fresh(began)
	require.NoError(t, <-written)
	t.Logf("Fresh to a parked write's answer: %v", time.Since(began))
	assert.Equal(t, map[string]int{"late": 1}, p.written())
	assert.Equal(t, Serving, p.g.Status().State)
}
