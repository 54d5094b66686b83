package gateway

import (
	"fmt"
	"time"
)

// State is what a gateway does with a client that connects now.
type State string

// The states of a gateway.
const (
	Parked    State = "parked"    // holds it: there is no target
	Verifying State = "verifying" // holds it: the target has not answered as MAIN
	Holding   State = "holding"   // holds it: MAIN has answered, but is not to be used yet
	Serving   State = "serving"   // connects it to MAIN
	Draining  State = "draining"  // refuses it: the gateway is stopping
)

// Status is a gateway at one moment, copied.
type Status struct {
	State      State     `json:"state"`
	Since      time.Time `json:"since"` // it serves, or does not, or has this target
	Generation int64     `json:"generation"`
	Pod        string    `json:"pod,omitempty"`
	Addr       string    `json:"addr,omitempty"`
	RunID      string    `json:"runID,omitempty"`     // of the verified process, else the wanted one
	VerifiedAt time.Time `json:"verifiedAt,omitzero"` // zero: not in this generation
	HeldSince  time.Time `json:"heldSince,omitzero"`  // zero: clients are not held
	HeardAt    time.Time `json:"heardAt,omitzero"`    // when the record was last known to be up to date
	Stale      bool      `json:"stale"`               // that is too long ago; see Fresh
	Trouble    string    `json:"trouble,omitempty"`   // why the target is not being served
	Sessions   int64     `json:"sessions"`            // of clients, in whatever state
	Relaying   int64     `json:"relaying"`            // of them, connected to MAIN
	Waiting    int64     `json:"waiting"`             // of them, parked
	Read       *Status   `json:"read,omitempty"`      // of the port for reading
}

// status is the gate's part of a Status.
func (g *gate) status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Status{
		State: g.stateLocked(), Since: g.since, Generation: g.target.generation,
		Pod: g.target.pod, Addr: g.target.addr, RunID: g.target.runID, VerifiedAt: g.verifiedAt,
	}
	if m := g.main.Load(); m != nil {
		s.RunID = m.runID
	}
	why := g.trouble
	if h := g.hold.Load(); h != nil {
		s.HeldSince = h.began
		if h.by&heldInIsolation != 0 {
			why = errIsolated
		}
	}
	if why != nil {
		s.Trouble = why.Error()
	}
	return s
}

// awaited says, for a client that is refused, what would have let it pass.
func (s Status) awaited() string {
	if s.Addr == "" {
		return fmt.Sprintf("a MAIN to be named (generation %d)", s.Generation)
	}
	if s.State == Holding && s.Trouble == "" {
		return fmt.Sprintf("the word to use %s at %s (generation %d)", s.Pod, s.Addr, s.Generation)
	}
	why := ""
	if s.Trouble != "" {
		why = ": " + s.Trouble
	}
	return fmt.Sprintf("%s at %s to answer as MAIN (generation %d)%s", s.Pod, s.Addr, s.Generation, why)
}
