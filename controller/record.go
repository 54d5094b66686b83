package controller

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"memgraph-controller/memgraph"
)

// Keys of the record. All values are strings; those of pending, history, answers,
// paused and reseed are JSON, acknowledged is a time. A database is absent where
// Memgraph's version does not tell of it. What operators ask for stands in the
// annotations instead, which they may write without touching a decision.
const (
	keyMainIndex    = "mainIndex"
	keyMainUID      = "mainUID"
	keyMainIP       = "mainIP"
	keyMainRunID    = "mainRunID"
	keyMainDB       = "mainDatabase"
	keyGeneration   = "generation"
	keyPhase        = "phase"
	keyPartnerIndex = "partnerIndex"
	keyPartnerUID   = "partnerUID"
	keyPartnerIP    = "partnerIP"
	keyPartnerRunID = "partnerRunID"
	keyPartnerDB    = "partnerDatabase"
	keyInSync       = "inSync"
	keyPending      = "pending"
	keyReseed       = "reseed"
	keyHistory      = "history"
	keyAnswers      = "answers"
	keyPaused       = "paused"
	keyAcknowledged = "acknowledged"
)

// memberKeys are the keys of one member.
type memberKeys struct{ index, uid, ip, runID, database string }

var (
	mainKeys    = memberKeys{keyMainIndex, keyMainUID, keyMainIP, keyMainRunID, keyMainDB}
	partnerKeys = memberKeys{keyPartnerIndex, keyPartnerUID, keyPartnerIP, keyPartnerRunID, keyPartnerDB}
)

// encode writes m into data, and the removal of what m does not have.
func (k memberKeys) encode(m memgraph.Member, data map[string]*string) {
	data[k.index], data[k.uid], data[k.ip], data[k.runID], data[k.database] = nil, nil, nil, nil, nil
	if m.None() {
		return
	}
	data[k.index] = new(strconv.Itoa(m.Index))
	data[k.uid], data[k.ip], data[k.runID] = &m.UID, &m.IP, &m.RunID
	if m.Database != "" {
		data[k.database] = &m.Database
	}
}

// encodeRecord writes t as a ConfigMap's data. A nil value removes the key.
func encodeRecord(t memgraph.Topology) (map[string]*string, error) {
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	data := map[string]*string{
		keyGeneration:   new(strconv.FormatInt(t.Generation, 10)),
		keyPhase:        new(string(t.Phase)),
		keyInSync:       new(strconv.FormatBool(t.InSync)),
		keyAcknowledged: nil,
	}
	if !t.Acknowledged.IsZero() {
		data[keyAcknowledged] = new(t.Acknowledged.Format(time.RFC3339Nano))
	}
	mainKeys.encode(t.Main, data)
	partnerKeys.encode(t.Partner, data)
	return data, errors.Join(
		encodeJSON(data, keyHistory, t.History),
		encodeJSON(data, keyAnswers, t.Answers),
		encodeJSON(data, keyPending, t.Pending),
		encodeJSON(data, keyPaused, t.Paused),
		encodeJSON(data, keyReseed, t.Reseed),
	)
}

// encodeJSON writes value into data, and the removal of the key where it is nil.
func encodeJSON(data map[string]*string, key string, value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", key, err)
	}
	if data[key] = nil; string(encoded) != "null" {
		data[key] = new(string(encoded))
	}
	return nil
}

// decodeRecord reads the record of a StatefulSet. An error names the key that
// is damaged; the generation is then returned as far as it could be read, so
// that a record which is derived anew can go above it.
func decodeRecord(cluster string, data map[string]string) (memgraph.Topology, error) {
	d := decoder{data: data}
	t := memgraph.Topology{
		Generation: d.generation(),
		Main:       d.member(cluster, mainKeys),
		Phase:      memgraph.Phase(data[keyPhase]),
		InSync:     d.bool(keyInSync),

		Acknowledged: d.time(keyAcknowledged),
	}
	if _, ok := data[keyPartnerIndex]; ok {
		t.Partner = d.member(cluster, partnerKeys)
	}
	d.json(keyPending, &t.Pending)
	d.json(keyPaused, &t.Paused)
	d.json(keyReseed, &t.Reseed)
	d.json(keyAnswers, &t.Answers)
	d.json(keyHistory, &t.History)
	if d.err == nil {
		d.err = t.Validate()
	}
	if d.err != nil {
		return memgraph.Topology{Generation: t.Generation, Paused: t.Paused}, fmt.Errorf("decode record: %w", d.err)
	}
	return t, nil
}

// decoder reads values and keeps the first error.
type decoder struct {
	data map[string]string
	err  error
}

func (d *decoder) fail(key string, err error) {
	if d.err == nil {
		d.err = fmt.Errorf("key %s: %w", key, err)
	}
}

func (d *decoder) int(key string) int64 {
	v, err := strconv.ParseInt(d.data[key], 10, 64)
	if err != nil {
		d.fail(key, err)
	}
	return v
}

// generation is 0 where it is no use: what is derived anew cannot go above it.
func (d *decoder) generation() int64 {
	v := d.int(keyGeneration)
	if v < 1 || v > memgraph.MaxGeneration {
		d.fail(keyGeneration, fmt.Errorf("is %d, wanted 1 to %d", v, memgraph.MaxGeneration))
		return 0
	}
	return v
}

func (d *decoder) bool(key string) bool {
	v, err := strconv.ParseBool(d.data[key])
	if err != nil {
		d.fail(key, err)
	}
	return v
}

// json reads a key that may be missing.
func (d *decoder) json(key string, into any) {
	text, ok := d.data[key]
	if !ok {
		return
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		d.fail(key, err)
	}
}

// time reads a key that may be missing.
func (d *decoder) time(key string) time.Time {
	text, ok := d.data[key]
	if !ok {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		d.fail(key, err)
	}
	return at
}

func (d *decoder) member(cluster string, k memberKeys) memgraph.Member {
	i := int(d.int(k.index))
	if i < 0 {
		d.fail(k.index, errors.New("is negative"))
	}
	return memgraph.Member{
		Pod: memgraph.PodName(cluster, i), Index: i, Database: d.data[k.database],
		UID: d.text(k.uid), IP: d.text(k.ip), RunID: d.text(k.runID),
	}
}

// text is a value that must be there.
func (d *decoder) text(key string) string {
	if d.data[key] == "" {
		d.fail(key, errors.New("is missing"))
	}
	return d.data[key]
}
