package controller

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestProbesAreAnsweredUntilTheEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "some_gauge", Help: "x"}))
	var unready error
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- HTTP{
			Ready: func() error { return unready }, Status: func() any { return Status{Cluster: testSet} }, Metrics: registry,
		}.Serve(ctx, l)
	}()
	get := func(path string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+path, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	for _, c := range []struct {
		path    string
		unready error
		code    int
		body    string
	}{
		{"/healthz", errors.New("stopping"), http.StatusOK, "ok\n"},
		{"/readyz", nil, http.StatusOK, "ok\n"},
		{"/readyz", errors.New("stopping"), http.StatusServiceUnavailable, "stopping\n"},
		{"/status", nil, http.StatusOK, `"cluster": "mg"`},
		{"/metrics", nil, http.StatusOK, "some_gauge 0"},
		{"/other", nil, http.StatusNotFound, ""},
	} {
		unready = c.unready
		code, body := get(c.path)
		assert.Equal(t, c.code, code, c.path)
		assert.Contains(t, body, c.body, c.path)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	assert.NoError(t, <-ended)
}
