package failover

import (
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"memgraph-controller/memgraph"
)

// condition is what may be true of one pod, whatever the record says of it.
type condition struct {
	name string
	edit func(i int) edit
}

// conditions are those that a pod can be seen in. Each is put on top of a pod
// that answers as ever: as MAIN for the recorded MAIN, as replica for the others.
var conditions = []condition{
	{"as ever", func(int) edit { return func(*memgraph.Snapshot) {} }},
	{"a replica", func(i int) edit { return role(i, memgraph.RoleReplica) }},
	{"an empty MAIN", func(i int) edit { return both(role(i, memgraph.RoleMain), vertices(i, 0), listing(i)) }},
	{"MAIN", func(i int) edit { return role(i, memgraph.RoleMain) }},
	{"absent", gone},
	{"absent, its process alive", func(i int) edit { return both(gone(i), onlyMain(i, leftover(alive))) }},
	{"replaced, its old process alive", func(i int) edit { return both(replaced(i), onlyMain(i, leftover(alive))) }},
	{"created", pending},
	{"not asked", unknown},
	{"refusing", func(i int) edit { return reached(i, memgraph.Refused) }},
	{"silent", func(i int) edit { return silent(i, time.Second) }},
	{"silent for long", func(i int) edit { return silent(i, time.Minute) }},
	{"stuck", func(i int) edit { return stuck(i, memgraph.Hung) }},
	{"denying", func(i int) edit { return reached(i, memgraph.Denied) }},
	{"restarted as MAIN", func(i int) edit { return both(restarted(i), role(i, memgraph.RoleMain)) }},
	{"restarted as replica", restarted},
	{"wiped", func(i int) edit { return both(wiped(i), role(i, memgraph.RoleMain)) }},
	{"replaced, wiped", func(i int) edit { return both(replaced(i), wiped(i), role(i, memgraph.RoleMain)) }},
	{"an empty replica", func(i int) edit { return vertices(i, 0) }},
	{"broken", broken},
	{"terminating MAIN", func(i int) edit { return both(terminating(i), role(i, memgraph.RoleMain)) }},
	{"terminating replica", terminating},
	{"terminating, silent", func(i int) edit { return both(terminating(i), silent(i, time.Second)) }},
	{"diverged", func(i int) edit { return instance(i, func(in *memgraph.Instance) { in.Diverged = true }) }},
	{"to rejoin", func(i int) edit { return instance(i, func(in *memgraph.Instance) { in.Rejoin = true }) }},
}

// records are what may have been decided before.
var records = map[string]edit{
	"in sync":                             func(*memgraph.Snapshot) {},
	"not in sync":                         notInSync,
	"no partner":                          noPartner,
	"switching":                           underWay(memgraph.Switching),
	"switching by order":                  switching,
	"failing over":                        underWay(memgraph.FailingOver),
	"protecting":                          protecting(1),
	"protecting by nobody":                both(protecting(1), noPartner),
	"none":                                none,
	"of a version that tells no database": untold,
	"MAIN at an address of nobody":        record(func(t *memgraph.Topology) { t.Main.IP = "10.9.9.9" }),
}

// lists are what the recorded MAIN may have said of its replicas.
var lists = map[string]edit{
	"as it should be": func(*memgraph.Snapshot) {},
	"not known":       instance(0, func(in *memgraph.Instance) { in.Replicas, in.ReplicasAt = nil, time.Time{} }),
	"old":             instance(0, func(in *memgraph.Instance) { in.ReplicasAt = now.Add(-time.Hour) }),
	"empty":           instance(0, func(in *memgraph.Instance) { in.Replicas = nil }),
	"recovering":      listed(1, func(r *memgraph.Replica) { r.Status = memgraph.StatusRecovery }),
	"all async":       listed(1, func(r *memgraph.Replica) { r.Mode = memgraph.Async }),
}

// onlyMain is e for the pod that the record names as MAIN.
func onlyMain(i int, e edit) edit {
	if i == 0 {
		return e
	}
	return func(*memgraph.Snapshot) {}
}

// listing has pod i say that it has no replicas.
func listing(i int) edit {
	return instance(i, func(in *memgraph.Instance) { in.Replicas, in.ReplicasAt = nil, now })
}

func both(edits ...edit) edit {
	return func(s *memgraph.Snapshot) {
		for _, e := range edits {
			e(s)
		}
	}
}

// Every cluster of two and of three pods, in all combinations of what its pods,
// its record and MAIN's list can be, is decided on without breaking a property
// of safe, and settles when the decisions are carried out.
func TestEverySmallClusterIsDecidedSafely(t *testing.T) {
	if stride > 1 {
		require.NotZero(t, len(conditions)%stride, "some conditions of the first pod would be left out")
	}
	var sets []clusters
	for _, size := range []int{2, 3} {
		for recorded := range records {
			for told := range lists {
				sets = append(sets, everyCondition(size, recorded, told))
			}
		}
	}
	all := judgeAll(t, sets)
	for _, kind := range []Kind{
		Nothing, Waiting, Blocked, Bootstrap, Adopt, Failover, Handover, Resume, Readopt, Restore,
		AssignPartner, ConfirmPartner, UnsyncPartner, LosePartner, CallOff, Revert,
	} {
		require.NotZero(t, all[kind], "no cluster calls for %s: the enumeration has a hole", kind)
	}
}

// clusters are some, with what describes each.
type clusters = iter.Seq2[func() string, memgraph.Snapshot]

// judgeAll judges sets of clusters, as many at a time as there are cores.
func judgeAll(t *testing.T, sets []clusters) tally {
	t.Helper()
	all := tally{}
	var mu sync.Mutex
	var workers errgroup.Group
	workers.SetLimit(runtime.GOMAXPROCS(0))
	for _, set := range sets {
		workers.Go(func() error {
			own := tally{}
			err := own.judge(set)
			mu.Lock()
			defer mu.Unlock()
			all.add(own)
			return err
		})
	}
	require.NoError(t, workers.Wait())
	t.Logf("%d clusters, decided: %v", all.clusters(), all)
	return all
}

// tally counts the plans for the clusters that were judged.
type tally map[Kind]int

func (n tally) judge(set clusters) error {
	for name, s := range set {
		p := Decide(s)
		if err := errors.Join(safe(s, p), settles(s), spares(s, p), obedient(s, p)); err != nil {
			return fmt.Errorf("%s: %w: %+v", name(), err, p)
		}
		n[p.Kind]++
	}
	return nil
}

func (n tally) add(other tally) {
	for kind, count := range other {
		n[kind] += count
	}
}

func (n tally) clusters() (sum int) {
	for _, count := range n {
		sum += count
	}
	return sum
}

// everyCondition yields all combinations of pods under one record and one list.
func everyCondition(size int, recorded, told string) clusters {
	base := []edit{lists[told], records[recorded]}
	if size == 2 {
		base = append(base, gone(2), func(s *memgraph.Snapshot) { s.Wanted = 2 })
	}
	return func(yield func(func() string, memgraph.Snapshot) bool) {
		for n := 0; n < power(len(conditions), size); n += stride {
			edits := slices.Clone(base)
			name := recorded + ", list " + told
			for i := range size {
				edits = append(edits, conditionOf(n, i).edit(i))
			}
			described := func() string {
				for i := range size {
					name += fmt.Sprintf(", mg-%d %s", i, conditionOf(n, i).name)
				}
				return name
			}
			if !yield(described, healthy(edits...)) {
				return
			}
		}
	}
}

// conditionOf is pod i's in the n-th combination.
func conditionOf(n, i int) condition {
	return conditions[n/power(len(conditions), i)%len(conditions)]
}

func power(base, exponent int) int {
	result := 1
	for range exponent {
		result *= base
	}
	return result
}

// safe returns which property p breaks in s.
//
//  1. A plan has a reason; an idle one has nothing else; any other a valid
//     record, to be written on the revision that was decided on.
//  2. The generation grows with a change of MAIN by exactly what is needed, and
//     stays in every other plan.
//  3. Who is promoted is the partner that the record calls in sync, in the same
//     process; or who the record calls MAIN, in a process that holds its data; or
//     the old MAIN of a switchover, in the same process; or whom an operator names.
//  4. While the recorded MAIN answers as MAIN, in the same process, with its data,
//     and is not about to end, nobody is promoted in its place but by a switchover.
//  5. Nobody is demoted but the MAIN that the change is from, if it answers so,
//     and the one that it is to, if that restarted since.
//  6. A change of MAIN begins without protection. inSync becomes true only for a
//     partner that answers, is fit, and that MAIN has listed lately.
//  7. Who holds no data is not made MAIN beside one that does, unless it is the
//     recorded database that simply is empty, or the process that was MAIN.
//  8. Nobody is registered who may hold what MAIN does not, or is broken.
//  9. Who is registered synchronously is the partner, and has nothing to catch up
//     on: it is neither diverged nor empty beside data, and has lost none.
//  10. Clients are held if and only if there are statements to be made, and MAIN
//     stays or changes as the record says.
//  11. Nobody becomes MAIN whose database is broken.
func safe(s memgraph.Snapshot, p Plan) error {
	if p.Reason == "" {
		return fmt.Errorf("1: no reason")
	}
	if p.Idle() {
		if p.Record.Generation != 0 || p.Promote != nil || p.Demote != nil || p.Register != nil {
			return fmt.Errorf("1: idle with something to do")
		}
		return nil
	}
	for _, property := range []func(memgraph.Snapshot, Plan) error{safeRecord, safePromotion, safeDemotion, safeSync, safeData, safeHold} {
		if err := property(s, p); err != nil {
			return err
		}
	}
	return nil
}

func safeRecord(s memgraph.Snapshot, p Plan) error {
	if err := p.Record.Validate(); err != nil {
		return fmt.Errorf("1: %w", err)
	}
	if p.Record.Revision != s.Topology.Revision {
		return fmt.Errorf("1: decided on %q, written on %q", s.Topology.Revision, p.Record.Revision)
	}
	want := s.Topology.Generation
	if p.ChangesMain() && !p.Written {
		want = max(s.Floor, s.Topology.Generation) + 1
	}
	if p.Record.Generation != want {
		return fmt.Errorf("2: generation %d, wanted %d", p.Record.Generation, want)
	}
	return nil
}

func safePromotion(s memgraph.Snapshot, p Plan) error {
	if p.Promote == nil {
		return nil
	}
	t := s.Topology
	isHeir := t.Phase == memgraph.Stable && t.InSync && p.Promote.UID == t.Partner.UID && p.Promote.Instance.RunID == t.Partner.RunID
	isRecorded := p.Promote.Index == t.Main.Index && (t.Main.Database == "" || p.Promote.Instance.Storage.Database == t.Main.Database)
	isReverted := p.Kind == Revert && p.Promote.Is(t.Pending.From)
	if !isHeir && !isRecorded && !isReverted && p.Kind != ForcedFailover {
		return fmt.Errorf("3: %s is promoted", p.Promote.Name)
	}
	if p.Promote.Instance.Reach != memgraph.Answered || p.Record.Main.RunID != p.Promote.Instance.RunID {
		return fmt.Errorf("3: %s is promoted without having answered", p.Promote.Name)
	}
	main, ok := s.Main()
	well := main.Answers(memgraph.RoleMain) && !main.Terminating && !main.Instance.Storage.Broken
	if ok && !t.Phase.ChangesMain() && main.Is(t.Main) && well && p.Kind != Switchover {
		return fmt.Errorf("4: %s is promoted while %s is well", p.Promote.Name, main.Name)
	}
	return nil
}

func safeDemotion(s memgraph.Snapshot, p Plan) error {
	from := s.Topology.Main
	if s.Topology.Phase == memgraph.Switching {
		from = s.Topology.Pending.From
	}
	begun := s.Topology.Phase != memgraph.Stable || p.Kind == ForcedFailover
	if p.Demote != nil && begun && p.Demote.UID == p.Promote.UID && !p.Demote.Is(s.Topology.Main) {
		return nil // demoted and promoted, it has an epoch of its own
	}
	if p.Demote != nil && (!p.Demote.Is(from) || !p.Demote.Answers(memgraph.RoleMain) || p.Promote == nil || p.Demote.UID == p.Promote.UID) {
		return fmt.Errorf("5: %s is demoted", p.Demote.Name)
	}
	return nil
}

func safeSync(s memgraph.Snapshot, p Plan) error {
	if p.ChangesMain() && p.Record.InSync {
		return fmt.Errorf("6: protected from the start")
	}
	if !p.Record.InSync || s.Topology.InSync {
		return nil
	}
	partner, _ := s.Pod(p.Record.Partner.Index)
	main, _ := s.Main()
	r, listed := s.Registration(main, partner)
	fresh := s.Now.Sub(main.Instance.ReplicasAt) <= patience
	if !partner.Is(p.Record.Partner) || !partner.Answers(memgraph.RoleReplica) || !listed || !r.Mode.Synchronous() || !r.InStep() || !fresh {
		return fmt.Errorf("6: %s is called in sync", partner.Name)
	}
	return nil
}

func safeData(s memgraph.Snapshot, p Plan) error {
	next, ok := s.Pod(p.Record.Main.Index)
	isHeir := s.Topology.InSync && next.UID == s.Topology.Partner.UID
	isOld := (p.Kind == CallOff || p.Kind == Revert) && next.Is(s.Topology.Pending.From)
	if p.ChangesMain() && ok && p.Kind != Resume && !isHeir && !isOld && emptyBesideData(s, next) {
		return fmt.Errorf("7: %s is empty", next.Name)
	}
	if p.ChangesMain() && ok && p.Kind != Resume && !isOld && next.Instance.Storage.Broken {
		return fmt.Errorf("11: the database of %s is broken", next.Name)
	}
	main := p.Promote
	if main == nil {
		main = p.Protect
	}
	for _, follower := range p.Register {
		pod := follower.Pod
		if pod.Index == main.Index || !pod.Fit() || memgraph.WouldEmpty(*main, pod) || pod.Instance.Storage.Broken {
			return fmt.Errorf("8: %s is registered", pod.Name)
		}
		lacksData := pod.Instance.Storage.Vertices == 0 && main.Instance.Storage.Vertices > 0
		if follower.Mode.Synchronous() && (pod.UID != p.Record.Partner.UID || pod.Instance.Diverged || pod.Instance.Rejoin || lacksData) {
			return fmt.Errorf("9: %s is registered %s", pod.Name, follower.Mode)
		}
	}
	return nil
}

func safeHold(s memgraph.Snapshot, p Plan) error {
	if p.Kind == Reply {
		return nil
	}
	if p.Record.Phase.ChangesMain() != (p.Promote != nil) || (p.Record.Phase == memgraph.Protecting) != (p.Protect != nil) {
		return fmt.Errorf("10: phase %s, to promote %v, to protect %v", p.Record.Phase, p.Promote, p.Protect)
	}
	if main, ok := s.Main(); p.Protect != nil && (!ok || p.Protect.UID != main.UID || !main.Answers(memgraph.RoleMain)) {
		return fmt.Errorf("10: %s is protected, and is not MAIN", p.Protect.Name)
	}
	return nil
}

// settles carries out what is decided, and what the instances then answer, until
// a decision changes nothing; it returns an error if that takes too long.
func settles(s memgraph.Snapshot) error {
	var made []Kind
	for range 6 {
		p := Decide(s)
		if p.Idle() {
			return nil
		}
		made = append(made, p.Kind)
		s = after(s, p)
	}
	return fmt.Errorf("it never settles: %v", made)
}

// after is s once p was carried out without a failure.
func after(s memgraph.Snapshot, p Plan) memgraph.Snapshot {
	s.Pods = slices.Clone(s.Pods)
	s.Topology, s.Floor = p.Record, max(s.Floor, p.Record.Generation)
	if p.Promote == nil && p.Protect == nil {
		return s
	}
	for i, pod := range s.Pods {
		switch {
		case p.Protect != nil && pod.UID == p.Protect.UID:
			s.Pods[i].Instance.Replicas = retired(pod, p.Register)
		case p.Demote != nil && pod.UID == p.Demote.UID:
			s.Pods[i].Instance.Role = memgraph.RoleReplica
		case p.Promote != nil && pod.UID == p.Promote.UID:
			s.Pods[i].Instance.Role = memgraph.RoleMain
			s.Pods[i].Instance.Replicas, s.Pods[i].Instance.ReplicasAt = nil, s.Now
		}
	}
	s.Topology.InSync = p.Protect != nil && len(p.Register) > 0
	s.Topology.Phase, s.Topology.Pending = memgraph.Stable, nil
	return s
}

// retired is main's list once its partner was replaced.
func retired(main memgraph.Pod, followers []Follower) []memgraph.Replica {
	var out []memgraph.Replica
	for _, r := range main.Instance.Replicas {
		if !inTheWay(r, followers) {
			out = append(out, r)
		}
	}
	for _, f := range followers {
		out = append(out, memgraph.Replica{
			Name: memgraph.ReplicaName(f.Pod.Name), Address: f.Pod.ReplicationAddr(), Mode: f.Mode, Status: memgraph.StatusReady,
		})
	}
	return out
}
