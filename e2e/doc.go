// Package e2e times whole failovers, as those who depend on them see them: a
// real API server, the shipped manifests, the real controller as a Deployment of
// two, one process for each Memgraph, and clients that write through the
// gateways with the real Neo4j driver all the while.
//
// Lab is such an installation, for the tests and the demo. What is measured is
// measured from outside: deletion and record by a watch of the lab's own, the
// gateway by fresh connections through it, the gap by writers.
//
// Invariants that the tests refer to:
//
//  1. A write that was acknowledged is there at the end.
//  2. No client is ever told "Write queries are forbidden".
package e2e
