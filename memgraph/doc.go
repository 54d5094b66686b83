// Package memgraph says what Memgraph is: roles, replicas, the statements that
// administer replication and what they answer, its errors, and the clients that
// ask. It also holds the two values that every decision is made of: Snapshot,
// the cluster as it was seen, and Topology, the cluster as it was decided.
//
// Invariants that the tests refer to:
//
//  1. A statement is sent in auto-commit and its result is consumed: Memgraph
//     executes at PULL, and refuses replication statements in transactions.
//  2. A role is read before it is changed and again after a change that failed,
//     since a failed statement may have taken effect.
//  3. No caller waits past its context, and no statement is sent after it. What goes on
//     is bounded and of use to the next caller: a login, and the wait for the answer to
//     a question. A connection that a change missed its deadline on is not used again.
//
// Texts of the server are matched in errors.go and nowhere else.
//
// It decides nothing and knows nothing of Kubernetes. Client is built on the
// Neo4j driver; Prober speaks Bolt itself (memgraph/bolt), because the driver
// drops the run_id that tells a restarted instance from the one it replaced.
package memgraph
