package gateway

import (
	"hash/maphash"
	"sync/atomic"

	"memgraph-controller/memgraph/bolt"
)

// keepCapacity, in bytes, is what a journal keeps allocated between units: the
// usual statement with its parameters, and little for an idle session.
const keepCapacity = 4 << 10

// budget bounds what all journals hold together, in bytes.
type budget struct {
	limit int64
	used  atomic.Int64
}

func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) <= b.limit {
		return true
	}
	b.give(n)
	return false
}

func (b *budget) give(n int) { b.used.Add(int64(-n)) }

// journal holds the requests of a unit: those not sent yet, and, as long as the
// limits allow, those sent, for they may have to be sent again.
type journal struct {
	limit  int // of one journal, in bytes
	budget *budget

	b      []byte
	sent   int  // of b, on the present connection
	taken  int  // from the budget
	broken bool // something that was sent is missing
	pieces bool // of what is missing, some commits in pieces
}

// add takes m, a message or the next part of one. Beyond the limits what was
// sent already is forgotten; only what was not must be kept, and is little.
func (j *journal) add(m []byte) {
	if !j.broken && (len(j.b)+len(m) > j.limit || !j.budget.take(len(m))) {
		j.forget()
	}
	if j.broken {
		j.pieces = j.pieces || inPieces.Match(statementIn(m))
	} else {
		j.taken += len(m)
	}
	j.b = append(j.b, m...)
}

// forget gives up on sending again what was sent.
func (j *journal) forget() {
	j.pieces = j.piecemeal()
	j.broken = true
	j.budget.give(j.taken)
	j.taken = 0
	j.b = append(j.b[:0:0], j.b[j.sent:]...)
	j.sent = 0
}

// piecemeal reports whether the unit has a statement that commits in pieces.
func (j *journal) piecemeal() bool {
	if j.broken {
		return j.pieces
	}
	for b := j.b; len(b) > 0; {
		size, _ := bolt.Scan(b)
		if size == 0 { // only the front of it is here
			size = len(b)
		}
		if inPieces.Match(statementIn(b[:size])) {
			return true
		}
		b = b[size:]
	}
	return false
}

// statementIn is the query's text in m, a message or its first part; nil if it has
// none.
func statementIn(m []byte) []byte {
	text, _ := bolt.Text(m[min(4, len(m)):]) // a chunk's header, the structure's mark, the tag
	return text
}

// unsent is what is due on the connection; sending says how much of it went.
func (j *journal) unsent() []byte { return j.b[j.sent:] }

func (j *journal) sending(n int) {
	if j.sent += n; j.broken && j.sent == len(j.b) {
		j.b, j.sent = j.b[:0], 0
	}
}

// discard drops what is unsent and cannot be sent.
func (j *journal) discard() {
	j.forget()
	j.b = j.b[:0]
}

// rewind has all of it sent again, on another connection.
func (j *journal) rewind() { j.sent = 0 }

// next is the first whole message that is unsent, nil if there is none.
func (j *journal) next() []byte {
	n, _ := bolt.Scan(j.unsent())
	return j.unsent()[:n]
}

// clear is the end of the unit.
func (j *journal) clear() {
	j.budget.give(j.taken)
	b := j.b[:0]
	if cap(b) > keepCapacity {
		b = nil
	}
	*j = journal{limit: j.limit, budget: j.budget, b: b}
}

// prints is what the client has seen of a unit, in so far as it must not differ
// when the unit is run again: rows as they are, and of summaries what depends on
// the data. Times, plans and the process's identity do not.
type prints struct {
	hash  maphash.Hash
	count int64 // of messages
	seen  bool  // rows, or what a statement did
}

// compared are the keys of a summary that are part of the prints.
var compared = []string{"fields", "qid", "has_more", "stats", "type"}

// rows adds count whole records.
func (p *prints) rows(b []byte, count int64) {
	_, _ = p.hash.Write(b) // never fails
	p.count += count
	p.seen = p.seen || count > 0
}

// summary adds the answer to a.
func (p *prints) summary(payload []byte, a ask) {
	p.count++
	p.seen = p.seen || a == askPull
	_ = p.hash.WriteByte(payload[min(1, len(payload)-1)]) // its tag; never fails
	for _, key := range compared {
		_, _ = p.hash.Write(bolt.Lookup(payload, key)) // never fails
		_ = p.hash.WriteByte(0)                        // never fails
	}
}

// again is an empty one to compare with.
func (p *prints) again() *prints {
	other := &prints{}
	other.hash.SetSeed(p.hash.Seed())
	return other
}

func (p *prints) equal(other *prints) bool {
	return p.count == other.count && p.hash.Sum64() == other.hash.Sum64()
}

func (p *prints) clear() {
	p.hash.Reset()
	p.count, p.seen = 0, false
}
