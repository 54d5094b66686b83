package cypher

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// operators on two values, by what they are written as. Null makes null
// (invariant 3) except where three-valued logic knows better.
var operators = map[string]func(a, b any) (any, error){
	"OR":          func(a, b any) (any, error) { return logic("OR", true, a, b) },
	"AND":         func(a, b any) (any, error) { return logic("AND", false, a, b) },
	"XOR":         xor,
	"=":           func(a, b any) (any, error) { return equal(a, b), nil },
	"<>":          func(a, b any) (any, error) { return not(equal(a, b)) },
	"<":           order("<", func(c int) bool { return c < 0 }),
	"<=":          order("<=", func(c int) bool { return c <= 0 }),
	">":           order(">", func(c int) bool { return c > 0 }),
	">=":          order(">=", func(c int) bool { return c >= 0 }),
	"+":           add,
	"-":           arithmetic("-", func(a, b int64) int64 { return a - b }, func(a, b float64) float64 { return a - b }),
	"*":           arithmetic("*", func(a, b int64) int64 { return a * b }, func(a, b float64) float64 { return a * b }),
	"/":           division("/", func(a, b int64) int64 { return a / b }, func(a, b float64) float64 { return a / b }),
	"%":           division("%", func(a, b int64) int64 { return a % b }, math.Mod),
	"STARTS WITH": ofStrings("startsWith", strings.HasPrefix),
	"ENDS WITH":   ofStrings("endsWith", strings.HasSuffix),
	"CONTAINS":    ofStrings("contains", strings.Contains),
}

// typeName is how errors call a value's type. Source: Memgraph v3.12
// query/typed_value.cpp.
func typeName(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case bool:
		return "bool"
	case int64:
		return "int"
	case float64:
		return "double"
	case string:
		return "string"
	case []any:
		return "list"
	case map[string]any:
		return "map"
	}
	return "vertex"
}

// mismatch is what most operators say of operands they cannot take.
func mismatch(a, b any, op string) error {
	return fail("Invalid types: %s and %s for '%s'.", typeName(a), typeName(b), op)
}

// logic is OR with decisive true and AND with decisive false.
func logic(name string, decisive bool, a, b any) (any, error) {
	if a == decisive || b == decisive {
		return decisive, nil
	}
	for _, v := range []any{a, b} {
		if _, ok := v.(bool); !ok && v != nil {
			return nil, fail("Invalid types: %s and %s for %s.", typeName(a), typeName(b), name)
		}
	}
	if a == nil || b == nil {
		return nil, nil
	}
	return !decisive, nil
}

func xor(a, b any) (any, error) {
	if a == nil || b == nil {
		return nil, nil
	}
	x, ok1 := a.(bool)
	y, ok2 := b.(bool)
	if !ok1 || !ok2 {
		return nil, mismatch(a, b, "XOR")
	}
	return x != y, nil
}

func not(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case bool:
		return !v, nil
	}
	return nil, fail("Invalid type %s for 'NOT'.", typeName(v))
}

func negate(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case int64:
		return -v, nil
	case float64:
		return -v, nil
	}
	return nil, fail("Invalid type %s for '-'.", typeName(v))
}

// equal is true, false or nil for unknown.
func equal(a, b any) any {
	switch {
	case a == nil || b == nil:
		return nil
	case isNumber(a) && isNumber(b):
		return compareNumbers(a, b) == 0
	}
	switch a := a.(type) {
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, func(x, y any) bool { return equal(x, y) == true })
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			if equal(v, b[k]) != true {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case []any, map[string]any: // not comparable in Go
		return false
	}
	return a == b
}

func isNumber(v any) bool {
	switch v.(type) {
	case int64, float64:
		return true
	}
	return false
}

func asFloat(v any) float64 {
	if i, ok := v.(int64); ok {
		return float64(i)
	}
	return v.(float64)
}

func compareNumbers(a, b any) int {
	x, ok1 := a.(int64)
	y, ok2 := b.(int64)
	if ok1 && ok2 {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(asFloat(a), asFloat(b))
}

// order compares numbers with numbers and strings with strings.
func order(op string, holds func(int) bool) func(a, b any) (any, error) {
	return func(a, b any) (any, error) {
		x, ok1 := a.(string)
		y, ok2 := b.(string)
		switch {
		case a == nil || b == nil:
			return nil, nil
		case isNumber(a) && isNumber(b):
			return holds(compareNumbers(a, b)), nil
		case ok1 && ok2:
			return holds(cmp.Compare(x, y)), nil
		}
		return nil, mismatch(a, b, op)
	}
}

// add is also concatenation of strings and of lists.
func add(a, b any) (any, error) {
	if a == nil || b == nil {
		return nil, nil
	}
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			return x + y, nil
		}
	case []any:
		if y, ok := b.([]any); ok {
			return slices.Concat(x, y), nil
		}
		return append(slices.Clone(x), b), nil
	}
	return arithmetic("+", func(a, b int64) int64 { return a + b }, func(a, b float64) float64 { return a + b })(a, b)
}

// arithmetic stays in integers while both sides are.
func arithmetic(op string, ints func(a, b int64) int64, floats func(a, b float64) float64) func(a, b any) (any, error) {
	return func(a, b any) (any, error) {
		x, ok1 := a.(int64)
		y, ok2 := b.(int64)
		switch {
		case a == nil || b == nil:
			return nil, nil
		case ok1 && ok2:
			return ints(x, y), nil
		case isNumber(a) && isNumber(b):
			return floats(asFloat(a), asFloat(b)), nil
		}
		return nil, mismatch(a, b, op)
	}
}

// division by integer zero is answered as a mismatch of types, observed on
// 3.7.2 and 3.12.0.
func division(op string, ints func(a, b int64) int64, floats func(a, b float64) float64) func(a, b any) (any, error) {
	divide := arithmetic(op, ints, floats)
	return func(a, b any) (any, error) {
		if _, ok := a.(int64); ok && b == int64(0) {
			return nil, mismatch(a, b, op)
		}
		return divide(a, b)
	}
}

func ofStrings(name string, test func(s, part string) bool) func(a, b any) (any, error) {
	return func(a, b any) (any, error) {
		x, ok1 := a.(string)
		y, ok2 := b.(string)
		switch {
		case a == nil || b == nil:
			return nil, nil
		case !ok1 || !ok2:
			return nil, fail("'%s' requires a string or null.", name)
		}
		return test(x, y), nil
	}
}

// in is unknown where an item is null and no other is equal.
func in(v, list any) (any, error) {
	items, ok := list.([]any)
	switch {
	case list == nil:
		return nil, nil
	case !ok:
		return nil, fail("IN expected a list, got %s.", typeName(list))
	case len(items) == 0:
		return false, nil
	case v == nil:
		return nil, nil
	}
	var unknown any = false
	for _, item := range items {
		switch equal(v, item) {
		case true:
			return true, nil
		case nil:
			unknown = nil
		}
	}
	return unknown, nil
}

// rank orders values of all types for ORDER BY, nulls last.
func rank(v any) int {
	switch v.(type) {
	case map[string]any:
		return 0
	case *graph.Node:
		return 1
	case []any:
		return 2
	case string:
		return 3
	case bool:
		return 4
	case int64, float64:
		return 5
	}
	return 6
}

// compare orders any two values.
func compare(a, b any) int {
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	switch x := a.(type) {
	case string:
		return cmp.Compare(x, b.(string))
	case int64, float64:
		return compareNumbers(a, b)
	case *graph.Node:
		return cmp.Compare(x.ID, b.(*graph.Node).ID)
	case []any:
		return slices.CompareFunc(x, b.([]any), compare)
	case bool:
		return cmp.Compare(truth(x), truth(b.(bool)))
	}
	return 0
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}
