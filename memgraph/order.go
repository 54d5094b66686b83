package memgraph

import (
	"slices"
	"strings"
	"time"
)

// Order is what an operator asks for. It stands beside the record until the
// leader answers it, in the very write that begins to carry it out: it is
// carried out once, whoever leads, and none is lost.
type Order struct {
	// Verb is one of the verbs below; any other is refused.
	Verb Verb `json:"verb"`
	// Argument is the pod that is to be MAIN, or the reason of a pause; "" leaves
	// it open.
	Argument string `json:"argument,omitempty"`
	// Request is the operator's name for the order, to find its answer by; it may
	// be "".
	Request string `json:"request,omitempty"`
}

// Verb of an order.
type Verb string

// Verbs of orders.
const (
	// OrderSwitchover hands MAIN over to its partner, or not at all.
	OrderSwitchover Verb = "switchover"
	// OrderFailover promotes a replica that may lack what was acknowledged.
	OrderFailover Verb = "failover"
	// OrderPause keeps MAIN and its partner as they are.
	OrderPause Verb = "pause"
	// OrderReseed has a replica start empty, and its data moved aside.
	OrderReseed Verb = "reseed"
	// OrderResume ends a pause, and acknowledges that MAIN failed often.
	OrderResume Verb = "resume"
)

// Verbs are all of them.
var Verbs = []Verb{OrderSwitchover, OrderFailover, OrderReseed, OrderPause, OrderResume}

func (o Order) String() string { return strings.TrimSpace(string(o.Verb) + " " + o.Argument) }

// Answer is what became of an order.
type Answer struct {
	Order
	Outcome Outcome   `json:"outcome"`
	Reason  string    `json:"reason"`
	When    time.Time `json:"when"`
}

// Outcome of an answer.
type Outcome string

// Outcomes. An order that takes a while is accepted first, and called off where it
// could not be carried out and MAIN is the old one again.
const (
	OutcomeAccepted  Outcome = "accepted"
	OutcomeRefused   Outcome = "refused"
	OutcomeDone      Outcome = "done"
	OutcomeCalledOff Outcome = "called-off"
)

// MaxAnswers is how many answers are kept: as many operators may act at a time.
const MaxAnswers = 5

// WithAnswer is t with a in front of its answers, and in the place of an earlier
// one to the same order. An order that stood is answered by it.
func (t Topology) WithAnswer(a Answer) Topology {
	earlier := slices.DeleteFunc(slices.Clone(t.Answers), func(e Answer) bool { return e.Order == a.Order })
	answers := slices.Insert(earlier, 0, a)
	t.Answers = answers[:min(len(answers), MaxAnswers)]
	if t.Order != nil && *t.Order == a.Order {
		t.Order = nil
	}
	return t
}

// Pause is an operator's word that MAIN and its partner are to stay as they are.
type Pause struct {
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
}
