package gateway

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"memgraph-controller/memgraph/bolt"
)

// ending is how a session came to its end; the label of its counter.
type ending string

// The endings, by the counter that they go to.
const (
	// closed_total: by the client or by MAIN.
	endFinished ending = "finished" // after it was relayed
	endLeft     ending = "left"     // before; by the client

	endDismissed ending = "dismissed" // by the gateway, which is stopping, between two units

	// cut_total: by the gateway, after it was relayed.
	endReplaced  ending = "replaced"   // its MAIN is not MAIN any more
	endPinned    ending = "pinned"     // so, and its connection had settings of its own
	endTorn      ending = "torn"       // MAIN was lost within an answer too large to hold back
	endLostTrack ending = "lost_track" // MAIN answered what was not asked
	endStuck     ending = "stuck"      // its client took nothing while MAIN changed
	endDrained   ending = "drained"    // it outlived the gateway's drain

	// refused_total: by the gateway, before.
	endNoMain      ending = "no_main"           // parked for as long as may be
	endOverloaded  ending = "overloaded"        // too many sessions, or too many parked
	endDraining    ending = "draining"          // the gateway is stopping
	endSlow        ending = "handshake_timeout" // no first bytes in time
	endUnknown     ending = "unknown_protocol"
	endProxyHeader ending = "proxy_header"    // malformed
	endHandshake   ending = "tls_handshake"   // failed
	endPlain       ending = "plain"           // no TLS, where that is required
	endOusted      ending = "unauthenticated" // not logged in, where there was no room for others
	endSpurned     ending = "spurned"         // MAIN hangs up on its login
)

// unparked is how a session's parking ended.
type unparked string

// The ways: parked_total = sessions{state="parked"} + the sum of these.
const (
	unparkedServed  unparked = "served"
	unparkedExpired unparked = "expired"
	unparkedGone    unparked = "gone"    // the client left
	unparkedDrained unparked = "drained" // the gateway is stopping
	unparkedLost    unparked = "lost"    // the connection that it had to MAIN
)

// verdict is what one question for the target's role came to.
type verdict string

// The verdicts.
const (
	verdictMain        verdict = "main"
	verdictNotMain     verdict = "not_main"
	verdictOther       verdict = "other_process" // main, but not the wanted run_id
	verdictRefused     verdict = "refused"       // answered with a failure: login, as a rule
	verdictUnreachable verdict = "unreachable"
)

// rerunResult is what running a transaction again came to.
type rerunResult string

// The results.
const (
	rerunDone    rerunResult = "done"
	rerunDiffers rerunResult = "differs" // the client was told to begin anew
)

// loginResult is what a client's login to a MAIN came to.
type loginResult string

// The results.
const (
	loginAccepted loginResult = "accepted"
	loginRefused  loginResult = "refused"
	loginFailed   loginResult = "failed" // the connection did
	loginSpared   loginResult = "spared" // a connection was ready that had logged in before
)

// direction is a way through the gateway.
type direction string

// The directions.
const (
	toMain   direction = "to_main"
	toClient direction = "to_client"
)

// port is whose metrics they are; a label of all of them.
type port string

// The ports.
const (
	portMain port = "main"
	portRead port = "read"
)

// switchBuckets are seconds around the goal of 50 ms and the bar of 500 ms.
var switchBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// metrics obey: accepted = sessions + closed + cut + refused.
type metrics struct {
	accepted, acceptErrors, parked, dialErrors prometheus.Counter
	refusals, paused                           prometheus.Counter
	answered, reruns                           *prometheus.CounterVec
	ends                                       endings
	verified                                   *prometheus.CounterVec
	moved                                      map[direction]prometheus.Counter
	unparked                                   *prometheus.HistogramVec
	logins                                     *loginMetrics
	switched, held                             prometheus.Observer
}

// endings count sessions by how they ended.
type endings struct{ closed, cut, refused *prometheus.CounterVec }

// loginMetrics are those of clients' logins to a MAIN.
type loginMetrics struct {
	results *prometheus.CounterVec
	wait    prometheus.Observer
}

func newLoginMetrics(k *maker, ready *stock) *loginMetrics {
	k.gauge("ready_connections", "Connections kept logged in to who is expected to be MAIN next.", nil, func() float64 {
		legs, _ := ready.size()
		return float64(legs)
	})
	return &loginMetrics{
		results: k.counter("logins_total", "Logins of clients to a MAIN, by what they came to.", "result"),
		wait:    k.histogram("login_wait_seconds", "Time that a login waited for its turn.", prometheus.DefBuckets).WithLabelValues(),
	}
}

func (m *loginMetrics) end(r loginResult) { m.results.WithLabelValues(string(r)).Inc() }

func newMetrics(r prometheus.Registerer, is port, sessions *registry, o *outlook, ready *stock) (*metrics, error) {
	k := &maker{registerer: prometheus.WrapRegistererWith(prometheus.Labels{"port": string(is)}, r)}
	m := &metrics{
		accepted:     k.counter("accepted_total", "Client connections accepted.").WithLabelValues(),
		parked:       k.counter("parked_total", "Times that a session had to wait for a MAIN.").WithLabelValues(),
		dialErrors:   k.counter("dial_errors_total", "Failed connections to the verified MAIN.").WithLabelValues(),
		paused:       k.counter("held_units_total", "Units of connected sessions that were parked while clients were held.").WithLabelValues(),
		acceptErrors: k.counter("accept_errors_total", "Failures to accept a client connection.").WithLabelValues(),
		refusals:     k.counter("not_main_total", "Answers of the verified MAIN that it is none, kept from clients.").WithLabelValues(),
		answered:     k.counter("answered_total", "Units that the gateway answered in MAIN's stead.", "code"),
		reruns:       k.counter("reruns_total", "Interrupted units run again on another connection.", "result"),
		ends: endings{
			closed:  k.counter("closed_total", "Sessions ended by the client or by MAIN.", "reason"),
			cut:     k.counter("cut_total", "Relayed sessions ended by the gateway.", "reason"),
			refused: k.counter("refused_total", "Sessions refused before they were relayed.", "reason"),
		},
		logins:   newLoginMetrics(k, ready),
		verified: k.counter("verify_total", "Questions for the target's role, by what they came to.", "result"),
		moved:    map[direction]prometheus.Counter{},
		unparked: k.histogram("parked_seconds", "Time parked, by how it ended.", prometheus.DefBuckets, "outcome"),
		switched: k.histogram("switch_seconds", "From the word of a MAIN, from losing or from holding it, to serving it.", switchBuckets).WithLabelValues(),
		held:     k.histogram("held_seconds", "For how long clients were held from a MAIN that was to be protected first, or may have been replaced.", switchBuckets).WithLabelValues(),
	}
	bytes := k.counter("bytes_total", "Bytes carried; of relays, counted after a MiB or at the end.", "direction")
	for _, to := range []direction{toMain, toClient} {
		m.moved[to] = bytes.WithLabelValues(string(to))
	}
	for s := range sessionStates {
		k.gauge("sessions", "Sessions, by state.", prometheus.Labels{"state": sessionState(s).String()}, func() float64 {
			return float64(sessions.in(sessionState(s)))
		})
	}
	for _, v := range []view{viewFresh, viewStale, viewIsolated} {
		k.gauge("view", "What can be told of the record: 1 for what holds.", prometheus.Labels{"view": string(v)}, func() float64 {
			if o.at(time.Now()) == v {
				return 1
			}
			return 0
		})
	}
	return m, k.err
}

func (m *metrics) end(how ending) {
	counter := m.ends.refused
	switch how {
	case endFinished, endLeft, endDismissed:
		counter = m.ends.closed
	case endReplaced, endPinned, endTorn, endLostTrack, endStuck, endDrained:
		counter = m.ends.cut
	}
	counter.WithLabelValues(string(how)).Inc()
}

func (m *metrics) unpark(how unparked, took time.Duration) {
	m.unparked.WithLabelValues(string(how)).Observe(took.Seconds())
}

func (m *metrics) rerun(r rerunResult) { m.reruns.WithLabelValues(string(r)).Inc() }

// stoodIn counts a unit that ended with the gateway's own failure.
func (m *metrics) stoodIn(f bolt.Failure) {
	if f.Code != "" {
		m.answered.WithLabelValues(f.Code).Inc()
	}
}

const prefix = "memgraph_controller_gateway_"

// maker registers what it makes and keeps the first error.
type maker struct {
	registerer prometheus.Registerer
	err        error
}

func (k *maker) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
	k.register(c)
	return c
}

func (k *maker) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, labels)
	k.register(h)
	return h
}

func (k *maker) gauge(name, help string, labels prometheus.Labels, value func() float64) {
	k.register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help, ConstLabels: labels}, value))
}

func (k *maker) register(c prometheus.Collector) {
	if err := k.registerer.Register(c); err != nil && k.err == nil {
		k.err = fmt.Errorf("register gateway metrics: %w", err)
	}
}
