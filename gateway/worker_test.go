package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"
	"github.com/neo4j/neo4j-go-driver/v5/neo4j/config"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const createQuery = "CREATE (n:W {key: $key}) RETURN n.key"

// ways are the three in which an application may write with the Go driver.
var ways = map[string]func(context.Context, neo4j.SessionWithContext, map[string]any) error{
	"managed": func(ctx context.Context, s neo4j.SessionWithContext, params map[string]any) error {
		_, err := s.ExecuteWrite(ctx, func(tx neo4j.ManagedTransaction) (any, error) {
			r, err := tx.Run(ctx, createQuery, params)
			if err != nil {
				return nil, err
			}
			return r.Collect(ctx)
		})
		return err
	},
	"unmanaged": func(ctx context.Context, s neo4j.SessionWithContext, params map[string]any) error {
		tx, err := s.BeginTransaction(ctx)
		if err != nil {
			return err
		}
		defer tx.Close(ctx)
		r, err := tx.Run(ctx, createQuery, params)
		if err == nil {
			_, err = r.Collect(ctx)
		}
		if err != nil {
			return err
		}
		return tx.Commit(ctx)
	},
	"auto-commit": func(ctx context.Context, s neo4j.SessionWithContext, params map[string]any) error {
		r, err := s.Run(ctx, createQuery, params)
		if err != nil {
			return err
		}
		_, err = r.Collect(ctx)
		return err
	},
}

// load is what a number of workers, each in its own session, did.
type load struct {
	t       testing.TB
	stop    func() // has the workers end
	done    atomic.Int64
	ending  atomic.Bool
	workers sync.WaitGroup
	mayFail bool // where it is not known whether a commit took effect

	mu      sync.Mutex
	acked   []string
	errors  []error
	took    []time.Duration
	unknown map[string]bool // keys whose write was answered with OutcomeUnknown
}

func startLoad(t testing.TB, url string, auth neo4j.AuthToken, way string, workers int) *load {
	t.Helper()
	driver, err := neo4j.NewDriverWithContext(url, auth, func(c *config.Config) { c.MaxConnectionPoolSize = workers })
	require.NoError(t, err)
	require.NoError(t, driver.VerifyConnectivity(t.Context())) // the driver's first connection races with others
	l := &load{t: t, unknown: map[string]bool{}}
	for w := range workers {
		l.workers.Go(func() { l.work(driver, way, w) })
	}
	l.stop = func() {
		l.workers.Wait()
		_ = driver.Close(context.WithoutCancel(t.Context())) // what matters has been said
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) work(driver neo4j.DriverWithContext, way string, worker int) {
	ctx := context.WithoutCancel(l.t.Context())
	for i := 0; !l.ending.Load(); i++ {
		key := fmt.Sprintf("%d-%d", worker, i)
		session := driver.NewSession(ctx, neo4j.SessionConfig{})
		began := time.Now()
		err := ways[way](ctx, session, map[string]any{"key": key})
		l.note(key, time.Since(began), err)
		_ = session.Close(ctx) // what matters has been said
		l.done.Add(1)
	}
}

func (l *load) note(key string, took time.Duration, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took)
	if err == nil {
		l.acked = append(l.acked, key)
		return
	}
	l.errors = append(l.errors, err)
	if failure := new(neo4j.Neo4jError); errors.As(err, &failure) && failure.Code == codeOutcomeUnknown {
		l.unknown[key] = true
	}
}

// forget drops the times of what was done so far: of opening connections.
func (l *load) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = nil
}

// await waits for n more operations.
func (l *load) await(n int64) {
	until := l.done.Load() + n
	waitFor(l.t, "operations", func() bool { return l.done.Load() >= until })
}

func (l *load) end() {
	if !l.ending.Swap(true) {
		l.stop()
		l.workers.Wait()
	}
}

// verdict prints a row of the table, and checks what holds in every scenario:
// nothing acknowledged is missing, nothing is there twice, and what failed is not
// there, unless it was said not to be known.
func (l *load) verdict(name string, readAll func() map[string]int) {
	l.end()
	written := readAll()
	slices.Sort(l.took)
	n := len(l.took)
	texts := map[string]int{}
	for _, err := range l.errors {
		texts[err.Error()]++
	}
	missing, duplicates, strangers := 0, 0, 0
	for _, key := range l.acked {
		if written[key] == 0 {
			missing++
		}
		delete(l.unknown, key)
	}
	acked := map[string]bool{}
	for _, key := range l.acked {
		acked[key] = true
	}
	for key, times := range written {
		if times > 1 {
			duplicates++
		}
		if !acked[key] && !l.unknown[key] {
			strangers++
		}
	}
	l.t.Logf("%-32s n %5d  errors %2d (%d unknown)  missing %d  duplicates %d  p50 %7v  p99 %7v  worst %7v",
		name, n, len(l.errors), len(l.unknown), missing, duplicates,
		l.took[n/2].Round(time.Microsecond*100), l.took[n*99/100].Round(time.Microsecond*100), l.took[n-1].Round(time.Microsecond*100))
	assert.Zero(l.t, missing, "acknowledged writes")
	assert.Zero(l.t, duplicates, "writes")
	assert.Zero(l.t, strangers, "writes that failed for certain, and are there")
	for text := range texts {
		assert.False(l.t, strings.Contains(text, "forbidden"), text)
		if !l.mayFail || !strings.Contains(text, codeOutcomeUnknown) {
			assert.Fail(l.t, "an error that the client need not have seen", "%d times: %s", texts[text], text)
		}
	}
	for _, err := range l.errors {
		assert.False(l.t, neo4j.IsRetryable(err), "never told to retry: %v", err)
	}
}

// within checks the times of nearly all operations.
func (l *load) within(limit time.Duration) {
	if !slowed {
		assert.LessOrEqual(l.t, l.took[len(l.took)*99/100], limit, "p99 of %s", l.t.Name())
	}
}
