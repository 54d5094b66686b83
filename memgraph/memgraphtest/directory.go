package memgraphtest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// Files of a data directory; the names of Memgraph's where it has them.
const (
	lockFile     = ".lock"
	identityFile = "replication/identity.json"
	logFile      = "wal/current"
	snapshotFile = "snapshots/newest"
)

// lockWait is how long a process waits for a data directory that another one
// holds. Source: Memgraph v3.12, data_dir_lock_acquisition_timeout_sec.
const lockWait = 30 * time.Second

// directory is a data directory that this process has locked.
type directory struct {
	path string
	lock *os.File
	full atomic.Bool // by a fault: nothing can be written
}

// openDirectory creates and locks the directory at path.
func openDirectory(ctx context.Context, path string) (*directory, error) {
	for _, file := range []string{identityFile, logFile, snapshotFile} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(path, file)), 0o755); err != nil {
			return nil, fmt.Errorf("open data directory: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open data directory: %w", err)
	}
	d := &directory{path: path, lock: lock}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return d, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock data directory %s: %w: %w", path, err, ctx.Err()), lock.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *directory) file(name string) string { return filepath.Join(d.path, name) }

// room is the error of a write to a full disk.
func (d *directory) room() error {
	if d.full.Load() {
		return syscall.ENOSPC
	}
	return nil
}

// replace writes a file so that it is whole whenever the process dies.
func (d *directory) replace(name string, content []byte) error {
	path := d.file(name)
	if err := d.room(); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", content, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func (d *directory) close() error { return d.lock.Close() } // which unlocks it

// identity is what an instance knows of itself besides its data.
type identity struct {
	DatabaseUUID string         `json:"database_uuid"`
	Role         Role           `json:"role"`
	MainUUID     string         `json:"main_uuid"`
	Port         int64          `json:"port,omitempty"`
	Replicas     []Registration `json:"replicas,omitempty"`
}

// readIdentity returns a MAIN's new identity where there is none.
func (d *directory) readIdentity() (identity, error) {
	b, err := os.ReadFile(d.file(identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		id := identity{DatabaseUUID: newUUID(), Role: RoleMain, MainUUID: newUUID()}
		return id, d.writeIdentity(id)
	}
	if err != nil {
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	var id identity
	if err := json.Unmarshal(b, &id); err != nil {
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	return id, nil
}

// writeIdentity makes id survive the process.
func (d *directory) writeIdentity(id identity) error {
	b, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	if err := d.replace(identityFile, b); err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

// newUUID is a random UUID, version 4.
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0F | 0x40
	b[8] = b[8]&0x3F | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
