package memgraph

import (
	"fmt"
	"slices"
	"time"
)

// Topology is what was decided about the cluster: the record's content. It is a
// value; Decide makes a new one and the store writes it.
type Topology struct {
	// Main is who is MAIN, or is becoming it while Phase is not Stable.
	Main Member
	// Generation grows by one with every decision about MAIN, and never goes
	// back. It is ours; epoch and main_uuid are Memgraph's.
	Generation int64
	Phase      Phase
	// Partner is the replica whose synchronous registration protects what MAIN
	// acknowledges; the zero Member is none.
	Partner Member
	// InSync says that Partner holds every acknowledged write. It is written
	// false before protection is weakened, and true only after Partner was seen
	// registered synchronously, ready and not behind.
	InSync bool
	// Pending is the change under way; nil if and only if Phase is Stable. Gateways
	// hold their clients while there is one.
	Pending *Pending
	// Reseed is the order to a pod to start empty; nil if none stands.
	Reseed *Reseed
	// History holds the last changes, the newest first, at most MaxHistory.
	History []Change
	// Order is what an operator asks for and nobody has answered yet; nil is
	// nothing. It is written only by operators.
	Order *Order
	// Answers are those to the last orders, the newest first, at most MaxAnswers.
	Answers []Answer
	// Paused is set while MAIN and its partner are to stay as they are.
	Paused *Pause
	// Acknowledged is when an operator last said that failures of MAIN are known;
	// those before are not counted. The zero time is never.
	Acknowledged time.Time
	// Revision is the record's version that this was read at, for compare-and-
	// set; "" if there is no record.
	Revision string
}

// Phase of a change of MAIN or of its partner.
type Phase string

// Phases. In Switching the old MAIN is alive and demoted first; in FailingOver
// it is not. In Protecting MAIN stays, and its partner is replaced.
const (
	Stable      Phase = "Stable"
	Switching   Phase = "Switching"
	FailingOver Phase = "FailingOver"
	Protecting  Phase = "Protecting"
)

// ChangesMain reports whether MAIN is being replaced.
func (p Phase) ChangesMain() bool { return p == Switching || p == FailingOver }

// Member is one incarnation of a pod: the fields tell it from the pod of the
// same name before and after, and from a restarted process in the same pod.
type Member struct {
	Pod   string `json:"pod"`
	Index int    `json:"index"`
	UID   string `json:"uid"`
	IP    string `json:"ip"`
	// RunID is the Memgraph process.
	RunID string `json:"runID"`
	// Database is the data set that it held when this was written, "" where the
	// version does not tell: a wiped pod comes back with another.
	Database string `json:"database,omitempty"`
}

// None reports whether this is no member at all.
func (m Member) None() bool { return m.Pod == "" }

// complete reports whether m names a process: less would fit others too.
func (m Member) complete() bool {
	return m.Pod != "" && m.Index >= 0 && m.UID != "" && m.IP != "" && m.RunID != ""
}

// Pending is a decided change that is not finished, kept so that a new leader
// finishes what the old one began.
type Pending struct {
	// From is who was MAIN, or partner, before; the zero Member is nobody.
	From    Member    `json:"from"`
	Kind    string    `json:"kind"`
	Reason  string    `json:"reason"`
	Started time.Time `json:"started"`
	// Order is the operator's word that began it; nil if nobody asked for it.
	Order *Order `json:"order,omitempty"`
	// EstimatedLoss is what it may cost of what was acknowledged, "" is nothing.
	EstimatedLoss string `json:"estimatedLoss,omitempty"`
	// Renew says that who is to be MAIN is it already, in an epoch that it may have
	// lost its claim to, and is demoted first.
	Renew bool `json:"renew,omitempty"`
	// Leader is who carries it out: what a deposed one has yet to write conflicts
	// with the name of the next.
	Leader string `json:"leader,omitempty"`
}

// Change is one entry of the history.
type Change struct {
	// When is when the change was decided on, Seen when the event was received
	// that led to it.
	When       time.Time `json:"when"`
	Seen       time.Time `json:"seen,omitzero"`
	Generation int64     `json:"generation"`
	Kind       string    `json:"kind"`
	From       string    `json:"from,omitempty"`
	To         string    `json:"to"`
	Reason     string    `json:"reason"`
	// EstimatedLoss is what it may have cost of what was acknowledged, "" is nothing.
	EstimatedLoss string `json:"estimatedLoss,omitempty"`
	// Stages are milliseconds from Seen to the end of each stage.
	Stages map[string]float64 `json:"stages,omitempty"`
	Leader string             `json:"leader,omitempty"`
}

// MaxGeneration leaves room to go on: at a change every millisecond it takes 285,000
// years to get there. A higher one was written by hand.
const MaxGeneration = 1 << 53

// MaxHistory bounds the record: watchers get all of it with every write.
const MaxHistory = 20

// WithChange is t with c at the front of its history.
func (t Topology) WithChange(c Change) Topology {
	h := slices.Insert(slices.Clone(t.History), 0, c)
	t.History = h[:min(len(h), MaxHistory)]
	return t
}

// Said is what operators have said, with the revision at which they did: all that
// is kept of a record that is derived anew.
func (t Topology) Said() Topology {
	return Topology{Revision: t.Revision, Order: t.Order, Paused: t.Paused}
}

// Validate returns what is wrong with t, naming the field.
func (t Topology) Validate() error {
	switch {
	case t.Generation < 1, t.Generation > MaxGeneration:
		return fmt.Errorf("generation: %d, wanted 1 to %d", t.Generation, MaxGeneration)
	case !t.Main.complete():
		return fmt.Errorf("main: %+v lacks a field", t.Main)
	case !t.Partner.None() && !t.Partner.complete():
		return fmt.Errorf("partner: %+v lacks a field", t.Partner)
	case !t.Partner.None() && t.Partner.Index == t.Main.Index:
		return fmt.Errorf("partner: %s is MAIN too", t.Partner.Pod)
	case t.InSync && t.Partner.None():
		return fmt.Errorf("inSync: true without a partner")
	case t.Phase != Stable && t.Phase != Protecting && !t.Phase.ChangesMain():
		return fmt.Errorf("phase: unknown value %q", t.Phase)
	case t.InSync && t.Phase != Stable:
		return fmt.Errorf("inSync: true in phase %s", t.Phase)
	case (t.Phase == Stable) != (t.Pending == nil):
		return fmt.Errorf("pending: does not fit phase %s", t.Phase)
	}
	return nil
}
