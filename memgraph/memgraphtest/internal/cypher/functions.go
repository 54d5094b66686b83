package cypher

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// functions by name in lower case.
var functions = map[string]func(f *frame, args []any) (any, error){
	"coalesce":   coalesce,
	"id":         ofNode(func(n *graph.Node, _ *graph.State) any { return n.ID }),
	"keys":       ofNode(func(_ *graph.Node, s *graph.State) any { return sortedKeys(s.Props) }),
	"labels":     ofNode(func(_ *graph.Node, s *graph.State) any { return asList(s.Labels) }),
	"properties": ofNode(func(_ *graph.Node, s *graph.State) any { return maps.Clone(s.Props) }),
	"range":      rangeOf,
	"size":       size,
	"timestamp":  func(*frame, []any) (any, error) { return time.Now().UnixMicro(), nil },
	"tointeger":  toInteger,
	"tostring":   toString,
}

// call reads a function's name and arguments.
func (p *parser) call() (expr, error) {
	name := strings.ToLower(p.take().text)
	if isAggregate(name) {
		return p.aggregateCall(name)
	}
	fn, ok := functions[name]
	if !ok {
		return nil, unmodelled("the function " + name)
	}
	p.take()
	args, err := p.items(")")
	return func(f *frame) (any, error) {
		values, err := f.all(args)
		if err != nil {
			return nil, err
		}
		return fn(f, values)
	}, err
}

// ofNode takes one node; null gives null.
func ofNode(fn func(*graph.Node, *graph.State) any) func(*frame, []any) (any, error) {
	return func(f *frame, args []any) (any, error) {
		if len(args) == 1 && args[0] == nil {
			return nil, nil
		}
		n, ok := one(args).(*graph.Node)
		if !ok {
			return nil, fail("The function requires a node or null.")
		}
		s := f.tx.State(n)
		if s == nil {
			return nil, fail("Trying to access labels on a deleted node.")
		}
		return fn(n, s), nil
	}
}

// one is the only argument; false, which no function takes, if there are more.
func one(args []any) any {
	if len(args) != 1 {
		return false
	}
	return args[0]
}

func asList(words []string) []any {
	list := make([]any, len(words))
	for i, w := range words {
		list[i] = w
	}
	return list
}

func sortedKeys(m map[string]any) []any { return asList(slices.Sorted(maps.Keys(m))) }

func coalesce(_ *frame, args []any) (any, error) {
	for _, v := range args {
		if v != nil {
			return v, nil
		}
	}
	return nil, nil
}

// rangeOf is inclusive at both ends.
func rangeOf(_ *frame, args []any) (any, error) {
	bounds := []int64{0, 0, 1}
	if len(args) < 2 || len(args) > 3 {
		return nil, fail("'range' requires between 2 and 3 arguments.")
	}
	for i, v := range args {
		n, ok := v.(int64)
		if !ok {
			return nil, fail("'range' argument at position %d must be either 'integer' or 'null'.", i+1)
		}
		bounds[i] = n
	}
	from, to, step := bounds[0], bounds[1], bounds[2]
	if step == 0 {
		return nil, fail("'range' argument at position 3 must be a non-zero 'integer'.")
	}
	list := make([]any, 0, max(0, (to-from)/step+1))
	for i := from; step > 0 && i <= to || step < 0 && i >= to; i += step {
		list = append(list, i)
	}
	return list, nil
}

func size(_ *frame, args []any) (any, error) {
	switch v := one(args).(type) {
	case nil:
		return nil, nil
	case string:
		return int64(len([]rune(v))), nil
	case []any:
		return int64(len(v)), nil
	case map[string]any:
		return int64(len(v)), nil
	}
	return nil, fail("'size' argument must be either 'null', 'string', 'list', 'map' or 'path'.")
}

func toInteger(_ *frame, args []any) (any, error) {
	switch v := one(args).(type) {
	case nil:
		return nil, nil
	case int64:
		return v, nil
	case float64:
		return int64(v), nil
	case string:
		if n, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil {
			return int64(n), nil
		}
		return nil, nil
	}
	return nil, fail("'toInteger' argument must be either 'null', 'bool', 'integer', 'double' or 'string'.")
}

func toString(_ *frame, args []any) (any, error) {
	switch v := one(args).(type) {
	case nil:
		return nil, nil
	case string:
		return v, nil
	case int64, float64, bool:
		return fmt.Sprint(v), nil
	}
	return nil, fail("'toString' argument must be either 'null', 'string', 'number' or 'bool'.")
}
