package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"memgraph-controller/controller"
	"memgraph-controller/gateway"
	"memgraph-controller/memgraph"
)

// complete is what two controllers tell of a whole cluster.
func complete() []Status {
	serving := gateway.Status{State: gateway.Serving, Generation: 2}
	r := controller.StatusRecord{Main: "memgraph-1", Generation: 2, Partner: "memgraph-0", InSync: true}
	return []Status{
		{Pod: "follower", Gateway: serving, Status: controller.Status{Record: r}},
		{Pod: "leader", Gateway: serving, Status: controller.Status{Leading: true, Wanted: 3, Record: r, Pods: []controller.StatusPod{
			{Name: "memgraph-0", Ready: true, Mode: memgraph.StrictSync, Replication: memgraph.StatusReady, Replicated: true},
			{Name: "memgraph-1", Ready: true, Replicated: true},
			{Name: "memgraph-2", Ready: true, Mode: memgraph.Async, Replication: memgraph.StatusReady, Replicated: true},
		}}},
	}
}

func TestWholeMeansComplete(t *testing.T) {
	assert.NoError(t, incomplete(complete()))
	for _, c := range []struct {
		name  string
		spoil func(s []Status) []Status
		want  string
	}{
		{"one controller", func(s []Status) []Status { return s[1:] }, "1 controllers are ready"},
		{"parked gateway", func(s []Status) []Status { s[0].Gateway.State = gateway.Parked; return s }, "gateway of follower is parked in generation 2 of 2"},
		{"gateway behind", func(s []Status) []Status { s[0].Gateway.Generation = 1; return s }, "gateway of follower is serving in generation 1 of 2"},
		{"no leader", func(s []Status) []Status { s[1].Leading = false; return s }, "leading false, in sync false, 0 pods of 0: "},
		{"out of sync", func(s []Status) []Status { s[1].Record.InSync = false; return s }, "leading true, in sync false, 3 pods of 3: "},
		{"pod missing", func(s []Status) []Status { s[1].Pods = s[1].Pods[:2]; return s }, "leading true, in sync true, 2 pods of 3: "},
		{"pod not ready", func(s []Status) []Status { s[1].Pods[1].Ready = false; return s }, "memgraph-1: ready false, terminating false, listed as  , 0 behind"},
		{"pod terminating", func(s []Status) []Status { s[1].Pods[1].Terminating = true; return s }, "memgraph-1: ready true, terminating true, listed as  , 0 behind"},
		{"replica behind", func(s []Status) []Status { s[1].Pods[2].Behind = 3; return s }, "memgraph-2: ready true, terminating false, listed as async ready, 3 behind"},
		{"gate closed", func(s []Status) []Status { s[1].Pods[1].Replicated = false; return s }, "memgraph-1: its readiness gate is closed"},
		{"replica not listed", func(s []Status) []Status { s[1].Pods[2].Replication = ""; return s }, "memgraph-2: ready true, terminating false, listed as async , 0 behind"},
	} {
		t.Run(c.name, func(t *testing.T) { assert.EqualError(t, incomplete(c.spoil(complete())), c.want) })
	}
}

func TestOnlyTheLeaderIsBelieved(t *testing.T) {
	s := complete()
	s[0].Pods = []controller.StatusPod{{Name: "memgraph-1"}}
	assert.Equal(t, "leader", leader(s).Pod)
	assert.Equal(t, s[1].Pods[1], s[1].pod("memgraph-1"))
	assert.Zero(t, s[1].pod("memgraph-3"))
	s[1].Leading = false
	assert.Zero(t, leader(s))
}
