package cypher

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// exec runs a query and commits it.
func exec(t *testing.T, s *graph.Store, text string, params map[string]any) (*Query, Result, error) {
	t.Helper()
	statement, err := Parse(text)
	if err != nil {
		return nil, Result{}, err
	}
	q, ok := statement.(*Query)
	require.True(t, ok, text)
	if err := q.Prepare(params); err != nil {
		return q, Result{}, err
	}
	tx := s.Begin()
	result, err := q.Run(tx, params)
	if err != nil {
		tx.Rollback()
		return q, result, err
	}
	tx.Commit()
	return q, result, nil
}

func rows(values ...any) [][]any {
	list := [][]any{}
	for _, v := range values {
		list = append(list, []any{v})
	}
	return list
}

func ints(values ...int64) [][]any {
	list := [][]any{}
	for _, v := range values {
		list = append(list, []any{v})
	}
	return list
}

// Those with null in them are invariant 3.
func TestExpressions(t *testing.T) {
	for text, want := range map[string]any{
		"1 + 2 * 3 - 4":                          int64(3),
		"-(2) + 7 % 4":                           int64(1),
		"7 / 2":                                  int64(3),
		"7 / 2.0":                                3.5,
		"'a' + \"b\"":                            "ab",
		`'it\'s\n'`:                              "it's\n",
		"[1, 2] + 3":                             []any{int64(1), int64(2), int64(3)},
		"{a: 1, b: [true]}.b[0]":                 true,
		"[1, 2, 3][-1]":                          int64(3),
		"1 < 2 AND 'a' < 'b'":                    true,
		"1 = 1.0":                                true,
		"1 = 'a'":                                false,
		"[1, {a: 2}] = [1, {a: 2}]":              true,
		"NOT 1 = 2":                              true,
		"NOT true OR true":                       true,
		"true XOR true":                          false,
		"null AND false":                         false,
		"null OR true":                           true,
		"null AND true":                          nil,
		"null = null":                            nil,
		"null IS NULL AND 1 IS NOT NULL":         true,
		"2 IN [1, 2]":                            true,
		"3 IN [1, null]":                         nil,
		"'graph' STARTS WITH 'gr'":               true,
		"'graph' ENDS WITH 'ph'":                 true,
		"'graph' CONTAINS 'x'":                   false,
		"range(1, 3)":                            []any{int64(1), int64(2), int64(3)},
		"range(3, 1, -1)":                        []any{int64(3), int64(2), int64(1)},
		"range(2, 1)":                            []any{},
		"size([1, 2]) + size('äb')":              int64(4),
		"coalesce(null, 5)":                      int64(5),
		"toInteger('42') + toInteger(1.9)":       int64(43),
		"toString(1) + toString(true)":           "1true",
		"$p.k + $q":                              int64(12),
		"1 /* a comment */ + 1 // another\n + 1": int64(3),
	} {
		t.Run(text, func(t *testing.T) {
			_, result, err := exec(t, graph.New(), "RETURN "+text+" AS v", map[string]any{"p": map[string]any{"k": int64(5)}, "q": int64(7)})
			require.NoError(t, err)
			assert.Equal(t, rows(want), result.Rows)
		})
	}
}

func TestQueries(t *testing.T) {
	s := graph.New()
	node := func(id, i int64) Node {
		return Node{ID: id, State: graph.State{Labels: []string{"N"}, Props: map[string]any{"i": i}}}
	}
	for _, c := range []struct {
		query   string
		columns []string
		want    [][]any
	}{
		{"UNWIND range(1, 4) AS i CREATE (:N {i: i})", []string{}, [][]any{}},
		{"MATCH (n) RETURN count(n), count(*) AS c;", []string{"count(n)", "c"}, [][]any{{int64(4), int64(4)}}},
		{"match (n:N {i: 2}) return n", []string{"n"}, [][]any{{node(1, 2)}}},
		{"MATCH (n:N) WHERE n.i > $least AND n.none IS NULL RETURN n.i ORDER BY n.i DESC LIMIT 1", []string{"n.i"}, ints(4)},
		{"MATCH (n) WHERE n.none RETURN n.i", []string{"n.i"}, ints()},
		{"MATCH (n) RETURN n.i AS i ORDER BY i SKIP 1 LIMIT 2", []string{"i"}, ints(2, 3)},
		{"MATCH (n) RETURN n.i % 2 AS odd, sum(n.i), collect(n.i) ORDER BY odd", []string{"odd", "sum(n.i)", "collect(n.i)"},
			[][]any{{int64(0), int64(6), []any{int64(2), int64(4)}}, {int64(1), int64(4), []any{int64(1), int64(3)}}}},
		{"MATCH (n) RETURN min(n.i), max(n.i) - 1, avg(n.i)", []string{"min(n.i)", "max(n.i) - 1", "avg(n.i)"}, [][]any{{int64(1), int64(3), 2.5}}},
		{"MATCH (n:None) RETURN count(n), min(n.i), sum(n.i), collect(n)", []string{"count(n)", "min(n.i)", "sum(n.i)", "collect(n)"},
			[][]any{{int64(0), nil, int64(0), []any{}}}},
		{"MATCH (n:None) RETURN labels(n), count(*)", []string{"labels(n)", "count(*)"}, [][]any{}},
		{"UNWIND [1, 1, 2, null] AS x RETURN count(x), count(DISTINCT x)", []string{"count(x)", "count(DISTINCT x)"}, [][]any{{int64(3), int64(2)}}},
		{"UNWIND [1, 1.0, 2] AS x RETURN DISTINCT x", []string{"x"}, ints(1, 2)},
		{"MATCH (a:N), (b:N) WHERE a.i + b.i = 3 RETURN a.i", []string{"a.i"}, ints(1, 2)},
		{"MATCH (n:N {i: 1}) SET n.i = 10, n.s = 'x' RETURN n.i", []string{"n.i"}, ints(10)},
		{"MATCH (n:N {i: 10}) SET n += {s: null, k: true} RETURN properties(n)", []string{"properties(n)"}, rows(map[string]any{"i": int64(10), "k": true})},
		{"MATCH (n:N {i: 10}) SET n = {i: 1} RETURN n", []string{"n"}, rows(node(0, 1))},
		{"MERGE (n:N {i: 2}) ON CREATE SET n.new = true ON MATCH SET n.old = true RETURN n.old, n.new", []string{"n.old", "n.new"}, [][]any{{true, nil}}},
		// Invariant 2: the second row sees what the first one did.
		{"UNWIND [7, 7] AS i MERGE (n:M {i: i}) ON CREATE SET n.c = 1 ON MATCH SET n.c = n.c + 1 RETURN n.c", []string{"n.c"}, ints(1, 2)},
		{"MATCH (n:M) RETURN keys(n)", []string{"keys(n)"}, rows([]any{"c", "i"})},
		{"UNWIND [null, 2, true, 'b', [1], {k: 1}, 1.5, false, 'a'] AS x RETURN x ORDER BY x", []string{"x"},
			rows(map[string]any{"k": int64(1)}, []any{int64(1)}, "a", "b", false, true, 1.5, int64(2), nil)},
		{"MATCH (n:M) DETACH DELETE n", []string{}, [][]any{}},
		{"CREATE (n:__probe) DELETE n", []string{}, [][]any{}},
		{"CREATE (a:A), (b:`B C` {k: 1}), ()", []string{}, [][]any{}},
		{"MATCH (n:`B C`) RETURN labels(n) AS l, id(n)", []string{"l", "id(n)"}, [][]any{{[]any{"B C"}, int64(7)}}},
		{"MATCH (n:N {i: 3}) UNWIND [1] AS a RETURN *", []string{"a", "n"}, [][]any{{int64(1), node(2, 3)}}},
	} {
		t.Run(c.query, func(t *testing.T) {
			q, result, err := exec(t, s, c.query, map[string]any{"least": int64(3)})
			require.NoError(t, err)
			assert.Equal(t, c.columns, q.Columns, "invariant 1")
			assert.Equal(t, c.want, result.Rows)
		})
	}
}

func TestKindsAndStats(t *testing.T) {
	for _, c := range []struct {
		query string
		kind  Kind
		stats Stats
	}{
		{"RETURN 1", None, Stats{}},
		{"MATCH (n) RETURN n", Read, Stats{}},
		{"CREATE (:A {k: 1})", Write, Stats{NodesCreated: 1, LabelsAdded: 1}},
		{"UNWIND [1, 2] AS x CREATE (:A:B {k: x}) RETURN 1", Write, Stats{NodesCreated: 2, LabelsAdded: 4}},
		{"CREATE (n:__probe) DELETE n", Write, Stats{NodesCreated: 1, NodesDeleted: 1, LabelsAdded: 1}},
		{"MATCH (n) SET n.k = 2", ReadWrite, Stats{PropertiesSet: 1}},
		{"MATCH (n) DELETE n, n", ReadWrite, Stats{NodesDeleted: 1}},
		{"MERGE (n:C)", ReadWrite, Stats{NodesCreated: 1, LabelsAdded: 1}},
	} {
		t.Run(c.query, func(t *testing.T) {
			s := graph.New()
			if strings.HasPrefix(c.query, "MATCH") {
				_, _, err := exec(t, s, "CREATE ()", nil)
				require.NoError(t, err)
			}
			q, result, err := exec(t, s, c.query, nil)
			require.NoError(t, err)
			assert.Equal(t, c.kind, q.Kind)
			assert.Equal(t, c.stats, result.Stats)
		})
	}
}

func TestHints(t *testing.T) {
	for query, want := range map[string][]string{
		"MATCH (n:X) RETURN n": {"Sequential scan will be used on symbol `n` although there is a filter on labels :X. Consider creating a label index."},
		"MATCH (n:X {k: {z: 1}, l: 2}) RETURN n": {"Sequential scan will be used on symbol `n` although there is a filter on labels :X and properties k, l. " +
			"Consider creating a label-property index."},
		"MATCH (n) RETURN n": nil,
		"CREATE (n:X)":       nil,
	} {
		statement, err := Parse(query)
		require.NoError(t, err)
		assert.Equal(t, want, statement.(*Query).Hints)
	}
}

func TestErrors(t *testing.T) {
	for query, want := range map[string]string{
		"garbage":                         "Error on line 1 position 1. The underlying parsing error is mismatched input 'garbage'",
		"":                                "Error on line 1 position 1. The underlying parsing error is mismatched input '<EOF>'",
		"MATCH (n)\nRETURN n,":            "Error on line 2 position 10. The underlying parsing error is mismatched input '<EOF>'",
		"RETURN 'open":                    "Error on line 1 position 8. The underlying parsing error is mismatched input '''",
		"RETURN 1 2":                      "Error on line 1 position 10. The underlying parsing error is mismatched input '2'",
		"CREATE (:A)-[:R]->(:B)":          "The stand-in does not model relationships.",
		"RETURN m":                        "Unbound variable: m.",
		"UNWIND [1] AS x CREATE (x)":      "Redeclaring variable: x.",
		"RETURN $p":                       "Parameter $p not provided.",
		"RETURN 1/0":                      "Invalid types: int and int for '/'.",
		"RETURN 1 + 'a'":                  "Invalid types: int and string for '+'.",
		"RETURN 1 < 'a'":                  "Invalid types: int and string for '<'.",
		"RETURN true AND 1":               "Invalid types: bool and int for AND.",
		"RETURN 1 IN 2":                   "IN expected a list, got int.",
		"UNWIND 1 AS x RETURN x":          "Argument of UNWIND must be a list, but 'int' was provided.",
		"RETURN 1 AS a, 2 AS a":           "Multiple results with the same name 'a' are not allowed.",
		"UNWIND [1] AS x SET x.k = 1":     "Properties can only be set on edges and vertices.",
		"UNWIND [count(1)] AS x RETURN x": "Using aggregation functions is only allowed in WITH and RETURN.",
	} {
		t.Run(query[:min(len(query), 40)], func(t *testing.T) {
			_, _, err := exec(t, graph.New(), query, nil)
			assert.EqualError(t, err, want)
		})
	}
}

func TestConflictsAreTransient(t *testing.T) {
	s := graph.New()
	_, _, err := exec(t, s, "CREATE (:N)", nil)
	require.NoError(t, err)
	other := s.Begin()
	require.NoError(t, other.Delete(other.Nodes("N")[0]))
	_, _, err = exec(t, s, "MATCH (n:N) SET n.k = 1", nil)
	assert.Equal(t, conflict, err)
	other.Rollback()
}

func TestStatements(t *testing.T) {
	for text, want := range map[string]Statement{
		"SHOW REPLICATION ROLE":                            ShowRole{},
		"show  replicas ;":                                 ShowReplicas{},
		"SET REPLICATION ROLE TO MAIN":                     SetMain{},
		"set replication role to replica with port 10000":  SetReplica{Port: 10000},
		`REGISTER REPLICA r1 SYNC TO "h:1"`:                Register{"r1", "sync", "h:1"},
		"REGISTER REPLICA `memgraph-0` STRICT_SYNC TO 'h'": Register{"memgraph-0", "strict_sync", "h"},
		"REGISTER REPLICA Sync ASYNC TO 'h'":               Register{"Sync", "async", "h"},
		"DROP REPLICA `a-b`":                               Drop{"a-b"},
		"SHOW VERSION":                                     Show{"VERSION"},
		"SHOW STORAGE INFO":                                Show{"STORAGE INFO"},
		"SHOW storage info on current database":            Show{"STORAGE INFO ON CURRENT DATABASE"},
		"SHOW DATABASES":                                   Enterprise{},
		"CREATE SNAPSHOT":                                  CreateSnapshot{},
		"COMMIT;":                                          Transaction{"COMMIT"},
	} {
		got, err := Parse(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for text, want := range map[string]string{
		"SET REPLICATION ROLE TO REPLICA":               "Replica must set a port!",
		"SET REPLICATION ROLE TO MAIN WITH PORT 1":      "Main can't set a port!",
		"SET REPLICATION ROLE TO REPLICA WITH PORT '1'": "Port must be an integer literal!",
		"SET REPLICATION ROLE TO REPLICA WITH PORT -1":  "Error on line 1 position 43. The underlying parsing error is mismatched input '-'",
		"SET REPLICATION ROLE TO SLAVE WITH PORT 1":     "Error on line 1 position 25. The underlying parsing error is mismatched input 'SLAVE'",
		"REGISTER REPLICA my-replica SYNC TO 'h'":       "Error on line 1 position 20. The underlying parsing error is mismatched input '-'",
		`REGISTER REPLICA "quoted" SYNC TO 'h'`:         `Error on line 1 position 18. The underlying parsing error is mismatched input '"quoted"'`,
		"REGISTER REPLICA dn SYNC TO 127.0.0.2":         "Error on line 1 position 34. The underlying parsing error is mismatched input '.'",
		"DROP REPLICA":                                  "Error on line 1 position 13. The underlying parsing error is mismatched input '<EOF>'",
		"SHOW REPLICATION ROLES":                        "Error on line 1 position 18. The underlying parsing error is mismatched input 'ROLES'",
		"SET REPLICATION ROLE TO REPLICA WITH PORT":     "Error on line 1 position 42. The underlying parsing error is mismatched input '<EOF>'",
		"SHOW SERVERS": "Error on line 1 position 6. The underlying parsing error is mismatched input 'SERVERS'",
	} {
		_, err := Parse(text)
		assert.EqualError(t, err, want, text)
	}
}

// Whatever comes, the parser ends and says so.
func FuzzParse(f *testing.F) {
	for _, q := range []string{"MATCH (n:L {k: $v}) WHERE n.i IN [1] RETURN count(*) AS c ORDER BY c", "RETURN '\\", "RETURN -[", "CREATE (`"} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		statement, err := Parse(query)
		assert.True(t, (statement == nil) != (err == nil))
	})
}
