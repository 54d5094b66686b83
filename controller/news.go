package controller

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// waitingLong is when waiting for something that should come by itself becomes
// news: longer than any restart of a pod that is well.
const waitingLong = 30 * time.Second

// news tells people what was decided and done: one log line, metrics, and an
// Event on the StatefulSet. It is off the path: nothing waits for it.
type news struct {
	c           *Controller
	broadcaster events.EventBroadcaster
	events      events.EventRecorder

	mu      sync.Mutex
	last    failover.Plan // the last decision
	waiting time.Time     // since when decisions were to wait; zero if they are not
	told    string        // the reason that was last told, "" if there is none
}

func newNews(c *Controller) *news {
	b := events.NewBroadcaster(&events.EventSinkImpl{Interface: c.deps.Routine.EventsV1()})
	return &news{c: c, broadcaster: b, events: b.NewRecorder(scheme.Scheme, "memgraph-controller")}
}

// run sends Events until ctx ends.
func (n *news) run(ctx context.Context) {
	if err := n.broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		n.c.deps.Log.Warn("events are not sent", "err", err)
	}
	<-ctx.Done()
	n.broadcaster.Shutdown()
}

// decision is the last one.
func (n *news) decision() failover.Plan {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.last
}

// decided notes a decision. One that needs somebody is told once for each
// reason: at once where it is blocked, and where it waits when that takes long.
func (n *news) decided(p failover.Plan) {
	n.mu.Lock()
	n.last = p
	switch {
	case p.Kind != failover.Waiting:
		n.waiting = time.Time{}
	case n.waiting.IsZero():
		n.waiting = time.Now()
	}
	alarming := p.Kind == failover.Blocked || p.Kind == failover.Waiting && time.Since(n.waiting) > waitingLong
	untold := alarming && n.told != p.Reason
	switch {
	case untold:
		n.told = p.Reason
	case !alarming:
		n.told = ""
	}
	n.mu.Unlock()
	n.c.metrics.blocked.Set(one(alarming))
	if untold {
		n.c.deps.Log.Warn("blocked", "cluster", n.c.cfg.StatefulSet, "kind", p.Kind, "reason", p.Reason)
		n.event(corev1.EventTypeWarning, "Blocked", string(p.Kind), p.Reason)
	}
}

// met reports that an instance answers otherwise than before, or no longer.
func (n *news) met(p memgraph.Pod, id memgraph.Identity, err error) {
	attrs := []any{"cluster", n.c.cfg.StatefulSet, "pod", p.Name, "uid", p.UID, "reach", reach(err)}
	if err != nil {
		n.c.deps.Log.Warn("instance does not answer", append(attrs, "err", err)...)
		return
	}
	n.c.deps.Log.Info("instance answers", append(attrs, "role", id.Role, "run_id", id.RunID)...)
}

// judged reports that probes say otherwise of MAIN or its partner than before.
func (n *news) judged(p memgraph.Pod, part probed, before, after memgraph.Verdict) {
	log := n.c.deps.Log.Info
	if after.Lost() || after == memgraph.Locked {
		log = n.c.deps.Log.Warn
	}
	log("probes judge otherwise", "cluster", n.c.cfg.StatefulSet, "pod", p.Name, "uid", p.UID, "target", part, "from", before, "to", after)
}

// evicted reports a pod that was deleted for the sake of commits, or was to be.
func (n *news) evicted(e failover.Eviction, err error) {
	n.c.metrics.probes.evictions.WithLabelValues(result(err)).Inc()
	log := n.c.deps.Log.With("cluster", n.c.cfg.StatefulSet, "pod", e.Pod.Name, "uid", e.Pod.UID, "reason", e.Reason, "force", e.Force)
	if err != nil {
		log.Error("pod is not evicted", "err", err)
		return
	}
	log.Warn("pod evicted")
	n.event(corev1.EventTypeWarning, "PartnerEvicted", "evict", e.Reason)
}

// executed reports a plan that was carried out, with the times of its stages.
// A failure is the lane's to log.
func (n *news) executed(p failover.Plan, r failover.Report, err error) {
	n.c.metrics.plans.WithLabelValues(string(p.Kind), result(err)).Inc()
	if err != nil {
		return
	}
	t := r.Record
	log := n.c.deps.Log.With("cluster", n.c.cfg.StatefulSet, "kind", p.Kind, "reason", p.Reason, "generation", t.Generation)
	switch {
	case p.Kind == failover.BeginReseed, p.Kind == failover.EndReseed:
		n.reseeding(p)
		return
	case p.Kind == failover.Reply:
		log.Info("order answered")
		n.event(corev1.EventTypeNormal, "OrderAnswered", string(p.Kind), p.Reason)
		return
	case !p.ChangesMain():
		log.Info("partner changed", "main", t.Main.Pod, "partner", t.Partner.Pod, "in_sync", t.InSync)
		return
	}
	stages := []any{}
	for _, stage := range slices.Sorted(maps.Keys(r.Stages)) {
		n.c.metrics.stages.WithLabelValues(string(p.Kind), stage).Observe(r.Stages[stage].Seconds())
		stages = append(stages, slog.Float64(stage+"_ms", float64(r.Stages[stage].Microseconds())/1000))
	}
	if missed := errors.Join(r.Missed...); missed != nil {
		log = log.With("missed", missed)
	}
	log.Info("main changed", "from", r.From(), "to", t.Main.Pod, slog.Group("stages", stages...))
	n.event(corev1.EventTypeNormal, "MainChanged", string(p.Kind), "MAIN is "+t.Main.Pod+": "+p.Reason)
}

// reseeding reports an order to a pod to start empty, or the end of one.
func (n *news) reseeding(p failover.Plan) {
	log := n.c.deps.Log.With("cluster", n.c.cfg.StatefulSet, "reason", p.Reason)
	if p.Kind == failover.EndReseed {
		log.Info("reseed ended")
		n.event(corev1.EventTypeNormal, "ReseedEnded", string(p.Kind), p.Reason)
		return
	}
	log.Warn("reseed ordered", "pod", p.Record.Reseed.Pod, "uid", p.Record.Reseed.UID)
	n.event(corev1.EventTypeWarning, "ReseedOrdered", string(p.Kind), p.Record.Reseed.Pod+" is to start empty: "+p.Reason)
}

// reconciled counts steps and logs those that changed something. Failures are
// the lane's to log.
func (n *news) reconciled(results []reconcile.Result) {
	for _, r := range results {
		n.c.metrics.steps.WithLabelValues(string(r.Step.Verb), result(r.Err)).Inc()
		if r.Err == nil {
			n.c.deps.Log.Info("replication changed", "cluster", n.c.cfg.StatefulSet, "pod", r.Step.Pod.Name, "step", r.Step.String())
		}
	}
}

// event is sent in the background, or dropped if there are too many.
func (n *news) event(kind, reason, action, note string) {
	set, err := n.c.cached.sets.Get(n.c.cfg.StatefulSet)
	if err != nil {
		return // nothing to attach it to
	}
	n.events.Eventf(set, nil, kind, reason, action, "%s", note)
}
