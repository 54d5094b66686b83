package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// signalledBase is what shells and container runtimes add to the number of the
// signal that ended a process.
const signalledBase = 128

// Process is one that a Host has started.
type Process struct {
	cmd     *exec.Cmd
	started time.Time
	done    chan struct{}
	ended   time.Time
}

// PID is its number; it may belong to another process once Done is closed.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Started is when it was forked.
func (p *Process) Started() time.Time { return p.started }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// HasEnded says whether Done is closed.
func (p *Process) HasEnded() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Ended is when it ended; call it after Done.
func (p *Process) Ended() time.Time { return p.ended }

// ExitCode is the status, or 128 plus the signal that killed it; call it after
// Done.
func (p *Process) ExitCode() int {
	if s, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		return signalledBase + int(s.Signal())
	}
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends sig; to a process that has ended it is a no-op.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal pid %d: %w", p.PID(), err)
	}
	return nil
}

// Kill sends SIGKILL and returns when the process has ended.
func (p *Process) Kill(ctx context.Context) error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("await end of pid %d: %w", p.PID(), ctx.Err())
	}
}

// Pause sends SIGSTOP and returns when the process stands still. It returns an
// error if it ends instead.
func (p *Process) Pause(ctx context.Context) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		select {
		case <-p.done:
			return fmt.Errorf("pause pid %d: %w", p.PID(), os.ErrProcessDone)
		case <-ctx.Done():
			return fmt.Errorf("pause pid %d: %w", p.PID(), ctx.Err())
		case <-time.After(time.Millisecond):
		}
		if state(p.PID()) == 'T' {
			return nil
		}
	}
}

// Resume sends SIGCONT.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }

// wait reaps the process, and kills it first if quit is closed. What it leaves
// behind in its group goes with it, as in a container.
func (p *Process) wait(quit <-chan struct{}) {
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		_ = p.cmd.Wait() // the status is in ProcessState
	}()
	select {
	case <-reaped:
	case <-quit:
		_ = p.cmd.Process.Kill() // fails only for one that has ended
		<-reaped
	}
	p.ended = time.Now()
	_ = syscall.Kill(-p.PID(), syscall.SIGKILL)
	close(p.done)
}

// state is the letter that /proc gives for pid's state, 0 if there is none.
func state(pid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	if i := bytes.LastIndexByte(b, ')'); i >= 0 && i+2 < len(b) {
		return b[i+2]
	}
	return 0
}
