package memgraphtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// after runs a statement in the background.
func (n *node) after(query string) <-chan error {
	done := make(chan error, 1)
	c := connect(n.t, n.Server)
	c.must("SHOW REPLICATION ROLE") // it is logged in
	go func() {
		_, err := c.run(query)
		done <- err
	}()
	return done
}

// silence makes a replica hang: its process lives and does not answer.
func silence(t *testing.T, n *node) {
	t.Helper()
	require.NoError(t, n.SetNetwork(Hang))
}

// A synchronous replica that answers again in time has the commit.
func TestSilentReplicaAnswersAgain(t *testing.T) {
	nodes := newNodes(t, 2, func(c *Config) { c.CheckFrequency = time.Minute })
	main, replica := nodes[0], nodes[1]
	main.join(replica, "SYNC")
	silence(t, replica)
	commit := main.after("CREATE (:N)")
	waitFor(t, "the commit to hang", func() bool { return main.status(replica) == "replicating" })
	require.NoError(t, replica.SetNetwork(Open))
	require.NoError(t, <-commit)
	assert.Equal(t, main.Dump(), replica.Dump())
}

// A silent ASYNC replica stalls nothing, and catches up.
func TestSilentAsyncReplica(t *testing.T) {
	nodes := newNodes(t, 2)
	main, replica := nodes[0], nodes[1]
	main.join(replica, "ASYNC")
	silence(t, replica)
	for range 3 {
		main.must("CREATE (:N)")
	}
	assert.Equal(t, "invalid", main.status(replica), "it missed one")
	require.NoError(t, replica.SetNetwork(Open))
	main.awaitStatus(replica, "ready")
	assert.Equal(t, main.Dump(), replica.Dump())
}

// REGISTER towards a silent target stalls commits and even SHOW.
func TestRegisterStallsEverything(t *testing.T) {
	nodes := newNodes(t, 2, func(c *Config) { c.TimeoutScale = 0.05 }) // 0.25 s to connect
	main, replica := nodes[0], nodes[1]
	replica.demote()
	silence(t, replica)
	session := connect(t, main.Server)
	session.must("SHOW REPLICATION ROLE")
	register := main.after(fmt.Sprintf("REGISTER REPLICA n1 SYNC TO %q", replica.replicationAddr()))
	waitFor(t, "the statement to be under way", func() bool { return len(main.State().Replicas) == 1 })
	began := time.Now()
	session.must("SHOW REPLICATION ROLE")
	assert.Greater(t, time.Since(began), 100*time.Millisecond)
	assert.Equal(t, latest.textRegister("n1", notAccepted), textOf(t, <-register))
}

func TestOneSystemStatementAtATime(t *testing.T) {
	main := newNode(t, "n0")
	first, second := login(t, main.Server, v52), login(t, main.Server, v52)
	const drop = "DROP REPLICA nobody"
	first.ask(runOf(drop)) // and does not pull
	assert.Equal(t, textSystemQueries, second.statement(drop).failure.Message)
	first.ask(reset)
	assert.Equal(t, textDropUnknown("nobody"), second.statement(drop).failure.Message)
}

// A promotion waits for the replication server's poll, unless anything happens
// on a connection to its port meanwhile.
func TestPromotionPoll(t *testing.T) {
	const poll = 400 * time.Millisecond
	n := newNode(t, "n0", func(c *Config) { c.PromotionPoll = poll })
	for _, nudged := range []bool{false, true} {
		n.demote()
		idle, err := net.Dial("tcp", n.replicationAddr())
		require.NoError(t, err)
		server := n.running().roles.server
		waitFor(t, "the connection to be accepted", func() bool {
			server.mu.Lock()
			defer server.mu.Unlock()
			return len(server.conns) == 1
		})
		began := time.Now()
		promotion := n.after("SET REPLICATION ROLE TO MAIN")
		if nudged {
			waitFor(t, "the statement to be under way", func() bool { return refused(n.replicationAddr()) })
			require.NoError(t, idle.Close())
		}
		require.NoError(t, <-promotion)
		took := time.Since(began)
		if nudged {
			assert.Less(t, took, poll/2)
		} else {
			assert.Greater(t, took, poll/2)
			assert.NoError(t, idle.Close())
		}
	}
}

// refused reports whether nobody listens at addr.
func refused(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		_ = c.Close()
	}
	return err != nil
}

func TestNetworkModes(t *testing.T) {
	s := RunT(t)
	c := connect(t, s)
	c.must("RETURN 1")
	reach := func() error {
		var d net.Dialer
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		conn, err := d.DialContext(ctx, "tcp", s.Addr())
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	require.NoError(t, s.SetNetwork(Refuse))
	assert.ErrorContains(t, reach(), "refused")
	_, err := c.run("RETURN 1")
	assert.Error(t, err, "reset")

	require.NoError(t, s.SetNetwork(Open))
	require.NoError(t, reach())
	w := login(t, s, v52)
	for range 2 { // also from Refuse
		require.NoError(t, s.SetNetwork(Blackhole))
		var failed net.Error
		require.True(t, errors.As(reach(), &failed))
		assert.True(t, failed.Timeout(), "no answer at all")
		require.NoError(t, s.SetNetwork(Refuse))
		assert.ErrorContains(t, reach(), "refused")
	}
	require.NoError(t, s.SetNetwork(Open))
	_, err = w.reader.ReadMessage()
	assert.ErrorContains(t, err, "reset")

	w = login(t, s, v52)
	require.NoError(t, s.SetNetwork(Blackhole))
	w.send(runOf("RETURN 1"))
	require.NoError(t, w.conn.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = w.reader.ReadMessage()
	assert.ErrorContains(t, err, "timeout")
	require.NoError(t, s.SetNetwork(Open))
	require.NoError(t, w.conn.SetReadDeadline(time.Now().Add(10*time.Second)))
	assert.NotNil(t, w.receive(), "it goes on where it stopped")
	assert.Error(t, s.SetNetwork("slow"))
}

// The mode holds while the process is away and comes back.
func TestNetworkModeOutlivesTheProcess(t *testing.T) {
	s := RunT(t)
	for _, mode := range []Mode{Refuse, Blackhole} {
		require.NoError(t, s.SetNetwork(mode))
		require.NoError(t, s.Restart(t.Context()))
		assert.Equal(t, mode, s.State().Network)
	}
	require.NoError(t, s.SetNetwork(Open))
	connect(t, s).must("RETURN 1")
}
