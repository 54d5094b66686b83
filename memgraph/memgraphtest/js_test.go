package memgraphtest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The official JavaScript driver opens sessions, runs all kinds of transactions,
// streams 100 000 records, and takes errors for what they are.
func TestJavaScriptDriver(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not installed")
	}
	if _, err := os.Stat("testdata/js/node_modules/neo4j-driver"); err != nil {
		t.Skip("neo4j-driver is not installed: npm ci --prefix memgraph/memgraphtest/testdata/js")
	}
	s := RunT(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "drive.js", s.Addr())
	cmd.Dir = "testdata/js"
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", &stderr)
	seen := map[string]any{}
	require.NoError(t, json.Unmarshal(out, &seen))
	refused := func(text string) map[string]any {
		return map[string]any{"code": codeClient, "retriable": false, "message": text}
	}
	protocol := seen["protocol"]
	delete(seen, "protocol")
	assert.Contains(t, []any{5.2, map[string]any{"major": 5.0, "minor": 2.0}}, protocol)
	assert.Equal(t, map[string]any{
		"agent":                        serverName,
		"auto-commit":                  7.0,
		"managed write":                []any{"B"},
		"managed read":                 2.0,
		"write in a read":              refused(textMisaligned("WRITE")),
		"explicit":                     4.0,
		"rolled back":                  4.0,
		"a node":                       map[string]any{"labels": []any{"A"}, "properties": map[string]any{"i": 7.0}, "elementId": "0"},
		"stream":                       map[string]any{"rows": 1e5, "sum": 5000050000.0},
		"syntax error":                 refused("Error on line 1 position 1. The underlying parsing error is mismatched input 'garbage'"),
		"replication in a transaction": refused(latest.textMulticommand("Managing replication")),
		"conflict": map[string]any{
			"code": codeTransient, "retriable": true,
			"message": "Cannot resolve conflicting transactions. Retry this transaction when the conflicting transaction is finished. For more details, visit https://memgraph.com/docs",
		},
		"write on a replica": refused(textWriteHere),
		"routing":            map[string]any{"code": "ServiceUnavailable", "retriable": true},
	}, seen)
}
