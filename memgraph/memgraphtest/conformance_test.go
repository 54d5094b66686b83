package memgraphtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// exchange is one line of testdata.
type exchange struct {
	Fresh string `json:"fresh"`
	On    string `json:"on"`

	Query         string           `json:"query"`
	Columns       []string         `json:"columns"`
	Rows          [][]any          `json:"rows"`
	Type          string           `json:"type"`
	Keys          []string         `json:"keys"`
	Notifications []map[string]any `json:"notifications"`
	Stats         map[string]any   `json:"stats"`
	Failure       *struct{ Code, Text, At string }

	Transaction string `json:"transaction"`
	Answers     []struct {
		Message, Code, Text string
		Keys                []string
	} `json:"answers"`
}

func readExchanges(t *testing.T, version string) []exchange {
	t.Helper()
	f, err := os.Open("testdata/" + version + ".jsonl")
	require.NoError(t, err)
	defer f.Close()
	var list []exchange
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e exchange
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
		list = append(list, e)
	}
	require.NoError(t, lines.Err())
	return list
}

// replay holds the servers that a recording is repeated on.
type replay struct {
	t       *testing.T
	version string
	wires   map[string]*wire
	places  *strings.Replacer // the recording's addresses by ours
}

func (r *replay) begin() {
	r.wires = map[string]*wire{}
	var pairs []string
	for i, name := range []string{"n1", "n2", "n3"} {
		s := RunT(r.t, func(c *Config) { c.Version, c.PromotionPoll, c.CheckFrequency = r.version, -1, 20*time.Millisecond })
		r.wires[name] = login(r.t, s, bolt.Version{Major: 5, Minor: 2})
		port := FreePort(r.t, "127.0.0.1")
		pairs = append(pairs, fmt.Sprintf("127.0.0.%d:1000%d", i+1, i+1), fmt.Sprintf("127.0.0.1:%d", port),
			fmt.Sprintf("PORT 1000%d", i+1), fmt.Sprintf("PORT %d", port))
	}
	r.places = strings.NewReplacer(pairs...)
}

// What a real server answered is what the stand-in answers: phases, codes,
// texts, columns, rows, kinds, notifications, counts and the keys of summaries.
// Not compared are times, run_id, and the cost estimate.
func TestAnswersOfARealServer(t *testing.T) {
	for _, version := range []string{"3.7.2", "3.12.0"} {
		t.Run(version, func(t *testing.T) {
			r := &replay{t: t, version: version}
			for _, e := range readExchanges(t, version) {
				switch {
				case e.Fresh != "":
					r.begin()
				case e.Transaction != "":
					r.transaction(e)
				default:
					r.query(e)
				}
			}
		})
	}
}

func (r *replay) query(e exchange) {
	w, name := r.wires[e.On], fmt.Sprintf("%s: %s", e.On, e.Query)
	got := w.statement(r.places.Replace(e.Query))
	if e.Failure != nil {
		require.NotNil(r.t, got.failure, name)
		assert.Equal(r.t, *e.Failure, struct{ Code, Text, At string }{got.failure.Code, shortened(e.Failure.Text, got.failure.Message), got.at}, name)
		return
	}
	require.Nil(r.t, got.failure, name)
	assert.Equal(r.t, e.Columns, got.fields, name)
	assert.Equal(r.t, e.Type, got.meta["type"], name)
	assert.Equal(r.t, e.Keys, slices.Sorted(maps.Keys(got.meta)), name)
	assert.Equal(r.t, asJSON(r.t, e.Notifications), asJSON(r.t, got.meta["notifications"]), name)
	assert.Equal(r.t, asJSON(r.t, e.Stats), asJSON(r.t, got.meta["stats"]), name)
	want := r.rows(e.Query, settled(e))
	if onItsWay := e.Type == "r" || e.Query == "SHOW REPLICAS"; onItsWay {
		waitFor(r.t, name, func() bool {
			same := want == r.rows(e.Query, got.rows)
			if !same {
				got = w.statement(r.places.Replace(e.Query))
			}
			return same
		})
	}
	assert.Equal(r.t, want, r.rows(e.Query, got.rows), name)
}

// rows are compared as text, in any order; of SHOW STORAGE INFO the names only.
func (r *replay) rows(query string, rows [][]any) string {
	text := []string{}
	for _, row := range rows {
		if query == "SHOW STORAGE INFO" {
			row = row[:1]
		}
		text = append(text, r.places.Replace(asJSON(r.t, row)))
	}
	slices.Sort(text)
	return strings.Join(text, "\n")
}

// settled is the recorded rows; of SHOW REPLICAS, with those that were on their
// way where they go.
func settled(e exchange) [][]any {
	if e.Query != "SHOW REPLICAS" {
		return e.Rows
	}
	for _, row := range e.Rows {
		databases, _ := row[4].(map[string]any)
		if m, ok := databases["memgraph"].(map[string]any); ok && m["status"] != "invalid" {
			m["status"], m["ts"], m["behind"] = "ready", m["ts"].(float64)-m["behind"].(float64), 0.0
		}
	}
	return e.Rows
}

func (r *replay) transaction(e exchange) {
	w := r.wires[e.On]
	for _, a := range e.Answers {
		name := fmt.Sprintf("%s: %s of %s", e.On, a.Message, e.Transaction)
		m := map[string]bolt.Message{
			"BEGIN": bolt.Begin{}, "RUN": bolt.Run{Query: r.places.Replace(e.Transaction)}, "PULL": bolt.Pull{N: -1, QID: -1},
			"COMMIT": bolt.Commit{}, "RESET": bolt.Reset{},
		}[a.Message]
		switch answer := w.ask(m).(type) {
		case bolt.Success:
			assert.ElementsMatch(r.t, a.Keys, slices.Collect(maps.Keys(answer.Meta)), name)
		case bolt.Failure:
			assert.Equal(r.t, bolt.Failure{Code: a.Code, Message: a.Text}, answer, name)
		default:
			require.Fail(r.t, "unexpected answer", "%s: %v", name, answer)
		}
	}
}

// shortened cuts text where the recording was cut.
func shortened(recorded, text string) string {
	if start, cut := strings.CutSuffix(recorded, "…"); cut && strings.HasPrefix(text, start+".") {
		return recorded
	}
	return text
}

// asJSON makes Bolt's values comparable with recorded ones.
func asJSON(t *testing.T, v any) string {
	t.Helper()
	if list, ok := v.([]map[string]any); ok && list == nil {
		v = nil
	}
	if m, ok := v.(map[string]any); ok && m == nil {
		v = nil
	}
	b, err := json.Marshal(plain(v))
	require.NoError(t, err)
	return string(b)
}

// plain writes structures as the recording does.
func plain(v any) any {
	switch v := v.(type) {
	case bolt.Structure:
		return map[string]any{"_struct": fmt.Sprintf("0x%02X", v.Tag), "fields": plain(v.Fields)}
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = plain(item)
		}
		return list
	}
	return v
}
