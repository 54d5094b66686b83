package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest"
)

// authority signs certificates, whose files are in dir.
type authority struct {
	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	a := &authority{t: t, dir: t.TempDir(), key: key, pool: x509.NewCertPool()}
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.pool.AddCert(a.cert)
	a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// write replaces a file in one step, as a kubelet does.
func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	require.NoError(a.t, os.WriteFile(a.path(name+".new"), b, 0o600))
	require.NoError(a.t, os.Rename(a.path(name+".new"), a.path(name)))
}

// issue writes cert.pem and key.pem for 127.0.0.1 with that serial number.
func (a *authority) issue(serial int64) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	require.NoError(a.t, err)
	secret, err := x509.MarshalECPrivateKey(key)
	require.NoError(a.t, err)
	a.write("key.pem", "EC PRIVATE KEY", secret)
	a.write("cert.pem", "CERTIFICATE", der)
}

// door is one with a's certificate.
func (a *authority) door(c *Config) {
	a.issue(2)
	c.Door = Door{CertFile: a.path("cert.pem"), KeyFile: a.path("key.pem")}
}

// over is TLS over c, to a server with a's certificate.
func (a *authority) over(c net.Conn, own ...tls.Certificate) *tls.Conn {
	return tls.Client(c, &tls.Config{RootCAs: a.pool, ServerName: "127.0.0.1", Certificates: own})
}

// client shakes hands with g, and returns the serial number of its certificate.
func (a *authority) client(g *Gateway, own ...tls.Certificate) (*tls.Conn, int64, error) {
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
	a.issue(1)
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			p := startPair(t, func(c *Config) {
				a.door(c)
				c.BackendTLS = &tls.Config{RootCAs: a.pool, ServerName: "127.0.0.1"}
			}, func(c *memgraphtest.Config) { c.CertFile, c.KeyFile = a.path("cert.pem"), a.path("key.pem") })
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
	assert.EqualValues(t, 2, serial)
	session, err := bolt.Open(c, bolt.Auth{}, "test/1")
	require.NoError(t, err)

	require.NoError(t, os.WriteFile(a.path("cert.pem"), []byte("no certificate"), 0o600))
	waitFor(t, "the loss to be noticed", func() bool { return count()["tls_loads_total failed"] == 1 })
	_, serial, err = a.client(g)
	require.NoError(t, err)
	assert.EqualValues(t, 2, serial)

	a.issue(3)
	waitFor(t, "the certificate to be taken", func() bool {
		_, serial, err := a.client(g)
		return err == nil && serial == 3
	})
	_, err = session.Run(whoQuery)
	assert.NoError(t, err, "a connection is not touched")
	for range 3 {
		_, err := g.keyring.reload()
		assert.NoError(t, err)
	}
	assert.LessOrEqual(t, count()["tls_loads_total failed"], 2.0, "what stays broken is told once")
	assert.InDelta(t, time.Now().Add(time.Hour).Unix(), count()["tls_certificate_expiry_timestamp_seconds"], 60)
}

func TestClientsWithoutACertificateOfTheirOwn(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	main := startProcess(t, roleMain, "x")
	g, count := startCounted(t, func(c *Config) {
		a.door(c)
		c.Door.ClientCAFile = a.path("ca.pem")
	})
	g.Serve("memgraph-0", main.addr, "x", 1)
	stranger.issue(7)
	for name, c := range map[string]struct {
		own     *authority
		refused bool
	}{"none": {nil, true}, "a stranger's": {stranger, true}, "a known one": {a, false}} {
		t.Run(name, func(t *testing.T) {
			var own []tls.Certificate
			if c.own != nil {
				pair, err := tls.LoadX509KeyPair(c.own.path("cert.pem"), c.own.path("key.pem"))
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
	a.issue(1)
	pair, err := tls.LoadX509KeyPair(a.path("cert.pem"), a.path("key.pem"))
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
	s, err := dial(t.Context(), l.Addr().String(), &tls.Config{RootCAs: a.pool, ServerName: "127.0.0.1"})
	require.NoError(t, err)
	defer func() { _ = (<-accepted).Close() }()
	require.NoError(t, s.SetWriteDeadline(time.Now().Add(200*time.Millisecond)))
	for err == nil {
		_, err = s.Write(make([]byte, 1<<20))
	}
	require.True(t, isTimeout(err), "%v", err)
	began := time.Now()
	_ = s.Close() // what it failed with does not matter
	assert.Less(t, time.Since(began), time.Second)
}

// The intake reads all that has come in one record after the other, and holds no
// buffer while it waits for more.
func TestIntakeOverTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue(1)
	pair, err := tls.LoadX509KeyPair(a.path("cert.pem"), a.path("key.pem"))
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
