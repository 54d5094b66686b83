// Package datadir knows a Memgraph's data directory from outside: what shows that
// it holds data, who uses it, and how it is moved aside for an instance to start
// empty. It is used where no Memgraph runs, before one is started.
//
// Invariants that the tests refer to:
//
//  1. Nothing is deleted but the oldest copies that were moved aside, once there
//     are more than are to be kept.
//  2. A directory is moved as a whole, by one rename, or stays as it is.
//  3. One order moves a directory aside once, however often it is repeated.
//  4. The directory of a Memgraph that runs is left alone.
//
// It does not look into the data, and starts no process.
package datadir
