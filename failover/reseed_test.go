package failover

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

// auto lets the controller itself order pods to start empty.
func auto(s *memgraph.Snapshot) { s.Policy.Reseed = memgraph.ReseedAuto }

func diverged(i int) edit {
	return instance(i, func(in *memgraph.Instance) { in.Diverged = true })
}

func crashing(i, times int) edit {
	return pod(i, func(p *memgraph.Pod) { p.Ready, p.Crashes = false, times })
}

// unlisted takes pod i's registration away.
func unlisted(i int) edit {
	return func(s *memgraph.Snapshot) {
		name := memgraph.ReplicaName(memgraph.PodName("mg", i))
		main := &s.Pods[0].Instance
		main.Replicas = slices.DeleteFunc(main.Replicas, func(r memgraph.Replica) bool { return r.Name == name })
	}
}

// stranger has MAIN list pod i as invalid for so long.
func stranger(i int, since time.Duration) edit {
	return listed(i, func(r *memgraph.Replica) {
		r.Status, r.InvalidSince = memgraph.StatusInvalid, now.Add(-since)
	})
}

func database(i int, id string) edit {
	return instance(i, func(in *memgraph.Instance) { in.Storage.Database = id })
}

// ordered is an order to pod i that was given so long ago, to the incarnation uid.
func condemned(i int, uid string, ago time.Duration) edit {
	return record(func(t *memgraph.Topology) {
		t.Reseed = &memgraph.Reseed{Pod: memgraph.PodName("mg", i), UID: uid, Reason: "it was useless", Since: now.Add(-ago)}
	})
}

func TestReseed(t *testing.T) {
	scaled := func(s *memgraph.Snapshot) { s.Wanted = 2 }
	for _, c := range []decision{
		{"a replica has diverged", healthy(auto, diverged(2)), BeginReseed, "mg-0", "mg-2 has diverged"},
		{"a replica has diverged, but an operator decides", healthy(diverged(2)), Nothing, "", "as the record says"},
		{"a replica has diverged, and nobody protects MAIN", healthy(auto, diverged(2), noPartner, unlisted(1)), BeginReseed, "mg-0", "mg-2 has diverged"},
		{"a replica has diverged, and the partner is not in sync yet", healthy(auto, diverged(2), notInSync, unlisted(1)), Nothing, "", "not in sync yet"},
		{"a replica has diverged from a MAIN that is empty", healthy(auto, diverged(2), vertices(0, 0)), Nothing, "", ""},
		{"a replica has diverged and is going", healthy(auto, diverged(2), terminating(2)), Nothing, "", ""},
		{"the partner has diverged: first it is none", healthy(auto, diverged(1)), LosePartner, "mg-0", ""},
		{"MAIN is marked as diverged from another", healthy(auto, diverged(0)), Nothing, "", ""},

		{"a replica is broken", healthy(auto, broken(2)), BeginReseed, "mg-0", "the database of mg-2 is broken"},
		{"a replica is broken, but an operator decides", healthy(broken(2)), Nothing, "", "as the record says"},
		{"the partner is broken: first it is none", healthy(auto, broken(1)), LosePartner, "mg-0", "the database of partner mg-1 is broken"},
		{"MAIN is broken", healthy(auto, broken(2), broken(0), notInSync), Blocked, "", ""},

		{"a crash loop", healthy(auto, crashing(2, crashLoop)), BeginReseed, "mg-0", "crashed 5 times"},
		{"a few crashes", healthy(auto, crashing(2, crashLoop-1)), Nothing, "", ""},
		{"a crash loop beside an unprotected MAIN", healthy(auto, crashing(2, crashLoop), noPartner, unlisted(1)), Nothing, "", ""},

		{"another database", healthy(auto, stranger(2, time.Minute)), BeginReseed, "mg-0", "another database"},
		{"another database, for a moment", healthy(auto, stranger(2, time.Second)), Nothing, "", ""},
		{"another database, of a process that has just begun", healthy(auto, stranger(2, time.Minute), instance(2, func(i *memgraph.Instance) {
			i.Since = now.Add(-time.Second)
		})), Nothing, "", ""},
		{"another database, of a pod to which the registration does not lead", healthy(auto, stranger(2, time.Minute), pod(2, func(p *memgraph.Pod) {
			p.IP, p.Host = "10.9.9.9", ""
		})), Nothing, "", ""},
		{"the same database, invalid", healthy(auto, stranger(2, time.Minute), database(2, "db-0")), Nothing, "", ""},
		{"a database that is not told", healthy(auto, stranger(2, time.Minute), database(2, "")), Nothing, "", ""},

		{"ordered, not replaced yet", healthy(auto, diverged(2), condemned(2, "uid-2", time.Hour)), Nothing, "", "is to be replaced"},
		{"ordered, away", healthy(auto, gone(2), condemned(2, "uid-2", time.Hour)), Nothing, "", "is to be replaced"},
		{"ordered, back and not registered", healthy(auto, unlisted(2), condemned(2, "old", time.Hour)), Nothing, "", "is starting empty"},
		{"ordered, back and in step", healthy(condemned(2, "old", time.Second)), EndReseed, "mg-0", "in step"},
		{"ordered, back with its data", healthy(auto, diverged(2), condemned(2, "old", time.Second)), Nothing, "", "is starting empty"},
		{"ordered, back with its data for long", healthy(auto, diverged(2), condemned(2, "old", 2*reseedAgain)), BeginReseed, "mg-0", "has diverged"},
		{"ordered, back and in a crash loop still", healthy(auto, crashing(2, crashLoop), reached(2, memgraph.Refused), condemned(2, "old", time.Hour)), Nothing, "", "is starting empty"},
		{"ordered, back, in a crash loop still, and answers for a moment", healthy(auto, crashing(2, crashLoop), unlisted(2), condemned(2, "old", time.Hour)), Nothing, "", "is starting empty"},
		{"ordered, back, in a crash loop still, and in step for a moment", healthy(auto, crashing(2, crashLoop), condemned(2, "old", time.Hour)), Nothing, "", "is starting empty"},
		{"ordered a minute ago by a clock that is ahead, back with its data", healthy(auto, diverged(2), condemned(2, "old", -2*reseedAgain)), BeginReseed, "mg-0", "has diverged"},
		{"ordered just now by a clock that is ahead, back with its data", healthy(auto, diverged(2), condemned(2, "old", -30*time.Second)), Nothing, "", "is starting empty"},
		{"ordered, and MAIN is gone", healthy(auto, gone(0), noPartner, diverged(2), condemned(2, "old", 0)), EndReseed, "mg-0", "mg-2 keeps the data"},
		{"ordered, and MAIN is gone, whose partner has all", healthy(auto, gone(0), diverged(2), condemned(2, "old", 0)), Failover, "mg-1", "is in sync"},
		{"ordered, and no longer asked for", healthy(auto, scaled, gone(2), condemned(2, "old", 0)), EndReseed, "mg-0", "no longer asked for"},
		{"ordered, and it is MAIN by now", healthy(auto, condemned(0, "old", 0)), EndReseed, "mg-0", "it keeps the data"},
		{"ordered, and it is in sync by now", healthy(auto, condemned(1, "old", 0)), EndReseed, "mg-0", "it keeps the data"},
		{"one at a time", healthy(auto, diverged(1), noPartner, condemned(2, "uid-2", 0), diverged(2)), Nothing, "", "mg-2 is to be replaced"},

		{"MAIN is dead", healthy(auto, diverged(2), gone(0), notInSync), Blocked, "", ""},
		{"MAIN is silent", healthy(auto, diverged(2), reached(0, memgraph.Silent)), Waiting, "", ""},
	} {
		t.Run(c.name, c.check)
	}
}

func TestAnOperatorReseeds(t *testing.T) {
	order := func(pod string) edit {
		return record(func(t *memgraph.Topology) {
			t.Order = &memgraph.Order{Verb: memgraph.OrderReseed, Argument: pod, Request: "r"}
		})
	}
	protecting := record(func(t *memgraph.Topology) {
		t.Phase, t.InSync = memgraph.Protecting, false
		t.Pending = &memgraph.Pending{Kind: "assign-partner", Reason: "because", Started: now}
	})
	for _, c := range []decision{
		{"a replica that is well", healthy(order("mg-2")), BeginReseed, "mg-0", "an operator asked"},
		{"a replica that does not answer", healthy(order("mg-2"), silent(2, time.Hour)), BeginReseed, "mg-0", "an operator asked"},
		{"a partner that is not in sync", healthy(order("mg-1"), notInSync), BeginReseed, "mg-0", "an operator asked"},
		{"the partner in sync", healthy(order("mg-1")), Reply, "mg-0", "mg-1 is in sync"},
		{"MAIN", healthy(order("mg-0")), Reply, "mg-0", "mg-0 is MAIN"},
		{"while paused", healthy(order("mg-2"), record(func(t *memgraph.Topology) { t.Paused = &memgraph.Pause{} })), Reply, "mg-0", "resume first"},
		{"no pod", healthy(order("mg-9")), Reply, "mg-0", `no pod "mg-9"`},
		{"a second one", healthy(order("mg-2"), condemned(1, "uid-1", 0), noPartner), Reply, "mg-0", "one at a time"},
		{"beside a silent MAIN", healthy(order("mg-2"), silent(0, time.Second)), Reply, "mg-0", "does not answer as MAIN"},
		{"beside a MAIN that has restarted", healthy(order("mg-2"), restarted(0)), Reply, "mg-0", "does not answer as MAIN"},
		{"beside an empty MAIN", healthy(order("mg-2"), vertices(0, 0)), Reply, "mg-0", "not known to hold any data"},
		{"while a partner is registered", healthy(order("mg-2"), protecting), Reply, "mg-0", "Protecting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.check(t)
			p := Decide(c.s)
			require.Nil(t, p.Record.Order, "it is answered")
			outcome := memgraph.OutcomeRefused
			if c.kind == BeginReseed {
				outcome = memgraph.OutcomeDone
			}
			assert.Equal(t, outcome, p.Record.Answers[0].Outcome)
			assert.Equal(t, c.kind == BeginReseed, p.Record.Reseed != nil && c.s.Topology.Reseed == nil)
		})
	}
}

// Whatever is wrong with a cluster: invariant 8.
func TestNobodyIsReseededWhoIsNeeded(t *testing.T) {
	wrong := map[string]func(i int) edit{
		"well":      func(int) edit { return func(*memgraph.Snapshot) {} },
		"diverged":  diverged,
		"crashing":  func(i int) edit { return both(crashing(i, crashLoop), reached(i, memgraph.Refused)) },
		"stranger":  func(i int) edit { return stranger(i, time.Hour) },
		"empty":     func(i int) edit { return vertices(i, 0) },
		"broken":    broken,
		"gone":      gone,
		"wrongMain": func(i int) edit { return role(i, memgraph.RoleMain) },
	}
	records := map[string]edit{
		"in sync":      func(*memgraph.Snapshot) {},
		"not in sync":  notInSync,
		"no partner":   noPartner,
		"ordered":      condemned(2, "uid-2", time.Hour),
		"ordered MAIN": condemned(0, "uid-0", time.Hour),
	}
	begun := 0
	for name, s := range combined(wrong, records) {
		p := Decide(s)
		if p.Kind != BeginReseed {
			continue
		}
		begun++
		order := p.Record.Reseed
		assert.NotEqual(t, s.Topology.Main.Pod, order.Pod, name)
		assert.False(t, s.Topology.InSync && order.Pod == s.Topology.Partner.Pod, name)
		assert.Nil(t, s.Topology.Reseed, name)
		main, _ := s.Main()
		assert.Positive(t, main.Instance.Storage.Vertices, name)
		_, stands := p.Record.StartsEmpty(order.Pod)
		assert.True(t, stands, name)
		next := s.Topology
		next.Reseed = order
		assert.Equal(t, next, p.Record, "nothing else changes")
	}
	assert.Positive(t, begun)
}

// combined has something wrong with each pod of every record, in all combinations.
func combined(wrong map[string]func(int) edit, records map[string]edit) iter.Seq2[string, memgraph.Snapshot] {
	names := slices.Sorted(maps.Keys(wrong))
	return func(yield func(string, memgraph.Snapshot) bool) {
		for recorded, r := range records {
			for n := range len(names) * len(names) * len(names) {
				zero, one, two := names[n%len(names)], names[n/len(names)%len(names)], names[n/len(names)/len(names)]
				s := healthy(auto, wrong[zero](0), wrong[one](1), wrong[two](2), r)
				if !yield(fmt.Sprintf("%s: %s %s %s", recorded, zero, one, two), s) {
					return
				}
			}
		}
	}
}
