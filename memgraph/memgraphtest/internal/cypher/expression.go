package cypher

import (
	"slices"
	"strconv"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// expr computes a value: nil, bool, int64, float64, string, []any,
// map[string]any or *graph.Node.
type expr func(*frame) (any, error)

// frame is what an expression sees.
type frame struct {
	*run
	row        []any // variables, by slot
	aggregates []any // results of the aggregates in a RETURN item
}

// binary operators by precedence, the loosest first; NOT stands between the
// third and the fourth level.
var levels = [][]string{{"OR"}, {"XOR"}, {"AND"}, {"=", "<>", "<", "<=", ">", ">="}, {"+", "-"}, {"*", "/", "%"}}

const (
	comparisonLevel = 3
	additionLevel   = 4
)

// maxDepth bounds nested expressions: a hostile query must not exhaust the stack.
const maxDepth = 100

// expression reads as far as operators and operands go.
func (p *parser) expression() (expr, error) {
	return p.nested(func() (expr, error) { return p.level(0) })
}

// nested reads something that may contain itself.
func (p *parser) nested(read func() (expr, error)) (expr, error) {
	if p.depth == maxDepth {
		return nil, unmodelled("expressions nested deeper than 100")
	}
	p.depth++
	defer func() { p.depth-- }()
	return read()
}

// level reads operators of the given level and tighter ones.
func (p *parser) level(n int) (expr, error) {
	if n == len(levels) {
		return p.unary()
	}
	if n == comparisonLevel && p.accept("NOT") {
		e, err := p.nested(func() (expr, error) { return p.level(n) })
		return apply1(not, e), err
	}
	left, err := p.level(n + 1)
	for err == nil {
		if n == comparisonLevel {
			if left, err = p.predicates(left); err != nil {
				return nil, err
			}
		}
		i := slices.IndexFunc(levels[n], p.peek().is)
		if i < 0 {
			return left, nil
		}
		p.take()
		var right expr
		right, err = p.level(n + 1)
		left = apply2(operators[levels[n][i]], left, right)
	}
	return nil, err
}

// predicates reads what may follow an operand of a comparison: IS NULL, IN and
// the string tests.
func (p *parser) predicates(left expr) (expr, error) {
	for {
		switch {
		case p.accept("IS", "NULL"):
			left = apply1(func(v any) (any, error) { return v == nil, nil }, left)
			continue
		case p.accept("IS", "NOT", "NULL"):
			left = apply1(func(v any) (any, error) { return v != nil, nil }, left)
			continue
		}
		var op func(a, b any) (any, error)
		switch {
		case p.accept("IN"):
			op = in
		case p.accept("STARTS", "WITH"):
			op = operators["STARTS WITH"]
		case p.accept("ENDS", "WITH"):
			op = operators["ENDS WITH"]
		case p.accept("CONTAINS"):
			op = operators["CONTAINS"]
		default:
			return left, nil
		}
		right, err := p.level(additionLevel)
		if err != nil {
			return nil, err
		}
		left = apply2(op, left, right)
	}
}

// unary reads an operand with its sign, properties and indexes.
func (p *parser) unary() (expr, error) {
	if p.accept("-") {
		e, err := p.nested(p.unary)
		return apply1(negate, e), err
	}
	e, err := p.atom()
	for err == nil {
		switch {
		case p.accept("."):
			e, err = p.property(e)
		case p.accept("["):
			e, err = p.index(e)
		default:
			return e, nil
		}
	}
	return nil, err
}

func (p *parser) property(of expr) (expr, error) {
	key := p.propertyName()
	if key == "" {
		return nil, p.unexpected()
	}
	return func(f *frame) (any, error) {
		v, err := of(f)
		if err != nil {
			return nil, err
		}
		return f.property(v, key)
	}, nil
}

// propertyName is any name, a keyword too.
func (p *parser) propertyName() string {
	if t := p.peek(); t.kind == tokenName || t.kind == tokenQuoted {
		return p.take().text
	}
	return ""
}

func (p *parser) index(of expr) (expr, error) {
	by, err := p.expression()
	if err != nil {
		return nil, err
	}
	if !p.accept("]") {
		return nil, p.unexpected()
	}
	return func(f *frame) (any, error) {
		v, err := of(f)
		if err != nil {
			return nil, err
		}
		i, err := by(f)
		if err != nil {
			return nil, err
		}
		return f.at(v, i)
	}, nil
}

// atom reads what operators are put between.
func (p *parser) atom() (expr, error) {
	switch t := p.peek(); {
	case t.is("("):
		p.take()
		e, err := p.expression()
		if err == nil {
			err = p.expect(")")
		}
		return e, err
	case t.is("["):
		return p.list()
	case t.is("{"):
		return p.dict()
	case t.is("NULL"), t.is("TRUE"), t.is("FALSE"), t.kind >= tokenInt && t.kind <= tokenString:
		return p.literal()
	case t.kind == tokenParam:
		p.params = append(p.params, p.take().text)
		return func(f *frame) (any, error) { return f.params[t.text], nil }, nil
	case t.kind == tokenName && p.tokens[p.at+1].is("("):
		return p.call()
	}
	name := p.name()
	if name == "" {
		return nil, p.unexpected()
	}
	slot, err := p.lookup(name)
	return func(f *frame) (any, error) { return f.row[slot], nil }, err
}

func (p *parser) literal() (expr, error) {
	t := p.take()
	var v any
	var err error
	switch {
	case t.kind == tokenInt:
		v, err = strconv.ParseInt(t.text, 10, 64)
	case t.kind == tokenFloat:
		v, err = strconv.ParseFloat(t.text, 64)
	case t.kind == tokenString:
		v = t.text
	case !t.is("NULL"):
		v = t.is("TRUE")
	}
	if err != nil {
		return nil, fail("Couldn't convert number literal %s.", t.text)
	}
	return func(*frame) (any, error) { return v, nil }, nil
}

func (p *parser) list() (expr, error) {
	p.take()
	items, err := p.items("]")
	return func(f *frame) (any, error) { return f.all(items) }, err
}

// items reads expressions up to end.
func (p *parser) items(end string) ([]expr, error) {
	var items []expr
	for !p.accept(end) {
		if len(items) > 0 && !p.accept(",") {
			return nil, p.unexpected()
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		items = append(items, e)
	}
	return items, nil
}

// dict reads a map; the names of its keys are not expressions.
func (p *parser) dict() (expr, error) {
	p.take()
	var keys []string
	var values []expr
	for !p.accept("}") {
		if len(keys) > 0 && !p.accept(",") {
			return nil, p.unexpected()
		}
		key := p.propertyName()
		if key == "" || !p.accept(":") {
			return nil, p.unexpected()
		}
		e, err := p.expression()
		if err != nil {
			return nil, err
		}
		keys, values = append(keys, key), append(values, e)
	}
	return func(f *frame) (any, error) {
		m := make(map[string]any, len(keys))
		for i, key := range keys {
			v, err := values[i](f)
			if err != nil {
				return nil, err
			}
			m[key] = v
		}
		return m, nil
	}, nil
}

// all computes a list.
func (f *frame) all(items []expr) ([]any, error) {
	list := make([]any, len(items))
	for i, item := range items {
		v, err := item(f)
		if err != nil {
			return nil, err
		}
		list[i] = v
	}
	return list, nil
}

// property reads a node's or a map's property; null has none.
func (f *frame) property(of any, key string) (any, error) {
	switch of := of.(type) {
	case nil:
		return nil, nil
	case map[string]any:
		return of[key], nil
	case *graph.Node:
		s := f.tx.State(of)
		if s == nil {
			return nil, fail("Trying to get a property from a deleted object.")
		}
		return s.Props[key], nil
	}
	return nil, fail("Only nodes, edges, maps, temporal types, points and graphs have properties to be looked-up.")
}

// at reads an item of a list, from its end if negative, or of a map.
func (f *frame) at(of, i any) (any, error) {
	list, isList := of.([]any)
	switch {
	case of == nil || i == nil:
		return nil, nil
	case !isList:
		key, ok := i.(string)
		if !ok {
			return nil, fail("Expected a string as a property name, got %s.", typeName(i))
		}
		return f.property(of, key)
	}
	n, ok := i.(int64)
	if !ok {
		return nil, fail("Expected an integer as a list index, got %s.", typeName(i))
	}
	if n < 0 {
		n += int64(len(list))
	}
	if n < 0 || n >= int64(len(list)) {
		return nil, nil
	}
	return list[n], nil
}

func apply1(op func(any) (any, error), e expr) expr {
	return func(f *frame) (any, error) {
		v, err := e(f)
		if err != nil {
			return nil, err
		}
		return op(v)
	}
}

func apply2(op func(a, b any) (any, error), left, right expr) expr {
	return func(f *frame) (any, error) {
		a, err := left(f)
		if err != nil {
			return nil, err
		}
		b, err := right(f)
		if err != nil {
			return nil, err
		}
		return op(a, b)
	}
}
