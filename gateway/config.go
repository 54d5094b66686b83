package gateway

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"memgraph-controller/memgraph/bolt"
)

// What a Config's zero fields mean.
const (
	// DefaultMaxSessions takes 60,000 file descriptors once all of them relay:
	// two sockets each, and splice's pipe in each direction.
	DefaultMaxSessions = 10_000
	// DefaultMaxParked is all of them: a parked one costs no more than another.
	DefaultMaxParked = DefaultMaxSessions
	// DefaultMaxUnauthenticated is more than connect at the same moment, as a rule,
	// and few for what a connection costs that leads to nothing.
	DefaultMaxUnauthenticated = 256
	// DefaultMaxAttaching keeps a released crowd from flooding the new MAIN's
	// accept queue and its one login lock.
	DefaultMaxAttaching = 16
	// DefaultMaxLogins leaves the verifier a chance between them: on a MAIN with
	// users there is one login at a time, of 0.24 s.
	DefaultMaxLogins = 4
	// DefaultMaxReady is a usual size of drivers' pools; filling it takes 15 s.
	DefaultMaxReady = 64
	// DefaultHandshakeTimeout is for a client's first 20 bytes, which a driver
	// sends in its first packet.
	DefaultHandshakeTimeout = 5 * time.Second
	// DefaultLoginTimeout is for a client to send its login, once it may.
	DefaultLoginTimeout = 15 * time.Second
	// DefaultFinishTimeout is for a MAIN that was demoted and answers slowly: only the
	// client that it owes an answer waits, and after that nobody can tell it what became
	// of its commit. One that died, or was given up, is not waited for.
	DefaultFinishTimeout = 2 * time.Second
	// DefaultRerunLimit holds thousands of statements.
	DefaultRerunLimit = 1 << 20
	// DefaultRerunTotal bounds the gateway's memory for it.
	DefaultRerunTotal = 256 << 20
	// DefaultHoldTimeout is well above a failover and below the 30 s for which
	// drivers retry a transaction.
	DefaultHoldTimeout = 10 * time.Second
	// DefaultDialTimeout is for a pod in the same cluster, a hop or two away.
	DefaultDialTimeout = 500 * time.Millisecond
	// DefaultVerifyInterval bounds how long a change of role stays unnoticed
	// that breaks no connection.
	DefaultVerifyInterval = time.Second
	// DefaultStaleAfter is five times what is between two signs of life of the
	// controller's watch, and more than the 10 s after which it is opened anew.
	DefaultStaleAfter = 15 * time.Second
	// DefaultIsolationGrace outlasts the 2.7 to 3.0 s for which a killed replica is
	// still shown as ready, and one restart of it. Observed on Memgraph 3.12.0.
	DefaultIsolationGrace = 4 * time.Second
	// DefaultNoopInterval keeps the idle timers of balancers that look into TCP from
	// running out: the shortest usual ones are 4 min.
	DefaultNoopInterval = time.Minute
	// DefaultStuckTimeout is for a client that takes nothing while MAIN changes;
	// otherwise it may be as slow as it likes.
	DefaultStuckTimeout = time.Minute
	// DefaultDrainTimeout fits into a pod's default grace period of 30 s.
	DefaultDrainTimeout = 20 * time.Second
)

// CommonVersions of Bolt are those that every Memgraph since 2.9 speaks; 3.12
// added 4.4. Source: Memgraph communication/bolt/v1/constants.hpp.
var CommonVersions = []bolt.Version{{Major: 5, Minor: 2}, {Major: 4, Minor: 3}}

// Config of a Gateway. Zero limits take the defaults above.
type Config struct {
	Listen string     // host:port for clients
	Login  bolt.Login // for the control link; clients bring their own
	Logger *slog.Logger
	// Registerer takes the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer
	// BackendTLS has the rules of connections to Memgraph; nil if they are plain.
	BackendTLS *tls.Config
	// Lost, if set, is told that the control link to the verified MAIN broke:
	// evidence, not a verdict. It is called once per loss, in a goroutine of
	// its own which Run waits for.
	Lost func(addr string, generation int64)

	// Versions of Bolt that every pod speaks, the only ones in which a client can
	// be carried from one MAIN to another; CommonVersions if nil. Clients of other
	// versions are relayed as bytes, and cut when MAIN changes.
	Versions []bolt.Version
	// Rerun says which interrupted transactions are run again; "" is RerunVerified.
	Rerun Rerun
	// Administration says whether clients may change roles and replicas, which in
	// Community every user may; "" is AdministrationAllowed.
	Administration Administration
	// OnIsolation says what becomes of clients where MAIN may have been replaced
	// without this gateway being told; "" is IsolationHold. See Fresh.
	OnIsolation Isolation

	Door Door
	Read Reading
	Limits
	Timeouts
}

// Administration is what becomes of clients' statements about replication.
type Administration string

// The kinds of Administration.
const (
	AdministrationAllowed Administration = "allowed"
	AdministrationDenied  Administration = "denied"
)

// Limits of a Gateway.
type Limits struct {
	MaxSessions int // held at once, in whatever state
	MaxParked   int // of them, waiting for a MAIN
	// MaxUnauthenticated are those that have yet to log in, and may do so; see lobby.
	MaxUnauthenticated int
	MaxAttaching       int // of them, connecting to it at the same time
	MaxLogins          int // of them, logging in to it at the same time
	MaxReady           int // connections kept logged in to the next MAIN; see Prepare
	RerunLimit         int // bytes of a transaction's requests kept to run it again
	RerunTotal         int // bytes of all transactions' requests kept
}

// Timeouts of a Gateway.
type Timeouts struct {
	HandshakeTimeout time.Duration // for a client's first bytes
	LoginTimeout     time.Duration // for each message of its login
	HoldTimeout      time.Duration // for which a client is parked
	FinishTimeout    time.Duration // for answers that a replaced MAIN owes
	DialTimeout      time.Duration // for a connection to MAIN
	VerifyInterval   time.Duration // between two questions for its role
	StuckTimeout     time.Duration // for a client to take something, while MAIN changes
	NoopInterval     time.Duration // between two NOOPs to a client that is silent; 0 is never
	StaleAfter       time.Duration // since Fresh, until the record may be out of date
	IsolationGrace   time.Duration // for MAIN to show that it was not replaced, then
	DrainTimeout     time.Duration // for relays to end once Run's context has
}

// withDefaults is c completed, or an error that names the field to correct.
func (c Config) withDefaults() (Config, error) {
	if _, _, err := net.SplitHostPort(c.Listen); err != nil {
		return c, fmt.Errorf("gateway config: Listen %q is not host:port: %w", c.Listen, err)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	if c.Lost == nil {
		c.Lost = func(string, int64) {}
	}
	if c.Versions == nil {
		c.Versions = CommonVersions
	}
	c.Rerun = cmp.Or(c.Rerun, RerunVerified)
	if !slices.Contains([]Rerun{RerunOff, RerunUnseen, RerunVerified}, c.Rerun) {
		return c, fmt.Errorf("gateway config: Rerun is %q: give off, unseen or verified", c.Rerun)
	}
	c.Administration = cmp.Or(c.Administration, AdministrationAllowed)
	if !slices.Contains([]Administration{AdministrationAllowed, AdministrationDenied}, c.Administration) {
		return c, fmt.Errorf("gateway config: Administration is %q: give allowed or denied", c.Administration)
	}
	return c, errors.Join(c.Door.complete(), c.Read.complete(), c.Limits.complete(), c.Timeouts.complete())
}

// complete fills in what is zero.
func (l *Limits) complete() error {
	return errors.Join(
		orDefault("MaxSessions", &l.MaxSessions, DefaultMaxSessions),
		orDefault("MaxParked", &l.MaxParked, DefaultMaxParked),
		orDefault("MaxUnauthenticated", &l.MaxUnauthenticated, DefaultMaxUnauthenticated),
		orDefault("MaxAttaching", &l.MaxAttaching, DefaultMaxAttaching),
		orDefault("MaxLogins", &l.MaxLogins, DefaultMaxLogins),
		orDefault("MaxReady", &l.MaxReady, DefaultMaxReady),
		orDefault("RerunLimit", &l.RerunLimit, DefaultRerunLimit),
		orDefault("RerunTotal", &l.RerunTotal, DefaultRerunTotal),
	)
}

func (t *Timeouts) complete() error {
	return errors.Join(
		orDefault("HandshakeTimeout", &t.HandshakeTimeout, DefaultHandshakeTimeout),
		orDefault("LoginTimeout", &t.LoginTimeout, DefaultLoginTimeout),
		orDefault("HoldTimeout", &t.HoldTimeout, DefaultHoldTimeout),
		orDefault("FinishTimeout", &t.FinishTimeout, DefaultFinishTimeout),
		orDefault("DialTimeout", &t.DialTimeout, DefaultDialTimeout),
		orDefault("VerifyInterval", &t.VerifyInterval, DefaultVerifyInterval),
		orDefault("StuckTimeout", &t.StuckTimeout, DefaultStuckTimeout),
		orDefault("StaleAfter", &t.StaleAfter, DefaultStaleAfter),
		orDefault("IsolationGrace", &t.IsolationGrace, DefaultIsolationGrace),
		orDefault("DrainTimeout", &t.DrainTimeout, DefaultDrainTimeout),
	)
}

func orDefault[T int | time.Duration](name string, value *T, unset T) error {
	if *value < 0 {
		return fmt.Errorf("gateway config: %s is %v: give a positive one, or 0 for %v", name, *value, unset)
	}
	if *value == 0 {
		*value = unset
	}
	return nil
}
