// Demo brings up an embedded cluster, lets its MAIN fail twice under a client
// that writes all the time, and prints what happened, millisecond by
// millisecond. It needs nothing but Go, and leaves nothing behind.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"memgraph-controller/e2e"
	"memgraph-controller/failover"
	"memgraph-controller/memgraph"
)

const (
	// startTimeout has room for the first build of the control plane.
	startTimeout = 20 * time.Minute
	// sceneTimeout is for one failure and the return of the failed pod.
	sceneTimeout = 2 * time.Minute
	// breath is for the reader, and shows that writes go on.
	breath = 2 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) (err error) {
	fmt.Fprint(out, `A Memgraph cluster of three on a real Kubernetes API server, all of it on this
machine's loopback addresses: etcd, kube-apiserver and kube-controller-manager,
a node agent that runs pods as processes, a stand-in for Memgraph, and two
replicas of memgraph-controller. The first run builds the control plane, which
takes about five minutes on two cores; later runs start in seconds.

`)
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	lab, err := e2e.Start(starting, out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lab.Stop()) }()
	if err := lab.Whole(starting); err != nil {
		return err
	}
	controllers, err := lab.Controllers(starting)
	if err != nil {
		return err
	}
	d := &demo{lab: lab, out: out}
	defer d.stopWriters()
	if err := d.startWriters(ctx, controllers); err != nil {
		return err
	}
	return d.play(ctx)
}

// demo is a show under way.
type demo struct {
	lab     *e2e.Lab
	out     io.Writer
	writers []*e2e.Writer
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

func (d *demo) startWriters(ctx context.Context, controllers []e2e.Status) error {
	s := controllers[0].Record
	d.say("\n%s is MAIN, %s its synchronous partner, the third an async replica. Two clients now", s.Main, s.Partner)
	d.say("write a node every 5 ms, each through the gateway of one controller.")
	for _, c := range controllers {
		w, err := e2e.NewWriter(ctx, c.Pod, c.Addr)
		if err != nil {
			return err
		}
		d.writers = append(d.writers, w)
	}
	return e2e.Pause(ctx, breath)
}

func (d *demo) stopWriters() {
	for _, w := range d.writers {
		w.Stop()
	}
}

func (d *demo) play(ctx context.Context) error {
	err := d.scene(ctx, "kubectl delete pod %s (it is MAIN, and still runs for its preStop)", func(ctx context.Context, main string) error {
		return d.lab.Delete(ctx, main, nil)
	})
	if err != nil {
		return err
	}
	err = d.scene(ctx, "kill -9 of the process in %s (it is MAIN, and nobody was warned)", d.lab.Kill)
	if err != nil {
		return err
	}
	return d.tally(ctx)
}

// moment is a line of a timeline.
type moment struct {
	at   time.Time
	what string
}

// scene lets MAIN fail once and prints what happened.
func (d *demo) scene(ctx context.Context, title string, fail func(context.Context, string) error) error {
	ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
	defer cancel()
	before := d.lab.Eye.Last()
	d.say("\n=== "+title, before.Main())
	begun := time.Now()
	if err := fail(ctx, before.Main()); err != nil {
		return err
	}
	moments, err := d.watch(ctx, before)
	if err != nil {
		return err
	}
	gaps := d.gaps(begun)
	for i, w := range d.writers {
		moments = append(moments, moment{gaps[i].To, "first write acknowledged through " + w.Name() + " after its longest gap"})
	}
	slices.SortStableFunc(moments, func(a, b moment) int { return a.at.Compare(b.at) })
	for _, m := range moments {
		d.say("%9.1f ms  %s", float64(m.at.Sub(begun).Microseconds())/1000, m.what)
	}
	for i, w := range d.writers {
		d.say("longest gap between two acknowledged writes through %s: %d ms", w.Name(), gaps[i].Length().Milliseconds())
	}
	return e2e.Pause(ctx, breath)
}

// gaps are each writer's longest since begun.
func (d *demo) gaps(begun time.Time) []e2e.Gap {
	gaps := make([]e2e.Gap, len(d.writers))
	for i, w := range d.writers {
		gaps[i] = w.Gap(begun)
	}
	return gaps
}

// watch follows a failure to its end: what the lab itself saw, and what the
// leader wrote into the record's history.
func (d *demo) watch(ctx context.Context, before e2e.Sight) ([]moment, error) {
	sight, err := d.lab.Eye.Decision(ctx, before.Generation)
	if err != nil {
		return nil, err
	}
	moments := []moment{{sight.At, "the record names " + sight.Main() + " (seen by a third party)"}}
	reached, err := e2e.Passages(ctx, d.writers, sight.MainRunID)
	if err != nil {
		return nil, err
	}
	for i, w := range d.writers {
		moments = append(moments, moment{reached[i], "a new connection through " + w.Name() + " reaches " + sight.Main()})
		if _, err := w.FirstAck(ctx, reached[i]); err != nil {
			return nil, err
		}
	}
	returned, err := d.returns(ctx, before.Main(), sight)
	if err != nil {
		return nil, err
	}
	changes, err := d.lab.History(ctx)
	if err != nil {
		return nil, err
	}
	for _, c := range changes {
		if c.Generation == sight.Generation {
			return append(append(moments, returned...), stages(c)...), nil
		}
	}
	return nil, fmt.Errorf("generation %d is not in the history", sight.Generation)
}

// returns follows the pod that was MAIN, until the cluster is whole again.
func (d *demo) returns(ctx context.Context, pod string, after e2e.Sight) ([]moment, error) {
	back, diverged, err := d.lab.Back(ctx, pod, after.Generation)
	if err != nil {
		return nil, err
	}
	what := pod + " is back, as a replica of " + after.Main()
	if diverged {
		what = pod + " is back, and has diverged: it holds a commit that nobody else has"
	}
	moments := []moment{{back, what}}
	if err := d.lab.Whole(ctx); err != nil {
		return nil, err
	}
	if diverged {
		moments = append(moments, moment{time.Now(), pod + " was told to start empty, and follows " + after.Main()})
	}
	return moments, nil
}

// stages are what the leader noted of a change, in words.
func stages(c memgraph.Change) []moment {
	words := []struct{ stage, what string }{
		{failover.StageQueued, "an urgent worker takes it"},
		{failover.StageDecided, "decided: " + c.Kind + " to " + c.To + ", because " + c.Reason},
		{failover.StageRecorded, "record written"},
		{failover.StageDemoted, c.From + " demoted"},
		{failover.StagePromoted, c.To + " promoted"},
		{failover.StageRegistered, "the other replica registered: it refuses the old MAIN from now on"},
	}
	moments := []moment{{c.Seen, "the leader sees it"}}
	for _, w := range words {
		if after, ok := c.Stages[w.stage]; ok {
			moments = append(moments, moment{c.Seen.Add(time.Duration(after * float64(time.Millisecond))), w.what})
		}
	}
	return moments
}

// tally prints what the clients have to say, and fails if a write was lost.
func (d *demo) tally(ctx context.Context) error {
	d.stopWriters()
	ctx, cancel := context.WithTimeout(ctx, sceneTimeout)
	defer cancel()
	d.say("\n=== The clients' tally")
	controllers, err := d.lab.Controllers(ctx)
	if err != nil {
		return err
	}
	lost := 0
	for _, w := range d.writers {
		missing, err := w.Missing(ctx, controllers[0].Addr)
		if err != nil {
			return err
		}
		lost += len(missing)
		d.say("%s: %d writes acknowledged, %d of them missing, errors: %s", w.Name(), len(w.Acks()), len(missing), sorted(w.Errors()))
	}
	if lost > 0 {
		return fmt.Errorf("%d acknowledged writes are missing", lost)
	}
	d.say("\nNo acknowledged write was lost.")
	return nil
}

func sorted(errors map[string]int) string {
	if len(errors) == 0 {
		return "none"
	}
	var out []string
	for text, n := range errors {
		out = append(out, fmt.Sprintf("%d × %s", n, text))
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}
