package sim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"memgraph-controller/controller"
	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// effects mirrors controller's: it turns the steps of both executors into
// requests and statements, each only while the lease gives the authority to.
type effects struct{ t *term }

// roles is effects as what failover changes roles through.
type roles struct{ effects }

var (
	_ failover.Store     = effects{}
	_ failover.Registrar = effects{}
	_ failover.Gateways  = effects{}
	_ failover.Roles     = roles{}
	_ reconcile.Runner   = effects{}
	_ reconcile.Evictor  = effects{}
)

// deadline of a statement: ctx's, or when what was begun with the oldest renewal that
// counts has to be over. It counts from before the lease is looked at: a pause after
// that lets it pass.
func (e effects) deadline(ctx context.Context) time.Duration {
	return e.t.c.soon(ctx, controller.Defaults.LeaseDuration-controller.Defaults.RenewDeadline)
}

// authority returns why we must not act any more.
func (e effects) authority(what string) error {
	c := e.t.c
	if err := c.goesOn(); err != nil {
		return err
	}
	valid := c.valid()
	if valid != nil && !c.w.bug.anyAuthority {
		return valid
	}
	c.w.act(what, atDeed, c.struck)
	if err := c.goesOn(); err != nil {
		return err
	}
	if valid = c.valid(); valid != nil && !c.w.bug.anyAuthority {
		return valid
	}
	c.w.acts(c, what)
	return nil
}

func (e effects) Put(_ context.Context, t memgraph.Topology) (memgraph.Topology, error) {
	if err := e.authority("put"); err != nil {
		return memgraph.Topology{}, err
	}
	c := e.t.c
	if c.w.bug.beforePut != nil {
		c.w.bug.beforePut(e, &t)
	}
	c.w.act("send", atDeed, c.struck)
	if err := c.goesOn(); err != nil {
		return memgraph.Topology{}, err
	}
	was := t
	err := c.request(func() (err error) {
		defer c.w.act("put done", atDeed, c.struck)
		if c.w.bug.blindPut {
			t.Revision = c.w.api.record.Revision
		}
		t, err = c.w.api.put(c, t)
		return err
	})
	if c.w.bug.offline && errors.Is(err, errNoAPI) {
		return was, nil
	}
	if err != nil {
		return memgraph.Topology{}, err
	}
	c.learn(t)
	return t, nil
}

func (r roles) Promote(ctx context.Context, p memgraph.Pod) error {
	if err := r.t.c.identify(ctx, p, controller.Defaults.ProbeTimeout); err != nil {
		return err
	}
	if r.t.c.seen[p.UID].RunID != p.Instance.RunID {
		return fmt.Errorf("%s has restarted meanwhile", p.Name)
	}
	deadline := r.deadline(ctx)
	if err := r.authority("promote"); err != nil {
		return err
	}
	defer r.outdateAt(p.Addr())
	return r.t.c.promote(ctx, p.Addr(), deadline)
}

func (r roles) Demote(ctx context.Context, p memgraph.Pod) error {
	deadline := r.deadline(ctx)
	if err := r.authority("demote"); err != nil {
		return err
	}
	defer r.outdateAt(p.Addr())
	return r.t.c.demote(ctx, p.Addr(), deadline)
}

func (r roles) SealEpoch(ctx context.Context, main memgraph.Pod) error {
	deadline := r.deadline(ctx)
	if err := r.authority("seal"); err != nil {
		return err
	}
	if r.t.c.w.bug.unsealed {
		return nil
	}
	err := r.t.c.send(main.Addr(), deadline, func(p *process) error { return p.commit(none) })
	if errors.Is(err, errMissed) {
		return nil // as memgraph.Client takes it
	}
	return err
}

func (e effects) Follow(ctx context.Context, main, replica memgraph.Pod, mode memgraph.SyncMode) error {
	if err := e.Answers(ctx, replica); err != nil {
		return err
	}
	if e.t.c.seen[replica.UID].RunID != replica.Instance.RunID {
		return fmt.Errorf("%s has restarted meanwhile", replica.Name)
	}
	return e.Register(ctx, main, replica, mode)
}

// Park waits for the gateways that live to hold their clients, with nothing under
// way; each tells of that a little later.
func (e effects) Park(ctx context.Context, t memgraph.Topology) error {
	c := e.t.c
	for late := c.soon(ctx, controller.Defaults.Settle); c.s.now < late && !c.w.parked(t); {
		if err := c.sleep(parkPoll); err != nil {
			return err
		}
	}
	return c.sleep(c.w.latency())
}

// parkPoll is between two looks at who holds clients.
const parkPoll = 2 * time.Millisecond

// parked tells whether every gateway holds its clients by t. One that is stopped
// has not told of it.
func (w *world) parked(t memgraph.Topology) bool {
	for _, c := range w.ctls {
		if c.dead {
			continue
		}
		if c.stopped || !c.gate.held || c.record.Revision != t.Revision || c.gate.writing > 0 {
			return false
		}
	}
	return true
}

func (e effects) pause(ctx context.Context, d time.Duration) error {
	c := e.t.c
	if rest := until(ctx) - c.s.now; rest < d {
		return errors.Join(c.sleep(max(0, rest)), context.DeadlineExceeded)
	}
	return c.sleep(d)
}

func (e effects) Replicas(ctx context.Context, main memgraph.Pod) ([]memgraph.Replica, error) {
	asked := e.t.c.w.clock()
	if err := e.t.c.listReplicas(ctx, main); err != nil {
		return nil, err
	}
	i := e.t.c.seen[main.UID]
	if i.ReplicasAt.IsZero() || i.ReplicasAsked.Before(asked) {
		return nil, memgraph.ErrUnreachable
	}
	if e.t.c.w.bug.readyAtOnce {
		return readily(i.Replicas), nil
	}
	return i.Replicas, nil
}

func (e effects) Demote(ctx context.Context, pod memgraph.Pod) error {
	if err := (roles{e}).Demote(ctx, pod); err != nil {
		return err
	}
	e.note(pod, func(i *memgraph.Instance) { i.Rejoin = true })
	return nil
}

func (e effects) outdateAt(addr string) {
	for _, p := range e.t.c.pods {
		if p != nil && p.Addr() == addr {
			e.note(*p, func(i *memgraph.Instance) { i.Outdate(e.t.c.w.clock()) })
		}
	}
}

func (e effects) Retire(ctx context.Context, main memgraph.Pod, r memgraph.Replica) error {
	if !e.t.c.snapshot(e.t.c.record).Droppable(r) {
		return memgraph.ErrUnsafe
	}
	return e.Drop(ctx, main, r.Name)
}

func (e effects) Evict(_ context.Context, main, pod memgraph.Pod, replica string) error {
	if err := e.authority("evict"); err != nil {
		return err
	}
	return e.t.c.request(func() error {
		if h := e.t.c.w.hosts[pod.Index]; h.uid == pod.UID {
			h.evict()
			e.note(main, func(i *memgraph.Instance) { i.NoteEvicted(replica, pod.UID) })
		}
		return nil
	})
}

func (e effects) Drop(ctx context.Context, main memgraph.Pod, replica string) error {
	defer e.t.c.waits(main.Addr())()
	if err := e.quiet(ctx, main, replica); err != nil {
		return err
	}
	deadline := e.deadline(ctx)
	if err := e.authority("drop"); err != nil {
		return err
	}
	defer e.unlist(main, replica)
	return e.t.c.whileBusy(ctx, deadline, func() error {
		return e.t.c.send(main.Addr(), deadline, func(p *process) error { return p.drop(replica) })
	})
}

// quiet makes sure that main survives the drop of the replica at this moment.
func (e effects) quiet(ctx context.Context, main memgraph.Pod, replica string) error {
	var listed []memgraph.Replica
	if err := e.t.c.ask(main.Addr(), e.t.c.soon(ctx, askTimeout), func(p *process) { listed = p.replicas() }); err != nil {
		return err
	}
	for _, r := range listed {
		if r.Name == replica && r.Busy() {
			return memgraph.ErrUnsafe
		}
	}
	return nil
}

// unlist has no list of main's count that was asked for before now: the replica's
// registration has been changed.
func (e effects) unlist(main memgraph.Pod, replica string) {
	e.note(main, func(i *memgraph.Instance) { i.Unlist(replica, e.t.c.w.clock()) })
}

func (e effects) Register(ctx context.Context, main, pod memgraph.Pod, mode memgraph.SyncMode) error {
	if e.t.c.w.bug.asksInTurn {
		_ = e.Answers(ctx, pod)
	}
	deadline := e.deadline(ctx)
	if err := e.authority("register"); err != nil {
		return err
	}
	r := memgraph.Registration{
		Name: memgraph.ReplicaName(pod.Name), Mode: mode,
		Address: net.JoinHostPort(pod.Host, strconv.Itoa(memgraph.ReplicationPort)),
	}
	err := e.t.c.register(ctx, main.Addr(), r, deadline)
	e.unlist(main, r.Name)
	switch {
	case err == nil:
		e.note(pod, func(i *memgraph.Instance) { i.Rejoin, i.Diverged, i.StorageAt = false, false, time.Time{} })
	case errors.Is(err, memgraph.ErrDiverged):
		e.note(pod, func(i *memgraph.Instance) { i.Diverged = true })
		fallthrough
	case errors.Is(err, memgraph.ErrNotAccepted):
		err = errors.Join(err, e.Drop(ctx, main, r.Name))
	}
	return err
}

// note changes what is known of the process in pod.
func (e effects) note(pod memgraph.Pod, change func(*memgraph.Instance)) {
	c := e.t.c
	c.update(pod.UID, c.seen[pod.UID].RunID, change)
}

func (e effects) Answers(ctx context.Context, pod memgraph.Pod) error {
	c := e.t.c
	if err := c.identify(ctx, pod, controller.Defaults.ProbeTimeout); err != nil {
		return err
	}
	if role := c.seen[pod.UID].Role; role != memgraph.RoleReplica {
		return fmt.Errorf("%s is %s, wanted a replica", pod.Name, role)
	}
	return nil
}
