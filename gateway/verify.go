package gateway

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"memgraph-controller/memgraph/bolt"
)

const (
	// answerWithin is how long an answer may take, as a rule 0.4 ms, before new
	// clients wait for it.
	answerWithin = 300 * time.Millisecond
	// retryMin to twice that lie between two attempts, for a promotion and the
	// word of it overtake each other by a few ms; retryMax once retryEagerly is
	// over.
	retryMin     = 10 * time.Millisecond
	retryMax     = 100 * time.Millisecond
	retryEagerly = time.Second
	// retryRefused follows a refused login, which takes as much of Memgraph's
	// one login lock as a good one, 0.24 s, and will not be better soon.
	retryRefused = time.Second
)

var (
	errNotMain    = errors.New("it answers, but not as MAIN")
	errNotReplica = errors.New("it answers, but not as a replica")
	errOther      = errors.New("it answers as MAIN, but is another process than the one named")
	errSilent     = errors.New("it does not answer")
	errOld        = errors.New("what it answered may not be true any more")
	errSuspect    = errors.New("connections to it fail")
	errDeposed    = errors.New("it answers as MAIN again, which the record has to say too")
	errDoubted    = errors.New("it told a client that it is not MAIN, or hung up on one")
)

// verifier asks the gate's target for its role, and opens and shuts the gate by
// the answers:
//
//   - it holds one link at a time, and asks on it every VerifyInterval, or after
//     a short pause while the answer is not the wanted one;
//   - a link that breaks shuts the gate within milliseconds and is reported; so
//     does one on which an answer is long overdue, when it is given up;
//   - an answer that was asked for longer than giveUpAfter ago, as one that waited
//     for a gateway which was stopped, says nothing;
//   - after a client's connection failed it opens another link, since the one it
//     holds does not show that new connections can be opened;
//   - a MAIN that clients were let through to, and that was a replica since, is none
//     again before the record was seen to say so;
//   - when the target is replaced, whatever it waits for ends at once.
type verifier struct {
	gate    *gate
	cfg     Config
	metrics *metrics
	log     *slog.Logger
	stock   *stock

	deposed   *target   // that clients were let through to, and that then answered as a replica
	deposedAt time.Time // when it did so last

	ear       ear
	disowned  atomic.Int64 // MAINs of lower generations are
	outlook   *outlook
	heard     chan struct{}  // capacity 1: the outlook may be fresh again
	suspected chan error     // capacity 1
	reports   sync.WaitGroup // calls of cfg.Lost
}

// suspect shuts the gate after a failed connection to main, until a new link
// has shown that connections to it can be opened.
func (v *verifier) suspect(main *incarnation, err error) { v.alarm(main, err, errSuspect) }

// doubt shuts the gate after main has told a client that it is none, or has hung
// up on it, until it has been asked again, which is done at once.
func (v *verifier) doubt(main *incarnation) { v.alarm(main, errDoubted, errDoubted) }

// alarm shuts main's gate and wakes who holds its link; a former main is no matter.
func (v *verifier) alarm(main *incarnation, why, wake error) {
	if v.gate.current().generation != main.generation {
		return
	}
	v.shut(main.generation, why)
	select {
	case v.suspected <- wake:
	default: // what is there is enough
	}
}

// run verifies one target after the other until ctx ends.
func (v *verifier) run(ctx context.Context) {
	defer v.reports.Wait()
	for ctx.Err() == nil {
		v.attend(ctx, v.gate.current())
	}
}

// attend verifies t until it is replaced.
func (v *verifier) attend(ctx context.Context, t *target) {
	var follower sync.WaitGroup
	defer follower.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if t.addr != "" {
		follower.Go(func() { v.follow(ctx, t) })
	}
	select {
	case <-ctx.Done():
	case <-t.replaced:
	}
}

// follow verifies t over one link after the other until ctx ends.
func (v *verifier) follow(ctx context.Context, t *target) {
	for warned := false; ctx.Err() == nil; {
		lost, err := v.hold(ctx, t)
		if ctx.Err() != nil {
			return
		}
		level := slog.LevelDebug
		if isFailure(err) && !warned {
			level, warned = slog.LevelWarn, true // credentials, as a rule: it will not heal by itself
		}
		v.log.Log(ctx, level, "verification failed", "generation", t.generation, "pod", t.pod, "err", err)
		v.shut(t.generation, err)
		if lost {
			v.reports.Go(func() { v.cfg.Lost(t.addr, t.generation) })
		}
		sleep(ctx, v.pause(err))
	}
}

// hold verifies t over one link until that breaks, or until new connections
// fail while it does not. It returns why, and whether a MAIN was lost by it.
func (v *verifier) hold(ctx context.Context, t *target) (lost bool, why error) {
	l, err := v.open(ctx, t.addr)
	if err != nil {
		v.count(err)
		return false, err
	}
	defer l.close()
	select {
	case <-v.suspected: // answered by the link's opening
	default:
	}
	for err == nil {
		err = v.round(l, t)
	}
	return l.confirmed && !errors.Is(err, errSuspect), err
}

// open returns a link to addr, the one that is ready if there is one.
func (v *verifier) open(ctx context.Context, addr string) (*link, error) {
	if l := v.stock.takeLink(addr); l != nil {
		l.bind(ctx)
		return l, nil
	}
	return openLink(ctx, addr, &v.cfg)
}

// round asks once, and rests until it is time to ask again.
func (v *verifier) round(l *link, t *target) error {
	a, err := v.ask(l, t)
	if err != nil {
		return err
	}
	wait := v.cfg.VerifyInterval
	not := v.judge(t, a)
	if not != nil {
		wait = v.pause(not)
	}
	if l.confirmed = not == nil; l.confirmed {
		if err := v.assure(l, t); err != nil {
			return err
		}
	}
	err = l.rest(wait, v.suspected)
	if errors.Is(err, errDoubted) {
		return nil
	}
	if errors.Is(err, errSuspect) {
		// A dying process may have closed its listener, and not the link yet.
		if _, broke := v.ask(l, t); broke != nil {
			return broke
		}
	}
	return err
}

// ask is the link's, but silence for answerWithin shuts the gate meanwhile.
func (v *verifier) ask(l *link, t *target) (a answer, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		a, err = l.ask()
	}()
	timer := time.NewTimer(answerWithin)
	defer timer.Stop()
	select {
	case <-timer.C:
		v.shut(t.generation, errSilent)
	case <-done:
	}
	<-done
	if err != nil {
		v.count(err)
	}
	return a, err
}

// judge opens the gate if a is the MAIN that t means, and returns why not if it
// is not, which ends the relays to it.
func (v *verifier) judge(t *target, a answer) error {
	if time.Since(a.asked) > giveUpAfter {
		v.shut(t.generation, errOld)
		return errOld
	}
	is, not := verdictMain, error(nil)
	switch {
	case a.role != t.role():
		is, not = verdictNotMain, errNotMain
		if t.replica {
			not = errNotReplica
		}
	case t.runID != "" && a.runID != t.runID:
		is, not = verdictOther, errOther
	case v.deposed == t && !v.outlook.knownAfter(v.deposedAt):
		not = errDeposed // it may be MAIN of a later generation, in which clients are held
	}
	v.metrics.verified.WithLabelValues(string(is)).Inc()
	if not != nil {
		if errors.Is(not, errNotMain) && v.gate.letThroughTo(t) {
			v.deposed, v.deposedAt = t, time.Now()
		}
		if v.gate.dismiss(t, not) {
			v.log.Info("gateway verifying", "generation", t.generation, "err", not)
		}
		return not
	}
	v.turned(v.gate.confirm(t, a.runID), 0)
	return nil
}

// turned reports a change of the gate, if it was one: newcomers pass who could not
// for so long, and clients are not held any more who were for so long.
func (v *verifier) turned(shut, heldFor time.Duration) {
	if heldFor > 0 {
		v.metrics.held.Observe(heldFor.Seconds())
	}
	if shut > 0 {
		v.metrics.switched.Observe(shut.Seconds())
		t := v.gate.current()
		v.log.Info("gateway serving", "generation", t.generation, "pod", t.pod, "addr", t.addr, "took_ms", shut.Milliseconds())
	}
}

func (v *verifier) shut(generation int64, why error) {
	if v.gate.shut(generation, why) {
		v.log.Info("gateway verifying", "generation", generation, "err", why)
	}
}

func (v *verifier) count(err error) {
	is := verdictUnreachable
	if isFailure(err) {
		is = verdictRefused
	}
	v.metrics.verified.WithLabelValues(string(is)).Inc()
}

// pause is how long to wait after err before the next attempt.
func (v *verifier) pause(err error) time.Duration {
	switch {
	case isFailure(err):
		return retryRefused
	case v.gate.shutFor() < retryEagerly:
		return retryMin + rand.N(retryMin)
	}
	return retryMax
}

func isFailure(err error) bool { return errors.As(err, new(bolt.Failure)) }
