package memgraphtest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
)

// short is an answer in few words: the failure's code and text, or the first
// column.
func (a answered) short() string {
	if a.failure != nil {
		return strings.Split(a.failure.Code, ".")[1] + " at " + a.at + ": " + a.failure.Message
	}
	var cells []string
	for _, row := range a.rows {
		if cell, ok := row[0].(string); ok {
			cells = append(cells, cell)
		}
	}
	return strings.Join(cells, " ")
}

const (
	oldStorageRows = "vertex_count edge_count average_degree vm_max_map_count memory_res peak_memory_res unreleased_delta_objects disk_usage " +
		"memory_tracked allocation_limit global_isolation_level session_isolation_level next_session_isolation_level storage_mode"
	newStorageRows = "vm_max_map_count memory_res peak_memory_res disk_usage memory_tracked memory_limit license_memory_limit " +
		"query+graph_memory_tracked vector_index_memory_tracked global_isolation_level session_isolation_level next_session_isolation_level global_storage_mode"
	noDatabaseRows = "ClientError at RUN: Error on line 1 position 19. The underlying parsing error is mismatched input 'ON'"
	committedOld   = "At least one SYNC replica has not confirmed committing last transaction."
)

// behaviour is what a version answers where versions differ.
type behaviour struct {
	register, strict, storage string
	database                  bool // SHOW STORAGE INFO ON CURRENT DATABASE
	lost                      string
	bolt44, logoff            bool
	snapshots                 bool // of replicas
}

func TestVersions(t *testing.T) {
	const numbered = "ClientError at PULL: Couldn't register replica r. Error: 5"
	for version, want := range map[string]behaviour{
		"3.4.0": {
			register: "ClientError at PULL: Couldn't register replica r.",
			strict:   "ClientError at RUN: Error on line 1 position 20. The underlying parsing error is mismatched input 'STRICT_SYNC'",
			storage:  "name " + oldStorageRows, lost: "TransientError at PULL: " + committedOld,
		},
		"3.5.0": {register: numbered, storage: "name database_uuid " + oldStorageRows, lost: "TransientError at PULL: " + committedOld},
		"3.7.2": {register: numbered, storage: "name database_uuid " + oldStorageRows, lost: "TransientError at PULL: " + committedOld, snapshots: true},
		"3.8.0": {register: numbered, storage: "name database_uuid " + oldStorageRows, lost: "ClientError at PULL: " + committedOld, snapshots: true, logoff: true},
		"3.12.0": {
			register: numbered, storage: newStorageRows, database: true, lost: "ClientError at PULL: " + lost("n1", rpcError),
			bolt44: true, logoff: true, snapshots: true,
		},
		next: {register: numbered, storage: newStorageRows, database: true, bolt44: true, logoff: true, snapshots: true},
	} {
		t.Run(version, func(t *testing.T) {
			nodes := newNodes(t, 2, func(c *Config) { c.Version = version })
			main, replica := nodes[0], nodes[1]
			w := login(t, main.Server, v52)
			assert.Equal(t, version, w.statement("SHOW VERSION").short())
			assert.Equal(t, want.register, w.statement(`REGISTER REPLICA r SYNC TO "127.0.0.1:1"`).short())
			w.statement("DROP REPLICA r")
			main.join(replica, "SYNC")
			snapshot := login(t, replica.Server, v52).statement("CREATE SNAPSHOT")
			assert.Equal(t, want.snapshots, snapshot.failure == nil)
			if want.strict != "" {
				assert.Equal(t, want.strict, w.statement(`REGISTER REPLICA s STRICT_SYNC TO "127.0.0.1:2"`).short())
			} else {
				assert.Contains(t, w.statement(`REGISTER REPLICA s STRICT_SYNC TO "127.0.0.1:2"`).short(), "Error: 5")
				w.statement("DROP REPLICA s")
			}
			assert.Equal(t, want.storage, w.statement("SHOW STORAGE INFO").short())
			database := w.statement("SHOW STORAGE INFO ON CURRENT DATABASE")
			if !want.database {
				assert.Equal(t, noDatabaseRows, database.short())
			} else {
				assert.Contains(t, database.short(), "database_uuid")
			}
			replica.Crash()
			answer := w.statement("CREATE (:N)")
			assert.Equal(t, want.lost, answer.short())
			assert.Equal(t, version == next, answer.meta["notifications"] != nil)
			assert.Equal(t, 1, main.State().Nodes)

			w.send(bolt.Logoff{})
			if want.logoff {
				assert.Equal(t, empty, w.receive())
			}
			assert.Equal(t, greeting, w.ask(bolt.Logon{Auth: map[string]any{"scheme": "none"}}))
			_, spoken := bolt.Propose(v44).Choose(offers(latestOf(t, version)))
			assert.Equal(t, want.bolt44, spoken)
		})
	}
}

func latestOf(t *testing.T, text string) version {
	t.Helper()
	v, err := parseVersion(text)
	require.NoError(t, err)
	return v
}

// A MAIN that was promoted and demoted without a write does not look diverged,
// except before 3.5.
func TestPromotedAndDemotedAgain(t *testing.T) {
	for version, diverges := range map[string]bool{"3.4.0": true, "3.12.0": false} {
		t.Run(version, func(t *testing.T) {
			nodes := newNodes(t, 2, func(c *Config) { c.Version = version })
			main, replica := nodes[0], nodes[1]
			main.join(replica, "SYNC")
			main.must("CREATE (:N)")
			main.must("DROP REPLICA n1")
			replica.promote()
			replica.demote()
			assert.Equal(t, diverges, main.register(replica, "SYNC") != nil)
		})
	}
}

// After 3.12 a replica that has not prepared a commit says so when it is to
// finalize it; before, it says yes.
func TestFinalizingTheUnprepared(t *testing.T) {
	for version, yes := range map[string]bool{"3.12.0": true, next: false} {
		n := newNode(t, "n0", func(c *Config) { c.Version = version })
		n.demote()
		r := n.running().roles
		assert.Equal(t, yes, r.server.answer(request{method: finalizeCommit, main: r.mainUUID(), ts: 7, commit: true}).ok, version)
	}
}
