package controller

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// watched is what is watched, as a label of metrics.
type watched string

const (
	watchedRecord      watched = "record"
	watchedStatefulSet watched = "statefulset"
	watchedPods        watched = "pods"
	watchedGateways    watched = "gateways"
	watchedLeadership  watched = "leadership"
)

// freshness is whether what is known of the API server's objects is up to date. It is
// safe for concurrent use.
type freshness struct {
	mu     sync.Mutex
	open   bool      // a watch stands
	at     time.Time // as of when all was known last, while none does
	warned bool      // somebody was told so
}

// newFreshness is that of all that is watched, with a metric each.
func newFreshness(f promauto.Factory) map[watched]*freshness {
	all := map[watched]*freshness{}
	for _, kind := range []watched{watchedRecord, watchedStatefulSet, watchedPods, watchedGateways, watchedLeadership} {
		w := &freshness{at: time.Now()}
		all[kind] = w
		f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: metricsPrefix + "watch_stale_seconds", Help: "Time for which changes of what is watched may have gone unnoticed; 0 while the watch stands.",
			ConstLabels: prometheus.Labels{"watch": string(kind)},
		}, func() float64 { return w.stale().Seconds() })
	}
	return all
}

// stands says that a watch does, from when all was known; it returns whether somebody
// was told that it does not.
func (f *freshness) stands() (warned bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	warned = f.warned
	f.open, f.warned = true, false
	return warned
}

// ended says that the watch has.
func (f *freshness) ended() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open {
		f.open, f.at = false, time.Now()
	}
}

// seen says that all is known as of at.
func (f *freshness) seen(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.at = at
}

// missed says that an attempt to know has failed; it returns whether that is news.
func (f *freshness) missed() (news bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	news = !f.warned
	f.warned = true
	return news
}

// stale is for how long changes may have gone unnoticed.
func (f *freshness) stale() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open {
		return 0
	}
	return time.Since(f.at)
}
