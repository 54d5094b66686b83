package gateway

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// block is a header of version 2.
func block(command, family byte, body string) string {
	return string(proxySignature) + string([]byte{command, family, byte(len(body) >> 8), byte(len(body))}) + body
}

// v4 are addresses and ports of 192.0.2.7:258 and 192.0.2.8:7687.
const v4 = "\xC0\x00\x02\x07\xC0\x00\x02\x08\x01\x02\x1E\x07"

// headers are what a balancer may send, with the source that it means.
var headers = []struct{ name, header, from string }{
	{"version 1", "PROXY TCP4 192.0.2.7 192.0.2.8 258 7687\r\n", "192.0.2.7:258"},
	{"version 1, IPv6", "PROXY TCP6 2001:db8::7 2001:db8::8 258 7687\r\n", "[2001:db8::7]:258"},
	{"version 1, unknown", "PROXY UNKNOWN\r\n", ""},
	{"version 1, unknown with addresses", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", ""},
	{"version 2", block(0x21, 0x11, v4), "192.0.2.7:258"},
	{"version 2 with more", block(0x21, 0x11, v4+strings.Repeat("\x04\x00\x01x", 90)), "192.0.2.7:258"},
	{"version 2, IPv6", block(0x21, 0x21, "\x20\x01\x0d\xb8"+strings.Repeat("\x00", 11)+"\x07"+strings.Repeat("\x00", 16)+"\x01\x02\x1E\x07"), "[2001:db8::7]:258"},
	{"version 2, local", block(0x20, 0x00, ""), ""},
	{"version 2, of a UNIX socket", block(0x21, 0x31, strings.Repeat("x", 216)), ""},
}

// malformed are what no balancer sends.
var malformed = []string{
	"\x60\x60\xb0\x17\x00\x00\x02\x05\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	"PROXY TCP4 192.0.2.7\r\n",
	"PROXY TCP4 2001:db8::7 2001:db8::8 1 2\r\n",
	"PROXY TCP4 192.0.2.7 192.0.2.8 1 65536\r\n",
	"PROXY UDP4 192.0.2.7 192.0.2.8 1 2\r\n",
	"PROXY TCP4 192.0.2.7 192.0.2.8 1 2" + strings.Repeat(" ", 80) + "\r\n",
	block(0x31, 0x11, v4),
	block(0x22, 0x11, v4),
	block(0x21, 0x11, v4[:11]),
	block(0x21, 0x21, v4),
}

// stream is a connection of which there is only what it says.
type stream struct {
	net.Conn
	io.Reader
}

func (s stream) Read(b []byte) (int, error) { return s.Reader.Read(b) }
func (stream) RemoteAddr() net.Addr         { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1} }

func TestProxyHeaders(t *testing.T) {
	for _, c := range headers {
		t.Run(c.name, func(t *testing.T) {
			rest := strings.NewReader(c.header + "rest")
			from, err := readProxyHeader(stream{Reader: rest})
			require.NoError(t, err)
			if c.from == "" {
				c.from = "10.0.0.1:1"
			}
			assert.Equal(t, c.from, from.String())
			left, err := io.ReadAll(rest)
			require.NoError(t, err)
			assert.Equal(t, "rest", string(left))
		})
	}
	for _, header := range malformed {
		_, err := readProxyHeader(stream{Reader: strings.NewReader(header)})
		assert.ErrorIs(t, err, errProxyHeader, "%q", header)
	}
}

// Whatever comes, a header is taken whole or refused, and nothing behind it is
// touched.
func FuzzProxyHeader(f *testing.F) {
	for _, c := range headers {
		f.Add([]byte(c.header + "rest"))
	}
	for _, header := range malformed {
		f.Add([]byte(header))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		from, err := readProxyHeader(stream{Reader: r})
		taken := b[:len(b)-r.Len()]
		if err != nil {
			assert.True(t, errors.Is(err, errProxyHeader) || r.Len() == 0, "it waits for more only where there is none: %v", err)
			return
		}
		_, err = netip.ParseAddrPort(from.String())
		assert.NoError(t, err)
		again, err := readProxyHeader(stream{Reader: bytes.NewReader(taken)})
		assert.NoError(t, err, "what was taken is a header")
		assert.Equal(t, from, again)
	})
}

// A header counts from where it is expected, and only there.
func TestWhoMayForward(t *testing.T) {
	main := startProcess(t, roleMain, "x")
	a := newAuthority(t)
	for _, c := range []struct {
		name, networks, header string
		tls                    bool
		from, counts           string
	}{
		{"a balancer", "10.0.0.0/8,127.0.0.0/8", headers[0].header, false, "client=192.0.2.7:258", "closed_total left"},
		{"a balancer, with TLS behind", "127.0.0.1/32", headers[4].header, true, "client=192.0.2.7:258", "closed_total left"},
		{"a balancer that forgets", "127.0.0.1/32", "", false, "client=127.0.0.1", "refused_total proxy_header"},
		{"a stranger", "10.0.0.0/8", headers[0].header, false, "client=127.0.0.1", "refused_total unknown_protocol"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log lockedBuffer
			g, count := startCounted(t, func(cfg *Config) {
				if c.tls {
					a.door(cfg)
				}
				require.NoError(t, cfg.Door.ProxyFrom.Set(c.networks))
				cfg.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			g.Serve("memgraph-0", main.addr, "x", 1)
			conn := net.Conn(dialGateway(t, g))
			_, err := io.WriteString(conn, c.header)
			require.NoError(t, err)
			if c.tls {
				conn = a.over(conn)
			}
			_, err = bolt.Open(conn, bolt.Auth{}, "test/1")
			if strings.HasPrefix(c.counts, "closed") {
				require.NoError(t, err)
			} else {
				assert.Error(t, err)
			}
			require.NoError(t, conn.Close())
			waitFor(t, c.counts, func() bool { return g.Status().Sessions == 0 && count()["accepted_total"] == 1 })
			waitFor(t, "a log line", func() bool { return strings.Contains(log.String(), c.from) })
			if !strings.HasPrefix(c.counts, "closed") {
				assert.EqualValues(t, 1, count()[c.counts])
			}
		})
	}
}

// A header that does not end is not waited for.
func TestAnUnfinishedProxyHeader(t *testing.T) {
	g, count := startCounted(t, func(c *Config) {
		require.NoError(t, c.Door.ProxyFrom.Set("127.0.0.1/32"))
		c.HandshakeTimeout = 100 * time.Millisecond
	})
	conn := dialGateway(t, g)
	_, err := io.WriteString(conn, "PROXY TCP4 192.0.2.7 ")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, conn)
	assert.NoError(t, err)
	waitFor(t, "it to be counted", func() bool { return count()["refused_total handshake_timeout"] == 1 })
}

// lockedBuffer is written to and read at the same time.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
