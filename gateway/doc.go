// Package gateway carries client connections to the current MAIN, and parks
// them while there is none. Every controller replica runs one, leader or not.
//
// It is told where clients belong by Serve, from several sources that may lag and
// repeat, and believes none of them before the named process has answered for
// itself on a control link. Invariants that the tests refer to:
//
//  1. Client bytes go only to a process that answered "main", with the wanted
//     run_id, in the highest generation seen.
//  2. That generation never goes back, and in one generation naming the process
//     outranks naming its address.
//  3. A relay whose process is no longer the verified MAIN is cut.
//  4. Serve waits for no peer, and no peer slows down another.
//  5. Everything is bounded: sessions, parked ones, time at each step.
//  6. A client that must be refused learns why in Bolt, with a code that every
//     driver retries, since nothing it asked for was begun.
//  7. When Run has returned, no goroutine and no connection is left.
//
// It does not choose a MAIN, read the record, or look into the bytes it relays:
// a client's first 20 are all it reads.
package gateway
