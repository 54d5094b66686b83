package controller

import (
	"bufio"
	"context"

	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"memgraph-controller/memgraph"
)

// memgraphFake is a Memgraph that answers a question asked at a time since the beginning,
// or lets its deadline pass.
type memgraphFake func(ctx context.Context, at time.Duration) error

// talks is a prober of f, since now.
func (f memgraphFake) talks() Prober { return &fakeProber{f, time.Now()} }

type fakeProber struct {
	answer memgraphFake
	began  time.Time
}

func (p *fakeProber) Identify(ctx context.Context, _ string) (memgraph.Identity, error) {
	return memgraph.Identity{}, p.answer(ctx, time.Since(p.began))
}

func (p *fakeProber) Listens(context.Context, string) error { return nil }

func unanswered(ctx context.Context) error {
	<-ctx.Done()
	return memgraph.ErrUnreachable
}

// The pod of each Memgraph is deleted after an hour.
func TestOnlyWhatHangsIsEnded(t *testing.T) {
	const deleted = time.Hour
	silentFrom := func(from time.Duration) memgraphFake {
		return func(ctx context.Context, at time.Duration) error {
			if at >= from {
				return unanswered(ctx)
			}
			return nil
		}
	}
	for name, c := range map[string]struct {
		memgraph memgraphFake
		ended    bool
		within   time.Duration
	}{
		"it answers":                         {silentFrom(2 * deleted), false, 0},
		"it has hung for as long as it runs": {silentFrom(0), true, lastQuestion},
		"it has hung for long":               {silentFrom(deleted - 2*time.Second), true, lastQuestion},
		"it has hung for as long as a leader needs to find out": {silentFrom(deleted - 1100*time.Millisecond), true, DefaultGuard.Interval + lastQuestion},
		"it has begun to hang": {silentFrom(deleted - 100*time.Millisecond), true, time.Second + lastQuestion},
		"it hangs now":         {silentFrom(deleted), true, time.Second + lastQuestion},
		"it has hung, and goes on": {func(ctx context.Context, at time.Duration) error {
			if at > time.Second && at < deleted {
				return unanswered(ctx)
			}
			return nil
		}, false, 0},
		"it is slow": {func(ctx context.Context, _ time.Duration) error {
			return sleep(ctx, 600*time.Millisecond)
		}, false, 0},
		"it is gone":               {func(context.Context, time.Duration) error { return memgraph.ErrRefused }, false, 0},
		"its password was changed": {func(context.Context, time.Duration) error { return memgraph.ErrUnauthenticated }, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), deleted)
				defer cancel()
				began := time.Now()
				err := Guard{Address: "127.0.0.1:1", Interval: DefaultGuard.Interval, Silence: DefaultGuard.Silence}.Run(
					ctx, c.memgraph.talks(), slog.New(slog.DiscardHandler))
				took := time.Since(began) - deleted
				if !c.ended {
					require.NoError(t, err)
					return
				}
				require.ErrorContains(t, err, "no process is seen to listen at 127.0.0.1:1", "there is none")
				assert.LessOrEqual(t, took, c.within)
			})
		})
	}
}

// listener is this program once more, as one that listens and does nothing else.
func listener(t *testing.T, address string) (cmd *exec.Cmd, at string) {
	t.Helper()
	cmd = exec.Command(os.Args[0], "-test.run=^TestListener$")
	cmd.Env = append(os.Environ(), "LISTEN_AT="+address)
	stdin, err := cmd.StdinPipe() // it ends with us
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Wait()
	})
	at, err = bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	return cmd, strings.TrimSpace(at)
}

// TestListener is no test, but what listener starts.
func TestListener(t *testing.T) {
	address := os.Getenv("LISTEN_AT")
	if address == "" {
		return
	}
	l, err := net.Listen("tcp", address)
	require.NoError(t, err)
	defer l.Close()
	fmt.Println(l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func TestWhoListensIsEndedAndNobodyElse(t *testing.T) {
	if _, err := os.Stat("/proc/net/tcp"); err != nil {
		t.Skip("sockets are found by /proc")
	}
	hung, at := listener(t, "127.0.0.2:0")
	_, port, err := net.SplitHostPort(at)
	require.NoError(t, err)
	other, _ := listener(t, "127.0.0.3:"+port)
	require.NoError(t, hung.Process.Signal(syscall.SIGSTOP))
	require.NoError(t, endListener(at))
	var exit *exec.ExitError
	require.ErrorAs(t, hung.Wait(), &exit)
	assert.Equal(t, syscall.SIGKILL, exit.Sys().(syscall.WaitStatus).Signal())
	require.NoError(t, other.Process.Signal(syscall.Signal(0)), "it runs")
	require.Error(t, endListener(at), "nobody is left")

	everywhere, at := listener(t, "0.0.0.0:0")
	_, port, err = net.SplitHostPort(at)
	require.NoError(t, err)
	require.NoError(t, endListener("127.0.0.1:"+port))
	require.ErrorAs(t, everywhere.Wait(), &exit)
}

func TestAGuardIsToldWhatIsWrong(t *testing.T) {
	for flag, spoil := range map[string]func(*Guard){
		"address":  func(g *Guard) { g.Address = "memgraph:7687" },
		"interval": func(g *Guard) { g.Interval = 0 },
		"silence":  func(g *Guard) { g.Silence = time.Hour },
	} {
		g := DefaultGuard
		require.NoError(t, g.Validate())
		spoil(&g)
		require.ErrorContains(t, g.Validate(), "--"+flag+": ")
	}
}
