package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

// world is a cluster that plans act on: it keeps the snapshot up to date, logs
// every effect, and fails or ends the context at a chosen one.
type world struct {
	s       memgraph.Snapshot
	log     []string
	effects int
	failAt  int // the number of the effect that fails; 0 never
	failed  bool
	// half lets the failing effect take effect all the same.
	half bool
	// at is called before every effect.
	at func(n int)
	// hang is the number of the effect that nobody answers.
	hang int
}

var errInjected = errors.New("injected")

// effect logs one and tells whether it fails, and whether it happens.
func (w *world) effect(ctx context.Context, format string, args ...any) (happens bool, err error) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
	w.effects++
	if w.at != nil {
		w.at(w.effects)
	}
	if w.effects == w.hang {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if w.effects == w.failAt {
		w.failed = true
		return w.half, errInjected
	}
	return true, nil
}

func (w *world) Put(ctx context.Context, t memgraph.Topology) (memgraph.Topology, error) {
	happens, err := w.effect(ctx, "put %d %s %s", t.Generation, t.Phase, t.Main.Pod)
	if t.Revision != w.s.Topology.Revision {
		return memgraph.Topology{}, errors.New("conflict")
	}
	if happens {
		t.Revision += "+"
		w.s.Topology = t
		w.s.Floor = max(w.s.Floor, t.Generation)
	}
	return t, err
}

func (w *world) setRole(ctx context.Context, verb string, p memgraph.Pod, r memgraph.Role) error {
	happens, err := w.effect(ctx, "%s %s", verb, p.Name)
	if happens {
		w.change(p, func(i *memgraph.Instance) { i.Role, i.Replicas = r, nil })
	}
	return err
}

func (w *world) Promote(ctx context.Context, p memgraph.Pod) error {
	return w.setRole(ctx, "promote", p, memgraph.RoleMain)
}

func (w *world) Demote(ctx context.Context, p memgraph.Pod) error {
	return w.setRole(ctx, "demote", p, memgraph.RoleReplica)
}

func (w *world) SealEpoch(ctx context.Context, main memgraph.Pod) error {
	_, err := w.effect(ctx, "seal %s", main.Name)
	return err
}

func (w *world) Follow(ctx context.Context, main, replica memgraph.Pod, mode memgraph.SyncMode) error {
	happens, err := w.effect(ctx, "register %s on %s %s", replica.Name, main.Name, mode)
	if happens {
		w.change(main, func(i *memgraph.Instance) {
			i.Replicas = append(i.Replicas, memgraph.Replica{
				Name: memgraph.ReplicaName(replica.Name), Address: replica.ReplicationAddr(), Mode: mode, Status: memgraph.StatusReady,
			})
		})
	}
	return err
}

func (w *world) Retire(ctx context.Context, main memgraph.Pod, r memgraph.Replica) error {
	happens, err := w.effect(ctx, "drop %s of %s", r.Name, main.Name)
	if !happens {
		return err
	}
	if !w.s.Droppable(r) {
		return memgraph.ErrUnsafe
	}
	w.change(main, func(i *memgraph.Instance) {
		i.Replicas = slices.DeleteFunc(i.Replicas, func(o memgraph.Replica) bool { return o.Name == r.Name })
	})
	return err
}

func (w *world) Replicas(ctx context.Context, main memgraph.Pod) ([]memgraph.Replica, error) {
	_, err := w.effect(ctx, "list replicas of %s", main.Name)
	now, _ := w.s.Pod(main.Index)
	return now.Instance.Replicas, err
}

func (w *world) Park(ctx context.Context, t memgraph.Topology) error {
	_, err := w.effect(ctx, "park by %s", t.Phase)
	return err
}

// change changes what main's instance is.
func (w *world) change(main memgraph.Pod, change func(*memgraph.Instance)) {
	for i := range w.s.Pods {
		if w.s.Pods[i].UID == main.UID {
			change(&w.s.Pods[i].Instance)
		}
	}
}

// acting is w as what plans act through.
func (w *world) acting() Effects {
	return Effects{Store: w, Roles: w, Registrar: w, Gateways: w, Leader: "a", Sleep: func(ctx context.Context, d time.Duration) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(d):
			return nil
		}
	}}
}

func (w *world) execute(ctx context.Context) (Plan, Report, error) {
	p := Decide(w.s)
	p.Seen, p.Taken = time.Now(), time.Now()
	r, err := Execute(ctx, p, w.acting())
	return p, r, err
}

func TestAFailoverGoesInItsOneSafeOrder(t *testing.T) {
	w := &world{s: healthy(gone(0))}
	_, r, err := w.execute(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{
		"put 8 FailingOver mg-1", "promote mg-1", "seal mg-1", "register mg-2 on mg-1 strict_sync",
		"list replicas of mg-1", "put 8 Stable mg-1",
	}, w.log)
	assert.True(t, w.s.Topology.InSync, "the new MAIN is protected before a client writes to it")
	for _, stage := range []string{StageQueued, StageDecided, StageRecorded, StagePromoted, StageSealed, StageRegistered, StageProtected} {
		assert.Contains(t, r.Stages, stage)
	}
	require.Len(t, w.s.Topology.History, 1)
	h := w.s.Topology.History[0]
	assert.Equal(t, []any{"failover", "mg-0", "mg-1", int64(8), "a"}, []any{h.Kind, h.From, h.To, h.Generation, h.Leader})
	assert.Contains(t, h.Stages, StagePromoted)
}

func TestAHandoverDemotesBeforeItPromotes(t *testing.T) {
	w := &world{s: healthy(terminating(0))}
	_, _, err := w.execute(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{
		"put 8 Switching mg-1", "park by Switching", "demote mg-0", "promote mg-1", "seal mg-1",
		"register mg-2 on mg-1 strict_sync", "list replicas of mg-1", "put 8 Stable mg-1",
	}, w.log)
}

// A MAIN that hangs may wake up at any moment, and cannot be demoted.
func TestAMainThatHangsIsGivenUpBeforeAnotherIsPromoted(t *testing.T) {
	w := &world{s: healthy(stuck(0, memgraph.Hung))}
	_, _, err := w.execute(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"put 8 FailingOver mg-1", "park by FailingOver", "promote mg-1"}, w.log[:3])
}

func TestAPartnerIsSucceededWhileClientsAreHeld(t *testing.T) {
	w := &world{s: healthy(gone(1), invalid(1))}
	p, _, err := w.execute(t.Context())
	require.NoError(t, err)
	assert.Equal(t, LosePartner, p.Kind)
	assert.Equal(t, []string{
		"put 7 Protecting mg-0", "park by Protecting", "list replicas of mg-0", "drop mg_1 of mg-0", "drop mg_2 of mg-0",
		"register mg-2 on mg-0 strict_sync", "list replicas of mg-0", "put 7 Stable mg-0",
	}, w.log)
	assert.Equal(t, "mg-2", w.s.Topology.Partner.Pod)
	assert.True(t, w.s.Topology.InSync)
}

// A MAIN that lists a dead partner as ready would not survive the drop: a commit
// shows it the truth.
func TestMainIsShownThatItsPartnerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{s: healthy(gone(1))}
		w.at = func(int) {
			if strings.HasPrefix(w.log[len(w.log)-1], "seal") {
				invalid(1)(&w.s)
			}
		}
		_, r, err := w.execute(t.Context())
		require.NoError(t, err)
		assert.Empty(t, r.Missed)
		assert.Equal(t, 1, strings.Count(strings.Join(w.log, "\n"), "seal mg-0"))
		assert.True(t, w.s.Topology.InSync)
	})
}

func TestWhatCannotBeDroppedIsLeftInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{s: healthy(gone(1))}
		begun := time.Now()
		_, r, err := w.execute(t.Context())
		require.NoError(t, err)
		require.Len(t, r.Missed, 1)
		require.ErrorIs(t, r.Missed[0], memgraph.ErrUnsafe)
		assert.LessOrEqual(t, time.Since(begun), retireTimeout)
		assert.Equal(t, memgraph.Stable, w.s.Topology.Phase, "clients are let through")
	})
}

// What a deposed leader has yet to write conflicts with the next leader's name.
func TestWhoGoesOnWithAChangePutsItsNameToIt(t *testing.T) {
	w := &world{s: healthy(underWay(memgraph.FailingOver))}
	deposed := w.s.Topology
	_, _, err := w.execute(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "put 8 FailingOver mg-1", w.log[0])
	_, err = w.Put(t.Context(), deposed)
	require.ErrorContains(t, err, "conflict")

	w = &world{s: healthy(underWay(memgraph.FailingOver))}
	w.s.Topology.Pending.Leader = "a"
	_, _, err = w.execute(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "promote mg-1", w.log[0], "our own is gone on with at once")
}

func TestAnIdlePlanDoesNothing(t *testing.T) {
	w := &world{s: healthy()}
	_, _, err := w.execute(t.Context())
	require.NoError(t, err)
	assert.Empty(t, w.log)
}

// Whatever fails, and whether or not it took effect, deciding again from what is
// then seen finishes the change.
func TestAFailureAtAnyStepIsMadeUpFor(t *testing.T) {
	for name, start := range map[string]func() memgraph.Snapshot{
		"failover":  func() memgraph.Snapshot { return healthy(gone(0)) },
		"handover":  func() memgraph.Snapshot { return healthy(terminating(0)) },
		"readopt":   func() memgraph.Snapshot { return healthy(restarted(0), noPartner) },
		"restore":   func() memgraph.Snapshot { return healthy(role(0, memgraph.RoleReplica)) },
		"bootstrap": func() memgraph.Snapshot { return fresh() },
		"partner":   func() memgraph.Snapshot { return healthy(gone(1), invalid(1)) },
	} {
		for _, half := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, the failing step takes effect: %v", name, half), func(t *testing.T) {
				failing := true
				for n := 1; failing; n++ {
					failing = madeUpFor(t, &world{s: start(), failAt: n, half: half})
				}
			})
		}
	}
}

// madeUpFor finishes what w begins, checks that it is settled, and reports
// whether anything failed on the way: a plan may have fewer effects.
func madeUpFor(t *testing.T, w *world) bool {
	t.Helper()
	finish(t, w)
	assert.Equal(t, memgraph.Stable, w.s.Topology.Phase, w.log)
	main, ok := w.s.Main()
	require.True(t, ok, w.log)
	assert.True(t, main.Answers(memgraph.RoleMain), w.log)
	assert.Equal(t, main.Instance.RunID, w.s.Topology.Main.RunID, w.log)
	for _, h := range w.s.Topology.History {
		assert.Equal(t, "a", h.Leader, w.log)
	}
	return w.failed
}

// finish decides and acts until MAIN is settled.
func finish(t *testing.T, w *world) {
	t.Helper()
	for range 5 {
		p, _, _ := w.execute(t.Context())
		if p.Idle() {
			return
		}
	}
	t.Fatalf("it never settles: %v", w.log)
}

// Once authority has ended, no further statement is sent: each run ends within
// the effect in which it was lost.
func TestNothingIsDoneWithoutAuthority(t *testing.T) {
	for n := 1; ; n++ {
		ctx, lose := context.WithCancelCause(t.Context())
		w := &world{s: healthy(terminating(0))}
		w.at = func(i int) {
			if i >= n {
				lose(errInjected)
			}
		}
		_, _, err := w.execute(ctx)
		lose(nil)
		if err == nil {
			require.Equal(t, 9, n, "the plan has eight effects")
			return
		}
		assert.Equal(t, n, w.effects, "after losing authority in effect %d: %v", n, w.log)
	}
}

func TestAConflictEndsThePlanBeforeAnyStatement(t *testing.T) {
	w := &world{s: healthy(gone(0))}
	p := Decide(w.s)
	w.s.Topology.Revision = "101"
	_, err := Execute(t.Context(), p, w.acting())
	require.ErrorContains(t, err, "conflict")
	assert.Equal(t, []string{"put 8 FailingOver mg-1"}, w.log, "invariant 1")
}

func TestWhatDoesNotStopAPlanIsReported(t *testing.T) {
	w := &world{s: healthy(terminating(0)), failAt: 3} // the demotion
	_, r, err := w.execute(t.Context())
	require.NoError(t, err)
	require.Len(t, r.Missed, 1)
	assert.ErrorIs(t, r.Missed[0], errInjected)
	assert.Equal(t, "put 8 Stable mg-1", w.log[len(w.log)-1])
}

func TestHistoryIsBounded(t *testing.T) {
	s := healthy(gone(0), record(func(t *memgraph.Topology) {
		t.History = make([]memgraph.Change, memgraph.MaxHistory)
	}))
	w := &world{s: s}
	_, _, err := w.execute(t.Context())
	require.NoError(t, err)
	assert.Len(t, w.s.Topology.History, memgraph.MaxHistory)
	assert.Equal(t, "mg-1", w.s.Topology.History[0].To, "the newest first")
}

// drowsy is a world in which it takes time to list replicas, and nobody gets in step.
type drowsy struct {
	*world
	takes time.Duration
}

func (d drowsy) Replicas(ctx context.Context, main memgraph.Pod) ([]memgraph.Replica, error) {
	if err := d.acting().Sleep(ctx, d.takes); err != nil {
		return nil, err
	}
	replicas, err := d.world.Replicas(ctx, main)
	for i := range replicas {
		replicas[i].Status = memgraph.StatusRecovery
	}
	return replicas, err
}

// A MAIN that answers slowly, as in a storm of logins, makes nobody wait for longer than
// one that does not answer: what is asked over and over has a deadline for all of it.
func TestASlowMainHoldsNothingUp(t *testing.T) {
	for name, c := range map[string]struct {
		s     memgraph.Snapshot
		limit time.Duration
	}{
		"its partner gets in step":   {healthy(gone(0)), readyTimeout},
		"whom it lists is let go of": {healthy(gone(1)), retireTimeout + readyTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{s: c.s}
			acting := w.acting()
			acting.Registrar = drowsy{w, listTimeout / 3}
			begun := time.Now()
			_, err := Execute(t.Context(), Decide(w.s), acting)
			require.NoError(t, err, name)
			assert.Equal(t, c.limit, time.Since(begun), "%s: %v", name, w.log)
			assert.False(t, w.s.Topology.InSync, name)
		})
	}
}

// A step that nobody answers costs no more than its deadline, and what is missed
// is made up for later.
func TestAStepThatHangsEndsAtItsDeadline(t *testing.T) {
	for n, limit := range map[int]time.Duration{
		1: putTimeout, 2: parkTimeout, 3: demoteTimeout, 4: promoteTimeout, 5: sealTimeout, 6: registerTimeout, 7: readyTimeout, 8: putTimeout,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := &world{s: healthy(terminating(0))}
			w.hang = n
			begun := time.Now()
			_, r, err := w.execute(t.Context())
			assert.Equal(t, limit, time.Since(begun), "effect %d: %v", n, w.log)
			stops := n == 1 || n == 4 || n == 5 || n == 8
			assert.Equal(t, stops, err != nil, "effect %d", n)
			assert.Equal(t, !stops, len(r.Missed) > 0, "effect %d", n)
		})
	}
}
