package gateway

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// nodePath is where npm's neo4j-driver is looked for, or the test is skipped:
//
//	npm ci --prefix memgraph/memgraphtest/testdata/js
func nodePath(t testing.TB) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "memgraph", "memgraphtest", "testdata", "js", "node_modules"))
	require.NoError(t, err)
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("node is not installed")
	}
	look := exec.CommandContext(t.Context(), "node", "-e", "require.resolve('neo4j-driver')")
	look.Env = append(os.Environ(), "NODE_PATH="+path)
	if look.Run() != nil {
		t.Skip("npm's neo4j-driver is not installed; see nodePath")
	}
	return path
}

// startScript is startLoad with the JavaScript driver, in a process of its own.
func startScript(t testing.TB, url, way string, workers int) *load {
	t.Helper()
	l := &load{t: t, unknown: map[string]bool{}}
	c := exec.CommandContext(t.Context(), "node", filepath.Join("testdata", "worker.js"), url, way, strconv.Itoa(workers))
	c.Env = append(os.Environ(), "NODE_PATH="+nodePath(t))
	var stderr bytes.Buffer
	c.Stderr = &stderr
	stdin, err := c.StdinPipe()
	require.NoError(t, err)
	stdout, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	l.workers.Go(func() {
		for lines := bufio.NewScanner(stdout); lines.Scan(); l.done.Add(1) {
			l.noteLine(lines.Bytes())
		}
		assert.NoError(t, c.Wait(), "%s", &stderr)
	})
	l.stop = func() { _ = stdin.Close() } // the end that it waits for
	t.Cleanup(l.end)
	return l
}

func (l *load) noteLine(b []byte) {
	var line struct {
		Key, Code, Error string
		Retriable        bool
		Ms               float64
	}
	if !assert.NoError(l.t, json.Unmarshal(b, &line)) {
		return
	}
	var err error
	if line.Error != "" {
		err = &neo4j.Neo4jError{Code: line.Code, Msg: line.Error}
	}
	assert.False(l.t, line.Retriable, "never told to retry: %s", line.Error)
	l.note(line.Key, time.Duration(line.Ms*float64(time.Millisecond)), err)
}
