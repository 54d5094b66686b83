package memgraphtest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"
	"sync"
)

// journal is the write-ahead log: every committed transaction since the newest
// snapshot on disk, and since the one before it in memory, for replicas that
// are a little behind.
type journal struct {
	path string

	mu      sync.Mutex
	file    *os.File // nil once closed
	entries []logged // by ts
	from    int64    // entries holds all with a ts above it
}

type logged struct {
	ts     int64
	packed []byte
}

var errJournalClosed = errors.New("log is closed: the process has ended")

// openJournal reads the log at path, a torn end cut off, and goes on with it.
// from is the durable timestamp of the snapshot that the log continues.
func openJournal(path string, from int64) (*journal, []entry, error) {
	packed, size, err := readLog(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read log: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, fmt.Errorf("open log: %w", err)
	}
	if err := file.Truncate(size); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("cut log: %w", err), file.Close())
	}
	j := &journal{path: path, file: file, from: from}
	var entries []entry
	for _, b := range packed {
		e, err := unpackEntry(b)
		if err != nil {
			return nil, nil, errors.Join(fmt.Errorf("read log: %w", err), file.Close())
		}
		if e.ts <= from {
			continue
		}
		entries = append(entries, e)
		j.entries = append(j.entries, logged{e.ts, b})
	}
	return j, entries, nil
}

// readLog returns the whole records of a log and their length in bytes.
func readLog(path string) (records [][]byte, size int64, err error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer file.Close()
	r := bufio.NewReader(file)
	for {
		b, err := readFrame(r)
		if err == io.EOF || errors.Is(err, errTorn) {
			return records, size, nil
		}
		if err != nil {
			return nil, 0, err
		}
		records = append(records, b)
		size += int64(frameHead + len(b))
	}
}

// append makes a committed transaction durable against the process's death.
func (j *journal) append(ts int64, packed []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return errJournalClosed
	}
	if _, err := j.file.Write(appendFrame(nil, packed)); err != nil {
		return fmt.Errorf("append to log: %w", err)
	}
	j.entries = append(j.entries, logged{ts, packed})
	return nil
}

// after lists what was committed above ts; ok is false if the log does not
// reach back that far.
func (j *journal) after(ts int64) (packed [][]byte, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if ts < j.from {
		return nil, false
	}
	for _, e := range j.entries[j.searchLocked(ts):] {
		packed = append(packed, e.packed)
	}
	return packed, true
}

// restart leaves in the file what is above ldt, which a snapshot now holds, and
// in memory what is above keep.
func (j *journal) restart(ldt, keep int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return errJournalClosed
	}
	var content []byte
	for _, e := range j.entries[j.searchLocked(ldt):] {
		content = appendFrame(content, e.packed)
	}
	if err := os.WriteFile(j.path+".new", content, 0o644); err != nil {
		return fmt.Errorf("restart log: %w", err)
	}
	if err := os.Rename(j.path+".new", j.path); err != nil {
		return fmt.Errorf("restart log: %w", err)
	}
	file, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("restart log: %w", err)
	}
	_ = j.file.Close() // the old file has no name any more
	j.file = file
	j.entries = slices.Clone(j.entries[j.searchLocked(keep):])
	j.from = max(j.from, keep)
	return nil
}

// searchLocked is the place of the first entry above ts.
func (j *journal) searchLocked(ts int64) int {
	return sort.Search(len(j.entries), func(i int) bool { return j.entries[i].ts > ts })
}

// close ends the log: nothing can be committed any more.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		return nil
	}
	err := j.file.Close()
	j.file = nil
	return err
}
