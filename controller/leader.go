package controller

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// errLeaseStale ends a term whose lease was not renewed in time, whether or not
// the election has noticed.
var errLeaseStale = errors.New("lease was not renewed in time")

// LeaseName is the Lease that the controllers of a StatefulSet compete for.
func LeaseName(statefulSet string) string { return statefulSet + "-controller" }

// Lead campaigns until ctx ends, over again whenever the lease is lost, while Run
// watches. It returns once the last term has ended and the lease is released.
func (c *Controller) Lead(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-c.synced:
	}
	for ctx.Err() == nil {
		c.campaign(ctx)
	}
}

// onLeadership notes that the lease was released.
func (c *Controller) onLeadership(obj any) {
	l, ok := obj.(*coordinationv1.Lease)
	if !ok || l.Name != LeaseName(c.cfg.StatefulSet) || l.Spec.HolderIdentity != nil && *l.Spec.HolderIdentity != "" {
		return
	}
	select {
	case c.vacancy <- struct{}{}:
	default: // one is enough
	}
}

// campaign competes for the lease, works while it is held, and returns when it
// is lost or ctx has ended. The lease is released only after the term's last
// statement: work ends with ctx, and the election with the work.
func (c *Controller) campaign(ctx context.Context) {
	election, release := context.WithCancel(context.WithoutCancel(ctx))
	defer release()
	lock := c.newLock()
	ended := make(chan struct{})
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock:          lock,
		LeaseDuration: c.cfg.LeaseDuration, RenewDeadline: c.cfg.RenewDeadline, RetryPeriod: c.cfg.RetryPeriod,
		ReleaseOnCancel: true, Name: LeaseName(c.cfg.StatefulSet),
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(leading context.Context) {
				defer close(ended)
				defer release()
				c.work(ctx, leading, lock)
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		panic(err) // New has validated what this checks
	}
	var watcher sync.WaitGroup
	watcher.Go(func() { c.giveUp(ctx, election, lock, release) })
	elector.Run(election)
	release()
	watcher.Wait()
	if lock.acquired() {
		<-ended
	}
}

// giveUp releases a campaign that nobody works for, once ctx ends, and once the lease
// was released: the next campaign begins with an attempt at it, where this one would
// come to that after up to 2.2 times RetryPeriod.
func (c *Controller) giveUp(ctx, election context.Context, lock *lock, release func()) {
	select {
	case <-election.Done():
		return
	case <-ctx.Done():
	case <-c.vacancy:
	}
	if !lock.acquired() {
		release()
	}
}

// work is one term: it ends with ctx, with the election, or once the lease has
// gone unrenewed for as long as the election promises to notice.
func (c *Controller) work(ctx, leading context.Context, lock *lock) {
	authority, end := context.WithCancelCause(leading)
	defer end(nil)
	defer lock.onExpiry(func() { end(errLeaseStale) })()

	c.deps.Log.Info("leading", "cluster", c.cfg.StatefulSet, "identity", c.cfg.Identity)
	c.metrics.leading.Set(1)
	c.runTerm(ctx, authority, lock.valid)
	c.metrics.leading.Set(0)
	c.metrics.blocked.Set(0) // the next leader's to say
	c.metrics.lacking.Set(0)
	c.deps.Log.Info("no longer leading", "cluster", c.cfg.StatefulSet, "reason", cmp.Or(context.Cause(authority), context.Cause(ctx)).Error())
}

// lock is the Lease, with an eye on when it was last renewed.
type lock struct {
	resourcelock.Interface
	limit time.Duration // how long a renewal gives authority

	mu      sync.Mutex
	won     bool
	renewed time.Time // when the last successful renewal was begun
	expiry  *time.Timer
}

func (c *Controller) newLock() *lock {
	return &lock{limit: c.cfg.RenewDeadline, Interface: &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: c.cfg.Namespace, Name: LeaseName(c.cfg.StatefulSet)},
		Client:     c.deps.Urgent.CoordinationV1(),
		LockConfig: resourcelock.ResourceLockConfig{Identity: c.cfg.Identity},
	}}
}

// Create and Update are how the election acquires, renews and releases.
func (l *lock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return l.renew(func() error { return l.Interface.Create(ctx, r) })
}

func (l *lock) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	if r.HolderIdentity == "" {
		return l.release(func() error { return l.Interface.Update(ctx, r) })
	}
	return l.renew(func() error { return l.Interface.Update(ctx, r) })
}

// release gives the lease up only while it is ours for sure. The election reads it
// anew before it clears it, but does not look whose it is by then: after a pause it
// would clear that of the next leader, who would not know for seconds. Source:
// client-go v0.37.2 leaderelection.go:326-348.
func (l *lock) release(write func() error) error {
	if err := l.valid(); err != nil {
		return err
	}
	return write()
}

// RecordEvent is how the election says that it was won, before it says so to
// the callbacks.
func (l *lock) RecordEvent(string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.won = true
}

func (l *lock) acquired() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.won
}

// renew counts from when the write was sent: the others count from when it was
// stored, which is later.
func (l *lock) renew(write func() error) error {
	begun := time.Now()
	if err := write(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewed = begun
	if l.expiry != nil {
		l.expiry.Reset(time.Until(begun.Add(l.limit)))
	}
	return nil
}

// valid returns errLeaseStale once the last renewal is older than the limit. It
// reads the clock, and so knows of a pause before any timer does.
func (l *lock) valid() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.renewed) > l.limit {
		return errLeaseStale
	}
	return nil
}

// onExpiry calls f once the last renewal is older than the limit, until stop.
func (l *lock) onExpiry(f func()) (stop func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expiry = time.AfterFunc(time.Until(l.renewed.Add(l.limit)), f)
	return func() { l.expiry.Stop() }
}
