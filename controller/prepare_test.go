package controller

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/datadir"
)

// condemned is topology with an order to mg-2.
func condemned(pod string) memgraph.Topology {
	t := topology()
	t.Reseed = &memgraph.Reseed{Pod: pod, UID: "uid-2", Reason: "it has diverged", Since: t.History[0].When}
	return t
}

// holding is an API server with that record.
func holding(t *testing.T, record memgraph.Topology) *fake.Clientset {
	t.Helper()
	cs, _ := newClientset()
	store := &configMapStore{configMaps: cs.CoreV1().ConfigMaps(testNamespace), statefulSet: testSet}
	_, err := store.Put(t.Context(), record)
	require.NoError(t, err)
	return cs
}

// refusing is one that answers every read with err, as often as said.
func refusing(cs *fake.Clientset, err error, times int) *fake.Clientset {
	cs.PrependReactor("get", "configmaps", func(clienttesting.Action) (bool, runtime.Object, error) {
		times--
		return times >= 0, nil, err
	})
	return cs
}

// preparation is for pod, with a data directory that holds something.
func preparation(t *testing.T, pod string) Preparation {
	t.Helper()
	p := DefaultPreparation
	p.Namespace, p.StatefulSet, p.Pod = testNamespace, testSet, pod
	p.DataDirectory = filepath.Join(t.TempDir(), "mg_data")
	require.NoError(t, os.Mkdir(p.DataDirectory, 0o700))
	return p
}

func TestDataStaysUnlessTheRecordSaysOtherwise(t *testing.T) {
	forbidden := apierrors.NewForbidden(corev1.Resource("configmaps"), "mg-topology", nil)
	inSync, changed := condemned("mg-0"), changing()
	changed.Reseed = condemned("mg-0").Reseed
	damaged := holding(t, condemned("mg-2"))
	_, err := damaged.CoreV1().ConfigMaps(testNamespace).Patch(t.Context(), RecordName(testSet), types.MergePatchType,
		[]byte(`{"data":{"mainUID":null}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	none, _ := newClientset()
	for name, c := range map[string]struct {
		api   *fake.Clientset
		pod   string
		moves bool
		takes time.Duration
	}{
		"it is ordered":                   {holding(t, condemned("mg-2")), "mg-2", true, 0},
		"the API was away for a moment":   {refusing(holding(t, condemned("mg-2")), errors.New("away"), 3), "mg-2", true, 3 * prepareRetry},
		"another is ordered":              {holding(t, condemned("mg-2")), "mg-3", false, 0},
		"nobody is":                       {holding(t, topology()), "mg-2", false, 0},
		"it is MAIN, whoever ordered":     {holding(t, condemned("mg-1")), "mg-1", false, 0},
		"it is in sync, whoever ordered":  {holding(t, inSync), "mg-0", false, 0},
		"it was MAIN a moment ago":        {holding(t, changed), "mg-0", false, 0},
		"there is no record":              {none, "mg-2", false, 0},
		"the record is damaged":           {damaged, "mg-2", false, 0},
		"the record may not be read":      {refusing(holding(t, condemned("mg-2")), forbidden, 99), "mg-2", false, 0},
		"the API does not answer in time": {refusing(holding(t, condemned("mg-2")), errors.New("away"), 99), "mg-2", false, DefaultPreparation.Timeout},
	} {
		t.Run(name, func(t *testing.T) {
			p := preparation(t, c.pod)
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				require.NoError(t, p.Run(t.Context(), c.api, slog.New(slog.DiscardHandler)))
				assert.Equal(t, c.takes, time.Since(begun))
			})
			copies, err := datadir.Copies(p.DataDirectory)
			require.NoError(t, err)
			if c.moves {
				assert.Len(t, copies, 1)
				assert.NoDirExists(t, p.DataDirectory)
			} else {
				assert.Empty(t, copies)
				assert.DirExists(t, p.DataDirectory)
			}
		})
	}
}

func TestUselessDataThatCannotBeMovedKeepsThePodFromStarting(t *testing.T) {
	p := preparation(t, "mg-2")
	require.NoError(t, os.Mkdir(filepath.Join(p.DataDirectory, ".lock"), 0o700)) // so it cannot be locked
	err := p.Run(t.Context(), holding(t, condemned("mg-2")), slog.New(slog.DiscardHandler))
	assert.ErrorContains(t, err, "start mg-2 empty: ")
}

func TestAWrongPreparationNamesTheFlag(t *testing.T) {
	good := DefaultPreparation
	good.Pod, good.DataDirectory = "mg-2", "/data"
	require.NoError(t, good.Validate())
	for flag, spoil := range map[string]func(*Preparation){
		"statefulset":    func(p *Preparation) { p.StatefulSet = "" },
		"pod":            func(p *Preparation) { p.Pod = "" },
		"data-directory": func(p *Preparation) { p.DataDirectory = "" },
		"keep":           func(p *Preparation) { p.Keep = 0 },
		"timeout":        func(p *Preparation) { p.Timeout = time.Hour },
	} {
		p := good
		spoil(&p)
		assert.ErrorContains(t, p.Validate(), "--"+flag+": ")
	}
}
