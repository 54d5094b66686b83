package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

const (
	// cacheVariable names the directory for binaries and runs; by default it is
	// memgraph-controller in the user's cache directory.
	cacheVariable = "MEMGRAPH_CONTROLLER_CACHE"
	// lastSubnet bounds N in 127.0.N.0/24; 127.0.0.0/24 is everybody's.
	lastSubnet = 254
	// lockPoll is how often a lock is tried that another process holds.
	lockPoll = 100 * time.Millisecond
)

// cacheDir is outside of the source tree, and is kept between runs.
func cacheDir() (string, error) {
	if dir := os.Getenv(cacheVariable); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory: %w", err)
	}
	return filepath.Join(dir, "memgraph-controller"), nil
}

// lease is the right to use a subnet and a directory. The kernel ends it with
// the process: the directory's by a file lock, and the addresses', also against
// users of another cache directory, by an abstract socket, which exists once
// per network namespace as the addresses do.
type lease struct {
	subnet string // "127.0.N"
	dir    string
	lock   *os.File
	socket net.Listener
}

// acquire takes the first free subnet, with a directory that is new and empty.
// It removes the directories of runs that were killed.
func acquire(cache string) (*lease, error) {
	runs := filepath.Join(cache, "runs")
	if err := os.MkdirAll(runs, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of runs: %w", err)
	}
	if err := sweep(runs); err != nil {
		return nil, err
	}
	for n := 1; n <= lastSubnet; n++ {
		l, err := acquireSubnet(runs, n)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		return l, err
	}
	return nil, errors.New("acquire subnet: all are taken")
}

// sweep removes the directories that nobody holds.
func sweep(runs string) error {
	entries, err := os.ReadDir(runs)
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		l := &lease{dir: filepath.Join(runs, e.Name())}
		if l.lock, err = tryLock(l.dir + ".lock"); errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err == nil {
			err = errors.Join(l.clear(), l.lock.Close())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// acquireSubnet fails with EWOULDBLOCK or EADDRINUSE if somebody has subnet n.
func acquireSubnet(runs string, n int) (*lease, error) {
	l := &lease{subnet: fmt.Sprintf("127.0.%d", n), dir: filepath.Join(runs, strconv.Itoa(n))}
	var err error
	if l.lock, err = tryLock(l.dir + ".lock"); err != nil {
		return nil, err
	}
	if l.socket, err = net.Listen("unix", "@memgraph-controller/"+l.subnet); err != nil {
		l.lock.Close()
		return nil, fmt.Errorf("acquire subnet: %w", err)
	}
	if err := l.clear(); err != nil {
		l.release()
		return nil, err
	}
	for _, sub := range []string{"bin", "pods", "volumes", "logs", "kubeconfigs"} {
		if err := os.MkdirAll(filepath.Join(l.dir, sub), 0o700); err != nil {
			l.release()
			return nil, fmt.Errorf("make run directory: %w", err)
		}
	}
	return l, nil
}

// address is one of the subnet's.
func (l *lease) address(host int) string { return fmt.Sprintf("%s.%d", l.subnet, host) }

// clear removes what is in the directory, and the directory.
func (l *lease) clear() error {
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("remove run directory: %w", err)
	}
	return nil
}

// release gives subnet and directory to others. The lock file stays: removing
// it would let two processes lock two files of one name.
func (l *lease) release() {
	l.socket.Close()
	l.lock.Close()
}

// tryLock locks the file at path until it is closed or this process ends. The
// error is EWOULDBLOCK if it is taken.
func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// waitLock is tryLock, again until it succeeds or ctx ends.
func waitLock(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := tryLock(path)
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("await lock %s: %w", path, ctx.Err())
		case <-time.After(lockPoll):
		}
	}
}
