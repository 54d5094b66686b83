package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startTimeout has room for the first build of the control plane.
const startTimeout = 15 * time.Minute

// lab is shared by the tests that call startLab: it takes seconds to start, and
// each leaves it whole.
var lab *Lab

var startOnce = sync.OnceValue(func() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	lab, err = Start(ctx, os.Stderr)
	return err
})

func startLab(t *testing.T) {
	t.Helper()
	require.NoError(t, startOnce())
}

func TestMain(m *testing.M) {
	code := m.Run()
	if lab != nil {
		if err := lab.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// logs are the last words of the controllers, and of other pods, for a test that failed.
func logs(others ...string) string {
	controllers, err := lab.Controllers(context.Background())
	if err != nil {
		return err.Error()
	}
	pods := others
	for _, c := range controllers {
		pods = append(pods, c.Pod)
	}
	var b strings.Builder
	for _, p := range pods {
		l, err := lab.Logs(p)
		fmt.Fprintf(&b, "%s (%v):\n%s\n", p, err, l[max(0, len(l)-20_000):])
	}
	return b.String()
}
