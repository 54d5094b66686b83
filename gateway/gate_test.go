package gateway

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAHigherStatementWins(t *testing.T) {
	serve := func(g int64, addr, runID string) target { return target{addr: addr, runID: runID, generation: g} }
	for _, c := range []struct {
		name      string
		have, new target
		want      bool
	}{
		{"anything comes after nothing", target{}, serve(1, "a", ""), true},
		{"a higher generation", serve(1, "a", "x"), serve(2, "b", ""), true},
		{"a higher generation of the same process", serve(1, "a", "x"), serve(2, "a", "x"), true},
		{"a lower generation is ignored", serve(2, "b", ""), serve(1, "a", "x"), false},
		{"the run_id is filled in later", serve(2, "b", ""), serve(2, "b", "x"), true},
		{"the run_id is not taken away", serve(2, "b", "x"), serve(2, "b", ""), false},
		{"the same once more", serve(2, "b", "x"), serve(2, "b", "x"), false},
		{"two processes claim a generation: the first stays", serve(2, "b", "x"), serve(2, "c", "y"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, c.new.outranks(&c.have))
			if c.want {
				assert.False(t, c.have.outranks(&c.new), "the order is strict")
			}
		})
	}
}

// gateWith is a gate that has been told of a target.
func gateWith(maxWaiting, maxAttaching int) (*gate, *target) {
	g := newGate(maxWaiting, maxAttaching)
	t := &target{pod: "memgraph-0", addr: "a", generation: 1}
	g.order(t, false)
	return g, t
}

func admitted(tickets []*ticket) []bool {
	in := make([]bool, len(tickets))
	for i, t := range tickets {
		in[i] = len(t.admitted) > 0
	}
	return in
}

func TestTheLineIsServedInOrderAndNotAllAtOnce(t *testing.T) {
	g, to := gateWith(4, 2)
	var line []*ticket
	for range 4 {
		line = append(line, newTicket())
		require.True(t, g.wait(line[len(line)-1]))
	}
	assert.False(t, g.wait(newTicket()), "a fifth one finds the line full")
	assert.Equal(t, []bool{false, false, false, false}, admitted(line))

	g.confirm(to, "x")
	assert.Equal(t, []bool{true, true, false, false}, admitted(line))

	<-line[0].admitted
	g.leave()
	assert.Equal(t, []bool{false, true, true, false}, admitted(line))

	assert.Nil(t, g.withdraw(line[3]))
	assert.NotNil(t, g.withdraw(line[2]), "it was admitted in the meantime")
	g.leave()
	g.leave()
	assert.Zero(t, g.attaching)
}

func TestWhoFailsToConnectComesBeforeNewcomers(t *testing.T) {
	g, to := gateWith(1, 1)
	first, second := newTicket(), newTicket()
	g.confirm(to, "x")
	require.True(t, g.wait(first))
	<-first.admitted
	g.shut(1, errSuspect)
	require.True(t, g.wait(second))
	g.leave()
	require.True(t, g.wait(first), "though the line is full")
	g.confirm(to, "x")
	assert.Equal(t, []bool{true, false}, admitted([]*ticket{first, second}))
}

func TestWhichRelaysSurvive(t *testing.T) {
	for name, c := range map[string]struct {
		then func(*gate, *target)
		want bool
	}{
		"the gate is shut":                      {func(g *gate, _ *target) { g.shut(1, errSilent) }, true},
		"the same process is confirmed":         {func(g *gate, to *target) { g.confirm(to, "x") }, true},
		"the process is named":                  {func(g *gate, to *target) { g.order(&target{addr: "a", runID: "x", generation: 1}, false) }, true},
		"another process is named":              {func(g *gate, to *target) { g.order(&target{addr: "a", runID: "y", generation: 1}, false) }, false},
		"another process answers":               {func(g *gate, to *target) { g.confirm(to, "y") }, false},
		"it is not MAIN any more":               {func(g *gate, to *target) { g.dismiss(to, errNotMain) }, false},
		"parked":                                {func(g *gate, _ *target) { g.order(&target{generation: 2}, false) }, false},
		"the same process in a new generation":  {func(g *gate, _ *target) { g.order(&target{addr: "a", runID: "x", generation: 2}, false) }, false},
		"an answer from a former target's link": {func(g *gate, _ *target) { g.dismiss(&target{addr: "a", generation: 1}, errNotMain) }, true},
		"word of a lower generation":            {func(g *gate, _ *target) { g.order(&target{generation: 0}, false) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			g, to := gateWith(1, 1)
			g.confirm(to, "x")
			was := g.main.Load()
			c.then(g, to)
			assert.Equal(t, c.want, g.main.Load() == was, "invariant 3")
			assert.Equal(t, !c.want, len(g.stale) == 1, "a change is announced")
		})
	}
}

// Whatever the interleaving of two sources, the highest statement holds in the
// end: invariant 2.
func TestTheOrderOfArrivalDoesNotMatter(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 200 {
		var statements []target
		for n := int64(1); n < 6; n++ {
			statements = append(statements,
				target{addr: "a", generation: n},
				target{addr: "a", runID: "x", generation: n})
		}
		statements = append(statements, statements...)
		r.Shuffle(len(statements), func(i, j int) { statements[i], statements[j] = statements[j], statements[i] })
		g := newGate(1, 1)
		for highest := int64(0); len(statements) > 0; statements = statements[1:] {
			s := statements[0]
			g.order(&s, false)
			highest = max(highest, s.generation)
			require.Equal(t, highest, g.current().generation)
		}
		require.Equal(t, "x", g.current().runID, "the process is named")
	}
}
