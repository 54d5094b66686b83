package gateway

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// line is one step of a dialogue: a request, or an answer.
type line struct {
	ask    ask
	text   statement
	answer bolt.Tag
	more   bool
	sent   bool
}

func asked(asks ...ask) (lines []line) {
	for _, a := range asks {
		lines = append(lines, line{ask: a})
	}
	return append(lines, line{sent: true})
}

func text(s statement) []line { return []line{{ask: askRun, text: s}, {ask: askPull}, {sent: true}} }

func ok(n int) (lines []line) {
	for range n {
		lines = append(lines, line{answer: bolt.TagSuccess})
	}
	return lines
}

var (
	more    = []line{{answer: bolt.TagSuccess, more: true}}
	failure = []line{{answer: bolt.TagFailure}}
	ignored = []line{{answer: bolt.TagIgnored}}
)

// play has d hear all the lines.
func (d *dialogue) play(t *testing.T, parts ...[]line) {
	for _, part := range parts {
		for _, l := range part {
			switch {
			case l.sent:
				d.unsent = 0
			case l.answer != 0:
				require.True(t, d.answer(l.answer, l.more))
			default:
				d.ask(l.ask, l.text)
			}
		}
	}
}

// Rows of the table at dialogue.fate, and of the pipelines that drivers send.
func TestTheFateOfAUnit(t *testing.T) {
	unsent := func(a ask) []line { return []line{{ask: a}} }
	for _, c := range []struct {
		name string
		said [][]line
		want fate
	}{
		{"nothing was asked", nil, fateNone},

		{"auto: nothing sent yet", [][]line{unsent(askRun), unsent(askPull)}, fateUndone},
		{"auto: RUN", [][]line{asked(askRun)}, fateUndone},
		{"auto: RUN, answered", [][]line{asked(askRun), ok(1)}, fateUndone},
		{"auto: RUN answered, PULL not sent yet", [][]line{asked(askRun), ok(1), unsent(askPull)}, fateUndone},
		{"auto: RUN and PULL", [][]line{asked(askRun, askPull)}, fateUnknown},
		{"auto: PULL", [][]line{asked(askRun, askPull), ok(1)}, fateUnknown},
		{"auto: done", [][]line{asked(askRun, askPull), ok(2)}, fateNone},
		{"auto: done, RESET due", [][]line{asked(askRun, askPull, askReset), ok(2)}, fateNone},
		{"auto: between two batches", [][]line{asked(askRun, askPull), ok(1), more}, fateUndone},
		{"auto: within the second batch", [][]line{asked(askRun, askPull), ok(1), more, asked(askPull)}, fateUnknown},
		{"auto: RUN failed", [][]line{asked(askRun, askPull), failure}, fateFailed},
		{"auto: failed and ignored", [][]line{asked(askRun, askPull), failure, ignored}, fateFailed},
		{"auto: failed, ignored and reset", [][]line{asked(askRun, askPull), failure, ignored, asked(askReset), ok(1)}, fateNone},
		{"auto: reset between two batches", [][]line{asked(askRun, askPull), ok(1), more, asked(askReset), ok(1)}, fateNone},

		{"BEGIN", [][]line{asked(askBegin)}, fateUndone},
		{"transaction: idle", [][]line{asked(askBegin), ok(1)}, fateUndone},
		{"transaction: BEGIN, RUN and PULL at once", [][]line{asked(askBegin, askRun, askPull)}, fateUndone},
		{"transaction: a result is read", [][]line{asked(askBegin, askRun, askPull), ok(2), more}, fateUndone},
		{"transaction: two results are open", [][]line{asked(askBegin, askRun, askRun), ok(3), asked(askPull, askPull), ok(1)}, fateUndone},
		{"transaction: COMMIT", [][]line{asked(askBegin), ok(1), asked(askCommit)}, fateUnknown},
		{"transaction: all at once", [][]line{asked(askBegin, askRun, askPull, askCommit)}, fateUnknown},
		{"transaction: COMMIT not sent yet", [][]line{asked(askBegin, askRun, askPull), ok(3), unsent(askCommit)}, fateUndone},
		{"transaction: committed", [][]line{asked(askBegin, askCommit), ok(2)}, fateNone},
		{"transaction: COMMIT failed", [][]line{asked(askBegin, askCommit), ok(1), failure}, fateFailed},
		{"transaction: failed, COMMIT will be ignored", [][]line{asked(askBegin, askRun, askPull, askCommit), ok(1), failure}, fateFailed},
		{"transaction: ROLLBACK", [][]line{asked(askBegin, askRollback), ok(1)}, fateUndone},
		{"transaction: rolled back", [][]line{asked(askBegin, askRollback), ok(2)}, fateNone},
		{"transaction: RESET", [][]line{asked(askBegin, askReset), ok(1)}, fateUndone},
		{"transaction: reset", [][]line{asked(askBegin, askReset), ok(2)}, fateNone},

		{"BEGIN in text", [][]line{text(stmtBegin)}, fateUndone},
		{"in text: idle", [][]line{text(stmtBegin), ok(2)}, fateUndone},
		{"in text: a statement", [][]line{text(stmtBegin), ok(2), asked(askRun, askPull)}, fateUndone},
		{"in text: COMMIT", [][]line{text(stmtBegin), ok(2), text(stmtCommit), ok(1)}, fateUnknown},
		{"in text: committed", [][]line{text(stmtBegin), ok(2), text(stmtCommit), ok(2)}, fateNone},
		{"in text: ROLLBACK", [][]line{text(stmtBegin), ok(2), text(stmtRollback), ok(1)}, fateUndone},
		{"in text: rolled back", [][]line{text(stmtBegin), ok(2), text(stmtRollback), ok(2)}, fateNone},
		{"COMMIT in text of a transaction that was not begun in text", [][]line{asked(askBegin), ok(1), text(stmtCommit), ok(1)}, fateUnknown},

		{"RESET of its own", [][]line{asked(askReset)}, fateUndone},
		{"COMMIT of nothing", [][]line{asked(askCommit)}, fateUnknown},
		{"what the gateway does not know", [][]line{asked(askOther)}, fateUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d dialogue
			d.play(t, c.said...)
			assert.Equal(t, c.want, d.fate())
		})
	}
}

func TestWhereAUnitEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		said [][]line
		next ask
		want bool
	}{
		{"a statement after one that is not answered", [][]line{asked(askRun, askPull)}, askRun, true},
		{"a statement after one that is", [][]line{asked(askRun, askPull), ok(2)}, askRun, false},
		{"the PULL of a statement", [][]line{asked(askRun)}, askPull, false},
		{"RESET at any time", [][]line{asked(askRun, askPull)}, askReset, false},
		{"what follows RESET", [][]line{asked(askBegin, askReset)}, askBegin, true},
		{"a statement in a transaction", [][]line{asked(askBegin, askRun, askPull)}, askRun, false},
		{"what follows COMMIT", [][]line{asked(askBegin, askCommit)}, askBegin, true},
		{"what follows COMMIT in text", [][]line{text(stmtBegin), text(stmtCommit)}, askRun, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d dialogue
			d.play(t, c.said...)
			assert.Equal(t, c.want, d.bounds(c.next))
		})
	}
}

func TestAnAnswerThatNobodyAskedFor(t *testing.T) {
	var d dialogue
	assert.False(t, d.answer(bolt.TagSuccess, false))
	d.ask(askRun, stmtPlain)
	assert.False(t, d.answer(bolt.TagSuccess, false), "it is not sent yet")
}

func TestStatementsAreTold(t *testing.T) {
	for query, want := range map[string]statement{
		"RETURN 1":               stmtPlain,
		"begin":                  stmtBegin,
		" BEGIN \n":              stmtBegin,
		"BEGIN TRANSACTION":      stmtPlain,
		"Commit":                 stmtCommit,
		"COMMIT;":                stmtPlain,
		"ROLLBACK":               stmtRollback,
		"SET SESSION TRACE ON":   stmtSetting,
		"set  session\ttrace on": stmtSetting,
		"/* why */ SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED": stmtSetting,
		"// why\nSET NEXT TRANSACTION ISOLATION LEVEL READ COMMITTED":      stmtSetting,
		"SET GLOBAL TRANSACTION ISOLATION LEVEL READ COMMITTED":            stmtPlain,
		"RESET SESSION SETTING 'x'":                                        stmtSetting,
		"SET REPLICATION ROLE TO MAIN":                                     stmtCluster,
		"/**/ drop replica r":                                              stmtCluster,
		"REGISTER REPLICA r SYNC TO 'r'":                                   stmtCluster,
		"SHOW REPLICAS":                                                    stmtPlain,
		"USE DATABASE other":                                               stmtSetting,
		"MATCH (n) SET n.session = 1":                                      stmtPlain,
		"/* never closed":                                                  stmtPlain,
		"":                                                                 stmtPlain,
	} {
		m, err := bolt.AppendMessage(nil, bolt.Run{Query: query})
		require.NoError(t, err)
		_, got := classify(bolt.TagRun, m)
		assert.Equal(t, want, got, query)
	}
	long, err := bolt.AppendMessage(nil, bolt.Run{Query: "SET SESSION " + string(make([]byte, 70_000))})
	require.NoError(t, err)
	_, got := classify(bolt.TagRun, long[:1000])
	assert.Equal(t, stmtSetting, got, "of a text that is cut off")
}

func TestWhatTheGatewayAnswersItself(t *testing.T) {
	type answers = []bolt.Message
	for _, c := range []struct {
		name  string
		state proxyState
		asks  []ask
		want  answers
	}{
		{"a transaction is lost: it is rolled back", proxyLost, []ask{askRollback}, answers{bolt.Success{Meta: map[string]any{}}}},
		{"a transaction is lost: it is never committed", proxyLost, []ask{askCommit, askRun}, answers{failMainChanged, bolt.Ignored{}}},
		{"a pipeline", proxyLost, []ask{askRun, askPull, askReset}, answers{failMainChanged, bolt.Ignored{}, bolt.Success{Meta: map[string]any{}}}},
		{"a failed one", proxyFailed, []ask{askRollback, askReset}, answers{bolt.Ignored{}, bolt.Success{Meta: map[string]any{}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := proxy{state: c.state, why: failMainChanged}
			var out []byte
			for _, a := range c.asks {
				out = p.answer(out, a)
			}
			var got answers
			for len(out) > 0 {
				n, _ := bolt.Scan(out)
				m, err := bolt.ParseMessage(bolt.Payload(out[:n]))
				require.NoError(t, err)
				got, out = append(got, m), out[n:]
			}
			assert.Equal(t, c.want, got)
		})
	}
}

func TestWhichFailuresSayThatMainIsElsewhere(t *testing.T) {
	for message, want := range map[string]bool{
		"Write queries are forbidden on the replica instance. Replica instances accept only read queries": true,
		"Write query forbidden on the replica!":                                                           true,
		"Cannot commit because instance is not main anymore.":                                             true,
		"Queries on replica shouldn't write.":                                                             true,
		"Query forbidden on the replica! Switch role to MAIN":                                             true,
		"PeriodicCommit failed: Queries on replica shouldn't write.":                                      false,
		"Replication Exception: Failed to replicate to SYNC replica 'n1'":                                 false,
		"Error: 'Cannot commit because instance is not main anymore.'":                                    false,
		"Unable to commit due to unique constraint violation on :A(b)":                                    false,
		"no: Cannot commit because instance is not main anymore. said a user":                             false,
	} {
		m, err := bolt.AppendMessage(nil, bolt.Failure{Code: "Memgraph.ClientError.MemgraphError.MemgraphError", Message: message})
		require.NoError(t, err)
		assert.Equal(t, want, isNotMain(bolt.Payload(m)), message)
	}
}

func TestAPipelineThatNeverRunsDryIsForgottenBehind(t *testing.T) {
	var d dialogue
	d.play(t, asked(askBegin))
	for range 100 * keepAsked {
		d.play(t, asked(askRun), ok(1))
	}
	assert.Equal(t, 1, d.due())
	assert.Equal(t, fateUndone, d.fate())
	assert.Less(t, cap(d.asked), 8*keepAsked)
}
