// Package memgraphtest is a Memgraph for tests: a Community server that speaks
// Bolt, keeps nodes, and replicates them as versions 3.4 to 3.12 and the next do,
// with the answers, texts, locks, timers and defects of the real one. RunT starts
// one in the test's process; memgraphtest/memgraph is a process of its own.
//
// Invariants that the tests refer to:
//
//  1. A write that was acknowledged survives Crash and Restart.
//  2. A replica obeys only the MAIN that registered it last.
//  3. Histories diverge by Memgraph's rule, taken literally, so that its false
//     alarms appear by themselves.
//  4. A client that breaks the protocol gets Memgraph's answer, never a panic.
//
// The server's own locks (roles.lock, storage.engine, storage.access, systemLock)
// are held over I/O, because Memgraph holds them and much of its behaviour is that.
// Fields are guarded by small mutexes called mu, which never are.
//
// Not modelled: enterprise features, relationships, indexes, constraints, users but
// one, cost estimates, TLS between instances. Checked against recordings of Memgraph
// 3.7.2 and 3.12.0 (testdata), versions between and beside them against sources,
// which are cited as Memgraph's own files.
package memgraphtest
