//go:build race

package failover

// stride: the race detector makes a decision five times as long, and each is one
// goroutine's anyway. Every seventh cluster is judged with it.
const stride = 7
