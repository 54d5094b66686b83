// Package sim plays failures against the real decisions: failover's Decide and Execute
// and reconcile's Diff and Executor run in two controllers with gateways and a lease, amid
// a simulated API server, network, kubelet and fleet of Memgraphs, with clients that
// remember what was acknowledged. Time is virtual, and what surrounds the decisions
// mirrors package controller. Invariants that the tests refer to:
//
//  1. One seed is one schedule: it replays exactly.
//  2. No acknowledged write is missing where the record, an open gateway or the end says
//     that it is there (G1). Lost is only what every copy was lost of.
//  3. No write is acknowledged by one pod after gateways have opened to another, and
//     they open only to the MAIN of the generation (G2, G3).
//  4. Generations grow, each has one MAIN, no role changes before the record says so, and
//     nobody acts without the lease (G4).
//  5. What is due is taken up at once, and what is urgent done in 6.8 s (G5); a pass over a
//     pod waits for that, MAIN and the API server only, and whoever has the turn on MAIN
//     for MAIN only (G7). Time for which a process stands still does not count.
//  6. With the API server away roles change within the lease, and as is recorded. No gateway
//     closes to a MAIN that it reaches, and clients are held as isolated where that has not
//     shown for the grace that it was not replaced, and nowhere else (G8).
//  7. Once faults stop the cluster settles: one MAIN, all pods in step with it that have not
//     diverged, and a partner; or Blocked, with a lost volume (G6).
//  8. Deliberate bugs are found.
//
// A pause falls between any two awaits, but not between the check of the lease and the
// sending of a statement, which nothing could fence. Snapshots, the loss of a log's tail with
// a node, and the deletion of a record whose generation no Lease tells of are not modelled.
package sim
