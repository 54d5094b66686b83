package sim

import (
	"errors"
	"time"
)

// errDead ends what a process was about to do when it died.
var errDead = errors.New("the process has died")

// actor is a process: at every wait it may have been stopped for a while, or
// have died.
type actor struct {
	s       *scheduler
	dead    bool
	stopped bool
	since   time.Duration // when it was stopped last
	resumed time.Duration // when it went on
	lost    time.Duration // for how long it was before
	due     []func()      // what falls due while it is stopped
	parked  []func()      // its tasks that wait for it to go on
}

// after plans f for d from now, or for when the actor goes on.
func (a *actor) after(d time.Duration, f func()) {
	a.s.after(d, func() { a.do(f) })
}

func (a *actor) do(f func()) {
	switch {
	case a.dead:
	case a.stopped:
		a.due = append(a.due, f)
	default:
		f()
	}
}

// sleep has one of the actor's tasks wait. It returns errDead if the actor died
// meanwhile.
func (a *actor) sleep(d time.Duration) error {
	a.s.sleep(d)
	return a.goesOn()
}

// goesOn waits until the actor does.
func (a *actor) goesOn() error {
	for a.stopped && !a.dead {
		a.s.suspend(func(wake func()) { a.parked = append(a.parked, wake) })
	}
	if a.dead {
		return errDead
	}
	return nil
}

func (a *actor) stop() { a.stopped, a.since = true, a.s.now }

func (a *actor) resume() {
	a.stopped, a.resumed = false, a.s.now
	a.lost += a.s.now - a.since
	due := a.due
	a.due = nil
	for _, f := range due {
		a.after(0, f)
	}
	a.wake()
}

// ran is for how long time has passed for the actor: not while it was stopped.
func (a *actor) ran() time.Duration {
	if a.stopped {
		return a.since - a.lost
	}
	return a.s.now - a.lost
}

func (a *actor) kill() {
	a.dead, a.due = true, nil
	a.wake()
}

func (a *actor) wake() {
	parked := a.parked
	a.parked = nil
	for _, wake := range parked {
		wake()
	}
}
