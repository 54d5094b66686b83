package gateway

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

// authority is one whose certificate the gateway has.
type authority struct {
	*memgraphtest.Authority
	t testing.TB
}

func newAuthority(t testing.TB) authority { return authority{memgraphtest.NewAuthority(t), t} }

// door is one with a's certificate.
func (a authority) door(c *Config) {
	c.Door = Door{CertFile: a.CertFile, KeyFile: a.KeyFile}
}

// over is TLS over c, to a server with a's certificate.
func (a authority) over(c net.Conn, own ...tls.Certificate) *tls.Conn {
	return tls.Client(c, &tls.Config{RootCAs: a.Pool, ServerName: "127.0.0.1", Certificates: own})
}

// client shakes hands with g, and returns the serial number of its certificate.
func (a authority) client(g *Gateway, own ...tls.Certificate) (*tls.Conn, int64, error) {
	c, err := net.Dial("tcp", g.Addr().String())
	require.NoError(a.t, err)
	a.t.Cleanup(func() { _ = c.Close() })
	require.NoError(a.t, c.SetDeadline(time.Now().Add(10*time.Second)))
	over := a.over(c, own...)
	if err := over.Handshake(); err != nil {
		return nil, 0, err
	}
	return over, over.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

// Everything that is promised to clients holds for those with TLS: drivers in all
// ways do not notice planned changes of MAIN, to which the gateway speaks TLS too.
func TestAPlannedSwitchIsNotNoticedOverTLS(t *testing.T) {
	a := newAuthority(t)
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			p := startPair(t, func(c *Config) {
				a.door(c)
				c.BackendTLS = &tls.Config{RootCAs: a.Pool, ServerName: "127.0.0.1"}
			}, func(c *memgraphtest.Config) { c.CertFile, c.KeyFile = a.CertFile, a.KeyFile })
			l := startLoad(t, "bolt+ssc://"+p.g.Addr().String(), neo4j.NoAuth(), way, 4)
			l.await(40)
			l.forget()
			p.switchOver(10 * time.Millisecond)
			l.await(40)
			l.verdict(t.Name(), p.written)
			l.within(500 * time.Millisecond)
		})
	}
}

func TestPlainClientsAreToldThatTLSIsRequired(t *testing.T) {
	a := newAuthority(t)
	main := startProcess(t, roleMain, "x")
	for mode, want := range map[TLSMode]string{TLSRequired: codePlain, TLSOptional: ""} {
		t.Run(string(mode), func(t *testing.T) {
			g, count := startCounted(t, func(c *Config) {
				a.door(c)
				c.Door.TLS = mode
			})
			g.Serve("memgraph-0", main.addr, "x", 1)
			driver, err := neo4j.NewDriverWithContext("bolt://"+g.Addr().String(), neo4j.NoAuth())
			require.NoError(t, err)
			defer func() { assert.NoError(t, driver.Close(t.Context())) }()
			var refusal *neo4j.Neo4jError
			if errors.As(driver.VerifyConnectivity(t.Context()), &refusal) {
				assert.Equal(t, want, refusal.Code)
				waitFor(t, "it to be counted", func() bool { return count()["refused_total plain"] == 1 })
			} else {
				assert.Empty(t, want)
			}
			c, _, err := a.client(g)
			require.NoError(t, err)
			_, err = bolt.Open(c, bolt.Auth{}, "test/1")
			assert.NoError(t, err)
		})
	}
}

// A renewed certificate is taken without touching connections; a broken one
// leaves the former in place.
func TestARenewedCertificate(t *testing.T) {
	a := newAuthority(t)
	main := startProcess(t, roleMain, "x")
	g, count := startCounted(t, a.door)
	g.Serve("memgraph-0", main.addr, "x", 1)
	c, serial, err := a.client(g)
	require.NoError(t, err)
	assert.EqualValues(t, 1, serial)
	session, err := bolt.Open(c, bolt.Auth{}, "test/1")
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(a.CertFile, []byte("no certificate"), 0o600))
	waitFor(t, "the loss to be noticed", func() bool { return count()["tls_loads_total failed"] == 1 })
	_, serial, err = a.client(g)
	require.NoError(t, err)
	assert.EqualValues(t, 1, serial)

	a.Issue(2)
	waitFor(t, "the certificate to be taken", func() bool {
		_, serial, err := a.client(g)
		return err == nil && serial == 2
	})
	_, err = session.Run(whoQuery)
	assert.NoError(t, err, "a connection is not touched")
	assert.InDelta(t, time.Now().Add(time.Hour).Unix(), count()["tls_certificate_expiry_timestamp_seconds"], 60)
}

// What has not changed is neither taken nor told of again, be it good or not.
func TestReloading(t *testing.T) {
	a := newAuthority(t)
	cfg, err := Config{Listen: "127.0.0.1:0", Door: Door{CertFile: a.CertFile, KeyFile: a.KeyFile, ClientCAFile: a.CAFile}}.withDefaults()
	require.NoError(t, err)
	ring, err := newKeyring(&cfg)
	require.NoError(t, err)
	first := ring.rules.Load()
	for _, step := range []struct {
		name          string
		change        func() error
		changed, good bool
	}{
		{"nothing", func() error { return nil }, false, true},
		{"a key that is not the certificate's", func() error { return os.Rename(newAuthority(t).KeyFile, a.KeyFile) }, true, false},
		{"nothing, after that", func() error { return nil }, false, true},
		{"no CA in the file", func() error { return os.WriteFile(a.CAFile, []byte("none"), 0o600) }, true, false},
		{"no certificate", func() error { return os.Remove(a.CertFile) }, true, false},
		{"none still", func() error { return nil }, false, false},
	} {
		require.NoError(t, step.change())
		changed, err := ring.reload()
		assert.Equal(t, step.changed, changed, step.name)
		assert.Equal(t, step.good, err == nil, "%s: %v", step.name, err)
		assert.Same(t, first, ring.rules.Load(), step.name)
	}
	renewed := memgraphtest.NewAuthority(t)
	ring.door = Door{CertFile: renewed.CertFile, KeyFile: renewed.KeyFile}
	changed, err := ring.reload()
	require.NoError(t, err)
	assert.True(t, changed)
	assert.NotSame(t, first, ring.rules.Load())
}

func TestClientsWithoutACertificateOfTheirOwn(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	main := startProcess(t, roleMain, "x")
	g, count := startCounted(t, func(c *Config) {
		a.door(c)
		c.Door.ClientCAFile = a.CAFile
	})
	g.Serve("memgraph-0", main.addr, "x", 1)
	for name, c := range map[string]struct {
		own     *authority
		refused bool
	}{"none": {nil, true}, "a stranger's": {&stranger, true}, "a known one": {&a, false}} {
		t.Run(name, func(t *testing.T) {
			var own []tls.Certificate
			if c.own != nil {
				pair, err := tls.LoadX509KeyPair(c.own.CertFile, c.own.KeyFile)
				require.NoError(t, err)
				own = append(own, pair)
			}
			conn, _, err := a.client(g, own...)
			require.NoError(t, err, "of TLS 1.3 a client has done its part before it is refused")
			_, err = bolt.Open(conn, bolt.Auth{}, "test/1")
			assert.Equal(t, c.refused, err != nil, "%v", err)
		})
	}
	waitFor(t, "both to be counted", func() bool { return count()["refused_total tls_handshake"] == 2 })
}

// A client that does not go through with TLS is not waited for.
func TestAnUnfinishedTLSHandshake(t *testing.T) {
	a := newAuthority(t)
	g, count := startCounted(t, func(c *Config) {
		a.door(c)
		c.HandshakeTimeout = 200 * time.Millisecond
	})
	silent, garbled := dialGateway(t, g), dialGateway(t, g)
	_, err := silent.Write([]byte("\x16\x03\x01\x02\x00\x01"))
	require.NoError(t, err)
	_, err = garbled.Write([]byte("\x16\x03\x01\x00\x05garbage that is long enough"))
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, silent)
	assert.NoError(t, err)
	_, _ = io.Copy(io.Discard, garbled) // it may be reset, since it said more than was read
	values := count()
	assert.EqualValues(t, 1, values["refused_total handshake_timeout"])
	assert.EqualValues(t, 1, values["refused_total tls_handshake"])
}

// A peer that takes nothing more does not hold up whoever closes its connection.
func TestClosingTLSWaitsForNobody(t *testing.T) {
	a := newAuthority(t)
	pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil && tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake() == nil {
			accepted <- c
		}
	}()
	s, err := dial(t.Context(), l.Addr().String(), &tls.Config{RootCAs: a.Pool, ServerName: "127.0.0.1"})
	require.NoError(t, err)
	defer func() { _ = (<-accepted).Close() }()
	for _, size := range []int{1 << 20, 1 << 10, 1} { // until there is no room for anything
		require.NoError(t, s.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
		for err = nil; err == nil; {
			_, err = s.tcp.Write(make([]byte, size)) // of which TLS knows nothing
		}
		require.True(t, isTimeout(err), "%v", err)
	}
	began := time.Now()
	_ = s.Close() // what it failed with does not matter
	assert.Less(t, time.Since(began), time.Second)
}

// The intake reads all that has come in one record after the other, and holds no
// buffer while it waits for more.
func TestIntakeOverTLS(t *testing.T) {
	a := newAuthority(t)
	pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	dialled := make(chan *tls.Conn, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			close(dialled)
			return
		}
		over := a.over(c)
		_ = over.Handshake()
		dialled <- over
	}()
	c, err := l.Accept()
	require.NoError(t, err)
	s := newSocket(c.(*net.TCPConn))
	defer s.Close()
	require.NoError(t, s.secure(t.Context(), &tls.Config{Certificates: []tls.Certificate{pair}}, nil, tls.Server))
	peer := <-dialled
	defer peer.Close()
	i, err := newIntake(s, buffers)
	require.NoError(t, err)
	assert.True(t, i.quiet())
	for _, word := range []string{"a", "b", "c"} { // three records, which may come at once
		_, err := peer.Write([]byte(word))
		require.NoError(t, err)
	}
	var got []byte
	for len(got) < 3 {
		require.NoError(t, i.fill())
		got = append(got, i.unread()...)
		i.drop(len(i.unread()))
	}
	assert.Equal(t, "abc", string(got))
	assert.Nil(t, i.buf)
	assert.True(t, i.quiet())
	require.NoError(t, peer.CloseWrite())
	assert.ErrorIs(t, i.fill(), io.EOF)
	assert.False(t, i.quiet())
}
