package process

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// asStarter in the environment makes this test binary start a process, print
// its number and wait to be killed.
const asStarter = "PROCESS_TEST_STARTER"

func TestMain(m *testing.M) {
	if log := os.Getenv(asStarter); log != "" {
		p, err := NewHost().Start(Spec{Path: "/bin/sleep", Args: []string{"60"}, Log: log})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
		select {}
	}
	goleak.VerifyTestMain(m)
}

// Invariant 1.
func TestStarterKilledTakesItsProcessesAlong(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	starter := exec.Command(os.Args[0])
	starter.Env = []string{asStarter + "=" + log}
	out, err := starter.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, starter.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err, line)

	require.NoError(t, starter.Process.Kill())
	_ = starter.Wait()
	waitFor(t, func() bool { return gone(pid) })
}

func TestCloseEndsWhatRuns(t *testing.T) {
	h := NewHost()
	log := filepath.Join(t.TempDir(), "log")
	p, err := h.Start(shell(log, "trap '' TERM; while :; do sleep 60; done"))
	require.NoError(t, err)

	h.Close()
	h.Close()
	assert.True(t, gone(p.PID()), "invariant 2")
	assert.Equal(t, 137, p.ExitCode())
	_, err = h.Start(shell(log, "true"))
	assert.ErrorIs(t, err, ErrClosed)
}

func TestEndTakesTheGroupAlong(t *testing.T) {
	h := NewHost()
	defer h.Close()
	log := filepath.Join(t.TempDir(), "log")
	p, err := h.Start(shell(log, "sleep 60 & echo $!"))
	require.NoError(t, err)
	<-p.Done()

	out, err := os.ReadFile(log)
	require.NoError(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(string(out)))
	require.NoError(t, err)
	waitFor(t, func() bool { return gone(child) })
}

func TestExitCode(t *testing.T) {
	h := NewHost()
	defer h.Close()
	for _, c := range []struct {
		script string
		want   int
	}{
		{"exit 0", 0},
		{"exit 3", 3},
		{"kill -9 $$", 137},
		{"kill -15 $$", 143},
	} {
		t.Run(c.script, func(t *testing.T) {
			p, err := h.Start(shell(filepath.Join(t.TempDir(), "log"), c.script))
			require.NoError(t, err)
			<-p.Done()
			assert.Equal(t, c.want, p.ExitCode())
			assert.False(t, p.Ended().Before(p.Started()))
			assert.NoError(t, p.Signal(syscall.SIGTERM), "invariant 3")
		})
	}
}

func TestPauseStopsAndResumeContinues(t *testing.T) {
	h := NewHost()
	defer h.Close()
	p, err := h.Start(shell(filepath.Join(t.TempDir(), "log"), "while :; do sleep 0.01; done"))
	require.NoError(t, err)

	require.NoError(t, p.Pause(t.Context()))
	assert.Equal(t, byte('T'), state(p.PID()))
	require.NoError(t, p.Resume())
	waitFor(t, func() bool { return state(p.PID()) != 'T' })
	require.NoError(t, p.Pause(t.Context()))
	require.NoError(t, p.Kill(t.Context()), "a stopped process can be killed")
	assert.ErrorIs(t, p.Pause(t.Context()), os.ErrProcessDone)
}

func TestStartOfWhatIsNotThere(t *testing.T) {
	h := NewHost()
	defer h.Close()
	_, err := h.Start(Spec{Path: "/nowhere", Log: filepath.Join(t.TempDir(), "log")})
	assert.ErrorIs(t, err, os.ErrNotExist)
}

func shell(log, script string) Spec {
	return Spec{Path: "/bin/sh", Args: []string{"-c", script}, Log: log, Env: []string{"PATH=/usr/bin:/bin"}}
}

// gone says whether pid is no process any more, or one that only waits to be
// reaped by its parent.
func gone(pid int) bool {
	s := state(pid)
	return s == 0 || s == 'Z'
}

// waitFor polls fn until it is true; ten seconds are for a busy machine.
func waitFor(t *testing.T, fn func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !fn() {
		select {
		case <-ctx.Done():
			t.Fatal("waited in vain")
		case <-time.After(time.Millisecond):
		}
	}
}
