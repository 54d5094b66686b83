package e2e

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"memgraph-controller/controller"
)

func record(name, generation, inSync string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{
		"generation": generation, "mainIndex": "1", "mainRunID": "run", "phase": "Stable", "inSync": inSync,
	}}
}

func TestEyeKeepsEveryStateOfTheRecord(t *testing.T) {
	e, name := newEye(), controller.RecordName(statefulSet)
	assert.Equal(t, Sight{}, e.Last())
	assert.Empty(t, e.Since(at(0)))
	e.seeRecord(record("kube-root-ca.crt", "9", "true"), at(1))
	e.seeRecord(record(name, "1", "true"), at(2))
	e.seeRecord(record(name, "2", "false"), at(4))
	e.seeRecord(record(name, "2", "true"), at(6))
	sight := func(second int, generation int64, inSync bool) Sight {
		return Sight{At: at(second), Generation: generation, MainIndex: 1, MainRunID: "run", Phase: "Stable", InSync: inSync}
	}
	all := []Sight{sight(2, 1, true), sight(4, 2, false), sight(6, 2, true)}
	assert.Equal(t, all[2], e.Last())
	assert.Equal(t, "memgraph-1", e.Last().Main())
	for second, want := range map[int][]Sight{0: all, 2: all, 3: all, 5: all[1:], 7: all[2:]} {
		assert.Equal(t, want, e.Since(at(second)), "since %d", second)
	}
	decision, err := e.Decision(t.Context(), 1)
	require.NoError(t, err)
	assert.Equal(t, all[1], decision, "the first of its generation")
}

func TestEyeCountsOrdersToStartEmpty(t *testing.T) {
	e, name := newEye(), controller.RecordName(statefulSet)
	see := func(second int, reseed string) {
		r := record(name, "1", "true")
		if reseed != "" {
			r.Data["reseed"] = `{"pod":"` + reseed + `"}`
		}
		e.seeRecord(r, at(second))
	}
	for second, reseed := range []string{"", "memgraph-1", "memgraph-1", "", "memgraph-1", "memgraph-2", ""} {
		see(second, reseed)
	}
	assert.Equal(t, []string{"memgraph-1", "memgraph-1", "memgraph-2"}, e.Reseeds(at(0)))
	assert.Equal(t, []string{"memgraph-1", "memgraph-2"}, e.Reseeds(at(2)))
	assert.Empty(t, e.Reseeds(at(6)))
}

func TestEyeSeesADeletionWhenItBegins(t *testing.T) {
	pod := func(uid string, deleted *metav1.Time) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "memgraph-0", UID: types.UID(uid), DeletionTimestamp: deleted}}
	}
	leaving := new(metav1.Unix(0, 0))
	e := newEye()
	e.seePod(pod("1", nil), at(1))
	e.seePod(pod("1", leaving), at(2))
	e.seePod(pod("1", leaving), at(3))
	e.seeNoPod(pod("1", leaving), at(4))
	e.seeNoPod(cache.DeletedFinalStateUnknown{Obj: pod("2", nil)}, at(6))
	for since, want := range map[int]int{0: 2, 1: 2, 2: 6, 5: 6} {
		seen, err := e.Deletion(t.Context(), "memgraph-0", at(since))
		require.NoError(t, err)
		assert.Equal(t, at(want), seen, "since %d", since)
	}
}

func TestEyeWaitsForWhatIsToCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, name := newEye(), controller.RecordName(statefulSet)
		go func() {
			synctest.Wait()
			e.seeRecord(record(name, "1", "true"), at(1))
			synctest.Wait()
			e.seeRecord(record(name, "2", "true"), at(2))
		}()
		sight, err := e.Decision(t.Context(), 1)
		require.NoError(t, err)
		assert.Equal(t, int64(2), sight.Generation)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = e.Decision(ctx, 2)
		assert.EqualError(t, err, "wait for a generation above 2: context canceled")
		_, err = e.Deletion(ctx, "memgraph-0", at(0))
		assert.EqualError(t, err, "wait for the deletion of memgraph-0: context canceled")
	})
}
