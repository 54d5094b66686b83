package bolt

import (
	"errors"
	"fmt"
)

// Tag is the second byte of every message. Source: Bolt message specification.
type Tag byte

// Tags of the messages that clients send, then of those that servers send.
const (
	TagHello    Tag = 0x01
	TagGoodbye  Tag = 0x02
	TagReset    Tag = 0x0F
	TagRun      Tag = 0x10
	TagBegin    Tag = 0x11
	TagCommit   Tag = 0x12
	TagRollback Tag = 0x13
	TagDiscard  Tag = 0x2F
	TagPull     Tag = 0x3F
	TagRoute    Tag = 0x66
	TagLogon    Tag = 0x6A
	TagLogoff   Tag = 0x6B

	TagSuccess Tag = 0x70
	TagRecord  Tag = 0x71
	TagIgnored Tag = 0x7E
	TagFailure Tag = 0x7F
)

var tagNames = map[Tag]string{
	TagHello: "HELLO", TagGoodbye: "GOODBYE", TagReset: "RESET", TagRun: "RUN", TagBegin: "BEGIN",
	TagCommit: "COMMIT", TagRollback: "ROLLBACK", TagDiscard: "DISCARD", TagPull: "PULL",
	TagRoute: "ROUTE", TagLogon: "LOGON", TagLogoff: "LOGOFF",
	TagSuccess: "SUCCESS", TagRecord: "RECORD", TagIgnored: "IGNORED", TagFailure: "FAILURE",
}

func (t Tag) String() string {
	if s, ok := tagNames[t]; ok {
		return s
	}
	return fmt.Sprintf("%#02x", byte(t))
}

// Message is one request or answer.
type Message interface {
	Tag() Tag
	fields() []any
}

// What clients send. Maps may be nil, which is written as an empty map.
type (
	// Hello opens a session; before 5.1 it carries the credentials.
	Hello struct{ Extra map[string]any }
	// Logon carries the credentials, from 5.1 on.
	Logon struct{ Auth map[string]any }
	// Logoff returns an authenticated session to where Logon is due.
	Logoff struct{}
	// Goodbye ends the session; there is no answer.
	Goodbye struct{}
	// Reset returns the session to idle, rolling back what is open.
	Reset struct{}
	// Run prepares a statement. Memgraph executes it at Pull or Discard.
	Run struct {
		Query  string
		Params map[string]any
		Extra  map[string]any
	}
	// Begin opens an explicit transaction.
	Begin struct{ Extra map[string]any }
	// Commit ends the open transaction with effect.
	Commit struct{}
	// Rollback ends the open transaction without effect.
	Rollback struct{}
	// Pull asks for N rows, all if -1, of statement QID, the last one if -1.
	Pull struct{ N, QID int64 }
	// Discard drops rows instead of sending them; its fields are Pull's.
	Discard struct{ N, QID int64 }
	// Route asks for a routing table. Extra is a map from 4.4 on and the
	// database's name, or nil, in 4.3.
	Route struct {
		Routing   map[string]any
		Bookmarks []any
		Extra     any
	}
)

// What servers send.
type (
	// Success answers a request, with metadata.
	Success struct{ Meta map[string]any }
	// Record is one row.
	Record struct{ Values []any }
	// Ignored answers all that follows a Failure until Reset.
	Ignored struct{}
	// Failure answers a request that failed; it is an error too.
	Failure struct{ Code, Message string }
)

func (f Failure) Error() string { return f.Code + ": " + f.Message }

// Tag implementations: the second byte of each message.
func (Hello) Tag() Tag    { return TagHello }
func (Logon) Tag() Tag    { return TagLogon }
func (Logoff) Tag() Tag   { return TagLogoff }
func (Goodbye) Tag() Tag  { return TagGoodbye }
func (Reset) Tag() Tag    { return TagReset }
func (Run) Tag() Tag      { return TagRun }
func (Begin) Tag() Tag    { return TagBegin }
func (Commit) Tag() Tag   { return TagCommit }
func (Rollback) Tag() Tag { return TagRollback }
func (Pull) Tag() Tag     { return TagPull }
func (Discard) Tag() Tag  { return TagDiscard }
func (Route) Tag() Tag    { return TagRoute }
func (Success) Tag() Tag  { return TagSuccess }
func (Record) Tag() Tag   { return TagRecord }
func (Ignored) Tag() Tag  { return TagIgnored }
func (Failure) Tag() Tag  { return TagFailure }

func (m Hello) fields() []any  { return []any{orEmpty(m.Extra)} }
func (m Logon) fields() []any  { return []any{orEmpty(m.Auth)} }
func (Logoff) fields() []any   { return nil }
func (Goodbye) fields() []any  { return nil }
func (Reset) fields() []any    { return nil }
func (m Run) fields() []any    { return []any{m.Query, orEmpty(m.Params), orEmpty(m.Extra)} }
func (m Begin) fields() []any  { return []any{orEmpty(m.Extra)} }
func (Commit) fields() []any   { return nil }
func (Rollback) fields() []any { return nil }
func (m Pull) fields() []any   { return []any{batch(m)} }
func (m Discard) fields() []any {
	return []any{batch(m)}
}
func (m Route) fields() []any {
	return []any{orEmpty(m.Routing), m.Bookmarks, m.Extra}
}
func (m Success) fields() []any { return []any{orEmpty(m.Meta)} }
func (m Record) fields() []any  { return []any{m.Values} }
func (Ignored) fields() []any   { return nil }
func (m Failure) fields() []any {
	return []any{map[string]any{"code": m.Code, "message": m.Message}}
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// batch is the map of Pull and Discard; -1, the last statement, is left out.
func batch(m struct{ N, QID int64 }) map[string]any {
	b := map[string]any{"n": m.N}
	if m.QID >= 0 {
		b["qid"] = m.QID
	}
	return b
}

// AppendMessage adds m, chunked, to b. It fails only where a value inside m is
// of a type that PackStream has no form for.
func AppendMessage(b []byte, m Message) ([]byte, error) {
	payload, err := AppendValue(nil, Structure{Tag: byte(m.Tag()), Fields: m.fields()})
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", m.Tag(), err)
	}
	return AppendChunked(b, payload), nil
}

// errArity says that a message has the wrong number or types of fields.
var errArity = errors.New("bolt: message has the wrong fields")

// ParseMessage decodes a message's payload. An unknown tag, wrong fields and
// trailing bytes are errors.
func ParseMessage(payload []byte) (Message, error) {
	s, err := decodeStructure(payload)
	if err != nil {
		return nil, err
	}
	m, err := parseFields(Tag(s.Tag), s.Fields)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", Tag(s.Tag), err)
	}
	return m, nil
}

// decodeStructure reads what every message is: one structure, and nothing else.
func decodeStructure(payload []byte) (Structure, error) {
	v, rest, err := DecodeValue(payload)
	if err != nil {
		return Structure{}, err
	}
	s, ok := v.(Structure)
	if !ok || len(rest) > 0 {
		return Structure{}, fmt.Errorf("bolt: payload is not one structure: %d bytes", len(payload))
	}
	return s, nil
}

func parseFields(tag Tag, f []any) (Message, error) {
	if m, ok := bare[tag]; ok {
		if len(f) != 0 {
			return nil, errArity
		}
		return m, nil
	}
	switch tag {
	case TagRun:
		return parseRun(f)
	case TagRoute:
		return parseRoute(f)
	case TagRecord:
		return parseRecord(f)
	}
	if _, known := tagNames[tag]; !known {
		return nil, fmt.Errorf("bolt: unknown message %s", tag)
	}
	return parseOneMap(tag, f)
}

// bare holds the messages without fields.
var bare = map[Tag]Message{
	TagLogoff: Logoff{}, TagGoodbye: Goodbye{}, TagReset: Reset{},
	TagCommit: Commit{}, TagRollback: Rollback{}, TagIgnored: Ignored{},
}

func parseRun(f []any) (Message, error) {
	if len(f) != 3 {
		return nil, errArity
	}
	query, ok1 := f[0].(string)
	params, ok2 := f[1].(map[string]any)
	extra, ok3 := f[2].(map[string]any)
	if !ok1 || !ok2 || !ok3 {
		return nil, errArity
	}
	return Run{Query: query, Params: params, Extra: extra}, nil
}

func parseRoute(f []any) (Message, error) {
	if len(f) != 3 {
		return nil, errArity
	}
	routing, ok1 := f[0].(map[string]any)
	bookmarks, ok2 := f[1].([]any)
	if !ok1 || !ok2 {
		return nil, errArity
	}
	return Route{Routing: routing, Bookmarks: bookmarks, Extra: f[2]}, nil
}

func parseRecord(f []any) (Message, error) {
	if len(f) != 1 {
		return nil, errArity
	}
	values, ok := f[0].([]any)
	if !ok {
		return nil, errArity
	}
	return Record{Values: values}, nil
}

// parseOneMap reads the messages whose only field is a map.
func parseOneMap(tag Tag, f []any) (Message, error) {
	if len(f) != 1 {
		return nil, errArity
	}
	m, ok := f[0].(map[string]any)
	if !ok {
		return nil, errArity
	}
	switch tag {
	case TagHello:
		return Hello{Extra: m}, nil
	case TagLogon:
		return Logon{Auth: m}, nil
	case TagBegin:
		return Begin{Extra: m}, nil
	case TagPull:
		n, qid, err := parseBatch(m)
		return Pull{N: n, QID: qid}, err
	case TagDiscard:
		n, qid, err := parseBatch(m)
		return Discard{N: n, QID: qid}, err
	case TagSuccess:
		return Success{Meta: m}, nil
	}
	code, _ := m["code"].(string)
	message, _ := m["message"].(string)
	return Failure{Code: code, Message: message}, nil
}

func parseBatch(m map[string]any) (n, qid int64, err error) {
	n, qid = -1, -1
	for key, into := range map[string]*int64{"n": &n, "qid": &qid} {
		v, present := m[key]
		if !present {
			continue
		}
		i, ok := v.(int64)
		if !ok {
			return 0, 0, fmt.Errorf("%w: %s is a %T", errArity, key, v)
		}
		*into = i
	}
	return n, qid, nil
}
