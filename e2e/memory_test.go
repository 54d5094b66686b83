//go:build !race

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// maxMemory is what a replica may keep resident, in KiB: what its container asks
// for. The race detector takes several times as much, so this is not for it.
const maxMemory = 64 << 10

// resident is the memory of the process that plays pod, in KiB.
func resident(pod string) (kib int, err error) {
	pid, _, err := lab.Process(pod)
	if err != nil {
		return 0, err
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(after, &kib)
	return kib, err
}

// Replicas that have carried writers through failovers are as small as they were.
func TestMemoryOfAReplica(t *testing.T) {
	ctx, s := newScenario(t)
	for range *rounds {
		s.round(ctx, failure{cause: lab.Kill})
	}
	for _, w := range s.writers {
		kib, err := resident(w.name)
		require.NoError(t, err)
		t.Logf("%s: %d MiB after %d failovers", w.name, kib>>10, *rounds)
		assert.Less(t, kib, maxMemory, w.name)
	}
	s.judgeWrites(ctx)
}
