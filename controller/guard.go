package controller

import (
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// lastQuestion is what a Memgraph is given for an answer at least: a local one takes
	// half a millisecond.
	lastQuestion = 100 * time.Millisecond
	// listening is the state of a socket that does, as Linux numbers them.
	listening = "0A"
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

// listeners are the processes that listen at address, or at all addresses with its port,
// among those whose files may be looked at. Source: Linux, proc_pid_fd(5), proc_net_tcp.
func listeners(address string) (pids []int, err error) {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	sockets, err := socketsAt(at)
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		target, err := os.Readlink(file)
		if err != nil || !slices.Contains(sockets, target) {
			continue // an error: it is another's, or was closed meanwhile
		}
		pid, err := strconv.Atoi(strings.Split(file, "/")[2])
		if err == nil && !slices.Contains(pids, pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// socketsAt are the sockets that listen at an address, as links of files name them.
func socketsAt(at netip.AddrPort) (sockets []string, err error) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(table)
		if errors.Is(err, os.ErrNotExist) && table != "/proc/net/tcp" {
			continue // there is no IPv6
		}
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(b)) {
			const local, state, inode, columns = 1, 3, 9, 10
			f := strings.Fields(line)
			if len(f) < columns || f[state] != listening {
				continue
			}
			if a, ok := parseSocketAddress(f[local]); ok && a.Port() == at.Port() && (a.Addr().IsUnspecified() || a.Addr() == at.Addr()) {
				sockets = append(sockets, "socket:["+f[inode]+"]")
			}
		}
	}
	return sockets, nil
}

// parseSocketAddress reads an address as the kernel prints it: in hexadecimal, each four
// bytes of the IP as a number of a little-endian machine.
func parseSocketAddress(s string) (a netip.AddrPort, ok bool) {
	host, port, _ := strings.Cut(s, ":")
	ip, err := hex.DecodeString(host)
	if err != nil {
		return a, false
	}
	for word := range slices.Chunk(ip, 4) {
		slices.Reverse(word)
	}
	addr, ok := netip.AddrFromSlice(ip)
	number, err := strconv.ParseUint(port, 16, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), ok && err == nil
}
