package bolt

import (
	"bytes"
	"encoding/hex"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The proposals, and what Memgraph 3.12.0 and 3.7.2 chose when they were recorded.
func TestChooseAsMemgraphDoes(t *testing.T) {
	v3120 := []Version{{1, 0}, {4, 0}, {4, 1}, {4, 3}, {4, 4}, {5, 2}}
	v372 := []Version{{1, 0}, {4, 0}, {4, 1}, {4, 3}, {5, 2}}
	for _, c := range []struct {
		name      string
		proposals string
		offered   []Version
		want      Version
	}{
		{"the Go driver 5.x before manifests", "00080805000204040000010400000003", v3120, Version{5, 2}},
		{"the Go driver with a manifest marker", "000001ff000808050002040400000003", v3120, Version{5, 2}},
		{"5.4 to 5.0", "00040405000000040000000000000000", v3120, Version{5, 2}},
		{"5.2 exactly", "00000205000000000000000000000000", v3120, Version{5, 2}},
		{"5.1 exactly", "00000105000000000000000000000000", v3120, Version{}},
		{"5.0 exactly", "00000005000000000000000000000000", v3120, Version{}},
		{"4.4 to 4.2", "00020404000000000000000000000000", v3120, Version{4, 4}},
		{"4.4 to 4.2 where 4.4 is unknown", "00020404000000000000000000000000", v372, Version{4, 3}},
		{"4.4 exactly where it is unknown", "00000404000000000000000000000000", v372, Version{}},
		{"nothing at all", "00000000000000000000000000000000", v3120, Version{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := hex.DecodeString("6060b017" + c.proposals)
			require.NoError(t, err)
			h, err := ReadHandshake(bytes.NewReader(b))
			require.NoError(t, err)
			assert.Equal(t, b, h.Append(nil), "invariant 1")
			got, ok := h.Choose(c.offered)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.want != Version{}, ok)
		})
	}
}

func TestReadHandshakeRefusesWhatIsNotBolt(t *testing.T) {
	_, err := ReadHandshake(bytes.NewReader([]byte("GET / HTTP/1.1\r\nHost: x\r\n")))
	assert.ErrorIs(t, err, ErrNotBolt)
	_, err = ReadHandshake(bytes.NewReader(Magic[:]))
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestReadVersion(t *testing.T) {
	v, err := ReadVersion(bytes.NewReader(Version{4, 4}.Append(nil)))
	require.NoError(t, err)
	assert.Equal(t, Version{4, 4}, v)

	v, err = ReadVersion(bytes.NewReader([]byte{0, 0, 0, 0}))
	require.NoError(t, err)
	assert.Zero(t, v)

	// The answer of Memgraph 3.12.0 to a client that knows 5.1 only, as recorded.
	_, err = ReadVersion(bytes.NewReader([]byte{0, 0x86, 0xB1, 0x7F}))
	assert.ErrorContains(t, err, "handshake refused")
}
