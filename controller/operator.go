package controller

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"

	"memgraph-controller/memgraph"
)

// ErrUnclear says that an order was not answered for good in time.
var ErrUnclear = errors.New("unclear")

const (
	// answerPoll is between two looks for an answer: a switchover takes 200 ms.
	answerPoll = 50 * time.Millisecond
	// withdrawTimeout bounds taking an order back that nobody answered in time.
	withdrawTimeout = 5 * time.Second
)

// Operator is a person's end of the record: it gives orders to whoever leads, and
// tells what the record says. It does nothing itself.
type Operator struct {
	kube                   kubernetes.Interface
	namespace, statefulSet string
	store                  *configMapStore
	out                    io.Writer
}

// NewOperator is one for a StatefulSet; what happens is told on out.
func NewOperator(kube kubernetes.Interface, namespace, statefulSet string, out io.Writer) *Operator {
	return &Operator{
		kube: kube, namespace: namespace, statefulSet: statefulSet, out: out,
		store: &configMapStore{configMaps: kube.CoreV1().ConfigMaps(namespace), statefulSet: statefulSet},
	}
}

// Order gives an order and waits for it to be carried out, until ctx ends. An
// order that nobody has begun on by then is taken back. It returns an error if it
// was refused or called off, and ErrUnclear if it was not answered for good.
func (o *Operator) Order(ctx context.Context, verb memgraph.Verb, argument string) error {
	order := memgraph.Order{Verb: verb, Argument: argument, Request: rand.Text()}
	if err := o.place(ctx, order); err != nil {
		return err
	}
	o.say("asked for %s, request %s", order, order.Request)
	answer := o.await(ctx, order)
	if answer.Outcome == "" || answer.Outcome == memgraph.OutcomeAccepted {
		return o.giveUp(ctx, order)
	}
	return o.conclude(answer)
}

// place has order stand in the record, where no other does.
func (o *Operator) place(ctx context.Context, order memgraph.Order) error {
	for {
		t, err := o.store.Load(ctx)
		switch {
		case err != nil:
			return err
		case t.Generation == 0:
			return fmt.Errorf("there is no record of statefulset %s/%s yet", o.namespace, o.statefulSet)
		case t.Order != nil:
			return fmt.Errorf("another order is not answered yet: %s", t.Order)
		}
		if err := o.store.order(ctx, t.Revision, &order); !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// await returns the last answer to order, the zero Answer if there is none, once
// it is for good or ctx has ended. It tells of an acceptance.
func (o *Operator) await(ctx context.Context, order memgraph.Order) (answer memgraph.Answer) {
	for {
		if t, err := o.store.Load(ctx); err == nil {
			before := answer.Outcome
			answer = answerTo(t, order)
			switch {
			case answer.Outcome == memgraph.OutcomeAccepted && before == "":
				o.say("accepted: %s", answer.Reason)
			case answer.Outcome != "" && answer.Outcome != memgraph.OutcomeAccepted:
				return answer
			}
		} // else it is tried again, for as long as there is time
		if sleep(ctx, answerPoll) != nil {
			return answer
		}
	}
}

func answerTo(t memgraph.Topology, order memgraph.Order) memgraph.Answer {
	i := slices.IndexFunc(t.Answers, func(a memgraph.Answer) bool { return a.Order == order })
	if i < 0 {
		return memgraph.Answer{}
	}
	return t.Answers[i]
}

// giveUp takes order back if it still stands, and finds out what became of it if
// not.
func (o *Operator) giveUp(ctx context.Context, order memgraph.Order) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	for {
		t, err := o.store.Load(ctx)
		if err != nil {
			return fmt.Errorf("%w: it may be carried out yet: %w", ErrUnclear, err)
		}
		if answer := answerTo(t, order); answer.Outcome != "" && answer.Outcome != memgraph.OutcomeAccepted {
			return o.conclude(answer)
		}
		if t.Order == nil || *t.Order != order {
			return fmt.Errorf("%w: it is not finished yet, in phase %s", ErrUnclear, t.Phase)
		}
		err = o.store.order(ctx, t.Revision, nil)
		switch {
		case err == nil:
			return fmt.Errorf("%w: nobody leads who would begin on it; it is taken back and nothing has changed", ErrUnclear)
		case !errors.Is(err, ErrConflict):
			return fmt.Errorf("%w: it may be carried out yet: %w", ErrUnclear, err)
		}
	}
}

// conclude tells of an answer that is for good.
func (o *Operator) conclude(answer memgraph.Answer) error {
	if answer.Outcome != memgraph.OutcomeDone {
		return fmt.Errorf("%s: %s", answer.Outcome, answer.Reason)
	}
	o.say("done: %s", answer.Reason)
	return nil
}

func (o *Operator) say(format string, args ...any) { fmt.Fprintf(o.out, format+"\n", args...) }
