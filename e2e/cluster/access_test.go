package cluster

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// manifests are a namespace "applied", a ServiceAccount in it that may read
// ConfigMaps, and a Deployment that runs as it.
const manifests = "testdata/manifests"

func TestAppliedRoleIsWhatCounts(t *testing.T) {
	t.Parallel()
	require.NoError(t, shared.Apply(t.Context(), manifests))
	require.NoError(t, shared.Apply(t.Context(), manifests), "again")
	require.NoError(t, shared.DryRun(t.Context(), manifests))

	path, err := shared.Kubeconfig(t.Context(), "applied", "reader")
	require.NoError(t, err)
	config, err := clientcmd.BuildConfigFromFlags("", path)
	require.NoError(t, err)
	assert.Equal(t, "system:serviceaccount:applied:reader", whoAmI(t, config))
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	_, err = client.CoreV1().ConfigMaps("applied").List(t.Context(), metav1.ListOptions{})
	assert.NoError(t, err)
	_, err = client.CoreV1().Secrets("applied").List(t.Context(), metav1.ListOptions{})
	assert.True(t, apierrors.IsForbidden(err), "%v", err)
	_, err = client.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{})
	assert.True(t, apierrors.IsForbidden(err), "%v", err)

	admin, err := kubernetes.NewForConfig(shared.Config())
	require.NoError(t, err)
	waitFor(t, func() bool {
		d, err := admin.AppsV1().Deployments("applied").Get(t.Context(), "server", metav1.GetOptions{})
		return err == nil && d.Status.ReadyReplicas == 2
	})
}

func TestApplyIsStrict(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte("resources: [all.yaml]\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "all.yaml"), []byte(`
apiVersion: v1
kind: ConfigMap
metadata: {name: bad, namespace: default}
dada: {}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: good}
data: {a: b}
`), 0o600))
	for name, do := range map[string]func(context.Context, string) error{"dry run": shared.DryRun, "apply": shared.Apply} {
		err := do(t.Context(), dir)
		assert.ErrorContains(t, err, "apply ConfigMap bad:", name)
		assert.ErrorContains(t, err, "dada", name)
		assert.NotContains(t, err.Error(), "good", name)
	}
	client, err := kubernetes.NewForConfig(shared.Config())
	require.NoError(t, err)
	_, err = client.CoreV1().ConfigMaps("default").Get(t.Context(), "good", metav1.GetOptions{})
	assert.NoError(t, err, "what is valid was applied")
	assert.Error(t, shared.Apply(t.Context(), filepath.Join(dir, "nowhere")))
}

func whoAmI(t *testing.T, config *rest.Config) string {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	require.NoError(t, err)
	return review.Status.UserInfo.Username
}
