package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/bolt"
)

var (
	changes = flag.Int("changes", 4, "changes of MAIN during which replicas must not grow")
	clients = flag.Int("clients", 200, "clients that come and go meanwhile")
)

const (
	// killEvery change of MAIN is a failover, the others are switchovers.
	killEvery = 4
	// clientsAtOnce come together.
	clientsAtOnce = 50
	// maxMemory is what a replica may keep resident, in KiB: what its container asks
	// for. The race detector takes several times as much.
	maxMemory = 64 << 10
	// spare is for what comes and goes by itself: timers, idle connections to the API
	// server and to pods that were replaced.
	spare = 12
)

// footprint is what a replica takes at one moment.
type footprint struct{ goroutines, files, kib int }

// footprintOf the controller in pod, at ip.
func footprintOf(ctx context.Context, pod, ip string) (f footprint, err error) {
	pid, _, err := lab.Process(pod)
	if err != nil {
		return f, err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return f, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return f, err
	}
	metrics, err := scrape(ctx, ip)
	if err != nil {
		return f, err
	}
	f.files = len(files)
	return f, errors.Join(after(string(status), "VmRSS:", &f.kib), after(metrics, "\ngo_goroutines ", &f.goroutines))
}

// after reads the number that follows name in text.
func after(text, name string, into *int) error {
	_, rest, found := strings.Cut(text, name)
	if !found {
		return fmt.Errorf("%q is not there", name)
	}
	_, err := fmt.Sscan(rest, into)
	return err
}

// scrape reads the metrics of the controller at ip.
func scrape(ctx context.Context, ip string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ip+":8080/metrics", nil)
	if err != nil {
		return "", err
	}
	resp, err := lab.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// Replicas that have carried clients through changes of MAIN are as small as they
// were: the first eighth of it fills what they keep, of the rest nothing is left.
func TestReplicasDoNotGrow(t *testing.T) {
	startLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(*changes+2)*roundTimeout)
	defer cancel()
	s := &scenario{run: newRun(ctx, t)}
	marks := []int{max(1, *changes/8), *changes / 2, *changes}
	taken := map[string][]footprint{}
	for done := 0; ; done++ {
		if len(marks) > 0 && done == marks[0] {
			s.takeFootprints(ctx, taken)
			marks = marks[1:]
		}
		if done == *changes {
			break
		}
		s.changeMain(ctx, done)
		s.visit(ctx, *clients / *changes)
	}
	table := tabwriter.NewWriter(t.Output(), 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "after so many of %d changes of MAIN and %d clients\tgoroutines\tfiles\tresident MiB\t\n", *changes, *clients)
	for pod, row := range taken {
		for i, f := range row {
			fmt.Fprintf(table, "%s, %s\t%d\t%d\t%.1f\t\n", pod, []string{"an eighth", "half", "all"}[i], f.goroutines, f.files, float64(f.kib)/1024)
		}
		first, last := row[0], row[2]
		assert.LessOrEqual(t, last.goroutines, first.goroutines+spare, pod)
		assert.LessOrEqual(t, last.files, first.files+spare, pod)
		assert.Less(t, last.kib, first.kib*3/2, pod)
		if !raceEnabled {
			assert.Less(t, last.kib, maxMemory, pod)
		}
	}
	require.NoError(t, table.Flush())
	s.judgeWrites(ctx)
}

// changeMain hands MAIN over by order, or kills it, and waits until all is whole.
func (s *scenario) changeMain(ctx context.Context, n int) {
	s.t.Helper()
	before := lab.Eye.Last()
	if n%killEvery == 0 {
		require.NoError(s.t, lab.Kill(ctx, before.Main()))
		_, err := lab.Eye.Decision(ctx, before.Generation)
		require.NoError(s.t, err)
	} else {
		require.NoError(s.t, s.order(ctx, memgraph.OrderSwitchover, ""))
	}
	s.recover(ctx)
}

// visit has n clients come to each gateway, ask something, and go.
func (s *scenario) visit(ctx context.Context, n int) {
	s.t.Helper()
	var all errgroup.Group
	all.SetLimit(clientsAtOnce)
	for i := range n {
		all.Go(func() error {
			return speak(ctx, s.writers[i%len(s.writers)].addr, func(c *bolt.Client) error {
				_, err := c.Run("RETURN 1")
				return err
			})
		})
	}
	require.NoError(s.t, all.Wait())
}

// takeFootprints adds those of all replicas, once their clients are gone.
func (s *scenario) takeFootprints(ctx context.Context, taken map[string][]footprint) {
	s.t.Helper()
	for _, w := range s.writers {
		host, _, err := net.SplitHostPort(w.addr)
		require.NoError(s.t, err)
		for {
			status, err := lab.status(ctx, w.name, host)
			require.NoError(s.t, err)
			if status.Gateway.Sessions <= 1 { // the writer's
				break
			}
			require.NoError(s.t, Pause(ctx, statusPoll))
		}
		f, err := footprintOf(ctx, w.name, host)
		require.NoError(s.t, err)
		taken[w.name] = append(taken[w.name], f)
	}
}
