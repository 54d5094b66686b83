package sim

// Gap is something that is known to go wrong. A schedule in which it does is
// counted, and not held against what follows from it; each is to go away with
// what causes it.
type Gap string

const (
	// GapMark: a replica was refused as diverged, and would be accepted since
	// MAIN restarted, which cures a false divergence. The mark stays with the
	// replica's process: a MAIN that is back in an old epoch accepts true ones too.
	GapMark Gap = "the mark of divergence outlives the MAIN that set it"
	// GapEpoch: a MAIN restarted after its promotion and before its epoch was
	// sealed. It is back in the epoch of the MAIN before it, whose unique writes
	// it cannot tell from its own any more; its promotion anew changes nothing,
	// for it is MAIN already.
	GapEpoch Gap = "a MAIN that restarted before its seal keeps the old epoch"
	// GapRecord: the record was deleted. Whoever derives it anew may start with
	// generation 1, and adopt a MAIN that lacks what its replicas have.
	GapRecord Gap = "a record that is derived anew forgets the last one"
)

// forgive notes that the schedule has come to a gap.
func (w *world) forgive(g Gap) { w.judge.gaps[g] = true }

// spoilt tells whether what was acknowledged may be missing by a known gap.
func (w *world) spoilt() bool { return w.judge.gaps[GapEpoch] || w.judge.gaps[GapRecord] }
