package controller

import (
	"errors"
	"fmt"
	"time"

	"memgraph-controller/memgraph"
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
	// MAIN and its partner are asked for their role every ProbeInterval. ProbeMisses
	// in a row mean that they hang: the first when ProbeTimeout has passed without an
	// answer, the others each ProbeInterval later. ProbeTimeout also bounds the same
	// question on the way to a decision.
	ProbeInterval, ProbeTimeout time.Duration
	ProbeMisses                 int
	// Settle is how long a handover lets other gateways park.
	Settle time.Duration

	UrgentWorkers int

	Policy memgraph.Policy
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
	// storm of logins. A hang is known after 0.8 to 1.05 s.
	ProbeInterval: 250 * time.Millisecond,
	ProbeTimeout:  300 * time.Millisecond,
	ProbeMisses:   3,
	// The record reaches the other replicas within 7 ms (p99 as measured).
	Settle:        100 * time.Millisecond,
	UrgentWorkers: 2,
	// A MAIN that dies five times in ten minutes, whoever it is, has a reason that
	// another failover does not mend.
	Policy: memgraph.Policy{
		SyncChoice: memgraph.ChooseByVersion, PartnerLoss: memgraph.LossDegrades,
		MaxFailovers: 5, FailoverWindow: 10 * time.Minute,
		// Community never mends such a replica, and its data is kept.
		Reseed: memgraph.ReseedAuto,
	},
}

const (
	// minInterval keeps a mistyped unit from turning the controller on its
	// cluster, and maxInterval from making it blind.
	minInterval = 50 * time.Millisecond
	maxInterval = time.Minute
	// maxUrgent bounds what the urgent lane may be told to wait for.
	maxUrgent = 2 * time.Second
	// minChange is what the longest change takes while all is well, five times over: a
	// promotion that nothing speeds up.
	minChange = time.Second
	// maxWindow: what failed a week ago is no sign of what fails today.
	maxWindow = 7 * 24 * time.Hour
	// minHang is what a healthy instance may take to answer, be it starved of CPU;
	// maxHang is when its clients have given up.
	minHang = 500 * time.Millisecond
	maxHang = 30 * time.Second
)

// Validate returns everything that is wrong, by flag, with what would be right.
func (c Config) Validate() error {
	var v violations
	v.empty("namespace", c.Namespace)
	v.empty("statefulset", c.StatefulSet)
	v.empty("identity", c.Identity)
	if c.RegisterBy != ByName && c.RegisterBy != ByIP {
		v.wrong("register-by", "unknown value %q; use %s or %s", c.RegisterBy, ByName, ByIP)
	}
	v.outside("observe-interval", c.ObserveInterval, minInterval, maxInterval)
	v.outside("probe-timeout", c.ProbeTimeout, minInterval, maxUrgent)
	v.outside("probe-interval", c.ProbeInterval, minInterval, maxUrgent)
	if hang := c.ProbeTimeout + time.Duration(c.ProbeMisses-1)*c.ProbeInterval; c.ProbeMisses < 2 || hang < minHang || hang > maxHang {
		v.wrong("probe-misses", "%d make a hang of %s; use 2 or more, for which --probe-timeout and as many --probe-interval less one come to %s to %s",
			c.ProbeMisses, hang, minHang, maxHang)
	}
	v.outside("handover-settle", c.Settle, 0, maxUrgent)
	v.outside("lease-retry-period", c.RetryPeriod, minInterval, maxInterval)
	// client-go asks for the same, with 1.2 as the jitter of its retries.
	if limit := c.RetryPeriod * 12 / 10; c.RenewDeadline <= limit {
		v.wrong("lease-renew-deadline", "%s is too short; use more than %s, 1.2 times --lease-retry-period", c.RenewDeadline, limit)
	}
	if limit := c.RenewDeadline + minChange; c.LeaseDuration < limit {
		v.wrong("lease-duration", "%s is too short; use %s or more, --lease-renew-deadline and %s for what is under way then", c.LeaseDuration, limit, minChange)
	}
	if c.LeaseDuration%time.Second != 0 {
		v.wrong("lease-duration", "%s is not whole seconds, which is all that a Lease can hold", c.LeaseDuration)
	}
	v.fewer("urgent-workers", c.UrgentWorkers)
	v.policy(c.Policy)
	return errors.Join(v...)
}

func (v *violations) policy(p memgraph.Policy) {
	switch p.SyncChoice {
	case memgraph.ChooseByVersion, memgraph.ChooseStrictSync, memgraph.ChooseSync:
	default:
		v.wrong("sync-mode", "unknown value %q; use %s, %s or %s", p.SyncChoice,
			memgraph.ChooseByVersion, memgraph.ChooseStrictSync, memgraph.ChooseSync)
	}
	if p.PartnerLoss != memgraph.LossDegrades && p.PartnerLoss != memgraph.LossWaits {
		v.wrong("on-partner-loss", "unknown value %q; use %s or %s", p.PartnerLoss, memgraph.LossDegrades, memgraph.LossWaits)
	}
	if p.Reseed != memgraph.ReseedAuto && p.Reseed != memgraph.ReseedManual {
		v.wrong("reseed", "unknown value %q; use %s or %s", p.Reseed, memgraph.ReseedAuto, memgraph.ReseedManual)
	}
	// They are counted in the history, which holds no more.
	if p.MaxFailovers < 0 || p.MaxFailovers > memgraph.MaxHistory {
		v.wrong("max-failovers", "%d is out of range; use 0, for any number, to %d", p.MaxFailovers, memgraph.MaxHistory)
	}
	v.outside("failover-window", p.FailoverWindow, maxInterval, maxWindow)
}

// violations collects what is wrong with flags.
type violations []error

func (v *violations) wrong(flag, format string, args ...any) {
	*v = append(*v, fmt.Errorf("--%s: %s", flag, fmt.Sprintf(format, args...)))
}

func (v *violations) empty(flag, value string) {
	if value == "" {
		v.wrong(flag, "is empty; name one")
	}
}

func (v *violations) outside(flag string, value, low, high time.Duration) {
	if value < low || value > high {
		v.wrong(flag, "%s is out of range; use %s to %s", value, low, high)
	}
}

func (v *violations) fewer(flag string, value int) {
	if value < 1 {
		v.wrong(flag, "%d; use 1 or more", value)
	}
}
