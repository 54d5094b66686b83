package controller

import (
	"context"
	"fmt"
	"sync"
	"time"

	"memgraph-controller/memgraph"
)

const (
	// doubtAt and vouchFor are annotations of the gateways' Leases: the doubt that the
	// leader has about MAIN, and the last that the replica has answered.
	doubtAt  = "memgraph-controller/doubt"
	vouchFor = "memgraph-controller/vouch"
	// doubtAgain is when a doubt that nobody has answered is raised anew: an answer
	// takes as long as a probe may, and two writes.
	doubtAgain = 2 * time.Second
)

// witnesses are the other replicas, whom the leader asks by its gateway's Lease, as
// soon as MAIN has missed an answer, whether it lives. One that has had an answer of
// it, or whose clients get theirs, since it was asked, vouches for MAIN by its own
// Lease: then it is the leader who cannot hear. A MAIN that is dead has nobody who
// vouches for it, and is waited for by nobody.
type witnesses struct {
	mu     sync.Mutex
	doubt  string // the leader's own, the last; "" if it never had one
	raised time.Time
	proved time.Time // when somebody vouched last

	asked    string // another's doubt, the last that was seen
	answered string // the last that was looked into, and MAIN lives
}

// doubts has the others asked whether the MAIN in process runID lives, unless they
// have just been. It reports whether there is something to write.
func (w *witnesses) doubts(runID string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.openLocked() && time.Since(w.raised) < doubtAgain {
		return false
	}
	w.raised = time.Now()
	w.doubt = fmt.Sprintf("%s %d", runID, w.raised.UnixNano())
	return true
}

// vouched reports whether somebody has vouched for MAIN since t.
func (w *witnesses) vouched(t time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.proved.Before(t)
}

// openLocked holds while nobody has vouched for MAIN since the last doubt.
func (w *witnesses) openLocked() bool { return w.doubt != "" && w.proved.Before(w.raised) }

// heard takes note of what another replica's Lease says, and reports whether that
// asks for an answer.
func (w *witnesses) heard(doubt, vouch string) (asks bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.openLocked() && vouch == w.doubt {
		w.proved = time.Now()
	}
	asks = doubt != "" && doubt != w.asked
	if asks {
		w.asked = doubt
	}
	return asks
}

// said is what this replica's own Lease is to say.
func (w *witnesses) said() map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return map[string]string{doubtAt: w.doubt, vouchFor: w.answered}
}

// answer looks into the doubt that was seen last, if that was not done yet: main is
// what tells whether the MAIN in a process lives.
func (w *witnesses) answer(lives func(runID string) bool) {
	w.mu.Lock()
	doubt := w.asked
	old := doubt == w.answered
	w.mu.Unlock()
	var runID string
	if _, err := fmt.Sscan(doubt, &runID); err != nil || old || !lives(runID) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = doubt
}

// lives reports whether the recorded MAIN, if that is in process runID, says anything
// from now on: to us, or to a client.
func (c *Controller) lives(ctx context.Context, runID string) bool {
	m := c.record.latest().Main
	if m.RunID != runID {
		return false
	}
	begun, addr := time.Now(), memgraph.Pod{IP: m.IP}.Addr()
	id, err := ask(ctx, c.deps.UrgentProber, memgraph.Pod{IP: m.IP}, c.cfg.ProbeTimeout)
	return err == nil && id.RunID == runID || c.deps.Heard(addr).After(begun)
}
