package memgraphtest

import (
	"errors"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/db"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The cases of replication, each with the outcome that a real server had.

// textOf is what the server said.
func textOf(t *testing.T, err error) string {
	t.Helper()
	var failed *db.Neo4jError
	require.True(t, errors.As(err, &failed), "wanted a failure of the server, got %v", err)
	return failed.Msg
}

func lost(replica string, why reason) string {
	return "Replication Exception: Failed to replicate to SYNC replica '" + replica + "': " + string(why) + ". Replica will be recovered " +
		"automatically. Transaction is still committed on the main instance and other alive replicas. Check the status of the replicas using 'SHOW REPLICAS' query."
}

func TestSyncReplicaKilledAndBack(t *testing.T) {
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	main.must("CREATE (:A)")
	replica.Crash()
	_, err := main.run("CREATE (:B)")
	assert.Equal(t, lost("n1", rpcError), textOf(t, err), "the connection breaks")
	_, err = main.run("CREATE (:C)")
	assert.Equal(t, lost("n1", notInSync), textOf(t, err), "it is known to be away")
	assert.False(t, neo4j.IsRetryable(err))
	assert.Equal(t, [][]any{{int64(3)}}, main.must("MATCH (n) RETURN count(n)"), "committed all the same")
	assert.Equal(t, "invalid", main.status(replica))
	require.NoError(t, replica.Start(t.Context()))
	main.awaitStatus(replica, "ready")
	assert.Equal(t, main.Dump(), replica.Dump())
	main.must("CREATE (:D)")
}

func TestStrictSyncReplicaDown(t *testing.T) {
	nodes := newNodes(t, 3)
	main, strict, async := nodes[0], nodes[1], nodes[2]
	main.join(strict, "STRICT_SYNC")
	main.join(async, "ASYNC")
	main.must("CREATE (:A)")
	waitFor(t, "the ASYNC replica", func() bool { return async.Dump() == main.Dump() })
	strict.Crash()
	for _, why := range []reason{rpcError, notInSync} {
		_, err := main.run("CREATE (:B)")
		assert.Equal(t, "Replication Exception: Failed to replicate to STRICT_SYNC replica 'n1': "+string(why)+". Replica will be recovered "+
			"automatically. Transaction was aborted on all instances. Check the status of the replicas using 'SHOW REPLICAS' query.", textOf(t, err))
	}
	assert.Equal(t, [][]any{{int64(1)}}, main.must("MATCH (n) RETURN count(n)"), "aborted here")
	require.NoError(t, strict.Start(t.Context()))
	main.awaitStatus(strict, "ready")
	main.must("CREATE (:C)")
	main.awaitStatus(async, "ready")
	waitFor(t, "the ASYNC replica", func() bool { return async.Dump() == main.Dump() })
	assert.Equal(t, main.Dump(), strict.Dump(), "aborted everywhere")
}

// Beside a STRICT_SYNC replica a SYNC one is left out, and fails the next commit.
func TestMixedModes(t *testing.T) {
	nodes := newNodes(t, 3, func(c *Config) { c.CheckFrequency = time.Minute })
	main, strict, other := nodes[0], nodes[1], nodes[2]
	main.join(strict, "STRICT_SYNC")
	main.join(other, "SYNC")
	main.must("CREATE (:A)")
	assert.Equal(t, main.Dump(), strict.Dump())
	assert.Empty(t, other.Dump())
	strict.Crash()
	_, err := main.run("CREATE (:B)")
	assert.Equal(t, "Replication Exception: Failed to replicate to SYNC replica 'n2': replica is not reachable or not in sync with the main. "+
		"Failed to replicate to STRICT_SYNC replica 'n1': RPC communication error. Replicas will be recovered automatically. "+
		"Transaction was aborted on all instances. Check the status of the replicas using 'SHOW REPLICAS' query.", textOf(t, err))
}

func TestMainKilledIdle(t *testing.T) {
	nodes := newNodes(t, 3)
	main, partner, third := nodes[0], nodes[1], nodes[2]
	main.join(partner, "SYNC")
	main.join(third, "ASYNC")
	main.must("CREATE (:A)")
	main.awaitStatus(third, "ready")
	waitFor(t, "the ASYNC replica", func() bool { return third.Dump() == main.Dump() })
	main.Crash()
	partner.promote()
	partner.must("CREATE (:B)")
	require.NoError(t, partner.register(third, "ASYNC"))
	partner.awaitStatus(third, "ready")

	require.NoError(t, main.Start(t.Context()))
	assert.Equal(t, [][]any{{"main"}}, main.must("SHOW REPLICATION ROLE"), "it comes back as what it was")
	assert.Equal(t, "invalid", main.status(third), "stolen")
	main.demote()
	assert.Empty(t, main.State().Replicas)
	require.NoError(t, partner.register(main, "SYNC"))
	partner.awaitStatus(main, "ready")
	partner.must("CREATE (:C)")
	assert.Equal(t, partner.Dump(), main.Dump())
}

// With a crash before shipping, MAIN alone has the write.
func TestMainKilledMidCommit(t *testing.T) {
	nodes := newNodes(t, 2)
	main, partner := nodes[0], nodes[1]
	main.join(partner, "SYNC")
	main.must("CREATE (:A)")
	require.NoError(t, main.CrashAt(BeforeShipping))
	_, err := main.run("CREATE (:OnlyHere)")
	require.Error(t, err)
	partner.promote()
	partner.must("CREATE (:B)")
	require.NoError(t, main.Start(t.Context()))
	assert.Equal(t, 2, main.State().Nodes, "the write survived")
	main.demote()

	assert.Equal(t, "Couldn't register replica n0. Error: 3", textOf(t, partner.register(main, "SYNC")))
	assert.Equal(t, [][]any{{"n0", main.replicationAddr(), "sync", nil, map[string]any{}}}, partner.must("SHOW REPLICAS"), "a ghost")
	partner.must("CREATE (:C)") // which protects nothing
	assert.Equal(t, "Couldn't register replica n0. Error: 1", textOf(t, partner.register(main, "SYNC")))
	partner.must("DROP REPLICA n0")
	assert.Equal(t, "Couldn't register replica n0. Error: 3", textOf(t, partner.register(main, "ASYNC")))
	partner.must("DROP REPLICA n0")
	main.wipeRestart()
	main.demote()
	require.NoError(t, partner.register(main, "SYNC"))
	partner.awaitStatus(main, "ready")
	assert.Equal(t, partner.Dump(), main.Dump())
}

// With STRICT_SYNC a crash before shipping leaves the write nowhere, and one
// before finalizing leaves it on MAIN, the replica having prepared it.
func TestStrictSyncMainKilledMidCommit(t *testing.T) {
	for point, survives := range map[CrashPoint]int{BeforeShipping: 1, BeforeFinalizing: 2} {
		t.Run(string(point), func(t *testing.T) {
			nodes := newNodes(t, 2)
			main, partner := nodes[0], nodes[1]
			main.join(partner, "STRICT_SYNC")
			main.must("CREATE (:A)")
			require.NoError(t, main.CrashAt(point))
			_, err := main.run("CREATE (:B)")
			require.Error(t, err)
			require.NoError(t, main.Start(t.Context()))
			assert.Equal(t, survives, main.State().Nodes)
			main.awaitStatus(partner, "ready")
			assert.Equal(t, main.Dump(), partner.Dump())
		})
	}
}

func TestPartitionedMain(t *testing.T) {
	for _, mode := range []string{"SYNC", "STRICT_SYNC"} {
		t.Run(mode, func(t *testing.T) {
			nodes := newNodes(t, 2, func(c *Config) { c.TimeoutScale, c.CheckFrequency = 0.05, time.Minute })
			main, partner := nodes[0], nodes[1]
			main.join(partner, mode)
			main.must("CREATE (:A)")
			require.NoError(t, partner.SetNetwork(Blackhole))
			_, err := main.run("CREATE (:OldMain)")
			assert.Contains(t, textOf(t, err), string(rpcError), "packets were lost for 5 s")
			committed := main.State().Nodes == 2
			assert.Equal(t, mode == "SYNC", committed, "SYNC commits here, STRICT_SYNC nowhere")
			main.Crash() // it would get at the partner first when the partition heals
			require.NoError(t, partner.SetNetwork(Open))
			partner.promote()
			partner.must("CREATE (:NewMain)")
			require.NoError(t, main.Start(t.Context()))
			main.demote()
			err = partner.register(main, mode)
			if committed {
				assert.Equal(t, "Couldn't register replica n0. Error: 3", textOf(t, err))
				return
			}
			require.NoError(t, err)
			partner.awaitStatus(main, "ready")
			assert.Equal(t, partner.Dump(), main.Dump())
		})
	}
}

func TestRegisterSteals(t *testing.T) {
	nodes := newNodes(t, 3)
	first, second, replica := nodes[0], nodes[1], nodes[2]
	first.join(replica, "SYNC")
	require.NoError(t, second.register(replica, "SYNC"))
	second.must("CREATE (:FromSecond)")
	assert.Equal(t, second.Dump(), replica.Dump())
	_, err := first.run("CREATE (:FromFirst)")
	assert.Equal(t, lost("n2", rpcError), textOf(t, err), "invariant 2")
	assert.Equal(t, second.Dump(), replica.Dump(), "invariant 2")
}

func TestRegisterWhatDoesNotAccept(t *testing.T) {
	nodes := newNodes(t, 2, func(c *Config) { c.TimeoutScale = 0.05 })
	main, other := nodes[0], nodes[1]
	refused := func(what string) {
		t.Helper()
		assert.Equal(t, "Couldn't register replica n1. Error: 5", textOf(t, main.register(other, "SYNC")), what)
		assert.Equal(t, "", main.status(other), "a ghost stays")
		main.must("CREATE (:N)")
		main.must("DROP REPLICA n1")
	}
	refused("a MAIN")
	other.demote()
	other.Crash()
	refused("nobody")
	require.NoError(t, other.Start(t.Context()))
	require.NoError(t, other.SetNetwork(Blackhole))
	refused("a black hole")
}

// An empty MAIN that registers a replica with data does not empty it, and
// steals it all the same.
func TestEmptyMainRegistersData(t *testing.T) {
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	main.must("CREATE (:A)")
	main.wipeRestart()
	before := replica.State().MainUUID
	assert.Equal(t, "Couldn't register replica n1. Error: 3", textOf(t, main.register(replica, "SYNC")))
	assert.Equal(t, 1, replica.State().Nodes, "kept")
	assert.NotEqual(t, before, replica.State().MainUUID, "stolen")
}

// A replica that was killed, came back, got more commits and is promoted
// refuses identical peers (invariant 3); a restart of its process heals that.
func TestFalseDivergence(t *testing.T) {
	kill := func(n *node) { n.Crash() }
	for name, c := range map[string]struct {
		version  string
		stop     func(*node)
		diverges bool
	}{
		"killed":                          {"3.12.0", kill, true},
		"stopped with a snapshot on exit": {"3.12.0", func(n *node) { n.Terminate() }, false},
		"never restarted":                 {"3.12.0", nil, false},
		"killed, before 3.5":              {"3.4.0", kill, false},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := newNodes(t, 3, func(cfg *Config) { cfg.Version, cfg.SnapshotOnExit = c.version, true })
			main, partner, third := nodes[0], nodes[1], nodes[2]
			main.join(partner, "SYNC")
			main.join(third, "SYNC")
			main.must("CREATE (:A)")
			if c.stop != nil {
				c.stop(partner)
				main.awaitStatus(partner, "invalid")
				require.NoError(t, partner.Start(t.Context()))
				main.awaitStatus(partner, "ready")
			}
			main.must("CREATE (:B)")
			main.Crash()
			partner.promote()
			err := partner.register(third, "SYNC")
			if !c.diverges {
				assert.NoError(t, err)
				return
			}
			assert.Equal(t, "Couldn't register replica n2. Error: 3", textOf(t, err))
			assert.Equal(t, partner.Dump(), third.Dump(), "although they are identical")
			partner.must("CREATE (n:__probe) DELETE n")
			partner.crashRestart()
			partner.awaitStatus(third, "ready")
		})
	}
}

// A promoted MAIN that restarts before its first commit is back in the old
// epoch, and does not notice what the old MAIN has too much.
func TestEpochIsLostWithoutACommit(t *testing.T) {
	for name, sealed := range map[string]bool{"no commit": false, "a commit that leaves nothing behind": true} {
		t.Run(name, func(t *testing.T) {
			nodes := newNodes(t, 2)
			main, partner := nodes[0], nodes[1]
			main.join(partner, "SYNC")
			main.must("CREATE (:A)")
			require.NoError(t, main.CrashAt(BeforeShipping))
			_, err := main.run("CREATE (:OnlyHere)")
			require.Error(t, err)
			partner.promote()
			if sealed {
				partner.must("CREATE (n:__probe) DELETE n")
			}
			epoch := partner.State().Epoch
			partner.crashRestart()
			assert.Equal(t, sealed, partner.State().Epoch == epoch)
			require.NoError(t, main.Start(t.Context()))
			main.demote()
			err = partner.register(main, "SYNC")
			if sealed {
				assert.Equal(t, "Couldn't register replica n0. Error: 3", textOf(t, err))
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "ready", partner.status(main))
			assert.NotEqual(t, partner.Dump(), main.Dump(), "accepted silently")
		})
	}
}

func TestAsyncAheadOfThePromoted(t *testing.T) {
	nodes := newNodes(t, 3)
	main, partner, async := nodes[0], nodes[1], nodes[2]
	main.join(partner, "SYNC")
	main.join(async, "ASYNC")
	main.must("CREATE (:A)")
	main.awaitStatus(async, "ready")
	partner.Crash()
	_, err := main.run("CREATE (:B)")
	require.Error(t, err)
	waitFor(t, "the ASYNC replica", func() bool { return async.State().Nodes == 2 })
	main.Crash()
	require.NoError(t, partner.Start(t.Context()))
	partner.promote()
	assert.Equal(t, "Couldn't register replica n2. Error: 3", textOf(t, partner.register(async, "ASYNC")))
}

// A wiped replica comes back as MAIN. Demoted fast enough it is still listed as
// ready; only DROP and REGISTER heal it.
func TestWipedReplica(t *testing.T) {
	nodes := newNodes(t, 2, func(c *Config) { c.CheckFrequency = time.Minute })
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	main.must("CREATE (:A)")
	replica.wipeRestart()
	assert.Equal(t, [][]any{{"main"}}, replica.must("SHOW REPLICATION ROLE"))
	replica.demote()
	assert.Equal(t, "ready", main.status(replica), "although it is empty")
	_, err := main.run("CREATE (:B)")
	assert.Equal(t, lost("n1", rpcError), textOf(t, err))
	main.must("DROP REPLICA n1")
	require.NoError(t, main.register(replica, "SYNC"))
	main.awaitStatus(replica, "ready")
	assert.Equal(t, main.Dump(), replica.Dump())
}

func TestRolesTwice(t *testing.T) {
	n := newNode(t, "n0")
	_, err := n.run("SET REPLICATION ROLE TO MAIN")
	assert.Equal(t, textSetMain, textOf(t, err))
	n.demote()
	_, err = n.run("SET REPLICATION ROLE TO REPLICA WITH PORT 1")
	assert.Equal(t, textSetReplica, textOf(t, err))
	_, err = n.run("CREATE (:N)")
	assert.Equal(t, textWriteHere, textOf(t, err))
	n.promote()
	_, err = n.run("SET REPLICATION ROLE TO REPLICA WITH PORT 70000")
	assert.Equal(t, textPort, textOf(t, err))
}

// A demotion onto a port that is in use fails and takes effect all the same.
func TestFailedDemotionTakesEffect(t *testing.T) {
	nodes := newNodes(t, 2)
	nodes[0].demote()
	nodes[1].port = nodes[0].port
	_, err := nodes[1].run("SET REPLICATION ROLE TO REPLICA WITH PORT " + nodes[0].replicationAddr()[len("127.0.0.1:"):])
	assert.Equal(t, textSetReplica, textOf(t, err))
	assert.Equal(t, [][]any{{"replica"}}, nodes[1].must("SHOW REPLICATION ROLE"))
	nodes[1].promote()
}
