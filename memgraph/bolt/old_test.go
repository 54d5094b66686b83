package bolt

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOldMessages(t *testing.T) {
	for name, c := range map[string]struct {
		tag    Tag
		fields []any
		want   Message // nil for an error
	}{
		"INIT":              {TagHello, []any{"a/1", map[string]any{"scheme": "none"}}, Hello{map[string]any{"user_agent": "a/1", "scheme": "none"}}},
		"RUN":               {TagRun, []any{"RETURN 1", map[string]any{}}, Run{"RETURN 1", map[string]any{}, map[string]any{}}},
		"PULL_ALL":          {TagPull, nil, Pull{N: -1, QID: -1}},
		"DISCARD_ALL":       {TagDiscard, nil, Discard{N: -1, QID: -1}},
		"RESET":             {TagReset, nil, Reset{}},
		"ACK_FAILURE":       {tagAckFailure, nil, Reset{}},
		"HELLO":             {TagHello, []any{map[string]any{}}, nil},
		"INIT with numbers": {TagHello, []any{int64(1), int64(2)}, nil},
		"RUN of Bolt 4":     {TagRun, []any{"RETURN 1", map[string]any{}, map[string]any{}}, nil},
		"PULL of Bolt 4":    {TagPull, []any{map[string]any{"n": int64(1)}}, nil},
		"BEGIN":             {TagBegin, []any{map[string]any{}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := AppendValue(nil, Structure{Tag: byte(c.tag), Fields: c.fields})
			require.NoError(t, err)
			got, err := ParseOldMessage(b)
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.want == nil, err != nil)
			_, err = ParseOldMessage(append(b, 0))
			assert.Error(t, err)
		})
	}
	_, err := ParseOldMessage(nil)
	assert.Error(t, err)
}
