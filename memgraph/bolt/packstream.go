package bolt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
)

// PackStream's markers. Source: PackStream specification, version 1.
const (
	markTinyString = 0x80
	markTinyList   = 0x90
	markTinyMap    = 0xA0
	markTinyStruct = 0xB0
	markNull       = 0xC0
	markFloat      = 0xC1
	markFalse      = 0xC2
	markTrue       = 0xC3
	markInt8       = 0xC8
	markInt16      = 0xC9
	markInt32      = 0xCA
	markInt64      = 0xCB
	markBytes8     = 0xCC
	markString8    = 0xD0
	markList8      = 0xD4
	markMap8       = 0xD8
	minTinyInt     = -16
	maxTinySize    = 15
	maxTinyInt     = 127
)

// maxDepth bounds the nesting of a decoded value: real rows nest a few levels,
// and a hostile one must not exhaust the stack.
const maxDepth = 64

// maxReserve is how many items of a list or map are reserved on the word of its
// size alone: nested lists may each claim all that follows.
const maxReserve = 64

var errTruncated = errors.New("packstream: value is cut off")

// Structure is a PackStream structure: a node is one with the tag 'N'.
type Structure struct {
	Tag    byte
	Fields []any
}

// AppendValue adds v in PackStream's smallest form to b. It takes nil, bool,
// int, int64, float64, string, []byte, []any, []string, map[string]any and
// Structure; maps are written in the order of their keys, as Memgraph does.
func AppendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, markNull), nil
	case bool:
		if v {
			return append(b, markTrue), nil
		}
		return append(b, markFalse), nil
	case int:
		return appendInt(b, int64(v)), nil
	case int64:
		return appendInt(b, v), nil
	case float64:
		return binary.BigEndian.AppendUint64(append(b, markFloat), math.Float64bits(v)), nil
	case string:
		return append(appendSize(b, markTinyString, markString8, len(v)), v...), nil
	case []byte:
		return append(appendSize(b, 0, markBytes8, len(v)), v...), nil
	case []string:
		b = appendSize(b, markTinyList, markList8, len(v))
		for _, s := range v {
			b, _ = AppendValue(b, s)
		}
		return b, nil
	case []any:
		return appendAll(appendSize(b, markTinyList, markList8, len(v)), v)
	case map[string]any:
		return appendMap(b, v)
	case Structure:
		if len(v.Fields) > maxTinySize {
			return nil, fmt.Errorf("packstream: structure %#x has %d fields, at most %d fit", v.Tag, len(v.Fields), maxTinySize)
		}
		return appendAll(append(b, markTinyStruct|byte(len(v.Fields)), v.Tag), v.Fields)
	}
	return nil, fmt.Errorf("packstream: cannot write a %T", v)
}

func appendAll(b []byte, vs []any) ([]byte, error) {
	var err error
	for _, v := range vs {
		if b, err = AppendValue(b, v); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendMap(b []byte, m map[string]any) ([]byte, error) {
	b = appendSize(b, markTinyMap, markMap8, len(m))
	var err error
	for _, k := range slices.Sorted(maps.Keys(m)) {
		b, _ = AppendValue(b, k)
		if b, err = AppendValue(b, m[k]); err != nil {
			return nil, fmt.Errorf("key %q: %w", k, err)
		}
	}
	return b, nil
}

func appendInt(b []byte, v int64) []byte {
	switch {
	case v >= minTinyInt && v <= maxTinyInt:
		return append(b, byte(v))
	case v >= math.MinInt8 && v <= math.MaxInt8:
		return append(b, markInt8, byte(v))
	case v >= math.MinInt16 && v <= math.MaxInt16:
		return binary.BigEndian.AppendUint16(append(b, markInt16), uint16(v))
	case v >= math.MinInt32 && v <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(append(b, markInt32), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, markInt64), uint64(v))
}

// appendSize writes the marker of something sized; tiny 0 means that there is
// no one-byte form. The 16- and 32-bit markers follow the 8-bit one.
func appendSize(b []byte, tiny, mark8 byte, n int) []byte {
	switch {
	case tiny != 0 && n <= maxTinySize:
		return append(b, tiny|byte(n))
	case n <= math.MaxUint8:
		return append(b, mark8, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, mark8+1), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, mark8+2), uint32(n))
}

// DecodeValue reads one value from the front of b and returns what is left.
// Integers come as int64, lists as []any, maps as map[string]any.
func DecodeValue(b []byte) (v any, rest []byte, err error) {
	d := decoder{b: b}
	v, err = d.value(0)
	return v, d.b, err
}

// decoder walks over b; every method consumes what it returns.
type decoder struct{ b []byte }

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.b) {
		return nil, errTruncated
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p, nil
}

// uint reads a big-endian number of 1, 2, 4 or 8 bytes.
func (d *decoder) uint(width int) (uint64, error) {
	p, err := d.take(width)
	if err != nil {
		return 0, err
	}
	var v uint64
	for _, c := range p {
		v = v<<8 | uint64(c)
	}
	return v, nil
}

func (d *decoder) value(depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("packstream: nested deeper than %d", maxDepth)
	}
	m, err := d.uint(1)
	if err != nil {
		return nil, err
	}
	mark := byte(m)
	switch {
	case mark <= maxTinyInt || int8(mark) >= minTinyInt:
		return int64(int8(mark)), nil
	case mark&0xF0 == markTinyStruct:
		return d.structure(int(mark&0x0F), depth)
	case mark < markNull:
		return d.sized(mark&0xF0, int(mark&0x0F), depth)
	case mark >= markInt8 && mark <= markInt64:
		return d.int(1 << (mark - markInt8))
	case mark >= markBytes8 && mark <= markMap8+2:
		return d.sizedLong(mark, depth)
	}
	return d.scalar(mark)
}

func (d *decoder) scalar(mark byte) (any, error) {
	switch mark {
	case markNull:
		return nil, nil
	case markTrue, markFalse:
		return mark == markTrue, nil
	case markFloat:
		u, err := d.uint(8)
		return math.Float64frombits(u), err
	}
	return nil, fmt.Errorf("packstream: unknown marker %#x", mark)
}

func (d *decoder) int(width int) (any, error) {
	u, err := d.uint(width)
	shift := 64 - 8*width
	return int64(u<<shift) >> shift, err // sign-extended
}

// sizedLong reads the size that follows an 8-, 16- or 32-bit marker.
func (d *decoder) sizedLong(mark byte, depth int) (any, error) {
	kind, width := mark&^3, 1<<(mark&3)
	if mark&3 == 3 {
		return nil, fmt.Errorf("packstream: unknown marker %#x", mark)
	}
	n, err := d.uint(width)
	if err != nil {
		return nil, err
	}
	switch kind {
	case markBytes8:
		p, err := d.take(int(n))
		return slices.Clone(p), err
	case markString8:
		return d.sized(markTinyString, int(n), depth)
	case markList8:
		return d.sized(markTinyList, int(n), depth)
	}
	return d.sized(markTinyMap, int(n), depth)
}

// sized reads a string, list or map of n bytes, items or pairs.
func (d *decoder) sized(kind byte, n, depth int) (any, error) {
	switch kind {
	case markTinyString:
		p, err := d.take(n)
		return string(p), err
	case markTinyList:
		return d.list(n, depth)
	}
	return d.dict(n, depth)
}

func (d *decoder) list(n, depth int) ([]any, error) {
	if n > len(d.b) { // every item takes a byte at least
		return nil, errTruncated
	}
	l := make([]any, 0, min(n, maxReserve))
	for range n {
		v, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		l = append(l, v)
	}
	return l, nil
}

func (d *decoder) dict(n, depth int) (map[string]any, error) {
	if n > len(d.b)/2 {
		return nil, errTruncated
	}
	m := make(map[string]any, min(n, maxReserve))
	for range n {
		k, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		key, ok := k.(string)
		if !ok {
			return nil, fmt.Errorf("packstream: a map's key is a %T", k)
		}
		if m[key], err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (d *decoder) structure(n, depth int) (any, error) {
	tag, err := d.uint(1)
	if err != nil {
		return nil, err
	}
	fields, err := d.list(n, depth)
	return Structure{Tag: byte(tag), Fields: fields}, err
}
