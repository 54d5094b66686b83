package memgraphtest

import (
	"context"
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
	// systemLock lets one statement change the system at a time.
	systemLock chan struct{}
	loginLock  sync.Mutex

	life     context.Context // of everything but sessions' own work
	kill     context.CancelFunc
	died     chan struct{} // closed by kill at a crash point
	dying    sync.Once
	hungUp   sync.Once
	listener *listener
	sessions sync.WaitGroup
	workers  sync.WaitGroup

	mu    sync.Mutex
	conns map[*conn]struct{} // of Bolt; nil once no more are let in
}

// launch starts a process: it recovers, takes up its role and opens Bolt, in
// this order. Source: Memgraph v3.12 memgraph.cpp.
func launch(ctx context.Context, cfg Config, v version, n *network, c *counters) (*instance, error) {
	i := &instance{
		cfg: cfg, version: v, network: n, runID: newUUID(), counts: c,
		systemLock: make(chan struct{}, 1), died: make(chan struct{}), conns: map[*conn]struct{}{},
	}
	i.life, i.kill = context.WithCancel(context.WithoutCancel(ctx))
	i.faults = &faults{kill: i.die}
	abort := context.AfterFunc(ctx, i.kill)
	if err := i.recover(ctx); err != nil {
		i.kill()
		return nil, err
	}
	err := i.open()
	if err == nil && !abort() {
		err = context.Cause(ctx)
	}
	if err != nil {
		i.end(false)
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
	if i.storage, err = openStorage(i.dir, id.DatabaseUUID); err != nil {
		return err
	}
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
	l, err := i.network.listen(i.roles.addressOf(int64(i.cfg.BoltPort)))
	if err != nil {
		return fmt.Errorf("start Bolt: %w", err)
	}
	i.listener = l
	i.workers.Go(i.acceptSessions)
	if i.cfg.SnapshotInterval > 0 {
		i.workers.Go(i.saveRegularly)
	}
	return nil
}

func (i *instance) acceptSessions() {
	for {
		c, err := i.listener.accept()
		if err != nil {
			return
		}
		i.mu.Lock()
		if i.conns == nil {
			i.mu.Unlock()
			_ = c.Close() // it came too late
			return
		}
		i.conns[c] = struct{}{}
		i.sessions.Go(func() { i.serve(c) })
		i.mu.Unlock()
	}
}

func (i *instance) serve(c *conn) {
	newSession(i, c).run()
	i.mu.Lock()
	delete(i.conns, c)
	i.mu.Unlock()
	_ = c.Close() // both sides are done with it
}

func (i *instance) saveRegularly() {
	ticker := time.NewTicker(i.cfg.SnapshotInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := i.storage.save(); err != nil {
				i.cfg.Logger.Error("snapshot failed", "err", err)
			}
		case <-i.life.Done():
			return
		}
	}
}

// die is death at a crash point: nothing is written any more, all connections
// break. It does not wait.
func (i *instance) die() {
	i.dying.Do(func() {
		_ = i.storage.log.close() // a process that dies closes nothing
		i.kill()
		i.hangUp()
		close(i.died)
	})
}

// hangUp closes Bolt: the port and all sessions.
func (i *instance) hangUp() {
	i.hungUp.Do(func() {
		if i.listener != nil {
			i.listener.close()
		}
	})
	i.mu.Lock()
	conns := i.conns
	i.conns = nil
	i.mu.Unlock()
	for c := range conns {
		_ = c.Close() // its session notices
	}
}

// crash ends the process as SIGKILL does: what was written stays.
func (i *instance) crash() {
	_ = i.storage.log.close() // as in die
	i.kill()
	i.end(false)
}

// terminate ends the process as SIGTERM does. From 3.12 on commits that are
// being replicated are cut short; before, they are waited for.
func (i *instance) terminate() {
	i.hangUp()
	if i.version.atLeast(3, 12) {
		i.kill()
	}
	i.end(i.cfg.SnapshotOnExit && !i.cfg.WithoutLog)
}

// end waits until nothing of the process runs any more.
func (i *instance) end(withSnapshot bool) {
	i.hangUp()
	i.sessions.Wait()
	i.kill()
	i.workers.Wait()
	i.roles.end()
	if withSnapshot {
		if err := i.storage.save(); err != nil && !errors.Is(err, errJournalClosed) {
			i.cfg.Logger.Error("snapshot failed", "err", err)
		}
	}
	if err := errors.Join(i.storage.log.close(), i.dir.close()); err != nil {
		i.cfg.Logger.Error("shutdown failed", "err", err)
	}
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
