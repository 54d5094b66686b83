package controller

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"memgraph-controller/memgraph"
)

// The leader does not hear MAIN. Another replica may: what it says decides.
func TestTheLeaderAsksOthersWhetherMainLives(t *testing.T) {
	const waits = "MAIN mg-0 does not answer, and is not known to be dead"
	deaf := func(i *instance) { i.err = memgraph.ErrUnreachable }
	hung := func(i *instance) { i.hangs = true }
	for name, c := range map[string]struct {
		leader, other func(*instance) // as they see MAIN; nil as what it is
		lives         bool
	}{
		"the leader alone is cut off":                      {deaf, nil, true},
		"the leader alone gets no answer":                  {hung, nil, true},
		"a storm of logins at the other's gateway":         {hung, func(i *instance) { i.hangs, i.chatty = true, true }, true},
		"neither reaches it":                               {deaf, deaf, false},
		"it hangs":                                         {hung, hung, false},
		"another process answers at its address":           {deaf, func(i *instance) { i.id.RunID = "run-x" }, false},
		"its port is closed, for the other too":            {func(i *instance) { i.err = memgraph.ErrRefused }, func(i *instance) { i.err = memgraph.ErrRefused }, false},
		"its port is closed, as far as the leader can see": {func(i *instance) { i.err = memgraph.ErrRefused }, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.quiet = atOnce(0)
				ctl, stop := l.start("a")
				defer stop()
				seen := newFleet(3)
				defer l.replicaAmid("b", atOnce(0), seen)()
				l.settled()
				l.fleet.with(0, c.leader)
				if c.other != nil {
					seen.with(0, c.other)
				}
				if !c.lives {
					l.within(2*time.Second, "a new MAIN, no later for having asked", isMain("mg-1"))
					return
				}
				<-time.After(waitingLong + 2*time.Second)
				assert.Equal(t, "mg-0", l.record().Main.Pod)
				assert.Equal(t, memgraph.Slow, ctl.Status().Pods[0].Verdict)
				assert.Equal(t, []string{waits}, l.alarms())

				seen.with(0, func(i *instance) { i.err, i.chatty = memgraph.ErrUnreachable, false })
				l.within(2*time.Second, "a new MAIN, once the other does not hear it either", isMain("mg-1"))
			})
		})
	}
}

// Nobody is waited for: who has not answered in time may be cut off from the API
// server, or too slow.
func TestOthersAreNotWaitedFor(t *testing.T) {
	inLab(t, func(l *lab) {
		l.quiet = atOnce(0)
		_, stop := l.start("a")
		defer stop()
		l.settled()
		lost := time.Now()
		l.fleet.with(0, func(i *instance) { i.hangs = true })
		l.within(2*time.Second, "a new MAIN", isMain("mg-1"))
		assert.LessOrEqual(t, time.Since(lost), hangs+Defaults.ProbeInterval+Defaults.ProbeTimeout+Defaults.Settle)
	})
}

func TestADoubtIsRaisedOnceUntilItIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var leader, other witnesses
		assert.False(t, leader.vouched(time.Now()))
		assert.True(t, leader.doubts("run-0"))
		assert.False(t, leader.doubts("run-0"), "it has just been")
		asked := leader.said()[doubtAt]

		assert.True(t, other.heard(asked, ""))
		assert.False(t, other.heard(asked, ""), "a Lease is seen with every renewal")
		other.answer(func(string) bool { return false })
		assert.Empty(t, other.said()[vouchFor])
		other.answer(func(runID string) bool { return runID == "run-0" })
		vouch := other.said()[vouchFor]
		assert.Equal(t, asked, vouch)

		<-time.After(10 * time.Millisecond)
		assert.False(t, leader.heard("", "run-0 1"), "for something else")
		assert.False(t, leader.vouched(time.Now()))
		leader.heard("", vouch)
		assert.True(t, leader.vouched(time.Now()))
		<-time.After(10 * time.Millisecond)
		leader.heard("", vouch)
		assert.False(t, leader.vouched(time.Now()), "the same word does not count twice")
		assert.True(t, leader.doubts("run-0"), "the next is another")
		assert.NotEqual(t, asked, leader.said()[doubtAt])
		<-time.After(doubtAgain)
		assert.True(t, leader.doubts("run-0"), "nobody answers")
	})
}
