package controller

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"memgraph-controller/memgraph"
)

// snapshot puts together what informers and instances said. It asks nobody.
func (c *Controller) snapshot(t memgraph.Topology) memgraph.Snapshot {
	s := memgraph.Snapshot{
		Now: time.Now(), Cluster: c.cfg.StatefulSet, Wanted: c.wanted(),
		Topology: t, Floor: c.record.highest(), Policy: c.cfg.Policy, Pods: c.pods(),
	}
	for i, p := range s.Pods {
		s.Pods[i].Instance = c.seen.of(p.UID)
		s.Pods[i].Crashes = c.seen.crashes(p)
	}
	return s
}

// pods are those of the StatefulSet that exist, by ordinal, without their
// instances.
func (c *Controller) pods() []memgraph.Pod {
	var pods []memgraph.Pod
	listed, _ := c.cached.pods.List(labels.Everything()) // of a cache: it cannot fail
	for _, p := range listed {
		if pod, ok := c.pod(p); ok {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b memgraph.Pod) int { return a.Index - b.Index })
	return pods
}

// wanted is how many pods the StatefulSet asks for, 0 while that is not known.
func (c *Controller) wanted() int {
	set, err := c.cached.sets.Get(c.cfg.StatefulSet)
	if err != nil {
		return 0
	}
	if set.Spec.Replicas == nil {
		return 1
	}
	return int(*set.Spec.Replicas)
}
