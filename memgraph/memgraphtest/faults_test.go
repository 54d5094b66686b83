package memgraphtest

import (
	"fmt"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// awaitDeath waits for the process to end by itself.
func (n *node) awaitDeath() {
	n.t.Helper()
	select {
	case <-n.Died():
	case <-time.After(20 * time.Second):
		require.Fail(n.t, "waited in vain", "%s to die", n.name)
	}
}

func TestDelay(t *testing.T) {
	const delay = 30 * time.Millisecond
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	took := func() time.Duration {
		began := time.Now()
		main.must("CREATE (:N)")
		return time.Since(began)
	}
	for _, slow := range nodes {
		require.NoError(t, slow.SetFaults(Faults{Delay: delay}))
		assert.GreaterOrEqual(t, took(), delay, slow.name)
		require.NoError(t, slow.SetFaults(Faults{}))
	}
}

// Logins of anybody cost what is asked, one after the other.
func TestLoginsThatTakeTime(t *testing.T) {
	const cost = 30 * time.Millisecond
	n := newNode(t, "n0")
	require.NoError(t, n.SetFaults(Faults{LoginTime: cost}))
	began := time.Now()
	login(t, n.Server, v52)
	login(t, n.Server, v43)
	assert.GreaterOrEqual(t, time.Since(began), 2*cost)
}

// A commit that takes its time keeps those waiting who read, but not who asks of
// replication.
func TestCommitsThatTakeTime(t *testing.T) {
	const takes = 300 * time.Millisecond
	n := newNode(t, "n0")
	reader, asker := login(t, n.Server, v52), login(t, n.Server, v52)
	require.NoError(t, n.SetFaults(Faults{CommitTime: takes}))
	began := time.Now()
	commit := n.after("CREATE (:N)")
	waitFor(t, "the commit to be under way", func() bool {
		if !n.running().storage.engine.TryLock() {
			return true
		}
		n.running().storage.engine.Unlock()
		return false
	})
	require.Nil(t, asker.statement("SHOW REPLICATION ROLE").failure)
	require.Nil(t, asker.statement("SHOW REPLICAS").failure)
	assert.Less(t, time.Since(began), takes)
	require.Nil(t, reader.statement("RETURN 1").failure)
	assert.GreaterOrEqual(t, time.Since(began), takes)
	require.NoError(t, <-commit)
}

func TestFailedPrepares(t *testing.T) {
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.join(replica, "STRICT_SYNC")
	require.NoError(t, replica.SetFaults(Faults{FailPrepares: 2}))
	for range 2 {
		_, err := main.run("CREATE (:N)")
		assert.Contains(t, textOf(t, err), "Failed to replicate to STRICT_SYNC replica 'n1': RPC communication error.")
		main.awaitStatus(replica, "ready")
	}
	main.must("CREATE (:N)")
	assert.Equal(t, main.Dump(), replica.Dump())
}

// A long read on a replica keeps a snapshot of MAIN out: the recovery fails
// after its time-out, and meanwhile the replica cannot be promoted.
func TestHeldStorage(t *testing.T) {
	nodes := newNodes(t, 2, func(c *Config) { c.TimeoutScale, c.CheckFrequency = 0.02, time.Minute }) // 0.6 s for a snapshot
	main, replica := nodes[0], nodes[1]
	for range 2 {
		main.must("CREATE (:N)")
		main.must("CREATE SNAPSHOT")
	}
	replica.demote()
	require.NoError(t, replica.SetFaults(Faults{HoldStorage: true}))
	require.NoError(t, main.register(replica, "ASYNC"))
	waitFor(t, "the snapshot to arrive", func() bool { return !replica.running().roles.lock.TryLock() || unlock(replica) })
	_, err := replica.run("SET REPLICATION ROLE TO MAIN")
	assert.Equal(t, textSetMain, textOf(t, err))
	assert.Equal(t, [][]any{{int64(0)}}, replica.must("MATCH (n) RETURN count(n)"), "reads go on")
	main.awaitStatus(replica, "invalid")
	require.NoError(t, replica.SetFaults(Faults{}))
	main.must("CREATE (:N)") // which has the replica asked
	main.awaitStatus(replica, "ready")
	assert.Equal(t, main.Dump(), replica.Dump())
}

// unlock undoes a TryLock that succeeded.
func unlock(n *node) bool {
	n.running().roles.lock.Unlock()
	return false
}

// An open transaction keeps a snapshot out just as well, and while one is being
// loaded none begins.
func TestStorageAccess(t *testing.T) {
	a := newAccess()
	require.True(t, a.share(0))
	assert.False(t, a.take(time.Millisecond))
	assert.True(t, a.share(0), "nobody stands in line")
	a.leave()
	took := make(chan bool)
	go func() { took <- a.take(10 * time.Second) }()
	a.leave()
	assert.True(t, <-took)
	assert.False(t, a.share(time.Millisecond))
	a.giveBack()
	assert.True(t, a.share(0))

	n := newNode(t, "n0")
	storage := n.running().storage
	w := login(t, n.Server, v52)
	require.Nil(t, w.statement("BEGIN").failure)
	assert.False(t, storage.access.take(time.Millisecond))
	require.Nil(t, w.statement("ROLLBACK").failure)
	require.True(t, storage.access.take(time.Second), "its end gives the share back")
	answer := w.statement("RETURN 1")
	require.NotNil(t, answer.failure)
	assert.Equal(t, []string{codeTransient, textNoAccess}, []string{answer.failure.Code, answer.failure.Message})
	storage.access.giveBack()
}

func TestSlowRecovery(t *testing.T) {
	n := newNode(t, "n0")
	n.must("CREATE (:N)")
	require.NoError(t, n.SetFaults(Faults{RecoveryTime: 100 * time.Millisecond}))
	n.Crash()
	started := make(chan error)
	began := time.Now()
	go func() { started <- n.Start(t.Context()) }()
	assert.True(t, refused(n.Addr()), "Bolt is not open yet")
	require.NoError(t, <-started)
	assert.GreaterOrEqual(t, time.Since(began), 100*time.Millisecond)
	assert.Equal(t, 1, n.State().Nodes)
}

// A process that cannot write its log dies, and so it does again until there is
// room.
func TestFullDisk(t *testing.T) {
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	main.must("CREATE (:A)")
	require.NoError(t, replica.SetFaults(Faults{FullDisk: true}))
	_, err := main.run("CREATE (:B)")
	assert.Equal(t, lost("n1", rpcError), textOf(t, err))
	replica.awaitDeath()

	require.NoError(t, main.SetFaults(Faults{FullDisk: true}))
	assert.Equal(t, "Couldn't register replica x. Error: 4", textOf(t, main.register(&node{name: "x", port: 1}, "ASYNC")))
	_, err = main.run("CREATE (:C)")
	assert.Error(t, err)
	main.awaitDeath()
	for range 2 {
		main.Crash()
		require.NoError(t, main.Start(t.Context()))
		assert.Equal(t, 2, main.State().Nodes)
		_, err = main.run("SET REPLICATION ROLE TO REPLICA WITH PORT 10000")
		assert.Equal(t, textSetReplica, textOf(t, err))
		assert.Equal(t, RoleMain, main.State().Role, "what cannot be kept is not done")
		_, err = main.run("CREATE (:C)")
		assert.Error(t, err)
		require.NoError(t, main.SetFaults(Faults{}))
		main.Crash()
		require.NoError(t, main.Start(t.Context()))
		main.awaitStatus(replica, "invalid")
		require.NoError(t, main.SetFaults(Faults{FullDisk: true}))
	}
}

// A port that somebody else has keeps Bolt from opening, and a replica from
// starting: it ends again and again until the port is free.
func TestOccupiedPorts(t *testing.T) {
	n := newNode(t, "n0")
	n.demote()
	_, port, err := net.SplitHostPort(n.Addr())
	require.NoError(t, err)
	boltPort, err := strconv.Atoi(port)
	require.NoError(t, err)
	n.Crash()
	for what, port := range map[string]int{"start Bolt": boltPort, "restore replica": n.port} {
		require.NoError(t, n.SetFaults(Faults{OccupiedPorts: []int{port}}))
		for range 2 {
			assert.ErrorContains(t, n.Start(t.Context()), what)
		}
	}
	assert.Error(t, n.SetFaults(Faults{OccupiedPorts: []int{boltPort, boltPort}}))
	require.NoError(t, n.SetFaults(Faults{}))
	require.NoError(t, n.Start(t.Context()))
	assert.Equal(t, RoleReplica, n.State().Role)
}

// A process that hangs lets clients in and leaves them without an answer; what
// they sent is obeyed later, even if they have left.
func TestHang(t *testing.T) {
	nodes := newNodes(t, 2, func(c *Config) { c.TimeoutScale, c.CheckFrequency = 0.01, time.Minute }) // 0.3 s for a commit
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	require.NoError(t, replica.SetNetwork(Hang))
	conn, err := net.Dial("tcp", replica.Addr())
	require.NoError(t, err, "the kernel accepts")
	defer conn.Close()
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, err = conn.Read(make([]byte, 1))
	assert.ErrorContains(t, err, "timeout")

	_, err = main.run("CREATE (:N)")
	assert.Contains(t, textOf(t, err), "RPC timeout while replicating")
	require.NoError(t, replica.SetNetwork(Open))
	waitFor(t, "the commit to be applied late", func() bool { return main.Dump() == replica.Dump() })
	replica.must("RETURN 1")
}

// Before 3.10 nobody notices that packets are lost.
func TestBlackHoleByVersion(t *testing.T) {
	for version, why := range map[string]reason{"3.8.0": timedOut, "3.12.0": rpcError} {
		t.Run(version, func(t *testing.T) {
			nodes := newNodes(t, 2, func(c *Config) { c.Version, c.TimeoutScale, c.CheckFrequency = version, 0.05, time.Minute })
			main, replica := nodes[0], nodes[1]
			main.join(replica, "SYNC")
			require.NoError(t, replica.SetNetwork(Blackhole))
			began := time.Now()
			_, err := main.run("CREATE (:N)")
			assert.Equal(t, version == "3.8.0", time.Since(began) > 1500*time.Millisecond)
			assert.Contains(t, textOf(t, err), map[reason]string{timedOut: "At least one SYNC", rpcError: string(rpcError)}[why])
		})
	}
}

// DROP kills MAIN in two cases, and in no others.
func TestDropKills(t *testing.T) {
	t.Parallel()
	quick := func(c *Config) { c.TimeoutScale = 0.01 }
	t.Run("in recovery", func(t *testing.T) {
		nodes := newNodes(t, 2, quick)
		main, replica := nodes[0], nodes[1]
		main.must("CREATE (:N)")
		main.must("CREATE SNAPSHOT")
		main.must("CREATE (:N)")
		main.must("CREATE SNAPSHOT")
		replica.demote()
		require.NoError(t, replica.SetFaults(Faults{HoldStorage: true}))
		require.NoError(t, main.register(replica, "ASYNC"))
		main.awaitStatus(replica, "recovery")
		_, err := main.run("DROP REPLICA n1")
		assert.Error(t, err)
		main.awaitDeath()
		main.Crash()
		require.NoError(t, main.Start(t.Context()))
		assert.Len(t, main.must("SHOW REPLICAS"), 1, "still registered")
	})
	t.Run("silent, ASYNC and behind", func(t *testing.T) {
		nodes := newNodes(t, 2, quick)
		main, replica := nodes[0], nodes[1]
		main.join(replica, "ASYNC")
		silence(t, replica)
		main.must("CREATE (:N)")
		main.must("CREATE (:N)")
		main.awaitStatus(replica, "invalid")
		drop := main.after("DROP REPLICA n1")
		waitFor(t, "MAIN to freeze", func() bool { return main.State().Network == Hang })
		conn, err := net.Dial("tcp", main.Addr())
		require.NoError(t, err)
		defer conn.Close()
		assert.Error(t, <-drop)
		main.awaitDeath()
		main.Crash()
		require.NoError(t, main.Start(t.Context()))
		assert.Equal(t, [][]any{{int64(2)}}, main.must("MATCH (n) RETURN count(n)"))
	})
}

func TestDropIsSafe(t *testing.T) {
	for name, c := range map[string]struct {
		mode string
		end  func(main, replica *node)
	}{
		"ready": {"ASYNC", func(*node, *node) {}},
		"dead": {"ASYNC", func(main, replica *node) {
			replica.Crash()
			main.must("CREATE (:N)")
			main.awaitStatus(replica, "invalid")
		}},
		"dead and SYNC":        {"SYNC", func(_, replica *node) { replica.Crash() }},
		"silent with all data": {"ASYNC", func(_, replica *node) { silence(t, replica) }},
		"silent and SYNC": {"SYNC", func(main, replica *node) {
			silence(t, replica)
			_, err := main.run("CREATE (:N)")
			assert.Error(t, err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := newNodes(t, 2, func(c *Config) { c.TimeoutScale = 0.01 })
			main, replica := nodes[0], nodes[1]
			main.join(replica, c.mode)
			main.must("CREATE (:N)")
			waitFor(t, "the data", func() bool { return main.Dump() == replica.Dump() && main.status(replica) == "ready" })
			c.end(main, replica)
			main.must("DROP REPLICA n1")
			main.must(fmt.Sprintf("CREATE (:After {drop: %q})", name))
		})
	}
}
