package cypher

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// item is one column of RETURN.
type item struct {
	value      expr
	aggregates []aggregate
}

// sortKey is one item of ORDER BY.
type sortKey struct {
	value      expr
	descending bool
}

// returning is a RETURN clause.
type returning struct {
	columns  []string
	items    []item
	slots    []int // where ORDER BY finds the columns
	distinct bool
	order    []sortKey
	skip     expr
	limit    expr
}

// returning reads what follows RETURN. ORDER BY may name columns.
func (p *parser) returning() (*returning, error) {
	r := &returning{distinct: p.accept("DISTINCT")}
	if err := p.columns(r); err != nil {
		return nil, err
	}
	for _, column := range r.columns {
		r.slots = append(r.slots, p.declare(column))
	}
	if p.accept("ORDER", "BY") {
		if err := p.order(r); err != nil {
			return nil, err
		}
	}
	var err error
	if p.accept("SKIP") {
		if r.skip, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if p.accept("LIMIT") {
		r.limit, err = p.expression()
	}
	return r, err
}

func (p *parser) columns(r *returning) error {
	if p.accept("*") {
		for _, name := range slices.Sorted(maps.Keys(p.scope)) {
			slot := p.scope[name]
			r.columns = append(r.columns, name)
			r.items = append(r.items, item{value: func(f *frame) (any, error) { return f.row[slot], nil }})
		}
		return nil
	}
	for {
		if err := p.column(r); err != nil {
			return err
		}
		if !p.accept(",") {
			return nil
		}
	}
}

// column reads an expression and names it (invariant 1).
func (p *parser) column(r *returning) error {
	start := p.peek().start
	var it item
	p.aggregates = &it.aggregates
	var err error
	it.value, err = p.expression()
	p.aggregates = nil
	if err != nil {
		return err
	}
	name := strings.TrimSpace(p.query[start:p.tokens[p.at-1].end])
	if p.accept("AS") {
		if name = p.propertyName(); name == "" {
			return p.unexpected()
		}
	}
	if slices.Contains(r.columns, name) {
		return fail("Multiple results with the same name '%s' are not allowed.", name)
	}
	r.columns = append(r.columns, name)
	r.items = append(r.items, it)
	return nil
}

func (p *parser) order(r *returning) error {
	for {
		e, err := p.expression()
		if err != nil {
			return err
		}
		key := sortKey{value: e, descending: p.accept("DESC") || p.accept("DESCENDING")}
		if !key.descending && !p.accept("ASC") {
			p.accept("ASCENDING")
		}
		r.order = append(r.order, key)
		if !p.accept(",") {
			return nil
		}
	}
}

// entry is a row of the result before it is sorted and cut.
type entry struct{ out, keys []any }

// group is the rows that agree in all columns without aggregates.
type group struct {
	row  []any // the first of them
	sums [][]sum
}

// collector takes in the rows that reach a RETURN.
type collector struct {
	*returning
	run     *run
	grouped bool
	groups  map[string]*group
	ordered []*group
	entries []entry
	seen    map[string]bool
}

func newCollector(ret *returning, r *run) *collector {
	return &collector{returning: ret, run: r, groups: map[string]*group{}, seen: map[string]bool{},
		grouped: slices.ContainsFunc(ret.items, func(it item) bool { return len(it.aggregates) > 0 })}
}

// add takes a row into its group, or into the result if there are no groups.
func (c *collector) add(row []any) error {
	if !c.grouped {
		return c.emit(row, nil)
	}
	g, err := c.group(row)
	if err != nil {
		return err
	}
	f := c.run.frame(row)
	for i := range g.sums {
		for j := range g.sums[i] {
			if err := g.sums[i][j].add(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// group finds or opens the group that row belongs to.
func (c *collector) group(row []any) (*group, error) {
	var key strings.Builder
	f := c.run.frame(row)
	for _, it := range c.items {
		if len(it.aggregates) > 0 {
			continue
		}
		v, err := it.value(f)
		if err != nil {
			return nil, err
		}
		key.WriteString(keyOf(v))
	}
	if g := c.groups[key.String()]; g != nil {
		return g, nil
	}
	g := &group{row: slices.Clone(row)}
	for _, it := range c.items {
		sums := make([]sum, len(it.aggregates))
		for i, a := range it.aggregates {
			sums[i].aggregate = a
		}
		g.sums = append(g.sums, sums)
	}
	c.groups[key.String()] = g
	c.ordered = append(c.ordered, g)
	return g, nil
}

// emit computes the columns and sort keys of one row of the result.
func (c *collector) emit(row []any, sums [][]sum) error {
	f := c.run.frame(row)
	out := make([]any, len(c.items))
	var err error
	for i, it := range c.items {
		f.aggregates = nil
		for j := range it.aggregates {
			f.aggregates = append(f.aggregates, sums[i][j].result())
		}
		if out[i], err = it.value(f); err != nil {
			return err
		}
	}
	if c.distinct {
		key := keyOf(out)
		if c.seen[key] {
			return nil
		}
		c.seen[key] = true
	}
	for i, slot := range c.slots {
		f.row[slot] = out[i]
	}
	e := entry{out: out, keys: make([]any, len(c.order))}
	for i, key := range c.order {
		if e.keys[i], err = key.value(f); err != nil {
			return err
		}
	}
	c.entries = append(c.entries, e)
	return nil
}

// rows is the result once all has been added.
func (c *collector) rows() ([][]any, error) {
	if c.grouped {
		if len(c.ordered) == 0 && len(c.items) == c.aggregating() {
			if _, err := c.group(make([]any, c.run.slots)); err != nil {
				return nil, err
			}
		}
		for _, g := range c.ordered {
			if err := c.emit(g.row, g.sums); err != nil {
				return nil, err
			}
		}
	}
	slices.SortStableFunc(c.entries, c.compare)
	from, to, err := c.window(len(c.entries))
	if err != nil {
		return nil, err
	}
	rows := make([][]any, 0, to-from)
	for _, e := range c.entries[from:to] {
		rows = append(rows, e.out)
	}
	return rows, nil
}

// aggregating counts the columns with aggregates: if all have, there is one
// group even without rows.
func (c *collector) aggregating() int {
	n := 0
	for _, it := range c.items {
		if len(it.aggregates) > 0 {
			n++
		}
	}
	return n
}

func (c *collector) compare(a, b entry) int {
	for i, key := range c.order {
		order := compare(a.keys[i], b.keys[i])
		if key.descending {
			order = -order
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

// window is what SKIP and LIMIT leave of n rows.
func (c *collector) window(n int) (from, to int, err error) {
	skip, err := c.bound("SKIP", c.skip, 0)
	if err != nil {
		return 0, 0, err
	}
	limit, err := c.bound("LIMIT", c.limit, n)
	from = min(skip, n)
	return from, from + min(limit, n-from), err
}

func (c *collector) bound(name string, e expr, none int) (int, error) {
	if e == nil {
		return none, nil
	}
	v, err := e(c.run.frame(make([]any, c.run.slots)))
	if err != nil {
		return 0, err
	}
	n, ok := v.(int64)
	switch {
	case !ok:
		return 0, fail("Number of elements in %s must be an integer.", strings.ToLower(name))
	case n < 0:
		return 0, fail("Number of elements in %s must be non-negative.", strings.ToLower(name))
	}
	return int(n), nil
}

// keyOf is the same for values that DISTINCT and grouping take for the same.
func keyOf(v any) string {
	switch v := v.(type) {
	case *graph.Node:
		return fmt.Sprintf("(%d)", v.ID)
	case []any:
		var b strings.Builder
		for _, item := range v {
			b.WriteString(keyOf(item))
		}
		return "[" + b.String() + "]"
	case float64:
		if v == float64(int64(v)) {
			return keyOf(int64(v))
		}
	case map[string]any:
		return fmt.Sprintf("map%v", v) // fmt sorts the keys
	}
	return fmt.Sprintf("%T:%v;", v, v)
}
