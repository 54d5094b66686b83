package memgraph

import "time"

// Reseed is the order to a pod to start without the data of the incarnation that
// it names. It stands in the record from before that is deleted until its
// successor follows MAIN, so that any leader finishes it.
type Reseed struct {
	Pod string `json:"pod"`
	// UID is the incarnation whose data is of no use.
	UID    string    `json:"uid"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
}

// StartsEmpty is the order that a pod which is about to start has to follow. It
// never is one for a pod that is MAIN or holds the only other copy, whoever asked
// for it.
func (t Topology) StartsEmpty(pod string) (r Reseed, ok bool) {
	if t.Reseed == nil || t.Reseed.Pod != pod || pod == t.Main.Pod || t.InSync && pod == t.Partner.Pod {
		return Reseed{}, false
	}
	if t.Pending != nil && pod == t.Pending.From.Pod {
		return Reseed{}, false // it may have to be MAIN again
	}
	return *t.Reseed, true
}

// Foreign reports whether p is known to hold another data set than main: it will
// not become a replica of main, and main lists it as invalid for ever. Source:
// Memgraph v3.12 dbms/inmemory/replication_handlers.cpp, which refuses heartbeats.
func Foreign(main, p Pod) bool {
	ours, theirs := main.Instance.Storage.Database, p.Instance.Storage.Database
	known := !main.Instance.StorageAt.IsZero() && !p.Instance.StorageAt.IsZero()
	return known && ours != "" && theirs != "" && ours != theirs
}
