package memgraphtest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"memgraph-controller/memgraph/memgraphtest/internal/cypher"
)

// systemWait is how long RUN waits for another statement that changes the
// system. Source: Memgraph v3.12 query/interpreter.cpp:296.
const systemWait = 100 * time.Millisecond

// prepareOther makes a result of a statement that is not a query.
func (s *session) prepareOther(statement cypher.Statement) (*result, error) {
	r := &result{fields: []string{}, kind: cypher.ReadWrite, abandon: func() {}}
	subject := "Managing replication"
	switch st := statement.(type) {
	case cypher.Transaction:
		s.counts.statement(st.Verb)
		r.execute = s.transactionVerb(r, st.Verb)
		return r, nil
	case cypher.Enterprise:
		return nil, refuse(textEnterprise)
	case cypher.ShowRole:
		s.counts.statement("SHOW REPLICATION ROLE")
		r.fields, r.execute = []string{"replication role"}, s.showRole
	case cypher.ShowReplicas:
		s.counts.statement("SHOW REPLICAS")
		r.fields = []string{"name", "socket_address", "sync_mode", "system_info", "data_info"}
		r.execute = s.showReplicas
	case cypher.Show:
		s.counts.statement("SHOW " + st.Topic)
		table := s.tables()[st.Topic]
		subject, r.fields, r.execute = table.subject, table.fields, table.rows
	case cypher.CreateSnapshot:
		s.counts.statement("CREATE SNAPSHOT")
		subject, r.fields, r.execute = "Creating snapshots", []string{"path"}, s.createSnapshot
	case cypher.StorageMode:
		s.counts.statement("STORAGE MODE")
		subject, r.execute = "Storage mode modification", func() ([][]any, error) {
			s.storage.analytical.Store(st.Analytical)
			return nil, nil
		}
	default:
		return s.prepareChange(r, statement)
	}
	if s.tx != nil {
		return nil, refuse("%s", s.version.textMulticommand(subject))
	}
	return r, nil
}

// transactionVerb is BEGIN, COMMIT or ROLLBACK as a statement.
func (s *session) transactionVerb(r *result, verb string) func() ([][]any, error) {
	act := map[string]func() outcome{
		"BEGIN": func() outcome { return s.begin(false) }, "COMMIT": s.commit, "ROLLBACK": s.rollback,
	}[verb]
	return func() ([][]any, error) {
		o := act()
		if o.failed != nil {
			return nil, o.failed
		}
		if o.note != nil {
			r.notes = append(r.notes, *o.note)
		}
		return nil, nil
	}
}

// prepareChange is for the statements that change the system: they hold the
// system's lock from RUN to their end.
func (s *session) prepareChange(r *result, statement cypher.Statement) (*result, error) {
	if s.tx != nil {
		return nil, refuse("%s", s.version.textMulticommand("Managing replication"))
	}
	if s.storage.analytical.Load() {
		return nil, refuse(textAnalytical)
	}
	act, err := s.change(r, statement)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(systemWait)
	defer timer.Stop()
	select {
	case s.systemLock <- struct{}{}:
	case <-timer.C:
		return nil, refuse(textSystemQueries)
	}
	r.abandon = func() { <-s.systemLock }
	r.execute = func() ([][]any, error) { return nil, act() }
	r.finish = func() outcome {
		<-s.systemLock
		return outcome{}
	}
	return r, nil
}

// change says what a statement does, and what is noted when it has.
func (s *session) change(r *result, statement cypher.Statement) (func() error, error) {
	switch st := statement.(type) {
	case cypher.SetMain:
		s.counts.statement("SET REPLICATION ROLE TO MAIN")
		r.notes = append(r.notes, noteMain)
		return s.logged("role changed", RoleMain, s.roles.setMain), nil
	case cypher.SetReplica:
		s.counts.statement("SET REPLICATION ROLE TO REPLICA")
		if st.Port == 7687 {
			r.notes = append(r.notes, notePort)
		}
		r.notes = append(r.notes, noteReplica)
		return s.logged("role changed", RoleReplica, func() error { return s.roles.setReplica(st.Port) }), nil
	case cypher.Register:
		s.counts.statement("REGISTER REPLICA")
		r.notes = append(r.notes, noteRegistered(st.Name))
		return func() error { return s.register(st) }, nil
	case cypher.Drop:
		s.counts.statement("DROP REPLICA")
		r.notes = append(r.notes, noteDropped(st.Name))
		return func() error { return s.roles.drop(st.Name) }, nil
	}
	return nil, fmt.Errorf("statement %T is not known", statement)
}

// logged adds a line of log to a change that succeeded.
func (s *session) logged(event string, role Role, change func() error) func() error {
	return func() error {
		if err := change(); err != nil {
			return err
		}
		s.cfg.Logger.Info(event, "run_id", s.runID, "role", role)
		return nil
	}
}

func (s *session) register(st cypher.Register) error {
	address, err := parseAddress(st.Address)
	if err != nil {
		return err
	}
	return s.roles.register(Registration{Name: st.Name, Address: address, Mode: SyncMode(st.Mode)})
}

// showRole waits while the role is being changed, and never for a commit.
func (s *session) showRole() ([][]any, error) {
	s.roles.lock.RLock()
	defer s.roles.lock.RUnlock()
	return [][]any{{string(s.roles.role())}}, nil
}

// showReplicas answers from memory: what MAIN learnt last.
func (s *session) showReplicas() ([][]any, error) {
	s.roles.lock.RLock()
	defer s.roles.lock.RUnlock()
	if s.roles.role() != RoleMain {
		return nil, refuse(textShowHere)
	}
	var rows [][]any
	for _, r := range s.roles.replicas() {
		info := map[string]any{}
		if r.known && !s.storage.analytical.Load() {
			info["memgraph"] = map[string]any{"ts": r.ts, "behind": r.behind, "status": string(r.state)}
		}
		rows = append(rows, []any{r.Name, r.Address, string(r.Mode), nil, info})
	}
	return rows, nil
}

// createSnapshot makes a snapshot now, unless the newest one is as new.
func (s *session) createSnapshot() ([][]any, error) {
	if s.version.before(3, 7) && s.roles.role() == RoleReplica {
		return nil, refuse(textSnapshotHere)
	}
	if err := s.storage.save(); err != nil {
		return nil, err
	}
	return [][]any{{s.dir.file(snapshotFile)}}, nil
}

// table is what SHOW answers on a topic.
type table struct {
	subject string // of the refusal in an explicit transaction
	fields  []string
	rows    func() ([][]any, error)
}

// tables are the topics that the grammar knows.
func (s *session) tables() map[string]table {
	const storage = "Storage information query"
	pairs := []string{"storage info", "value"}
	return map[string]table{
		"VERSION":                          {"Version information query", []string{"version"}, constant([]any{s.version.text})},
		"BUILD INFO":                       {storage, []string{"build info", "value"}, constant([]any{"build_type", "Release"})},
		"CONFIG":                           {"Configuration information query", []string{"name", "default_value", "current_value", "description"}, s.showConfig},
		"SNAPSHOTS":                        {"Snapshots listing", []string{"path", "timestamp", "creation_time", "size"}, s.showSnapshots},
		"STORAGE INFO":                     {storage, pairs, s.showStorage},
		"STORAGE INFO ON CURRENT DATABASE": {storage, pairs, s.showDatabase},
	}
}

func constant(rows ...[]any) func() ([][]any, error) {
	return func() ([][]any, error) { return rows, nil }
}

// showConfig lists the settings by name; descriptions are not modelled.
func (s *session) showConfig() ([][]any, error) {
	var rows [][]any
	for _, f := range s.cfg.Flags {
		rows = append(rows, []any{f.Name, f.Default, f.Value, ""})
	}
	slices.SortFunc(rows, func(a, b []any) int { return strings.Compare(a[0].(string), b[0].(string)) })
	return rows, nil
}

func (s *session) showSnapshots() ([][]any, error) {
	file, err := os.Stat(s.dir.file(snapshotFile))
	if err != nil {
		return nil, nil // there is none
	}
	s.storage.mu.Lock()
	ldt := s.storage.saved.ldt
	s.storage.mu.Unlock()
	created := file.ModTime().UTC().Format("2006-01-02T15:04:05.000000+0000")
	return [][]any{{s.dir.file(snapshotFile), ldt, created, fmt.Sprintf("%dB", file.Size())}}, nil
}

// Amounts of memory and disk are not modelled.
const someMemory = "74.57MiB"

// showStorage tells of the database too before 3.10. Observed on 3.7.2 and 3.12.0.
func (s *session) showStorage() ([][]any, error) {
	if s.version.atLeast(3, 10) {
		return [][]any{
			{"vm_max_map_count", int64(65530)}, {"memory_res", someMemory}, {"peak_memory_res", someMemory}, {"disk_usage", someMemory},
			{"memory_tracked", someMemory}, {"memory_limit", someMemory}, {"license_memory_limit", "unlimited"},
			{"query+graph_memory_tracked", someMemory}, {"vector_index_memory_tracked", "0B"},
			{"global_isolation_level", "SNAPSHOT_ISOLATION"}, {"session_isolation_level", ""}, {"next_session_isolation_level", ""},
			{"global_storage_mode", "IN_MEMORY_TRANSACTIONAL"}, // the default of new databases
		}, nil
	}
	rows := [][]any{{"name", "memgraph"}}
	if s.version.atLeast(3, 5) {
		rows = append(rows, []any{"database_uuid", s.storage.identity()})
	}
	return append(rows, [][]any{
		{"vertex_count", int64(s.storage.graph.Len())},
		{"edge_count", int64(0)}, {"average_degree", 0.0}, {"vm_max_map_count", int64(65530)}, {"memory_res", someMemory},
		{"peak_memory_res", someMemory}, {"unreleased_delta_objects", int64(0)}, {"disk_usage", someMemory},
		{"memory_tracked", someMemory}, {"allocation_limit", someMemory}, {"global_isolation_level", "SNAPSHOT_ISOLATION"},
		{"session_isolation_level", ""}, {"next_session_isolation_level", ""}, {"storage_mode", s.storage.mode()},
	}...), nil
}

// showDatabase exists since 3.11. Source: Memgraph v3.12
// query/interpreter.cpp:7417-7435.
func (s *session) showDatabase() ([][]any, error) {
	return [][]any{
		{"name", "memgraph"}, {"database_uuid", s.storage.identity()}, {"state", "HOT"}, {"storage_mode", s.storage.mode()},
		{"vertex_count", int64(s.storage.graph.Len())}, {"edge_count", int64(0)}, {"average_degree", 0.0},
		{"unreleased_delta_objects", int64(0)}, {"disk_usage", someMemory}, {"graph_memory_tracked", someMemory},
		{"query_memory_tracked", "0B"}, {"vector_index_memory_tracked", "0B"}, {"tenant_memory_tracked", someMemory},
		{"tenant_peak_memory_tracked", someMemory}, {"tenant_memory_limit", "unlimited"},
		{"storage_isolation_level", "SNAPSHOT_ISOLATION"}, {"health", "ready"},
	}, nil
}
