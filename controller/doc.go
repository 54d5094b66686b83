// Package controller watches one Memgraph StatefulSet and its record, routes
// what it sees into two lanes, and while it leads lets failover and reconcile
// decide and act on it.
//
// Every replica watches, and tells its gateway of the record; only the leader
// works. Its work is a term: two queues and their workers, which exist while the
// lease is held and have all ended before it is given up.
//
// Invariants that the tests refer to:
//
//  1. Event handlers classify and enqueue; they never block and never decide.
//  2. Only the urgent lane writes the record, always by compare-and-set on the
//     version that was decided on; a conflict is decided anew, never repeated.
//  3. Everything a term does ends with the leader's context, and everything the
//     routine lane does also with the generation it was decided in.
//  4. Nothing that the routine lane waits for delays the urgent lane.
//  5. A gateway is told of the newest record that was seen, in whatever order
//     watch and writes deliver.
package controller
