package e2e

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The base is what the lab runs; of the overlays the API server only says whether it
// would take them.
func TestOverlaysAreValid(t *testing.T) {
	startLab(t)
	for dir, namespace := range map[string]string{
		"../deploy/overlays/kind":     "memgraph", // its own
		"../deploy/overlays/isolated": metav1.NamespaceDefault,
		"../deploy/overlays/guarded":  metav1.NamespaceDefault,
	} {
		t.Run(dir, func(t *testing.T) {
			ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
			_, err := lab.Kube.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
			if !apierrors.IsAlreadyExists(err) { // it stays until the lab ends
				require.NoError(t, err)
			}
			require.NoError(t, lab.DryRun(t.Context(), dir))
			sets, err := lab.Kube.AppsV1().StatefulSets(namespace).List(t.Context(), metav1.ListOptions{})
			require.NoError(t, err)
			assert.Empty(t, sets.Items, "it was a dry run")
		})
	}
}
