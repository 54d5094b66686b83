package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	coordinationclient "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/cache"

	"memgraph-controller/memgraph"
)

const (
	// gatewayOf labels the Leases by which gateways say that they are there; their
	// annotation quietAt is the revision of the record by which one holds its
	// clients, with nothing under way, and generationSeen the highest that it obeys:
	// a record that is derived anew by somebody who saw none goes above.
	gatewayOf      = "memgraph-controller/gateway-of"
	quietAt        = "memgraph-controller/quiet-at"
	generationSeen = "memgraph-controller/generation-seen"
	// attendEvery is between two renewals, and attendFor how long one lasts: a
	// gateway that died is waited for in every change of MAIN until then.
	attendEvery = 3 * time.Second
	attendFor   = 10 * time.Second
	// forgetAfter is when the Lease of a gateway that died is deleted.
	forgetAfter = 10 * time.Minute
	// quietTimeout bounds the wait for commits under way, and attendTimeout the request
	// after it. Both together leave time for the next renewal.
	quietTimeout, attendTimeout = 2 * time.Second, 2 * time.Second
)

// attendance is which gateways there are and by which record each holds its
// clients, told by a Lease of each. The leader goes on with a planned change as
// soon as all do. What the leader asks the others about MAIN goes the same way.
type attendance struct {
	leases   coordinationclient.LeaseInterface
	cluster  string
	identity string
	// quiet returns once this process's gateway has nothing under way that may take
	// effect; nil where it cannot tell.
	quiet  func(context.Context) (int64, error)
	latest func() memgraph.Topology
	// highest is the highest generation that was seen, raise notes one.
	highest func() int64
	raise   func(int64)
	log     *slog.Logger
	// lives tells whether the MAIN in a process says anything from now on.
	lives func(ctx context.Context, runID string) bool
	witnesses
	due chan struct{} // capacity 1: there is something to say

	mu      sync.Mutex
	present map[string]attendee // by the Lease's name
	changed chan struct{}       // closed when present has changed
}

// attendee is a gateway as its Lease tells of it.
type attendee struct {
	renewed time.Time // as its own clock tells, to compare only with itself
	seen    time.Time // when that was seen first
	quietAt string    // a record's revision
}

func (c *Controller) newAttendance() *attendance {
	return &attendance{
		leases:  c.deps.Urgent.CoordinationV1().Leases(c.cfg.Namespace),
		cluster: c.cfg.StatefulSet, identity: c.cfg.Identity,
		quiet: c.deps.Quiet, latest: c.record.latest, highest: c.record.highest, raise: c.record.raise, log: c.deps.Log,
		lives: c.lives, due: make(chan struct{}, 1),
		present: map[string]attendee{}, changed: make(chan struct{}),
	}
}

// leaseName is that of this gateway: an identity may hold what a name may not.
func (a *attendance) leaseName() string {
	h := fnv.New32a()
	h.Write([]byte(a.identity))
	return fmt.Sprintf("%s-gateway-%08x", a.cluster, h.Sum32())
}

// run says that the gateway is there, and when it holds its clients, until ctx
// ends; then that it is gone.
func (a *attendance) run(ctx context.Context) {
	if a.quiet == nil {
		return
	}
	defer a.forget(context.WithoutCancel(ctx), a.leaseName()) // nobody is to wait for it
	tick := time.NewTicker(attendEvery)
	defer tick.Stop()
	for {
		if err := a.attend(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("gateway's lease cannot be written", "lease", a.leaseName(), "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.tidy(ctx)
		case <-a.due:
		}
	}
}

// speak has the Lease written anew: with the word that clients are held by the latest
// record, once they are, and with what is to be said of MAIN.
func (a *attendance) speak() {
	select {
	case a.due <- struct{}{}:
	default: // what is due looks at the latest
	}
}

// doubt has the other replicas asked whether the MAIN in process runID lives.
func (a *attendance) doubt(runID string) {
	if a.doubts(runID) {
		a.speak()
	}
}

// attend renews the Lease, with the record by which clients are held, and with what is
// said of MAIN. A commit that does not come to an end costs no renewal: the gateway is
// there.
func (a *attendance) attend(ctx context.Context) error {
	at := a.heldBy(ctx)
	ctx, cancel := context.WithTimeout(ctx, attendTimeout)
	defer cancel()
	a.answer(func(runID string) bool { return a.lives(ctx, runID) })
	says := a.said()
	says[quietAt], says[generationSeen] = at, strconv.FormatInt(a.highest(), 10)
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"annotations": says},
		"spec":     map[string]any{"renewTime": metav1.NowMicro()},
	})
	if err != nil {
		return err
	}
	_, err = a.leases.Patch(ctx, a.leaseName(), types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if apierrors.IsNotFound(err) {
		return a.enter(ctx, says)
	}
	return err
}

// heldBy is the revision of the record by which clients are held with nothing under way
// any more; "" if they are not, or something still is after quietTimeout.
func (a *attendance) heldBy(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, quietTimeout)
	defer cancel()
	t := a.latest()
	if t.Generation == 0 || t.Phase == memgraph.Stable {
		return ""
	}
	generation, err := a.quiet(ctx)
	if err != nil || generation != t.Generation || a.latest().Revision != t.Revision {
		return ""
	}
	return t.Revision
}

// enter makes the Lease, with its annotations.
func (a *attendance) enter(ctx context.Context, says map[string]string) error {
	now := metav1.NowMicro()
	_, err := a.leases.Create(ctx, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name:        a.leaseName(),
			Labels:      map[string]string{gatewayOf: a.cluster, "app.kubernetes.io/managed-by": fieldManager},
			Annotations: says,
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &a.identity, RenewTime: &now, LeaseDurationSeconds: new(int32(attendFor / time.Second)),
		},
	}, metav1.CreateOptions{FieldManager: fieldManager})
	return err
}

// forget deletes a Lease; one that stays is only waited for.
func (a *attendance) forget(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, attendTimeout)
	defer cancel()
	if err := a.leases.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		a.log.Debug("gateway's lease cannot be deleted", "lease", name, "err", err)
	}
}

// handler keeps up with all gateways' Leases.
func (a *attendance) handler() cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    a.onLease,
		UpdateFunc: func(_, obj any) { a.onLease(obj) },
		DeleteFunc: func(obj any) {
			if l, ok := unwrapped(obj).(*coordinationv1.Lease); ok {
				a.change(func() { delete(a.present, l.Name) })
			}
		},
	}
}

func (a *attendance) onLease(obj any) {
	l, ok := obj.(*coordinationv1.Lease)
	if !ok || l.Labels[gatewayOf] != a.cluster || l.Spec.RenewTime == nil {
		return
	}
	if seen, err := strconv.ParseInt(l.Annotations[generationSeen], 10, 64); err == nil {
		a.raise(seen)
	}
	if l.Name != a.leaseName() && a.heard(l.Annotations[doubtAt], l.Annotations[vouchFor]) {
		a.speak()
	}
	a.change(func() {
		was, now := a.present[l.Name], attendee{renewed: l.Spec.RenewTime.Time, seen: time.Now(), quietAt: l.Annotations[quietAt]}
		if was.renewed.Equal(now.renewed) {
			now.seen = was.seen
		}
		a.present[l.Name] = now
	})
}

func (a *attendance) change(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
	close(a.changed)
	a.changed = make(chan struct{})
}

// await returns once every gateway holds its clients by the record at revision, or
// after limit, with an error if some then do not. Where none has ever told of
// itself, limit is given to those that there may be.
func (a *attendance) await(ctx context.Context, revision string, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		all, missing, changed := a.roll(revision)
		if all > 0 && missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		case <-timer.C:
			if all == 0 {
				return nil
			}
			return fmt.Errorf("%d of %d gateways have not parked within %s", missing, all, limit)
		}
	}
}

// roll counts the gateways that live and those that do not hold their clients by
// the record at revision; changed is closed once there is news.
func (a *attendance) roll(revision string) (all, missing int, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range a.present {
		if time.Since(g.seen) > attendFor {
			continue
		}
		all++
		if order, err := resourceversion.CompareResourceVersion(g.quietAt, revision); err != nil || order < 0 {
			missing++
		}
	}
	return all, missing, a.changed
}

// tidy deletes the Leases of gateways that died long ago.
func (a *attendance) tidy(ctx context.Context) {
	a.mu.Lock()
	var old []string
	for name, g := range a.present {
		if time.Since(g.seen) > forgetAfter {
			old = append(old, name)
		}
	}
	a.mu.Unlock()
	for _, name := range old {
		a.forget(ctx, name)
	}
}
