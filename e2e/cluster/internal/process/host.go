package process

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// ErrClosed is what Start returns once Close has been called.
var ErrClosed = errors.New("host is closed")

// Spec says what to run. Env is the whole environment. Output is appended to
// the file Log.
type Spec struct {
	Path string
	Args []string
	Env  []string
	Dir  string
	Log  string
}

// Host starts processes from one thread of its own. The kernel sends the
// parent-death signal when the *thread* that forked ends, and the Go runtime
// ends threads as it likes: hence one that is locked for the Host's life.
type Host struct {
	orders chan order
	quit   chan struct{}
	once   sync.Once
	wg     sync.WaitGroup
}

type order struct {
	spec  Spec
	reply chan outcome
}

type outcome struct {
	process *Process
	err     error
}

// NewHost returns a Host that its owner must Close.
func NewHost() *Host {
	h := &Host{orders: make(chan order), quit: make(chan struct{})}
	h.wg.Go(h.serve)
	return h
}

// Start runs spec in a process group of its own, out of reach of a terminal's
// interrupt.
func (h *Host) Start(spec Spec) (*Process, error) {
	o := order{spec: spec, reply: make(chan outcome, 1)}
	select {
	case h.orders <- o:
		out := <-o.reply
		return out.process, out.err
	case <-h.quit:
		return nil, ErrClosed
	}
}

// Close kills everything that runs and returns when all of it has ended.
func (h *Host) Close() {
	h.once.Do(func() { close(h.quit) })
	h.wg.Wait()
}

// serve never unlocks its thread: that ends with the goroutine, and by then no
// process is to run any more.
func (h *Host) serve() {
	runtime.LockOSThread()
	for {
		select {
		case o := <-h.orders:
			p, err := start(o.spec)
			if err == nil {
				h.wg.Go(func() { p.wait(h.quit) })
			}
			o.reply <- outcome{p, err}
		case <-h.quit:
			return
		}
	}
}

// start gives the process the log itself, not a pipe: what it writes last is kept
// even if this process is killed first.
func start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir = spec.Env, spec.Dir
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return &Process{cmd: cmd, started: time.Now(), done: make(chan struct{})}, nil
}
