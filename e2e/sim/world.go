package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"memgraph-controller/memgraph"
)

// world is one schedule.
type world struct {
	*scheduler
	ctx     context.Context
	rand    *rand.Rand
	bug     Bug
	version memgraph.Version
	serial  int
	quiet   bool // clients stop
	ended   bool // everything does

	api    *apiServer
	net    network
	hosts  [size]*host
	boxes  map[string]*box // by IP
	ctls   [contenders]*contender
	menace menace
	ledger ledger
	judge  judge
}

func newWorld(ctx context.Context, seed uint64, bug Bug) *world {
	w := &world{
		scheduler: newScheduler(), ctx: ctx, rand: rand.New(rand.NewPCG(seed, 0)), bug: bug,
		version: memgraph.Version{Major: 3, Minor: 12}, boxes: map[string]*box{},
	}
	if w.chance(4) {
		w.version = memgraph.Version{Major: 3, Minor: 7, Patch: 2} // SYNC
	}
	w.api = &apiServer{w: w, lag: w.between(10*time.Millisecond, 3*time.Second)}
	w.menace = menace{w: w}
	w.judge = newJudge()
	w.moved = w.watchOver
	for i := range w.ctls {
		w.ctls[i] = w.newContender(node(i))
	}
	for i := range w.hosts {
		w.hosts[i] = w.newHost(i)
	}
	for _, h := range w.hosts {
		h.create()
	}
	return w
}

// start is when virtual time begins.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func (w *world) clock() time.Time { return start.Add(w.now) }

func (w *world) unique() int {
	w.serial++
	return w.serial
}

func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rand.Int64N(int64(most-least)+1))
}

// chance is true once in so many.
func (w *world) chance(in int) bool { return w.rand.IntN(in) == 0 }

// tracef notes what happens, if anybody is going to read it.
func (w *world) tracef(format string, args ...any) {
	if w.judge.tracing {
		w.judge.trace = append(w.judge.trace, fmt.Sprintf("%9.3fs  ", w.now.Seconds())+fmt.Sprintf(format, args...))
	}
}
