package gateway

import (
	"bytes"
	"regexp"

	"memgraph-controller/memgraph/bolt"
)

// textHead is how much of a RUN's payload is looked at, in bytes: the words that
// matter stand at its front, and no tool puts more than a short comment there.
const textHead = 256

// statement is what the gateway has to know of a query's text.
type statement byte

// The statements. Memgraph takes the first three where the whole text, trimmed
// and in capitals, is the word, and executes them at their PULL. Source:
// Memgraph v3.12 query/interpreter.cpp, Interpreter::Parse.
const (
	stmtPlain statement = iota
	stmtBegin
	stmtCommit
	stmtRollback
	// stmtSetting changes something that lasts on this connection alone, and
	// that RESET does not undo. Source: Memgraph v3.12 MemgraphCypher.g4.
	stmtSetting
	// stmtCluster changes roles or replicas, which is the controller's to do.
	stmtCluster
)

// inPieces matches statements that commit as they go: USING PERIODIC COMMIT, CALL {…}
// IN TRANSACTIONS OF … ROWS, and the procedures of the module periodic, which write
// by connections of their own. What else it matches, such as a literal, is taken for
// one: then the client looks for itself what took effect. Source: Memgraph
// v3.12 MemgraphCypher.g4, periodicCommit and periodicSubquery.
var inPieces = regexp.MustCompile(`(?i)\bperiodic\b|\btransactions\s+of\b`)

// readStatement looks at the front of a RUN's payload.
func readStatement(payload []byte) statement {
	text, whole := bolt.Text(payload[min(2, len(payload)):])
	if whole {
		switch trimmed := bytes.TrimSpace(text); {
		case bytes.EqualFold(trimmed, []byte("BEGIN")):
			return stmtBegin
		case bytes.EqualFold(trimmed, []byte("COMMIT")):
			return stmtCommit
		case bytes.EqualFold(trimmed, []byte("ROLLBACK")):
			return stmtRollback
		}
	}
	first, rest := nextWord(text)
	second, _ := nextWord(rest)
	for _, s := range special {
		if bytes.EqualFold(first, s.first) && bytes.EqualFold(second, s.second) {
			return s.is
		}
	}
	return stmtPlain
}

// special are the first two words of statements that are not plain.
var special = []struct {
	first, second []byte
	is            statement
}{
	{[]byte("SET"), []byte("SESSION"), stmtSetting},
	{[]byte("SET"), []byte("NEXT"), stmtSetting},
	{[]byte("RESET"), []byte("SESSION"), stmtSetting},
	{[]byte("USE"), []byte("DATABASE"), stmtSetting},
	{[]byte("SET"), []byte("REPLICATION"), stmtCluster},
	{[]byte("REGISTER"), []byte("REPLICA"), stmtCluster},
	{[]byte("DROP"), []byte("REPLICA"), stmtCluster},
}

// nextWord is the first word of text, white space and comments before it left
// out, and what follows.
func nextWord(text []byte) (word, rest []byte) {
	for {
		text = bytes.TrimLeft(text, " \t\r\n\f\v")
		var found bool
		switch {
		case bytes.HasPrefix(text, []byte("//")):
			_, text, found = bytes.Cut(text, []byte("\n"))
		case bytes.HasPrefix(text, []byte("/*")):
			_, text, found = bytes.Cut(text[2:], []byte("*/"))
		default:
			end := bytes.IndexFunc(text, func(r rune) bool { return (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') })
			if end < 0 {
				end = len(text)
			}
			return text[:end], text[end:]
		}
		if !found {
			return nil, nil
		}
	}
}
