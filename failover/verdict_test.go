package failover

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"memgraph-controller/memgraph"
)

// feel is the pulse after a row of signs, one letter each, with three misses.
func feel(p Pulse, signs string) Pulse {
	for _, letter := range signs {
		p = p.After(Sign(strings.IndexRune("alnsurd", letter)), 3)
	}
	return p
}

// a answer, l late answer, n noise, s silence, u absence (unreachable), r refusal,
// d denial.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name, signs string
		want        memgraph.Verdict
	}{
		{"nobody has looked", "", memgraph.Unjudged},
		{"the first answer", "a", memgraph.Alive},
		{"silent from the start, not for long", "ss", memgraph.Unjudged},
		{"silent from the start", "sss", memgraph.Hung},

		{"two misses are chance", "ass", memgraph.Alive},
		{"three in a row are not", "asss", memgraph.Hung},
		{"an answer between them is life", "assass", memgraph.Alive},
		{"a late answer is life too", "asslss", memgraph.Slow},
		{"more of the same", "assssssss", memgraph.Hung},

		{"nobody to connect to", "auuu", memgraph.Unreachable},
		{"the last miss tells what it is", "assu", memgraph.Unreachable},
		{"and goes on telling", "asssu", memgraph.Unreachable},
		{"a host that is back", "auuus", memgraph.Hung},

		{"the gateways hear it", "ansnsnssn", memgraph.Slow},
		{"what was missed before it was heard does not count", "assnss", memgraph.Slow},
		{"heard no longer", "annsss", memgraph.Hung},
		{"noise never makes it hang", "a" + strings.Repeat("n", 1000), memgraph.Slow},

		{"refused", "ar", memgraph.Refusing},
		{"refused, then silent as it starts", "arss", memgraph.Refusing},
		{"the password was changed", "ad", memgraph.Locked},
		{"wrong credentials are not a hang", "adddddd", memgraph.Locked},
		{"two misses amid denials", "adsds", memgraph.Locked},

		{"slow, and not quite well", "alaa", memgraph.Slow},
		{"slow, and well again", "alaaa", memgraph.Alive},
		{"an answer now and then does not flap", "alaalaalaa", memgraph.Slow},
		{"it woke up", "asssa", memgraph.Slow},
		{"it woke up for good", "asssaaa", memgraph.Alive},
		{"it woke up and hung again", "asssasss", memgraph.Hung},
		{"it was started again", "ara", memgraph.Slow},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, feel(Pulse{}, c.signs).Verdict) })
	}
}

// However signs are mixed, nothing is lost without a whole row of misses, which
// ends with this sign, and everything is after one.
func TestOnlyAWholeRowOfMissesLoses(t *testing.T) {
	const letters, length = "alnsurd", 7
	for n := range power(len(letters), length) {
		signs := make([]byte, length)
		for i := range signs {
			signs[i] = letters[n/power(len(letters), i)%len(letters)]
		}
		row := length - len(strings.TrimRight(string(signs), "su"))
		p, before := feel(Pulse{}, string(signs)), feel(Pulse{}, string(signs[:length-1]))
		if was := before.Verdict.Lost() && row > 0; p.Verdict.Lost() != (row >= 3 || was) {
			t.Fatalf("%s: %s", signs, p.Verdict)
		}
	}
}

// Once nothing but answers come the verdict is Alive, whatever came before.
func TestEverythingThatAnswersComesToBeAlive(t *testing.T) {
	for _, before := range []string{"", "a", "l", "sss", "uuu", "r", "d", "nnn"} {
		p := feel(Pulse{}, before)
		for range composure {
			p = p.After(Answer, 3)
			assert.False(t, p.Verdict.Lost(), before)
		}
		assert.Equal(t, memgraph.Alive, p.Verdict, before)
	}
}

func TestAPulseDoesNotGrow(t *testing.T) {
	p := feel(Pulse{}, strings.Repeat("s", 100_000))
	assert.Equal(t, Pulse{Verdict: memgraph.Hung, misses: 3}, p)
	assert.Zero(t, testing.AllocsPerRun(100, func() { p = p.After(Answer, 3) }))
}

// stuck makes pod i one that its probes have lost and that does not answer now.
func stuck(i int, v memgraph.Verdict) edit {
	return both(silent(i, 0), instance(i, func(in *memgraph.Instance) { in.Verdict = v }))
}

func TestAStuckMainIsDead(t *testing.T) {
	for _, c := range []decision{
		{"it hangs", healthy(stuck(0, memgraph.Hung)), Failover, "mg-1", "MAIN mg-0 is hung; its partner mg-1 is in sync"},
		{"its node is lost", healthy(stuck(0, memgraph.Unreachable)), Failover, "mg-1", "MAIN mg-0 is unreachable"},
		{"it hangs and is not ready", healthy(stuck(0, memgraph.Hung), notReady(0)), Failover, "mg-1", "is hung"},
		{"the third pod hangs too", healthy(stuck(0, memgraph.Hung), stuck(2, memgraph.Hung)), Failover, "mg-1", "is hung"},
		{"it hangs, without an heir", healthy(stuck(0, memgraph.Hung), notInSync), Blocked, "", "mg-1 is not in sync"},
		{"it hangs, without a partner", healthy(stuck(0, memgraph.Hung), noPartner), Blocked, "", "it has no partner"},

		// False alarms.
		{"it was slow, and is silent now", healthy(stuck(0, memgraph.Slow)), Waiting, "", "not known to be dead"},
		{"it was well, and is silent now", healthy(stuck(0, memgraph.Alive)), Waiting, "", "not known to be dead"},
		{"its probes have lost it, it answers elsewhere", healthy(verdict(0, memgraph.Hung)), Nothing, "", "as the record says"},
		{"nobody answers: we are cut off", healthy(stuck(0, memgraph.Unreachable), stuck(1, memgraph.Unreachable)), Waiting, "", "the controller may be cut off"},
		{"nobody answers for long", healthy(stuck(0, memgraph.Unreachable), silent(1, patience)), Waiting, "", "the controller may be cut off"},
		{"the password was changed", healthy(reached(0, memgraph.Denied), verdict(0, memgraph.Locked)), Blocked, "", "correct the Secret"},
		{"not ready, and it answers", healthy(notReady(0), verdict(0, memgraph.Alive)), Nothing, "", "as the record says"},
	} {
		t.Run(c.name, c.check)
	}
}

func verdict(i int, v memgraph.Verdict) edit {
	return instance(i, func(in *memgraph.Instance) { in.Verdict = v })
}

func notReady(i int) edit { return pod(i, func(p *memgraph.Pod) { p.Ready = false }) }

func TestEvict(t *testing.T) {
	lastingly := func(i int) edit {
		return both(stuck(i, memgraph.Unreachable), silent(i, patience))
	}
	for _, c := range []struct {
		name string
		s    memgraph.Snapshot
		want string // "" is nobody
	}{
		{"all is well", healthy(), ""},
		{"the partner hangs", healthy(stuck(1, memgraph.Hung)), "mg-1"},
		{"the partner hangs, and is not in sync yet", healthy(stuck(1, memgraph.Hung), notInSync), "mg-1"},
		{"the partner is unreachable for a moment", healthy(stuck(1, memgraph.Unreachable)), ""},
		{"the partner is unreachable", healthy(lastingly(1)), "mg-1"},
		{"the partner is silent, who knows why", healthy(silent(1, patience)), ""},
		{"the partner is slow", healthy(stuck(1, memgraph.Slow)), ""},
		{"its probes have lost it, it answers elsewhere", healthy(verdict(1, memgraph.Hung)), ""},
		{"the partner hangs and is being deleted", healthy(stuck(1, memgraph.Hung), terminating(1)), ""},
		{"an async replica hangs", healthy(stuck(2, memgraph.Hung)), ""},
		{"who was partner hangs, and is waited for still", healthy(stuck(1, memgraph.Hung), noPartner), "mg-1"},
		{"who was partner hangs, and nobody waits for it", healthy(stuck(1, memgraph.Hung), noPartner,
			listed(1, func(r *memgraph.Replica) { r.Mode = memgraph.Async })), ""},
		{"two are waited for: one at a time", healthy(stuck(1, memgraph.Hung), stuck(2, memgraph.Hung),
			listed(2, func(r *memgraph.Replica) { r.Mode = memgraph.Sync })), "mg-1"},

		{"main hangs", healthy(stuck(0, memgraph.Hung)), ""},
		{"both hang", healthy(stuck(0, memgraph.Hung), stuck(1, memgraph.Hung)), ""},
		{"main is silent for a moment", healthy(reached(0, memgraph.Silent), stuck(1, memgraph.Hung)), ""},
		{"main's probes have lost it", healthy(verdict(0, memgraph.Hung), stuck(1, memgraph.Hung)), ""},
		{"main was asked a while ago", healthy(instance(0, func(i *memgraph.Instance) { i.Asked = now.Add(-2 * recent) }), stuck(1, memgraph.Hung)), ""},
		{"main restarted", healthy(restarted(0), stuck(1, memgraph.Hung)), ""},
		{"main says that it is a replica", healthy(role(0, memgraph.RoleReplica), stuck(1, memgraph.Hung)), ""},
		{"main is broken", healthy(broken(0), stuck(1, memgraph.Hung)), ""},
		{"main is gone", healthy(gone(0), stuck(1, memgraph.Hung)), ""},
		{"an operator has paused", healthy(paused, stuck(1, memgraph.Hung)), ""},
		{"main is changing", healthy(underWay(memgraph.FailingOver), stuck(2, memgraph.Hung)), ""},
		{"there is no record", fresh(stuck(1, memgraph.Hung)), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, ok := Evict(c.s, now.Add(-evictPause))
			assert.Equal(t, c.want, e.Pod.Name)
			assert.Equal(t, c.want != "", ok)
			assert.Equal(t, ok, e.Reason != "")
			assert.False(t, e.Force)
			_, again := Evict(c.s, now.Add(-evictPause+1))
			assert.False(t, again, "one a minute")
		})
	}
}

// MAIN is not told to let go of it before: it would not survive that.
func TestWhoHangsIsLostOnceItsProcessHasEnded(t *testing.T) {
	for _, c := range []decision{
		{"it is being ended", healthy(stuck(1, memgraph.Hung), terminating(1)), Waiting, "", "is being ended"},
		{"it refuses connections", healthy(stuck(1, memgraph.Hung), terminating(1), reached(1, memgraph.Refused)), LosePartner, "mg-0", "is terminating"},
		{"its pod is gone", healthy(gone(1)), LosePartner, "mg-0", "is gone"},
		{"it was to end, and answers", healthy(terminating(1), verdict(1, memgraph.Hung)), LosePartner, "mg-0", "is terminating"},
	} {
		t.Run(c.name, c.check)
	}
}

// What no kubelet ends is taken off the API, so that MAIN is let go of it.
func TestWhoIsAbandonedIsEvictedByForce(t *testing.T) {
	for silence, want := range map[time.Duration]bool{patience: false, abandoned: true} {
		s := healthy(stuck(1, memgraph.Unreachable), silent(1, silence), terminating(1))
		e, ok := Evict(s, now)
		assert.Equal(t, want, ok && e.Force, silence)
	}
	_, ok := Evict(healthy(stuck(1, memgraph.Hung), silent(1, time.Hour), terminating(1)), now)
	assert.False(t, ok, "its node answers: a kubelet ends it")
}

// spares returns why nobody should have been evicted in s, or why the wrong one
// was; plan is what was decided on it.
func spares(s memgraph.Snapshot, plan Plan) error {
	e, ok := Evict(s, time.Time{})
	if !ok {
		return nil
	}
	p := e.Pod
	main, _ := s.Main()
	switch {
	case p.Index == s.Topology.Main.Index || !p.Stuck() || p.Terminating != e.Force:
		return fmt.Errorf("%s is evicted", p.Name)
	case !main.Answers(memgraph.RoleMain) || !main.Is(s.Topology.Main), plan.ChangesMain() && !main.Terminating:
		return fmt.Errorf("%s is evicted while MAIN is not well", p.Name)
	}
	return nil
}
