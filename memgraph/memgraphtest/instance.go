package memgraphtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// instance is one life of the server: a process, with what it holds in memory.
type instance struct {
	cfg     Config
	version version
	network *network
	runID   string // made at process start, in every summary
	dir     *directory
	storage *storage
	roles   *replication
	faults  *faults
	counts  *counters
	door    *door // nil until Bolt is open
	// systemLock lets one statement change the system at a time.
	systemLock chan struct{}
	desk       *desk
	tls        *tls.Config // of Bolt; nil for plain text

	life    context.Context // ends calls to replicas and what runs on its own
	kill    context.CancelFunc
	workers sync.WaitGroup
}

// launch starts a process: it recovers, takes up its role and opens Bolt, in
// this order. Source: Memgraph v3.12 memgraph.cpp.
func launch(ctx context.Context, cfg Config, n *network, c *counters) (*instance, error) {
	v, err := parseVersion(cfg.Version)
	if err != nil {
		return nil, err
	}
	i := &instance{cfg: cfg, version: v, network: n, runID: newUUID(), counts: c, systemLock: make(chan struct{}, 1), desk: newDesk(cfg.Workers)}
	if i.tls, err = serverTLS(cfg); err != nil {
		return nil, err
	}
	set, err := readFaults(cfg.DataDirectory)
	if err != nil {
		return nil, err
	}
	i.life, i.kill = context.WithCancel(context.WithoutCancel(ctx))
	i.faults = newFaults(i.die, set)
	abort := context.AfterFunc(ctx, i.kill)
	if err := i.recover(ctx); err != nil {
		i.kill()
		return nil, err
	}
	err = i.open()
	if err == nil && !abort() {
		err = context.Cause(ctx)
	}
	if err != nil {
		i.end()
		return nil, err
	}
	return i, nil
}

// recover locks the data directory and reads it.
func (i *instance) recover(ctx context.Context) (err error) {
	if i.dir, err = openDirectory(ctx, i.cfg.DataDirectory); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.dir.close())
		}
	}()
	if i.cfg.ForgetData {
		if err := i.dir.setAside(); err != nil {
			return err
		}
	}
	id, err := i.dir.readIdentity()
	if err != nil {
		return err
	}
	if i.cfg.ForgetRole {
		id = identity{DatabaseUUID: id.DatabaseUUID, Role: RoleMain, MainUUID: newUUID()}
	}
	if i.storage, err = openStorage(i.dir, id.DatabaseUUID, i.faults.kill); err != nil {
		return err
	}
	i.suffer(i.faults.now())
	sleep(ctx, i.faults.now().RecoveryTime)
	i.roles = &replication{
		version: i.version, host: i.cfg.Host, frequency: i.cfg.CheckFrequency, poll: i.cfg.PromotionPoll,
		scale: i.cfg.TimeoutScale, withoutLog: i.cfg.WithoutLog, network: i.network, dir: i.dir,
		storage: i.storage, faults: i.faults, life: i.life, id: id,
	}
	return nil
}

// open takes up the role and lets clients in.
func (i *instance) open() error {
	if err := i.roles.restore(); err != nil {
		return err
	}
	door, err := openDoor(i.network, i.roles.addressOf(int64(i.cfg.BoltPort)), func(c *conn) { newSession(i, i.secured(c)).run() })
	if err != nil {
		return fmt.Errorf("start Bolt: %w", err)
	}
	i.door = door
	if i.cfg.SnapshotInterval > 0 {
		i.workers.Go(i.saveRegularly)
	}
	return nil
}

// saveRegularly writes snapshots until the process ends.
func (i *instance) saveRegularly() {
	ticker := time.NewTicker(i.cfg.SnapshotInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			i.save()
		case <-i.life.Done():
			return
		}
	}
}

// save writes a snapshot, on replicas from 3.7 on.
func (i *instance) save() {
	if i.cfg.WithoutLog || i.roles.role() == RoleReplica && i.version.before(3, 7) {
		return
	}
	if err := i.storage.save(); err != nil && !errors.Is(err, errJournalClosed) {
		i.cfg.Logger.Error("snapshot failed", "err", err)
	}
}

// die ends the process at once: nobody hears from it any more, and nothing is
// written. It does not wait.
func (i *instance) die() {
	if i.door != nil {
		i.door.close() // first: a process that dies answers nothing
	}
	_ = i.storage.log.close() // nor does it close anything
	i.kill()
}

// crash ends the process as SIGKILL does: what was written stays.
func (i *instance) crash() {
	i.die()
	i.end()
}

// terminate ends the process as SIGTERM does: Bolt closes first. From 3.12 on
// commits that are being replicated are cut short, and nobody is told what became
// of them; before, they are waited for. Source: Memgraph v3.12 memgraph.cpp:1105-1115.
func (i *instance) terminate() {
	if i.version.atLeast(3, 12) {
		if i.door != nil {
			i.door.close()
		}
		i.kill()
	}
	i.rest()
	if i.cfg.SnapshotOnExit {
		i.save()
	}
	i.release()
}

// rest waits until nothing of the process runs any more.
func (i *instance) rest() {
	if i.door != nil {
		i.door.close()
		i.door.wait()
	}
	i.kill()
	i.workers.Wait()
	i.roles.end()
	if err := i.network.thaw(); err != nil {
		i.cfg.Logger.Error("network change failed", "err", err)
	}
}

// release gives the data directory back.
func (i *instance) release() {
	if err := errors.Join(i.storage.log.close(), i.dir.close()); err != nil {
		i.cfg.Logger.Error("shutdown failed", "err", err)
	}
}

// end is the rest of a process that saves nothing.
func (i *instance) end() {
	i.rest()
	i.release()
}

// setAside moves the data away, as --data-recovery-on-startup=false does.
func (d *directory) setAside() error {
	backup := d.file(".backup")
	if err := os.MkdirAll(backup, 0o755); err != nil {
		return fmt.Errorf("set data aside: %w", err)
	}
	for _, name := range []string{logFile, snapshotFile} {
		err := os.Rename(d.file(name), filepath.Join(backup, filepath.Base(name)+"-"+newUUID()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("set data aside: %w", err)
		}
	}
	return nil
}
