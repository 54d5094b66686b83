package controller

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
)

// shipped are the objects of the manifests that are installed.
func shipped(t *testing.T) (*appsv1.StatefulSet, neighbours) {
	t.Helper()
	file, err := os.Open("../deploy/base/memgraph.yaml")
	require.NoError(t, err)
	defer file.Close()
	var set *appsv1.StatefulSet
	var n neighbours
	for documents := yaml.NewYAMLOrJSONDecoder(file, 4096); ; {
		var raw runtime.RawExtension
		err := documents.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return set, n
		}
		require.NoError(t, err)
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(raw.Raw, nil, nil)
		require.NoError(t, err)
		switch o := object.(type) {
		case *appsv1.StatefulSet:
			set = o
		case *corev1.Service:
			n.service = o
		case *policyv1.PodDisruptionBudget:
			n.budgets = append(n.budgets, o)
		}
	}
}

func TestWhatIsShippedIsWell(t *testing.T) {
	set, n := shipped(t)
	assert.Empty(t, examine(set, n))
}

func TestEverythingThatTheControllerReliesOnIsLookedAt(t *testing.T) {
	type change = func(*appsv1.StatefulSet, *neighbours)
	spec := func(f func(*appsv1.StatefulSetSpec)) change {
		return func(s *appsv1.StatefulSet, _ *neighbours) { f(&s.Spec) }
	}
	pod := func(f func(*corev1.PodSpec)) change {
		return func(s *appsv1.StatefulSet, _ *neighbours) { f(&s.Spec.Template.Spec) }
	}
	memgraph := func(f func(*corev1.Container)) change {
		return pod(func(p *corev1.PodSpec) { f(&p.Containers[0]) })
	}
	args := func(args ...string) change {
		return memgraph(func(c *corev1.Container) { c.Args = append(c.Args, args...) })
	}
	changes := map[string][]change{
		"spec.replicas":             {spec(func(s *appsv1.StatefulSetSpec) { s.Replicas = new(int32(1)) }), spec(func(s *appsv1.StatefulSetSpec) { s.Replicas = nil })},
		"spec.podManagementPolicy":  {spec(func(s *appsv1.StatefulSetSpec) { s.PodManagementPolicy = "" })},
		"spec.volumeClaimTemplates": {spec(func(s *appsv1.StatefulSetSpec) { s.VolumeClaimTemplates = nil }), args("--data-directory", "/tmp/data"), args("--data_directory=/var/lib/memgraphic")},
		"spec.serviceName": {
			func(_ *appsv1.StatefulSet, n *neighbours) { n.service = nil },
			func(_ *appsv1.StatefulSet, n *neighbours) { n.service.Spec.ClusterIP = "10.0.0.1" },
		},
		"service.spec.publishNotReadyAddresses": {func(_ *appsv1.StatefulSet, n *neighbours) { n.service.Spec.PublishNotReadyAddresses = false }},
		"poddisruptionbudget.spec": {
			func(_ *appsv1.StatefulSet, n *neighbours) { n.budgets = nil },
			func(_ *appsv1.StatefulSet, n *neighbours) { n.budgets[0].Spec.Selector.MatchLabels["app"] = "another" },
			func(_ *appsv1.StatefulSet, n *neighbours) { n.budgets[0].Spec.Selector = nil },
		},
		"spec.template.spec.readinessGates":                               {pod(func(p *corev1.PodSpec) { p.ReadinessGates = nil })},
		"spec.template.spec.initContainers":                               {pod(func(p *corev1.PodSpec) { p.InitContainers[0].Args = []string{"version"} })},
		"spec.template.spec.terminationGracePeriodSeconds":                {pod(func(p *corev1.PodSpec) { p.TerminationGracePeriodSeconds = new(int64(24)) })},
		"spec.template.spec.containers[memgraph].lifecycle.preStop":       {memgraph(func(c *corev1.Container) { c.Lifecycle = nil }), memgraph(func(c *corev1.Container) { c.Lifecycle.PreStop.Sleep.Seconds = 1 })},
		"spec.template.spec.containers[memgraph].livenessProbe":           {memgraph(func(c *corev1.Container) { c.LivenessProbe = c.ReadinessProbe })},
		"spec.template.spec.containers[memgraph].readinessProbe":          {memgraph(func(c *corev1.Container) { c.ReadinessProbe = nil })},
		flagFinding("bolt-port", "", "").Field:                            {args("--bolt-port=7688")},
		flagFinding("storage-wal-enabled", "", "").Field:                  {args("--storage-wal-enabled=false"), args("--nostorage-wal-enabled")},
		flagFinding("storage-wal-file-flush-every-n-tx", "", "").Field:    {args("-storage-wal-file-flush-every-n-tx", "1000")},
		flagFinding("data-recovery-on-startup", "", "").Field:             {args("--data_recovery_on_startup=false")},
		flagFinding("replication-restore-state-on-startup", "", "").Field: {args("--replication-restore-state-on-startup=false")},
		flagFinding("storage-snapshot-on-exit", "", "").Field:             {args("--storage-snapshot-on-exit=false")},
	}
	for _, r := range rules {
		require.NotEmpty(t, changes[r.Field], r.Field)
		for i, change := range changes[r.Field] {
			set, n := shipped(t)
			change(set, &n)
			assert.Equal(t, []Finding{r.Finding}, examine(set, n), "%s, %d", r.Field, i)
		}
	}
	assert.Len(t, changes, len(rules))
}

func TestTheDoctorTellsWhatToWrite(t *testing.T) {
	set, n := shipped(t)
	set.Namespace, n.service.Namespace, n.budgets[0].Namespace = testNamespace, testNamespace, testNamespace
	var out bytes.Buffer
	see := func() error {
		out.Reset()
		return NewOperator(fake.NewClientset(set, n.service, n.budgets[0]), testNamespace, set.Name, &out).Doctor(t.Context())
	}
	require.NoError(t, see())
	assert.Equal(t, "all 18 things are as they should be\n", out.String())
	set.Spec.ServiceName, set.Spec.Template.Spec.ReadinessGates = "another", nil
	require.EqualError(t, see(), "2 of 18 things are not as they should be")
	assert.Contains(t, out.String(), "spec.template.spec.readinessGates\n    rolling updates and evictions do not wait for redundancy\n    wanted: conditionType: memgraph-controller/replicated\n")
	assert.Contains(t, out.String(), "spec.serviceName\n")
	set.Name = "yet-another"
	require.ErrorContains(t, NewOperator(fake.NewClientset(), testNamespace, set.Name, &out).Doctor(t.Context()), "statefulset ns/yet-another: ")
}
