package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// Isolation is what becomes of clients where nobody can tell any more whether MAIN
// was replaced.
type Isolation string

// The kinds of Isolation.
const (
	// IsolationHold holds them until the record is known again. Not held is what is
	// relayed as bytes.
	IsolationHold Isolation = "hold"
	// IsolationServe risks that they write to a MAIN that was replaced.
	IsolationServe Isolation = "serve"
)

var errIsolated = errors.New("the record may be out of date, and MAIN have been replaced")

// guardEvery bounds how late it is noticed that the gateway is cut off.
const guardEvery = 100 * time.Millisecond

// outlook is what the gateway knows of the world around its MAIN. Whether that was
// replaced is in the record; where the record may be out of date, MAIN itself can
// show that it was not, which holds for the grace.
//
//	the record was up to date          MAIN showed it         view
//	within staleAfter, or who knows    -                      fresh
//	before                             within the grace       stale
//	before                             before, or not since   isolated
type outlook struct {
	staleAfter, grace time.Duration

	mu      sync.Mutex
	heard   time.Time // when the record was up to date; zero: nobody ever says so
	assured time.Time // when MAIN last showed it
}

// view is how much of the world is in sight.
type view string

// The views, as they are logged.
const (
	viewFresh    view = "fresh"
	viewStale    view = "stale"
	viewIsolated view = "isolated"
)

// hear says that the record was up to date at a time.
func (o *outlook) hear(at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if at.After(o.heard) {
		o.heard = at
	}
}

// assure says that MAIN was not replaced at a time.
func (o *outlook) assure(at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.assured = at
}

func (o *outlook) at(now time.Time) view {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := o.heard.Add(o.staleAfter)
	if o.heard.IsZero() || !now.After(known) {
		return viewFresh
	}
	if o.assured.After(known) {
		known = o.assured
	}
	if now.Sub(known) <= o.grace {
		return viewStale
	}
	return viewIsolated
}

// knownAfter reports whether the record was up to date after at, or nobody ever says.
func (o *outlook) knownAfter(at time.Time) bool {
	heard := o.heardAt()
	return heard.IsZero() || heard.After(at)
}

// heardAt is when the record was last up to date.
func (o *outlook) heardAt() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.heard
}

// Fresh says that the record was known to be up to date at a time: the API server
// answered, or the watch delivered. Once that is longer ago than StaleAfter, the
// gateway has MAIN show that it was not replaced, and where it does not for
// IsolationGrace, OnIsolation applies. A gateway that is never told relies on the
// last Serve for ever. It does not wait.
func (g *Gateway) Fresh(at time.Time) {
	v := g.verifier
	was := v.outlook.at(at)
	v.outlook.hear(at)
	if was != viewFresh {
		v.lookAgain()
	}
}

// lookAgain has the guard look at once.
func (v *verifier) lookAgain() {
	select {
	case v.heard <- struct{}{}:
	default: // what is due will see this too
	}
}

// guard holds clients while the gateway may be cut off together with its MAIN, until
// ctx ends.
func (v *verifier) guard(ctx context.Context) {
	ticker := time.NewTicker(guardEvery)
	defer ticker.Stop()
	for was := viewFresh; ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-v.heard:
		}
		if is := v.outlook.at(time.Now()); is != was {
			v.see(is)
			was = is
		}
	}
}

// see acts on a change of the view.
func (v *verifier) see(is view) {
	args := []any{"view", is, "heard", v.outlook.heardAt()}
	if is == viewFresh {
		v.log.Info("gateway sees the record again", args...)
	} else {
		v.log.Warn("gateway cannot tell whether the record is up to date", args...)
	}
	if v.cfg.OnIsolation == IsolationHold {
		v.turned(v.gate.isolate(is == viewIsolated))
	}
}

// assure has MAIN show that it was not replaced, if the record cannot tell. A
// process that was not named could be another one by now.
func (v *verifier) assure(l *link, t *target) error {
	asked := time.Now()
	if t.runID == "" || v.outlook.at(asked) == viewFresh {
		return nil
	}
	replicas, err := l.run(replicasQuery)
	switch {
	case isFailure(err): // it is not MAIN any more, or may not be asked
		return nil
	case err != nil:
		return fmt.Errorf("ask for the replicas: %w", err)
	case !replaceable(replicas):
		v.outlook.assure(asked)
	}
	return nil
}

// replaceable reports whether the MAIN that answered SHOW REPLICAS may have been
// replaced without its knowing. Only a synchronous replica is promoted, and it is
// registered until the record says that it will not be. One that is ready follows
// no other MAIN, nor does one that a commit is waiting for.
func replaceable(replicas bolt.Result) bool {
	mode, info := slices.Index(replicas.Fields, "sync_mode"), slices.Index(replicas.Fields, "data_info")
	if mode < 0 || info < 0 {
		return true
	}
	registered := false
	for _, row := range replicas.Rows {
		if row[mode] == "async" {
			continue
		}
		databases, _ := row[info].(map[string]any)
		for _, database := range databases {
			state, _ := database.(map[string]any)
			if state["status"] == "ready" || state["status"] == "replicating" {
				return false
			}
		}
		registered = true
	}
	return registered
}
