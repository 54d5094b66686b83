package controller

import (
	"context"
	"sync"
	"time"

	"memgraph-controller/memgraph"
)

// vigilPause is between two looks at whom the record names, and two attempts to
// hold a connection to it.
const vigilPause = 100 * time.Millisecond

// vigil holds a connection to one of the pods that the record names while a term
// lasts, and has the leader decide anew when it breaks.
func (t *term) vigil(ctx context.Context, part probed) {
	tick := time.NewTicker(vigilPause)
	defer tick.Stop()
	for ctx.Err() == nil {
		if m := part.of(t.c.record.latest()); !m.None() && t.hold(ctx, m, part, tick.C) {
			t.urgent.add(clusterKey, time.Now())
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// hold returns whether a connection to m broke, false once another is named.
func (t *term) hold(ctx context.Context, m memgraph.Member, part probed, tick <-chan time.Time) (broke bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan struct{})
	var holder sync.WaitGroup
	defer holder.Wait()
	holder.Go(func() {
		defer close(ended)
		broke = t.c.deps.Vigil(ctx, memgraph.Pod{IP: m.IP}.Addr())
	})
	for {
		select {
		case <-ended:
			return broke
		case <-tick:
			if part.of(t.c.record.latest()) != m {
				cancel()
			}
		}
	}
}
