package gateway

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"memgraph-controller/memgraph/bolt"
)

// Reading configures a second port, which is for reading.
type Reading struct {
	Listen string // host:port; "" is no such port
	// Fallback says where its clients belong while there is no replica to read
	// from; "" is ReadFromMain.
	Fallback ReadFallback
}

// ReadFallback is where clients read while there is no replica.
type ReadFallback string

// The kinds of ReadFallback.
const (
	ReadFromMain   ReadFallback = "main"
	ReadFromNobody ReadFallback = "none" // they wait
)

const (
	// readFinish is for what is under way when another replica is chosen: clients
	// of this port may be at long reads, which can do no harm.
	readFinish = 10 * time.Second
	// distrustFor keeps a replica that was lost from being chosen again: MAIN takes
	// three seconds to list it as lost itself. Source: Memgraph v3.12
	// replication_client.hpp, kFailureAfterN.
	distrustFor = 5 * time.Second
	// patience is for a replica that was chosen to answer.
	patience = time.Second
)

// standing is what MAIN says of one of its replicas.
type standing struct {
	async bool
	near  bool // it has what MAIN has, but for what is on its way
}

// readPort chooses whom the clients of the second port read from, which is a
// gateway of its own in all else. By rank:
//
//	a replica that clients are at already, as long as it follows MAIN
//	an ASYNC replica that follows, then a synchronous one: writes wait for those
//	MAIN, if Fallback says so and the first port's clients may pass to it
//	nobody
//
// To follow is to be told by the controller, and listed by MAIN as near; while
// there is no MAIN, its last list counts. A replica's process must answer as one.
type readPort struct {
	*Gateway
	main     *Gateway // the first port's
	fallback ReadFallback
	changed  chan struct{} // capacity 1: it is to be chosen again
	link     *link         // to MAIN; nil while there is none

	mu     sync.Mutex // taken before the gates' mutexes
	told   map[string]string
	listed map[string]standing
	lost   map[string]time.Time // when, by address
	chosen *target
}

// newReadPort is nil where cfg asks for none.
func newReadPort(cfg Config, main *Gateway) (*readPort, error) {
	if cfg.Read.Listen == "" {
		return nil, nil
	}
	r := &readPort{
		main: main, fallback: cfg.Read.Fallback, changed: make(chan struct{}, 1),
		lost: map[string]time.Time{}, chosen: &target{},
	}
	cfg.Listen, cfg.Lost, cfg.FinishTimeout = cfg.Read.Listen, r.give, max(cfg.FinishTimeout, readFinish)
	var err error
	if r.Gateway, err = newPort(cfg, portRead, main.keyring); err != nil {
		return nil, err
	}
	return r, nil
}

// tell takes the candidates' addresses, by the names that MAIN has for them.
func (r *readPort) tell(candidates map[string]string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if maps.Equal(r.told, candidates) {
		return
	}
	r.told = maps.Clone(candidates)
	r.wake()
}

// give gives up the process at addr, which was lost.
func (r *readPort) give(addr string, _ int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[addr] = time.Now()
	r.wake()
}

func (r *readPort) wake() {
	select {
	case r.changed <- struct{}{}:
	default: // the choice that is due will see this change too
	}
}

// follow takes note of a statement about MAIN. The replica that clients read from
// may be about to be MAIN, and clients that are at MAIN might write, which those of
// the first port may be held from: they are parked until it is chosen again.
func (r *readPort) follow() {
	r.mu.Lock()
	defer r.mu.Unlock()
	main := r.main.gate.status()
	r.gate.named.Store(&main.Addr)
	if promoted := r.chosen.addr == main.Addr; r.chosen.replica && promoted || !r.chosen.replica && !r.mainPassesLocked() {
		r.orderLocked(target{})
	}
	r.wake()
}

// mainPassesLocked reports whether clients are at MAIN and may be.
func (r *readPort) mainPassesLocked() bool {
	main := r.main.gate.status()
	return main.State == Serving && main.Addr == r.chosen.addr && main.RunID == r.chosen.runID
}

// run keeps choosing until ctx ends.
func (r *readPort) run(ctx context.Context) {
	defer r.unlink()
	survey, look := time.NewTicker(r.cfg.VerifyInterval), time.NewTicker(guardEvery)
	defer survey.Stop()
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C: // whether clients may be at MAIN still
			r.choose(time.Now())
			continue
		case <-survey.C:
		case <-r.changed:
		}
		if err := r.survey(ctx); err != nil {
			r.log.Debug("survey failed", "err", err)
		}
		r.choose(time.Now())
	}
}

// Run is the Gateway's, and keeps choosing for it.
func (r *readPort) Run(ctx context.Context) error {
	choosing, stop := context.WithCancel(context.WithoutCancel(ctx))
	var chooser sync.WaitGroup
	chooser.Go(func() { r.run(choosing) })
	err := r.runPort(ctx)
	stop()
	chooser.Wait()
	return err
}

// choose has clients carried to whom they belong now.
func (r *readPort) choose(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.chosen.replica && r.gate.status().State != Serving && r.gate.shutFor() > patience {
		r.lost[r.chosen.addr] = now
	}
	maps.DeleteFunc(r.lost, func(_ string, at time.Time) bool { return now.Sub(at) > distrustFor })
	if best := r.bestLocked(); best.addr != r.chosen.addr || best.replica != r.chosen.replica || best.runID != r.chosen.runID {
		r.orderLocked(best)
	}
}

// bestLocked is whom clients should be at; without an address it is nobody.
func (r *readPort) bestLocked() (best target) {
	rank := func(addr string, s standing) int {
		switch {
		case addr == r.chosen.addr && r.chosen.replica:
			return 3
		case s.async:
			return 2
		}
		return 1
	}
	highest := 0
	for _, name := range slices.Sorted(maps.Keys(r.told)) {
		addr, s := r.told[name], r.listed[name]
		if _, lost := r.lost[addr]; lost || !s.near || addr == r.main.gate.current().addr {
			continue
		}
		if is := rank(addr, s); is > highest {
			best, highest = target{pod: name, addr: addr, replica: true}, is
		}
	}
	if main := r.main.gate.status(); highest == 0 && r.fallback == ReadFromMain && main.State == Serving {
		best = target{pod: main.Pod, addr: main.Addr, runID: main.RunID}
	}
	return best
}

func (r *readPort) orderLocked(t target) {
	if t.addr == "" && r.chosen.addr == "" {
		return
	}
	t.generation = r.chosen.generation + 1
	r.chosen = &t
	r.order(&t, false)
	r.log.Info("gateway reading", "pod", t.pod, "addr", t.addr, "generation", t.generation)
}

// survey asks MAIN for its replicas. Without a MAIN what it said last stays.
func (r *readPort) survey(ctx context.Context) error {
	main := r.main.gate.main.Load()
	if r.link != nil && (main == nil || r.link.conn.RemoteAddr().String() != main.addr) {
		r.unlink()
	}
	if main == nil {
		return nil
	}
	if r.link == nil {
		l, err := openLink(ctx, main.addr, &r.cfg)
		if err != nil {
			return err
		}
		r.link = l
	}
	replicas, err := r.link.run(replicasQuery)
	if err != nil {
		r.unlink()
		return fmt.Errorf("ask for the replicas: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listed = standings(replicas)
	return nil
}

func (r *readPort) unlink() {
	if r.link != nil {
		r.link.close()
		r.link = nil
	}
}

// standings are those of the replicas that MAIN listed, by name.
func standings(replicas bolt.Result) map[string]standing {
	listed := map[string]standing{}
	for _, values := range replicas.Rows {
		if name, s, ok := readStanding(replicas.Fields, values); ok {
			listed[name] = s
		}
	}
	return listed
}

// readStanding reads a row of SHOW REPLICAS, whose data_info has a map for each
// database, of which Community has one. Source: Memgraph v3.12
// query/interpreter.cpp:2028-2082.
func readStanding(fields []string, values []any) (name string, s standing, ok bool) {
	row := map[string]any{}
	for i, f := range fields[:min(len(fields), len(values))] {
		row[f] = values[i]
	}
	name, ok = row["name"].(string)
	mode, _ := row["sync_mode"].(string)
	s.async = mode == "async"
	databases, _ := row["data_info"].(map[string]any)
	for _, v := range databases {
		database, _ := v.(map[string]any)
		status, _ := database["status"].(string)
		s.near = status == "ready" || status == "replicating"
	}
	return name, s, ok
}

// forReading reports whether g is a readPort's.
func (g *Gateway) forReading() bool { return g.cfg.Read.Listen != "" && g.read == nil }

// complete fills in what is empty.
func (r *Reading) complete() error {
	r.Fallback = cmp.Or(r.Fallback, ReadFromMain)
	if !slices.Contains([]ReadFallback{ReadFromMain, ReadFromNobody}, r.Fallback) {
		return fmt.Errorf("gateway config: Read.Fallback is %q: give main or none", r.Fallback)
	}
	return nil
}
