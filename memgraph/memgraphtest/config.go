package memgraphtest

import (
	"cmp"
	"errors"
	"log/slog"
	"time"
)

// Defaults, which are those of Memgraph v3.12 and of its packaged configuration.
const (
	DefaultVersion          = "3.12.0"
	DefaultCheckFrequency   = time.Second
	DefaultSnapshotInterval = 5 * time.Minute
	// DefaultPromotionPoll is how long a promotion waits at most for the poll of
	// the replication server. Observed on 3.7.2 and 3.12.0.
	DefaultPromotionPoll = 200 * time.Millisecond
	// DefaultWorkers is one a processor where logins were observed to starve SHOW.
	DefaultWorkers = 4
	// DefaultSessionInactivity is bolt_session_inactivity_timeout of v3.7.
	DefaultSessionInactivity = 30 * time.Minute
)

// Config of a Server. The zero value of a field means its default.
type Config struct {
	// Version of Memgraph to be: 3.4.0 or later, or "next".
	Version string
	// Host is the address on which all ports are opened; 127.0.0.1 if empty.
	Host string
	// BoltPort is chosen by the system at the first start if 0, and then kept.
	BoltPort int
	// DataDirectory is required.
	DataDirectory string
	// User and Password are what a login needs; anybody may log in without User.
	User, Password string
	// LoginTime is what checking a password costs; logins queue for it.
	LoginTime time.Duration
	// Workers is how many logins can keep other messages waiting.
	Workers int
	// SessionInactivity is after what silence a session ends, before 3.8.
	SessionInactivity time.Duration
	// CertFile and KeyFile have Bolt speak TLS, and nothing else.
	CertFile, KeyFile string
	// CheckFrequency is the period of the frequent heartbeat; none if negative.
	CheckFrequency time.Duration
	// SnapshotInterval is the period of snapshots; none if negative.
	SnapshotInterval time.Duration
	SnapshotOnExit   bool
	// WithoutLog is --storage-wal-enabled=false: nothing is replicated.
	WithoutLog bool
	// ForgetRole is --replication-restore-state-on-startup=false.
	ForgetRole bool
	// ForgetData is --data-recovery-on-startup=false.
	ForgetData bool
	// PromotionPoll is DefaultPromotionPoll's place; no wait if negative.
	PromotionPoll time.Duration
	// TimeoutScale multiplies the time-outs of calls to replicas.
	TimeoutScale float64
	// Flags are what SHOW CONFIG lists, in any order.
	Flags []Flag
	// Logger gets one line for each start, end and change of role; nobody if nil.
	Logger *slog.Logger
}

// Flag is a setting as SHOW CONFIG shows it.
type Flag struct{ Name, Default, Value string }

// completed is c with its defaults, or what is wrong with it.
func completed(c Config) (Config, error) {
	c.Version = cmp.Or(c.Version, DefaultVersion)
	c.Host = cmp.Or(c.Host, "127.0.0.1")
	c.CheckFrequency = max(0, cmp.Or(c.CheckFrequency, DefaultCheckFrequency))
	c.SnapshotInterval = max(0, cmp.Or(c.SnapshotInterval, DefaultSnapshotInterval))
	c.PromotionPoll = max(0, cmp.Or(c.PromotionPoll, DefaultPromotionPoll))
	c.Workers = cmp.Or(c.Workers, DefaultWorkers)
	c.SessionInactivity = cmp.Or(c.SessionInactivity, DefaultSessionInactivity)
	c.TimeoutScale = cmp.Or(c.TimeoutScale, 1)
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	_, err := parseVersion(c.Version)
	if err == nil && c.DataDirectory == "" {
		err = errors.New("no data directory is given")
	}
	return c, err
}
