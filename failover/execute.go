package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	// listTimeout and dropTimeout: under a millisecond each; registerTimeout, for
	// the partner: 2 to 10 ms.
	listTimeout, dropTimeout, registerTimeout = time.Second, time.Second, time.Second
	// fenceTimeout is for all other replicas together: clients wait for it, and who
	// does not answer is left to reconciliation.
	fenceTimeout = 300 * time.Millisecond
	// parkTimeout bounds waiting for the gateways, whatever they promise, and
	// parkAttempts how often they are waited for, 100 ms each by default.
	parkTimeout, parkAttempts = 2 * time.Second, 20
	// retireTimeout is for MAIN to notice that a replica is gone, which it takes
	// 0.5 to 1.2 s for (observed on 3.12.0), in attempts every retirePause.
	retireTimeout, retirePause = 1500 * time.Millisecond, 10 * time.Millisecond
	// readyTimeout is for a partner that had nearly all to hold all, while nothing
	// is written: milliseconds. It is asked for every readyPause.
	readyTimeout, readyPause = 500 * time.Millisecond, 5 * time.Millisecond
)

// Store keeps the record. Every gateway obeys it: that of this process as soon
// as Put returns, the others when their watch delivers it.
type Store interface {
	// Put replaces the record if it is still at t.Revision and returns it with
	// its new one.
	Put(ctx context.Context, t memgraph.Topology) (memgraph.Topology, error)
}

// Roles changes what instances are.
type Roles interface {
	// Promote makes p MAIN, unless another process is in its place by now.
	Promote(ctx context.Context, p memgraph.Pod) error
	Demote(ctx context.Context, p memgraph.Pod) error
	SealEpoch(ctx context.Context, main memgraph.Pod) error
}

// Registrar keeps a MAIN's list of replicas.
type Registrar interface {
	// Follow makes replica follow main, having asked it first.
	Follow(ctx context.Context, main, replica memgraph.Pod, mode memgraph.SyncMode) error
	// Retire unregisters a replica, or returns memgraph.ErrUnsafe where main might
	// not survive that now.
	Retire(ctx context.Context, main memgraph.Pod, r memgraph.Replica) error
	Replicas(ctx context.Context, main memgraph.Pod) ([]memgraph.Replica, error)
}

// Gateways are those of all processes; they obey the record.
type Gateways interface {
	// Park returns once they hold their clients by the record t, as far as that
	// can be told, or after a while.
	Park(ctx context.Context, t memgraph.Topology) error
}

// Effects is all that a plan acts through.
type Effects struct {
	Store     Store
	Roles     Roles
	Registrar Registrar
	Gateways  Gateways
	// Sleep waits, and returns early with its cause when ctx ends.
	Sleep func(ctx context.Context, d time.Duration) error
	// Timeout bounds a step, as context.WithTimeout does, which is what nil means.
	Timeout func(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc)
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
	StageParked     = "parked"
	StageDemoted    = "demoted"
	StagePromoted   = "promoted"
	StageSealed     = "sealed"
	StageRetired    = "retired"
	StageRegistered = "registered"
	StageProtected  = "protected"
)

// Execute carries p out in its one safe order:
//
//  1. write the record: from here on the gateways hold clients, and a new leader
//     finishes what was begun, having written its name
//  2. where the old MAIN lives: once the gateways have seen it, demote that, unless
//     it hangs
//  3. promote the new one
//  4. seal the epoch, so that a restart cannot undo it
//  5. register the other replicas, which from then on refuse the old MAIN, and
//     wait for the partner among them to hold all
//  6. write the record as Stable, and whether the partner is in sync, upon which
//     the gateways let clients through
//
// Where MAIN stays and its partner changes, instead of 2 to 4, once the gateways
// have seen it and nothing is written: drop whom commits must not wait for.
//
// A failure in 1, 3, 4 or 6 ends it with an error and leaves the record to be
// decided on again, and so does one in 2 where MAIN is to have a new epoch; the
// others only note it. Whatever ends ctx ends it between two statements.
func Execute(ctx context.Context, p Plan, e Effects) (Report, error) {
	r := Report{Record: p.Record, Stages: map[string]time.Duration{StageQueued: p.Taken.Sub(p.Seen)}, seen: p.Seen}
	r.done(StageDecided)
	if p.Idle() {
		return r, nil
	}
	if !p.Written || p.Record.Pending.Leader != e.Leader {
		if err := r.put(ctx, e, signed(p, e.Leader)); err != nil {
			return r, err
		}
		r.done(StageRecorded)
	}
	switch {
	case p.Promote != nil:
		return r, r.switchMain(ctx, p, e)
	case p.Protect != nil:
		return r, r.replacePartner(ctx, p, e)
	}
	return r, nil
}

// signed is p's record with the leader's name in what is pending, or in the line
// of history that a change of MAIN by the record alone has.
func signed(p Plan, leader string) memgraph.Topology {
	t := p.Record
	if t.Pending != nil {
		pending := *t.Pending
		pending.Leader = leader
		t.Pending = &pending
	}
	if p.ChangesMain() && p.Promote == nil {
		t.History = slices.Clone(t.History)
		t.History[0].Leader = leader
	}
	return t
}

// switchMain is steps 2 to 6.
func (r *Report) switchMain(ctx context.Context, p Plan, e Effects) error {
	switch {
	case p.Demote != nil:
		if err := r.fence(ctx, p, e); err != nil {
			return err
		}
	case p.Undead:
		r.park(ctx, e)
	}
	err := e.within(ctx, promoteTimeout, func(ctx context.Context) error {
		return e.Roles.Promote(ctx, *p.Promote)
	})
	if err != nil {
		return err
	}
	r.done(StagePromoted)
	if err := seal(ctx, *p.Promote, e); err != nil {
		return err
	}
	r.done(StageSealed)
	inSync := r.register(ctx, *p.Promote, p.Register, e)
	return r.put(ctx, e, r.settled(e.Leader, inSync))
}

// fence is step 2. Where MAIN need not go, it is not forced: clients are better off
// with the old one than with one that was not demoted. One that is to be MAIN again
// has to have been a replica, or it keeps its epoch.
func (r *Report) fence(ctx context.Context, p Plan, e Effects) error {
	if p.Kind == Switchover {
		if err := r.drain(ctx, e); err != nil {
			return err
		}
	} else {
		r.park(ctx, e)
	}
	err := demote(ctx, p, e)
	r.done(StageDemoted)
	if p.Kind == Switchover || p.Demote.UID == p.Promote.UID {
		return err
	}
	r.miss(err)
	return nil
}

// demote makes the old MAIN a replica, and one that need not go only if its partner
// holds all, now that nothing is written.
func demote(ctx context.Context, p Plan, e Effects) error {
	if p.Kind == Switchover {
		inStep, err := awaitReady(ctx, *p.Demote, *p.Promote, e)
		if err != nil {
			return err
		}
		if !inStep {
			return fmt.Errorf("%s does not list %s as in step", p.Demote.Name, p.Promote.Name)
		}
	}
	return e.within(ctx, demoteTimeout, func(ctx context.Context) error { return e.Roles.Demote(ctx, *p.Demote) })
}

// replacePartner is what there is to do where MAIN stays.
func (r *Report) replacePartner(ctx context.Context, p Plan, e Effects) error {
	r.park(ctx, e)
	r.miss(r.retire(ctx, *p.Protect, p.Register, e))
	r.done(StageRetired)
	next := r.Record
	next.InSync = r.register(ctx, *p.Protect, p.Register, e)
	next.Phase, next.Pending = memgraph.Stable, nil
	return r.put(ctx, e, next)
}

func (r *Report) park(ctx context.Context, e Effects) {
	r.miss(e.within(ctx, parkTimeout, func(ctx context.Context) error { return e.Gateways.Park(ctx, r.Record) }))
	r.done(StageParked)
}

// drain is park for as long as it takes, up to parkTimeout: a MAIN that is well can
// wait for its clients, and stays MAIN where they do not come to an end.
func (r *Report) drain(ctx context.Context, e Effects) error {
	err := e.within(ctx, parkTimeout, func(ctx context.Context) (err error) {
		for range parkAttempts {
			if err = e.Gateways.Park(ctx, r.Record); err == nil {
				return nil
			}
			if stop := e.Sleep(ctx, readyPause); stop != nil {
				return err
			}
		}
		return err
	})
	r.done(StageParked)
	return err
}

// retire drops the registrations that commits would wait for and that are not
// wanted, and those in the way of wanted ones, as soon as MAIN survives it.
func (r *Report) retire(ctx context.Context, main memgraph.Pod, wanted []Follower, e Effects) error {
	return e.within(ctx, retireTimeout, func(soon context.Context) error {
		for n := range int(retireTimeout / retirePause) {
			replicas, err := list(soon, main, e)
			if err != nil {
				return err
			}
			replicas = slices.DeleteFunc(replicas, func(r memgraph.Replica) bool { return !inTheWay(r, wanted) })
			err = drop(soon, main, replicas, e)
			if !errors.Is(err, memgraph.ErrUnsafe) {
				return err
			}
			if n == 0 {
				// A commit, which fails, has MAIN notice at once that a process is gone.
				_ = seal(soon, main, e)
			}
			if e.Sleep(soon, retirePause) != nil {
				break
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("%s may not survive dropping its replicas for %s: %w", main.Name, retireTimeout, memgraph.ErrUnsafe)
	})
}

func drop(ctx context.Context, main memgraph.Pod, replicas []memgraph.Replica, e Effects) error {
	var errs []error
	for _, r := range replicas {
		err := e.within(ctx, dropTimeout, func(ctx context.Context) error { return e.Registrar.Retire(ctx, main, r) })
		if !errors.Is(err, memgraph.ErrNotRegistered) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func list(ctx context.Context, main memgraph.Pod, e Effects) (replicas []memgraph.Replica, err error) {
	err = e.within(ctx, listTimeout, func(ctx context.Context) (err error) {
		replicas, err = e.Registrar.Replicas(ctx, main)
		return err
	})
	return slices.Clone(replicas), err
}

func seal(ctx context.Context, main memgraph.Pod, e Effects) error {
	return e.within(ctx, sealTimeout, func(ctx context.Context) error { return e.Roles.SealEpoch(ctx, main) })
}

// inTheWay holds for a replica that is synchronous and not wanted to be, and for
// one whose registration is wanted otherwise.
func inTheWay(r memgraph.Replica, wanted []Follower) bool {
	for _, w := range wanted {
		if memgraph.ReplicaName(w.Pod.Name) == r.Name || w.Pod.HasAddress(r.Address) {
			return r.Mode != w.Mode || r.Ghost() || !w.Pod.HasAddress(r.Address)
		}
	}
	return r.Mode.Synchronous()
}

// register has main take over followers, and returns whether the partner, which
// is the first if there is one, holds all that main does.
func (r *Report) register(ctx context.Context, main memgraph.Pod, followers []Follower, e Effects) (inSync bool) {
	var partner []Follower
	if len(followers) > 0 && followers[0].Mode.Synchronous() {
		partner, followers = followers[:1], followers[1:]
	}
	shipping := follow(ctx, registerTimeout, main, partner, e)
	r.miss(shipping)
	r.miss(follow(ctx, fenceTimeout, main, followers, e))
	r.done(StageRegistered)
	if shipping != nil || len(partner) == 0 {
		return false
	}
	inSync, err := awaitReady(ctx, main, partner[0].Pod, e)
	r.miss(err)
	r.done(StageProtected)
	return inSync
}

// follow registers followers within limit together.
func follow(ctx context.Context, limit time.Duration, main memgraph.Pod, followers []Follower, e Effects) error {
	return e.within(ctx, limit, func(ctx context.Context) error {
		var errs []error
		for _, f := range followers {
			errs = append(errs, e.Registrar.Follow(ctx, main, f.Pod, f.Mode))
		}
		return errors.Join(errs...)
	})
}

// awaitReady returns whether main says in time that its partner holds all.
func awaitReady(ctx context.Context, main, partner memgraph.Pod, e Effects) (inStep bool, err error) {
	err = e.within(ctx, readyTimeout, func(soon context.Context) error {
		for range int(readyTimeout / readyPause) {
			replicas, err := list(soon, main, e)
			if err != nil {
				return err
			}
			inStep = slices.ContainsFunc(replicas, func(r memgraph.Replica) bool {
				return (r.Name == memgraph.ReplicaName(partner.Name) || partner.HasAddress(r.Address)) && r.Mode.Synchronous() && r.InStep()
			})
			if inStep || e.Sleep(soon, readyPause) != nil {
				break
			}
		}
		return context.Cause(ctx) // nil where it is only late
	})
	return inStep, err
}

// settled is the record once the change is done, with its line of history.
func (r *Report) settled(leader string, inSync bool) memgraph.Topology {
	t := r.Record
	t.InSync = inSync
	c := memgraph.Change{
		When: t.Pending.Started, Seen: r.seen, Generation: t.Generation, Kind: t.Pending.Kind,
		From: t.Pending.From.Pod, To: t.Main.Pod, Reason: t.Pending.Reason, EstimatedLoss: t.Pending.EstimatedLoss,
		Stages: map[string]float64{}, Leader: leader,
	}
	for stage, took := range r.Stages {
		c.Stages[stage] = float64(took.Microseconds()) / 1000
	}
	if order := t.Pending.Order; order != nil {
		why := fmt.Sprintf("%s is MAIN in generation %d: %s", t.Main.Pod, t.Generation, r.timeline())
		if c.EstimatedLoss != "" { // who asks seldom may never see that it was accepted
			why += "; estimated loss: " + c.EstimatedLoss
		}
		t = t.WithAnswer(memgraph.Answer{Order: *order, Outcome: memgraph.OutcomeDone, Reason: why, When: time.Now()})
	}
	t.Phase, t.Pending = memgraph.Stable, nil
	return t.WithChange(c)
}

// timeline is the stages in the order in which they were done, for people.
func (r *Report) timeline() string {
	stages := slices.SortedFunc(maps.Keys(r.Stages), func(a, b string) int { return cmp.Compare(r.Stages[a], r.Stages[b]) })
	for i, stage := range stages {
		stages[i] = fmt.Sprintf("%s %dms", stage, r.Stages[stage].Milliseconds())
	}
	return strings.Join(stages, ", ")
}

func (r *Report) put(ctx context.Context, e Effects, t memgraph.Topology) error {
	return e.within(ctx, putTimeout, func(ctx context.Context) error {
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
func (e Effects) within(ctx context.Context, limit time.Duration, step func(context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	timeout := e.Timeout
	if timeout == nil {
		timeout = context.WithTimeout
	}
	ctx, cancel := timeout(ctx, limit)
	defer cancel()
	return step(ctx)
}
