package memgraphtest

import (
	"errors"
	"strconv"
	"time"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest/internal/cypher"
	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// transactionKind tells statements of their own from those between BEGIN and
// COMMIT.
type transactionKind int

const (
	autoCommit transactionKind = iota
	explicit
)

// transaction is an explicit one.
type transaction struct {
	graph    *graph.Tx
	readOnly bool
	queries  int64 // so far; the qid of the next
}

// result is a statement between RUN and the end of its rows. It has its effect
// at the first PULL or DISCARD, and commits when its rows are gone.
type result struct {
	fields []string
	kind   cypher.Kind
	notes  []notification
	// execute yields the rows.
	execute func() ([][]any, error)
	// finish commits; nil if there is nothing to commit.
	finish func() outcome
	// abandon undoes what RUN did, if the statement is not pulled to its end.
	abandon func()

	executed bool
	rows     [][]any
	stats    *cypher.Stats // of a query; nil for other statements
	parsing  time.Duration
	running  time.Duration
}

// handleRun parses and checks a statement; effects come with PULL.
func (s *session) handleRun(m bolt.Run) bool {
	began := time.Now()
	statement, err := s.version.grammar().Parse(m.Query)
	if err != nil {
		return s.fail(err)
	}
	var r *result
	if q, ok := statement.(*cypher.Query); ok {
		r, err = s.prepareQuery(q, m.Params)
	} else {
		r, err = s.prepareOther(statement)
	}
	if err != nil {
		return s.fail(err)
	}
	r.parsing = time.Since(began)
	s.result, s.state = r, expectPull
	meta := map[string]any{"fields": r.fields}
	if s.tx != nil {
		meta["qid"] = s.tx.queries
		s.tx.queries++
	}
	return s.send(bolt.Success{Meta: meta})
}

// prepareQuery opens a transaction, unless there is one.
func (s *session) prepareQuery(q *cypher.Query, params map[string]any) (*result, error) {
	if err := q.Prepare(params); err != nil {
		return nil, err
	}
	if err := s.permit(q.Kind); err != nil {
		return nil, err
	}
	r := &result{fields: q.Columns, kind: q.Kind, stats: &cypher.Stats{}, abandon: func() {}}
	for _, hint := range q.Hints {
		r.notes = append(r.notes, noteHint(hint))
	}
	var tx *graph.Tx
	if s.tx != nil {
		tx = s.tx.graph
	} else {
		var err error
		if tx, err = s.storage.begin(); err != nil {
			return nil, err
		}
		r.abandon = tx.Rollback
		r.finish = func() outcome { return s.roles.commit(tx, autoCommit) }
	}
	r.execute = func() ([][]any, error) {
		answer, err := q.Run(tx, params)
		*r.stats = answer.Stats
		return answer.Rows, err
	}
	return r, nil
}

// permit refuses writes on replicas and in read transactions.
func (s *session) permit(kind cypher.Kind) error {
	if !kind.Writes() {
		s.counts.statement("read")
		return nil
	}
	s.counts.statement("write")
	s.roles.lock.RLock()
	role := s.roles.role()
	s.roles.lock.RUnlock()
	if role != RoleMain {
		return refuse(textWriteHere)
	}
	if s.tx != nil && s.tx.readOnly {
		name := map[cypher.Kind]string{cypher.Write: "WRITE", cypher.ReadWrite: "READ-WRITE"}[kind]
		return refuse("%s", textMisaligned(name))
	}
	return nil
}

// handlePull passes on n rows, all if negative, and ends the statement with the
// last.
func (s *session) handlePull(n int64, pass func([]any) bool) bool {
	r := s.result
	if !r.executed {
		began := time.Now()
		rows, err := r.execute()
		if err != nil {
			s.result = nil
			r.abandon()
			return s.fail(err)
		}
		r.executed, r.rows, r.running = true, rows, time.Since(began)
	}
	for ; n != 0 && len(r.rows) > 0; n-- {
		if !pass(r.rows[0]) {
			return false
		}
		r.rows = r.rows[1:]
	}
	if len(r.rows) > 0 {
		return s.send(bolt.Success{Meta: map[string]any{"has_more": true, "run_id": s.runID}})
	}
	s.result = nil
	if r.finish != nil {
		o := r.finish()
		if o.failed != nil {
			return s.fail(o.failed)
		}
		if o.note != nil {
			r.notes = append(r.notes, *o.note)
		}
	}
	s.state = expectRun
	return s.send(bolt.Success{Meta: s.summary(r)})
}

// summary is what ends a statement. Its keys are as observed; the cost estimate
// is not modelled.
func (s *session) summary(r *result) map[string]any {
	kind := r.kind
	if kind == cypher.None {
		kind = cypher.ReadWrite
	}
	m := map[string]any{
		"cost_estimate": 0.0, "db": "memgraph", "has_more": false, "run_id": s.runID, "type": string(kind),
		"parsing_time": r.parsing.Seconds(), "planning_time": 0.0,
	}
	if len(r.notes) > 0 {
		list := make([]any, len(r.notes))
		for i, n := range r.notes {
			list[i] = n.wire()
		}
		m["notifications"] = list
	}
	if r.stats == nil {
		return m
	}
	m["number_of_hops"], m["plan_execution_time"] = int64(0), r.running.Seconds()
	if *r.stats != (cypher.Stats{}) {
		m["stats"] = map[string]any{
			"nodes-created": r.stats.NodesCreated, "nodes-deleted": r.stats.NodesDeleted, "labels-added": r.stats.LabelsAdded,
			"labels-removed": int64(0), "properties-set": r.stats.PropertiesSet, "relationships-created": int64(0), "relationships-deleted": int64(0),
		}
	}
	return m
}

// handleTransaction obeys BEGIN, COMMIT and ROLLBACK.
func (s *session) handleTransaction(m bolt.Message) bool {
	var o outcome
	switch m := m.(type) {
	case bolt.Begin:
		mode, _ := m.Extra["mode"].(string)
		o = s.begin(mode == "r")
	case bolt.Commit:
		o = s.commit()
	default:
		o = s.rollback()
	}
	if o.failed != nil {
		return s.fail(o.failed)
	}
	meta := map[string]any{}
	if o.note != nil {
		meta["notifications"] = []any{o.note.wire()}
	}
	return s.send(bolt.Success{Meta: meta})
}

// begin waits, as every transaction, for a commit that is under way.
func (s *session) begin(readOnly bool) outcome {
	if s.tx != nil {
		return outcome{failed: refuse(textNested)}
	}
	tx, err := s.storage.begin()
	if err != nil {
		return outcome{failed: asFailure(err)}
	}
	s.tx = &transaction{graph: tx, readOnly: readOnly}
	return outcome{}
}

// commit ends the explicit transaction, also if it fails.
func (s *session) commit() outcome {
	if s.tx == nil {
		return outcome{failed: refuse(textNoCommit)}
	}
	tx := s.tx.graph
	s.tx = nil
	return s.roles.commit(tx, explicit)
}

func (s *session) rollback() outcome {
	if s.tx == nil {
		return outcome{failed: refuse(textNoRollback)}
	}
	s.tx.graph.Rollback()
	s.tx = nil
	return outcome{}
}

// wire turns nodes into Bolt's structures, which have a fourth field from 5.0 on.
func (s *session) wire(v any) any {
	switch v := v.(type) {
	case cypher.Node:
		fields := []any{v.ID, v.State.Labels, v.State.Props}
		if s.protocol.AtLeast(5, 0) {
			fields = append(fields, strconv.FormatInt(v.ID, 10))
		}
		return bolt.Structure{Tag: 'N', Fields: fields}
	case []any:
		list := make([]any, len(v))
		for i, item := range v {
			list[i] = s.wire(item)
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k, item := range v {
			m[k] = s.wire(item)
		}
		return m
	}
	return v
}

// asFailure gives an error its code. One that is neither the server's nor the
// query's is of the files, which a process that dies has lost.
func asFailure(err error) *failure {
	var ours *failure
	var query *cypher.Error
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &query) && query.Transient:
		return &failure{codeTransient, query.Text}
	case errors.As(err, &query):
		return refuse("%s", query.Text)
	}
	return dying
}
