// Package process starts processes that cannot outlive the one that started
// them.
//
// Invariants that the tests refer to:
//
//  1. However the starting process ends, also by SIGKILL, the kernel kills what
//     it started (parent-death signal).
//  2. After Close nothing that was started runs any more.
//  3. A signal reaches the process it was meant for, never a later one with the
//     same number.
//
// It does not restart anything and keeps no output: that goes to a file.
package process
