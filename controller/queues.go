package controller

import (
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// Back-off of the lanes. What is urgent is retried while somebody waits for it;
// what is routine must not wear out a sick pod.
const (
	urgentFirstRetry  = 5 * time.Millisecond
	urgentLastRetry   = 250 * time.Millisecond
	routineFirstRetry = 50 * time.Millisecond
	routineLastRetry  = 30 * time.Second
)

// laneName tells the lanes apart in routing, logs and metrics.
type laneName string

const (
	urgent  laneName = "urgent"
	routine laneName = "routine"
)

// hearPause is between two looks at a key that events call for, however many: a flood
// of them must not have the routine lane ask MAIN as fast as it answers.
const hearPause = 10 * time.Millisecond

// lane is a work queue of keys that knows since when each key has waited.
type lane struct {
	name  laneName
	queue workqueue.TypedRateLimitingInterface[string]
	wait  waitObserver

	mu    sync.Mutex
	since map[string]time.Time // the oldest event of a key that nobody has taken
	taken map[string]time.Time // when a key was taken last
}

// waitObserver is told how long a key waited, in seconds.
type waitObserver interface{ Observe(float64) }

func newLane(name laneName, first, last time.Duration, m *metrics) *lane {
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string](first, last)
	return &lane{
		name: name,
		queue: workqueue.NewTypedRateLimitingQueueWithConfig(limiter, workqueue.TypedRateLimitingQueueConfig[string]{
			Name: string(name), MetricsProvider: m,
		}),
		wait:  m.laneWait.WithLabelValues(string(name)),
		since: map[string]time.Time{},
		taken: map[string]time.Time{},
	}
}

// hear is add for an event of which there may be many: the key is not taken within
// hearPause of the last time.
func (l *lane) hear(key string, received time.Time) {
	l.mu.Lock()
	_, waiting := l.since[key]
	if !waiting {
		l.since[key] = received
	}
	rest := hearPause - time.Since(l.taken[key])
	l.mu.Unlock()
	if !waiting {
		l.queue.AddAfter(key, rest) // at once, if that is over
	}
}

// add enqueues key for an event that was received at the given time.
func (l *lane) add(key string, received time.Time) {
	l.mu.Lock()
	if _, waiting := l.since[key]; !waiting {
		l.since[key] = received
	}
	l.mu.Unlock()
	l.queue.Add(key)
}

// take waits for a key, and returns when its oldest event was received. ok is
// false once the lane is shut down. A key that comes back by itself, after a
// delay, has no event: its time is now.
func (l *lane) take() (key string, received time.Time, ok bool) {
	key, shutdown := l.queue.Get()
	if shutdown {
		return "", time.Time{}, false
	}
	now := time.Now()
	l.mu.Lock()
	received, waited := l.since[key]
	delete(l.since, key)
	l.taken[key] = now
	l.mu.Unlock()
	if !waited {
		return key, now, true
	}
	l.wait.Observe(now.Sub(received).Seconds())
	return key, received, true
}
