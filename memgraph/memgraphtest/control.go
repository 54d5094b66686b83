package memgraphtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// ServeControl answers Control on l until ctx ends.
func (s *Server) ServeControl(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s.controls(), ReadHeaderTimeout: time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // it has answered all that mattered
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve control: %w", err)
	}
	return nil
}

// controls maps paths to the faults and views of the server.
func (s *Server) controls() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.State()) // the reader is gone
	})
	mux.HandleFunc("GET /counts", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Counts()) // the reader is gone
	})
	mux.HandleFunc("GET /dump", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, s.Dump()) // the reader is gone
	})
	mux.HandleFunc("POST /network", obeyed(func(r *http.Request) error {
		return s.SetNetwork(Mode(r.FormValue("mode")))
	}))
	mux.HandleFunc("PUT /faults", obeyed(func(r *http.Request) error {
		var f Faults
		if err := json.NewDecoder(r.Body).Decode(&f); err != nil {
			return fmt.Errorf("read faults: %w", err)
		}
		return s.SetFaults(f)
	}))
	mux.HandleFunc("POST /crash-at", obeyed(func(r *http.Request) error {
		return s.CrashAt(CrashPoint(r.FormValue("point")))
	}))
	return mux
}

// obeyed answers 200, or 400 and the error's text.
func obeyed(f func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := f(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}
}

// Control commands a server in another process over its control socket. Its
// methods take at most their context's deadline.
type Control struct{ http http.Client }

// NewControl uses the socket at path; Close it at the end.
func NewControl(path string) *Control {
	var d net.Dialer
	return &Control{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
	}}}
}

// Close ends the connections to the server.
func (c *Control) Close() { c.http.CloseIdleConnections() }

// SetNetwork is Server.SetNetwork.
func (c *Control) SetNetwork(ctx context.Context, m Mode) error {
	_, err := c.do(ctx, http.MethodPost, "network?mode="+url.QueryEscape(string(m)))
	return err
}

// SetFaults is Server.SetFaults.
func (c *Control) SetFaults(ctx context.Context, f Faults) error {
	b, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("control faults: %w", err)
	}
	_, err = c.send(ctx, http.MethodPut, "faults", bytes.NewReader(b))
	return err
}

// CrashAt is Server.CrashAt.
func (c *Control) CrashAt(ctx context.Context, p CrashPoint) error {
	_, err := c.do(ctx, http.MethodPost, "crash-at?point="+url.QueryEscape(string(p)))
	return err
}

// State is Server.State.
func (c *Control) State(ctx context.Context) (State, error) { return view[State](ctx, c, "state") }

// Counts is Server.Counts.
func (c *Control) Counts(ctx context.Context) (Counts, error) { return view[Counts](ctx, c, "counts") }

func view[T any](ctx context.Context, c *Control, path string) (seen T, err error) {
	body, err := c.do(ctx, http.MethodGet, path)
	if err != nil {
		return seen, err
	}
	if err := json.Unmarshal(body, &seen); err != nil {
		return seen, fmt.Errorf("control %s: %w", path, err)
	}
	return seen, nil
}

// Dump is Server.Dump.
func (c *Control) Dump(ctx context.Context) (string, error) {
	body, err := c.do(ctx, http.MethodGet, "dump")
	return string(body), err
}

func (c *Control) do(ctx context.Context, verb, path string) ([]byte, error) {
	return c.send(ctx, verb, path, http.NoBody)
}

func (c *Control) send(ctx context.Context, verb, path string, content io.Reader) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, verb, "http://memgraph/"+path, content)
	if err != nil {
		return nil, fmt.Errorf("control %s: %w", path, err)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("control %s: %w", path, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(body)))
	}
	if err != nil {
		return nil, fmt.Errorf("control %s: %w", path, err)
	}
	return body, nil
}
