package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// Door says how clients come in.
type Door struct {
	// CertFile and KeyFile are in PEM, as in a Secret of type kubernetes.io/tls. If
	// they are given, the gateway ends clients' TLS; if not, it is carried as bytes.
	CertFile, KeyFile string
	// ClientCAFile, in PEM, names who signs the certificates that clients must have;
	// if it is empty they need none.
	ClientCAFile string
	// TLS says whether clients must use it where it is ended; "" is TLSRequired.
	TLS TLSMode
	// ProxyFrom are the sources whose connections begin with a header of the PROXY
	// protocol, version 1 or 2. From others it is not understood.
	ProxyFrom Prefixes
}

// TLSMode is what becomes of clients without TLS.
type TLSMode string

// The kinds of TLSMode.
const (
	TLSRequired TLSMode = "required"
	TLSOptional TLSMode = "optional"
)

// Prefixes are networks, as a flag's value.
type Prefixes []netip.Prefix

// String is their list, with commas.
func (p *Prefixes) String() string {
	var words []string
	for _, x := range *p {
		words = append(words, x.String())
	}
	return strings.Join(words, ",")
}

// Set takes a list with commas.
func (p *Prefixes) Set(list string) error {
	if *p = nil; list == "" {
		return nil
	}
	for word := range strings.SplitSeq(list, ",") {
		x, err := netip.ParsePrefix(strings.TrimSpace(word))
		if err != nil {
			return fmt.Errorf("%w; use a list like 10.0.0.0/8,fd00::/8", err)
		}
		*p = append(*p, x)
	}
	return nil
}

func (p Prefixes) contain(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && slices.ContainsFunc(p, func(x netip.Prefix) bool { return x.Contains(tcp.AddrPort().Addr().Unmap()) })
}

// complete fills in what is empty.
func (d *Door) complete() error {
	d.TLS = cmp.Or(d.TLS, TLSRequired)
	switch {
	case !slices.Contains([]TLSMode{TLSRequired, TLSOptional}, d.TLS):
		return fmt.Errorf("gateway config: TLS is %q: give required or optional", d.TLS)
	case (d.CertFile == "") != (d.KeyFile == ""):
		return errors.New("gateway config: one of CertFile and KeyFile is empty: give both or neither")
	case d.ClientCAFile != "" && d.CertFile == "":
		return errors.New("gateway config: ClientCAFile is given without CertFile: clients show certificates in TLS only")
	}
	return nil
}

// Why a client was not let in.
var (
	errUnknownProtocol = errors.New("neither Bolt nor TLS nor a WebSocket")
	errPlain           = errors.New("without TLS, which is required")
	errHandshake       = errors.New("tls handshake")
)

// enter leads s through the door: a PROXY header, where one is due, TLS, and the
// first bytes of what it speaks, which are left in s.head. They must all come
// within that time. If there is nothing to carry, s ends.
func (g *Gateway) enter(ctx context.Context, s *session, within time.Duration) ending {
	s.why = s.client.SetDeadline(time.Now().Add(within))
	if s.why == nil && g.cfg.Door.ProxyFrom.contain(s.client.RemoteAddr()) {
		s.client.from, s.why = readProxyHeader(s.client)
	}
	if s.why == nil {
		s.head, s.why = g.open(ctx, s.client)
	}
	switch {
	case s.why == nil:
		s.why = s.client.SetDeadline(time.Time{})
		return ""
	case s.visit.ousted.Load():
		return endOusted
	case isTimeout(s.why):
		return endSlow
	case errors.Is(s.why, errUnknownProtocol):
		return endUnknown
	case errors.Is(s.why, errProxyHeader):
		return endProxyHeader
	case errors.Is(s.why, errHandshake):
		return endHandshake
	case errors.Is(s.why, errPlain):
		return g.refuse(s, endPlain)
	}
	return endLeft
}

// open ends TLS, if c has it, and returns c's first bytes.
func (g *Gateway) open(ctx context.Context, c *socket) ([]byte, error) {
	head, err := readHead(c)
	switch {
	case err != nil || g.keyring == nil:
		return head, err
	case !opensTLS(head):
		if g.cfg.Door.TLS == TLSRequired {
			err = errPlain
		}
		return head, err
	}
	if err := c.secure(context.WithoutCancel(ctx), g.keyring.rules.Load(), head, tls.Server); err != nil {
		return nil, fmt.Errorf("%w: %w", errHandshake, err)
	}
	return readHead(c)
}

// readHead reads a client's first bytes: a whole Bolt handshake, or some of what
// opens TLS or a WebSocket.
func readHead(c *socket) ([]byte, error) {
	head := make([]byte, bolt.HandshakeSize)
	n, err := io.ReadAtLeast(c, head, len(bolt.Magic))
	switch {
	case err != nil:
	case isBolt(head):
		_, err = io.ReadFull(c, head[n:])
		n = len(head)
	case !opensTLS(head) && !strings.HasPrefix(string(head), "GET "):
		err = errUnknownProtocol
	}
	return head[:n], err
}
