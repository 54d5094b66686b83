package memgraphtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// What may differ from a recorded answer:
//
//   - run_id, the times and the cost estimate of a summary;
//   - syntax errors after the position;
//   - values of SHOW STORAGE INFO, and everything in the rows of settings and
//     snapshots but their number;
//   - the order of rows, and the identities of nodes on servers that are not new;
//   - for how long a replica is on its way to the state that was recorded;
//   - what statements see that were asked at once, and timestamps after them,
//     after a process was stopped, and after a write that is not modelled;
//   - kind and counts of what was asked instead of something that is not modelled.
//
// Statements that begin with one of these are not modelled, and not asked.
var notModelled = []string{
	"SHOW ACTIVE USERS", "SHOW CURRENT USER", "SHOW USERS", "SHOW TRANSACTIONS", "SHOW LICENSE", "SHOW NEXT SNAPSHOT", "SHOW CONFIG",
	"SHOW DATABASE SETTINGS", "SHOW CONSTRAINT", "SHOW INDEX", "SHOW TRIGGERS", "SHOW STREAMS", "CALL", "CREATE USER", "DROP USER",
	"CREATE CONSTRAINT", "ANALYZE", "FREE MEMORY",
}

// instead holds what is asked in the place of writes that are not modelled.
var instead = map[string]string{
	"CREATE INDEX ON :A(x)":        "CREATE (n:Index) DELETE n",
	"CREATE INDEX ON :A":           "CREATE (n:Index) DELETE n",
	"CREATE INDEX ON :SyncDownIdx": "CREATE (n:Index) DELETE n",
	"DROP INDEX ON :A":             "CREATE (n:Index) DELETE n",
	"CREATE (:A {x:1})-[:R]->(:B)": "CREATE (:A {x:1}), (:B)",
}

// step is one line of a script.
type step struct {
	Do    string `json:"do"` // to the instance: new, start, kill, term, stop, cont, wipe; to the machine: occupy, free
	Flags string `json:"flags"`
	On    string `json:"on"`

	Query      string `json:"query"`
	Await      bool   `json:"await"`      // it was asked until it came to this
	Background bool   `json:"background"` // what follows was done before it was answered
	Joined     bool   `json:"joined"`     // all that was in the background had been answered

	Broken        bool             `json:"broken"` // the connection broke
	Columns       []string         `json:"columns"`
	Rows          [][]any          `json:"rows"`
	Type          string           `json:"type"`
	Keys          []string         `json:"keys"` // of the summary, where they are unusual
	Notifications []map[string]any `json:"notifications"`
	Stats         map[string]any   `json:"stats"`
	Failure       *struct{ Code, Text, At string }

	Transaction string `json:"transaction"`
	Answers     []struct {
		Message, Code, Text string
		Keys                []string
	} `json:"answers"`
}

// readLines reads a file of JSON lines.
func readLines[T any](t testing.TB, path string) []T {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	var list []T
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var line T
		require.NoError(t, json.Unmarshal(lines.Bytes(), &line))
		list = append(list, line)
	}
	require.NoError(t, lines.Err())
	return list
}

// What a real server answered is what the stand-in answers: phases, codes, texts,
// columns, rows, kinds, notifications, counts and the keys of summaries.
func TestAnswersOfARealServer(t *testing.T) {
	t.Parallel()
	onGrounds(t, func(t *testing.T, g ground) {
		only := g.versionOf(t)
		for _, version := range []string{"3.7.2", "3.12.0"} {
			if only != "" && only != version {
				t.Logf("nothing was recorded of %s", only)
				continue
			}
			scripts, err := filepath.Glob(filepath.Join("testdata", version, "*.jsonl"))
			require.NoError(t, err)
			require.NotEmpty(t, scripts)
			for _, path := range scripts {
				t.Run(version+"/"+filepath.Base(path), func(t *testing.T) {
					t.Parallel()
					r := &replay{t: t, ground: g, version: version}
					for i, s := range readLines[step](t, path) {
						r.line = fmt.Sprintf("line %d: %s %s%s%s", i+1, s.On, s.Do, s.Query, s.Transaction)
						r.step(s)
					}
					r.background.Wait()
				})
			}
		}
	})
}

// replay is a script that is being repeated.
type replay struct {
	t          *testing.T
	ground     ground
	version    string
	line       string
	peers      map[string]*peer
	ports      map[string]int
	occupied   net.Listener
	background sync.WaitGroup
	pending    bool // something is in the background
	unordered  bool // something was
}

func (r *replay) step(s step) {
	if s.Joined {
		r.background.Wait()
		r.pending = false
	}
	skipped := slices.ContainsFunc(notModelled, func(prefix string) bool { return strings.HasPrefix(s.Query, prefix) })
	switch {
	case s.Do != "":
		r.act(s)
	case s.Transaction != "":
		r.transaction(s)
	case skipped:
		r.unordered = r.unordered || !strings.HasPrefix(s.Query, "SHOW")
	case s.Background:
		w := loginAt(r.t, r.peers[s.On].host.addr(), v52)
		line, query := r.line, r.translated(s.Query)
		r.pending, r.unordered = true, true
		r.background.Go(func() {
			a, err := w.try(query)
			a.rows = s.Rows
			r.judge(s, a, err, line)
		})
		<-time.After(50 * time.Millisecond) // it is under way
	default:
		r.query(s)
	}
}

// act does what was done to the instances.
func (r *replay) act(s step) {
	r.t.Helper()
	if s.Do == "new" {
		r.unordered = false
		for _, p := range r.peers {
			p.end(syscall.SIGKILL)
		}
		r.peers, r.ports = map[string]*peer{}, map[string]int{}
		for _, extra := range []string{"10009", "10055"} {
			r.ports[extra] = FreePort(r.t, "127.0.0.1")
		}
		return
	}
	p := r.peers[s.On]
	switch s.Do {
	case "start":
		if p == nil {
			k, err := strconv.Atoi(s.On[1:])
			require.NoError(r.t, err)
			p = r.ground.newPeer(r.t, r.version, k-1)
			r.peers[s.On], r.ports[fmt.Sprintf("1000%d", k)] = p, p.port
		}
		p.host.start(r.t, strings.Fields(s.Flags)...)
	case "wipe":
		p.host.wipe(r.t)
	case "kill":
		p.end(syscall.SIGKILL)
	case "term":
		p.end(syscall.SIGTERM)
	case "stop":
		p.host.signal(r.t, syscall.SIGSTOP)
		r.unordered = true
	case "cont":
		p.host.signal(r.t, syscall.SIGCONT)
	case "occupy":
		var err error
		r.occupied, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.ports["10055"]))
		require.NoError(r.t, err)
	case "free":
		require.NoError(r.t, r.occupied.Close())
	}
}

var (
	recordedPort    = regexp.MustCompile(`PORT '?(\d+)`)
	recordedAddress = regexp.MustCompile(`(127\.0\.0\.\d|localhost):(\d+)`)
)

// translated puts our ports and addresses in the place of the recorded ones. An
// instance that was known by several addresses is localhost by the others.
func (r *replay) translated(text string) string {
	text = recordedPort.ReplaceAllStringFunc(text, func(s string) string {
		head, port, quote := "PORT ", strings.TrimPrefix(s, "PORT "), ""
		if strings.HasPrefix(port, "'") {
			quote, port = "'", port[1:]
		}
		if ours, known := r.ports[port]; known {
			port = strconv.Itoa(ours)
		}
		return head + quote + port
	})
	return recordedAddress.ReplaceAllStringFunc(text, func(s string) string {
		hostname, port, _ := strings.Cut(s, ":")
		ours, known := r.ports[port]
		switch {
		case !known:
			return s
		case hostname == "127.0.0."+port[len(port)-1:]:
			hostname = "127.0.0.1"
		default:
			hostname = "localhost"
		}
		return hostname + ":" + strconv.Itoa(ours)
	})
}

// query asks until it is answered as recorded where things may be on their way.
func (r *replay) query(s step) {
	r.t.Helper()
	p, query := r.peers[s.On], r.translated(s.Query)
	if other, replaced := instead[s.Query]; replaced {
		query = other
	}
	a, err := p.try(query)
	if s.Await || s.Type == "r" || s.Query == "SHOW REPLICAS" {
		want := r.rows(s.Query, r.settled(s))
		for deadline := time.Now().Add(10 * time.Second); err == nil && want != r.rows(s.Query, a.rows) && time.Now().Before(deadline); {
			<-time.After(time.Millisecond)
			a, err = p.try(query)
		}
	}
	r.judge(s, a, err, r.line)
}

// judge compares an answer with the recorded one.
func (r *replay) judge(s step, a answered, err error, line string) {
	r.t.Helper()
	if s.Broken {
		assert.Error(r.t, err, line)
		return
	}
	if !assert.NoError(r.t, err, line) {
		return
	}
	if s.Failure != nil {
		if assert.NotNil(r.t, a.failure, line) {
			got := struct{ Code, Text, At string }{a.failure.Code, shortened(s.Failure.Text, a.failure.Message), a.at}
			assert.Equal(r.t, *s.Failure, got, line)
		}
		return
	}
	if !assert.Nil(r.t, a.failure, line) {
		return
	}
	assert.Equal(r.t, r.rows(s.Query, r.settled(s)), r.rows(s.Query, a.rows), line)
	if s.Await {
		return
	}
	assert.ElementsMatch(r.t, s.Columns, a.fields, line)
	assert.ElementsMatch(r.t, s.keys(), slices.Collect(maps.Keys(a.meta)), line)
	assert.Equal(r.t, asJSON(s.Notifications), asJSON(a.meta["notifications"]), line)
	if instead[s.Query] == "" {
		assert.Equal(r.t, s.Type, a.meta["type"], line)
		assert.Equal(r.t, asJSON(s.Stats), asJSON(a.meta["stats"]), line)
	}
}

var administration = regexp.MustCompile(`(?i)^(SHOW|SET|REGISTER|DROP|CREATE (INDEX|SNAPSHOT)|BEGIN|COMMIT)`)

// keys are those of the summary.
func (s step) keys() []string {
	if s.Keys != nil {
		return s.Keys
	}
	keys := []string{"cost_estimate", "db", "has_more", "parsing_time", "planning_time", "run_id", "type"}
	if !administration.MatchString(s.Query) {
		keys = append(keys, "number_of_hops", "plan_execution_time")
	}
	if s.Notifications != nil {
		keys = append(keys, "notifications")
	}
	if s.Stats != nil {
		keys = append(keys, "stats")
	}
	return keys
}

// rows are compared as text, in any order.
func (r *replay) rows(query string, rows [][]any) string {
	text := []string{}
	for _, row := range rows {
		switch {
		case strings.HasPrefix(query, "SHOW STORAGE INFO"):
			row = row[:1]
		case strings.Contains(query, "SNAPSHOT"):
			row = nil
		case query == "SHOW REPLICAS" && r.unordered:
			row = unnumbered(row)
		}
		cells := r.translated(asJSON(row))
		if !r.ground.exact && strings.Contains(cells, "_struct") {
			cells = "a node"
		}
		text = append(text, cells)
	}
	slices.Sort(text)
	return strings.Join(text, "\n")
}

// unnumbered is a row of SHOW REPLICAS that says whether a replica is behind, and
// not how far.
func unnumbered(row []any) []any {
	databases, _ := row[4].(map[string]any)
	m, known := databases["memgraph"].(map[string]any)
	if !known {
		return row
	}
	return append(slices.Clone(row[:4]), m["status"], fmt.Sprint(m["behind"]) == "0")
}

// settled is the recorded rows; of SHOW REPLICAS, with those that were on their
// way where they go.
func (r *replay) settled(s step) [][]any {
	if s.Query != "SHOW REPLICAS" {
		return s.Rows
	}
	for _, row := range s.Rows {
		databases, _ := row[4].(map[string]any)
		m, known := databases["memgraph"].(map[string]any)
		if known && (m["status"] == "recovery" || m["status"] == "replicating" && !r.pending) {
			m["status"], m["ts"], m["behind"] = "ready", m["ts"].(float64)-m["behind"].(float64), 0.0
		}
	}
	return s.Rows
}

func (r *replay) transaction(s step) {
	w := r.peers[s.On].session()
	for _, a := range s.Answers {
		line := r.line + ": " + a.Message
		m := map[string]bolt.Message{
			"BEGIN": bolt.Begin{}, "RUN": bolt.Run{Query: r.translated(s.Transaction)}, "PULL": bolt.Pull{N: -1, QID: -1},
			"COMMIT": bolt.Commit{}, "RESET": bolt.Reset{},
		}[a.Message]
		switch answer := w.ask(m).(type) {
		case bolt.Success:
			assert.ElementsMatch(r.t, a.Keys, slices.Collect(maps.Keys(answer.Meta)), line)
		case bolt.Failure:
			assert.Equal(r.t, bolt.Failure{Code: a.Code, Message: a.Text}, answer, line)
		default:
			require.Fail(r.t, "unexpected answer", "%s: %v", line, answer)
		}
	}
}

// shortened cuts text where the recording was cut.
func shortened(recorded, text string) string {
	start, cut := strings.CutSuffix(recorded, "…")
	if rest, same := strings.CutPrefix(text, start); cut && same && (rest == "" || rest[0] < '0' || rest[0] > '9') {
		return recorded
	}
	return text
}

// asJSON makes Bolt's values comparable with recorded ones; nothing is null.
func asJSON(v any) string {
	b, err := json.Marshal(plain(v))
	if err != nil {
		return err.Error()
	}
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
