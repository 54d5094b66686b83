package sim

import (
	"time"

	"memgraph-controller/memgraph"
)

const (
	// clientPatience is how long a client waits for its turn, and again for an
	// answer.
	clientPatience = 2 * time.Second
	// clientPause lies between two writes, at most.
	clientPause = 400 * time.Millisecond
)

// client writes, one write after the other, until the world is quiet, and
// remembers what was acknowledged.
func (w *world) client(n int) {
	for {
		w.sleep(w.between(5*time.Millisecond, clientPause))
		if w.quiet || w.ledger.begun == maxWrites {
			return
		}
		c := w.ctls[n%contenders]
		if c.dead {
			continue
		}
		write := w.ledger.begun
		w.ledger.begun++
		w.write(c, write)
	}
}

// write sends one write through c's gateway. Where it is not acknowledged it may
// have been done all the same.
func (w *world) write(c *contender, id int) {
	main := c.gate.admit(clientPatience)
	if main == nil {
		return
	}
	began := w.now
	c.gate.writing++
	defer func() { c.gate.writing-- }()
	w.sleep(w.latency())
	p, reach := w.dial(c.node, main.addr)
	if reach != memgraph.Answered || p.runID != main.runID {
		if p != nil && p.runID == main.runID && !w.net.cut(c.node, mgNode(p.index)) {
			p.after(0, func() { w.spawn(func() { _ = p.commit(id) }) })
		}
		return
	}
	r := &result{s: w.scheduler}
	w.spawn(func() { r.set(p.commit(id)) })
	if !r.within(w.now+clientPatience) || r.err != nil {
		if r.err == errForbidden {
			w.ledger.forbidden++
			c.gate.doubt(main, began)
		}
		return
	}
	w.sleep(w.latency())
	if !c.dead && !c.stopped && c.gate.main == main && !w.net.cut(c.node, mgNode(p.index)) {
		w.acknowledged(c, p, main, id)
	}
}
