package controller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAWrongConfigNamesTheFlag(t *testing.T) {
	good := Defaults
	good.Namespace, good.StatefulSet, good.Identity = "ns", "mg", "a"
	require.NoError(t, good.Validate())
	for flag, spoil := range map[string]func(*Config){
		"namespace":            func(c *Config) { c.Namespace = "" },
		"statefulset":          func(c *Config) { c.StatefulSet = "" },
		"identity":             func(c *Config) { c.Identity = "" },
		"register-by":          func(c *Config) { c.RegisterBy = "magic" },
		"reseed":               func(c *Config) { c.Policy.Reseed = "sometimes" },
		"lease-duration":       func(c *Config) { c.LeaseDuration = c.RenewDeadline },
		"lease-renew-deadline": func(c *Config) { c.RenewDeadline = c.RetryPeriod },
		"lease-retry-period":   func(c *Config) { c.RetryPeriod = 0 },
		"observe-interval":     func(c *Config) { c.ObserveInterval = time.Microsecond },
		"probe-timeout":        func(c *Config) { c.ProbeTimeout = -1 },
		"probe-interval":       func(c *Config) { c.ProbeInterval = time.Minute },
		"probe-misses":         func(c *Config) { c.ProbeMisses = 1 },
		"handover-settle":      func(c *Config) { c.Settle = -1 },
		"urgent-workers":       func(c *Config) { c.UrgentWorkers = 0 },
		"sync-mode":            func(c *Config) { c.Policy.SyncChoice = "async" },
		"on-partner-loss":      func(c *Config) { c.Policy.PartnerLoss = "panic" },
		"max-failovers":        func(c *Config) { c.Policy.MaxFailovers = 21 },
		"failover-window":      func(c *Config) { c.Policy.FailoverWindow = time.Second },
	} {
		c := good
		spoil(&c)
		err := c.Validate()
		require.Error(t, err, flag)
		assert.Contains(t, err.Error(), "--"+flag+": ")
	}
	hang := func(timeout, interval time.Duration, misses int) error {
		c := good
		c.ProbeTimeout, c.ProbeInterval, c.ProbeMisses = timeout, interval, misses
		return c.Validate()
	}
	assert.ErrorContains(t, hang(50*time.Millisecond, 50*time.Millisecond, 3), "--probe-misses: 3 make a hang of 150ms")
	assert.ErrorContains(t, hang(time.Second, 2*time.Second, 20), "--probe-misses: 20 make a hang of 39s")
	assert.NoError(t, hang(300*time.Millisecond, 250*time.Millisecond, 2))
	c := good
	c.LeaseDuration = 4500 * time.Millisecond
	assert.ErrorContains(t, c.Validate(), "whole seconds")
}
