package reconcile

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
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
	// the pod again, and openJitter by how much longer that may be, other for each
	// pod: those that failed together are not tried together.
	openFor, openJitter = 2 * time.Second, 500 * time.Millisecond
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

// State of a breaker: its string is the word in status and metrics.
type State string

// States. An open one refuses calls, a half-open one all but one.
const (
	Closed   State = "closed"
	HalfOpen State = "half-open"
	Open     State = "open"
)

// State is that of key's breaker at the moment; a key that has none is Closed.
func (b *Breakers) State(key string) State {
	b.mu.Lock()
	breaker := b.byKey[key]
	b.mu.Unlock()
	if breaker == nil {
		return Closed
	}
	return State(breaker.State().String())
}

// Count is how many breakers are in that state.
func (b *Breakers) Count(s State) (n int) {
	b.mu.Lock()
	breakers := slices.Collect(maps.Values(b.byKey))
	b.mu.Unlock()
	for _, breaker := range breakers {
		if State(breaker.State().String()) == s {
			n++
		}
	}
	return n
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
			Timeout:      openFor + rand.N(openJitter),
			ReadyToTrip:  func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
			IsSuccessful: func(err error) bool { return !errors.Is(err, memgraph.ErrUnreachable) },
			// A pass that was cancelled by a failover says nothing about the pod.
			IsExcluded: func(err error) bool { return errors.Is(err, context.Canceled) },
		})
		b.byKey[key] = breaker
	}
	return breaker
}
