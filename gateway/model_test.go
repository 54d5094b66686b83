package gateway

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// world is what took effect, on whatever MAIN: a commit of one is on the next,
// as with a SYNC replica.
type world struct {
	mu      sync.Mutex
	commits map[string]int
}

func (w *world) commit(ids ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range ids {
		w.commits[id]++
	}
}

func (w *world) committed(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.commits[id]
}

// stage is where in a request's life an oracle fails.
type stage string

const (
	beforeApply stage = "it dies before it obeys"
	afterApply  stage = "it dies before it answers"
	halfAnswer  stage = "it dies within its answer"
	halfRow     stage = "it dies within the first row"
	noMain      stage = "it is not MAIN any more"
	heldBefore  stage = "clients are held before it obeys"
	heldAfter   stage = "clients are held before it answers"
)

var errDied = errors.New("the oracle died")

// oracle is a Memgraph that obeys Bolt's state machine, writes to the world, and
// fails once, at one stage of one request.
type oracle struct {
	*process
	world *world
	rows  int    // of each statement
	cell  string // in each of them

	failing  sync.Mutex
	at       int // the request at which it fails, counted from 0; -1 never
	stage    stage
	atCommit stage         // of the next COMMIT
	died     chan struct{} // closed once it has failed
	mayDie   chan struct{} // if set, it waits for it within an answer
	hold     func()        // at the last two stages
	heard    []string      // requests of clients
}

func startOracle(t testing.TB, w *world, runID string, at int, s stage) *oracle {
	o := &oracle{process: startProcess(t, roleMain, runID), world: w, rows: 2, at: at, stage: s, died: make(chan struct{})}
	o.set(func(p *process) { p.converse = o.talk })
	return o
}

// stageOf counts a request and says whether o fails at it.
func (o *oracle) stageOf(m bolt.Message) stage {
	o.failing.Lock()
	defer o.failing.Unlock()
	o.heard = append(o.heard, m.Tag().String())
	if len(o.heard)-1 != o.at {
		return ""
	}
	if o.stage == noMain {
		o.set(func(p *process) { p.role = "replica" })
		close(o.died)
	}
	return o.stage
}

func (o *oracle) count() int {
	o.failing.Lock()
	defer o.failing.Unlock()
	return len(o.heard)
}

func (o *oracle) talk(c net.Conn, r *bolt.Reader) error {
	s := &oracleSession{oracle: o}
	for {
		payload, err := r.ReadMessage()
		if err != nil {
			return err
		}
		if len(payload) == 0 {
			return errDied // a NOOP, at which Memgraph hangs up
		}
		m, err := bolt.ParseMessage(payload)
		if err != nil {
			return err
		}
		var fails stage
		if counts(m) && !s.control(m) {
			fails = cmp.Or(o.stageOf(m), o.endsIn(m))
		}
		switch fails {
		case beforeApply:
			return o.die()
		case heldBefore:
			o.hold()
		}
		var out []byte
		for _, a := range s.obey(m) {
			if out, err = bolt.AppendMessage(out, a); err != nil {
				return err
			}
		}
		switch fails {
		case afterApply:
			return o.die()
		case heldAfter:
			o.hold()
		case halfAnswer, halfRow:
			part := len(out) - 3
			if fails == halfRow {
				part = len(out) / 3
			}
			_, _ = c.Write(out[:part])
			if o.mayDie != nil {
				<-o.mayDie
			}
			return o.die()
		}
		if _, err := c.Write(out); err != nil || s.closed {
			return err
		}
	}
}

// counts says which requests are the client's own; logins are repeated.
func counts(m bolt.Message) bool {
	return !slices.Contains([]bolt.Tag{bolt.TagHello, bolt.TagLogon, bolt.TagGoodbye}, m.Tag())
}

// die is kill from within; it does not wait for the connections' goroutines, of
// which its caller is one.
func (o *oracle) die() error {
	_ = o.listener.Close()
	o.resetAll()
	close(o.died)
	return errDied
}

// oracleSession is one connection to an oracle.
type oracleSession struct {
	*oracle
	tx       []string
	inTx     bool
	query    string
	failed   bool
	closed   bool
	asksRole bool
	left     int // rows of the open result
	knownAs  string
}

// control reports whether m is the gateway's own question for the role.
func (s *oracleSession) control(m bolt.Message) bool {
	run, isRun := m.(bolt.Run)
	_, isPull := m.(bolt.Pull)
	s.asksRole = isRun && run.Query == roleQuery || isPull && s.asksRole
	return s.asksRole
}

func (s *oracleSession) fail(text string) []bolt.Message {
	s.failed = true
	return []bolt.Message{bolt.Failure{Code: "Memgraph.ClientError.MemgraphError.MemgraphError", Message: text}}
}

// obey is Memgraph's state machine, in so far as the gateway relies on it.
func (s *oracleSession) obey(m bolt.Message) []bolt.Message {
	done := []bolt.Message{bolt.Success{}}
	s.process.mu.Lock()
	isMain := s.role == roleMain
	s.knownAs = s.runID
	s.process.mu.Unlock()
	if _, reset := m.(bolt.Reset); s.failed && !reset {
		return []bolt.Message{bolt.Ignored{}}
	}
	switch m := m.(type) {
	case bolt.Logon:
		s.logIn()
	case bolt.Reset:
		s.failed, s.inTx, s.tx, s.query = false, false, nil, ""
	case bolt.Goodbye:
		s.closed = true
	case bolt.Begin:
		s.inTx = true
	case bolt.Commit:
		return s.commit(isMain)
	case bolt.Rollback:
		s.inTx, s.tx = false, nil
	case bolt.Run:
		if strings.HasPrefix(m.Query, "W") && !isMain {
			return s.fail("Write queries are forbidden on the replica instance. …")
		}
		s.query, s.left = m.Query, s.rows
		if key, ok := m.Params["key"].(string); ok {
			s.query = "W " + key
		}
		return []bolt.Message{bolt.Success{Meta: map[string]any{"fields": []any{"x"}}}}
	case bolt.Pull:
		return s.pull(m.N, isMain)
	}
	return done
}

// logIn takes as long as the test wants it to.
func (s *oracleSession) logIn() {
	s.process.mu.Lock()
	wait := s.logins
	s.process.mu.Unlock()
	if wait == nil {
		return
	}
	s.mostLogins.Store(max(s.mostLogins.Load(), s.loggingIn.Add(1)))
	<-wait
	s.loggingIn.Add(-1)
}

func (s *oracleSession) commit(isMain bool) []bolt.Message {
	if len(s.tx) > 0 && !isMain {
		return s.fail("Cannot commit because instance is not main anymore.")
	}
	s.world.commit(s.tx...)
	s.inTx, s.tx = false, nil
	return []bolt.Message{bolt.Success{}}
}

func (s *oracleSession) pull(n int64, isMain bool) (answers []bolt.Message) {
	run := map[string]any{"run_id": s.knownAs, "has_more": false, "plan_execution_time": float64(time.Now().UnixNano())}
	switch {
	case s.query == "":
		s.closed = true // as Memgraph does
		return nil
	case s.query == roleQuery:
		role := "replica"
		if isMain {
			role = roleMain
		}
		return []bolt.Message{bolt.Record{Values: []any{role}}, bolt.Success{Meta: run}}
	case s.query == "BEGIN":
		s.inTx = true
		return []bolt.Message{bolt.Success{Meta: run}}
	case s.query == "COMMIT":
		return s.commit(isMain)
	}
	for ; s.left > 0 && n != 0; s.left-- {
		answers, n = append(answers, bolt.Record{Values: []any{s.query[:1], int64(s.left), s.cell}}), n-1
	}
	if s.left > 0 {
		return append(answers, bolt.Success{Meta: map[string]any{"has_more": true}})
	}
	if id, writes := strings.CutPrefix(s.query, "W "); writes {
		s.tx = append(s.tx, id)
		if !s.inTx {
			if end := s.commit(isMain); s.failed {
				return append(answers, end...)
			}
		}
	}
	return append(answers, bolt.Success{Meta: run})
}

// flight is what a client sends at once, before it waits for all the answers.
type flight []bolt.Message

func run(query string) flight { return flight{bolt.Run{Query: query}, bolt.Pull{N: -1, QID: -1}} }

var begin, commit, rollback = bolt.Begin{}, bolt.Commit{}, bolt.Rollback{}

// scripts are what clients do. Each writes the one id "a", if it gets to it.
var scripts = map[string][]flight{
	"auto-commit":                        {run("W a")},
	"auto-commit, request by request":    {{bolt.Run{Query: "W a"}}, {bolt.Pull{N: -1, QID: -1}}},
	"auto-commit in batches":             {{bolt.Run{Query: "W a"}, bolt.Pull{N: 1, QID: -1}}, {bolt.Pull{N: 1, QID: -1}}},
	"a transaction":                      {{begin}, run("R"), run("W a"), {commit}},
	"a transaction as drivers pipeline":  {append(flight{begin}, run("W a")...), {commit}},
	"a transaction at once":              {append(append(flight{begin}, run("W a")...), commit)},
	"a transaction that is rolled back":  {{begin}, run("W a"), {rollback}},
	"a transaction that is abandoned":    {{begin}, run("W a"), {bolt.Reset{}}},
	"a transaction in batches":           {{begin}, {bolt.Run{Query: "R"}, bolt.Pull{N: 1, QID: -1}}, {bolt.Pull{N: 1, QID: -1}}, run("W a"), {commit}},
	"a transaction in text":              {run("BEGIN"), run("W a"), run("COMMIT")},
	"two units at once":                  {append(run("R"), run("W a")...)},
	"a read, and a reset of its own":     {run("R"), {bolt.Reset{}}, run("W a")},
	"a transaction without any writing":  {{begin}, run("R"), {commit}},
	"a transaction and the next at once": {{begin}, append(append(flight{commit, begin}, run("W a")...), commit)},
}

// modelClient follows a script over the raw wire.
type modelClient struct {
	t      testing.TB
	conn   net.Conn
	reader *bolt.Reader
}

func newModelClient(t testing.TB, g *Gateway) *modelClient {
	conn := dialGateway(t, g)
	_, err := conn.Write(bolt.Propose(bolt.Version{Major: 5, Minor: 2}).Append(nil))
	require.NoError(t, err)
	_, err = bolt.ReadVersion(conn)
	require.NoError(t, err)
	c := &modelClient{t: t, conn: conn, reader: bolt.NewReader(conn, 0)}
	c.send(bolt.Hello{Extra: map[string]any{"user_agent": "model/1"}}, bolt.Logon{})
	c.receive()
	c.receive()
	return c
}

func (c *modelClient) send(ms ...bolt.Message) {
	b := []byte{0, 0} // a NOOP, which the gateway must swallow
	for _, m := range ms {
		var err error
		b, err = bolt.AppendMessage(b, m)
		require.NoError(c.t, err)
	}
	half := len(b) / 2
	for _, part := range [][]byte{b[:half], b[half:]} {
		_, err := c.conn.Write(part)
		require.NoError(c.t, err)
	}
}

// receive returns the next summary.
func (c *modelClient) receive() bolt.Message {
	for {
		payload, err := c.reader.ReadMessage()
		require.NoError(c.t, err)
		m, err := bolt.ParseMessage(payload)
		require.NoError(c.t, err)
		if _, row := m.(bolt.Record); !row {
			return m
		}
	}
}

// fly sends a flight and takes exactly one summary for each request. It returns
// the first failure.
func (c *modelClient) fly(f flight) (failure *bolt.Failure) {
	c.send(f...)
	for range f {
		switch m := c.receive().(type) {
		case bolt.Failure:
			require.Nil(c.t, failure, "one failure at a time")
			failure = &m
		case bolt.Ignored:
			require.NotNil(c.t, failure, "ignored without a failure before")
		case bolt.Success:
			require.Nil(c.t, failure, "a success after a failure")
		}
	}
	return failure
}

// event is what happens to the MAIN of a script: at a request, or between two
// flights.
type event struct {
	name    string
	at      int   // request; -1: none
	stage   stage // of it
	between int   // flight before which it happens; -1: none
	crash   bool  // then MAIN dies, or else another is named
}

func eventsOf(script []flight) (events []event) {
	requests := 0
	for i, f := range script {
		for _, crash := range []bool{false, true} {
			events = append(events, event{fmt.Sprintf("before flight %d, crash %v", i, crash), -1, "", i, crash})
		}
		requests += len(f)
	}
	for at := range requests {
		for _, s := range []stage{beforeApply, afterApply, halfAnswer, halfRow, noMain} {
			events = append(events, event{fmt.Sprintf("request %d: %s", at, s), at, s, -1, false})
		}
	}
	return events
}

// TestModel runs every script against every event, with every kind of Rerun, and
// checks that
//
//   - each request gets one summary (invariant 8), and the session goes on to work,
//   - nothing takes effect twice (invariant 8),
//   - what was acknowledged took effect, and what the client was told to try again
//     did not (invariant 6),
//   - nothing reaches a MAIN after another was named (invariant 3).
func TestModel(t *testing.T) {
	kinds := []Rerun{RerunVerified, RerunOff, RerunUnseen}
	if slowed {
		kinds = kinds[:1]
	}
	for _, rerun := range kinds {
		for _, name := range slices.Sorted(maps.Keys(scripts)) {
			t.Run(string(rerun)+", "+name, func(t *testing.T) {
				g := startGateway(t, func(c *Config) { c.Logger, c.Rerun = nil, rerun })
				generation := int64(0)
				for _, e := range eventsOf(scripts[name]) {
					generation += 2
					playModel(t, g, generation, scripts[name], e)
					if t.Failed() {
						return
					}
				}
			})
		}
	}
}

func playModel(t *testing.T, g *Gateway, generation int64, script []flight, e event) {
	defer func() {
		if t.Failed() {
			t.Logf("the event was %q", e.name)
		}
	}()
	w := &world{commits: map[string]int{}}
	old, next := startOracle(t, w, "old", e.at, e.stage), startOracle(t, w, "next", -1, "")
	defer old.kill()
	defer next.kill()
	g.Serve("memgraph-0", old.addr, "old", generation)
	c := newModelClient(t, g)
	defer c.conn.Close()

	var told sync.WaitGroup
	defer told.Wait()
	serve := func() { g.Serve("memgraph-1", next.addr, "next", generation+1) }
	if e.at >= 0 {
		told.Go(func() {
			select {
			case <-old.died:
			case <-time.After(10 * time.Second):
				assert.Fail(t, "the event did not take place")
			}
			serve()
		})
	}
	var failure *bolt.Failure
	heard := -1
	for i, f := range script {
		if i == e.between {
			if e.crash {
				old.kill()
			}
			serve()
			heard = old.count()
		}
		if failure = c.fly(f); failure != nil {
			break
		}
	}
	if failure != nil {
		require.Nil(t, c.fly(flight{bolt.Reset{}}))
	}
	told.Wait()
	require.Nil(t, c.fly(run("R")), "the session goes on to work")
	require.NoError(t, c.conn.(*net.TCPConn).CloseWrite())
	_, err := c.reader.ReadMessage()
	require.ErrorIs(t, err, io.EOF, "nobody is answered twice")
	judge(t, w.committed("a"), script, failure)
	if g.cfg.Rerun == RerunVerified && failure != nil && !inBatches(script) {
		assert.Equal(t, codeOutcomeUnknown, failure.Code, "whatever did not take effect is run again")
	}
	if heard >= 0 {
		assert.Equal(t, heard, old.count(), "requests that reach a MAIN after another was named")
	}
}

// inBatches reports whether the client sees rows of a statement of its own before
// it takes effect: it may be other ones the next time.
func inBatches(script []flight) bool {
	pull, ok := script[0][len(script[0])-1].(bolt.Pull)
	return ok && pull.N == 1
}

// judge compares what the client was told with what took effect.
func judge(t *testing.T, commits int, script []flight, failure *bolt.Failure) {
	assert.LessOrEqual(t, commits, 1, "nothing takes effect twice")
	switch {
	case failure == nil:
		assert.Equal(t, wants(script), commits, "what was acknowledged")
	case strings.Contains(failure.Code, ".TransientError."):
		assert.Zero(t, commits, "told to try again: %v", failure)
	default:
		assert.Equal(t, codeOutcomeUnknown, failure.Code)
	}
}

// wants is how often a script that went well has written.
func wants(script []flight) int {
	all := slices.Concat(script...)
	writes := slices.ContainsFunc(all, func(m bolt.Message) bool {
		r, ok := m.(bolt.Run)
		return ok && r.Query == "W a"
	})
	undone := slices.ContainsFunc(all, func(m bolt.Message) bool { return m == bolt.Message(rollback) })
	last := script[len(script)-1]
	if _, reset := last[len(last)-1].(bolt.Reset); !writes || undone || reset {
		return 0
	}
	return 1
}
