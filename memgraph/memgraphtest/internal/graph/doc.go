// Package graph is the stand-in's data: nodes with labels and properties, read
// and written by transactions under snapshot isolation.
//
// Invariants that the tests refer to:
//
//  1. A transaction sees what was committed when it began, and its own writes.
//  2. Of two transactions that write the same node, the second to write fails
//     with ErrConflict if the first is still open or committed after the second
//     began.
//  3. What no open transaction can see any more is not kept.
//  4. Applying a transaction's Writes to a copy of the data it began with gives
//     the data it left.
//
// Relationships, indexes and constraints are not modelled. The clock in here
// orders transactions of one instance; the timestamps that replication compares
// are the caller's business.
package graph
