package sim

import (
	"context"
	"time"

	"memgraph-controller/failover"
)

const (
	// faultPhase is how long faults come.
	faultPhase = 10 * time.Second
	// settlePhase is how long the cluster may take to recover from all of them:
	// the longest back-off and more.
	settlePhase = 100 * time.Second
	// look is between two looks at whether it has.
	look = 250 * time.Millisecond
)

// Outcome is what came of one schedule.
type Outcome struct {
	Seed      uint64
	Violation string // "" if there was none
	Trace     []string
	// Decided counts the decisions.
	Decided                         map[failover.Kind]int
	Writes, Acknowledged, Forbidden int
	Took                            time.Duration // of virtual time
}

// Run plays the schedule of a seed.
func Run(ctx context.Context, seed uint64, bug Bug) Outcome { return play(ctx, seed, bug, false) }

// Replay is Run with a trace.
func Replay(ctx context.Context, seed uint64, bug Bug) Outcome { return play(ctx, seed, bug, true) }

func play(ctx context.Context, seed uint64, bug Bug, tracing bool) Outcome {
	w := newWorld(ctx, seed, bug)
	w.judge.tracing = tracing
	w.unfold()
	w.finish()
	return Outcome{
		Seed: seed, Violation: w.judge.violation, Trace: w.judge.trace, Decided: w.judge.kinds,
		Writes: w.ledger.begun, Acknowledged: w.ledger.acked.count(), Forbidden: w.ledger.forbidden, Took: w.now,
	}
}

// unfold is the schedule: a cluster comes up, faults come, the cluster recovers,
// and the clients stop.
func (w *world) unfold() {
	w.run(w.between(2*time.Second, 6*time.Second))
	for n := range 2 * contenders {
		w.spawn(func() { w.client(n) })
	}
	w.menace.left = 1 + w.rand.IntN(6)
	w.menace.loom()
	w.runUntil(w.now + faultPhase)
	w.menace.heal()
	w.tracef("no more faults")
	if err := w.await(); err != nil {
		w.convict("G6: %v after %v", err, settlePhase)
		return
	}
	w.quiet = true
	w.runUntil(w.now + 4*time.Second)
	if err := w.await(); err != nil {
		w.convict("G6: %v once clients have stopped", err)
		return
	}
	if w.judge.violation == "" {
		w.final()
	}
}

func (w *world) runUntil(at time.Duration) {
	for w.now < at && w.judge.violation == "" {
		w.run(min(at, w.now+look))
		w.lookAtLanes()
	}
}

// await runs until the cluster has settled.
func (w *world) await() error {
	limit := w.now + settlePhase
	for w.judge.violation == "" {
		if err := w.settled(); err == nil || w.now >= limit {
			return err
		}
		w.run(w.now + look)
		w.lookAtLanes()
	}
	return nil
}

// finish ends everything that runs.
func (w *world) finish() {
	w.quiet, w.ended = true, true
	w.menace.left = 0
	for _, c := range w.ctls {
		c.endTerm(errDead)
		c.kill()
	}
	for _, b := range w.boxes {
		if b.proc != nil {
			b.proc.kill()
		}
	}
	w.drain()
}
