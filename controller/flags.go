package controller

import "flag"

// AddFlags has f set c; what c holds are the defaults.
func (c *Config) AddFlags(f *flag.FlagSet) {
	f.StringVar(&c.Namespace, "namespace", "", "namespace of the StatefulSet (default: the kubeconfig's, or the pod's own)")
	f.StringVar(&c.StatefulSet, "statefulset", "memgraph", "name of the Memgraph StatefulSet")
	f.StringVar(&c.Identity, "identity", c.Identity, "name of this replica in the lease and the history; must be unique")
	f.StringVar((*string)(&c.RegisterBy), "register-by", string(c.RegisterBy), "how MAIN finds replicas: name (stable DNS name) or ip")

	f.DurationVar(&c.LeaseDuration, "lease-duration", c.LeaseDuration, "how long other replicas wait for a silent leader; whole seconds")
	f.DurationVar(&c.RenewDeadline, "lease-renew-deadline", c.RenewDeadline, "how long a leader that cannot renew its lease goes on")
	f.DurationVar(&c.RetryPeriod, "lease-retry-period", c.RetryPeriod, "time between two attempts to get or renew the lease")
	f.DurationVar(&c.ObserveInterval, "observe-interval", c.ObserveInterval, "time between two looks at a pod")
	f.DurationVar(&c.ProbeInterval, "probe-interval", c.ProbeInterval, "time between two questions for the role of MAIN, and of its partner")
	f.DurationVar(&c.ProbeTimeout, "probe-timeout", c.ProbeTimeout, "time after which such a question counts as missed")
	f.IntVar(&c.ProbeMisses, "probe-misses", c.ProbeMisses, "misses in a row that mean a hang: after probe-timeout, and as many probe-interval less one")
	f.DurationVar(&c.Settle, "handover-settle", c.Settle, "time that a planned change of MAIN gives other gateways to park")
	f.IntVar(&c.UrgentWorkers, "urgent-workers", c.UrgentWorkers, "workers of the urgent lane")

	f.StringVar((*string)(&c.Policy.SyncChoice), "sync-mode", string(c.Policy.SyncChoice), "how the partner is registered from now on: auto (strict_sync from Memgraph 3.8 on), strict_sync or sync")
	f.StringVar((*string)(&c.Policy.PartnerLoss), "on-partner-loss", string(c.Policy.PartnerLoss), "what becomes of writes: degrade (they go on unprotected) or wait (they fail until the partner is back)")
	f.StringVar((*string)(&c.Policy.Reseed), "reseed", string(c.Policy.Reseed), "who has a replica start empty that cannot follow MAIN with its data: auto or manual")
	f.IntVar(&c.Policy.MaxFailovers, "max-failovers", c.Policy.MaxFailovers, "failovers within the window after which an operator has to acknowledge them; 0 is any number")
	f.DurationVar(&c.Policy.FailoverWindow, "failover-window", c.Policy.FailoverWindow, "time in which failovers are counted")
}
