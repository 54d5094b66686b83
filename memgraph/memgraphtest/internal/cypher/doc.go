// Package cypher is the part of Memgraph's language that this project and its
// tests speak: the statements of replication and information, and queries made
// of MATCH, CREATE, MERGE, SET, DELETE, UNWIND and RETURN over nodes.
//
// Parse does what Memgraph does at RUN, and fails with the errors that arrive
// there; Run does what Memgraph does at PULL.
//
// Invariants that the tests refer to:
//
//  1. Columns are named by their alias or by the text of their expression.
//  2. A row passes all clauses before the next one starts, so that it sees what
//     earlier rows did. (Memgraph's MATCH does not, its MERGE does.)
//  3. Unknown is null: operators on null give null, WHERE wants true.
//
// Not modelled: relationships, WITH, OPTIONAL MATCH, REMOVE, CALL, labels set
// after creation, temporal and spatial values, and the lists of expected tokens
// in syntax errors. Sources: Memgraph v3.12 query/frontend and query/interpret.
package cypher
