package memgraph

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// exchange is one line of testdata: a statement that a real Memgraph Community
// of the version in the file's name was sent, and what it answered.
type exchange struct {
	Query         string
	Columns       []string
	Rows          [][]any
	Code, Message string
}

// exchanges reads the files of all versions.
func exchanges(t *testing.T) map[string][]exchange {
	t.Helper()
	paths, err := filepath.Glob("testdata/*.jsonl")
	require.NoError(t, err)
	require.Len(t, paths, 2)
	all := map[string][]exchange{}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		version := strings.TrimSuffix(filepath.Base(path), ".jsonl")
		for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
			var e exchange
			d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
			d.UseNumber()
			require.NoError(t, d.Decode(&e))
			all[version] = append(all[version], e)
		}
	}
	return all
}

// rows are an exchange's as the driver gives them: numbers are int64.
func (e exchange) rows(t *testing.T) []row {
	t.Helper()
	var rows []row
	for _, values := range e.Rows {
		r := row{}
		for i, column := range e.Columns {
			r[column] = integers(t, values[i])
		}
		rows = append(rows, r)
	}
	return rows
}

func integers(t *testing.T, v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		require.NoError(t, err)
		return f
	case map[string]any:
		for key := range v {
			v[key] = integers(t, v[key])
		}
	}
	return v
}

// kinds are what the failures in testdata stand for, by a part of the text that
// only they have; all others stand for none of ours.
var kinds = []struct {
	part string
	kind error
}{
	{"Error: 1", ErrNameTaken}, {"Error: 2", ErrAddressTaken}, {"Error: 3", ErrDiverged},
	{"Error: 5", ErrNotAccepted}, {"Error: 6", ErrBusy},
	{"Couldn't set replication role to main!", ErrBusy}, {"Couldn't set role to replica!", ErrBusy},
	{"lack of unique access", ErrBusy},
	{"Failed to unregister the replica", ErrNotRegistered},
	{"Replica can't register another", ErrNotMain}, {"Replica can't unregister", ErrNotMain},
	{"Show replicas query should only", ErrNotMain}, {"Write queries are forbidden", ErrNotMain},
	{"Replication Exception", ErrNotConfirmed},
}

func TestEveryAnswerOfARealServerIsUnderstood(t *testing.T) {
	for version, all := range exchanges(t) {
		t.Run(version, func(t *testing.T) {
			understood := map[string]int{}
			for _, e := range all {
				understood[checkExchange(t, version, e)]++
			}
			for _, what := range []string{"failure", "role", "version", "replicas", "storage"} {
				assert.NotZero(t, understood[what], what)
			}
		})
	}
}

// checkExchange checks how one answer is read, and tells what it was.
func checkExchange(t *testing.T, version string, e exchange) string {
	t.Helper()
	switch query := strings.ToUpper(strings.TrimSuffix(e.Query, ";")); {
	case e.Code != "":
		var want error
		for _, k := range kinds {
			if strings.Contains(e.Message, k.part) {
				want = k.kind
			}
		}
		assert.Equal(t, want, kindOf(e.Code, e.Message), e.Message)
		return "failure"
	case query == showRole:
		role, err := parseRole(e.rows(t))
		require.NoError(t, err)
		assert.Contains(t, []Role{RoleMain, RoleReplica}, role)
		return "role"
	case query == showVersion:
		v, err := parseVersion(e.rows(t))
		require.NoError(t, err)
		assert.Equal(t, version, v.String())
		return "version"
	case query == showReplicas:
		checkReplicas(t, e)
		return "replicas"
	case strings.HasPrefix(query, showStorage):
		info, ok, err := parseStorage(e.rows(t))
		require.NoError(t, err)
		bareOf312 := version == "3.12.0" && query == showStorage
		assert.Equal(t, !bareOf312, ok, "%s tells of the data", query)
		assert.Equal(t, ok, info.Database != "")
		return "storage"
	}
	return "other"
}

// checkReplicas compares what was parsed with the raw rows.
func checkReplicas(t *testing.T, e exchange) {
	t.Helper()
	replicas, err := parseReplicas(e.rows(t))
	require.NoError(t, err)
	require.Len(t, replicas, len(e.Rows))
	for i, r := range replicas {
		raw := e.Rows[i]
		assert.Equal(t, raw[0], r.Name)
		assert.Equal(t, raw[1], r.Address)
		assert.Equal(t, raw[2], string(r.Mode))
		info, listed := raw[4].(map[string]any)["memgraph"].(map[string]any)
		assert.Equal(t, !listed, r.Ghost(), "a failed registration has no database")
		if listed {
			assert.Equal(t, info["status"], string(r.Status))
			assert.Equal(t, info["behind"], r.Behind)
			assert.Equal(t, info["ts"], r.Timestamp)
		}
	}
}

func TestReplicasOfOldVersionsAreUnderstood(t *testing.T) {
	// The columns of 2.14 and earlier. Source: Memgraph v2.14 query/interpreter.cpp.
	got, err := parseReplicas([]row{{
		"name": "r1", "socket_address": "10.0.0.1:10000", "sync_mode": "sync",
		"current_timestamp_of_replica": int64(4), "number_of_timestamp_behind_master": int64(-2), "state": "recovery",
	}})
	require.NoError(t, err)
	assert.Equal(t, []Replica{{
		Name: "r1", Address: "10.0.0.1:10000", Mode: Sync, Status: StatusRecovery, Timestamp: 4, Behind: -2,
	}}, got)
}

func TestTextsOfOldVersionsAreUnderstood(t *testing.T) {
	for text, kind := range map[string]error{
		"Couldn't get unique access to replication state!":                ErrBusy,
		"Couldn't unregister the replica r1.":                             ErrNotRegistered,
		"Replica can't unregister a replica!":                             ErrNotMain,
		"Replica can't show registered replicas (it shouldn't have any)!": ErrNotMain,
		"Write query forbidden on the replica!":                           ErrNotMain,
		"Couldn't register replica r1.":                                   nil, // 2.21 to 3.4 give no number
	} {
		assert.Equal(t, kind, kindOf("Memgraph.ClientError.MemgraphError.MemgraphError", text), text)
	}
}

func TestWhatIsNoAnswerIsAnError(t *testing.T) {
	_, err := parseRole(nil)
	assert.ErrorContains(t, err, "0 rows")
	_, err = parseRole([]row{{"replication role": "coordinator"}})
	assert.ErrorContains(t, err, `"coordinator"`)
	_, err = parseRole([]row{{"role": "main"}})
	assert.ErrorContains(t, err, `"replication role"`)
	_, err = parseReplicas([]row{{"name": "r1", "socket_address": "a:1", "sync_mode": "sync", "data_info": map[string]any{
		"memgraph": map[string]any{"ts": int64(1), "behind": int64(0), "status": "sleeping"},
	}}})
	assert.ErrorContains(t, err, `replica r1: unknown status "sleeping"`)
	_, err = parseReplicas([]row{{"name": "r1"}})
	assert.ErrorContains(t, err, `"socket_address"`)
	_, _, err = parseStorage([]row{{"storage info": "vertex_count", "value": "many"}})
	assert.ErrorContains(t, err, `"value"`)
}

func TestVersions(t *testing.T) {
	for text, want := range map[string]Version{
		"3.12.0": {3, 12, 0}, "3.7.2": {3, 7, 2}, "2.10.1": {2, 10, 1}, "3.13.0+12~abc": {3, 13, 0}, "3.9": {3, 9, 0},
	} {
		v, err := ParseVersion(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, v)
	}
	for _, text := range []string{"", "x", "3.x.1", "latest"} {
		_, err := ParseVersion(text)
		assert.Error(t, err, text)
	}
	for text, strict := range map[string]bool{"3.8.0": true, "3.12.0": true, "4.0.0": true, "3.7.2": false, "2.21.0": false} {
		v, _ := ParseVersion(text)
		assert.Equal(t, strict, v.StrictSync(), text)
	}
}

func TestStatements(t *testing.T) {
	assert.Equal(t, "REGISTER REPLICA `mg_1` STRICT_SYNC TO \"10.0.0.1:10000\"",
		register(Registration{Name: ReplicaName("mg-1"), Mode: StrictSync, Address: "10.0.0.1:10000"}))
	assert.Equal(t, "DROP REPLICA `a`", drop("a`"), "no name ends its own quotes")
	assert.Equal(t, "SET REPLICATION ROLE TO REPLICA WITH PORT 10000", setReplica(ReplicationPort))
}

func TestStorageOfOneDatabaseIsUnderstood(t *testing.T) {
	// The rows of SHOW STORAGE INFO ON CURRENT DATABASE that matter. Source:
	// Memgraph v3.12 query/interpreter.cpp:7307-7435.
	info, ok, err := parseStorage([]row{
		{"storage info": "name", "value": "memgraph"}, {"storage info": "database_uuid", "value": "d"},
		{"storage info": "vertex_count", "value": int64(7)}, {"storage info": "health", "value": "ready"},
	})
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, StorageInfo{Vertices: 7, Database: "d"}, info)

	info, ok, err = parseStorage([]row{{"storage info": "vertex_count", "value": int64(0)}, {"storage info": "health", "value": "broken"}})
	require.NoError(t, err)
	assert.True(t, ok)
	assert.Equal(t, StorageInfo{Broken: true}, info)
}

func TestNearIsWhatCatchesUpUnnoticed(t *testing.T) {
	for _, c := range []struct {
		status ReplicaStatus
		behind int64
		near   bool
	}{
		{StatusReady, 0, true}, {StatusReplicating, -1000, true}, {StatusReady, -1001, false},
		{StatusRecovery, -10, true}, {StatusRecovery, -5000, false}, {StatusInvalid, 0, false}, {StatusNone, 0, false},
	} {
		assert.Equal(t, c.near, Replica{Status: c.status, Behind: c.behind}.Near(), c)
	}
}
