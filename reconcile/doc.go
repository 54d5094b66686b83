// Package reconcile brings replication from how it was observed to how the
// record wants it: every reachable pod follows MAIN, the partner synchronously
// and the others asynchronously, and what leads nowhere is not registered.
//
// Diff is pure: a snapshot in, steps out. Execute applies them, pods in parallel
// and the steps on one pod in order, each pod within PodTimeout and behind its
// own circuit breaker. Ready is pure too: what a pod's readiness gate is to say.
//
// Invariants that the tests refer to:
//
//  1. Diff of a cluster that is as the record wants it is empty, and Diff after
//     its own steps were applied comes to that.
//  2. No step is made about MAIN's role, and none at all unless the recorded
//     MAIN has itself answered as MAIN.
//  3. A registration is dropped only where Memgraph survives it: it is a ghost,
//     or the replica lives and is ready, or its process is gone and MAIN has
//     noticed.
//  4. A MAIN without data registers nobody who holds some, and the partner is
//     left alone while the record calls it in sync.
//  5. A pod that is not fit costs no call, and a slow one delays no other.
//
// It never changes the record: that is the urgent lane's, to which the observed
// state is a proposal.
package reconcile
