package gateway

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAWrongConfigIsRefusedByName(t *testing.T) {
	for want, c := range map[string]Config{
		`Listen "" is not host:port`:        {},
		`Listen "127.0.0.1" is not`:         {Listen: "127.0.0.1"},
		"MaxParked is -1":                   {Listen: "127.0.0.1:0", Limits: Limits{MaxParked: -1}},
		"HoldTimeout is -1s":                {Listen: "127.0.0.1:0", Timeouts: Timeouts{HoldTimeout: -time.Second}},
		"give a positive one, or 0 for 5s":  {Listen: "127.0.0.1:0", Timeouts: Timeouts{HandshakeTimeout: -1}},
		`Rerun is "always": give off,`:      {Listen: "127.0.0.1:0", Rerun: "always"},
		`Administration is "some": give`:    {Listen: "127.0.0.1:0", Administration: "some"},
		"one of CertFile and KeyFile":       {Listen: "127.0.0.1:0", Door: Door{KeyFile: "key.pem"}},
		"ClientCAFile is given without":     {Listen: "127.0.0.1:0", Door: Door{ClientCAFile: "ca.pem"}},
		`TLS is "some": give required or`:   {Listen: "127.0.0.1:0", Door: Door{TLS: "some"}},
		"load certificate: open /none: no":  {Listen: "127.0.0.1:0", Door: Door{CertFile: "/none", KeyFile: "/none"}},
		`Read.Fallback is "any": give main`: {Listen: "127.0.0.1:0", Read: Reading{Fallback: "any"}},
		"listen for clients":                {Listen: "192.0.2.1:0"},
	} {
		_, err := New(c)
		assert.ErrorContains(t, err, want)
	}
}

func TestTwoGatewaysCannotShareTheirMetrics(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	startGateway(t, func(c *Config) { c.Registerer = r })
	_, err := New(Config{Listen: "127.0.0.1:0", Registerer: r})
	assert.ErrorContains(t, err, "register gateway metrics")
}

func TestAcceptingGoesOnWhenFilesAreFree(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	g, err := New(Config{Listen: "127.0.0.1:0", Registerer: r})
	require.NoError(t, err)
	failures := 3
	g.accept = func() (*net.TCPConn, error) {
		if failures--; failures >= 0 {
			return nil, syscall.EMFILE
		}
		return g.listener.AcceptTCP()
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	conn := dialGateway(t, g)
	waitFor(t, "a session", func() bool { return g.Status().Sessions == 1 })
	assert.EqualValues(t, 3, counters(t, r)["accept_errors_total"])
	require.NoError(t, conn.Close())
	stop()
	require.NoError(t, <-done)
}

func TestRunFailsWhenItCanNeverAcceptAgain(t *testing.T) {
	g, err := New(Config{Listen: "127.0.0.1:0"})
	require.NoError(t, err)
	require.NoError(t, g.listener.Close())
	err = g.Run(t.Context())
	assert.ErrorContains(t, err, "accept clients")
	assert.True(t, errors.Is(err, net.ErrClosed))
}
