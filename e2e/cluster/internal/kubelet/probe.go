package kubelet

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// prober asks one container one question again and again.
type prober struct {
	spec    *corev1.Probe
	check   func(context.Context) error
	started time.Time
}

// run checks at once and then each period, and reports every answer that has
// come often enough in a row, until report says to stop or ctx ends.
func (p prober) run(ctx context.Context, report func(ok bool) (goOn bool)) {
	ticker := time.NewTicker(seconds(p.spec.PeriodSeconds))
	defer ticker.Stop()
	last, streak := false, 0
	for {
		if time.Since(p.started) >= seconds(p.spec.InitialDelaySeconds) {
			ok := p.once(ctx)
			if ctx.Err() != nil {
				return
			}
			if ok != last {
				last, streak = ok, 0
			}
			streak++
			if streak >= p.threshold(ok) && !report(ok) {
				return
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// once is one check within the probe's time-out.
func (p prober) once(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, seconds(p.spec.TimeoutSeconds))
	defer cancel()
	return p.check(ctx) == nil
}

func (p prober) threshold(ok bool) int {
	if ok {
		return int(p.spec.SuccessThreshold)
	}
	return int(p.spec.FailureThreshold)
}

// checker turns a probe into what it does to the container at ip.
func checker(spec *corev1.Probe, c *corev1.Container, ip string) (func(context.Context) error, error) {
	switch {
	case spec.TCPSocket != nil:
		port, err := resolvePort(spec.TCPSocket.Port, c)
		return dialCheck(net.JoinHostPort(orElse(spec.TCPSocket.Host, ip), port)), err
	case spec.HTTPGet != nil:
		return httpCheck(spec.HTTPGet, c, ip)
	}
	return nil, fmt.Errorf("unsupported probe of container %s", c.Name)
}

// dialCheck succeeds as soon as the kernel accepts: a stopped process passes.
func dialCheck(addr string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// httpCheck opens a connection for each request, as kubelet does, so that it
// never asks a process that has been replaced. A redirect counts as an answer.
func httpCheck(get *corev1.HTTPGetAction, c *corev1.Container, ip string) (func(context.Context) error, error) {
	port, err := resolvePort(get.Port, c)
	if err != nil {
		return nil, err
	}
	scheme := "http"
	if get.Scheme == corev1.URISchemeHTTPS {
		scheme = "https"
	}
	u, err := url.Parse(scheme + "://" + net.JoinHostPort(orElse(get.Host, ip), port) + get.Path)
	if err != nil {
		return nil, fmt.Errorf("probe of container %s: %w", c.Name, err)
	}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // as kubelet does
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) error { return fetch(ctx, client, u, get.HTTPHeaders) }, nil
}

// fetch takes any status from 200 to 399 as success, as kubelet does.
func fetch(ctx context.Context, client *http.Client, u *url.URL, headers []corev1.HTTPHeader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	for _, h := range headers {
		req.Header.Add(h.Name, h.Value)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// resolvePort looks a named port up among the container's.
func resolvePort(port intstr.IntOrString, c *corev1.Container) (string, error) {
	if port.Type == intstr.Int {
		return strconv.Itoa(port.IntValue()), nil
	}
	for _, p := range c.Ports {
		if p.Name == port.StrVal {
			return strconv.Itoa(int(p.ContainerPort)), nil
		}
	}
	return "", fmt.Errorf("container %s has no port %q", c.Name, port.StrVal)
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
