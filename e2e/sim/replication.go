package sim

import (
	"errors"
	"time"

	"memgraph-controller/memgraph"
)

// What a commit can come to besides success. After errMissed a SYNC commit has
// taken effect all the same, and a STRICT_SYNC one has not.
var (
	errForbidden = errors.New("write queries are forbidden on the replica instance")
	errMissed    = errors.New("a synchronous replica did not confirm")
)

// Time-outs of calls between instances. Source: Memgraph v3.12 rpc/client.hpp.
const (
	connectTimeout  = 5 * time.Second
	shipTimeout     = 30 * time.Second
	finalizeTimeout = 10 * time.Second
	// checkEvery is --replication-replica-check-frequency-sec.
	checkEvery = time.Second
	// missesUntilInvalid is how many checks in a row must fail.
	missesUntilInvalid = 3
)

// member is a registered replica as its MAIN sees it; it is live unless it is
// what a failed REGISTER left.
type member struct {
	name, addr string
	mode       memgraph.SyncMode
	live       bool
	state      memgraph.ReplicaStatus
	ts         int64
	misses     int
	reset      bool // the process that it was has ended, and so has the connection
}

// replicaAt is who listens for a MAIN at an address; nil if nobody does.
// answered is false where even that is not told.
func (p *process) replicaAt(addr string) (q *process, answered bool) {
	q, reached := p.w.dial(mgNode(p.index), addr)
	switch {
	case reached == memgraph.Silent:
		return nil, false
	case reached == memgraph.Refused || !q.is(memgraph.RoleReplica):
		return nil, true
	}
	return q, true
}

// call has f obeyed by the replica behind m. It tells whether an answer came back.
func (p *process) call(m *member, limit time.Duration, f func(q *process) bool) (ok bool, err error) {
	if err := p.sleep(p.w.latency()); err != nil {
		return false, err
	}
	q, answered := p.replicaAt(m.addr)
	for waited := time.Duration(0); !answered && waited < limit; q, answered = p.replicaAt(m.addr) {
		if err := p.sleep(100 * time.Millisecond); err != nil {
			return false, err
		}
		waited += 100 * time.Millisecond
	}
	if q == nil {
		return false, nil
	}
	m.reset = false
	ok = f(q)
	p.w.act("ship", atCommit, p.struck)
	if err := p.sleep(p.w.latency()); err != nil {
		return false, err
	}
	if p.w.net.cut(mgNode(p.index), mgNode(q.index)) {
		return false, p.sleep(connectTimeout)
	}
	return ok && !q.dead, nil
}

// commit is a write. The instance is taken for all of it, replication included.
func (p *process) commit(write int) error {
	p.busy.take(p.s)
	defer p.busy.give()
	if err := p.goesOn(); err != nil {
		return err
	}
	if !p.is(memgraph.RoleMain) {
		return errForbidden
	}
	s := shipment{process: p, previous: p.vol.ldt(), entry: entry{p.epoch, p.tick(), write}}
	for _, m := range p.members {
		s.start(m)
	}
	if s.twoPhase {
		return s.both()
	}
	return s.single()
}

// shipment is a commit on its way.
type shipment struct {
	*process
	entry    entry
	previous int64
	sync     []*member
	async    []*member
	twoPhase bool
	missed   bool
}

// start takes the members along that are ready.
func (s *shipment) start(m *member) {
	if !m.live {
		return
	}
	s.twoPhase = s.twoPhase || m.mode == memgraph.StrictSync
	switch m.state {
	case memgraph.StatusReady:
		if m.mode == memgraph.Async {
			s.async = append(s.async, m)
		} else {
			s.sync = append(s.sync, m)
		}
		m.state = memgraph.StatusReplicating
		return
	case memgraph.StatusReplicating:
		m.state = memgraph.StatusInvalid
	}
	if m.mode.Synchronous() {
		s.missed = true
	}
}

// single commits here, whatever the replicas say: before they are asked.
func (s *shipment) single() error {
	s.vol.append(s.entry)
	s.w.act("commit A", atCommit, s.struck)
	if err := s.goesOn(); err != nil {
		return err
	}
	if err := s.prepare(); err != nil {
		return err
	}
	s.ship()
	if s.missed {
		return errMissed
	}
	s.note()
	return nil
}

// both commits in two phases: only where all agree.
func (s *shipment) both() error {
	if err := s.prepare(); err != nil {
		return err
	}
	if s.missed {
		if err := s.decide(false); err != nil {
			return err
		}
		return errMissed
	}
	s.vol.append(s.entry)
	s.note()
	s.w.act("commit B", atCommit, s.struck)
	if err := s.goesOn(); err != nil {
		return err
	}
	if err := s.decide(true); err != nil {
		return err
	}
	s.ship()
	return nil
}

// note remembers when the commit became one.
func (s *shipment) note() {
	if s.entry.write != none {
		s.w.ledger.committed[s.entry.write] = s.s.now
	}
}

func (s *shipment) prepare() error {
	for _, m := range s.sync {
		ok, err := s.call(m, shipTimeout, func(q *process) bool {
			return q.prepare(s.vol.mainUUID, s.previous, s.entry, s.twoPhase)
		})
		if err != nil {
			return err
		}
		if m.state = memgraph.StatusInvalid; ok {
			m.state, m.ts = memgraph.StatusReady, s.entry.ts
		} else {
			s.missed = true
		}
	}
	return nil
}

// decide ends the second phase; its failure is told to nobody. A write whose
// decision got lost is on MAIN alone until the next recovery, which is Memgraph's
// and takes two faults: nobody can be blamed for its loss.
func (s *shipment) decide(commit bool) error {
	for _, m := range s.sync {
		obeyed := false
		_, err := s.call(m, finalizeTimeout, func(q *process) bool {
			if q.vol.mainUUID == s.vol.mainUUID {
				obeyed = q.finalize(s.entry.ts, commit)
			}
			return true
		})
		if err != nil {
			return err
		}
		if commit && !obeyed && s.entry.write != none {
			s.w.ledger.excused.add(s.entry.write)
		}
	}
	return nil
}

// ship sends to the ASYNC replicas, for which nobody waits.
func (s *shipment) ship() {
	for _, m := range s.async {
		s.after(s.w.latency(), func() {
			q, _ := s.replicaAt(m.addr)
			ok := q != nil && q.prepare(s.vol.mainUUID, s.previous, s.entry, false)
			switch {
			case !ok:
				m.state = memgraph.StatusInvalid
			case m.state == memgraph.StatusReplicating:
				m.state, m.ts = memgraph.StatusReady, s.entry.ts
			}
		})
	}
}

// prepare takes a commit of its MAIN, or the first phase of one. That what it
// has already counts as taken is Memgraph's.
func (p *process) prepare(main int, previous int64, e entry, twoPhase bool) bool {
	if p.vol.mainUUID != main || p.busy.held {
		return false
	}
	p.prepared = nil
	p.adopt(e.epoch)
	switch ldt := p.vol.ldt(); {
	case previous > ldt:
		return false
	case e.ts <= ldt:
	case twoPhase:
		p.prepared = &e
	default:
		p.vol.append(e)
	}
	return true
}

// finalize ends the second phase, and tells whether there was a first one. What
// it answers is success in any case, which is Memgraph's up to 3.12.
func (p *process) finalize(ts int64, commit bool) bool {
	if p.prepared == nil || p.prepared.ts != ts {
		return false
	}
	if commit {
		p.vol.append(*p.prepared)
	}
	p.prepared = nil
	return true
}

// adopt follows MAIN into its epoch.
func (p *process) adopt(epoch int) {
	if p.epoch != epoch {
		p.endReign()
		p.epoch = epoch
	}
}

// watch is the frequent check of a member, for as long as it is one.
func (p *process) watch(m *member) {
	p.after(checkEvery, func() {
		if !p.has(m) {
			return
		}
		if q, _ := p.replicaAt(m.addr); q == nil {
			if m.misses++; m.misses == missesUntilInvalid {
				m.state = memgraph.StatusInvalid
			}
		} else if m.misses = 0; m.state == memgraph.StatusInvalid {
			p.check(m)
		}
		p.watch(m)
	})
}

func (p *process) has(m *member) bool {
	for _, o := range p.members {
		if o == m {
			return true
		}
	}
	return false
}

// check asks a replica where it got, and begins to send what it lacks. It waits
// for no commit, of which the replica would miss what it does not lack yet.
func (p *process) check(m *member) {
	q, _ := p.replicaAt(m.addr)
	if q == nil || p.busy.held && !p.exclusive || q.vol.mainUUID != p.vol.mainUUID {
		return
	}
	m.ts = q.vol.ldt()
	switch {
	case p.branched(q):
		m.state = memgraph.StatusDiverged
	case m.ts >= p.vol.ldt():
		m.state = memgraph.StatusReady
	default:
		m.state = memgraph.StatusRecovery
		p.after(p.w.between(10*time.Millisecond, 300*time.Millisecond), func() { p.recover(m) })
	}
}

// recover sends the log. What is committed meanwhile is left to the next round.
func (p *process) recover(m *member) {
	q, _ := p.replicaAt(m.addr)
	if !p.has(m) || m.state != memgraph.StatusRecovery {
		return
	}
	m.state = memgraph.StatusInvalid
	if q == nil || q.vol.mainUUID != p.vol.mainUUID || q.busy.held || p.branched(q) {
		return
	}
	q.prepared = nil
	for _, e := range p.vol.log {
		if e.ts > q.vol.ldt() {
			q.adopt(e.epoch)
			q.vol.append(e)
		}
	}
	if m.ts = q.vol.ldt(); m.ts >= p.vol.ldt() && !p.busy.held {
		m.state = memgraph.StatusReady
	}
}

// branched is the rule of divergence: q got somewhere in an epoch that p does not
// know, or that for p had ended before. That the first entry of an epoch counts,
// and not the last, is Memgraph's since 3.5.
func (p *process) branched(q *process) bool {
	at := q.vol.ldt()
	epoch := q.epoch
	if n := len(q.history); n > 0 && q.history[n-1].ldt == at {
		epoch = q.history[n-1].epoch
	}
	if epoch == p.epoch || at == 0 {
		return false
	}
	for _, r := range p.history {
		if r.epoch == epoch {
			return r.ldt < at
		}
	}
	return true
}
