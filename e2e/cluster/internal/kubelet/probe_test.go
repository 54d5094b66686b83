package kubelet

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A probe each 2 s; answers is what it gets, one letter each: y, n, or t for
// none within the time-out of 1 s.
func TestProberReportsAtThresholds(t *testing.T) {
	type report struct {
		after time.Duration
		ok    bool
	}
	for _, c := range []struct {
		name    string
		answers string
		spec    corev1.Probe
		want    []report
	}{
		{"at once", "y", corev1.Probe{SuccessThreshold: 1, FailureThreshold: 1}, []report{{0, true}}},
		{"after the initial delay", "y", corev1.Probe{InitialDelaySeconds: 3, SuccessThreshold: 1, FailureThreshold: 1}, []report{{4 * time.Second, true}}},
		{"the third failure in a row", "nnynnn", corev1.Probe{SuccessThreshold: 1, FailureThreshold: 3}, []report{{4 * time.Second, true}, {10 * time.Second, false}}},
		{"the second success in a row", "ynyy", corev1.Probe{SuccessThreshold: 2, FailureThreshold: 1}, []report{{2 * time.Second, false}, {6 * time.Second, true}}},
		{"no answer in time", "t", corev1.Probe{SuccessThreshold: 1, FailureThreshold: 1}, []report{{time.Second, false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				start, asked := time.Now(), 0
				var got []report
				c.spec.PeriodSeconds, c.spec.TimeoutSeconds = 2, 1
				p := prober{spec: &c.spec, started: start, check: func(ctx context.Context) error {
					if asked++; asked > len(c.answers) {
						cancel()
					}
					switch {
					case ctx.Err() != nil:
						return ctx.Err()
					case c.answers[asked-1] == 'y':
						return nil
					case c.answers[asked-1] == 't':
						<-ctx.Done()
					}
					return errors.New("no")
				}}
				p.run(ctx, func(ok bool) bool {
					got = append(got, report{time.Since(start), ok})
					return true
				})
				assert.Equal(t, c.want, got)
			})
		})
	}
}

func TestCheckerProbesForReal(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, err := strconv.Atoi(r.URL.Path[1:])
		assert.NoError(t, err)
		w.WriteHeader(code)
	}))
	defer server.Close()
	ip, port, err := net.SplitHostPort(server.Listener.Addr().String())
	require.NoError(t, err)
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	container := &corev1.Container{Name: "c", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(number)}}}
	web := intstr.FromString("web")
	get := func(path string) corev1.ProbeHandler {
		return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: web}}
	}
	for _, c := range []struct {
		name    string
		handler corev1.ProbeHandler
		ok      bool
	}{
		{"200", get("/200"), true},
		{"a redirect is not followed", get("/302"), true},
		{"400", get("/400"), false},
		{"500", get("/500"), false},
		{"open port", corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: web}}, true},
		{"closed port", corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(1)}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			check, err := checker(&corev1.Probe{ProbeHandler: c.handler}, container, ip)
			require.NoError(t, err)
			assert.Equal(t, c.ok, check(t.Context()) == nil)
		})
	}
	_, err = checker(&corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("no")}}}, container, ip)
	assert.EqualError(t, err, `container c has no port "no"`)
}
