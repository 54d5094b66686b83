package controller

import (
	"context"
	"log/slog"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"

	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// news tells people what was decided and done: one log line, metrics, and an
// Event on the StatefulSet. It is off the path: nothing waits for it.
type news struct {
	c           *Controller
	broadcaster events.EventBroadcaster
	events      events.EventRecorder

	mu   sync.Mutex
	last failover.Plan // the last decision
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

// decided notes a decision, and reports one that needs somebody once.
func (n *news) decided(p failover.Plan) {
	n.mu.Lock()
	same := n.last.Kind == p.Kind && n.last.Reason == p.Reason
	n.last = p
	n.mu.Unlock()
	n.c.metrics.blocked.Set(one(p.Kind == failover.Blocked))
	if same {
		return
	}
	switch p.Kind {
	case failover.Blocked:
		n.c.deps.Log.Warn("blocked", "cluster", n.c.cfg.StatefulSet, "reason", p.Reason)
		n.event(corev1.EventTypeWarning, "Blocked", "Decide", p.Reason)
	case failover.Waiting:
		n.c.deps.Log.Info("waiting", "cluster", n.c.cfg.StatefulSet, "reason", p.Reason)
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

// executed reports a plan that was carried out, with the times of its stages.
// A failure is the lane's to log.
func (n *news) executed(p failover.Plan, r failover.Report, err error) {
	n.c.metrics.plans.WithLabelValues(string(p.Kind), result(err)).Inc()
	if err != nil {
		return
	}
	t := r.Record
	attrs := []any{
		"cluster", n.c.cfg.StatefulSet, "kind", p.Kind, "reason", p.Reason, "generation", t.Generation,
		"main", t.Main.Pod, "partner", t.Partner.Pod, "in_sync", t.InSync,
	}
	if !p.ChangesMain() {
		n.c.deps.Log.Info("partner changed", attrs...)
		return
	}
	stages := []any{}
	for stage, took := range r.Stages {
		n.c.metrics.stages.WithLabelValues(string(p.Kind), stage).Observe(took.Seconds())
		stages = append(stages, slog.Float64(stage+"_ms", float64(took.Microseconds())/1000))
	}
	attrs = append(attrs, slog.Group("stages", stages...))
	for _, missed := range r.Missed {
		attrs = append(attrs, "missed", missed.Error())
	}
	n.c.deps.Log.Info("main changed", attrs...)
	n.event(corev1.EventTypeNormal, "MainChanged", string(p.Kind), "MAIN is "+t.Main.Pod+": "+p.Reason)
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
	set, err := n.c.setLister.Get(n.c.cfg.StatefulSet)
	if err != nil {
		return // nothing to attach it to
	}
	n.events.Eventf(set, nil, kind, reason, action, "%s", note)
}
