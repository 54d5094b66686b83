package failover

import "memgraph-controller/memgraph"

// Sign is what one look at an instance showed.
type Sign int

// Signs. Silence and Absence are questions that were not answered in time, put to
// somebody who accepts connections and to nobody. Noise is Silence that does not
// count: something else shows that the instance lives, as what clients get from it
// does and the word of another replica, or what it does for us keeps it from answering.
const (
	Answer Sign = iota
	LateAnswer
	Noise
	Silence
	Absence
	Refusal
	Denial
)

// composure is how many answers in a row, each in time, end a verdict other than
// Alive: one that comes and goes would be reported over and over.
const composure = 3

// Pulse is a verdict and what it rests on. The zero Pulse is that of an instance
// that nobody has looked at yet. It is a value: the next sign makes the next one.
type Pulse struct {
	Verdict         memgraph.Verdict
	answers, misses int // in a row
}

// After is the pulse after one more sign. So many misses in a row mean that the
// instance is lost; fewer change nothing, since an instance under load stays
// silent for a moment without being unwell.
//
//	sign              | verdict
//	Answer            | Alive if it was, or is the first or third of a row; else
//	                  | Slow where it was lost, and unchanged where it was not
//	LateAnswer, Noise | Slow
//	Silence, Absence  | unchanged, but Hung or Unreachable at the last of misses
//	Refusal           | Refusing
//	Denial            | Locked
func (p Pulse) After(s Sign, misses int) Pulse {
	next := Pulse{Verdict: p.Verdict}
	switch s {
	case Answer:
		next.answers = p.answers + 1
		next.Verdict = p.relieved(next.answers)
	case LateAnswer, Noise:
		next.Verdict = memgraph.Slow
	case Silence, Absence:
		next.misses = min(p.misses+1, misses)
		if next.misses == misses {
			next.Verdict = memgraph.Hung
		}
		if next.misses == misses && s == Absence {
			next.Verdict = memgraph.Unreachable
		}
	case Refusal:
		next.Verdict = memgraph.Refusing
	case Denial:
		next.Verdict = memgraph.Locked
	}
	return next
}

// relieved is the verdict after so many answers in a row.
func (p Pulse) relieved(answers int) memgraph.Verdict {
	switch {
	case answers >= composure, p.Verdict == memgraph.Unjudged:
		return memgraph.Alive
	case p.Verdict == memgraph.Alive || p.Verdict == memgraph.Slow:
		return p.Verdict
	}
	return memgraph.Slow
}
