package bolt

import "fmt"

// tagAckFailure existed in Bolt 1 only.
const tagAckFailure Tag = 0x0E

// ParseOldMessage is ParseMessage for Bolt 1: it returns the message of newer
// versions that means the same. INIT is a Hello, ACK_FAILURE a Reset, and RUN
// and PULL_ALL lack what they cannot say.
func ParseOldMessage(payload []byte) (Message, error) {
	s, err := decodeStructure(payload)
	if err != nil {
		return nil, err
	}
	m, err := parseOldFields(Tag(s.Tag), s.Fields)
	if err != nil {
		return nil, fmt.Errorf("read %s of Bolt 1: %w", Tag(s.Tag), err)
	}
	return m, nil
}

func parseOldFields(tag Tag, f []any) (Message, error) {
	switch tag {
	case TagHello:
		return parseInit(f)
	case TagRun:
		return parseRun(append(f, map[string]any{}))
	case tagAckFailure, TagReset, TagPull, TagDiscard:
		if len(f) != 0 {
			return nil, errArity
		}
	}
	switch tag {
	case tagAckFailure, TagReset:
		return Reset{}, nil
	case TagPull:
		return Pull{N: -1, QID: -1}, nil
	case TagDiscard:
		return Discard{N: -1, QID: -1}, nil
	}
	return nil, fmt.Errorf("bolt: unknown message %s", tag)
}

// parseInit puts the user agent where HELLO has it.
func parseInit(f []any) (Message, error) {
	if len(f) != 2 {
		return nil, errArity
	}
	agent, ok1 := f[0].(string)
	extra, ok2 := f[1].(map[string]any)
	if !ok1 || !ok2 {
		return nil, errArity
	}
	extra["user_agent"] = agent
	return Hello{Extra: extra}, nil
}
