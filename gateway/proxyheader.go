package gateway

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// errProxyHeader says that a connection that has to begin with a PROXY header
// does not.
var errProxyHeader = errors.New("malformed PROXY header")

// A header of version 1 is a line of at most 107 bytes and at least as many as
// one of version 2 begins with. Source: HAProxy doc/proxy-protocol.txt, 2.1 and 2.2.
const (
	proxyLineLimit = 107
	proxyHead      = 16 // "PROXY UNKNOWN\r\n" is one less
)

var (
	proxyLine      = []byte("PROXY ")
	proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")
)

// readProxyHeader reads one, and nothing of what follows, from a balancer's
// connection. It returns whose connection the balancer forwards, which is its own
// where it checks our health.
func readProxyHeader(c net.Conn) (net.Addr, error) {
	head := make([]byte, proxyHead-1, proxyLineLimit)
	if _, err := io.ReadFull(c, head); err != nil {
		return nil, err
	}
	var from netip.AddrPort
	var err error
	switch {
	case bytes.HasPrefix(head, proxyLine):
		from, err = readProxyLine(c, head)
	case bytes.HasPrefix(head, proxySignature):
		from, err = readProxyBlock(c, head)
	default:
		err = errProxyHeader
	}
	if err != nil || !from.IsValid() {
		return c.RemoteAddr(), err
	}
	return net.TCPAddrFromAddrPort(from), nil
}

// readProxyLine reads version 1 to the end of its line.
func readProxyLine(r io.Reader, line []byte) (netip.AddrPort, error) {
	for !bytes.HasSuffix(line, []byte("\r\n")) {
		if len(line) == proxyLineLimit {
			return netip.AddrPort{}, fmt.Errorf("%w: no end of line", errProxyHeader)
		}
		line = line[:len(line)+1]
		if _, err := io.ReadFull(r, line[len(line)-1:]); err != nil {
			return netip.AddrPort{}, err
		}
	}
	return parseProxyLine(string(line[:len(line)-2]))
}

// parseProxyLine returns the source of "PROXY TCP4 source destination port port",
// none where that is UNKNOWN.
func parseProxyLine(line string) (from netip.AddrPort, err error) {
	words := strings.Split(line, " ")
	if words[1] == "UNKNOWN" {
		return from, nil
	}
	if len(words) != 6 || words[1] != "TCP4" && words[1] != "TCP6" {
		return from, fmt.Errorf("%w: %q", errProxyHeader, line)
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		addr, wrong := netip.ParseAddr(words[2+i])
		port, wrongPort := strconv.ParseUint(words[4+i], 10, 16)
		if wrong != nil || wrongPort != nil || addr.Is4() != (words[1] == "TCP4") {
			return from, fmt.Errorf("%w: %q", errProxyHeader, line)
		}
		ends[i] = netip.AddrPortFrom(addr, uint16(port))
	}
	return ends[0], nil
}

// readProxyBlock reads the rest of version 2: command and family, the length of
// what follows, and that, which begins with the addresses.
func readProxyBlock(r io.Reader, head []byte) (from netip.AddrPort, err error) {
	head = head[:proxyHead]
	if _, err := io.ReadFull(r, head[proxyHead-1:]); err != nil {
		return from, err
	}
	block := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(r, block); err != nil {
		return from, err
	}
	size := map[byte]int{0x1: 4, 0x2: 16}[head[13]>>4] // of an address, by family
	switch command := head[12]; {
	case command == 0x20: // LOCAL: the balancer's own
		return from, nil
	case command != 0x21:
		return from, fmt.Errorf("%w: version and command %#x", errProxyHeader, command)
	case size == 0: // neither IPv4 nor IPv6: of no use to us
		return from, nil
	case len(block) < 2*size+4:
		return from, fmt.Errorf("%w: %d bytes of addresses", errProxyHeader, len(block))
	}
	addr, _ := netip.AddrFromSlice(block[:size])
	return netip.AddrPortFrom(addr, binary.BigEndian.Uint16(block[2*size:])), nil
}
