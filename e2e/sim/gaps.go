package sim

// Gap is something that is known to go wrong. A schedule in which it does is
// counted, and not held against what follows from it; each is to go away with
// what causes it.
type Gap string

const (
	// GapRecord: the record was deleted. Whoever derives it anew may start with
	// generation 1, and adopt a MAIN that lacks what its replicas have.
	GapRecord Gap = "a record that is derived anew forgets the last one"
)

// forgive notes that the schedule has come to a gap.
func (w *world) forgive(g Gap) { w.judge.gaps[g] = true }

// spoilt tells whether what was acknowledged may be missing by a known gap.
func (w *world) spoilt() bool { return w.judge.gaps[GapRecord] }
