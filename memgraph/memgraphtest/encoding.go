package memgraphtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"memgraph-controller/memgraph/bolt"
	"memgraph-controller/memgraph/memgraphtest/internal/graph"
)

// Everything that the stand-in stores or sends to its replicas is PackStream in
// frames: a length and a checksum of four bytes each, then the payload.

// frameHead is the size of what comes before the payload.
const frameHead = 8

// maxFrame bounds a frame's payload: a snapshot of some millions of nodes.
const maxFrame = 1 << 30

var errTorn = errors.New("frame is torn or damaged")

// appendFrame adds a frame to b.
func appendFrame(b, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(payload))
	return append(b, payload...)
}

// readFrame returns io.EOF where no frame begins, errTorn where one is cut off
// or does not fit its checksum, and errors of the reader as they are.
func readFrame(r io.Reader) ([]byte, error) {
	var head [frameHead]byte
	if n, err := io.ReadFull(r, head[:]); err != nil {
		if n > 0 && errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errTorn
		}
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:4])
	if size > maxFrame {
		return nil, errTorn
	}
	payload := make([]byte, size)
	if _, err := io.ReadFull(r, payload); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errTorn
		}
		return nil, err
	}
	if crc32.ChecksumIEEE(payload) != binary.BigEndian.Uint32(head[4:]) {
		return nil, errTorn
	}
	return payload, nil
}

// pack encodes values that came from queries or from here: it cannot fail.
func pack(v any) []byte {
	b, err := bolt.AppendValue(nil, v)
	if err != nil {
		panic(fmt.Sprintf("pack: %v", err))
	}
	return b
}

// unpack decodes a list of exactly n values.
func unpack(b []byte, n int) ([]any, error) {
	v, rest, err := bolt.DecodeValue(b)
	if err != nil {
		return nil, fmt.Errorf("unpack: %w", err)
	}
	list, ok := v.([]any)
	if !ok || len(list) != n || len(rest) > 0 {
		return nil, fmt.Errorf("unpack: not a list of %d values", n)
	}
	return list, nil
}

// packWrites and unpackWrites: a node is [id, labels, properties], a deleted
// one [id].
func packWrites(writes []graph.Write) []any {
	list := make([]any, len(writes))
	for i, w := range writes {
		if w.State == nil {
			list[i] = []any{w.ID}
		} else {
			list[i] = []any{w.ID, w.State.Labels, w.State.Props}
		}
	}
	return list
}

// unpackWrites refuses what packWrites cannot have made.
func unpackWrites(list []any) ([]graph.Write, error) {
	writes := make([]graph.Write, len(list))
	for i, v := range list {
		node, _ := v.([]any)
		if len(node) != 1 && len(node) != 3 {
			return nil, fmt.Errorf("unpack write %d: %d fields", i, len(node))
		}
		id, ok := node[0].(int64)
		if !ok {
			return nil, fmt.Errorf("unpack write %d: its id is a %T", i, node[0])
		}
		writes[i].ID = id
		if len(node) == 1 {
			continue
		}
		labels, ok1 := node[1].([]any)
		props, ok2 := node[2].(map[string]any)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("unpack write %d: no labels or properties", i)
		}
		writes[i].State = &graph.State{Labels: asStrings(labels), Props: props}
	}
	return writes, nil
}

func asStrings(list []any) []string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i], _ = v.(string)
	}
	return words
}

// entry is one committed transaction, as it is logged and shipped.
type entry struct {
	epoch  string
	ts     int64 // commit timestamp; replicas compare it
	writes []graph.Write
}

func (e entry) pack() []byte { return pack([]any{e.epoch, e.ts, packWrites(e.writes)}) }

func unpackEntry(b []byte) (entry, error) {
	list, err := unpack(b, 3)
	if err != nil {
		return entry{}, err
	}
	e := entry{}
	var ok1, ok2, ok3 bool
	var writes []any
	e.epoch, ok1 = list[0].(string)
	e.ts, ok2 = list[1].(int64)
	writes, ok3 = list[2].([]any)
	if !ok1 || !ok2 || !ok3 {
		return entry{}, errors.New("unpack entry: wrong types")
	}
	e.writes, err = unpackWrites(writes)
	return e, err
}

// reign is how far an epoch got: the last durable timestamp within it.
type reign struct {
	epoch string
	ldt   int64
}

// snapshot is all data at a durable timestamp.
type snapshot struct {
	epoch   string
	ldt     int64
	history []reign
	nodes   []graph.Write
}

func (s snapshot) pack() []byte {
	history := make([]any, len(s.history))
	for i, r := range s.history {
		history[i] = []any{r.epoch, r.ldt}
	}
	return pack([]any{s.epoch, s.ldt, history, packWrites(s.nodes)})
}

func unpackSnapshot(b []byte) (snapshot, error) {
	list, err := unpack(b, 4)
	if err != nil {
		return snapshot{}, err
	}
	s := snapshot{}
	s.epoch, _ = list[0].(string)
	s.ldt, _ = list[1].(int64)
	history, _ := list[2].([]any)
	for _, v := range history {
		pair, _ := v.([]any)
		if len(pair) != 2 {
			return snapshot{}, errors.New("unpack snapshot: wrong history")
		}
		var r reign
		r.epoch, _ = pair[0].(string)
		r.ldt, _ = pair[1].(int64)
		s.history = append(s.history, r)
	}
	nodes, _ := list[3].([]any)
	s.nodes, err = unpackWrites(nodes)
	return s, err
}
