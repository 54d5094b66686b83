package memgraph

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Ports on which an instance listens.
const (
	// BoltPort is Memgraph's default for clients (--bolt-port).
	BoltPort = 7687
	// ReplicationPort is where a replica listens for its MAIN; it is Memgraph's
	// default for REGISTER without a port.
	ReplicationPort = 10000
)

// Role of an instance in replication, as SHOW REPLICATION ROLE spells it.
type Role string

// Roles; RoleUnknown is the zero value and means that nobody has asked yet.
const (
	RoleUnknown Role = ""
	RoleMain    Role = "main"
	RoleReplica Role = "replica"
)

// SyncMode of a registration, as SHOW REPLICAS spells it.
type SyncMode string

// Sync modes. A commit on MAIN waits for Sync replicas and stays even if one
// does not confirm; with StrictSync (Memgraph 3.5) it is aborted instead.
const (
	Async      SyncMode = "async"
	Sync       SyncMode = "sync"
	StrictSync SyncMode = "strict_sync"
)

// Synchronous reports whether a commit waits for a replica of this mode.
func (m SyncMode) Synchronous() bool { return m == Sync || m == StrictSync }

// ReplicaStatus is MAIN's view of a replica, from SHOW REPLICAS.
type ReplicaStatus string

// Statuses. A replica that was killed stays StatusReady for up to 3 s; one whose
// registration failed has StatusNone, and never heals.
const (
	StatusNone        ReplicaStatus = ""
	StatusReady       ReplicaStatus = "ready"
	StatusReplicating ReplicaStatus = "replicating"
	StatusRecovery    ReplicaStatus = "recovery"
	StatusInvalid     ReplicaStatus = "invalid"
	StatusDiverged    ReplicaStatus = "diverged"
)

// Replica is one row of SHOW REPLICAS.
type Replica struct {
	Name    string
	Address string // host:port as it was registered
	Mode    SyncMode
	Status  ReplicaStatus
	// Timestamp is the replica's last durable one, as MAIN last learnt it.
	Timestamp int64
	// Behind is that timestamp less MAIN's: negative while the replica lacks
	// commits. Its unit is timestamps, about two for every commit.
	Behind int64
	// InvalidSince is since when MAIN calls it invalid and has learnt nothing of it, and
	// Evicted the UID of the pod that has been deleted since for MAIN to let go of it,
	// if any; whoever keeps lists sets them.
	InvalidSince time.Time
	Evicted      string
}

// Ghost reports whether this is what a failed REGISTER leaves: it occupies the
// name, protects nothing and never heals. Only DROP removes it.
func (r Replica) Ghost() bool { return r.Status == StatusNone }

// nearBehind is how many commits a replica catches up on without anybody
// noticing: each takes tens of microseconds.
const nearBehind = 1000

// Near reports whether the replica is connected, and holds all that MAIN has
// committed but for a few. Under load an async one goes in and out of recovery.
func (r Replica) Near() bool {
	connected := r.Status == StatusReady || r.Status == StatusReplicating || r.Status == StatusRecovery
	return connected && r.Behind >= -nearBehind
}

// Busy reports whether MAIN is sending the replica anything. DROP of one that
// recovers kills MAIN (observed on 3.7.2 and 3.12.0).
func (r Replica) Busy() bool { return r.Status == StatusRecovery || r.Status == StatusReplicating }

// InStep reports whether the replica holds all that MAIN has committed.
func (r Replica) InStep() bool { return r.Status == StatusReady && r.Behind >= 0 }

// Registration is what REGISTER REPLICA asks for.
type Registration struct {
	Name    string
	Mode    SyncMode
	Address string // host:port of the replica's replication server
}

// ReplicaName is the name under which pod is registered. Memgraph's identifiers
// take no hyphen.
func ReplicaName(pod string) string { return strings.ReplaceAll(pod, "-", "_") }

// Version of a Memgraph, from SHOW VERSION. The zero value is unknown.
type Version struct{ Major, Minor, Patch int }

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Known reports whether the version was read.
func (v Version) Known() bool { return v != Version{} }

// StrictSync reports whether STRICT_SYNC can be relied on: it exists since 3.5,
// and its visibility and recovery faults were mended in 3.8 (memgraph #3504,
// #3594, #3595, #3628).
func (v Version) StrictSync() bool { return v.Major > 3 || v.Major == 3 && v.Minor >= 8 }

// ParseVersion reads "3.12.0"; what follows a third number ("+1~ab", "-rc1") is
// ignored.
func ParseVersion(s string) (Version, error) {
	parts := strings.SplitN(s, ".", 3)
	var n [3]int
	for i, p := range parts {
		if i == 2 {
			p = p[:len(p)-len(strings.TrimLeft(p, "0123456789"))]
		}
		v, err := strconv.Atoi(p)
		if err != nil {
			return Version{}, fmt.Errorf("parse version %q: %w", s, err)
		}
		n[i] = v
	}
	return Version{Major: n[0], Minor: n[1], Patch: n[2]}, nil
}

// StorageInfo is what SHOW STORAGE INFO tells of the data.
type StorageInfo struct {
	Vertices int64
	// Database is the data set's UUID; "" before 3.5, where it is not told.
	Database string
	// Broken says that the data could not be recovered: the instance runs without it,
	// and refuses queries (3.12, --storage-allow-recovery-failure).
	Broken bool
}
