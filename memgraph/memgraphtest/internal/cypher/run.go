package cypher

import (
	"maps"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// Stats counts what a query changed, under the names of its summary.
type Stats struct {
	NodesCreated, NodesDeleted, LabelsAdded, PropertiesSet int64
}

// Result is what a query answers.
type Result struct {
	Rows  [][]any // a node comes as a Node
	Stats Stats
}

// Node is a node in a result.
type Node struct {
	ID    int64
	State graph.State
}

// run is one execution of a query.
type run struct {
	tx     *graph.Tx
	params map[string]any
	slots  int
	stats  Stats
}

func (r *run) frame(row []any) *frame { return &frame{run: r, row: row} }

// Prepare reports the error of a parameter that is not given, which arrives at
// RUN.
func (q *Query) Prepare(params map[string]any) error {
	for _, name := range q.params {
		if _, ok := params[name]; !ok {
			return fail("Parameter $%s not provided.", name)
		}
	}
	return nil
}

// Run executes the query within tx. After an error tx must be rolled back.
func (q *Query) Run(tx *graph.Tx, params map[string]any) (Result, error) {
	r := &run{tx: tx, params: params, slots: q.slots}
	sink := func([]any) error { return nil }
	var c *collector
	if q.returns != nil {
		c = newCollector(q.returns, r)
		sink = c.add
	}
	if err := r.pass(q.clauses, make([]any, q.slots), sink); err != nil {
		return Result{}, explain(err)
	}
	result := Result{Rows: [][]any{}, Stats: r.stats}
	if c == nil {
		return result, nil
	}
	rows, err := c.rows()
	if err != nil {
		return Result{}, explain(err)
	}
	for _, row := range rows {
		for i, v := range row {
			row[i] = r.resolve(v)
		}
	}
	result.Rows = rows
	return result, nil
}

// pass sends a row through the clauses into sink (invariant 2).
func (r *run) pass(clauses []clause, row []any, sink func([]any) error) error {
	if len(clauses) == 0 {
		return sink(row)
	}
	return clauses[0](r, row, func(row []any) error { return r.pass(clauses[1:], row, sink) })
}

// resolve puts in place of nodes what they hold in the end.
func (r *run) resolve(v any) any {
	switch v := v.(type) {
	case *graph.Node:
		n := Node{ID: v.ID}
		if s := r.tx.State(v); s != nil {
			n.State = *s
		}
		return n
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = r.resolve(item)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, item := range v {
			m[k] = r.resolve(item)
		}
		return m
	}
	return v
}

// holds reports whether where is true of the row.
func (r *run) holds(where expr, row []any) (bool, error) {
	if where == nil {
		return true, nil
	}
	v, err := where(r.frame(row))
	if err != nil {
		return false, err
	}
	ok, isBool := v.(bool)
	if !isBool && v != nil {
		return false, fail("Filter expression must evaluate to bool or null, got %s.", typeName(v))
	}
	return ok, nil
}

// match finds nodes for all patterns, in every combination.
func (r *run) match(patterns []pattern, row []any, next func([]any) error) error {
	if len(patterns) == 0 {
		return next(row)
	}
	p := patterns[0]
	candidates, err := r.candidates(p, row)
	if err != nil {
		return err
	}
	props, err := r.props(p, row)
	if err != nil {
		return err
	}
	for _, n := range candidates {
		if !fits(r.tx.State(n), p.labels, props) {
			continue
		}
		row[p.slot] = n
		if err := r.match(patterns[1:], row, next); err != nil {
			return err
		}
	}
	return nil
}

// candidates are the nodes among which p may be found.
func (r *run) candidates(p pattern, row []any) ([]*graph.Node, error) {
	if p.bound {
		n, err := nodeOf(row[p.slot], "Expected a node in the pattern.")
		if n == nil {
			return nil, err
		}
		return []*graph.Node{n}, nil
	}
	if len(p.labels) > 0 {
		return r.tx.Nodes(p.labels[0]), nil
	}
	return r.tx.Nodes(""), nil
}

// props computes a pattern's map; nil if it has none.
func (r *run) props(p pattern, row []any) (map[string]any, error) {
	if p.props == nil {
		return nil, nil
	}
	v, err := p.props(r.frame(row))
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fail("Parameter is not a map.")
	}
	return m, nil
}

func fits(s *graph.State, labels []string, props map[string]any) bool {
	if s == nil {
		return false
	}
	for _, label := range labels {
		if !hasLabel(s, label) {
			return false
		}
	}
	for k, v := range props {
		if equal(s.Props[k], v) != true {
			return false
		}
	}
	return true
}

func hasLabel(s *graph.State, label string) bool {
	for _, l := range s.Labels {
		if l == label {
			return true
		}
	}
	return false
}

// create makes a node of a pattern. Properties in a pattern are not counted as
// set, as in Memgraph's summaries.
func (r *run) create(p pattern, row []any) (*graph.Node, error) {
	props, err := r.props(p, row)
	if err != nil {
		return nil, err
	}
	s := &graph.State{Labels: p.labels, Props: make(map[string]any, len(props))}
	for k, v := range props {
		if err := store(s.Props, k, v); err != nil {
			return nil, err
		}
	}
	r.stats.NodesCreated++
	r.stats.LabelsAdded += int64(len(p.labels))
	return r.tx.Create(s), nil
}

// store sets a property; null removes it, and a node is no value for one.
func store(props map[string]any, key string, v any) error {
	switch v.(type) {
	case nil:
		delete(props, key)
		return nil
	case bool, int64, float64, string, []any, map[string]any:
		props[key] = v
		return nil
	}
	return fail("'%s' cannot be used as a property value.", typeName(v))
}

func (r *run) assign(a assignment, f *frame) error {
	v, err := a.of(f)
	if err != nil {
		return err
	}
	n, err := nodeOf(v, "Properties can only be set on edges and vertices.")
	if n == nil {
		return err
	}
	value, err := a.value(f)
	if err != nil {
		return err
	}
	s := r.tx.State(n)
	if s == nil {
		return fail("Trying to set properties on a deleted node.")
	}
	props, err := a.outcome(s.Props, value)
	if err != nil {
		return err
	}
	r.stats.PropertiesSet++
	return r.tx.SetProps(n, props)
}

// outcome is the properties after the assignment of value.
func (a assignment) outcome(props map[string]any, value any) (map[string]any, error) {
	if a.key != "" {
		props = maps.Clone(props)
		return props, store(props, a.key, value)
	}
	entries, ok := value.(map[string]any)
	if !ok {
		return nil, fail("Right-hand side in SET expression must be a node, an edge or a map.")
	}
	after := map[string]any{}
	if a.keep {
		after = maps.Clone(props)
	}
	for k, v := range entries {
		if err := store(after, k, v); err != nil {
			return nil, err
		}
	}
	return after, nil
}

// delete takes a node out; one that is out already counts once.
func (r *run) delete(v any) error {
	n, err := nodeOf(v, "Only edges and vertices can be deleted.")
	if n == nil || err != nil {
		return err
	}
	if r.tx.State(n) == nil {
		return nil
	}
	r.stats.NodesDeleted++
	return r.tx.Delete(n)
}
