package controller

import (
	"encoding/json"
	"fmt"
	"strconv"

	"memgraph-controller/memgraph"
)

// Keys of the record. All values are strings; those of pending and history are
// JSON.
const (
	keyMainIndex    = "mainIndex"
	keyMainUID      = "mainUID"
	keyMainIP       = "mainIP"
	keyMainRunID    = "mainRunID"
	keyGeneration   = "generation"
	keyPhase        = "phase"
	keyPartnerIndex = "partnerIndex"
	keyPartnerUID   = "partnerUID"
	keyPartnerIP    = "partnerIP"
	keyPartnerRunID = "partnerRunID"
	keyInSync       = "inSync"
	keyPending      = "pending"
	keyHistory      = "history"
)

// encodeRecord writes t as a ConfigMap's data. A nil value removes the key.
func encodeRecord(t memgraph.Topology) (map[string]*string, error) {
	if err := t.Validate(); err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	history, err := json.Marshal(t.History)
	if err != nil {
		return nil, fmt.Errorf("encode history: %w", err)
	}
	data := map[string]*string{
		keyMainIndex:  new(strconv.Itoa(t.Main.Index)),
		keyMainUID:    &t.Main.UID,
		keyMainIP:     &t.Main.IP,
		keyMainRunID:  &t.Main.RunID,
		keyGeneration: new(strconv.FormatInt(t.Generation, 10)),
		keyPhase:      new(string(t.Phase)),
		keyInSync:     new(strconv.FormatBool(t.InSync)),
		keyHistory:    new(string(history)),
		keyPending:    nil,

		keyPartnerIndex: nil, keyPartnerUID: nil, keyPartnerIP: nil, keyPartnerRunID: nil,
	}
	if p := t.Partner; !p.None() {
		data[keyPartnerIndex] = new(strconv.Itoa(p.Index))
		data[keyPartnerUID], data[keyPartnerIP], data[keyPartnerRunID] = &p.UID, &p.IP, &p.RunID
	}
	if t.Pending != nil {
		pending, err := json.Marshal(t.Pending)
		if err != nil {
			return nil, fmt.Errorf("encode pending: %w", err)
		}
		data[keyPending] = new(string(pending))
	}
	return data, nil
}

// decodeRecord reads the record of a StatefulSet. An error names the key that
// is damaged; the generation is then returned as far as it could be read, so
// that a record which is derived anew can go above it.
func decodeRecord(cluster string, data map[string]string) (memgraph.Topology, error) {
	d := decoder{data: data}
	t := memgraph.Topology{
		Generation: d.int(keyGeneration),
		Main:       d.member(cluster, keyMainIndex, keyMainUID, keyMainIP, keyMainRunID),
		Phase:      memgraph.Phase(data[keyPhase]),
		InSync:     d.bool(keyInSync),
	}
	if _, ok := data[keyPartnerIndex]; ok {
		t.Partner = d.member(cluster, keyPartnerIndex, keyPartnerUID, keyPartnerIP, keyPartnerRunID)
	}
	if _, ok := data[keyPending]; ok {
		t.Pending = new(memgraph.Pending)
		d.json(keyPending, t.Pending)
	}
	d.json(keyHistory, &t.History)
	if d.err == nil {
		d.err = t.Validate()
	}
	if d.err != nil {
		return memgraph.Topology{Generation: t.Generation}, fmt.Errorf("decode record: %w", d.err)
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

func (d *decoder) bool(key string) bool {
	v, err := strconv.ParseBool(d.data[key])
	if err != nil {
		d.fail(key, err)
	}
	return v
}

func (d *decoder) json(key string, into any) {
	if err := json.Unmarshal([]byte(d.data[key]), into); err != nil {
		d.fail(key, err)
	}
}

func (d *decoder) member(cluster, index, uid, ip, runID string) memgraph.Member {
	i := int(d.int(index))
	return memgraph.Member{
		Pod: memgraph.PodName(cluster, i), Index: i,
		UID: d.data[uid], IP: d.data[ip], RunID: d.data[runID],
	}
}
