package bolt

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// HandshakeSize is what a client opens with, in bytes: the magic and four
// proposals of four bytes each.
const HandshakeSize = 20

// Magic is how every Bolt connection begins.
var Magic = [4]byte{0x60, 0x60, 0xB0, 0x17}

// ErrNotBolt says that the first bytes are not Bolt's magic.
var ErrNotBolt = errors.New("not a Bolt connection: wrong magic")

// Version of the protocol; the zero value means "none in common".
type Version struct{ Major, Minor byte }

func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major, v.Minor) }

// AtLeast reports whether v is major.minor or newer.
func (v Version) AtLeast(major, minor byte) bool {
	return v.Major > major || v.Major == major && v.Minor >= minor
}

// Proposal offers the versions Major.Minor down to Major.(Minor-Range).
type Proposal struct{ Major, Minor, Range byte }

// Handshake is a client's four proposals, the dearest first.
type Handshake [4]Proposal

// Propose is a handshake that offers just the given versions, at most four.
func Propose(versions ...Version) Handshake {
	var h Handshake
	for i, v := range versions[:min(len(versions), len(h))] {
		h[i] = Proposal{Major: v.Major, Minor: v.Minor}
	}
	return h
}

// ReadHandshake reads a client's first HandshakeSize bytes. It returns
// ErrNotBolt where the magic is missing, with those bytes consumed.
func ReadHandshake(r io.Reader) (Handshake, error) {
	var b [HandshakeSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Handshake{}, err
	}
	return ParseHandshake(b)
}

// ParseHandshake is ReadHandshake on bytes that were read already.
func ParseHandshake(b [HandshakeSize]byte) (Handshake, error) {
	if [4]byte(b[:4]) != Magic {
		return Handshake{}, ErrNotBolt
	}
	var h Handshake
	for i := range h {
		p := b[4+4*i:]
		h[i] = Proposal{Range: p[1], Minor: p[2], Major: p[3]}
	}
	return h, nil
}

// Append adds the handshake's bytes to b.
func (h Handshake) Append(b []byte) []byte {
	b = append(b, Magic[:]...)
	for _, p := range h {
		b = append(b, 0, p.Range, p.Minor, p.Major)
	}
	return b
}

// Choose picks the version as Memgraph does: the first proposal with a match
// wins, a range is walked from its newest version down, and a proposal whose
// minor or major is 0 is matched exactly, its range ignored. ok is false where
// nothing matches. Source: Memgraph v3.12 bolt/v1/states/handshake.hpp:62-125.
func (h Handshake) Choose(offered []Version) (v Version, ok bool) {
	for _, p := range h {
		span := p.Range
		if p.Major == 0 || p.Minor == 0 {
			span = 0
		}
		for step := range min(int(span), int(p.Minor)) + 1 {
			want := Version{Major: p.Major, Minor: p.Minor - byte(step)}
			if want != (Version{}) && slices.Contains(offered, want) {
				return want, true
			}
		}
	}
	return Version{}, false
}

// ReadVersion reads the server's four bytes of answer to a handshake. A zero
// Version means that the server shares none of the proposed ones.
func ReadVersion(r io.Reader) (Version, error) {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return Version{}, err
	}
	if b[0] != 0 || b[1] != 0 {
		// Memgraph answers "no version" with a FAILURE frame instead.
		return Version{}, fmt.Errorf("handshake refused: answered %x", b)
	}
	return Version{Major: b[3], Minor: b[2]}, nil
}

// Append adds the four bytes with which a server answers a handshake.
func (v Version) Append(b []byte) []byte { return append(b, 0, 0, v.Minor, v.Major) }
