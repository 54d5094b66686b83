package reconcile

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"

	"memgraph-controller/memgraph"
)

const (
	// PodTimeout bounds all work on one pod in one pass, looking at it included.
	PodTimeout = 5 * time.Second
	// tripAfter is how many failures in a row open a breaker: one may be chance.
	tripAfter = 3
	// openFor is how long an open breaker costs nothing before one call tries
	// the pod again.
	openFor = 2 * time.Second
)

// ErrBreakerOpen says that a pod was skipped without a call: it failed
// repeatedly, and the time to try it again has not come.
var ErrBreakerOpen = errors.New("circuit breaker is open")

// Breakers holds one circuit breaker per pod, made on first use. A pod is known
// by a key that changes when the pod or its process is replaced, so that a new
// one starts afresh. Failover never consults them. Safe for concurrent use.
type Breakers struct {
	mu    sync.Mutex
	byKey map[string]*gobreaker.CircuitBreaker[struct{}]
}

// NewBreakers has none open.
func NewBreakers() *Breakers {
	return &Breakers{byKey: map[string]*gobreaker.CircuitBreaker[struct{}]{}}
}

// Do runs f unless the breaker of key is open, which is ErrBreakerOpen. It counts
// a failure only if the pod could not be reached: a server that says no is well.
func (b *Breakers) Do(key string, f func() error) error {
	_, err := b.breaker(key).Execute(func() (struct{}, error) { return struct{}{}, f() })
	if errors.Is(err, gobreaker.ErrOpenState) || errors.Is(err, gobreaker.ErrTooManyRequests) {
		return ErrBreakerOpen
	}
	return err
}

// Open reports whether calls for key are refused at the moment.
func (b *Breakers) Open(key string) bool {
	b.mu.Lock()
	breaker := b.byKey[key]
	b.mu.Unlock()
	return breaker != nil && breaker.State() == gobreaker.StateOpen
}

// Retain forgets all breakers but those of keys.
func (b *Breakers) Retain(keys map[string]bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.byKey {
		if !keys[key] {
			delete(b.byKey, key)
		}
	}
}

func (b *Breakers) breaker(key string) *gobreaker.CircuitBreaker[struct{}] {
	b.mu.Lock()
	defer b.mu.Unlock()
	breaker := b.byKey[key]
	if breaker == nil {
		breaker = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
			Name:         key,
			Timeout:      openFor,
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			IsSuccessful: func(err error) bool { return !errors.Is(err, memgraph.ErrUnreachable) },
			// A pass that was cancelled by a failover says nothing about the pod.
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		})
		b.byKey[key] = breaker
	}
	return breaker
}
