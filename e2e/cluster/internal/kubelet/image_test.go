package kubelet

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
)

func TestRepository(t *testing.T) {
	for ref, want := range map[string]string{
		"memgraph/memgraph:3.12.0":           "memgraph/memgraph",
		"memgraph/memgraph@sha256:0123":      "memgraph/memgraph",
		"memgraph/memgraph:3@sha256:0123":    "memgraph/memgraph",
		"docker.io/memgraph/memgraph":        "memgraph/memgraph",
		"docker.io/library/busybox:1":        "busybox",
		"registry:5000/memgraph-controller":  "registry:5000/memgraph-controller",
		"ghcr.io/org/memgraph-controller:v1": "ghcr.io/org/memgraph-controller",
	} {
		assert.Equal(t, want, repository(ref), ref)
	}
}

func TestExpand(t *testing.T) {
	env := map[string]string{"A": "1", "B": "$(A)"}
	for s, want := range map[string]string{
		"--x=$(A)":         "--x=1",
		"$(A)$(A)":         "11",
		"$(B)":             "$(A)", // values are not expanded again
		"$(MISSING)":       "$(MISSING)",
		"$$(A) costs $$ 5": "$(A) costs $ 5",
		"$A":               "$A",
		"$(A":              "$(A",
	} {
		assert.Equal(t, want, expand(s, env), s)
	}
}

func TestRedirect(t *testing.T) {
	mounts := []mount{{"/var/lib", "/run/1"}, {"/var/lib/memgraph", "/run/2"}, {"/run", "/run/3"}}
	for s, want := range map[string]string{
		"/var/lib":                        "/run/1",
		"--data=/var/lib/memgraph/mg":     "--data=/run/2/mg",
		"--data=/var/library":             "--data=/var/library",
		"--data=/srv/var/lib":             "--data=/srv/var/lib",
		"a:/var/lib/x,b:/run/y":           "a:/run/1/x,b:/run/3/y",
		"/var/lib /var/lib/memgraph":      "/run/1 /run/2",
		"--data-directory=/var/lib/other": "--data-directory=/run/1/other",
		"no path":                         "no path",
	} {
		assert.Equal(t, want, redirect(s, mounts), s)
	}
}

func TestCommandLine(t *testing.T) {
	image := Image{Path: "/bin/server"}
	env := map[string]string{"PORT": "7687"}
	for _, c := range []struct {
		name      string
		container corev1.Container
		want      []string
	}{
		{"arguments alone follow the entrypoint", corev1.Container{Args: []string{"run", "--port=$(PORT)"}}, []string{"run", "--port=7687"}},
		{"a command names the binary", corev1.Container{Command: []string{"/usr/bin/server", "run"}, Args: []string{"-v"}}, []string{"run", "-v"}},
		{"nothing at all", corev1.Container{}, []string{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := commandLine(&c.container, image, env)
			require.NoError(t, err)
			assert.Equal(t, c.want, got)
		})
	}
	_, err := commandLine(&corev1.Container{Image: "server", Command: []string{"sh", "-c", "server"}}, image, nil)
	assert.EqualError(t, err, `command "sh" is not the binary of image "server"`)
}
