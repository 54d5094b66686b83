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

// lane is a work queue of keys that knows since when each key has waited.
type lane struct {
	name  laneName
	queue workqueue.TypedRateLimitingInterface[string]
	wait  waitObserver

	mu    sync.Mutex
	since map[string]time.Time // the oldest event of a key that nobody has taken
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
	l.mu.Unlock()
	if !waited {
		return key, now, true
	}
	l.wait.Observe(now.Sub(received).Seconds())
	return key, received, true
}
