package memgraphtest

import "sync"

// door is the Bolt port: it lets clients in and, once closed, waits until the
// last is gone.
type door struct {
	listener *listener
	serve    func(*conn)
	waiting  sync.WaitGroup // the loop that accepts, and all that it let in

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
}

// openDoor serves every connection to addr in a goroutine of its own.
func openDoor(n *network, addr string, serve func(*conn)) (*door, error) {
	l, err := n.listen(addr)
	if err != nil {
		return nil, err
	}
	d := &door{listener: l, serve: serve, conns: map[*conn]struct{}{}}
	d.waiting.Go(d.accept)
	return d, nil
}

func (d *door) accept() {
	for {
		c, err := d.listener.accept()
		if err != nil {
			return
		}
		if !d.enter(c) {
			_ = c.Close() // it came too late
			return
		}
		d.waiting.Go(func() {
			d.serve(c)
			d.leave(c)
		})
	}
}

// enter lets c in; false once the door is closed.
func (d *door) enter(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		d.conns[c] = struct{}{}
	}
	return !d.closed
}

func (d *door) leave(c *conn) {
	d.mu.Lock()
	delete(d.conns, c)
	d.mu.Unlock()
	_ = c.Close() // both sides are done with it
}

// close ends the port and all connections, and does not wait.
func (d *door) close() {
	d.mu.Lock()
	was := d.closed
	d.closed = true
	conns := make([]*conn, 0, len(d.conns))
	for c := range d.conns {
		conns = append(conns, c)
	}
	d.mu.Unlock()
	if was {
		return
	}
	d.listener.close()
	for _, c := range conns {
		_ = c.Close() // its goroutine notices
	}
}

// wait returns once nobody is served any more.
func (d *door) wait() { d.waiting.Wait() }
