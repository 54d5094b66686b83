package controller

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"memgraph-controller/memgraph"
	"memgraph-controller/reconcile"
)

// Status is what the controller knows, for people and scripts. It is put
// together from what is held in memory: no question is asked for it.
type Status struct {
	Cluster  string `json:"cluster"`
	Identity string `json:"identity"`
	Leading  bool   `json:"leading"`
	Synced   bool   `json:"synced"`
	// Wanted is how many pods the StatefulSet asks for.
	Wanted int `json:"wanted"`
	// Decision and Reason are the leader's last; empty on other replicas.
	Decision string       `json:"decision,omitempty"`
	Reason   string       `json:"reason,omitempty"`
	Record   StatusRecord `json:"record"`
	Pods     []StatusPod  `json:"pods"`
}

// StatusRecord is the newest record that was seen.
type StatusRecord struct {
	Main       string            `json:"main"`
	Generation int64             `json:"generation"`
	Phase      memgraph.Phase    `json:"phase"`
	Partner    string            `json:"partner,omitempty"`
	InSync     bool              `json:"inSync"`
	Paused     *memgraph.Pause   `json:"paused,omitempty"`
	Order      *memgraph.Order   `json:"order,omitempty"`
	Answers    []memgraph.Answer `json:"answers,omitempty"`
	Reseed     *memgraph.Reseed  `json:"reseed,omitempty"`
	History    []memgraph.Change `json:"history,omitempty"`
}

// StatusPod is one pod as Kubernetes and, on the leader, its Memgraph tell.
type StatusPod struct {
	Name        string         `json:"name"`
	IP          string         `json:"ip,omitempty"`
	Ready       bool           `json:"ready"`
	Terminating bool           `json:"terminating,omitempty"`
	Reach       memgraph.Reach `json:"reach,omitempty"`
	// Verdict is that of the probes, of which MAIN and its partner have some.
	Verdict    memgraph.Verdict `json:"verdict,omitempty"`
	AskedAgoMS int64            `json:"askedAgoMs,omitempty"`
	Role       memgraph.Role    `json:"role,omitempty"`
	RunID      string           `json:"runID,omitempty"`
	Version    string           `json:"version,omitempty"`
	Vertices   int64            `json:"vertices,omitempty"`
	Diverged   bool             `json:"diverged,omitempty"`
	Broken     bool             `json:"broken,omitempty"`
	// Mode, Replication and Behind are MAIN's view.
	Mode        memgraph.SyncMode      `json:"mode,omitempty"`
	Replication memgraph.ReplicaStatus `json:"replication,omitempty"`
	Behind      int64                  `json:"behind,omitempty"`
	// Breaker is the state of the circuit breaker that the pod is behind.
	Breaker reconcile.State `json:"breaker,omitempty"`
	// Replicated is what the pod's readiness gate says.
	Replicated bool `json:"replicated,omitempty"`
}

// Status tells what is known at the moment.
func (c *Controller) Status() Status {
	t := c.record.latest()
	s := Status{
		Cluster: c.cfg.StatefulSet, Identity: c.cfg.Identity, Synced: c.Synced(),
		Record: StatusRecord{
			Main: t.Main.Pod, Generation: t.Generation, Phase: t.Phase,
			Partner: t.Partner.Pod, InSync: t.InSync, Reseed: t.Reseed,
			Paused: t.Paused, Order: t.Order, Answers: t.Answers, History: t.History,
		},
	}
	if !s.Synced {
		return s
	}
	if s.Leading = c.term.Load() != nil; s.Leading {
		decision := c.news.decision()
		s.Decision, s.Reason = string(decision.Kind), decision.Reason
	}
	snapshot := c.snapshot(t)
	s.Wanted = snapshot.Wanted
	main, _ := snapshot.Main()
	for _, p := range snapshot.Pods {
		r, _ := snapshot.Registration(main, p)
		s.Pods = append(s.Pods, c.statusOf(p, r))
	}
	return s
}

func (c *Controller) statusOf(p memgraph.Pod, r memgraph.Replica) StatusPod {
	i := p.Instance
	s := StatusPod{
		Name: p.Name, IP: p.IP, Ready: p.Ready, Terminating: p.Terminating,
		Reach: i.Reach, Verdict: i.Verdict, Role: i.Role, RunID: i.RunID, Vertices: i.Storage.Vertices,
		Diverged: i.Diverged, Broken: i.Storage.Broken,
		Mode: r.Mode, Replication: r.Status, Behind: -r.Behind,
		Breaker: c.breakers.State(reconcile.BreakerKey(p)),
	}
	if object, err := c.cached.pods.Get(p.Name); err == nil {
		s.Replicated = conditionOf(object, ReplicatedCondition).Status == corev1.ConditionTrue
	}
	if i.Version.Known() {
		s.Version = i.Version.String()
	}
	if !i.Asked.IsZero() {
		s.AskedAgoMS = time.Since(i.Asked).Milliseconds()
	}
	return s
}
