package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// ErrInUse says that a Memgraph holds the directory: the one before has not ended.
var ErrInUse = errors.New("data directory is in use")

const (
	// lockFile is what a running Memgraph holds an exclusive lock on. Source:
	// Memgraph v3.12 memgraph.cpp, "data directory lock".
	lockFile = ".lock"
	// asideMark is between a directory's name and that of a copy of it.
	asideMark = ".aside-"
	// stamp sorts copies by age.
	stamp = "20060102T150405Z"
)

// Order is what a directory is moved aside for: the same order names the same copy.
type Order struct {
	Since time.Time
	ID    string // of a file name's bytes
}

// SetAside moves the directory at path aside, next to where it was, and returns
// where it is now: "" if there was nothing to move, or the order has been carried
// out before. It keeps the newest copies, as many as keep says, which is 1 or more.
// It returns ErrInUse while a Memgraph runs on it.
func SetAside(path string, o Order, keep int) (aside string, err error) {
	target := filepath.Clean(path) + asideMark + o.Since.UTC().Format(stamp) + "-" + o.ID
	_, err = os.Lstat(target)
	if err == nil {
		return "", nil // invariant 3
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("look for copy: %w", err)
	}
	unlock, err := lock(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := os.Rename(path, target); err != nil {
		return "", fmt.Errorf("move data directory aside: %w", err)
	}
	return target, prune(path, target, keep)
}

// lock takes the directory as a Memgraph would, and fails where one has it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock of data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w: %w", path, ErrInUse, err)
	}
	return func() { f.Close() }, nil
}

// prune deletes the oldest copies of the directory at path. The one just made stays,
// however old the clock of who ordered it makes it.
func prune(path, made string, keep int) error {
	copies, err := Copies(path)
	if err != nil {
		return err
	}
	copies = slices.DeleteFunc(copies, func(c string) bool { return c == made })
	for len(copies) >= max(keep, 1) {
		if err := os.RemoveAll(copies[0]); err != nil {
			return fmt.Errorf("delete oldest copy: %w", err)
		}
		copies = copies[1:]
	}
	return nil
}

// Copies are where the directory at path was moved aside to, the oldest first.
func Copies(path string) ([]string, error) {
	parent, name := filepath.Split(filepath.Clean(path))
	entries, err := os.ReadDir(filepath.Clean(parent))
	if err != nil {
		return nil, fmt.Errorf("list copies: %w", err)
	}
	var copies []string
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), name+asideMark) {
			copies = append(copies, filepath.Join(parent, e.Name()))
		}
	}
	slices.Sort(copies)
	return copies, nil
}
