package bolt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func messages() []Message {
	m := map[string]any{"k": "v"}
	return []Message{
		Hello{m}, Logon{m}, Logoff{}, Goodbye{}, Reset{}, Run{"RETURN $x", map[string]any{"x": int64(1)}, m},
		Begin{m}, Commit{}, Rollback{}, Pull{N: -1, QID: -1}, Pull{N: 1000, QID: 2}, Discard{N: -1, QID: -1},
		Route{m, []any{}, nil}, Route{m, []any{"b"}, m}, Success{m}, Record{[]any{int64(1), nil}}, Ignored{},
		Failure{Code: "Memgraph.ClientError.MemgraphError.MemgraphError", Message: "no"},
	}
}

func TestMessagesSurviveARoundTrip(t *testing.T) {
	for _, m := range messages() {
		b, err := AppendMessage(nil, m)
		require.NoError(t, err)
		payload, err := NewReader(bytes.NewReader(b), 0).ReadMessage()
		require.NoError(t, err)
		got, err := ParseMessage(payload)
		require.NoError(t, err)
		assert.Equal(t, m, got, "invariant 1")
	}
}

// recorded is bytes that went to and came from a real Memgraph 3.12.0.
var recorded = []struct {
	hex  string
	want Message
}{
	{"001bb101a18a757365725f6167656e748c6d672d70726f62652f312e300000", Hello{map[string]any{"user_agent": "mg-probe/1.0"}}},
	{"000fb16aa186736368656d65846e6f6e650000", Logon{map[string]any{"scheme": "none"}}},
	{"000db3108852455455524e2031a0a00000", Run{"RETURN 1", map[string]any{}, map[string]any{}}},
	{"0006b13fa1816eff0000", Pull{N: -1, QID: -1}},
	{"0006b12fa1816eff0000", Discard{N: -1, QID: -1}},
	{"0002b0020000", Goodbye{}},
	{"0002b00f0000", Reset{}},
	{"0002b06b0000", Logoff{}},
	{"0016b111a2826462886d656d6772617068846d6f646581720000", Begin{map[string]any{"db": "memgraph", "mode": "r"}}},
	{"000db170a1866669656c64739181310000", Success{map[string]any{"fields": []any{"1"}}}},
	{"0003b170a00000", Success{map[string]any{}}},
	{"0004b17191010000", Record{[]any{int64(1)}}},
	{"0002b07e0000", Ignored{}},
	{"005ab170a28d636f6e6e656374696f6e5f696486626f6c742d3186736572766572d0394e656f346a2f76352e31312e3020636f6d70617469626c6520677261706820646174616261736520736572766572202d204d656d67726170680000",
		Success{map[string]any{"connection_id": "bolt-1", "server": "Neo4j/v5.11.0 compatible graph database server - Memgraph"}}},
	{"0086b17fa284636f6465d01b4d656d67726170682e457865637574696f6e457863657074696f6e876d657373616765d057536f6d657468696e672077656e742077726f6e67207768696c6520657865637574696e67207468652071756572792120436865636b2074686520736572766572206c6f677320666f72206d6f72652064657461696c732e0000",
		Failure{"Memgraph.ExecutionException", "Something went wrong while executing the query! Check the server logs for more details."}},
}

func TestBytesOfARealServer(t *testing.T) {
	for _, c := range recorded {
		b, err := hex.DecodeString(c.hex)
		require.NoError(t, err)
		payload, err := NewReader(bytes.NewReader(b), 0).ReadMessage()
		require.NoError(t, err)
		got, err := ParseMessage(payload)
		require.NoError(t, err)
		assert.Equal(t, c.want, got)
		again, err := AppendMessage(nil, c.want)
		require.NoError(t, err)
		assert.Equal(t, c.hex, hex.EncodeToString(again))
	}
}

func TestWrongMessages(t *testing.T) {
	for name, payload := range map[string]any{
		"an unknown tag":          Structure{Tag: 0x55},
		"not a structure":         "x",
		"RUN without a query":     Structure{Tag: byte(TagRun), Fields: []any{int64(1), map[string]any{}, map[string]any{}}},
		"RUN with one field":      Structure{Tag: byte(TagRun), Fields: []any{"q"}},
		"HELLO without a map":     Structure{Tag: byte(TagHello), Fields: []any{"x"}},
		"HELLO with nothing":      Structure{Tag: byte(TagHello)},
		"RESET with a field":      Structure{Tag: byte(TagReset), Fields: []any{"x"}},
		"PULL with n as a string": Structure{Tag: byte(TagPull), Fields: []any{map[string]any{"n": "all"}}},
		"RECORD without a list":   Structure{Tag: byte(TagRecord), Fields: []any{"x"}},
		"ROUTE without a map":     Structure{Tag: byte(TagRoute), Fields: []any{"x", []any{}, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := AppendValue(nil, payload)
			require.NoError(t, err)
			_, err = ParseMessage(b)
			assert.Error(t, err)
		})
	}
	b, err := AppendMessage(nil, Reset{})
	require.NoError(t, err)
	_, err = ParseMessage(append(b[2:4:4], 0xC0))
	assert.ErrorContains(t, err, "not one structure")
}

func TestReaderTakesChunksHoweverTheyArrive(t *testing.T) {
	payload := make([]byte, 3*maxChunk+17)
	for i := range payload {
		payload[i] = byte(rand.IntN(256))
	}
	stream := AppendChunked(nil, payload)
	stream = append(stream, 0, 0)                      // a NOOP
	stream = append(stream, 0, 1, 'a', 0, 2, 'b', 'c') // many small chunks
	stream = append(stream, 0, 1, 'd', 0, 0)           //
	for name, r := range map[string]io.Reader{
		"at once":            bytes.NewReader(stream),
		"one byte at a time": iotest.OneByteReader(bytes.NewReader(stream)),
		"data with EOF":      iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		t.Run(name, func(t *testing.T) {
			reader := NewReader(r, 0)
			for _, want := range [][]byte{payload, {}, []byte("abcd")} {
				got, err := reader.ReadMessage()
				require.NoError(t, err)
				assert.True(t, bytes.Equal(want, got), "%d bytes, wanted %d", len(got), len(want))
			}
			_, err := reader.ReadMessage()
			assert.ErrorIs(t, err, io.EOF)
		})
	}
}

func TestReaderEndsInsideAMessage(t *testing.T) {
	whole := AppendChunked(nil, []byte("abcdef"))
	for n := 1; n < len(whole); n++ {
		_, err := NewReader(bytes.NewReader(whole[:n]), 0).ReadMessage()
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF, "after %d bytes", n)
	}
}

func TestReaderKeepsItsLimit(t *testing.T) {
	r := NewReader(bytes.NewReader(AppendChunked(nil, make([]byte, 100))), 100)
	_, err := r.ReadMessage()
	require.NoError(t, err)
	r = NewReader(bytes.NewReader(AppendChunked(nil, make([]byte, 101))), 100)
	_, err = r.ReadMessage()
	assert.ErrorIs(t, err, ErrTooLarge)
	assert.LessOrEqual(t, cap(r.buf), 100, "invariant 3")
}

func FuzzReader(f *testing.F) {
	for _, m := range messages() {
		b, err := AppendMessage(nil, m)
		require.NoError(f, err)
		f.Add(b)
	}
	for _, c := range recorded {
		b, err := hex.DecodeString(c.hex)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), 1<<16)
		for {
			payload, err := r.ReadMessage()
			if err != nil {
				return
			}
			_, _ = ParseOldMessage(payload) // does not panic
			if m, err := ParseMessage(payload); err == nil {
				_, err = AppendMessage(nil, m)
				require.NoError(t, err)
			}
		}
	})
}

// script plays a server that answers with fixed messages, whatever it is asked.
type script struct{ io.Reader }

func (script) Write(b []byte) (int, error) { return len(b), nil }

func play(t *testing.T, v Version, ms ...Message) script {
	t.Helper()
	b := v.Append(nil)
	for _, m := range ms {
		var err error
		b, err = AppendMessage(append(b, 0, 0), m) // every answer behind a NOOP
		require.NoError(t, err)
	}
	return script{bytes.NewReader(b)}
}

func TestClientReadsRowsAndTheSummary(t *testing.T) {
	c, err := Open(play(t, Version{5, 2}, Success{}, Success{},
		Success{map[string]any{"fields": []any{"replication role"}}}, Record{[]any{"main"}},
		Success{map[string]any{"run_id": "abc", "has_more": false}}), Auth{}, "test/1")
	require.NoError(t, err)
	res, err := c.Run("SHOW REPLICATION ROLE")
	require.NoError(t, err)
	assert.Equal(t, []string{"replication role"}, res.Fields)
	assert.Equal(t, [][]any{{"main"}}, res.Rows)
	assert.Equal(t, "abc", res.RunID())
}

func TestClientStaysUsableAfterAFailure(t *testing.T) {
	failure := Failure{Code: "c", Message: "m"}
	for name, answers := range map[string][]Message{
		"at RUN":  {failure, Ignored{}, Success{}},
		"at PULL": {Success{}, failure, Success{}},
	} {
		t.Run(name, func(t *testing.T) {
			all := append([]Message{Success{}}, answers...)
			all = append(all, Success{}, Record{[]any{int64(1)}}, Success{})
			c, err := Open(play(t, Version{4, 3}, all...), Auth{User: "u", Password: "p"}, "test/1")
			require.NoError(t, err)
			_, err = c.Run("SHOW REPLICAS")
			var got Failure
			require.True(t, errors.As(err, &got))
			assert.Equal(t, failure, got)
			res, err := c.Run("RETURN 1")
			require.NoError(t, err)
			assert.Len(t, res.Rows, 1)
		})
	}
}

func TestOpenFailsClearly(t *testing.T) {
	_, err := Open(play(t, Version{}), Auth{}, "test/1")
	assert.ErrorContains(t, err, "no Bolt version in common")

	refused := Failure{Code: "Memgraph.ClientError.Security.Unauthenticated", Message: "Authentication failure"}
	_, err = Open(play(t, Version{5, 2}, Success{}, refused), Auth{User: "u"}, "test/1")
	assert.ErrorIs(t, err, refused)

	_, err = Open(script{bytes.NewReader(nil)}, Auth{}, "test/1")
	assert.ErrorIs(t, err, io.EOF)
}
