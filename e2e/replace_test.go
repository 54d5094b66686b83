package e2e

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A StatefulSet that is deleted without its pods, and made anew, takes them over: it is
// not seen by clients, and changes nothing.
func TestStatefulSetIsReplacedUnderItsPods(t *testing.T) {
	ctx, s := newScenario(t)
	set, err := lab.Dismiss(ctx, metav1.DeletePropagationOrphan)
	require.NoError(t, err)
	require.NoError(t, lab.Install(ctx, set))
	s.recover(ctx)
	after, err := lab.Leader(ctx)
	require.NoError(t, err)
	for _, p := range after.Pods {
		assert.Equal(t, s.before.pod(p.Name).RunID, p.RunID, "%s is the same process", p.Name)
	}
	s.assertSpared()
	s.judgeWrites(ctx)
	s.assertSteady()
}

// A StatefulSet that is deleted with its pods leaves their volumes and the record: whoever
// was MAIN is MAIN again, with all that was acknowledged.
func TestStatefulSetIsDeletedAndMadeAnew(t *testing.T) {
	ctx, s := newScenario(t)
	set, err := lab.Dismiss(ctx, metav1.DeletePropagationForeground)
	require.NoError(t, err)
	last := lab.Eye.Last()
	begun := time.Now()
	require.NoError(t, lab.Install(ctx, set))
	for _, w := range s.writers {
		first, err := w.FirstAck(ctx, begun)
		require.NoError(t, err)
		t.Logf("%s: writes go on %s after there are pods again to be", w.name, first.Sub(begun))
	}
	s.recover(ctx)
	for _, seen := range lab.Eye.Since(begun) {
		assert.Equal(t, last.Main(), seen.Main(), "the record is honoured")
	}
	assert.Empty(t, lab.Eye.Reseeds(s.begun), "nobody has lost his data")
	s.judgeWrites(ctx)
}
