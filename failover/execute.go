package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"memgraph-controller/memgraph"
)

// Deadlines of the steps. Each is far above what the step takes when all is
// well, and together they bound what a sick instance can cost.
const (
	// putTimeout: a compare-and-set takes 3 to 5 ms, 34 at worst as measured.
	putTimeout = 2 * time.Second
	// demoteTimeout: 1 to 3 ms; longer only while a commit is blocked, which a
	// MAIN that is about to end must not make others wait for.
	demoteTimeout = 500 * time.Millisecond
	// promoteTimeout: 3 to 200 ms, the replication server's poll.
	promoteTimeout = time.Second
	// sealTimeout: one commit on a MAIN without replicas, 1 ms.
	sealTimeout = 500 * time.Millisecond
	// registerTimeout is for all replicas together: each takes 2 to 10 ms if it
	// answers, and who does not is left to reconciliation.
	registerTimeout = time.Second
)

// Store keeps the record. Every gateway obeys it: that of this process as soon
// as Put returns, the others when their watch delivers it.
type Store interface {
	// Put replaces the record if it is still at t.Revision and returns it with
	// its new one.
	Put(ctx context.Context, t memgraph.Topology) (memgraph.Topology, error)
}

// Roles changes what instances are; *memgraph.Client does.
type Roles interface {
	Promote(ctx context.Context, addr string) error
	Demote(ctx context.Context, addr string) error
	SealEpoch(ctx context.Context, addr string) error
}

// Registrar makes replica follow main, having asked it first.
type Registrar interface {
	Follow(ctx context.Context, main, replica memgraph.Pod, mode memgraph.SyncMode) error
}

// Effects is all that a plan acts through.
type Effects struct {
	Store     Store
	Roles     Roles
	Registrar Registrar
	// Settle is how long a handover gives the other gateways to park before the
	// old MAIN is demoted: a write that arrives later would be refused.
	Settle time.Duration
	// Leader is who acts, for the history.
	Leader string
}

// Report is what became of a plan.
type Report struct {
	// Record is as it was last written.
	Record memgraph.Topology
	// Stages are the times since Plan.Seen at which each step was done.
	Stages map[string]time.Duration
	// Missed are steps that failed without stopping the plan; reconciliation
	// makes up for them.
	Missed []error

	seen time.Time
}

// From is the pod that was MAIN before, "" where none was recorded.
func (r Report) From() string {
	if len(r.Record.History) == 0 {
		return ""
	}
	return r.Record.History[0].From
}

// Stages in the order in which they happen, as they are named in the history.
const (
	StageQueued     = "queued"
	StageDecided    = "decided"
	StageRecorded   = "recorded"
	StageDemoted    = "demoted"
	StagePromoted   = "promoted"
	StageSealed     = "sealed"
	StageRegistered = "registered"
)

// Execute carries p out in its one safe order:
//
//  1. write the record: from here on the gateways hold clients until the pod
//     that it names answers as MAIN, and a new leader finishes what was begun
//  2. handover only: let the gateways see it, then demote the old MAIN
//  3. promote the new one, upon which the gateways let clients through
//  4. seal the epoch, so that a restart cannot undo it
//  5. register the other replicas, which from then on refuse the old MAIN
//  6. write the record as Stable
//
// A failure in 1, 3, 4 or 6 ends it with an error and leaves the record to be
// decided on again; 2 and 5 only note it. Whatever ends ctx ends it between two
// statements.
func Execute(ctx context.Context, p Plan, e Effects) (Report, error) {
	r := Report{Record: p.Record, Stages: map[string]time.Duration{StageQueued: p.Taken.Sub(p.Seen)}, seen: p.Seen}
	r.done(StageDecided)
	if p.Idle() {
		return r, nil
	}
	if !p.Written {
		if err := r.put(ctx, e, signed(p, e.Leader)); err != nil {
			return r, err
		}
		r.done(StageRecorded)
	}
	if p.Promote == nil {
		return r, nil
	}
	return r, r.switchMain(ctx, p, e)
}

// signed is p's record with the leader's name in the line of history that a
// change of MAIN by the record alone has.
func signed(p Plan, leader string) memgraph.Topology {
	t := p.Record
	if p.ChangesMain() && p.Promote == nil {
		t.History = slices.Clone(t.History)
		t.History[0].Leader = leader
	}
	return t
}

// switchMain is steps 2 to 6.
func (r *Report) switchMain(ctx context.Context, p Plan, e Effects) error {
	if p.Demote != nil {
		r.miss(demote(ctx, p, e))
		r.done(StageDemoted)
	}
	err := within(ctx, promoteTimeout, func(ctx context.Context) error {
		return e.Roles.Promote(ctx, p.Promote.Addr())
	})
	if err != nil {
		return err
	}
	r.done(StagePromoted)
	err = within(ctx, sealTimeout, func(ctx context.Context) error {
		return e.Roles.SealEpoch(ctx, p.Promote.Addr())
	})
	if err != nil {
		return err
	}
	r.done(StageSealed)
	r.miss(within(ctx, registerTimeout, func(ctx context.Context) error {
		var errs []error
		for _, follower := range p.Register {
			errs = append(errs, e.Registrar.Follow(ctx, *p.Promote, follower.Pod, follower.Mode))
		}
		return errors.Join(errs...)
	}))
	r.done(StageRegistered)
	return r.put(ctx, e, r.settled(e.Leader))
}

// demote waits for the other gateways and then fences the old MAIN by its role.
func demote(ctx context.Context, p Plan, e Effects) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(e.Settle):
	}
	return within(ctx, demoteTimeout, func(ctx context.Context) error {
		return e.Roles.Demote(ctx, p.Demote.Addr())
	})
}

// settled is the record once the change is done, with its line of history.
func (r *Report) settled(leader string) memgraph.Topology {
	t := r.Record
	c := memgraph.Change{
		When: t.Pending.Started, Seen: r.seen, Generation: t.Generation, Kind: t.Pending.Kind,
		From: t.Pending.From.Pod, To: t.Main.Pod, Reason: t.Pending.Reason,
		Stages: map[string]float64{}, Leader: leader,
	}
	for stage, took := range r.Stages {
		c.Stages[stage] = float64(took.Microseconds()) / 1000
	}
	t.Phase, t.Pending = memgraph.Stable, nil
	return t.WithChange(c)
}

func (r *Report) put(ctx context.Context, e Effects, t memgraph.Topology) error {
	return within(ctx, putTimeout, func(ctx context.Context) error {
		written, err := e.Store.Put(ctx, t)
		if err != nil {
			return fmt.Errorf("put generation %d, %s: %w", t.Generation, t.Phase, err)
		}
		r.Record = written
		return nil
	})
}

func (r *Report) done(stage string) { r.Stages[stage] = time.Since(r.seen) }

func (r *Report) miss(err error) {
	if err != nil {
		r.Missed = append(r.Missed, err)
	}
}

// within runs one step under its own deadline, and not at all once ctx, which
// carries our authority, has ended.
func within(ctx context.Context, limit time.Duration, step func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return step(ctx)
}
