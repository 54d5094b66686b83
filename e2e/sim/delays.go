package sim

import "time"

// urgentRound is the longest that one round of the urgent lane may take: what its
// deadlines come to. Whom the record names are asked (0.3 s). Of the plans, a switchover
// is the longest: clients are held (0.1 s), the partner is awaited (0.5 s), MAIN demoted
// (0.5 s), the partner promoted (1 s), its epoch sealed (0.5 s), its partner (1 s) and
// the others (0.3 s) registered, and the partner awaited (0.5 s). One request to the API
// server may fail (2 s), which ends the round. All else takes milliseconds: 0.1 s.
const urgentRound = 6800 * time.Millisecond

// waited judges that a worker takes a key which was due: at once, whatever the others
// do. What is left of the wait is the work on the same key that was under way.
func (w *world) waited(l *lane, name string, k *key) {
	if d := l.c.ran() - k.since; d > 0 {
		w.convict("%s: %s was due for %v, and nobody worked on it", l.promise, name, d)
	}
}

// worked judges the work on a key: where an event may have to wait for it, it is bounded.
func (w *world) worked(l *lane, k *key) {
	if d := l.c.ran() - k.since; l.limit > 0 && d > l.limit {
		w.convict("%s: work on a key took %v", l.promise, d)
	}
}

// lookAtLanes judges what is never taken, or never ends.
func (w *world) lookAtLanes() {
	for _, c := range w.ctls {
		if c.term == nil {
			continue
		}
		c.term.urgent.look()
		c.term.routine.look()
	}
}

func (l *lane) look() {
	for name, k := range l.keys {
		switch {
		case k.queued:
			l.c.w.waited(l, name, k)
		case k.busy:
			l.c.w.worked(l, k)
		}
	}
}

// passed judges a pass over a pod: it waited for nobody but that pod, MAIN and the API
// server.
func (w *world) passed(c *contender, name string, p *pass) {
	if d := c.ran() - p.begun - p.waited; d != 0 && !c.dead {
		w.convict("G7: a pass over %s took %v, of which it waited %v for others", name, c.ran()-p.begun, d)
	}
}

// gives judges a turn on MAIN that ends: whoever waits for it waits for MAIN.
func (w *world) gives(m *mainTurn, p *pass) {
	if d := m.c.ran() - m.since - (p.onMain - m.onMain); d != 0 && !m.c.dead {
		w.convict("G7: MAIN's turn was held for %v while it waited for %s", d, p.pod)
	}
}
