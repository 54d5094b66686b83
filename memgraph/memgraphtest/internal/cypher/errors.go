package cypher

import (
	"errors"
	"fmt"
	"strings"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// Error is what the server would answer.
type Error struct {
	Text string
	// Transient says that drivers may try the same again.
	Transient bool
}

func (e *Error) Error() string { return e.Text }

func fail(format string, args ...any) *Error {
	return &Error{Text: fmt.Sprintf(format, args...)}
}

// conflict is query/exceptions.hpp's TransactionSerializationException, with
// the link that MessageWithDocsLink adds.
var conflict = &Error{
	Text: "Cannot resolve conflicting transactions. Retry this transaction when the conflicting transaction is finished." +
		" For more details, visit https://memgraph.com/docs",
	Transient: true,
}

// explain turns the store's errors into the server's.
func explain(err error) error {
	if errors.Is(err, graph.ErrConflict) {
		return conflict
	}
	return err
}

// syntax is the shape of ANTLR's messages as Memgraph hands them on, without
// the list of what was expected. Observed on 3.7.2 and 3.12.0.
func syntax(query string, at token) *Error {
	before := query[:at.start]
	line := 1 + strings.Count(before, "\n")
	column := at.start - strings.LastIndex(before, "\n")
	return fail("Error on line %d position %d. The underlying parsing error is mismatched input '%s'", line, column, at.source(query))
}

// source is the token as it was written.
func (t token) source(query string) string {
	if t.kind == tokenEnd {
		return t.text
	}
	return query[t.start:t.end]
}

// unmodelled is the stand-in's own: the real server knows this, we do not.
func unmodelled(what string) *Error { return fail("The stand-in does not model %s.", what) }
