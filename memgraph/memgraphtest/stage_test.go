package memgraphtest

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// stage is where a scenario is played.
type stage struct {
	*testing.T
	ground  ground
	version version
}

// play runs a scenario on the stand-in as Memgraph 3.12 and on real servers.
func play(t *testing.T, scenario func(s *stage)) {
	t.Parallel()
	onGrounds(t, func(t *testing.T, g ground) {
		text := g.versionOf(t)
		if text == "" {
			text = DefaultVersion
		}
		scenario(&stage{t, g, latestOf(t, text)})
	})
}

// as is the same stage with another version, which only the stand-in can be.
func (s *stage) as(version string, scenario func(s *stage)) {
	s.Run(version, func(t *testing.T) {
		if s.ground.versionOf(t) != "" {
			t.Skip("a real server is what it is")
		}
		scenario(&stage{t, s.ground, latestOf(t, version)})
	})
}

// with runs a part of the scenario on a stage of its own.
func (s *stage) with(name string, scenario func(s *stage)) {
	s.Run(name, func(t *testing.T) { scenario(&stage{t, s.ground, s.version}) })
}

// peers starts n instances.
func (s *stage) peers(n int) []*peer {
	s.Helper()
	var list []*peer
	for k := range n {
		p := s.ground.newPeer(s.T, s.version.text, k)
		p.host.start(s.T)
		list = append(list, p)
	}
	return list
}

// lost is the text of a commit that a replica has missed.
func (s *stage) lost(r *peer, mode SyncMode, why reason) string {
	return s.version.textReplication([]miss{{r.name, mode, why}}, mode == ModeSync)
}

// must is a statement that succeeds.
func (p *peer) must(query string) [][]any {
	p.t.Helper()
	a, err := p.try(query)
	require.NoError(p.t, err, query)
	require.Nil(p.t, a.failure, query)
	return a.rows
}

// fails is the text with which a statement fails.
func (p *peer) fails(query string) string {
	p.t.Helper()
	a, err := p.try(query)
	require.NoError(p.t, err, query)
	require.NotNil(p.t, a.failure, query)
	return a.failure.Message
}

// later is a statement on a session of its own, whose answer is waited for.
func (p *peer) later(query string) <-chan answered {
	p.t.Helper()
	w, done := loginAt(p.t, p.host.addr(), v52), make(chan answered, 1)
	go func() {
		a, _ := w.try(query) // without an answer if the server dies
		done <- a
	}()
	return done
}

func (p *peer) demote() {
	p.t.Helper()
	p.must(fmt.Sprintf("SET REPLICATION ROLE TO REPLICA WITH PORT %d", p.port))
}

func (p *peer) promote() {
	p.t.Helper()
	p.must("SET REPLICATION ROLE TO MAIN")
}

func (p *peer) address() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

// register is the text with which REGISTER fails, "" if it does not.
func (p *peer) register(r *peer, mode string) string {
	p.t.Helper()
	a, err := p.try(fmt.Sprintf("REGISTER REPLICA %s %s TO %q", r.name, mode, r.address()))
	require.NoError(p.t, err)
	if a.failure != nil {
		return a.failure.Message
	}
	return ""
}

// status of r as SHOW REPLICAS has it; "{}" for what a failed REGISTER left.
func (p *peer) status(r *peer) string {
	p.t.Helper()
	for _, row := range p.must("SHOW REPLICAS") {
		if row[0] != r.name {
			continue
		}
		databases, _ := row[4].(map[string]any)
		m, known := databases["memgraph"].(map[string]any)
		if !known {
			return "{}"
		}
		return m["status"].(string)
	}
	return ""
}

func (p *peer) await(r *peer, status string) {
	p.t.Helper()
	waitFor(p.t, r.name+" to be "+status, func() bool { return p.status(r) == status })
}

// join makes r a replica that is in step.
func (p *peer) join(r *peer, mode string) {
	p.t.Helper()
	r.demote()
	require.Empty(p.t, p.register(r, mode))
	p.await(r, "ready")
}

// labels are those of all nodes.
func (p *peer) labels() string {
	p.t.Helper()
	var list []string
	for _, row := range p.must("MATCH (n) RETURN labels(n)") {
		list = append(list, fmt.Sprint(row[0]))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// awaitLabels waits until p has what it is to have.
func (p *peer) awaitLabels(want string) {
	p.t.Helper()
	waitFor(p.t, p.name+" to hold "+want, func() bool { return p.labels() == want })
}

func (p *peer) kill() { p.end(syscall.SIGKILL) }

func (p *peer) start() {
	p.t.Helper()
	p.host.start(p.t)
}

// leaveOnly has p commit a node that nobody else gets: its SYNC replica hangs
// until p has died, and dies too.
func (p *peer) leaveOnly(query string, replica *peer) {
	p.t.Helper()
	replica.host.signal(p.t, syscall.SIGSTOP)
	p.later(query)
	p.await(replica, "replicating")
	<-time.After(20 * time.Millisecond) // it has written its log
	p.kill()
	replica.kill()
	replica.start()
}
