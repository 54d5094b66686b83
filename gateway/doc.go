// Package gateway carries client connections to the current MAIN, and parks
// them while there is none. Every controller replica runs one, leader or not.
//
// It is told where clients belong by Serve, from several sources that may lag and
// repeat, and believes none of them before the named process has answered for
// itself; by Expect, that they are held until Serve. A Bolt client keeps its
// connection when MAIN changes; what is no Bolt that the gateway knows is relayed
// as bytes. A second port carries clients to a replica in the same way; there,
// MAIN stands for who is read from. Invariants that the tests refer to:
//
//  1. Client bytes go only to a process that answered "main", with the wanted
//     run_id, in the highest generation seen.
//  2. That generation never goes back, and in one generation naming the process
//     outranks naming its address.
//  3. Nothing is sent to a process that is no longer the verified MAIN.
//  4. Serve waits for no peer, and no peer slows down another.
//  5. Everything is bounded: sessions, parked ones, memory, time at each step.
//  6. Whoever is told to try again may: nothing of that took effect, nor will.
//  7. When Run has returned, no goroutine and no connection is left.
//  8. Each request gets one summary, and no unit takes effect twice by our doing.
//  9. While Bolt clients are held, nothing is sent that could take effect.
//
// It does not choose a MAIN or read the record.
package gateway
