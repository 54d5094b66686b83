package memgraph_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/memgraphtest"
)

// A certificate that is not trusted is a matter of configuration: its instance
// must not be taken for one that is gone.
func TestTLS(t *testing.T) {
	a, other := memgraphtest.NewAuthority(t), memgraphtest.NewAuthority(t)
	s := server(t, hosts[0], func(c *memgraphtest.Config) { c.CertFile, c.KeyFile = a.CertFile, a.KeyFile })
	plain := server(t, hosts[1])
	for name, c := range map[string]struct {
		tls  memgraph.TLS
		addr string
		kind error
	}{
		"its authority":                 {memgraph.TLS{CAFile: a.CAFile}, s.Addr(), nil},
		"its authority and name":        {memgraph.TLS{CAFile: a.CAFile, ServerName: memgraphtest.CertificateName}, s.Addr(), nil},
		"with a certificate of our own": {memgraph.TLS{CAFile: a.CAFile, CertFile: other.CertFile, KeyFile: other.KeyFile}, s.Addr(), nil},
		"another authority":             {memgraph.TLS{CAFile: other.CAFile}, s.Addr(), memgraph.ErrUnauthenticated},
		"another name":                  {memgraph.TLS{CAFile: a.CAFile, ServerName: "another.test"}, s.Addr(), memgraph.ErrUnauthenticated},
		"the system's authorities":      {memgraph.TLS{ServerName: memgraphtest.CertificateName}, s.Addr(), memgraph.ErrUnauthenticated},
		"an instance without TLS":       {memgraph.TLS{CAFile: a.CAFile}, plain.Addr(), memgraph.ErrUnauthenticated},
		"no TLS":                        {memgraph.TLS{Mode: memgraph.TLSOff}, s.Addr(), memgraph.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			if c.tls.Mode == "" {
				c.tls.Mode = memgraph.TLSOn
			}
			require.NoError(t, c.tls.Validate())
			rules, err := c.tls.Rules()
			require.NoError(t, err)
			prober := memgraph.NewProber(nil, rules)
			defer prober.Close()
			id, err := prober.Identify(within(t, time.Second), c.addr)
			assert.ErrorIs(t, err, c.kind)
			assert.NotErrorIs(t, err, memgraph.ErrRefused)

			client := memgraph.NewClient(nil, rules)
			defer func() { assert.NoError(t, client.Close(t.Context())) }()
			role, err := client.Role(within(t, time.Second), c.addr)
			assert.Equal(t, c.kind == nil, err == nil, "%v", err)
			assert.Equal(t, id.Role, role)
		})
	}
}

// Authorities may be renewed without a restart.
func TestRenewedAuthorities(t *testing.T) {
	a, other := memgraphtest.NewAuthority(t), memgraphtest.NewAuthority(t)
	s := server(t, hosts[0], func(c *memgraphtest.Config) { c.CertFile, c.KeyFile = a.CertFile, a.KeyFile })
	rules, err := memgraph.TLS{Mode: memgraph.TLSOn, CAFile: other.CAFile}.Rules()
	require.NoError(t, err)
	prober := memgraph.NewProber(nil, rules)
	defer prober.Close()
	_, err = prober.Identify(within(t, time.Second), s.Addr())
	require.ErrorIs(t, err, memgraph.ErrUnauthenticated)
	require.NoError(t, os.Rename(a.CAFile, other.CAFile))
	_, err = prober.Identify(within(t, time.Second), s.Addr())
	assert.NoError(t, err)
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	a := memgraphtest.NewAuthority(t)
	for want, c := range map[string]memgraph.TLS{
		"read authorities: open /none":             {CAFile: "/none"},
		"read authorities: there is no certificat": {CAFile: a.KeyFile},
		"load own certificate: open /none":         {CAFile: a.CAFile, CertFile: "/none", KeyFile: a.KeyFile},
	} {
		c.Mode = memgraph.TLSOn
		_, err := c.Rules()
		assert.ErrorContains(t, err, want)
	}
}
