package sim

import (
	mathbits "math/bits"
	"time"
)

// maxWrites bounds the writes of one schedule.
const maxWrites = 1024

// bits is a set of writes.
type bits [maxWrites / 64]uint64

func (b *bits) add(write int) { b[write/64] |= 1 << (write % 64) }

func (b *bits) has(write int) bool { return b[write/64]&(1<<(write%64)) != 0 }

func (b *bits) count() (n int) {
	for _, word := range b {
		n += mathbits.OnesCount64(word)
	}
	return n
}

// lacking is the least write of b that is in none of others; none if there is
// none.
func (b *bits) lacking(others ...*bits) int {
	for i, word := range b {
		for _, o := range others {
			word &^= o[i]
		}
		if word != 0 {
			return 64*i + mathbits.TrailingZeros64(word)
		}
	}
	return none
}

// ledger is what clients know.
type ledger struct {
	begun     int
	committed [maxWrites]time.Duration // when MAIN committed a write for good
	acked     bits                     // the writes that were acknowledged
	excused   bits                     // those whose loss is Memgraph's own
	forbidden int                      // refusals of a write because it was sent to a replica
}
