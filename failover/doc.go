// Package failover decides whether MAIN changes, and to whom, and carries the
// decision out in its one safe order.
//
// Decide is total and pure: a snapshot in, a plan out, with the reason always
// set. Execute acts through small interfaces and holds no state, so that a plan
// which was interrupted anywhere is decided again from what is then seen.
//
// Invariants that the tests refer to:
//
//  1. The record is written, by compare-and-set, before any role changes.
//  2. Only a partner that the record calls in sync, in the same process as when
//     it was called so, is promoted.
//  3. The generation grows by one with every change of MAIN, and else stays.
//  4. inSync is false in every record that is written while protection is weaker
//     than it says.
//  5. An instance that holds nothing never becomes MAIN while another pod holds
//     data.
//  6. A plan for a cluster that is as its record says is Nothing.
//  7. An operator's order is answered in the write that begins it, and one that is
//     refused changes nothing.
//  8. Nobody is told to start empty who is MAIN or in sync with it, beside another
//     who is, or beside a MAIN without data.
package failover
