package memgraphtest

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The fifteen cases that whoever replaces a MAIN must know, each with what real
// servers did. n1 is MAIN, n2 its partner.

func TestScenario01SyncReplicaKilled(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(2)
		p[0].join(p[1], "SYNC")
		p[0].must("CREATE (:A)")
		p[1].kill()
		assert.Equal(t, s.lost(p[1], ModeSync, rpcError), p[0].fails("CREATE (:B)"))
		assert.Equal(t, "[A] [B]", p[0].labels(), "committed")
		p[0].await(p[1], "invalid")
		assert.Equal(t, s.lost(p[1], ModeSync, notInSync), p[0].fails("CREATE (:C)"))
		p[1].start()
		p[0].await(p[1], "ready")
		p[0].must("CREATE (:D)")
		assert.Equal(t, p[0].labels(), p[1].labels())
	})
}

func TestScenario02SyncReplicaHangs(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(2)
		p[0].join(p[1], "SYNC")
		p[1].host.signal(t, syscall.SIGSTOP)
		commit := p[0].later("CREATE (:A)")
		p[0].await(p[1], "replicating")
		read := p[0].later("RETURN 1")
		assert.Equal(t, [][]any{{"main"}}, p[0].must("SHOW REPLICATION ROLE"), "SHOW answers")
		select {
		case <-read:
			assert.Fail(t, "a read got through")
		case <-time.After(50 * time.Millisecond):
		}
		failure := (<-commit).failure
		require.NotNil(t, failure)
		assert.Equal(t, s.lost(p[1], ModeSync, timedOut), failure.Message)
		assert.Nil(t, (<-read).failure)
		began := time.Now()
		assert.Equal(t, s.lost(p[1], ModeSync, notInSync), p[0].fails("CREATE (:B)"))
		assert.Less(t, time.Since(began), 500*time.Millisecond)
		assert.Equal(t, "[A] [B]", p[0].labels())
		p[1].host.signal(t, syscall.SIGCONT)
		p[0].await(p[1], "ready")
		assert.Equal(t, "[A] [B]", p[1].labels())
	})
}

func TestScenario03StrictSyncReplicaDown(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(3)
		p[0].join(p[1], "STRICT_SYNC")
		p[0].join(p[2], "ASYNC")
		p[0].must("CREATE (:A)")
		p[1].kill()
		for _, why := range []reason{rpcError, notInSync} {
			assert.Equal(t, s.lost(p[1], ModeStrictSync, why), p[0].fails("CREATE (:B)"))
		}
		assert.Equal(t, "[A]", p[0].labels(), "aborted here")
		p[1].start()
		p[0].await(p[1], "ready")
		p[0].must("CREATE (:C)")
		assert.Equal(t, "[A] [C]", p[1].labels(), "and there")
		p[2].awaitLabels("[A] [C]")
	})
}

func TestScenario04MainKilledIdle(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(3)
		p[0].join(p[1], "SYNC")
		p[0].join(p[2], "ASYNC")
		p[0].must("CREATE (:A)")
		p[2].awaitLabels("[A]")
		p[0].kill()
		p[1].promote()
		p[1].must("CREATE (:B)")
		require.Empty(t, p[1].register(p[2], "ASYNC"))
		p[1].await(p[2], "ready")
		p[0].start()
		assert.Equal(t, [][]any{{"main"}}, p[0].must("SHOW REPLICATION ROLE"), "it comes back as what it was")
		p[0].demote()
		require.Empty(t, p[1].register(p[0], "SYNC"))
		p[1].await(p[0], "ready")
		p[1].must("CREATE (:C)")
		assert.Equal(t, "[A] [B] [C]", p[0].labels())
	})
}

func TestScenario05MainKilledMidCommit(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(2)
		p[0].join(p[1], "SYNC")
		p[0].must("CREATE (:A)")
		p[0].leaveOnly("CREATE (:OnlyHere)", p[1])
		p[1].promote()
		p[1].must("CREATE (:B)")
		p[0].start()
		assert.Equal(t, "[A] [OnlyHere]", p[0].labels(), "it survived")
		p[0].demote()
		for _, mode := range []string{"SYNC", "ASYNC"} {
			assert.Equal(t, s.version.textRegister("n1", diverged), p[1].register(p[0], mode))
			assert.Equal(t, "{}", p[1].status(p[0]), "a ghost")
			p[1].must("CREATE (n:__probe) DELETE n") // which protects nothing
			assert.Equal(t, s.version.textRegister("n1", nameExists), p[1].register(p[0], mode))
			p[1].must("DROP REPLICA n1")
		}
		p[0].kill()
		p[0].host.wipe(t)
		p[0].start()
		p[1].join(p[0], "SYNC")
		p[0].awaitLabels("[A] [B]")
	})
}

// To the old MAIN a partition and the promotion of its partner look the same.
func TestScenario06MainCutOff(t *testing.T) {
	play(t, func(s *stage) {
		for mode, statement := range map[SyncMode]string{ModeSync: "SYNC", ModeStrictSync: "STRICT_SYNC"} {
			s.with(statement, func(s *stage) {
				p := s.peers(3)
				p[0].join(p[1], statement)
				p[0].join(p[2], statement)
				p[0].must("CREATE (:A)")
				p[1].promote()
				require.Empty(t, p[1].register(p[2], statement))
				p[1].await(p[2], "ready")
				p[1].must("CREATE (:NewMain)")
				assert.NotEmpty(t, p[0].fails("CREATE (:OldMain)"))
				committed := mode == ModeSync
				assert.Equal(t, map[bool]string{true: "[A] [OldMain]", false: "[A]"}[committed], p[0].labels())
				assert.Equal(t, "[A] [NewMain]", p[2].labels())
				p[0].demote()
				assert.Equal(t, map[bool]string{true: s.version.textRegister("n1", diverged)}[committed], p[1].register(p[0], statement))
			})
		}
	})
}

func TestScenario07RegisterSteals(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(3)
		p[0].join(p[2], "SYNC")
		require.Empty(t, p[1].register(p[2], "SYNC"))
		p[1].must("CREATE (:Second)")
		assert.Equal(t, s.lost(p[2], ModeSync, rpcError), p[0].fails("CREATE (:First)"), "invariant 2")
		assert.Equal(t, "[Second]", p[2].labels(), "invariant 2")
		p[0].await(p[2], "invalid")
	})
}

func TestScenario08RegisterWhatDoesNotAccept(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(2)
		for _, what := range []string{"a MAIN", "nobody"} {
			assert.Equal(t, s.version.textRegister("n2", notAccepted), p[0].register(p[1], "SYNC"), what)
			assert.Equal(t, "{}", p[0].status(p[1]), "a ghost stays")
			p[0].must("CREATE (:N)")
			p[0].must("DROP REPLICA n2")
			p[1].kill()
		}
		p[1].start()
		p[1].demote()
		p[1].host.signal(t, syscall.SIGSTOP)
		register := p[0].later(fmt.Sprintf("REGISTER REPLICA n2 SYNC TO %q", p[1].address()))
		<-time.After(20 * time.Millisecond)
		began := time.Now()
		p[0].must("SHOW REPLICATION ROLE")
		assert.Greater(t, time.Since(began), 100*time.Millisecond, "even SHOW waits while the target hangs")
		assert.Equal(t, s.version.textRegister("n2", notAccepted), (<-register).failure.Message)
		p[1].host.signal(t, syscall.SIGCONT)
	})
}

// Observed: the data is kept, and the replica is stolen all the same.
func TestScenario09EmptyMainRegistersData(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(2)
		p[0].join(p[1], "SYNC")
		p[0].must("CREATE (:A)")
		p[0].kill()
		p[0].host.wipe(t)
		p[0].start()
		assert.Equal(t, s.version.textRegister("n2", diverged), p[0].register(p[1], "SYNC"))
		assert.Equal(t, "{}", p[0].status(p[1]))
		assert.Equal(t, "[A]", p[1].labels())
	})
}

// Invariant 3. A restart of the promoted MAIN's process heals it.
func TestScenario10FalseDivergence(t *testing.T) {
	play(t, func(s *stage) {
		s.with("killed", func(s *stage) { falseDivergence(s, syscall.SIGKILL, true) })
		s.with("stopped with a snapshot on exit", func(s *stage) { falseDivergence(s, syscall.SIGTERM, false) })
		s.with("never restarted", func(s *stage) { falseDivergence(s, 0, false) })
		s.as("3.4.0", func(s *stage) { falseDivergence(s, syscall.SIGKILL, false) })
	})
}

func falseDivergence(s *stage, end syscall.Signal, diverges bool) {
	p := s.peers(3)
	p[0].join(p[1], "SYNC")
	p[0].join(p[2], "SYNC")
	p[0].must("CREATE (:A)")
	if end != 0 {
		p[1].end(end)
		p[0].await(p[1], "invalid")
		p[1].start()
		p[0].await(p[1], "ready")
	}
	p[0].must("CREATE (:B)")
	p[0].kill()
	p[1].promote()
	text := p[1].register(p[2], "SYNC")
	if !diverges {
		assert.Empty(s, text)
		return
	}
	assert.Equal(s, s.version.textRegister("n3", diverged), text)
	assert.Equal(s, p[1].labels(), p[2].labels(), "although they are identical")
	p[1].must("CREATE (n:__probe) DELETE n")
	p[1].kill()
	p[1].start()
	p[1].await(p[2], "ready")
}

func TestScenario11EpochIsLostWithoutACommit(t *testing.T) {
	play(t, func(s *stage) {
		for name, sealed := range map[string]bool{"no commit": false, "a commit that leaves nothing behind": true} {
			s.with(name, func(s *stage) {
				p := s.peers(2)
				p[0].join(p[1], "SYNC")
				p[0].must("CREATE (:A)")
				p[0].leaveOnly("CREATE (:OnlyHere)", p[1])
				p[1].promote()
				if sealed {
					p[1].must("CREATE (n:__probe) DELETE n")
				}
				p[1].kill()
				p[1].start()
				p[0].start()
				p[0].demote()
				text := p[1].register(p[0], "SYNC")
				if sealed {
					assert.Equal(t, s.version.textRegister("n1", diverged), text)
					return
				}
				assert.Empty(t, text)
				assert.Equal(t, "ready", p[1].status(p[0]))
				assert.Equal(t, []string{"[A]", "[A] [OnlyHere]"}, []string{p[1].labels(), p[0].labels()}, "accepted silently")
			})
		}
	})
}

func TestScenario12RoleChangesUnderOpenTransactions(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(1)[0]
		p.must("CREATE (:N)")
		write, read := loginAt(t, p.host.addr(), v52), loginAt(t, p.host.addr(), v52)
		for w, query := range map[*wire]string{write: "CREATE (:N)", read: "MATCH (n) RETURN count(n)"} {
			require.Nil(t, w.statement("BEGIN").failure)
			require.Nil(t, w.statement(query).failure)
		}
		p.demote()
		assert.Equal(t, textNotMain, write.statement("COMMIT").failure.Message)
		assert.Nil(t, read.statement("COMMIT").failure)
		assert.Equal(t, textWriteHere, write.statement("CREATE (:N)").failure.Message, "the session lives on")
		require.Nil(t, write.statement("BEGIN").failure)
		p.promote()
		assert.Nil(t, write.statement("CREATE (:N)").failure, "begun on a replica, writes on a MAIN")
		assert.Nil(t, write.statement("COMMIT").failure)
		assert.Equal(t, "[N] [N]", p.labels())
	})
}

func TestScenario13ChangesDuringASlowCommit(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(3)
		p[0].join(p[1], "SYNC")
		p[2].demote()
		p[1].host.signal(t, syscall.SIGSTOP)
		commit := p[0].later("CREATE (:A)")
		p[0].await(p[1], "replicating")
		assert.Equal(t, textDropBusy, p[0].fails("DROP REPLICA n2"))
		assert.Equal(t, s.version.textRegister("n3", noAccess), p[0].register(p[2], "ASYNC"))
		assert.Equal(t, textSetMain, p[0].fails("SET REPLICATION ROLE TO MAIN"))
		assert.Equal(t, textSetReplica, p[0].fails(fmt.Sprintf("SET REPLICATION ROLE TO REPLICA WITH PORT %d", p[0].port)))
		p[1].kill()
		failure := (<-commit).failure
		require.NotNil(t, failure)
		assert.Equal(t, s.lost(p[1], ModeSync, rpcError), failure.Message)
		p[0].must("DROP REPLICA n2")
		assert.Empty(t, p[0].register(p[2], "ASYNC"), "a retry works")
	})
}

func TestScenario14AsyncAheadOfThePromoted(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(3)
		p[0].join(p[1], "SYNC")
		p[0].join(p[2], "ASYNC")
		p[0].must("CREATE (:A)")
		p[2].awaitLabels("[A]")
		p[0].await(p[2], "ready")
		p[1].kill()
		p[0].fails("CREATE (:B)")
		p[2].awaitLabels("[A] [B]")
		p[0].kill()
		p[1].start()
		p[1].promote()
		assert.Equal(t, s.version.textRegister("n3", diverged), p[1].register(p[2], "ASYNC"))
	})
}

func TestScenario15RolesTwice(t *testing.T) {
	play(t, func(s *stage) {
		p := s.peers(1)[0]
		assert.Equal(t, textSetMain, p.fails("SET REPLICATION ROLE TO MAIN"))
		p.demote()
		assert.Equal(t, textSetReplica, p.fails("SET REPLICATION ROLE TO REPLICA WITH PORT 1"))
		assert.Equal(t, textWriteHere, p.fails("CREATE (:N)"))
		p.promote()
		assert.Equal(t, textPort, p.fails("SET REPLICATION ROLE TO REPLICA WITH PORT 70000"))
	})
}
