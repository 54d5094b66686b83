package controller

import (
	"errors"
	"fmt"
	"time"
)

// RegisterBy is how MAIN is told where a replica listens.
type RegisterBy string

// By name the registration outlives the pod's IP; by IP it needs no DNS.
const (
	ByName RegisterBy = "name"
	ByIP   RegisterBy = "ip"
)

// Config of a controller. Its fields are flags of the same names.
type Config struct {
	Namespace   string
	StatefulSet string
	// Identity tells this replica from the others in the lease and the history.
	Identity   string
	RegisterBy RegisterBy

	// LeaseDuration is how long others wait for a leader that went silent;
	// RenewDeadline is when a leader that cannot renew stops; RetryPeriod is
	// between two attempts.
	LeaseDuration time.Duration
	RenewDeadline time.Duration
	RetryPeriod   time.Duration

	// ObserveInterval is between two looks at a pod.
	ObserveInterval time.Duration
	// ProbeTimeout bounds one question for the role of MAIN or its partner.
	ProbeTimeout time.Duration
	// Settle is how long a handover lets other gateways park.
	Settle time.Duration

	UrgentWorkers  int
	RoutineWorkers int
}

// Defaults, for the fields that are not about one cluster.
var Defaults = Config{
	RegisterBy: ByName,
	// A crashed leader is replaced within 6 s + 1 s, against 15 to 17 s with
	// client-go's customary 15/10/2, and the API may fail for 4 s meanwhile.
	LeaseDuration: 6 * time.Second,
	RenewDeadline: 4 * time.Second,
	RetryPeriod:   time.Second,
	// The age of the last SHOW REPLICAS bounds how long a partner that fell
	// behind is still held to be in sync.
	ObserveInterval: time.Second,
	// An instance answers in under a millisecond, and in up to a second during a
	// storm of logins.
	ProbeTimeout: 300 * time.Millisecond,
	// The record reaches the other replicas within 7 ms (p99 as measured).
	Settle:         100 * time.Millisecond,
	UrgentWorkers:  2,
	RoutineWorkers: 8,
}

// minInterval keeps a mistyped unit from turning the controller on its cluster.
const minInterval = 50 * time.Millisecond

// Validate returns everything that is wrong, by flag, with what would be right.
func (c Config) Validate() error {
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
	}
	for flag, value := range map[string]string{"namespace": c.Namespace, "statefulset": c.StatefulSet, "identity": c.Identity} {
		if value == "" {
			wrong(flag, "is empty; name one")
		}
	}
	if c.RegisterBy != ByName && c.RegisterBy != ByIP {
		wrong("register-by", "unknown value %q; use %s or %s", c.RegisterBy, ByName, ByIP)
	}
	for flag, value := range map[string]time.Duration{
		"lease-retry-period": c.RetryPeriod, "observe-interval": c.ObserveInterval, "probe-timeout": c.ProbeTimeout,
	} {
		if value < minInterval {
			wrong(flag, "%s is too short; use at least %s", value, minInterval)
		}
	}
	if c.Settle < 0 {
		wrong("handover-settle", "%s is negative; use 0 or more", c.Settle)
	}
	// client-go asks for the same, with 1.2 as the jitter of its retries.
	if limit := c.RetryPeriod * 12 / 10; c.RenewDeadline <= limit {
		wrong("lease-renew-deadline", "%s is too short; use more than %s, 1.2 times --lease-retry-period", c.RenewDeadline, limit)
	}
	if c.LeaseDuration <= c.RenewDeadline {
		wrong("lease-duration", "%s is too short; use more than --lease-renew-deadline, %s", c.LeaseDuration, c.RenewDeadline)
	}
	if c.LeaseDuration%time.Second != 0 {
		wrong("lease-duration", "%s is not whole seconds, which is all that a Lease can hold", c.LeaseDuration)
	}
	for flag, value := range map[string]int{"urgent-workers": c.UrgentWorkers, "routine-workers": c.RoutineWorkers} {
		if value < 1 {
			wrong(flag, "%d; use 1 or more", value)
		}
	}
	return errors.Join(errs...)
}
