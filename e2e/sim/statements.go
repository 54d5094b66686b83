package sim

import (
	"context"
	"errors"
	"time"

	"memgraph-controller/memgraph"
)

// reached waits until a message arrives at addr, and tells what it comes to with
// the client's errors. A process that is stopped gets it all the same; that is
// what late is for.
func (c *contender) reached(addr string, deadline time.Duration, late func(*process)) (*process, error) {
	if c.s.now > deadline {
		return nil, memgraph.ErrUnreachable // a pause does not stop the clock
	}
	c.s.sleep(c.w.latency()) // what is sent arrives, whether or not its sender goes on
	p, reach := c.w.dial(c.node, addr)
	switch reach {
	case memgraph.Answered:
		return p, nil
	case memgraph.Refused:
		return nil, memgraph.ErrRefused
	}
	if p != nil {
		late(p)
	}
	return nil, c.unanswered(deadline)
}

// unanswered waits in vain.
func (c *contender) unanswered(deadline time.Duration) error {
	return errors.Join(c.sleep(max(0, deadline-c.s.now)), memgraph.ErrUnreachable)
}

// answered brings an answer back.
func (c *contender) answered(p *process, deadline time.Duration) error {
	if err := c.sleep(c.w.latency()); err != nil {
		return err
	}
	if p.dead {
		return memgraph.ErrUnreachable
	}
	if c.w.net.cut(c.node, mgNode(p.index)) {
		return c.unanswered(deadline)
	}
	return nil
}

// ask has f read from the instance at addr, once no statement keeps it waiting.
func (c *contender) ask(addr string, deadline time.Duration, f func(*process)) error {
	defer c.waits(addr)()
	p, err := c.reached(addr, deadline, func(*process) {})
	if err != nil {
		return err
	}
	for p.exclusive && !p.dead {
		if c.s.now >= deadline {
			return memgraph.ErrUnreachable
		}
		if err := c.sleep(min(20*time.Millisecond, deadline-c.s.now+1)); err != nil {
			return err
		}
	}
	if p.dead || p.stopped {
		return c.unanswered(deadline)
	}
	f(p)
	return c.answered(p, deadline)
}

// send has the instance at addr obey f. An instance that does not answer may do
// so nevertheless, and a stopped one once it goes on.
func (c *contender) send(addr string, deadline time.Duration, f func(*process) error) error {
	p, err := c.reached(addr, deadline, func(p *process) {
		if c.w.chance(2) {
			p.after(0, func() { c.s.spawn(func() { _ = f(p) }) })
		}
	})
	if err != nil {
		return err
	}
	r := &result{s: c.s}
	c.s.spawn(func() { r.set(f(p)) })
	came := r.within(deadline)
	if err := c.goesOn(); err != nil {
		return err
	}
	if !came || errors.Is(r.err, errDead) {
		return memgraph.ErrUnreachable
	}
	if err := c.answered(p, deadline); err != nil {
		return err
	}
	return r.err
}

func (c *contender) promote(ctx context.Context, addr string, deadline time.Duration) error {
	c.w.changesRole(c, addr, memgraph.RoleMain)
	return c.setRole(ctx, addr, deadline, memgraph.RoleMain)
}

func (c *contender) demote(ctx context.Context, addr string, deadline time.Duration) error {
	c.w.changesRole(c, addr, memgraph.RoleReplica)
	return c.setRole(ctx, addr, deadline, memgraph.RoleReplica)
}

// setRole mirrors memgraph.Client's: it reads before and after.
func (c *contender) setRole(ctx context.Context, addr string, deadline time.Duration, want memgraph.Role) error {
	defer c.waits(addr)()
	set := map[memgraph.Role]func(*process) error{memgraph.RoleMain: (*process).setMain, memgraph.RoleReplica: (*process).setReplica}[want]
	is := func() (role memgraph.Role, err error) {
		err = c.ask(addr, deadline, func(p *process) { role = p.vol.role })
		return role, err
	}
	if role, err := is(); err != nil || role == want {
		return err
	}
	return c.whileBusy(ctx, deadline, func() error {
		failed := c.send(addr, deadline, set)
		if failed == nil {
			return nil
		}
		if role, err := is(); err == nil && role == want {
			return nil
		}
		return failed
	})
}

// register mirrors memgraph.Client's: the same registration counts as done.
func (c *contender) register(ctx context.Context, main string, r memgraph.Registration, deadline time.Duration) error {
	defer c.waits(main)()
	return c.whileBusy(ctx, deadline, func() error {
		err := c.send(main, deadline, func(p *process) error { return p.register(r) })
		if !errors.Is(err, memgraph.ErrNameTaken) && !errors.Is(err, memgraph.ErrUnreachable) {
			return err
		}
		same := false
		listed := c.ask(main, deadline, func(p *process) {
			for _, m := range p.members {
				same = same || m.live && m.name == r.Name && m.addr == r.Address && m.mode == r.Mode
			}
		})
		if listed == nil && same {
			return nil
		}
		return err
	})
}

// whileBusy repeats f while the instance is busy, unless that is superseded.
func (c *contender) whileBusy(ctx context.Context, deadline time.Duration, f func() error) error {
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 40*time.Millisecond) {
		if errors.Is(ctx.Err(), context.Canceled) {
			return context.Cause(ctx)
		}
		err := f()
		if !errors.Is(err, memgraph.ErrBusy) || c.s.now+pause > deadline {
			return err
		}
		if err := c.sleep(pause); err != nil {
			return err
		}
	}
}

// identify asks a pod who it is, and again if it refuses.
func (c *contender) identify(ctx context.Context, p memgraph.Pod, limit time.Duration) error {
	defer c.waits(p.Addr())()
	asked := c.w.clock()
	id, err := c.whoIs(p, c.soon(ctx, limit))
	if errors.Is(err, memgraph.ErrRefused) {
		if err := c.sleep(10 * time.Millisecond); err != nil {
			return err
		}
		asked = c.w.clock()
		id, err = c.whoIs(p, c.soon(ctx, limit))
	}
	switch {
	case c.dead:
		return errDead
	case c.s.now >= until(ctx):
		return context.DeadlineExceeded
	}
	c.met(p.UID, asked, id, err)
	return err
}

func (c *contender) whoIs(p memgraph.Pod, deadline time.Duration) (id memgraph.Identity, err error) {
	err = c.ask(p.Addr(), deadline, func(p *process) { id = memgraph.Identity{Role: p.vol.role, RunID: p.runID} })
	return id, err
}

// inquire learns what else decisions need of an instance.
func (c *contender) inquire(ctx context.Context, p memgraph.Pod) error {
	known := c.seen[p.UID]
	if known.Role == memgraph.RoleMain {
		if err := c.listReplicas(ctx, p); err != nil {
			return err
		}
	}
	old := known.Storage.Vertices == 0 || c.w.clock().Sub(known.StorageAt) > storageAge
	if !old && known.Version.Known() {
		return nil
	}
	var info memgraph.StorageInfo
	err := c.ask(p.Addr(), c.soon(ctx, askTimeout), func(p *process) {
		info = memgraph.StorageInfo{Vertices: int64(p.vol.data.count()), Database: p.vol.database}
	})
	if err == nil {
		c.update(p.UID, known.RunID, func(i *memgraph.Instance) {
			i.Storage, i.StorageAt, i.Version = info, c.w.clock(), c.w.version
		})
	}
	return unlessUnreachable(err)
}

// listReplicas asks MAIN for its replicas.
func (c *contender) listReplicas(ctx context.Context, main memgraph.Pod) error {
	asked, runID := c.w.clock(), c.seen[main.UID].RunID
	var rows []memgraph.Replica
	isMain := false
	err := c.ask(main.Addr(), c.soon(ctx, askTimeout), func(p *process) { rows, isMain = p.replicas(), p.is(memgraph.RoleMain) })
	if err != nil {
		return unlessUnreachable(err)
	}
	if !isMain {
		return memgraph.ErrNotMain
	}
	c.update(main.UID, runID, func(i *memgraph.Instance) {
		if !asked.Before(i.ReplicasAsked) {
			i.List(rows, asked, c.w.clock())
		}
	})
	c.noteNear(main)
	return nil
}

// noteNear mirrors controller's: what the recorded MAIN says is kept with each
// replica.
func (c *contender) noteNear(main memgraph.Pod) {
	s := c.snapshot(c.record)
	main.Instance = c.seen[main.UID]
	if !main.Is(s.Topology.Main) {
		return
	}
	asked := main.Instance.ReplicasAsked
	for _, p := range s.Pods {
		r, listed := s.Registration(main, p)
		if !listed || !p.Instance.Since.Before(asked) {
			continue
		}
		c.update(p.UID, p.Instance.RunID, func(i *memgraph.Instance) { i.NoteListed(r, asked) })
	}
}

func unlessUnreachable(err error) error {
	if errors.Is(err, memgraph.ErrUnreachable) {
		return nil
	}
	return err
}

// update and met mirror controller's observations.
func (c *contender) update(uid, runID string, change func(*memgraph.Instance)) {
	i := c.seen[uid]
	if i.RunID == runID {
		change(&i)
		c.seen[uid] = i
	}
}

func (c *contender) met(uid string, asked time.Time, id memgraph.Identity, err error) {
	i := c.seen[uid]
	if asked.Before(i.Asked) {
		return
	}
	is := memgraph.Silent
	switch {
	case err == nil:
		is = memgraph.Answered
	case errors.Is(err, memgraph.ErrRefused):
		is = memgraph.Refused
	}
	changed := i.Reach != is
	if err == nil && id != i.Identity {
		changed = true
		if id.RunID != i.RunID {
			i = memgraph.Instance{}
		}
		i.Identity, i.StorageAt = id, time.Time{}
		i.Outdate(asked)
	}
	if changed {
		i.Since = asked
	}
	i.Asked, i.Reach = asked, is
	c.seen[uid] = i
}
