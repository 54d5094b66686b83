package bolt

import "encoding/binary"

// Scan measures the message at the front of b without decoding it: its size in
// bytes with chunk headers and terminator, and its tag. The size is 0 while b
// does not hold the whole message. A NOOP has size 2 and tag 0, and so has a
// message that is too short to have a tag.
func Scan(b []byte) (size int, tag Tag) {
	if len(b) < 2 {
		return 0, 0
	}
	n := int(b[0])<<8 | int(b[1])
	if n >= 2 && len(b) >= n+4 && b[n+2] == 0 && b[n+3] == 0 {
		return n + 4, Tag(b[3])
	}
	return scanChunks(b)
}

// scanChunks is Scan for messages in any number of chunks of any size.
func scanChunks(b []byte) (size int, tag Tag) {
	var head [2]byte
	for at := 0; len(b)-at >= 2; {
		n := int(binary.BigEndian.Uint16(b[at:]))
		at += 2
		if n == 0 {
			if Peek(head[:], b) == len(head) {
				tag = Tag(head[1])
			}
			return at, tag
		}
		if at += n; at > len(b) {
			break
		}
	}
	return 0, 0
}

// Peek copies the first bytes of the payload of the message at the front of b,
// which may be cut off, to dst, and returns how many there were.
func Peek(dst, b []byte) int {
	have := 0
	for have < len(dst) && len(b) >= 2 {
		n := int(binary.BigEndian.Uint16(b))
		if n == 0 {
			break
		}
		b = b[2:]
		n = min(n, len(b))
		have += copy(dst[have:], b[:n])
		b = b[n:]
	}
	return have
}

// Payload is what b, one whole message, carries. It is part of b where that is
// one chunk, and a copy otherwise.
func Payload(b []byte) []byte {
	if n := int(binary.BigEndian.Uint16(b)); n+4 >= len(b) {
		return b[2 : 2+min(n, len(b)-2)]
	}
	p := make([]byte, len(b))
	return p[:Peek(p, b)]
}

// Skipper follows a message that comes in pieces to its end.
type Skipper struct {
	left   int // bytes of the present chunk
	header int // its first byte, once that is known
	half   bool
}

// Skip returns how many bytes of b belong to the message, and whether it ended.
// After that the Skipper is at the start of another.
func (s *Skipper) Skip(b []byte) (n int, ended bool) {
	for n < len(b) {
		if s.left > 0 {
			step := min(s.left, len(b)-n)
			s.left -= step
			n += step
			continue
		}
		c := int(b[n])
		n++
		if s.half = !s.half; s.half {
			s.header = c
			continue
		}
		if s.left = s.header<<8 | c; s.left == 0 {
			return n, true
		}
	}
	return n, false
}

// Lookup returns the encoded value of a key in b, a message's payload whose
// first field is a map, or nil if it is not found there. It allocates nothing.
func Lookup(b []byte, key string) []byte {
	if len(b) < 2 {
		return nil
	}
	d := decoder{b: b[2:]}
	n, ok := d.size(markTinyMap, markMap8)
	for range n {
		if !ok {
			return nil
		}
		length, isString := d.size(markTinyString, markString8)
		name, err := d.take(length)
		value := d.b
		if ok = isString && err == nil && d.skip(0); ok && string(name) == key {
			return value[:len(value)-len(d.b)]
		}
	}
	return nil
}

// Text is what of an encoded string is in b, and whether that is all of it. It
// is nil where b does not begin with a string.
func Text(b []byte) (text []byte, whole bool) {
	d := decoder{b: b}
	n, ok := d.size(markTinyString, markString8)
	if !ok {
		return nil, false
	}
	return d.b[:min(n, len(d.b))], n <= len(d.b)
}

// size reads the marker of a string, list or map, and its length.
func (d *decoder) size(tiny, mark8 byte) (n int, ok bool) {
	m, err := d.take(1)
	if err != nil {
		return 0, false
	}
	if m[0]&0xF0 == tiny {
		return int(m[0] & 0x0F), true
	}
	if m[0] < mark8 || m[0] > mark8+2 {
		return 0, false
	}
	long, err := d.uint(1 << (m[0] - mark8))
	return int(long), err == nil
}

// skip steps over one value.
func (d *decoder) skip(depth int) bool {
	if depth > maxDepth || len(d.b) == 0 {
		return false
	}
	mark := d.b[0]
	switch {
	case mark <= maxTinyInt || int8(mark) >= minTinyInt, mark == markNull, mark == markTrue, mark == markFalse:
		return d.pass(1)
	case mark == markFloat:
		return d.pass(9)
	case mark >= markInt8 && mark <= markInt64:
		return d.pass(1 + 1<<(mark-markInt8))
	case mark&0xF0 == markTinyStruct:
		return d.pass(2) && d.skipAll(int(mark&0x0F), depth)
	case mark&0xF0 == markTinyString || mark >= markString8 && mark < markString8+3:
		n, ok := d.size(markTinyString, markString8)
		return ok && d.pass(n)
	case mark >= markBytes8 && mark < markBytes8+3:
		n, ok := d.size(0xFF, markBytes8)
		return ok && d.pass(n)
	case mark&0xF0 == markTinyList || mark >= markList8 && mark < markList8+3:
		n, ok := d.size(markTinyList, markList8)
		return ok && d.skipAll(n, depth)
	}
	n, ok := d.size(markTinyMap, markMap8)
	return ok && d.skipAll(2*n, depth)
}

func (d *decoder) skipAll(n, depth int) bool {
	if n > len(d.b) { // every value takes a byte at least
		return false
	}
	for range n {
		if !d.skip(depth + 1) {
			return false
		}
	}
	return true
}

func (d *decoder) pass(n int) bool {
	_, err := d.take(n)
	return err == nil
}
