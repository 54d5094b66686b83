package cypher

import "slices"

// aggregate is one call of an aggregating function in a RETURN item.
type aggregate struct {
	name     string
	of       expr // nil for count(*)
	distinct bool
}

func isAggregate(name string) bool {
	return slices.Contains([]string{"count", "collect", "min", "max", "sum", "avg"}, name)
}

// aggregateCall reads the argument; its value in an expression is what the
// group's rows came to.
func (p *parser) aggregateCall(name string) (expr, error) {
	into := p.aggregates
	if into == nil {
		return nil, fail("Using aggregation functions is only allowed in WITH and RETURN.")
	}
	p.aggregates = nil // they do not nest
	defer func() { p.aggregates = into }()
	p.take()
	a := aggregate{name: name, distinct: p.accept("DISTINCT")}
	if name != "count" || !p.accept("*") {
		var err error
		if a.of, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if !p.accept(")") {
		return nil, p.unexpected()
	}
	i := len(*into)
	*into = append(*into, a)
	return func(f *frame) (any, error) { return f.aggregates[i], nil }, nil
}

// sum of a group's values so far, for one aggregate.
type sum struct {
	aggregate
	count int64
	value any // min, max, sum
	list  []any
	seen  map[string]bool // for DISTINCT
}

// add takes one row into account; null does not count.
func (s *sum) add(f *frame) error {
	if s.of == nil {
		s.count++
		return nil
	}
	v, err := s.of(f)
	if err != nil || v == nil {
		return err
	}
	if s.distinct {
		key := keyOf(v)
		if s.seen[key] {
			return nil
		}
		if s.seen == nil {
			s.seen = map[string]bool{}
		}
		s.seen[key] = true
	}
	s.count++
	return s.take(v)
}

func (s *sum) take(v any) (err error) {
	switch s.name {
	case "collect":
		s.list = append(s.list, v)
	case "min", "max":
		c := compare(v, s.value)
		if s.value == nil || s.name == "min" && c < 0 || s.name == "max" && c > 0 {
			s.value = v
		}
	case "sum", "avg":
		if !isNumber(v) {
			return fail("Only numeric values are allowed in SUM and AVG aggregations.")
		}
		if s.value == nil {
			s.value = int64(0)
		}
		s.value, err = add(s.value, v)
	}
	return err
}

// result of the group; an empty one counts 0 and has no least value.
func (s *sum) result() any {
	switch s.name {
	case "count":
		return s.count
	case "collect":
		return slices.Concat([]any{}, s.list)
	case "sum":
		if s.value == nil {
			return int64(0)
		}
	case "avg":
		if s.value != nil {
			return asFloat(s.value) / float64(s.count)
		}
	}
	return s.value
}
