package sim

import (
	"context"
	"errors"
	"time"

	"memgraph-controller/controller"
)

// clusterKey is the only key of the urgent lane.
const clusterKey = "cluster"

// plenty is a worker for every key that there can be.
const plenty = 1 << 10

// workers take what is due, in the order in which it came to be that.
type workers struct {
	free int
	due  []func()
}

func (w *workers) take(f func()) {
	if w.free == 0 {
		w.due = append(w.due, f)
		return
	}
	w.free--
	f()
}

// done is called by a worker who is free again.
func (w *workers) done() {
	if len(w.due) == 0 {
		w.free++
		return
	}
	f := w.due[0]
	w.due = w.due[1:]
	f()
}

// lane is a work queue: a key is worked on by one of its workers at a time, and
// once more if it was added meanwhile.
type lane struct {
	c           *contender
	promise     string // what it breaks where a key that is due waits
	workers     *workers
	limit       time.Duration // of the work on a key, 0 if there is none
	first, last time.Duration // back-off
	work        func(key string) error
	keys        map[string]*key
	closed      bool
}

type key struct {
	queued, busy, again bool
	since               time.Duration // when it was queued, or taken, by the actor's time
	failures            int
	due                 time.Duration // when it is to be added, 0 if it is not
}

func newLane(c *contender, promise string, w *workers, first, last time.Duration) *lane {
	return &lane{c: c, promise: promise, workers: w, first: first, last: last, keys: map[string]*key{}}
}

func (l *lane) key(name string) *key {
	k := l.keys[name]
	if k == nil {
		k = &key{}
		l.keys[name] = k
	}
	return k
}

func (l *lane) add(name string) {
	k := l.key(name)
	switch {
	case l.closed || k.queued:
		return
	case k.busy:
		k.again = true
		return
	}
	k.queued, k.since = true, l.c.ran()
	l.workers.take(func() {
		l.c.s.spawn(func() {
			l.process(name, k)
			l.workers.done()
		})
	})
}

// addAfter adds a key later; of several such wishes the earliest counts.
func (l *lane) addAfter(name string, d time.Duration) {
	k, at := l.key(name), l.c.s.now+d
	if k.due > 0 && k.due <= at {
		return
	}
	k.due = at
	l.c.after(d, func() {
		if k.due == at {
			k.due = 0
			l.add(name)
		}
	})
}

func (l *lane) process(name string, k *key) {
	k.queued = false
	if l.closed || l.c.goesOn() != nil {
		return
	}
	l.c.w.waited(l, name, k)
	l.c.working++
	defer func() { l.c.working-- }()
	k.busy, k.since = true, l.c.ran()
	err := l.work(name)
	l.c.w.worked(l, k)
	k.busy = false
	l.settle(name, k, err)
	if k.again {
		k.again = false
		l.add(name)
	}
}

// settle mirrors controller's: the end of every error.
func (l *lane) settle(name string, k *key, err error) {
	switch {
	case err == nil:
		k.failures = 0
	case errors.Is(err, controller.ErrConflict):
		l.add(name)
	case errors.Is(err, context.Canceled), errors.Is(err, errStale), errors.Is(err, errDead):
		k.failures = 0
	default:
		pause := min(l.first<<min(k.failures, 20), l.last)
		k.failures++
		l.addAfter(name, pause)
	}
}
