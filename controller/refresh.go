package controller

import (
	"context"
	"time"
)

// refreshEvery is between two live reads of the record. A watch whose connection has died
// without a sign is noticed after 10 s only.
const refreshEvery = time.Second

// refresh reads the record live, over and over, until ctx ends. The gateway is told
// each time: that another watch delivers is no sign that the record's does.
func (c *Controller) refresh(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.readRecord(ctx)
		}
	}
}

// readRecord learns the record as it is now, if it can be read: why it cannot is
// said where something depends on it.
func (c *Controller) readRecord(ctx context.Context) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, refreshEvery)
	defer cancel()
	t, err := c.store.Load(ctx)
	if err != nil {
		return
	}
	if t.Generation > 0 && c.learn(t) {
		c.decideSoon()
	}
	c.deps.Gateway.Fresh(begun)
}
