package gateway

import (
	"fmt"
	"log/slog"
	"net"
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
	// DefaultMaxAttaching keeps a released crowd from flooding the new MAIN's
	// accept queue and its one login lock.
	DefaultMaxAttaching = 16
	// DefaultHandshakeTimeout is for a client's first 20 bytes, which a driver
	// sends in its first packet.
	DefaultHandshakeTimeout = 5 * time.Second
	// DefaultHoldTimeout is well above a failover and below the 30 s for which
	// drivers retry a transaction.
	DefaultHoldTimeout = 10 * time.Second
	// DefaultDialTimeout is for a pod in the same cluster, a hop or two away.
	DefaultDialTimeout = 500 * time.Millisecond
	// DefaultVerifyInterval bounds how long a change of role stays unnoticed
	// that breaks no connection.
	DefaultVerifyInterval = time.Second
	// DefaultDrainTimeout fits into a pod's default grace period of 30 s.
	DefaultDrainTimeout = 20 * time.Second
)

// Config of a Gateway. Zero limits take the defaults above.
type Config struct {
	Listen string    // host:port for clients
	Auth   bolt.Auth // for the control link; clients bring their own
	Logger *slog.Logger
	// Registerer takes the metrics; nil leaves them unregistered.
	Registerer prometheus.Registerer
	// Lost, if set, is told that the control link to the verified MAIN broke:
	// evidence, not a verdict. It is called once per loss, in a goroutine of
	// its own which Run waits for.
	Lost func(addr string, generation int64)

	MaxSessions  int // held at once, in whatever state
	MaxParked    int // of them, waiting for a MAIN
	MaxAttaching int // of them, connecting to it at the same time

	HandshakeTimeout time.Duration // for a client's first bytes
	HoldTimeout      time.Duration // for which a client is parked
	DialTimeout      time.Duration // for a connection to MAIN
	VerifyInterval   time.Duration // between two questions for its role
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
	if c.Lost == nil {
		c.Lost = func(string, int64) {}
	}
	for _, f := range []struct {
		name  string
		value *int
		unset int
	}{
		{"MaxSessions", &c.MaxSessions, DefaultMaxSessions},
		{"MaxParked", &c.MaxParked, DefaultMaxParked},
		{"MaxAttaching", &c.MaxAttaching, DefaultMaxAttaching},
	} {
		if err := orDefault(f.name, f.value, f.unset); err != nil {
			return c, err
		}
	}
	for _, f := range []struct {
		name  string
		value *time.Duration
		unset time.Duration
	}{
		{"HandshakeTimeout", &c.HandshakeTimeout, DefaultHandshakeTimeout},
		{"HoldTimeout", &c.HoldTimeout, DefaultHoldTimeout},
		{"DialTimeout", &c.DialTimeout, DefaultDialTimeout},
		{"VerifyInterval", &c.VerifyInterval, DefaultVerifyInterval},
		{"DrainTimeout", &c.DrainTimeout, DefaultDrainTimeout},
	} {
		if err := orDefault(f.name, f.value, f.unset); err != nil {
			return c, err
		}
	}
	return c, nil
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
