package sim

import (
	"time"

	"memgraph-controller/controller"
)

// menace injects faults: some at moments of its own, some in the middle of what
// is being done.
type menace struct {
	w    *world
	left int // faults that may still come
	// undo are the faults that last.
	undo []func()
	// recordLost says that the record was deleted, after which nobody can tell
	// what was acknowledged where.
	recordLost bool
}

// Odds that an action is met by a fault, one in so many: what changes a role, a
// registration or the record is rare, a commit or a gateway's question is not.
const (
	atDeed   = 20
	atCommit = 150
	atAnswer = 150
)

// act is a moment in the middle of what a process does. The fault that meets it
// there is as likely its own as any other.
func (w *world) act(what string, odds int, own func()) {
	if w.menace.left == 0 || !w.chance(odds) {
		return
	}
	w.tracef("at %s:", what)
	if w.chance(2) {
		w.menace.strike()
		return
	}
	w.menace.left--
	own()
}

// struck is an instance's own fault.
func (p *process) struck() {
	p.w.tracef("fault: mg-%d is killed", p.index)
	p.w.hosts[p.index].crash()
}

// struck is a contender's own fault: a pause that may outlast its lease.
func (c *contender) struck() { c.w.menace.pause(c) }

// loom brings the faults that come at any moment.
func (m *menace) loom() {
	m.w.after(m.w.between(50*time.Millisecond, 3*time.Second), func() {
		if m.left > 0 {
			m.strike()
			m.loom()
		}
	})
}

// strike is one fault.
func (m *menace) strike() {
	m.left--
	w := m.w
	i := w.rand.IntN(size)
	if main := w.api.record.Main; !main.None() && w.chance(2) {
		i = main.Index // which matters most
	}
	h, c := w.hosts[i], w.ctls[w.rand.IntN(contenders)]
	d := w.between(50*time.Millisecond, 8*time.Second)
	switch f := w.rand.IntN(23); f {
	case 0, 1, 2, 3:
		w.tracef("fault: mg-%d is killed", i)
		h.crash()
	case 4, 5:
		w.tracef("fault: mg-%d is wiped", i)
		h.wipe()
	case 6, 7:
		w.tracef("fault: mg-%d is evicted", i)
		h.evict()
	case 8:
		w.tracef("fault: mg-%d is removed by force", i)
		h.remove()
	case 9, 10:
		w.tracef("fault: mg-%d hangs for %v", i, d)
		m.lasts(d, h.hang())
	case 11:
		w.tracef("fault: %s is killed", c.node)
		c.crash(d)
	case 12, 13:
		m.pause(c)
	case 14:
		m.outage(d)
	case 15:
		w.tracef("fault: %s is deaf", c.node)
		c.deaf = true
	case 16:
		m.loseRecord()
	case 17, 18, 19:
		m.operate(d)
	default:
		m.partition(d)
	}
}

// lasts plans the end of a fault, which comes once.
func (m *menace) lasts(d time.Duration, end func()) {
	ended := false
	once := func() {
		if !ended {
			ended = true
			end()
		}
	}
	m.undo = append(m.undo, once)
	m.w.after(d, once)
}

func (m *menace) pause(c *contender) {
	if c.stopped || c.dead {
		return
	}
	d := m.w.between(50*time.Millisecond, 2*controller.Defaults.LeaseDuration)
	m.w.tracef("fault: %s is stopped for %v", c.node, d)
	c.stop()
	m.lasts(d, c.resume)
}

func (m *menace) outage(d time.Duration) {
	m.w.tracef("fault: the API server is away for %v", d)
	m.w.api.down++
	m.w.noteReach()
	m.lasts(d, func() {
		m.w.api.down--
		m.w.noteReach()
	})
}

func (m *menace) partition(d time.Duration) {
	a := node(m.w.rand.IntN(nodes))
	b := node((int(a) + 1 + m.w.rand.IntN(nodes-1)) % nodes)
	if m.w.chance(3) {
		a, b = node(m.w.rand.IntN(contenders)), apiNode // who misses what is decided
	}
	m.w.tracef("fault: %s and %s are cut off from each other for %v", a, b, d)
	m.w.net.change(a, b, 1)
	m.w.noteReach()
	m.lasts(d, func() {
		m.w.net.change(a, b, -1)
		m.w.noteReach()
	})
}

// loseRecord deletes the record, unless it is the only one to tell of its generation:
// nobody could keep to what nobody knows.
func (m *menace) loseRecord() {
	api := m.w.api
	if api.record.Generation == 0 || api.down > 0 || api.told < api.record.Generation || !m.w.chance(4) {
		return
	}
	m.w.tracef("fault: the record is deleted")
	m.recordLost = true
	api.loseRecord()
}

// heal ends all faults.
func (m *menace) heal() {
	m.left = 0
	for _, end := range m.undo {
		end()
	}
	m.undo = nil
}
