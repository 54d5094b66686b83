// Package bolt is the Bolt wire once: handshake, chunking, PackStream and the
// messages of versions 4.3, 4.4 and 5.2, the ones Memgraph speaks.
//
// It is pure: it reads and writes what others have opened, owns no socket, sets
// no deadline and starts no goroutine. Whoever owns the connection bounds it.
//
// Invariants that the tests refer to:
//
//  1. ParseMessage of what AppendMessage wrote is the message that went in.
//  2. No input makes a decoder panic, recurse deeper than maxDepth, or allocate
//     more than a small multiple of the bytes it was given.
//  3. Reader never holds more than its limit of one message in memory.
//
// Sources: Neo4j's Bolt and PackStream specifications (bolt handshake, message
// and server-state pages), and the bytes a real Memgraph 3.7.2 and 3.12.0 sent.
package bolt
