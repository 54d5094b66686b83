package sim

import (
	"fmt"
	"time"

	"memgraph-controller/memgraph"
)

// entry is a committed transaction in an instance's log.
type entry struct {
	epoch int
	ts    int64
	write int // whose; none for a seal of the epoch
}

const none = -1

// volume is what outlives a process.
type volume struct {
	role     memgraph.Role
	mainUUID int
	database string
	log      []entry
	data     bits // the writes in the log
	members  []member
}

// newVolume is an empty data directory: its first process is a MAIN.
func (w *world) newVolume() *volume {
	return &volume{role: memgraph.RoleMain, mainUUID: w.unique(), database: fmt.Sprintf("db-%d", w.unique())}
}

func (v *volume) ldt() int64 {
	if len(v.log) == 0 {
		return 0
	}
	return v.log[len(v.log)-1].ts
}

func (v *volume) append(e entry) {
	v.log = append(v.log, e)
	if e.write != none {
		v.data.add(e.write)
	}
}

// reign is an epoch that ended, and the last durable timestamp in it.
type reign struct {
	epoch int
	ldt   int64
}

// process is one run of Memgraph. The rules it goes by are those of the fact
// sheet's state machine: Memgraph v3.12 replication_handler.cpp,
// storage/v2/inmemory/storage.cpp and storage/v2/replication.
type process struct {
	actor
	w     *world
	index int
	vol   *volume
	runID string
	open  bool // Bolt listens: recovery is done

	epoch   int
	history []reign
	clock   int64 // of timestamps
	members []*member
	// prepared is the first phase of a STRICT_SYNC commit on a replica.
	prepared *entry
	// busy is held by a commit or a statement that changes the replication
	// state; exclusive says that the latter keeps even SHOW waiting.
	busy        turn
	exclusive   bool
	roleChanged time.Duration
}

// newProcess starts on what the volume holds: the role and the registrations
// too. The log's replay is what makes the history: the last epoch has an entry
// in it although it goes on, which is Memgraph's since 3.5.
func (w *world) newProcess(index int, vol *volume) *process {
	p := &process{
		actor: actor{s: w.scheduler}, w: w, index: index, vol: vol,
		runID: fmt.Sprintf("run-%d", w.unique()), epoch: w.unique(),
	}
	for _, e := range vol.log {
		if n := len(p.history); n > 0 && p.history[n-1].epoch == e.epoch {
			p.history[n-1].ldt = e.ts
		} else {
			p.history = append(p.history, reign{e.epoch, e.ts})
		}
		p.epoch = e.epoch
	}
	p.clock = vol.ldt()
	w.judge.volumes[p.runID] = vol
	for _, m := range vol.members {
		p.members = append(p.members, &member{name: m.name, addr: m.addr, mode: m.mode, live: true, state: memgraph.StatusInvalid})
	}
	return p
}

// begin opens Bolt.
func (p *process) begin() {
	p.open = true
	for _, m := range p.members {
		p.check(m)
		p.watch(m)
	}
}

func (p *process) is(role memgraph.Role) bool { return p.vol.role == role }

func (p *process) tick() int64 {
	p.clock = max(p.clock, p.vol.ldt()) + 2
	return p.clock
}

func (p *process) persist() {
	p.vol.members = p.vol.members[:0]
	for _, m := range p.members {
		p.vol.members = append(p.vol.members, *m)
	}
}

// alone takes the process for a statement that keeps everything else waiting; it
// fails at once where a commit or another such statement has it.
func (p *process) alone(f func() error) error {
	if !p.busy.try() {
		return memgraph.ErrBusy
	}
	p.exclusive = true
	defer func() {
		p.exclusive = false
		p.busy.give()
	}()
	return f()
}

// setMain is SET REPLICATION ROLE TO MAIN.
func (p *process) setMain() error {
	return p.alone(func() error {
		if p.is(memgraph.RoleMain) {
			return memgraph.ErrBusy
		}
		if err := p.sleep(p.w.between(2*time.Millisecond, 200*time.Millisecond)); err != nil {
			return err
		}
		p.prepared = nil
		p.endReign()
		p.vol.role, p.vol.mainUUID = memgraph.RoleMain, p.w.unique()
		p.epoch = p.w.unique()
		p.setMembers(nil)
		p.roleChanged = p.s.now
		p.w.tracef("%s is MAIN now", p)
		p.w.enthroned(p)
		return nil
	})
}

func (p *process) endReign() {
	if n := len(p.history); n == 0 || p.history[n-1].ldt != p.vol.ldt() {
		p.history = append(p.history, reign{p.epoch, p.vol.ldt()})
	}
}

// setReplica is SET REPLICATION ROLE TO REPLICA: one that belongs to nobody.
func (p *process) setReplica() error {
	return p.alone(func() error {
		if p.is(memgraph.RoleReplica) {
			return memgraph.ErrBusy
		}
		if err := p.sleep(p.w.between(time.Millisecond, 3*time.Millisecond)); err != nil {
			return err
		}
		p.vol.role, p.vol.mainUUID = memgraph.RoleReplica, p.w.unique()
		p.setMembers(nil)
		p.roleChanged = p.s.now
		p.w.tracef("%s is a replica now", p)
		return nil
	})
}

func (p *process) setMembers(members []*member) {
	p.members = members
	p.persist()
}

// register is REGISTER REPLICA. Whatever it fails with after the member was
// listed, the member stays, as a ghost.
func (p *process) register(r memgraph.Registration) error {
	return p.alone(func() error {
		if !p.is(memgraph.RoleMain) {
			return memgraph.ErrNotMain
		}
		for _, m := range p.members {
			if m.name == r.Name {
				return memgraph.ErrNameTaken
			}
			if m.addr == r.Address {
				return memgraph.ErrAddressTaken
			}
		}
		m := &member{name: r.Name, addr: r.Address, mode: r.Mode}
		p.setMembers(append(p.members, m))
		p.w.act("register", atDeed, p.struck)
		return p.recruit(m)
	})
}

// recruit takes the replica from whatever MAIN it had.
func (p *process) recruit(m *member) error {
	if err := p.sleep(p.w.latency()); err != nil {
		return err
	}
	q, answered := p.replicaAt(m.addr)
	if !answered {
		if err := p.sleep(p.w.between(5*time.Second, 10*time.Second)); err != nil {
			return err
		}
	}
	if q == nil {
		return memgraph.ErrNotAccepted
	}
	q.vol.mainUUID = p.vol.mainUUID
	if q.vol.ldt() == 0 {
		q.vol.database = p.vol.database
	}
	if p.branched(q) {
		return memgraph.ErrDiverged
	}
	m.live, m.state = true, memgraph.StatusInvalid
	p.check(m)
	p.watch(m)
	return p.sleep(p.w.latency())
}

// drop is DROP REPLICA. Of one that recovers, or that lacks commits and has become
// silent without an end of its connection, the process dies. Observed on 3.7.2 and
// 3.12.0.
func (p *process) drop(name string) error {
	return p.alone(func() error {
		if !p.is(memgraph.RoleMain) {
			return memgraph.ErrNotMain
		}
		for i, m := range p.members {
			if m.name != name {
				continue
			}
			_, answered := p.replicaAt(m.addr)
			if m.live && (m.state == memgraph.StatusRecovery || m.mode == memgraph.Async && m.ts < p.vol.ldt() && !answered && !m.reset) {
				p.w.tracef("%s dies of DROP %s", p, name)
				p.w.hosts[p.index].crash()
				return errDead
			}
			rest := append([]*member{}, p.members[:i]...)
			p.setMembers(append(rest, p.members[i+1:]...))
			return nil
		}
		return nil // the client takes that for done
	})
}

// replicas is SHOW REPLICAS.
func (p *process) replicas() []memgraph.Replica {
	var rows []memgraph.Replica
	for _, m := range p.members {
		r := memgraph.Replica{Name: m.name, Address: m.addr, Mode: m.mode}
		if m.live {
			r.Status, r.Timestamp, r.Behind = m.state, m.ts, m.ts-p.vol.ldt()
		}
		rows = append(rows, r)
	}
	return rows
}

func (p *process) String() string {
	return fmt.Sprintf("mg-%d(%s %s ldt %d)", p.index, p.runID, p.vol.role, p.vol.ldt())
}
