package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// Registrations are MAIN's list of replicas; *memgraph.Client changes it.
type Registrations interface {
	Register(ctx context.Context, main string, r memgraph.Registration) error
	Drop(ctx context.Context, main, name string) error
}

// effects turns steps into statements. It is what both executors act through.
type effects struct{ c *Controller }

var (
	_ failover.Registrar = effects{}
	_ failover.Store     = effects{}
	_ reconcile.Runner   = effects{}
)

func (t *term) effects() effects { return effects{t.c} }

func (t *term) failoverEffects() failover.Effects {
	e := t.effects()
	return failover.Effects{
		Store: e, Roles: t.c.deps.Roles, Registrar: e, Switch: t.c.deps.Switch,
		Settle: t.c.cfg.Settle, Leader: t.c.cfg.Identity,
	}
}

// Put writes the record and keeps what was written as the newest.
func (e effects) Put(ctx context.Context, t memgraph.Topology) (memgraph.Topology, error) {
	written, err := e.c.store.Put(ctx, t)
	if err != nil {
		return memgraph.Topology{}, err
	}
	e.c.learn(written)
	return written, nil
}

// Follow registers replica on main as async.
func (e effects) Follow(ctx context.Context, main, replica memgraph.Pod) error {
	return e.Register(ctx, main, replica, memgraph.Async)
}

// Demote makes pod a replica.
func (e effects) Demote(ctx context.Context, pod memgraph.Pod) error {
	return e.c.deps.Roles.Demote(ctx, pod.Addr())
}

// Drop unregisters a replica of main.
func (e effects) Drop(ctx context.Context, main memgraph.Pod, replica string) error {
	return e.c.deps.Registrations.Drop(ctx, main.Addr(), replica)
}

// Register has main take pod as its replica, having asked pod just before. What
// a refused registration leaves behind is dropped, and a pod that has diverged
// is noted as such: only other data heals it.
func (e effects) Register(ctx context.Context, main, pod memgraph.Pod, mode memgraph.SyncMode) error {
	if err := e.answers(ctx, pod); err != nil {
		return fmt.Errorf("register %s: %w", pod.Name, err)
	}
	r := memgraph.Registration{Name: memgraph.ReplicaName(pod.Name), Mode: mode, Address: e.address(pod)}
	err := e.c.deps.Registrations.Register(ctx, main.Addr(), r)
	if errors.Is(err, memgraph.ErrDiverged) {
		e.c.seen.update(pod.UID, e.c.seen.of(pod.UID).RunID, func(i *memgraph.Instance) { i.Diverged = true })
	}
	if errors.Is(err, memgraph.ErrDiverged) || errors.Is(err, memgraph.ErrNotAccepted) {
		err = errors.Join(err, e.Drop(ctx, main, r.Name))
	}
	return err
}

// answers makes sure that pod is a replica that listens for a MAIN. Towards one
// that does not, REGISTER would block MAIN for 5 to 10 s.
func (e effects) answers(ctx context.Context, pod memgraph.Pod) error {
	if err := e.c.identify(ctx, pod, e.c.cfg.ProbeTimeout); err != nil {
		return err
	}
	if role := e.c.seen.of(pod.UID).Role; role != memgraph.RoleReplica {
		return fmt.Errorf("it is %s", role)
	}
	ctx, cancel := context.WithTimeout(ctx, e.c.cfg.ProbeTimeout)
	defer cancel()
	return e.c.deps.Prober.Listens(ctx, pod.ReplicationAddr())
}

// address is where MAIN is told to find pod.
func (e effects) address(pod memgraph.Pod) string {
	if e.c.cfg.RegisterBy == ByName && pod.Host != "" {
		return net.JoinHostPort(pod.Host, strconv.Itoa(memgraph.ReplicationPort))
	}
	return pod.ReplicationAddr()
}
