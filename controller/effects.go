package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// Roles changes what instances are, by their addresses; *memgraph.Client does.
type Roles interface {
	Promote(ctx context.Context, addr string) error
	Demote(ctx context.Context, addr string) error
	SealEpoch(ctx context.Context, addr string) error
}

// Registrations are MAIN's list of replicas; *memgraph.Client changes it.
type Registrations interface {
	Register(ctx context.Context, main string, r memgraph.Registration) error
	Drop(ctx context.Context, main, name string) error
}

// effects turns the steps of both executors into writes and statements, each of them a
// change (invariant 3).
type effects struct {
	c *Controller
	// authority returns why we must not act any more.
	authority func() error
}

var (
	_ failover.Store     = effects{}
	_ failover.Registrar = effects{}
	_ failover.Gateways  = effects{}
	_ reconcile.Runner   = effects{}
	_ reconcile.Evictor  = effects{}
)

// roles is effects as what failover changes roles through.
type roles struct{ effects }

var _ failover.Roles = roles{}

func (e effects) failover() failover.Effects {
	return failover.Effects{Store: e, Roles: roles{e}, Registrar: e, Gateways: e, Sleep: sleep, Leader: e.c.cfg.Identity}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// change makes one write or statement, if generation and lease still give the authority
// to. Nothing is asked in between: the answer could take until they do not.
//
// What is begun with the oldest renewal that counts is over before another can lead.
// Its deadline is set before the lease is looked at, so that a pause of this process
// between the two lets the deadline pass.
func (e effects) change(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, e.c.cfg.LeaseDuration-e.c.cfg.RenewDeadline)
	defer cancel()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := e.authority(); err != nil {
		return err
	}
	return f(ctx)
}

// Park waits for all gateways to hold their clients by the record t, but not for
// longer than they are given.
func (e effects) Park(ctx context.Context, t memgraph.Topology) error {
	return e.c.gateways.await(ctx, t.Revision, e.c.cfg.Settle)
}

// Put writes the record and keeps what was written as the newest.
func (e effects) Put(ctx context.Context, t memgraph.Topology) (written memgraph.Topology, err error) {
	err = e.change(ctx, func(ctx context.Context) (err error) {
		written, err = e.c.store.Put(ctx, t)
		return err
	})
	if err == nil {
		e.c.learn(written)
	}
	return written, err
}

// Promote makes p MAIN, if it is the same process still: while the record was written,
// and gateways were waited for, another may have begun at its address.
func (r roles) Promote(ctx context.Context, p memgraph.Pod) error {
	if err := r.c.identify(ctx, r.c.deps.UrgentProber, p, r.c.cfg.ProbeTimeout); err != nil {
		return fmt.Errorf("promote %s: %w", p.Name, err)
	}
	if err := r.unchanged(p); err != nil {
		return err
	}
	defer r.outdateAt(p.Addr())
	return r.change(ctx, func(ctx context.Context) error { return r.c.deps.Roles.Promote(ctx, p.Addr()) })
}

func (r roles) Demote(ctx context.Context, p memgraph.Pod) error {
	defer r.outdateAt(p.Addr())
	return r.change(ctx, func(ctx context.Context) error { return r.c.deps.Roles.Demote(ctx, p.Addr()) })
}

func (r roles) SealEpoch(ctx context.Context, main memgraph.Pod) error {
	return r.change(ctx, func(ctx context.Context) error { return r.c.deps.Roles.SealEpoch(ctx, main.Addr()) })
}

// unchanged returns an error if p, who has just answered, is another process than when
// it was decided on.
func (e effects) unchanged(p memgraph.Pod) error {
	if e.c.seen.of(p.UID).RunID != p.Instance.RunID {
		return fmt.Errorf("%s has restarted meanwhile", p.Name)
	}
	return nil
}

// Follow registers replica on main, if the same process answers still.
func (e effects) Follow(ctx context.Context, main, replica memgraph.Pod, mode memgraph.SyncMode) error {
	if err := e.Answers(ctx, replica); err != nil {
		return err
	}
	if err := e.unchanged(replica); err != nil {
		return err
	}
	return e.Register(ctx, main, replica, mode)
}

// Replicas is main's list, which is kept for decisions too.
func (e effects) Replicas(ctx context.Context, main memgraph.Pod) ([]memgraph.Replica, error) {
	asked := time.Now()
	if err := e.c.list(ctx, main); err != nil {
		return nil, err
	}
	i := e.c.seen.of(main.UID)
	if i.ReplicasAt.IsZero() || i.ReplicasAsked.Before(asked) {
		return nil, fmt.Errorf("list replicas of %s: %w", main.Name, memgraph.ErrUnreachable)
	}
	return i.Replicas, nil
}

// Demote makes pod a replica. If MAIN lists it already, that is from before it
// lost its data.
func (e effects) Demote(ctx context.Context, pod memgraph.Pod) error {
	if err := (roles{e}).Demote(ctx, pod); err != nil {
		return err
	}
	e.note(pod, func(i *memgraph.Instance) { i.Rejoin = true })
	return nil
}

// Retire is Drop, unless main might not survive it by what is known of the pod
// behind r now.
func (e effects) Retire(ctx context.Context, main memgraph.Pod, r memgraph.Replica) error {
	if !e.c.snapshot(e.c.record.latest()).Droppable(r) {
		return fmt.Errorf("retire %s, which is %s: %w", r.Name, r.Status, memgraph.ErrUnsafe)
	}
	return e.Drop(ctx, main, r.Name)
}

// Drop unregisters a replica of main, unless main is sending it anything at this
// moment: an async replica goes in and out of recovery under load, and DROP of one
// that recovers kills MAIN (observed on 3.7.2 and 3.12.0).
func (e effects) Drop(ctx context.Context, main memgraph.Pod, replica string) error {
	listed, err := e.ask(ctx, main)
	if err != nil {
		return err
	}
	for _, r := range listed {
		if r.Name == replica && r.Busy() {
			return fmt.Errorf("drop %s, which is %s: %w", replica, r.Status, memgraph.ErrUnsafe)
		}
	}
	defer e.unlist(main, replica)
	return e.change(ctx, func(ctx context.Context) error { return e.c.deps.Registrations.Drop(ctx, main.Addr(), replica) })
}

// ask is main's list, which nobody else is told of.
func (e effects) ask(ctx context.Context, main memgraph.Pod) ([]memgraph.Replica, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	return e.c.deps.Asker.Replicas(ctx, main.Addr())
}

// unlist has no list of main's count that was asked for before now: the replica's
// registration has been changed.
func (e effects) unlist(main memgraph.Pod, replica string) {
	e.note(main, func(i *memgraph.Instance) { i.Unlist(replica, time.Now()) })
}

// outdateAt has no list of the pod at addr count that was asked for before now.
func (e effects) outdateAt(addr string) {
	for _, p := range e.c.pods() {
		if p.Addr() == addr {
			e.note(p, func(i *memgraph.Instance) { i.Outdate(time.Now()) })
		}
	}
}

// Evict deletes pod, if it is still the same, for another to come in its place.
func (e effects) Evict(ctx context.Context, main, pod memgraph.Pod, replica string) error {
	err := e.deletePod(ctx, pod, nil)
	if err == nil {
		e.note(main, func(i *memgraph.Instance) { i.NoteEvicted(replica, pod.UID) })
	}
	return err
}

// Register has main take pod as its replica. What a refused registration leaves
// behind is dropped, and a pod that has diverged is noted as such: only other
// data heals it.
func (e effects) Register(ctx context.Context, main, pod memgraph.Pod, mode memgraph.SyncMode) error {
	r := memgraph.Registration{Name: memgraph.ReplicaName(pod.Name), Mode: mode, Address: e.address(pod)}
	ended := e.c.seen.blocking.begin(main.Addr())
	err := e.change(ctx, func(ctx context.Context) error { return e.c.deps.Registrations.Register(ctx, main.Addr(), r) })
	ended(err)
	e.unlist(main, r.Name)
	switch {
	case err == nil:
		e.note(pod, func(i *memgraph.Instance) {
			// Only a MAIN whose epoch is sealed is tried on one that had diverged.
			i.Rejoin, i.Diverged = false, false
			i.StorageAt = time.Time{} // its database may be MAIN's now
		})
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
	e.c.seen.update(pod.UID, e.c.seen.of(pod.UID).RunID, change)
}

// Answers makes sure that pod is a replica, and that somebody listens where MAIN
// will look for it, by its name too. Towards one that does not answer REGISTER blocks
// MAIN for 5 to 10 s.
func (e effects) Answers(ctx context.Context, pod memgraph.Pod) error {
	if err := e.c.identify(ctx, e.c.deps.Prober, pod, e.c.cfg.ProbeTimeout); err != nil {
		return err
	}
	if role := e.c.seen.of(pod.UID).Role; role != memgraph.RoleReplica {
		return fmt.Errorf("%s is %s, wanted a replica", pod.Name, role)
	}
	ctx, cancel := context.WithTimeout(ctx, e.c.cfg.ProbeTimeout)
	defer cancel()
	if err := e.leads(ctx, pod); err != nil {
		return err
	}
	err := e.c.deps.Prober.Listens(ctx, pod.ReplicationAddr())
	e.note(pod, func(i *memgraph.Instance) {
		before := i.DeafSince
		i.DeafSince, i.DeafAt = time.Time{}, time.Time{}
		if errors.Is(err, memgraph.ErrRefused) {
			i.DeafAt = time.Now()
			i.DeafSince = cmp.Or(before, i.DeafAt)
		}
	})
	return err
}

// leads returns an error if MAIN is told a name that leads to another than pod: caches
// of DNS keep the address of the pod before for some seconds. A name that is not known
// here, as nowhere outside of the cluster, may be known to MAIN, which is inside: where
// it is not, REGISTER is refused at once.
func (e effects) leads(ctx context.Context, pod memgraph.Pod) error {
	if !e.named(pod) {
		return nil
	}
	addrs, err := e.c.deps.Resolve(ctx, pod.Host)
	var failed *net.DNSError
	switch {
	case errors.As(err, &failed) && failed.IsNotFound:
		return nil
	case err != nil:
		return fmt.Errorf("look up where MAIN would find %s (--register-by=ip does without): %w", pod.Name, err)
	case !slices.Contains(addrs, pod.IP):
		return fmt.Errorf("%s leads to %s still, and %s is at %s", pod.Host, strings.Join(addrs, " and "), pod.Name, pod.IP)
	}
	return nil
}

// address is where MAIN is told to find pod.
func (e effects) address(pod memgraph.Pod) string {
	if e.named(pod) {
		return net.JoinHostPort(pod.Host, strconv.Itoa(memgraph.ReplicationPort))
	}
	return pod.ReplicationAddr()
}

// named reports whether MAIN is told pod's name, and not its address.
func (e effects) named(pod memgraph.Pod) bool { return e.c.cfg.RegisterBy == ByName && pod.Host != "" }
