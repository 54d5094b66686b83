package controller

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/procfs"
)

const (
	// lastQuestion is what a Memgraph is given for an answer at least: a local one takes
	// half a millisecond.
	lastQuestion = 100 * time.Millisecond
	// listening is the state of a socket that does, as Linux numbers them.
	listening = 0x0A
)

// Guard ends a Memgraph that hangs as soon as its pod is deleted. A kubelet would take 3 s
// for that, and every commit waits meanwhile that waits for it. It runs in the pod, in
// the same process namespace and as the same user. Its fields are flags.
type Guard struct {
	// Address is where Memgraph serves Bolt.
	Address string
	// Interval is between two questions, and Silence what tells a Memgraph that hangs.
	Interval, Silence time.Duration
}

// DefaultGuard ends what has been silent for a second, which is less than a leader takes
// to have the pod of a partner deleted for that.
var DefaultGuard = Guard{Address: "127.0.0.1:7687", Interval: 250 * time.Millisecond, Silence: time.Second}

// AddFlags has f set g; what g holds are the defaults.
func (g *Guard) AddFlags(f *flag.FlagSet) {
	f.StringVar(&g.Address, "address", g.Address, "IP:port at which Memgraph serves Bolt")
	f.DurationVar(&g.Interval, "interval", g.Interval, "how often Memgraph is asked for its role")
	f.DurationVar(&g.Silence, "silence", g.Silence, "how long a Memgraph that hangs has not answered")
}

// Validate returns everything that is wrong, by flag.
func (g Guard) Validate() error {
	var v violations
	if _, err := netip.ParseAddrPort(g.Address); err != nil {
		v.wrong("address", "%v", err)
	}
	v.outside("interval", g.Interval, minInterval, maxInterval)
	v.outside("silence", g.Silence, minInterval, maxInterval)
	return errors.Join(v...)
}

// Run asks over prober until ctx ends, which is the deletion of the pod. Then it returns
// with the next answer, or ends the Memgraph that gives none.
func (g Guard) Run(ctx context.Context, prober Prober, log *slog.Logger) error {
	alive, lasting := true, context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		asking := ctx
		if alive {
			asking = lasting // what may be slow is given its time
		}
		alive = g.answers(asking, prober, g.Silence)
		_ = sleep(ctx, g.Interval) // its end ends the loop
	}
	limit := lastQuestion
	if alive {
		limit = g.Silence
	}
	if g.answers(lasting, prober, limit) {
		return nil
	}
	log.Warn("memgraph hangs, and its pod is deleted: it is ended", "address", g.Address)
	return endListener(g.Address)
}

// answers reports whether Memgraph does within limit. One that is not there, or has
// something against the question, does not hang.
func (g Guard) answers(ctx context.Context, prober Prober, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := prober.Identify(ctx, g.Address)
	return err == nil || ctx.Err() == nil
}

// endListener kills the processes that listen at address.
func endListener(address string) error {
	pids, err := listeners(address)
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return fmt.Errorf("no process is seen to listen at %s: the pod needs shareProcessNamespace, and the guard the user of Memgraph", address)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("kill process %d, which listens at %s: %w", pid, address, err)
		}
	}
	return nil
}

// listeners are the processes that listen at address, or at all addresses with its port.
func listeners(address string) (pids []int, err error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return nil, err
	}
	v4, err := fs.NetTCP()
	if err != nil {
		return nil, err
	}
	v6, err := fs.NetTCP6()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var sockets []string
	for _, s := range slices.Concat(v4, v6) {
		ip, _ := netip.AddrFromSlice(s.LocalAddr)
		if s.St == listening && s.LocalPort == uint64(at.Port()) && (ip.IsUnspecified() || ip.Unmap() == at.Addr()) {
			sockets = append(sockets, "socket:["+strconv.FormatUint(s.Inode, 10)+"]")
		}
	}
	procs, err := fs.AllProcs()
	if err != nil {
		return nil, err
	}
	for _, p := range procs {
		files, err := p.FileDescriptorTargets()
		if err == nil && slices.ContainsFunc(files, func(f string) bool { return slices.Contains(sockets, f) }) {
			pids = append(pids, p.PID)
		} // else it is another's, or has ended
	}
	return pids, nil
}
