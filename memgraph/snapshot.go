package memgraph

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Snapshot is the cluster as it was seen at one moment: a value without
// behaviour that does I/O, from which everything is decided.
type Snapshot struct {
	Now time.Time
	// Cluster is the StatefulSet's name; its pods are named after it.
	Cluster string
	// Wanted is how many pods the StatefulSet asks for.
	Wanted int
	// Topology is the record; its Generation is 0 where there is none, or where
	// it is damaged and has to be derived anew.
	Topology Topology
	// Floor is the highest generation ever seen here; a record that is derived
	// anew goes above it.
	Floor  int64
	Policy Policy
	// Pods are those that exist, by ordinal.
	Pods []Pod
	// Leftover is the process that was MAIN last, where its pod is gone and it may
	// not be: a pod that is deleted by force is gone from the API seconds before
	// its processes end, and they acknowledge writes until then.
	Leftover Pod
}

// Pod is one pod of the StatefulSet and the Memgraph in it.
type Pod struct {
	Name  string
	Index int
	UID   string
	IP    string // "" until the pod has one
	// Host is the stable DNS name, for registrations that outlive the IP.
	Host string
	// Container is the running container's ID; it changes with every restart.
	Container string
	// Running says that the kubelet reports the container as running.
	Running     bool
	Ready       bool
	Terminating bool
	// Restarts is how often the container was started anew, and Crashes how often
	// of these since it was last ready, as far as that was seen.
	Restarts, Crashes int
	Instance          Instance
}

// Instance is what a pod's Memgraph last said of itself, with the times of it.
type Instance struct {
	// Reach tells how the last attempt to ask ended, begun at Asked, and since
	// when attempts have ended so; the rest is from the last that was answered.
	Reach        Reach
	Asked, Since time.Time
	// Verdict is what a row of probes came to; only MAIN and partner are probed.
	Verdict Verdict
	Identity
	// Replicas are a MAIN's registrations, asked for at ReplicasAsked and told by
	// ReplicasAt; the zero time means that they are not known.
	Replicas                  []Replica
	ReplicasAsked, ReplicasAt time.Time
	// Storage is as of StorageAt; the zero time means that it is not known.
	Storage   StorageInfo
	StorageAt time.Time
	Version   Version
	// ListedAt is when the recorded MAIN last listed this process, Behind as how far
	// behind (see Replica), and NearAt when as holding all that it had committed, but
	// for a few; the zero time is never.
	ListedAt, NearAt time.Time
	Behind           int64
	Obstacles
}

// Obstacles are what keeps a process from following MAIN.
type Obstacles struct {
	// Diverged says that this process was refused as a replica of MAIN.
	Diverged bool
	// Rejoin says that MAIN may list this process by a registration from before
	// it lost its data, which only a new registration mends.
	Rejoin bool
	// DeafSince and DeafAt are when it was first and last found that nobody listens where
	// MAIN would look for this replica; zero where somebody did since.
	DeafSince, DeafAt time.Time
}

// Reach is how the last attempt to ask an instance ended.
type Reach string

// Reaches. Refused stands for two dials in a row that the host itself refused:
// the process is gone. Silent says nothing about the process: it may hang, be
// slow or be cut off.
const (
	NotAsked Reach = ""
	Answered Reach = "answered"
	Refused  Reach = "refused"
	Silent   Reach = "silent"
	Denied   Reach = "denied"
)

// Verdict is what a row of probes says of an instance.
type Verdict string

// Verdicts. Slow stands for answers that come late, or stay away while something
// else shows that the process lives. A Hung one has its connections accepted and
// answers none of them, an Unreachable one has not even that.
const (
	Unjudged    Verdict = ""
	Alive       Verdict = "alive"
	Slow        Verdict = "slow"
	Hung        Verdict = "hung"
	Refusing    Verdict = "refused"
	Unreachable Verdict = "unreachable"
	Locked      Verdict = "wrong credentials"
)

// Lost reports whether probes in a row found nothing that lives.
func (v Verdict) Lost() bool { return v == Hung || v == Unreachable }

// Stuck reports whether the instance is lost by the verdict of its probes, and did
// not answer when it was asked over another connection either.
func (p Pod) Stuck() bool { return p.Instance.Verdict.Lost() && p.Instance.Reach == Silent }

// Elapsed is the time since a leader wrote t into the record, by a clock that may not
// have been ours: one that is ahead is as wrong as one that is behind, and must not
// have anybody wait for it.
func (s Snapshot) Elapsed(t time.Time) time.Duration { return s.Now.Sub(t).Abs() }

// Pod returns the pod with the given ordinal.
func (s Snapshot) Pod(index int) (Pod, bool) {
	for _, p := range s.Pods {
		if p.Index == index {
			return p, true
		}
	}
	return Pod{}, false
}

// Main is the pod that the record names as MAIN, if it is the same pod still.
func (s Snapshot) Main() (Pod, bool) {
	p, ok := s.Pod(s.Topology.Main.Index)
	return p, ok && p.UID == s.Topology.Main.UID
}

// PodName is the name of a StatefulSet's pod with the given ordinal.
func PodName(cluster string, index int) string { return cluster + "-" + strconv.Itoa(index) }

// Addr is where the pod's Memgraph listens for Bolt.
func (p Pod) Addr() string { return net.JoinHostPort(p.IP, strconv.Itoa(BoltPort)) }

// ReplicationAddr is where the pod listens for its MAIN while it is a replica.
func (p Pod) ReplicationAddr() string { return net.JoinHostPort(p.IP, strconv.Itoa(ReplicationPort)) }

// HasAddress reports whether a registration's host:port leads to the pod as it
// is now, by its IP or by its stable name.
func (p Pod) HasAddress(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return false
	}
	return host == p.IP || p.Host != "" && sameName(host, p.Host)
}

// sameName holds for two forms of one name: "mg-1.mg", which a resolver's search
// path completes, "mg-1.mg.ns.svc", and with the cluster's domain behind it.
func sameName(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return a == b || strings.Contains(a, ".") && strings.HasPrefix(b, a+".")
}

// Member is this incarnation of the pod.
func (p Pod) Member() Member {
	return Member{
		Pod: p.Name, Index: p.Index, UID: p.UID, IP: p.IP,
		RunID: p.Instance.RunID, Database: p.Instance.Storage.Database,
	}
}

// Is reports whether p is the incarnation m: the same pod and, where both are
// known, the same process.
func (p Pod) Is(m Member) bool {
	if p.UID != m.UID {
		return false
	}
	return m.RunID == "" || p.Instance.RunID == "" || p.Instance.RunID == m.RunID
}

// Answers reports whether the pod's Memgraph answered when it was last asked,
// and as what.
func (p Pod) Answers(role Role) bool {
	return p.Instance.Reach == Answered && p.Instance.Role == role
}

// Fit reports whether work on the pod is worth a connection: Kubernetes holds
// it ready and is not about to end it.
func (p Pod) Fit() bool { return p.Ready && !p.Terminating && p.IP != "" }

// Registration is p's row in main's SHOW REPLICAS: the one with p's name or else,
// in a cluster that was set up by hand, one with p's address and a name that no
// pod claims.
func (s Snapshot) Registration(main, p Pod) (Replica, bool) {
	for _, r := range main.Instance.Replicas {
		if r.Name == ReplicaName(p.Name) {
			return r, true
		}
	}
	for _, r := range main.Instance.Replicas {
		if p.HasAddress(r.Address) && !s.Claimed(r) {
			return r, true
		}
	}
	return Replica{}, false
}

// Claimed reports whether r carries the name of a pod that the StatefulSet asks
// for, whether or not it exists at the moment.
func (s Snapshot) Claimed(r Replica) bool {
	for i := range s.Wanted {
		if r.Name == ReplicaName(PodName(s.Cluster, i)) {
			return true
		}
	}
	return false
}

// At is the pod that a registration leads to, whatever its name says.
func (s Snapshot) At(address string) (Pod, bool) {
	for _, p := range s.Pods {
		if p.HasAddress(address) {
			return p, true
		}
	}
	return Pod{}, false
}

// Droppable holds where MAIN survives DROP REPLICA of r, which depends on the
// process that r leads to: MAIN is known to freeze or crash over one that
// recovers, or that is silent with commits unsent. Source: observed on 3.7.2 and
// 3.12.0.
func (s Snapshot) Droppable(r Replica) bool {
	p, exists := s.At(r.Address)
	gone := !exists || p.Instance.Reach == Refused || p.Instance.Reach == NotAsked && !p.Running
	alive := exists && p.Instance.Reach == Answered
	switch r.Status {
	case StatusNone:
		return true
	case StatusReady, StatusDiverged:
		return alive
	case StatusInvalid:
		return gone
	}
	return false
}

// PartnerMode is what partner is to be registered with on main: as the policy says
// or else StrictSync where both run a version that has it, and Sync where not. ok is
// false while a version is not known.
func (s Snapshot) PartnerMode(main, partner Pod) (mode SyncMode, ok bool) {
	if !main.Instance.Version.Known() || !partner.Instance.Version.Known() {
		return "", false
	}
	strict := main.Instance.Version.StrictSync() && partner.Instance.Version.StrictSync()
	choice := s.Policy.SyncChoice
	if choice == ChooseStrictSync || choice != ChooseSync && strict {
		return StrictSync, true
	}
	return Sync, true
}

// List keeps what a MAIN that was asked at that time has told of its replicas. One
// whose timestamp grows is not lost: MAIN calls it invalid between two rounds in which
// it catches up, as long as others commit meanwhile.
func (i *Instance) List(replicas []Replica, asked, told time.Time) {
	for n := range replicas {
		r := &replicas[n]
		if r.Status != StatusInvalid {
			continue
		}
		r.InvalidSince = asked
		for _, before := range i.Replicas {
			if before.Name != r.Name || before.Status != StatusInvalid {
				continue
			}
			r.Evicted = before.Evicted
			if r.Timestamp <= before.Timestamp {
				r.InvalidSince = before.InvalidSince
			}
		}
	}
	i.Replicas, i.ReplicasAsked, i.ReplicasAt = replicas, asked, told
}

// Outdate has no list count any more that was asked for before at: its MAIN has been a
// replica since, or is about to be.
func (i *Instance) Outdate(at time.Time) {
	i.Replicas, i.ReplicasAsked, i.ReplicasAt = nil, at, time.Time{}
}

// Unlist has no list count any more that was asked for before at, and what was known
// of the replica of that name be forgotten: its registration has been changed.
func (i *Instance) Unlist(name string, at time.Time) {
	rest := slices.DeleteFunc(slices.Clone(i.Replicas), func(r Replica) bool { return r.Name == name })
	i.Replicas, i.ReplicasAsked, i.ReplicasAt = rest, at, time.Time{}
}

// NoteEvicted keeps that the pod behind the MAIN's replica of that name was deleted.
func (i *Instance) NoteEvicted(name, uid string) {
	i.Replicas = slices.Clone(i.Replicas)
	for n := range i.Replicas {
		if i.Replicas[n].Name == name {
			i.Replicas[n].Evicted = uid
		}
	}
}

// NoteListed keeps what the recorded MAIN, asked at that time, said of the process.
func (i *Instance) NoteListed(r Replica, asked time.Time) {
	i.ListedAt, i.Behind = asked, r.Behind
	if r.Near() {
		i.NearAt = asked
	}
}

// lostAge is how long MAIN calls a replica invalid before that counts as lasting:
// it tries to reach one every second, and notices in three.
const lostAge = 5 * time.Second

// Lost reports whether MAIN has called the replica invalid, and learnt nothing of it,
// for so long that it will not come back by itself. If its process lives it obeys
// another MAIN, or none: that of a MAIN which died amid REGISTER does.
func (s Snapshot) Lost(r Replica) bool {
	return r.Status == StatusInvalid && !r.InvalidSince.IsZero() && s.Now.Sub(r.InvalidSince) >= lostAge
}

// Forsaken reports whether MAIN has lost the process in p, to which its registration r
// leads. What MAIN says of one that has just begun may be of the one before: it looks
// again within a second.
func (s Snapshot) Forsaken(p Pod, r Replica) bool {
	return s.Lost(r) && p.HasAddress(r.Address) && s.Now.Sub(p.Instance.Since) >= lostAge
}

// Deaf reports whether nobody has listened for MAIN in p for so long that nobody will: a
// demotion that found its port taken leaves such a replica (observed on 3.7.2 and 3.12.0).
func (p Pod) Deaf() bool { return p.Instance.DeafAt.Sub(p.Instance.DeafSince) >= lostAge }

// nearAge is how long what a MAIN said of a replica stays true enough: it falls
// behind by what is committed meanwhile, seconds at most.
const nearAge = 5 * time.Second

// NearLately reports whether MAIN said in the last seconds that p holds nearly all.
func (s Snapshot) NearLately(p Pod) bool { return s.Now.Sub(p.Instance.NearAt) <= nearAge }

// CatchesUp reports whether p, registered on main, is in step within milliseconds:
// both hold nothing, or MAIN said lately that p holds nearly all, or has told us
// nothing of it: a new leader takes it for a replica like most. One that lost its
// data may be listed as ready and is not (observed on 3.12.0).
func (s Snapshot) CatchesUp(main, p Pod) bool {
	known := !main.Instance.StorageAt.IsZero() && !p.Instance.StorageAt.IsZero()
	if !known || p.Instance.Rejoin || p.Instance.Diverged || p.Instance.Storage.Broken {
		return false
	}
	if p.Instance.Storage.Vertices == 0 {
		return main.Instance.Storage.Vertices == 0
	}
	return p.Instance.ListedAt.IsZero() || s.NearLately(p)
}

// Awaited reports whether writes are to wait for the pod of that name, whatever
// became of it: it is the partner, by the policy to wait.
func (s Snapshot) Awaited(pod string) bool {
	return s.Policy.PartnerLoss == LossWaits && pod == s.Topology.Partner.Pod
}

// FirstMode is what p is to be registered with on main while it is not registered
// there. The partner is registered synchronously if that fails no writes, and else
// by way of async: MAIN's commits fail until a synchronous replica has caught up,
// but taking back an async registration under load can kill MAIN. One that writes are
// to wait for is so in any case.
func (s Snapshot) FirstMode(main, p Pod) SyncMode {
	partner := s.Topology.Partner
	if partner.None() || p.Index != partner.Index || !s.Awaited(p.Name) && !(p.Is(partner) && s.CatchesUp(main, p)) {
		return Async
	}
	if mode, known := s.PartnerMode(main, p); known {
		return mode
	}
	return Async
}

// WouldEmpty reports whether registering p on main could cost p's data, or that
// this is not known: Memgraph lets an empty MAIN empty whoever it registers
// (observed on 3.7.2 and 3.12.0). One whose database is broken runs empty.
func WouldEmpty(main, p Pod) bool {
	if main.Instance.StorageAt.IsZero() || p.Instance.StorageAt.IsZero() {
		return true
	}
	ours, theirs := main.Instance.Storage, p.Instance.Storage
	return ours.Broken || ours.Vertices == 0 && theirs.Vertices > 0
}
