package bolt

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// found is a message in a stream: where it ends, and its tag.
type found struct {
	end int
	tag Tag
}

// findSlowly is the obvious way to find the messages of a stream, byte by byte.
func findSlowly(b []byte) (all []found) {
	var header, payload, left int
	var tag Tag
	inHeader := false
	for i, c := range b {
		switch {
		case left > 0:
			left--
			if payload++; payload == 2 {
				tag = Tag(c)
			}
		case !inHeader:
			header, inHeader = int(c), true
		default:
			inHeader = false
			if left = header<<8 | int(c); left == 0 {
				all = append(all, found{i + 1, tag})
				payload, tag = 0, 0
			}
		}
	}
	return all
}

func findByScan(b []byte) (all []found) {
	for at := 0; ; {
		n, tag := Scan(b[at:])
		if n == 0 {
			return all
		}
		at += n
		all = append(all, found{at, tag})
	}
}

// findBySkip finds the ends in pieces whose sizes are drawn from seed.
func findBySkip(b []byte, seed uint64) (ends []int) {
	r := rand.New(rand.NewPCG(seed, 0))
	var s Skipper
	for at := 0; at < len(b); {
		piece := b[at:min(len(b), at+1+r.IntN(9))]
		n, ended := s.Skip(piece)
		at += n
		if ended {
			ends = append(ends, at)
		}
	}
	return ends
}

func FuzzScan(f *testing.F) {
	hello, err := AppendMessage(nil, Hello{Extra: map[string]any{"user_agent": "x"}})
	require.NoError(f, err)
	f.Add(hello, uint64(1))
	f.Add([]byte{0, 0, 0, 1, 0xB0, 0, 1, 0x70, 0, 0, 0, 0}, uint64(2))
	f.Add(AppendChunked(nil, bytes.Repeat([]byte{0xB1}, 600)), uint64(3))
	f.Fuzz(func(t *testing.T, b []byte, seed uint64) {
		want := findSlowly(b)
		assert.Equal(t, want, findByScan(b))
		var ends []int
		for _, m := range want {
			ends = append(ends, m.end)
		}
		assert.Equal(t, ends, findBySkip(b, seed))
		for cut := range min(len(b), 200) { // what arrived so far is scanned too
			require.LessOrEqual(t, len(findByScan(b[:cut])), len(want))
		}
	})
}

func TestScanOnRandomStreams(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		var b []byte
		for range r.IntN(8) {
			b = appendOddly(b, r)
		}
		b = b[:len(b)-r.IntN(len(b)/2+1)]
		want := findSlowly(b)
		require.Equal(t, want, findByScan(b))
		ends := findBySkip(b, r.Uint64())
		require.Len(t, ends, len(want))
		for i, m := range want {
			require.Equal(t, m.end, ends[i])
		}
	}
}

// appendOddly adds a message in chunks of any sizes, at times a NOOP.
func appendOddly(b []byte, r *rand.Rand) []byte {
	for range r.IntN(4) {
		n := 1 + r.IntN(5)
		b = append(b, 0, byte(n))
		for range n {
			b = append(b, byte(r.IntN(3)))
		}
	}
	return append(b, 0, 0)
}

func TestPeekAndPayload(t *testing.T) {
	chunked := []byte{0, 1, 'a', 0, 2, 'b', 'c', 0, 0}
	for name, c := range map[string]struct {
		in   []byte
		want string
	}{
		"in two chunks":          {chunked, "abc"},
		"cut off in a chunk":     {chunked[:6], "ab"},
		"cut off in a header":    {chunked[:4], "a"},
		"in one chunk":           {AppendChunked(nil, []byte("abcdef")), "abcd"},
		"nothing at all":         {nil, ""},
		"followed by another":    {append(bytes.Clone(chunked), chunked...), "abc"},
		"an announced chunk":     {[]byte{0, 9}, ""},
		"a NOOP before the next": {[]byte{0, 0, 0, 1, 'x'}, ""},
	} {
		dst := make([]byte, 4)
		assert.Equal(t, c.want, string(dst[:Peek(dst, c.in)]), name)
	}
	assert.Equal(t, "abc", string(Payload(chunked)))
	assert.Equal(t, "", string(Payload([]byte{0, 0})))
	long := bytes.Repeat([]byte("x"), 2*maxChunk+1)
	assert.Equal(t, long, Payload(AppendChunked(nil, long)))
	whole := AppendChunked(nil, []byte("abc"))
	assert.Zero(t, testing.AllocsPerRun(10, func() { Payload(whole) }))
}

func TestLookupFindsWhatDecodingFinds(t *testing.T) {
	meta := map[string]any{
		"has_more": false, "run_id": "x", "plan_execution_time": 0.5, "type": "rw", "big": int64(1) << 40,
		"stats":  map[string]any{"nodes-created": int64(1), "nested": []any{nil, true, []byte("ab"), int64(-3)}},
		"fields": []any{"a", "b"}, "node": Structure{Tag: 'N', Fields: []any{int64(1), []any{"L"}, map[string]any{}}},
		"long": string(bytes.Repeat([]byte("y"), 300)),
	}
	b, err := AppendMessage(nil, Success{Meta: meta})
	require.NoError(t, err)
	payload := Payload(b)
	for key, want := range meta {
		raw := Lookup(payload, key)
		require.NotNil(t, raw, key)
		got, rest, err := DecodeValue(raw)
		require.NoError(t, err)
		assert.Empty(t, rest)
		assert.Equal(t, want, got, key)
	}
	assert.Nil(t, Lookup(payload, "none"))
	for cut := range payload {
		Lookup(payload[:cut], "none") // invariant 2
	}
	assert.Zero(t, testing.AllocsPerRun(10, func() { Lookup(payload, "type") }))
}

func TestText(t *testing.T) {
	for _, n := range []int{0, 3, 15, 16, 255, 256, 65535, 65536} {
		want := bytes.Repeat([]byte("x"), n)
		b, err := AppendValue(nil, string(want))
		require.NoError(t, err)
		got, whole := Text(append(b, 1, 2))
		assert.True(t, whole)
		assert.Equal(t, string(want), string(got))
		if n > 0 {
			got, whole = Text(b[:len(b)-1])
			assert.False(t, whole)
			assert.Len(t, got, n-1)
		}
	}
	for _, b := range [][]byte{nil, {1}, {0xA1, 0x81}, {0xD0}, {0xD1, 1}} {
		got, whole := Text(b)
		assert.Nil(t, got)
		assert.False(t, whole)
	}
}

func FuzzLookup(f *testing.F) {
	f.Add([]byte{0xB1, 0x70, 0xA1, 0x81, 'k', 0x01}, "k")
	f.Fuzz(func(t *testing.T, payload []byte, key string) {
		got := Lookup(payload, key)
		m, err := ParseMessage(payload)
		if s, ok := m.(Success); err == nil && ok {
			_, has := s.Meta[key]
			assert.Equal(t, has, got != nil)
		}
	})
}

func BenchmarkScan(b *testing.B) {
	stream := bytes.Repeat(AppendChunked(nil, append([]byte{0xB1, 0x71}, make([]byte, 54)...)), 1000)
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		for at := 0; at < len(stream); {
			n, _ := Scan(stream[at:])
			at += n
		}
	}
}
