package memgraphtest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j/db"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
	t.Parallel()
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

// What MAIN acknowledged before SIGTERM, its synchronous replica keeps when it is
// promoted: Bolt is closed before commits that are under way are cut short.
func TestATerminatedMainHasAcknowledgedNothingTooMuch(t *testing.T) {
	for range 20 {
		nodes := newNodes(t, 2)
		main, replica := nodes[0], nodes[1]
		main.join(replica, "STRICT_SYNC")
		acknowledged := make(chan int64)
		go func() {
			last := int64(0)
			for {
				if _, err := main.run("CREATE (:N {i: $i})", map[string]any{"i": last + 1}); err != nil {
					acknowledged <- last
					return
				}
				last++
			}
		}()
		waitFor(t, "some writes", func() bool { return replica.State().Nodes > 20 })
		main.Terminate()
		waitFor(t, "the promotion", func() bool { // refused while anything is being applied
			_, err := replica.run("SET REPLICATION ROLE TO MAIN")
			return err == nil
		})
		kept := replica.must("MATCH (n) RETURN max(n.i)")[0][0]
		assert.GreaterOrEqual(t, kept, <-acknowledged)
	}
}

// Data that was loaded in analytical mode has no timestamp: a MAIN with a snapshot
// takes the replica for empty, and empties it without an error.
func TestDataWithoutATimestampIsLost(t *testing.T) {
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.must("CREATE (n:Gone) DELETE n")
	main.must("CREATE SNAPSHOT")
	replica.must("STORAGE MODE IN_MEMORY_ANALYTICAL")
	replica.must("CREATE (:Loaded)")
	_, err := replica.run(fmt.Sprintf("SET REPLICATION ROLE TO REPLICA WITH PORT %d", replica.port))
	assert.Equal(t, textAnalytical, textOf(t, err))
	replica.must("STORAGE MODE IN_MEMORY_TRANSACTIONAL")
	assert.Equal(t, int64(0), replica.State().Timestamp)
	assert.Equal(t, 1, replica.State().Nodes)
	main.join(replica, "SYNC")
	assert.Equal(t, 0, replica.State().Nodes)
}

// An analytical MAIN replicates nothing and knows nothing of its replicas.
func TestAnalyticalMain(t *testing.T) {
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	main.must("STORAGE MODE IN_MEMORY_ANALYTICAL")
	assert.Equal(t, map[string]any{}, main.must("SHOW REPLICAS")[0][4])
	main.must("CREATE (:N)")
	assert.Equal(t, []int{1, 0}, []int{main.State().Nodes, replica.State().Nodes})
	main.crashRestart()
	assert.Equal(t, 0, main.State().Nodes)
}

// SIGTERM cuts a commit short that waits for a silent replica, from 3.12 on: MAIN
// alone has it. Before, it is waited for.
func TestTerminationDuringACommit(t *testing.T) {
	for version, waits := range map[string]bool{"3.8.0": true, "3.12.0": false} {
		t.Run(version, func(t *testing.T) {
			const scale = 0.02 // 0.6 s for a commit
			nodes := newNodes(t, 2, func(c *Config) { c.Version, c.TimeoutScale, c.CheckFrequency = version, scale, time.Minute })
			main, replica := nodes[0], nodes[1]
			main.join(replica, "SYNC")
			silence(t, replica)
			commit := main.after("CREATE (:N)")
			main.awaitStatus(replica, "replicating")
			began := time.Now()
			main.Terminate()
			assert.Equal(t, waits, time.Since(began) > 400*time.Millisecond)
			assert.Error(t, <-commit)
			require.NoError(t, main.Start(t.Context()))
			assert.Equal(t, 1, main.State().Nodes)
		})
	}
}

// A replica that is applying something refuses its promotion from 3.8 on; before,
// the promotion waits.
func TestPromotionWhileApplying(t *testing.T) {
	for version, waits := range map[string]bool{"3.7.2": true, "3.12.0": false} {
		t.Run(version, func(t *testing.T) {
			n := newNode(t, "n0", func(c *Config) { c.Version = version })
			n.demote()
			r := n.running().roles
			server := r.server
			server.applying.Lock()
			applied := make(chan bool)
			call := request{method: recoverLog, main: r.mainUUID()}
			go func() { applied <- server.answer(call).ok }()
			if waits {
				<-time.After(20 * time.Millisecond) // the call has been let in
			} else {
				waitFor(t, "the call to arrive", func() bool { return !r.lock.TryLock() || unlock(n) })
			}
			promotion := n.after("SET REPLICATION ROLE TO MAIN")
			if waits {
				select {
				case err := <-promotion:
					assert.Fail(t, "it did not wait", "%v", err)
				case <-time.After(50 * time.Millisecond):
				}
			} else {
				assert.Equal(t, textSetMain, textOf(t, <-promotion))
			}
			server.applying.Unlock()
			assert.True(t, <-applied)
			if waits {
				assert.NoError(t, <-promotion)
			} else {
				n.promote()
			}
		})
	}
}
