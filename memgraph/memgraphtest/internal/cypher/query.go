package cypher

import (
	"slices"
	"strings"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// Kind is what a query does to the data, as its summary calls it.
type Kind string

// Kinds; a query that touches no data counts as reading and writing. Source:
// Memgraph v3.12 query/plan/read_write_type_checker.cpp.
const (
	None      Kind = ""
	Read      Kind = "r"
	Write     Kind = "w"
	ReadWrite Kind = "rw"
)

// with is k of a query that also does other.
func (k Kind) with(other Kind) Kind {
	if k == None || k == other {
		return other
	}
	return ReadWrite
}

// Writes reports whether a replica refuses the query.
func (k Kind) Writes() bool { return k == Write || k == ReadWrite }

// Query is a parsed query, which can be run any number of times.
type Query struct {
	Columns []string
	Kind    Kind
	// Hints are the notifications about missing indexes.
	Hints   []string
	clauses []clause
	returns *returning
	slots   int
	params  []string
}

// clause hands every row that it makes of row to next.
type clause func(r *run, row []any, next func(row []any) error) error

// parseQuery reads clauses up to the end or a RETURN.
func (p *parser) parseQuery() (*Query, error) {
	q := &Query{Columns: []string{}}
	for {
		kind, read := p.clause()
		if read == nil {
			break
		}
		c, err := read()
		if err != nil {
			return nil, err
		}
		q.Kind = q.Kind.with(kind)
		q.clauses = append(q.clauses, c)
	}
	if p.accept("RETURN") {
		r, err := p.returning()
		if err != nil {
			return nil, err
		}
		q.returns, q.Columns = r, r.columns
	}
	if len(q.clauses) == 0 && q.returns == nil {
		return nil, p.unexpected()
	}
	q.Hints, q.slots, q.params = p.hints, p.slots, p.params
	return q, nil
}

// clause says what the next clause does to the data and how to read it; nil if
// there is none.
func (p *parser) clause() (Kind, func() (clause, error)) {
	switch {
	case p.accept("MATCH"):
		return Read, p.match
	case p.accept("UNWIND"):
		return None, p.unwind
	case p.accept("CREATE"):
		return Write, p.create
	case p.accept("MERGE"):
		return ReadWrite, p.merge
	case p.accept("SET"):
		return Write, p.set
	case p.accept("DETACH", "DELETE"), p.accept("DELETE"):
		return Write, p.delete
	}
	return None, nil
}

// pattern is a node as it is written in MATCH, CREATE and MERGE.
type pattern struct {
	name   string
	slot   int
	bound  bool // an earlier clause has put a node there
	labels []string
	props  expr // nil for none
	keys   []string
}

func (p *parser) pattern() (pattern, error) {
	if !p.accept("(") {
		return pattern{}, p.unexpected()
	}
	n := pattern{name: p.name()}
	for p.accept(":") {
		label := p.propertyName()
		if label == "" {
			return pattern{}, p.unexpected()
		}
		n.labels = append(n.labels, label)
	}
	if t := p.peek(); t.is("{") || t.kind == tokenParam {
		start := p.at
		var err error
		if n.props, err = p.atom(); err != nil {
			return pattern{}, err
		}
		n.keys = keysOf(p.tokens[start:p.at])
	}
	if !p.accept(")") {
		return pattern{}, p.unexpected()
	}
	if t := p.peek(); t.is("-") || t.is("<") {
		return pattern{}, unmodelled("relationships")
	}
	if n.slot, n.bound = p.scope[n.name]; !n.bound {
		n.slot = p.declare(n.name)
	}
	return n, nil
}

// keysOf lists the outer keys of a map that was read already.
func keysOf(tokens []token) []string {
	var keys []string
	depth := 0
	for i, t := range tokens {
		switch {
		case t.is("{") || t.is("["):
			depth++
		case t.is("}") || t.is("]"):
			depth--
		case t.is(":") && depth == 1:
			keys = append(keys, tokens[i-1].text)
		}
	}
	return keys
}

// patterns reads one or more, separated by commas.
func (p *parser) patterns() ([]pattern, error) {
	var list []pattern
	for {
		n, err := p.pattern()
		if err != nil {
			return nil, err
		}
		list = append(list, n)
		if !p.accept(",") {
			return list, nil
		}
	}
}

// match reads patterns and their WHERE.
func (p *parser) match() (clause, error) {
	patterns, err := p.patterns()
	if err != nil {
		return nil, err
	}
	var where expr
	if p.accept("WHERE") {
		if where, err = p.expression(); err != nil {
			return nil, err
		}
	}
	for _, n := range patterns {
		p.hint(n)
	}
	return func(r *run, row []any, next func([]any) error) error {
		return r.match(patterns, row, func(row []any) error {
			ok, err := r.holds(where, row)
			if err != nil || !ok {
				return err
			}
			return next(row)
		})
	}, nil
}

// hint is what the planner says about a scan that an index would save. Source:
// Memgraph v3.12 query/plan/hint_provider.hpp; observed on 3.7.2 and 3.12.0.
func (p *parser) hint(n pattern) {
	if n.name == "" || n.bound || len(n.labels) == 0 {
		return
	}
	filter, index := "labels :"+strings.Join(n.labels, ", :"), "label"
	if len(n.keys) > 0 {
		filter, index = filter+" and properties "+strings.Join(n.keys, ", "), "label-property"
	}
	p.hints = append(p.hints, "Sequential scan will be used on symbol `"+n.name+"` although there is a filter on "+
		filter+". Consider creating a "+index+" index.")
}

func (p *parser) create() (clause, error) {
	patterns, err := p.patterns()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(patterns, func(n pattern) bool { return n.bound }); i >= 0 {
		return nil, fail("Redeclaring variable: %s.", patterns[i].name)
	}
	return func(r *run, row []any, next func([]any) error) error {
		for _, n := range patterns {
			node, err := r.create(n, row)
			if err != nil {
				return err
			}
			row[n.slot] = node
		}
		return next(row)
	}, nil
}

func (p *parser) merge() (clause, error) {
	n, err := p.pattern()
	if err != nil {
		return nil, err
	}
	if n.bound {
		return nil, fail("Redeclaring variable: %s.", n.name)
	}
	onCreate, onMatch := keep, keep
	for err == nil {
		switch {
		case p.accept("ON", "CREATE", "SET"):
			onCreate, err = p.set()
		case p.accept("ON", "MATCH", "SET"):
			onMatch, err = p.set()
		default:
			return mergeClause(n, onCreate, onMatch), nil
		}
	}
	return nil, err
}

// keep is the clause that does nothing.
func keep(_ *run, row []any, next func([]any) error) error { return next(row) }

// mergeClause collects what it finds before it passes anything on: what follows
// may change what is found.
func mergeClause(n pattern, onCreate, onMatch clause) clause {
	return func(r *run, row []any, next func([]any) error) error {
		var found [][]any
		err := r.match([]pattern{n}, row, func(row []any) error {
			found = append(found, slices.Clone(row))
			return nil
		})
		if err != nil {
			return err
		}
		for _, row := range found {
			if err := onMatch(r, row, next); err != nil {
				return err
			}
		}
		if len(found) > 0 {
			return nil
		}
		node, err := r.create(n, row)
		if err != nil {
			return err
		}
		row[n.slot] = node
		return onCreate(r, row, next)
	}
}

// unwind makes a row of every item of a list; null has none.
func (p *parser) unwind() (clause, error) {
	of, err := p.expression()
	if err != nil {
		return nil, err
	}
	if !p.accept("AS") {
		return nil, p.unexpected()
	}
	name := p.name()
	if name == "" {
		return nil, p.unexpected()
	}
	if _, taken := p.scope[name]; taken {
		return nil, fail("Redeclaring variable: %s.", name)
	}
	slot := p.declare(name)
	return func(r *run, row []any, next func([]any) error) error {
		v, err := of(r.frame(row))
		if err != nil || v == nil {
			return err
		}
		list, ok := v.([]any)
		if !ok {
			return fail("Argument of UNWIND must be a list, but '%s' was provided.", typeName(v))
		}
		for _, item := range list {
			row[slot] = item
			if err := next(row); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

func (p *parser) delete() (clause, error) {
	var targets []expr
	for {
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		targets = append(targets, e)
		if !p.accept(",") {
			break
		}
	}
	return func(r *run, row []any, next func([]any) error) error {
		for _, e := range targets {
			v, err := e(r.frame(row))
			if err != nil {
				return err
			}
			if err := r.delete(v); err != nil {
				return err
			}
		}
		return next(row)
	}, nil
}

// assignment is one item of SET.
type assignment struct {
	of    expr
	key   string // "" for all properties
	keep  bool   // of +=: leave the properties that are not named
	value expr
}

// set reads assignments, which take effect one after the other.
func (p *parser) set() (clause, error) {
	var items []assignment
	for {
		a, err := p.assignment()
		if err != nil {
			return nil, err
		}
		items = append(items, a)
		if !p.accept(",") {
			break
		}
	}
	return func(r *run, row []any, next func([]any) error) error {
		for _, a := range items {
			if err := r.assign(a, r.frame(row)); err != nil {
				return err
			}
		}
		return next(row)
	}, nil
}

func (p *parser) assignment() (assignment, error) {
	name := p.name()
	if name == "" {
		return assignment{}, p.unexpected()
	}
	slot, err := p.lookup(name)
	if err != nil {
		return assignment{}, err
	}
	a := assignment{of: func(f *frame) (any, error) { return f.row[slot], nil }}
	switch {
	case p.peek().is(":"):
		return a, unmodelled("labels set after creation")
	case p.accept("."):
		if a.key = p.propertyName(); a.key == "" {
			return a, p.unexpected()
		}
	default:
		a.keep = p.peek().is("+=")
	}
	if !p.accept("=") && !(a.keep && p.accept("+=")) {
		return a, p.unexpected()
	}
	a.value, err = p.expression()
	return a, err
}

// nodeOf is v as a node, nil if it is null; otherwise is the error's text.
func nodeOf(v any, otherwise string) (*graph.Node, error) {
	n, ok := v.(*graph.Node)
	if !ok && v != nil {
		return nil, fail("%s", otherwise)
	}
	return n, nil
}
