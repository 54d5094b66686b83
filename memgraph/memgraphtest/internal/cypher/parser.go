package cypher

import (
	"slices"
	"strings"
)

// parser reads a query in one pass: expressions and clauses become functions
// over a row while they are read.
type parser struct {
	grammar Grammar
	query   string
	tokens  []token
	at      int
	far     int // the furthest token that did not fit
	depth   int

	scope  map[string]int // variable: its place in the row
	slots  int
	params []string
	hints  []string
	// aggregates of the RETURN item being read; nil where none may stand.
	aggregates *[]aggregate
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != tokenEnd {
		p.at++
	}
	return t
}

// accept passes the words if all of them are next.
func (p *parser) accept(words ...string) bool {
	if len(p.tokens)-p.at < len(words) {
		return false
	}
	for i, w := range words {
		if !p.tokens[p.at+i].is(w) {
			p.far = max(p.far, p.at+i)
			return false
		}
	}
	p.at += len(words)
	return true
}

func (p *parser) expect(words ...string) error {
	for _, w := range words {
		if !p.accept(w) {
			return p.unexpected()
		}
	}
	return nil
}

func (p *parser) unexpected() error { return syntax(p.query, p.tokens[max(p.at, p.far)]) }

// reserved words end an expression, and cannot name a variable.
var reserved = []string{
	"MATCH", "WHERE", "CREATE", "MERGE", "SET", "DELETE", "DETACH", "UNWIND", "RETURN", "ON", "AS", "ORDER", "BY",
	"SKIP", "LIMIT", "ASC", "DESC", "AND", "OR", "XOR", "NOT", "IN", "IS", "STARTS", "ENDS", "CONTAINS", "DISTINCT",
	"OPTIONAL", "WITH", "REMOVE", "CALL", "UNION",
}

// name reads a variable's or property's name; "" if there is none.
func (p *parser) name() string {
	t := p.peek()
	isName := t.kind == tokenName && !slices.ContainsFunc(reserved, t.is)
	if !isName && t.kind != tokenQuoted {
		return ""
	}
	return p.take().text
}

// declare gives a variable a place in the row.
func (p *parser) declare(name string) int {
	slot := p.slots
	p.slots++
	if name != "" {
		p.scope[name] = slot
	}
	return slot
}

// lookup finds a variable's place.
func (p *parser) lookup(name string) (int, error) {
	if slot, ok := p.scope[name]; ok {
		return slot, nil
	}
	return 0, fail("Unbound variable: %s.", name)
}

// normal is text in capitals with single blanks.
func normal(text string) string { return strings.ToUpper(strings.Join(strings.Fields(text), " ")) }
