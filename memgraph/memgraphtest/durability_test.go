package memgraphtest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// Invariant 1.
func TestAcknowledgedWritesSurvive(t *testing.T) {
	for name, end := range map[string]func(*Server){"SIGKILL": (*Server).Crash, "SIGTERM": (*Server).Terminate} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, "n0", func(c *Config) { c.SnapshotOnExit = true })
			addr := n.Addr()
			for round := range 3 {
				n.must("CREATE (:N {round: $r, f: 1.5, l: [1, 'x'], m: {k: null}})", map[string]any{"r": round})
				n.must("MATCH (n {round: 0}) SET n.seen = $r", map[string]any{"r": round})
				n.must("CREATE (:Gone)")
				n.must("MATCH (n:Gone) DELETE n")
				before, id := n.Dump(), n.State()
				end(n.Server)
				require.NoError(t, n.Start(t.Context()))
				assert.Equal(t, before, n.Dump())
				assert.Equal(t, addr, n.Addr())
				after := n.State()
				assert.NotEqual(t, id.RunID, after.RunID)
				assert.Equal(t, []any{id.Epoch, id.DatabaseUUID, id.MainUUID, id.Timestamp},
					[]any{after.Epoch, after.DatabaseUUID, after.MainUUID, after.Timestamp})
			}
			end(n.Server)
			require.NoError(t, n.Wipe())
			require.NoError(t, n.Start(t.Context()))
			assert.Empty(t, n.Dump())
		})
	}
}

func TestATornRecordIsCutOff(t *testing.T) {
	n := newNode(t, "n0")
	n.must("CREATE (:N {i: 1})")
	n.must("CREATE (:N {i: 2})")
	n.Crash()
	path := filepath.Join(n.config().DataDirectory, logFile)
	log, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, log[:len(log)-3], 0o644))
	require.NoError(t, n.Start(t.Context()))
	assert.Equal(t, [][]any{{int64(1)}}, n.must("MATCH (n) RETURN n.i"))
	n.must("CREATE (:N {i: 3})")
	n.crashRestart()
	assert.Equal(t, [][]any{{int64(1)}, {int64(3)}}, n.must("MATCH (n) RETURN n.i"), "the log went on after the cut")
}

func TestRestoredRole(t *testing.T) {
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	main.must("CREATE (:A)")
	for _, restarted := range []*node{replica, main} {
		was := restarted.State()
		restarted.crashRestart()
		assert.Equal(t, was.Role, restarted.State().Role)
		assert.Equal(t, was.MainUUID, restarted.State().MainUUID)
		main.awaitStatus(replica, "ready")
	}
	main.must("CREATE (:B)")
	assert.Equal(t, main.Dump(), replica.Dump())
}

// A replica that lacks more than the log holds gets a snapshot.
func TestRecoveryBySnapshot(t *testing.T) {
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	for i := range 3 {
		main.must("CREATE (:N {i: $i})", map[string]any{"i": i})
		rows := main.must("CREATE SNAPSHOT")
		assert.Equal(t, rows[0][0], main.must("SHOW SNAPSHOTS")[0][0])
	}
	main.must("CREATE (:After)")
	_, whole := main.running().storage.log.after(0)
	require.False(t, whole)
	main.join(replica, "SYNC")
	assert.Equal(t, main.Dump(), replica.Dump())
	assert.Equal(t, main.State().Epoch, replica.State().Epoch)
	replica.crashRestart()
	assert.Equal(t, main.Dump(), replica.Dump(), "it keeps what it got")
	main.crashRestart()
	main.awaitStatus(replica, "ready")
}

func TestSnapshotsWhileWriting(t *testing.T) {
	n := newNode(t, "n0", func(c *Config) { c.SnapshotInterval = time.Millisecond })
	for i := range 300 {
		n.must("CREATE (:N {i: $i})", map[string]any{"i": i})
	}
	n.crashRestart()
	assert.Equal(t, 300, n.State().Nodes)
}

func TestOneProcessPerDataDirectory(t *testing.T) {
	first := RunT(t)
	second, err := New(Config{DataDirectory: first.config().DataDirectory})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	assert.ErrorContains(t, second.Start(ctx), "lock data directory")
	first.Crash()
	require.NoError(t, second.Start(t.Context()))
	second.Terminate()
}

func TestForgetting(t *testing.T) {
	n := newNode(t, "n0")
	n.must("CREATE (:N)")
	n.demote()
	n.Crash()
	role, err := New(Config{DataDirectory: n.config().DataDirectory, ForgetRole: true})
	require.NoError(t, err)
	require.NoError(t, role.Start(t.Context()))
	assert.Equal(t, RoleMain, role.State().Role)
	assert.Equal(t, 1, role.State().Nodes)
	role.Terminate()
	data, err := New(Config{DataDirectory: n.config().DataDirectory, ForgetData: true})
	require.NoError(t, err)
	require.NoError(t, data.Start(t.Context()))
	assert.Equal(t, RoleReplica, data.State().Role)
	assert.Equal(t, 0, data.State().Nodes)
	data.Terminate()
}

func TestWithoutALogNothingIsReplicated(t *testing.T) {
	nodes := newNodes(t, 2, func(c *Config) { c.WithoutLog = true })
	nodes[0].join(nodes[1], "SYNC")
	nodes[0].must("CREATE (:N)")
	assert.Empty(t, nodes[1].Dump())
}

func TestConfigIsChecked(t *testing.T) {
	for want, cfg := range map[string]Config{
		"no data directory":  {},
		`"2.0"`:              {Version: "2.0", DataDirectory: "x"},
		"the oldest that is": {Version: "3.3.0", DataDirectory: "x"},
	} {
		_, err := New(cfg)
		assert.ErrorContains(t, err, want)
	}
}

func TestInformation(t *testing.T) {
	n := newNode(t, "n0", func(c *Config) { c.Flags = []Flag{{"b", "1", "2"}, {"a", "", ""}} })
	n.must("CREATE (:N)")
	assert.Equal(t, [][]any{{"a", "", "", ""}, {"b", "1", "2", ""}}, n.must("SHOW CONFIG"))
	database := map[any]any{}
	for _, row := range n.must("SHOW STORAGE INFO ON CURRENT DATABASE") {
		database[row[0]] = row[1]
	}
	assert.Equal(t, []any{int64(1), n.State().DatabaseUUID, "ready"}, []any{database["vertex_count"], database["database_uuid"], database["health"]})
	counts := n.Counts()
	assert.Equal(t, []int64{1, 1, 1}, []int64{counts.Logins, counts.Statements["write"], counts.Statements["SHOW CONFIG"]})
}

func TestBigTransactions(t *testing.T) {
	t.Parallel()
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	main.must("UNWIND range(1, 300000) AS i CREATE (:N {i: i})")
	assert.Equal(t, 300000, replica.State().Nodes)
	replica.wipeRestart()
	main.must("DROP REPLICA n1")
	main.join(replica, "SYNC")
	assert.Equal(t, [][]any{{int64(300000), int64(300000)}}, replica.must("MATCH (n:N) RETURN count(n), max(n.i)"))
}

func TestTextsOfSeveralReplicas(t *testing.T) {
	v := version{major: 3, minor: 12}
	misses := []miss{{"a", ModeSync, notInSync}, {"b", ModeStrictSync, rpcError}, {"c", ModeSync, notInSync}, {"d", ModeSync, notInSync}}
	assert.Equal(t, "Replication Exception: Failed to replicate to SYNC replicas 'a', 'c' and 'd': replicas are not reachable or not in sync with the main. "+
		"Failed to replicate to STRICT_SYNC replica 'b': RPC communication error. Replicas will be recovered automatically. "+
		"Transaction was aborted on all instances. Check the status of the replicas using 'SHOW REPLICAS' query.", v.textReplication(misses, false))
	assert.Equal(t, "replicas have diverged from main", branched.plural())
	assert.Equal(t, "At least one SYNC replica has not confirmed committing last transaction.", version{major: 3, minor: 7}.textReplication(misses, true))
}

// The class of a lost SYNC confirmation, and after 3.12 its form.
func TestLostConfirmationByVersion(t *testing.T) {
	for version, want := range map[string]string{"3.7.2": codeTransient, "3.8.0": codeClient, next: ""} {
		t.Run(version, func(t *testing.T) {
			nodes := newNodes(t, 2, func(c *Config) { c.Version = version })
			nodes[0].join(nodes[1], "SYNC")
			nodes[1].Crash()
			w := login(t, nodes[0].Server, v52)
			answer := w.statement("CREATE (:N)")
			if want == "" {
				require.Nil(t, answer.failure)
				note := answer.meta["notifications"].([]any)[0].(map[string]any)
				assert.Equal(t, []any{"WARNING", "SyncReplicationFailure", lost("n1", rpcError)}, []any{note["severity"], note["code"], note["title"]})
				return
			}
			assert.Equal(t, want, answer.failure.Code)
			require.Nil(t, w.statement("BEGIN").failure)
			require.Nil(t, w.statement("CREATE (:N)").failure)
			assert.Equal(t, codeClient, w.ask(bolt.Commit{}).(bolt.Failure).Code, "an explicit COMMIT was never retried")
		})
	}
}

func TestFramesAndEntriesSurviveARoundTrip(t *testing.T) {
	e := entry{"e", 7, []graph.Write{{ID: 1, State: &graph.State{Labels: []string{"L"}, Props: map[string]any{"k": "v"}}}, {ID: 2}}}
	got, err := unpackEntry(e.pack())
	require.NoError(t, err)
	assert.Equal(t, e, got)
	s := snapshot{"e", 7, []reign{{"d", 3}}, e.writes}
	again, err := unpackSnapshot(s.pack())
	require.NoError(t, err)
	assert.Equal(t, s, again)
	r := request{prepareCommit, "m", "d", "e", 1, 2, true, false, [][]byte{e.pack()}}
	call, err := unpackRequest(r.pack())
	require.NoError(t, err)
	assert.Equal(t, r, call)
	for _, damaged := range [][]byte{nil, {0x90}, pack([]any{int64(1)}), pack([]any{"e", int64(1), []any{int64(3)}})} {
		_, err := unpackEntry(damaged)
		assert.Error(t, err, fmt.Sprintf("%x", damaged))
	}
}
