package controller

import (
	"context"
	"errors"
	"time"

	"memgraph-controller/memgraph"
)

// Prober asks an instance who it is, over a connection that is kept warm, and
// whether anybody listens on a port; *memgraph.Prober does.
type Prober interface {
	Identify(ctx context.Context, addr string) (memgraph.Identity, error)
	Listens(ctx context.Context, addr string) error
}

// Asker asks an instance the rest; *memgraph.Client does.
type Asker interface {
	Replicas(ctx context.Context, main string) ([]memgraph.Replica, error)
	StorageInfo(ctx context.Context, addr string) (memgraph.StorageInfo, error)
	Version(ctx context.Context, addr string) (memgraph.Version, error)
}

const (
	// askTimeout bounds one question of the routine lane: a thousand times what
	// it takes, and a fifth of what a pod may cost.
	askTimeout = time.Second
	// refusedTwice is the pause before a refused connection is tried again: a
	// single refusal may be chance, two are a process that is gone.
	refusedTwice = 10 * time.Millisecond
	// leftoverTimeout bounds asking a process whose pod is gone: its address may
	// lead nowhere. leftoverAge is for how long it is asked: a kubelet gives it up
	// to its grace period, by default 30 s, and then the address is another's.
	leftoverTimeout = 100 * time.Millisecond
	leftoverAge     = 30 * time.Second
	// storageAge is how old the count of vertices may get. It keeps empty
	// instances apart from full ones, and needs no more; one that was empty is
	// asked every time, since it may have been filled.
	storageAge = 10 * time.Second
)

// identify asks p over prober who it is, within limit; it asks a second time if
// the connection is refused. An attempt that our own context ended tells nothing.
func (c *Controller) identify(ctx context.Context, prober Prober, p memgraph.Pod, limit time.Duration) error {
	id, asked, err := askTwice(ctx, prober, p, limit)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if c.seen.met(p.UID, asked, id, err) {
		c.news.met(p, id, err)
	}
	return err
}

// leftover asks the process that m names who it is, where m's pod is gone, and
// keeps no answer. It returns the zero Pod if nobody answers.
func (c *Controller) leftover(ctx context.Context, m memgraph.Member) memgraph.Pod {
	p := memgraph.Pod{Name: m.Pod, Index: m.Index, UID: m.UID, IP: m.IP}
	defer c.garbage.Add(p.Addr()) // its next answer would be asked for over a new connection
	id, _, err := askTwice(ctx, c.deps.UrgentProber, p, leftoverTimeout)
	if err != nil {
		return memgraph.Pod{}
	}
	p.Instance = memgraph.Instance{Reach: memgraph.Answered, Identity: id}
	return p
}

// askTwice asks once more if the connection is refused, and tells when the attempt
// that counts was begun.
func askTwice(ctx context.Context, prober Prober, p memgraph.Pod, limit time.Duration) (id memgraph.Identity, asked time.Time, err error) {
	asked = time.Now()
	id, err = ask(ctx, prober, p, limit)
	if !errors.Is(err, memgraph.ErrRefused) {
		return id, asked, err
	}
	if err := sleep(ctx, refusedTwice); err != nil {
		return id, asked, err
	}
	asked = time.Now()
	id, err = ask(ctx, prober, p, limit)
	return id, asked, err
}

func ask(ctx context.Context, prober Prober, p memgraph.Pod, limit time.Duration) (memgraph.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return prober.Identify(ctx, p.Addr())
}

// inquire learns what else decisions need of p's instance, which has just been
// identified. What is not answered in time stays as old as it is, which whoever
// decides takes into account: only other failures are returned.
func (c *Controller) inquire(ctx context.Context, p memgraph.Pod) error {
	known := c.seen.of(p.UID)
	s := sample{c: c, pod: p, runID: known.RunID}
	var errs []error
	if known.Role == memgraph.RoleMain {
		errs = append(errs, c.list(ctx, p))
	}
	if known.Storage.Vertices == 0 || time.Since(known.StorageAt) > storageAge {
		errs = append(errs, take(ctx, s, c.deps.Asker.StorageInfo, func(i *memgraph.Instance, info memgraph.StorageInfo) {
			i.Storage, i.StorageAt = info, time.Now()
		}))
	}
	if !known.Version.Known() {
		errs = append(errs, take(ctx, s, c.deps.Asker.Version, func(i *memgraph.Instance, v memgraph.Version) {
			i.Version = v
		}))
	}
	return errors.Join(errs...)
}

// list asks MAIN for its replicas. Of two lists that were asked for at the same
// time the one that was asked for later is kept.
func (c *Controller) list(ctx context.Context, main memgraph.Pod) error {
	asked := time.Now()
	s := sample{c: c, pod: main, runID: c.seen.of(main.UID).RunID}
	defer c.noteNear(main)
	return take(ctx, s, c.deps.Asker.Replicas, func(i *memgraph.Instance, r []memgraph.Replica) {
		if !asked.Before(i.ReplicasAsked) {
			i.List(r, asked, time.Now())
		}
	})
}

// noteNear keeps with each replica what the recorded MAIN said of it: it is needed
// when MAIN, and what it said, are gone. A process that was not known yet when MAIN
// was asked may not be the one that was meant.
func (c *Controller) noteNear(main memgraph.Pod) {
	s := c.snapshot(c.record.latest())
	main.Instance = c.seen.of(main.UID)
	if !main.Is(s.Topology.Main) {
		return
	}
	asked := main.Instance.ReplicasAsked
	for _, p := range s.Pods {
		r, listed := s.Registration(main, p)
		if !listed || !p.Instance.Since.Before(asked) {
			continue
		}
		c.seen.update(p.UID, p.Instance.RunID, func(i *memgraph.Instance) { i.NoteListed(r, asked) })
	}
}

// sample is what a question is asked about: a process in a pod.
type sample struct {
	c     *Controller
	pod   memgraph.Pod
	runID string
}

// take asks one question and keeps the answer with the process it was asked of.
func take[T any](ctx context.Context, s sample, question func(context.Context, string) (T, error), keep func(*memgraph.Instance, T)) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := question(ctx, s.pod.Addr())
	if errors.Is(err, memgraph.ErrUnreachable) {
		return nil
	}
	if err != nil {
		return err
	}
	s.c.seen.update(s.pod.UID, s.runID, func(i *memgraph.Instance) { keep(i, answer) })
	return nil
}
