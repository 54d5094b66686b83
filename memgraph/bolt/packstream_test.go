package bolt

import (
	"bytes"
	"encoding/hex"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// values are one of each form, with the sizes at which a form changes.
func values() []any {
	var vs []any
	for _, i := range []int64{0, 1, -1, -16, -17, 127, 128, -128, -129, 32767, 32768, -32768, -32769,
		math.MaxInt32, math.MaxInt32 + 1, math.MinInt32, math.MinInt32 - 1, math.MaxInt64, math.MinInt64} {
		vs = append(vs, i)
	}
	for _, n := range []int{0, 1, 15, 16, 255, 256, 65535, 65536} {
		list := make([]any, n)
		for i := range list {
			list[i] = int64(i % 7)
		}
		vs = append(vs, strings.Repeat("x", n), bytes.Repeat([]byte{7}, n), list)
	}
	return append(vs, nil, true, false, 0.0, -1.5, math.Inf(1),
		map[string]any{"a": int64(1), "b": []any{"c", nil, map[string]any{}}},
		Structure{Tag: 'N', Fields: []any{int64(1), []any{"L"}, map[string]any{"k": "v"}, "1"}})
}

func TestValuesSurviveARoundTrip(t *testing.T) {
	for _, v := range values() {
		b, err := AppendValue(nil, v)
		require.NoError(t, err)
		got, rest, err := DecodeValue(b)
		require.NoError(t, err)
		assert.Empty(t, rest)
		assert.Equal(t, v, got)
	}
}

func TestATruncatedValueIsAnError(t *testing.T) {
	for _, v := range values() {
		b, err := AppendValue(nil, v)
		require.NoError(t, err)
		for _, n := range []int{0, len(b) / 2, len(b) - 1} {
			_, _, err := DecodeValue(b[:n])
			assert.ErrorIs(t, err, errTruncated, "%T cut at %d of %d", v, n, len(b))
		}
	}
}

func TestHostileValues(t *testing.T) {
	for name, input := range map[string]string{
		"nested lists without end":            strings.Repeat("91", maxDepth+2),
		"a list of four billion":              "d6ffffffff",
		"a map of four billion":               "daffffffff",
		"a string of four billion":            "d2ffffffff",
		"a map whose key is a number":         "a10101",
		"a marker that does not exist":        "c4",
		"a size marker that does not exist":   "d3",
		"a structure that is only a marker":   "b1",
		"each list claims all that follows":   strings.Repeat("d6000fffff", 200_000),
		"a structure of lists without an end": strings.Repeat("b14e91", maxDepth),
	} {
		t.Run(name, func(t *testing.T) {
			b, err := hex.DecodeString(input)
			require.NoError(t, err)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, _, err = DecodeValue(b)
			runtime.ReadMemStats(&after)
			assert.Error(t, err)
			assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(1<<20), "invariant 2")
		})
	}
}

func TestAnUnknownTypeIsAnError(t *testing.T) {
	for _, v := range []any{struct{}{}, []any{make(chan int)}, map[string]any{"k": uint(1)},
		Structure{Tag: 1, Fields: make([]any, 16)}} {
		_, err := AppendValue(nil, v)
		assert.Error(t, err)
	}
}

func FuzzDecodeValue(f *testing.F) {
	for _, v := range values() {
		b, err := AppendValue(nil, v)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, _, err := DecodeValue(b)
		if err != nil {
			return
		}
		again, err := AppendValue(nil, v)
		if err != nil {
			return // a structure may hold more fields than we write
		}
		_, rest, err := DecodeValue(again)
		require.NoError(t, err)
		require.Empty(t, rest)
	})
}
