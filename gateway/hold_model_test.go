package gateway

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// holdEvents are all the moments of a script at which clients may be held: before
// each flight, and while each request is under way.
func holdEvents(script []flight) (events []event) {
	requests := 0
	for i, f := range script {
		requests += len(f)
		events = append(events, event{name: fmt.Sprintf("before flight %d", i), at: -1, between: i})
	}
	for at := range requests {
		for _, s := range []stage{heldBefore, heldAfter} {
			events = append(events, event{name: fmt.Sprintf("request %d: %s", at, s), at: at, stage: s, between: -1})
		}
	}
	for _, e := range events {
		e.name, e.crash = e.name+", and MAIN dies", true
		events = append(events, e)
	}
	return events
}

// TestModelOfHolds runs every script, holds clients at every moment of it until
// something waits, and then serves them, or lets MAIN die and serves them with the
// next. From Quiet to Serve nothing takes effect (invariant 9), and the client
// notices nothing of it all.
func TestModelOfHolds(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		t.Run(name, func(t *testing.T) {
			g := startGateway(t, func(c *Config) { c.Logger = nil })
			generation := int64(0)
			for _, e := range holdEvents(scripts[name]) {
				generation += 2
				playHold(t, g, generation, scripts[name], e)
				if t.Failed() {
					t.Logf("the event was %q", e.name)
					return
				}
			}
		})
	}
}

func playHold(t *testing.T, g *Gateway, generation int64, script []flight, e event) {
	w, held := &world{commits: map[string]int{}}, make(chan struct{})
	old, next := startOracle(t, w, "old", e.at, e.stage), startOracle(t, w, "next", -1, "")
	defer old.kill()
	defer next.kill()
	old.hold = func() {
		g.Expect("memgraph-0", old.addr, "old", generation)
		close(held)
	}
	g.Serve("memgraph-0", old.addr, "old", generation)
	c := newModelClient(t, g)
	defer c.conn.Close()
	landed := make(chan *bolt.Failure, 1)
	go func() {
		var failure *bolt.Failure
		defer func() { landed <- failure }()
		for i, f := range script {
			if i == e.between {
				old.hold()
			}
			if failure = c.fly(f); failure != nil {
				return
			}
		}
	}()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	quiet, err := g.Quiet(ctx)
	require.NoError(t, err)
	assert.Equal(t, generation, quiet)
	effect := w.committed("a")
	waitFor(t, "a unit to wait, or the end", func() bool { return g.Status().Waiting == 1 || len(landed) == 1 })
	assert.Equal(t, effect, w.committed("a"), "invariant 9")
	if e.crash {
		old.kill()
		g.Expect("memgraph-1", next.addr, "next", generation+1)
		waitFor(t, "the next MAIN", func() bool { return g.Status().State == Holding })
		assert.Zero(t, next.count(), "invariant 9")
		g.Serve("memgraph-1", next.addr, "next", generation+1)
	} else {
		g.Serve("memgraph-0", old.addr, "old", generation)
	}
	failure := <-landed
	judge(t, w.committed("a"), script, failure)
	if !e.crash || !inBatches(script) {
		assert.Nil(t, failure, "all goes on")
	}
	if failure != nil {
		require.Nil(t, c.fly(flight{bolt.Reset{}}))
	}
	require.Nil(t, c.fly(run("R")), "the session goes on to work")
	require.NoError(t, c.conn.(interface{ CloseWrite() error }).CloseWrite())
	_, err = c.reader.ReadMessage()
	require.ErrorIs(t, err, io.EOF, "nobody is answered twice")
}
