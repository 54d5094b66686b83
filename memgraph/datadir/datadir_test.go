package datadir

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var monday = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// order is the nth: each is a second after the one before, as if from another zone.
func order(n int) Order {
	zone := time.FixedZone("", n*3600)
	return Order{Since: monday.Add(time.Duration(n) * time.Second).In(zone), ID: "uid"}
}

// made is a data directory in a volume of its own, with one file.
func made(t *testing.T, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "mg_data")
	fill(t, path, content)
	return path
}

func fill(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Join(path, "wal"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(path, "wal", "current"), []byte(content), 0o600))
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path, "wal", "current"))
	require.NoError(t, err)
	return string(b)
}

func TestDirectoryIsMovedAsideWhole(t *testing.T) {
	path := made(t, "data")
	aside, err := SetAside(path, order(1), 1)
	require.NoError(t, err)
	assert.Equal(t, path+".aside-20261123T120001Z-uid", aside)
	assert.Equal(t, "data", content(t, aside), "invariant 2")
	assert.NoDirExists(t, path)
}

func TestOrderIsCarriedOutOnce(t *testing.T) {
	path := made(t, "useless")
	_, err := SetAside(path, order(1), 1)
	require.NoError(t, err)
	fill(t, path, "copied from MAIN since")
	aside, err := SetAside(path+"/", order(1), 1)
	require.NoError(t, err)
	assert.Empty(t, aside)
	assert.Equal(t, "copied from MAIN since", content(t, path), "invariant 3")
}

func TestNewestCopiesAreKept(t *testing.T) {
	for keep, want := range map[int][]string{
		0: {"3"}, // nobody's only copy is deleted
		1: {"3"},
		2: {"2", "3"},
		9: {"1", "2", "3"},
	} {
		path := made(t, "1")
		other := path + "base.aside-1"
		fill(t, other, "another's")
		for n, next := range []string{"2", "3", ""} {
			_, err := SetAside(path, order(n), keep)
			require.NoError(t, err)
			if next != "" {
				fill(t, path, next)
			}
		}
		copies, err := Copies(path)
		require.NoError(t, err)
		var got []string
		for _, c := range copies {
			got = append(got, content(t, c))
		}
		assert.Equal(t, want, got, "invariant 1, keep %d", keep)
		assert.DirExists(t, other, "invariant 1")
	}
}

// The clock of who gave the order may be behind that of who gave the one before.
func TestCopyJustMadeIsKept(t *testing.T) {
	path := made(t, "1")
	_, err := SetAside(path, order(30), 1)
	require.NoError(t, err)
	fill(t, path, "2")
	aside, err := SetAside(path, order(0), 1)
	require.NoError(t, err)
	copies, err := Copies(path)
	require.NoError(t, err)
	assert.Equal(t, []string{aside}, copies, "invariant 1")
	assert.Equal(t, "2", content(t, aside))
}

func TestNothingIsThereToMove(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mg_data")
	aside, err := SetAside(path, order(1), 1)
	require.NoError(t, err)
	assert.Empty(t, aside)
	assert.NoDirExists(t, path)
}

func TestDirectoryInUseIsLeftAlone(t *testing.T) {
	path := made(t, "data")
	unlock, err := lock(path) // as the Memgraph before it, which has not ended
	require.NoError(t, err)
	_, err = SetAside(path, order(1), 1)
	require.ErrorIs(t, err, ErrInUse, "invariant 4")
	assert.Equal(t, "data", content(t, path))
	unlock()
	_, err = SetAside(path, order(1), 1)
	require.NoError(t, err)
	assert.NoDirExists(t, path)
}

func TestDirectoryThatCannotBeMovedStays(t *testing.T) {
	path := made(t, "data")
	require.NoError(t, os.Remove(filepath.Join(path, "wal", "current")))
	require.NoError(t, os.Mkdir(filepath.Join(path, lockFile), 0o700))
	_, err := SetAside(path, order(1), 1)
	require.Error(t, err)
	assert.DirExists(t, filepath.Join(path, "wal"), "invariant 2")
}
