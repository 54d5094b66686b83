package controller

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"k8s.io/client-go/util/workqueue"

	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

const metricsPrefix = "memgraph_controller_"

// fast are buckets for what should take milliseconds and must not take seconds.
var fast = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// metrics of one controller. Labels: lane is urgent or routine, kind is a
// failover.Kind, target main or partner, watch a watched, stage one of
// failover's stages, verb a reconcile.Verb, state a reconcile.State, result ok or error.
type metrics struct {
	// breakers count the pods by the state of their circuit breaker.
	breakers    map[reconcile.State]prometheus.GaugeFunc
	watches     map[watched]*freshness
	unprotected stopwatch

	leading    prometheus.Gauge
	generation prometheus.Gauge
	inSync     prometheus.Gauge
	paused     prometheus.Gauge
	blocked    prometheus.Gauge
	lacking    prometheus.Gauge
	probes     probeMetrics
	plans      *prometheus.CounterVec
	stages     *prometheus.HistogramVec
	steps      *prometheus.CounterVec
	laneWait   *prometheus.HistogramVec

	queueMetrics
}

// queueMetrics are those that workqueues ask for, by lane.
type queueMetrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	queued, worked             *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, breakers *reconcile.Breakers) *metrics {
	f := promauto.With(r)
	gauge := func(name, help string) prometheus.Gauge {
		return f.NewGauge(prometheus.GaugeOpts{Name: metricsPrefix + name, Help: help})
	}
	gauges := func(name, help, label string) *prometheus.GaugeVec {
		return f.NewGaugeVec(prometheus.GaugeOpts{Name: metricsPrefix + name, Help: help}, []string{label})
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return f.NewCounterVec(prometheus.CounterOpts{Name: metricsPrefix + name, Help: help}, labels)
	}
	histograms := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return f.NewHistogramVec(prometheus.HistogramOpts{Name: metricsPrefix + name, Help: help, Buckets: fast}, labels)
	}
	m := &metrics{
		breakers: map[reconcile.State]prometheus.GaugeFunc{},
		watches:  newFreshness(f),

		leading:    gauge("leading", "1 while this replica holds the lease and works."),
		generation: gauge("generation", "Generation of the newest record that was seen."),
		inSync:     gauge("in_sync", "1 while the record says that the partner holds every acknowledged write."),
		paused:     gauge("paused", "1 while the record says that an operator has paused changes of MAIN and partner."),
		blocked:    gauge("blocked", "1 while the leader needs an operator to go on."),
		lacking:    gauge("lacking_pods", "Pods that the leader knows not to do their part for redundancy, as their readiness gates say."),
		probes: probeMetrics{
			isolated:  gauge("isolated", "1 while the leader's probes find neither MAIN nor its partner: it may be cut off itself."),
			lost:      gauges("probe_lost", "1 while probes in a row have found nothing that lives.", "target"),
			answers:   histograms("probe_seconds", "Time until a probe was answered.", "target"),
			evictions: counters("evictions_total", "Pods deleted because commits waited for them in vain.", "result"),
		},
		plans:    counters("plans_total", "Plans that were carried out.", "kind", "result"),
		stages:   histograms("stage_seconds", "Time from the event to the end of a stage of a change of MAIN.", "kind", "stage"),
		steps:    counters("steps_total", "Steps of reconciliation.", "verb", "result"),
		laneWait: histograms("lane_wait_seconds", "Time from the receipt of an event until a worker took it.", "lane"),

		queueMetrics: queueMetrics{
			depth:      gauges("queue_depth", "Keys that wait.", "lane"),
			unfinished: gauges("queue_unfinished_seconds", "Time spent so far on what is being worked on.", "lane"),
			longest:    gauges("queue_longest_running_seconds", "Age of the oldest work under way.", "lane"),
			adds:       counters("queue_adds_total", "Keys that were added.", "lane"),
			retries:    counters("queue_retries_total", "Keys that were added again after an error.", "lane"),
			queued:     histograms("queue_wait_seconds", "Time that keys wait in the queue.", "lane"),
			worked:     histograms("queue_work_seconds", "Time that a key takes.", "lane"),
		},
	}
	for _, state := range []reconcile.State{reconcile.Closed, reconcile.HalfOpen, reconcile.Open} {
		m.breakers[state] = f.NewGaugeFunc(prometheus.GaugeOpts{
			Name: metricsPrefix + "breakers", Help: "Pods by the state of the circuit breaker that work on them is behind.",
			ConstLabels: prometheus.Labels{"state": string(state)},
		}, func() float64 { return float64(breakers.Count(state)) })
	}
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: metricsPrefix + "unprotected_seconds_total", Help: "Time for which the record has said that no partner holds every acknowledged write.",
	}, func() float64 { return m.unprotected.total().Seconds() })
	return m
}

// stopwatch adds up the time for which it runs. Safe for concurrent use.
type stopwatch struct {
	mu      sync.Mutex
	before  time.Duration
	started time.Time // zero while it stands
}

func (w *stopwatch) run(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case on && w.started.IsZero():
		w.started = time.Now()
	case !on && !w.started.IsZero():
		w.before, w.started = w.before+time.Since(w.started), time.Time{}
	}
}

func (w *stopwatch) total() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started.IsZero() {
		return w.before
	}
	return w.before + time.Since(w.started)
}

// record shows what a record says.
func (m *metrics) record(t memgraph.Topology) {
	m.generation.Set(float64(t.Generation))
	m.inSync.Set(one(t.InSync))
	m.unprotected.run(!t.InSync)
	m.paused.Set(one(t.Paused != nil))
}

// probeMetrics are those of the sentries.
type probeMetrics struct {
	isolated  prometheus.Gauge
	lost      *prometheus.GaugeVec
	answers   *prometheus.HistogramVec
	evictions *prometheus.CounterVec
}

// judged shows what the probes of one part have come to; isolated, if those of both
// have found nothing.
func (m *probeMetrics) judged(part probed, v memgraph.Verdict, isolated bool) {
	m.lost.WithLabelValues(string(part)).Set(one(v.Lost()))
	m.isolated.Set(one(isolated))
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

// The methods below make metrics the workqueues' provider; name is the lane.

func (m *metrics) NewDepthMetric(name string) workqueue.GaugeMetric {
	return m.depth.WithLabelValues(name)
}

func (m *metrics) NewAddsMetric(name string) workqueue.CounterMetric {
	return m.adds.WithLabelValues(name)
}

func (m *metrics) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return m.queued.WithLabelValues(name)
}

func (m *metrics) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return m.worked.WithLabelValues(name)
}

func (m *metrics) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.unfinished.WithLabelValues(name)
}

func (m *metrics) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.longest.WithLabelValues(name)
}

func (m *metrics) NewRetriesMetric(name string) workqueue.CounterMetric {
	return m.retries.WithLabelValues(name)
}
