package failover

import (
	"cmp"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

func ordered(verb memgraph.Verb, argument string) edit {
	return func(s *memgraph.Snapshot) {
		s.Topology.Order = &memgraph.Order{Verb: verb, Argument: argument, Request: "r"}
	}
}

// switching is a switchover from pod 0 to pod 1 that was ordered and begun.
func switching(s *memgraph.Snapshot) {
	underWay(memgraph.Switching)(s)
	s.Topology.Pending.Kind = string(Switchover)
	s.Topology.Pending.Order = &memgraph.Order{Verb: memgraph.OrderSwitchover, Request: "r"}
	s.Topology.Partner = s.Topology.Pending.From
}

func paused(s *memgraph.Snapshot) {
	s.Topology.Paused = &memgraph.Pause{Reason: "upgrade", Since: now}
}

func TestAnOrderIsAnsweredInTheWriteThatBeginsIt(t *testing.T) {
	for _, c := range []decision{
		{"pause", healthy(ordered(memgraph.OrderPause, "upgrade")), Reply, "mg-0", "stay as they are"},
		{"resume", healthy(paused, ordered(memgraph.OrderResume, "")), Reply, "mg-0", "replaced again"},
		{"a verb that nobody knows", healthy(ordered("dance", "")), Reply, "mg-0", `refused: there is no order "dance"`},

		{"switchover", healthy(ordered(memgraph.OrderSwitchover, "")), Switchover, "mg-1", "an operator asked"},
		{"switchover to the partner", healthy(ordered(memgraph.OrderSwitchover, "mg-1")), Switchover, "mg-1", "an operator asked"},
		{"switchover while paused", healthy(paused, ordered(memgraph.OrderSwitchover, "")), Switchover, "mg-1", "an operator asked"},
		{"switchover to another replica", healthy(ordered(memgraph.OrderSwitchover, "mg-2")), Reply, "mg-0", "refused: mg-2 is not in sync: the partner of MAIN is mg-1"},
		{"switchover to nobody's pod", healthy(ordered(memgraph.OrderSwitchover, "mg-7")), Reply, "mg-0", "refused: mg-7 is not in sync"},
		{"switchover to MAIN", healthy(ordered(memgraph.OrderSwitchover, "mg-0")), Reply, "mg-0", "refused: mg-0 is MAIN already"},
		{"switchover, no partner", healthy(noPartner, ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: nobody can take over from MAIN mg-0: it has no partner"},
		{"switchover, partner not in sync", healthy(notInSync, ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "mg-1 is not in sync"},
		{"switchover, partner gone", healthy(gone(1), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "mg-1 is gone too"},
		{"switchover, partner replaced", healthy(replaced(1), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "mg-1 is gone too"},
		{"switchover, partner terminating", healthy(terminating(1), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "mg-1 is terminating too"},
		{"switchover, partner refuses", healthy(reached(1, memgraph.Refused), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "mg-1 refuses connections"},
		{"switchover, partner says MAIN", healthy(role(1, memgraph.RoleMain), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "mg-1 says that it is MAIN"},
		{"switchover, partner not registered", healthy(lists["empty"], ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "lists partner mg-1 as not registered"},
		{"switchover, partner to be registered anew", healthy(instance(1, func(i *memgraph.Instance) { i.Rejoin = true }), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "whether mg-1 holds all that MAIN does is not known"},
		{"switchover, partner silent", healthy(silent(1, time.Second), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "mg-1 does not answer"},
		{"switchover, partner restarted", healthy(restarted(1), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "mg-1 has restarted"},
		{"switchover, partner diverged", healthy(instance(1, func(i *memgraph.Instance) { i.Diverged = true }), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "mg-1 has diverged"},
		{"switchover, the list is unknown", healthy(lists["not known"], ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "not listed its replicas lately"},
		{"switchover, the list is old", healthy(lists["old"], ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "not listed its replicas lately"},
		{"switchover, partner recovering", healthy(lists["recovering"], ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "lists partner mg-1 as strict_sync, recovery"},
		{"switchover, partner async", healthy(lists["all async"], ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "lists partner mg-1 as async"},
		{"switchover, partner empty", healthy(vertices(1, 0), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "whether mg-1 holds all that MAIN does is not known"},
		{"switchover, MAIN gone", healthy(gone(0), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: the pod of MAIN mg-0 is gone"},
		{"switchover, MAIN terminating", healthy(terminating(0), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: the pod of MAIN mg-0 is terminating"},
		{"switchover, MAIN replaced", healthy(replaced(0), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: the pod of MAIN mg-0 was replaced"},
		{"switchover, MAIN restarted", healthy(restarted(0), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: MAIN mg-0 has restarted"},
		{"switchover, MAIN refuses", healthy(reached(0, memgraph.Refused), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: MAIN mg-0 refuses connections"},
		{"switchover, MAIN hangs", healthy(stuck(0, memgraph.Hung), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: MAIN mg-0 is hung"},
		{"switchover, MAIN says replica", healthy(role(0, memgraph.RoleReplica), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: MAIN mg-0 says that it is a replica"},
		{"switchover, MAIN has other credentials", healthy(reached(0, memgraph.Denied), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: MAIN mg-0 refuses our credentials"},
		{"switchover, MAIN broken", healthy(broken(0), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: the database of MAIN mg-0 is broken"},
		{"switchover, MAIN silent", healthy(silent(0, time.Second), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: MAIN mg-0 does not answer"},
		{"switchover, another is under way", healthy(switching, ordered(memgraph.OrderSwitchover, "")), Reply, "mg-1", "refused: a change is under way: switchover, because"},
		{"switchover, the partner is being replaced", healthy(protecting(1), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-0", "refused: a change is under way: lose-partner, because"},
		{"switchover, a failover is under way", healthy(underWay(memgraph.FailingOver), ordered(memgraph.OrderSwitchover, "")), Reply, "mg-1", "refused: a change is under way: failover, because"},

		{"failover while MAIN is well", healthy(ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "refused: mg-0 is MAIN and answers as that"},
		{"failover while MAIN is going", healthy(terminating(0), noPartner, ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "refused: mg-0 is MAIN and answers as that"},
		{"failover, MAIN has other credentials", healthy(reached(0, memgraph.Denied), noPartner, ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "nothing is wrong with MAIN"},
		{"failover to nobody", healthy(gone(0), noPartner, ordered(memgraph.OrderFailover, "")), Reply, "mg-0", `refused: there is no pod ""`},
		{"failover to a pod that is gone", healthy(gone(0), gone(2), noPartner, ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", `refused: there is no pod "mg-2"`},
		{"failover while another is in sync", healthy(gone(0), ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "refused: mg-1 is in sync: promote that"},
		{"failover to who is in sync", healthy(gone(0), ordered(memgraph.OrderFailover, "mg-1")), ForcedFailover, "mg-1", "an operator asked"},
		{"failover to one that is going", healthy(gone(0), noPartner, terminating(2), ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "refused: mg-2 is terminating"},
		{"failover to one that is silent", healthy(gone(0), noPartner, silent(2, time.Second), ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "refused: mg-2 does not answer"},
		{"failover to one that was not asked for its data", healthy(gone(0), noPartner, instance(2, func(i *memgraph.Instance) { i.StorageAt = time.Time{} }),
			ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "refused: what data mg-2 holds is not known yet"},
		{"failover to one that is broken", healthy(gone(0), noPartner, broken(2), ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "refused: the database of mg-2 is broken"},
		{"failover, MAIN broken", healthy(broken(0), noPartner, ordered(memgraph.OrderFailover, "mg-2")), ForcedFailover, "mg-2", "an operator asked"},
		{"failover to an empty pod, the StatefulSet gone", healthy(silent(0, time.Hour), noPartner, vertices(2, 0), wantsNone, ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "how many pods"},
		{"failover to an empty pod beside a full one", healthy(silent(0, time.Hour), noPartner, vertices(2, 0), ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "refused: mg-2 holds no data and mg-0 does"},
		{"failover to an empty pod, another unknown", healthy(gone(0), noPartner, vertices(2, 0), ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-0", "whether mg-0 does is not known"},
		{"failover in an empty cluster", healthy(silent(0, time.Hour), noPartner, vertices(0, 0), vertices(1, 0), vertices(2, 0), ordered(memgraph.OrderFailover, "mg-2")), ForcedFailover, "mg-2", "an operator asked"},
		{"failover, MAIN silent", healthy(silent(0, time.Second), noPartner, ordered(memgraph.OrderFailover, "mg-2")), ForcedFailover, "mg-2", "an operator asked"},
		{"failover, both of the pair are gone", healthy(gone(0), gone(1), ordered(memgraph.OrderFailover, "mg-2")), ForcedFailover, "mg-2", "an operator asked"},
		{"failover while paused", healthy(gone(0), gone(1), paused, ordered(memgraph.OrderFailover, "mg-2")), ForcedFailover, "mg-2", "an operator asked"},
		{"failover from a failover whose target is gone", healthy(gone(0), gone(1), underWay(memgraph.FailingOver), ordered(memgraph.OrderFailover, "mg-2")), ForcedFailover, "mg-2", "an operator asked"},
		{"failover from a failover whose target is gone, to one that is silent", healthy(gone(0), gone(1), silent(2, time.Second), underWay(memgraph.FailingOver), ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-1", "refused: mg-2 does not answer"},
		{"failover from a failover that succeeds", healthy(gone(0), role(1, memgraph.RoleMain), underWay(memgraph.FailingOver), ordered(memgraph.OrderFailover, "mg-2")), Reply, "mg-1", "refused: mg-1 is becoming MAIN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.check(t)
			checkAnswer(t, c.s, Decide(c.s))
		})
	}
}

// checkAnswer asserts invariant 7 of p.
func checkAnswer(t *testing.T, s memgraph.Snapshot, p Plan) {
	t.Helper()
	require.NotEmpty(t, p.Record.Answers)
	assert.Equal(t, *s.Topology.Order, p.Record.Answers[0].Order)
	assert.Nil(t, p.Record.Order)
	if p.Record.Answers[0].Outcome == memgraph.OutcomeRefused {
		unchanged := s.Topology
		unchanged.Order, unchanged.Answers = nil, p.Record.Answers
		assert.Equal(t, Plan{Kind: Reply, Reason: p.Reason, Record: unchanged}, p)
	}
}

func TestASwitchoverMakesTheOldMainThePartner(t *testing.T) {
	w := &world{s: healthy(ordered(memgraph.OrderSwitchover, ""))}
	_, _, err := w.execute(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{
		"put 8 Switching mg-1", "park by Switching", "list replicas of mg-0", "demote mg-0", "promote mg-1", "seal mg-1",
		"register mg-0 on mg-1 strict_sync", "register mg-2 on mg-1 async", "list replicas of mg-1", "put 8 Stable mg-1",
	}, w.log)
	assert.True(t, w.s.Topology.InSync)
	assert.Equal(t, "mg-0", w.s.Topology.Partner.Pod)
	answer := w.s.Topology.Answers[0]
	assert.Equal(t, memgraph.OutcomeDone, answer.Outcome)
	assert.Contains(t, answer.Reason, "mg-1 is MAIN in generation 8")
	assert.Equal(t, "switchover", w.s.Topology.History[0].Kind)
}

func TestWhatAForcedFailoverMayCostIsTold(t *testing.T) {
	lag := func(behind int64) edit {
		return instance(2, func(i *memgraph.Instance) { i.Behind, i.ListedAt = behind, now.Add(-3*time.Second) })
	}
	for name, c := range map[string]struct {
		s    memgraph.Snapshot
		loss string
	}{
		"who was in sync":    {healthy(gone(0), ordered(memgraph.OrderFailover, "mg-1")), ""},
		"who was behind":     {healthy(gone(0), gone(1), lag(-25), ordered(memgraph.OrderFailover, "mg-2")), "about 13 commits, and those of the 3s since MAIN listed it"},
		"who was up to date": {healthy(gone(0), gone(1), lag(0), ordered(memgraph.OrderFailover, "mg-2")), "about 0 commits, and those of the 3s since MAIN listed it"},
		"who was not listed": {healthy(gone(0), gone(1), instance(2, func(i *memgraph.Instance) { i.ListedAt = time.Time{} }),
			ordered(memgraph.OrderFailover, "mg-2")), "unknown, MAIN has not listed it"},
	} {
		t.Run(name, func(t *testing.T) {
			w := &world{s: c.s}
			p, _, err := w.execute(t.Context())
			require.NoError(t, err)
			assert.Contains(t, p.Record.Answers[0].Reason, "estimated loss: "+cmp.Or(c.loss, "none, it was in sync"), "told before it is done")
			if done := w.s.Topology.Answers[0].Reason; c.loss == "" {
				assert.NotContains(t, done, "loss")
			} else {
				assert.Contains(t, done, "; estimated loss: "+c.loss)
			}
			assert.Equal(t, c.loss, w.s.Topology.History[0].EstimatedLoss)
			assert.Equal(t, "forced-failover", w.s.Topology.History[0].Kind)
		})
	}
}

// A pod that is MAIN already, after an accident, may be that in an epoch in which
// another has diverged.
func TestAForcedMainGetsAnEpochOfItsOwn(t *testing.T) {
	start := func() memgraph.Snapshot {
		return healthy(silent(0, time.Hour), gone(1), role(2, memgraph.RoleMain), ordered(memgraph.OrderFailover, "mg-2"))
	}
	w := &world{s: start()}
	_, _, err := w.execute(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"put 8 FailingOver mg-2", "park by FailingOver", "demote mg-2", "promote mg-2", "seal mg-2", "put 8 Stable mg-2"}, w.log)

	for _, half := range []bool{false, true} {
		failing := true
		for n := 1; failing; n++ {
			w := &world{s: start(), failAt: n, half: half}
			failing = madeUpFor(t, w)
			demoted, promoted := slices.Index(w.log, "demote mg-2"), slices.Index(w.log, "promote mg-2")
			assert.True(t, 0 <= demoted && demoted < promoted, w.log)
		}
	}
}

func TestASwitchoverThatFailsLeavesTheOldMain(t *testing.T) {
	late := record(func(t *memgraph.Topology) { t.Pending.Started = now.Add(-promotionTime - time.Second) })
	ahead := record(func(t *memgraph.Topology) { t.Pending.Started = now.Add(30 * time.Second) })
	for _, c := range []decision{
		{"the old MAIN was not demoted", healthy(switching), CallOff, "mg-0", "not demoted"},
		{"the old MAIN was not demoted, the new one is gone", healthy(switching, gone(1)), CallOff, "mg-0", "not demoted"},
		{"the new one was not asked to be MAIN yet", healthy(switching, role(0, memgraph.RoleReplica)), Resume, "mg-1", "because"},
		{"the new one is not MAIN for long", healthy(switching, late, role(0, memgraph.RoleReplica)), Revert, "mg-0", "not promoted within 2s"},
		{"the new one is not MAIN for long, by a clock that is ahead", healthy(switching, ahead, role(0, memgraph.RoleReplica)), Revert, "mg-0", "not promoted within 2s"},
		{"the new one is MAIN, after long", healthy(switching, late, role(0, memgraph.RoleReplica), role(1, memgraph.RoleMain)), Resume, "mg-1", "because"},
		{"the new one is gone", healthy(switching, role(0, memgraph.RoleReplica), gone(1)), Revert, "mg-0", "died"},
		{"the new one refuses", healthy(switching, role(0, memgraph.RoleReplica), reached(1, memgraph.Refused)), Revert, "mg-0", "died"},
		{"the new one has restarted", healthy(switching, role(0, memgraph.RoleReplica), restarted(1)), Revert, "mg-0", "died"},
		{"the new one may be MAIN", healthy(switching, role(0, memgraph.RoleReplica), silent(1, time.Minute)), Waiting, "", "does not answer"},
		{"the old MAIN has restarted", healthy(switching, restarted(0), role(0, memgraph.RoleReplica), late), Resume, "mg-1", "because"},
		{"the old MAIN is gone", healthy(switching, gone(0), late), Resume, "mg-1", "because"},
		{"the old MAIN is going", healthy(switching, terminating(0), role(0, memgraph.RoleReplica), late), Resume, "mg-1", "because"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.check(t)
			if p := Decide(c.s); p.Kind == CallOff || p.Kind == Revert {
				assert.Equal(t, memgraph.OutcomeCalledOff, p.Record.Answers[0].Outcome)
			}
		})
	}
}

// Whatever statement of a switchover fails, and whether or not it took effect,
// somebody is MAIN in the end and the operator is told who.
func TestASwitchoverThatFailsAnywhereIsAnswered(t *testing.T) {
	for _, half := range []bool{false, true} {
		failing := true
		for n := 1; failing; n++ {
			w := &world{s: healthy(ordered(memgraph.OrderSwitchover, "")), failAt: n, half: half}
			failing = madeUpFor(t, w)
			answer := w.s.Topology.Answers[0]
			want := "mg-1"
			if answer.Outcome != memgraph.OutcomeDone {
				require.Equal(t, memgraph.OutcomeCalledOff, answer.Outcome, w.log)
				want = "mg-0"
			}
			assert.Equal(t, want, w.s.Topology.Main.Pod, w.log)
		}
	}
}

func TestAPauseHoldsBackWhatNobodyOrdered(t *testing.T) {
	for _, c := range []decision{
		{"all is well", healthy(paused), Nothing, "", "as the record says"},
		{"a failover", healthy(paused, gone(0)), Blocked, "", "paused by an operator (upgrade), held back: failover: the pod of MAIN mg-0 is gone"},
		{"a handover", healthy(paused, terminating(0)), Blocked, "", "held back: handover"},
		{"a MAIN that is back", healthy(paused, restarted(0), noPartner), Blocked, "", "held back: readopt"},
		{"a change that was begun goes on", healthy(paused, gone(0), underWay(memgraph.FailingOver)), Resume, "mg-1", "because"},
		{"the partner is gone: it is not in sync", healthy(paused, gone(1)), UnsyncPartner, "mg-0", "mg-1 is gone"},
		{"the partner is gone, as is known", healthy(paused, notInSync, gone(1)), Blocked, "", "held back: lose-partner"},
		{"the partner is behind", healthy(paused, lists["recovering"]), UnsyncPartner, "mg-0", "recovery"},
		{"the partner is in sync again", healthy(paused, notInSync), ConfirmPartner, "mg-0", "ready"},
		{"there is no record", fresh(paused), Bootstrap, "mg-0", "nobody holds data"},
	} {
		t.Run(c.name, c.check)
	}
}

func TestFailoversAreLimited(t *testing.T) {
	failovers := func(n int, kind Kind, ago time.Duration) edit {
		return record(func(t *memgraph.Topology) {
			for range n {
				t.History = append(t.History, memgraph.Change{Kind: string(kind), When: now.Add(-ago)})
			}
		})
	}
	limit := func(s *memgraph.Snapshot) {
		s.Policy.MaxFailovers, s.Policy.FailoverWindow = 3, 10*time.Minute
	}
	acknowledged := record(func(t *memgraph.Topology) { t.Acknowledged = now.Add(-time.Second) })
	for _, c := range []decision{
		{"fewer", healthy(gone(0), limit, failovers(2, Failover, time.Minute)), Failover, "mg-1", "is gone"},
		{"as many", healthy(gone(0), limit, failovers(3, Failover, time.Minute)), Blocked, "", "failed 3 times within 10m0s: acknowledge with `memgraph-controller resume`"},
		{"as many, acknowledged", healthy(gone(0), limit, failovers(3, Failover, time.Minute), acknowledged), Failover, "mg-1", "is gone"},
		{"as many, long ago", healthy(gone(0), limit, failovers(3, Failover, time.Hour)), Failover, "mg-1", "is gone"},
		{"as many handovers", healthy(gone(0), limit, failovers(3, Handover, time.Minute)), Failover, "mg-1", "is gone"},
		{"as many by order", healthy(gone(0), limit, failovers(3, ForcedFailover, time.Minute)), Failover, "mg-1", "is gone"},
		{"without limit", healthy(gone(0), failovers(20, Failover, time.Minute)), Failover, "mg-1", "is gone"},
		{"one is begun already", healthy(gone(0), limit, failovers(3, Failover, time.Minute), underWay(memgraph.FailingOver)), Resume, "mg-1", "because"},
		{"MAIN is only going", healthy(terminating(0), limit, failovers(3, Failover, time.Minute)), Handover, "mg-1", "terminating"},
		{"an operator orders it", healthy(gone(0), limit, failovers(3, Failover, time.Minute), ordered(memgraph.OrderFailover, "mg-1")), ForcedFailover, "mg-1", "an operator"},
	} {
		t.Run(c.name, c.check)
	}
}

// What an operator acknowledges is what is in the history, whatever clock wrote it.
func TestAnAcknowledgementCoversAllThatFailed(t *testing.T) {
	for _, ahead := range []time.Duration{-30 * time.Second, 30 * time.Second} {
		s := healthy(ordered(memgraph.OrderResume, ""), record(func(t *memgraph.Topology) {
			for range 3 {
				t.History = append(t.History, memgraph.Change{Kind: string(Failover), When: now.Add(ahead)})
			}
		}))
		s.Policy.MaxFailovers, s.Policy.FailoverWindow = 3, 10*time.Minute
		s.Topology = Decide(s).Record
		gone(0)(&s)
		assert.Equal(t, Failover, Decide(s).Kind, "history %s ahead", ahead)
	}
}

// What was in step when the order came may not be once clients are held.
func TestASwitchoverIsCalledOffWhereThePartnerFallsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{s: healthy(ordered(memgraph.OrderSwitchover, ""))}
		w.at = func(n int) {
			if n == 2 { // parking
				listed(1, func(r *memgraph.Replica) { r.Behind = -2 })(&w.s)
			}
		}
		_, _, err := w.execute(t.Context())
		require.ErrorContains(t, err, "mg-0 does not list mg-1 as in step")
		assert.NotContains(t, w.log, "demote mg-0")
		finish(t, w)
		assert.Equal(t, memgraph.OutcomeCalledOff, w.s.Topology.Answers[0].Outcome)
		assert.Equal(t, []any{"mg-0", "mg-1", memgraph.Stable}, []any{w.s.Topology.Main.Pod, w.s.Topology.Partner.Pod, w.s.Topology.Phase})
	})
}

func TestByPolicyWritesWaitForALostPartner(t *testing.T) {
	nobodyElse := both(waiting, listed(2, func(r *memgraph.Replica) { r.Behind = -9 }))
	for _, c := range []decision{
		{"another succeeds it", healthy(waiting, gone(1)), LosePartner, "mg-0", "mg-1 is gone"},
		{"it is gone", healthy(nobodyElse, gone(1)), UnsyncPartner, "mg-0", "mg-1 is gone"},
		{"it is gone, as is known", healthy(nobodyElse, notInSync, gone(1)), Blocked, "", "mg-1 is gone, and writes wait for it by policy"},
		{"it refuses", healthy(nobodyElse, notInSync, reached(1, memgraph.Refused)), Blocked, "", "writes wait"},
		{"its pod is back", healthy(nobodyElse, notInSync, replaced(1)), AssignPartner, "mg-0", "mg-1 is back"},
		{"its process is back", healthy(nobodyElse, notInSync, restarted(1)), AssignPartner, "mg-0", "mg-1 is back"},
		{"it is back as MAIN", healthy(nobodyElse, notInSync, restarted(1), role(1, memgraph.RoleMain)), Blocked, "", "writes wait"},
		{"it has diverged", healthy(nobodyElse, notInSync, instance(1, func(i *memgraph.Instance) { i.Diverged = true })), Blocked, "", "writes wait"},
	} {
		t.Run(c.name, c.check)
	}
	back := Decide(healthy(nobodyElse, notInSync, replaced(1)))
	assert.Equal(t, "uid-1b", back.Record.Partner.UID)
	assert.Equal(t, memgraph.Stable, back.Record.Phase)
}

// A client that does not come to an end keeps a MAIN that is well.
func TestASwitchoverIsCalledOffWhereGatewaysDoNotPark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{s: healthy(ordered(memgraph.OrderSwitchover, ""))}
		busy := w.acting()
		busy.Gateways = unwilling{}
		_, err := Execute(t.Context(), Decide(w.s), busy)
		require.ErrorIs(t, err, errInjected)
		assert.Equal(t, []string{"put 8 Switching mg-1"}, w.log)
		finish(t, w)
		assert.Equal(t, memgraph.OutcomeCalledOff, w.s.Topology.Answers[0].Outcome)
		assert.Equal(t, "mg-0", w.s.Topology.Main.Pod)
	})
}

// unwilling are gateways with clients that never come to an end.
type unwilling struct{}

func (unwilling) Park(context.Context, memgraph.Topology) error { return errInjected }
