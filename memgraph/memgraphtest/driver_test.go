package memgraphtest

import (
	"context"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// client is a session of the real driver.
type boltClient struct {
	t       *testing.T
	driver  neo4j.DriverWithContext
	session neo4j.SessionWithContext
}

func connect(t *testing.T, s *Server) *boltClient {
	t.Helper()
	driver, err := neo4j.NewDriverWithContext("bolt://"+s.Addr(), neo4j.NoAuth(), func(c *config.Config) {
		c.MaxTransactionRetryTime = 0
		c.ConnectionLivenessCheckTimeout = 0 // servers restart
	})
	require.NoError(t, err)
	c := &boltClient{t: t, driver: driver, session: driver.NewSession(t.Context(), neo4j.SessionConfig{})}
	t.Cleanup(func() { // the test's context has ended
		_ = c.session.Close(context.Background())
		_ = c.driver.Close(context.Background())
	})
	return c
}

// run sends one statement in auto-commit and takes all its rows.
func (c *boltClient) run(query string, params ...map[string]any) ([][]any, error) {
	var p map[string]any
	if len(params) > 0 {
		p = params[0]
	}
	result, err := c.session.Run(c.t.Context(), query, p)
	if err != nil {
		return nil, err
	}
	records, err := result.Collect(c.t.Context())
	if err != nil {
		return nil, err
	}
	rows := [][]any{}
	for _, r := range records {
		rows = append(rows, r.Values)
	}
	return rows, nil
}

// must is run without an error.
func (c *boltClient) must(query string, params ...map[string]any) [][]any {
	c.t.Helper()
	rows, err := c.run(query, params...)
	require.NoError(c.t, err, query)
	return rows
}

// waitFor polls until f holds, for at most 20 s.
func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !f() {
		require.True(t, time.Now().Before(deadline), "waited in vain: %s", what)
		<-time.After(time.Millisecond)
	}
}

func TestTheDriverTalksToIt(t *testing.T) {
	s := RunT(t)
	c := connect(t, s)
	c.must("UNWIND range(1, 3) AS i CREATE (:N {i: i, s: $s})", map[string]any{"s": "x"})
	assert.Equal(t, [][]any{{int64(3)}}, c.must("MATCH (n:N) RETURN count(n)"))
	assert.Equal(t, [][]any{{"main"}}, c.must("SHOW REPLICATION ROLE"))
	assert.Equal(t, [][]any{{"3.12.0"}}, c.must("SHOW VERSION"))
	rows := c.must("MATCH (n:N {i: 2}) RETURN n")
	n := rows[0][0].(neo4j.Node)
	assert.Equal(t, []any{"1", []string{"N"}, map[string]any{"i": int64(2), "s": "x"}}, []any{n.ElementId, n.Labels, n.Props})
}
