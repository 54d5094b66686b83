package bolt

import (
	"errors"
	"fmt"
	"io"
	"maps"
)

// Versions that Client proposes, which are those Memgraph has spoken since 2.9
// (5.2, 4.3) and since 3.12 (4.4).
var Versions = []Version{{5, 2}, {4, 4}, {4, 3}}

// maxAnswer bounds what Client takes in one message: it asks small questions.
const maxAnswer = 1 << 20

// Auth holds credentials; without a user the scheme is "none".
type Auth struct{ User, Password string }

// Login is whom a new connection logs in as; nil is nobody. It is safe for concurrent
// use.
type Login func() Auth

// Auth is what to log in with now.
func (l Login) Auth() Auth {
	if l == nil {
		return Auth{}
	}
	return l()
}

func (a Auth) fields() map[string]any {
	if a.User == "" {
		return map[string]any{"scheme": "none"}
	}
	return map[string]any{"scheme": "basic", "principal": a.User, "credentials": a.Password}
}

// Client asks one question at a time on a connection that its caller opened,
// bounds by deadlines and closes. After any error but a Failure it is spent.
type Client struct {
	rw      io.ReadWriter
	r       *Reader
	version Version
}

// Result of one statement: all its rows, and the metadata of its summary, which
// in Memgraph holds run_id, a UUID made when the process started.
type Result struct {
	Fields []string
	Rows   [][]any
	Meta   map[string]any
}

// RunID is the summary's run_id, "" if there is none.
func (r Result) RunID() string {
	id, _ := r.Meta["run_id"].(string)
	return id
}

// Open shakes hands and logs in over rw. A refused login comes as a Failure.
func Open(rw io.ReadWriter, auth Auth, userAgent string) (*Client, error) {
	if _, err := rw.Write(Propose(Versions...).Append(nil)); err != nil {
		return nil, fmt.Errorf("write handshake: %w", err)
	}
	v, err := ReadVersion(rw)
	if err != nil {
		return nil, fmt.Errorf("read handshake: %w", err)
	}
	if v == (Version{}) {
		return nil, errors.New("no Bolt version in common")
	}
	c := &Client{rw: rw, r: NewReader(rw, maxAnswer), version: v}
	return c, c.login(auth, userAgent)
}

// login sends the credentials where the version wants them.
func (c *Client) login(auth Auth, userAgent string) error {
	hello := map[string]any{"user_agent": userAgent}
	if !c.version.AtLeast(5, 1) {
		maps.Copy(hello, auth.fields())
	}
	if _, err := c.roundTrip(Hello{Extra: hello}); err != nil {
		return fmt.Errorf("hello: %w", err)
	}
	if !c.version.AtLeast(5, 1) {
		return nil
	}
	_, err := c.roundTrip(Logon{Auth: auth.fields()})
	return wrap("logon", err)
}

// Version is the negotiated one.
func (c *Client) Version() Version { return c.version }

// Run executes query outside a transaction and takes all its rows. A Failure
// leaves the session usable: it has been reset.
func (c *Client) Run(query string) (Result, error) {
	if err := c.send(Run{Query: query}, Pull{N: -1, QID: -1}); err != nil {
		return Result{}, err
	}
	head, err := c.success()
	if err != nil {
		return Result{}, c.afterFailure(err, 1)
	}
	res := Result{Fields: stringList(head.Meta["fields"])}
	for {
		m, err := c.receive()
		if err != nil {
			return Result{}, err
		}
		switch m := m.(type) {
		case Record:
			res.Rows = append(res.Rows, m.Values)
		case Success:
			res.Meta = m.Meta
			return res, nil
		case Failure:
			return Result{}, c.afterFailure(m, 0)
		default:
			return Result{}, fmt.Errorf("unexpected %s while pulling", m.Tag())
		}
	}
}

// Goodbye tells the server that the session ends; closing is the caller's.
func (c *Client) Goodbye() error { return c.send(Goodbye{}) }

// afterFailure resets the session, having skipped the answers that are still
// due, and returns the Failure; any other error is returned as it is.
func (c *Client) afterFailure(err error, due int) error {
	var f Failure
	if !errors.As(err, &f) {
		return err
	}
	for range due {
		if _, err := c.receive(); err != nil {
			return err
		}
	}
	if _, err := c.roundTrip(Reset{}); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	return f
}

func (c *Client) roundTrip(m Message) (Success, error) {
	if err := c.send(m); err != nil {
		return Success{}, err
	}
	return c.success()
}

func (c *Client) send(ms ...Message) error {
	var b []byte
	for _, m := range ms {
		var err error
		if b, err = AppendMessage(b, m); err != nil {
			return err
		}
	}
	_, err := c.rw.Write(b)
	return wrap("write", err)
}

// receive returns the next message, NOOPs skipped.
func (c *Client) receive() (Message, error) {
	for {
		payload, err := c.r.ReadMessage()
		if err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
		if len(payload) > 0 {
			return ParseMessage(payload)
		}
	}
}

func (c *Client) success() (Success, error) {
	m, err := c.receive()
	if err != nil {
		return Success{}, err
	}
	switch m := m.(type) {
	case Success:
		return m, nil
	case Failure:
		return Success{}, m
	}
	return Success{}, fmt.Errorf("unexpected %s, wanted SUCCESS", m.Tag())
}

func stringList(v any) []string {
	l, _ := v.([]any)
	out := make([]string, 0, len(l))
	for _, item := range l {
		s, _ := item.(string)
		out = append(out, s)
	}
	return out
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
