package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"memgraph-controller/memgraph/memgraphtest"
)

// options is a command line that was read.
type options struct {
	memgraphtest.Config
	controlSocket string
}

// known is Memgraph's flags and their defaults: what SHOW CONFIG of 3.12.0 lists,
// and what it listed in 3.7.2. The numbers of threads are the machine's there.
const known = `
allow-load-csv=true auth-module-mappings= auth-module-timeout-ms=10000 auth-password-permit-null=true
auth-password-strength-regex=.+ auth-user-or-role-name-regex=[a-zA-Z0-9_.+-@]+ aws-access-key= aws-endpoint-url=
aws-region= aws-secret-key= bolt-address=0.0.0.0 bolt-cert-file= bolt-key-file= bolt-num-workers=0 bolt-port=7687
bolt-server-name-for-init= bolt-session-inactivity-timeout=1800 cartesian-product-enabled=true cluster-ca-file=
cluster-cert-file= cluster-key-file= data-dir-lock-acquisition-timeout-sec=30 data-directory=mg_data
data-recovery-on-startup=true debug-query-plans=false delta-chain-cache-threshold=128 experimental-config=
experimental-enabled= file-download-conn-timeout-sec=10 flag-file= hops-limit-partial-results=true init-data-file=
init-file= isolation-level=SNAPSHOT_ISOLATION kafka-bootstrap-servers= log-failed-queries=false log-file=
log-level=WARNING log-min-duration-ms=-1 log-query-plan=true log-retention-days=35 logger-type=sync memory-limit=0
memory-warning-threshold=1024 metrics-address=0.0.0.0 metrics-format=JSON metrics-port=9091 monitoring-address=0.0.0.0
monitoring-port=7444 password-encryption-algorithm=bcrypt pulsar-service-url= query-callable-mappings-path=
query-cost-planner=true query-execution-timeout-sec=600 query-log-directory= query-max-plans=1000
query-modules-directory= query-plan-cache-max-size=1000 query-vertex-count-to-expand-existing=10
replication-replica-check-frequency-sec=1 replication-restore-state-on-startup=true schema-info-enabled=false
storage-access-timeout-sec=1 storage-allow-recovery-failure=false
storage-automatic-edge-type-index-creation-enabled=false storage-automatic-label-index-creation-enabled=false
storage-backup-dir-enabled=true storage-delta-on-identical-property-update=true storage-enable-edges-metadata=false
storage-enable-schema-metadata=false storage-floating-point-resolution-bits=64 storage-gc-aggressive=false
storage-gc-cycle-sec=30 storage-items-per-batch=1000000 storage-light-edge=false storage-mode=IN_MEMORY_TRANSACTIONAL
storage-parallel-index-recovery=false storage-parallel-schema-recovery=false storage-parallel-snapshot-creation=false
storage-properties-on-edges=false storage-property-store-compression-enabled=false
storage-property-store-compression-level=mid storage-python-gc-cycle-sec=180 storage-recovery-thread-count=0
storage-rocksdb-enable-thread-tracking=false storage-rocksdb-info-log-level=INFO_LEVEL storage-snapshot-interval=
storage-snapshot-interval-sec=300 storage-snapshot-on-exit=false storage-snapshot-retention-count=3
storage-snapshot-thread-count=0 storage-wal-enabled=false storage-wal-file-flush-every-n-tx=100000
storage-wal-file-size-kib=20480 stream-transaction-conflict-retries=30 stream-transaction-retry-interval=500
strict-flag-check=true telemetry-enabled=false timezone=UTC
`

// hidden are flags that SHOW CONFIG does not list. Source: Memgraph v3.12
// flags/logging.cpp.
const hidden = "also-log-to-stderr=false "

// own is the stand-in's flags.
const own = "listen-host=127.0.0.1 memgraph-version=" + memgraphtest.DefaultVersion + " control-socket= timeout-scale=1"

// table splits name=value words.
func table(words string) map[string]string {
	m := map[string]string{}
	for _, w := range strings.Fields(words) {
		name, value, _ := strings.Cut(w, "=")
		m[name] = value
	}
	return m
}

// parse reads a command line; the last of several values of a flag wins.
func parse(args []string) (options, error) {
	l := line{rest: args, values: table(known + hidden + own)}
	for len(l.rest) > 0 {
		if err := l.next(); err != nil {
			return options{}, err
		}
	}
	return configure(l.values)
}

// line is a command line of which a part was read.
type line struct {
	rest   []string
	values map[string]string
}

// next reads one flag.
func (l *line) next() error {
	text, found := strings.CutPrefix(l.rest[0], "--")
	if !found {
		return fmt.Errorf("%q is not a flag: wanted --flag=value", l.rest[0])
	}
	name, value, given := strings.Cut(text, "=")
	name = strings.ReplaceAll(name, "_", "-")
	fallback, known := l.values[name]
	l.rest = l.rest[1:]
	switch isBool := fallback == "true" || fallback == "false"; {
	case !known:
		return fmt.Errorf("unknown command line flag --%s", name)
	case !given && isBool:
		value = "true"
	case !given && len(l.rest) == 0:
		return fmt.Errorf("flag --%s lacks its value", name)
	case !given:
		value, l.rest = l.rest[0], l.rest[1:]
	}
	l.values[name] = value
	return nil
}

// configure turns values into a configuration. bolt-address is not listened on:
// it is the real server's wildcard within its own namespace.
func configure(values map[string]string) (options, error) {
	r := reader{values: values}
	o := options{
		Config: memgraphtest.Config{
			Version:          values["memgraph-version"],
			Host:             values["listen-host"],
			DataDirectory:    values["data-directory"],
			BoltPort:         r.int("bolt-port"),
			CheckFrequency:   r.seconds("replication-replica-check-frequency-sec"),
			SnapshotInterval: r.seconds("storage-snapshot-interval-sec"),
			SnapshotOnExit:   r.bool("storage-snapshot-on-exit"),
			LoginTime:        r.loginTime("password-encryption-algorithm"),
			Workers:          r.int("bolt-num-workers"),
			CertFile:         values["bolt-cert-file"],
			KeyFile:          values["bolt-key-file"],
			TimeoutScale:     r.float("timeout-scale"),
			WithoutLog:       !r.bool("storage-wal-enabled"),
			ForgetRole:       !r.bool("replication-restore-state-on-startup"),
			ForgetData:       !r.bool("data-recovery-on-startup"),
		},
		controlSocket: values["control-socket"],
	}
	for name, standard := range table(known) {
		o.Flags = append(o.Flags, memgraphtest.Flag{Name: strings.ReplaceAll(name, "-", "_"), Default: standard, Value: values[name]})
	}
	o.SessionInactivity = time.Duration(r.int("bolt-session-inactivity-timeout")) * time.Second
	if !o.WithoutLog && o.SnapshotInterval < 0 {
		r.err = errors.Join(r.err, errors.New("--storage-wal-enabled needs --storage-snapshot-interval-sec above 0"))
	}
	return o, r.err
}

// reader converts values and keeps what went wrong.
type reader struct {
	values map[string]string
	err    error
}

func (r *reader) int(name string) int {
	n, err := strconv.Atoi(r.values[name])
	r.note(name, err)
	return n
}

// seconds is a period, negative if it is off.
func (r *reader) seconds(name string) time.Duration {
	n := r.int(name)
	if n == 0 {
		return -1
	}
	return time.Duration(n) * time.Second
}

func (r *reader) bool(name string) bool {
	b, err := strconv.ParseBool(r.values[name])
	r.note(name, err)
	return b
}

func (r *reader) float(name string) float64 {
	f, err := strconv.ParseFloat(r.values[name], 64)
	r.note(name, err)
	return f
}

// loginTime is what an algorithm costs. Observed on 3.7.2 and 3.12.0.
func (r *reader) loginTime(name string) time.Duration {
	switch algorithm := r.values[name]; algorithm {
	case "bcrypt":
		return 236 * time.Millisecond
	case "sha256", "sha256-multiple":
		return 700 * time.Microsecond
	default:
		r.note(name, fmt.Errorf("algorithm %q is not known", algorithm))
		return 0
	}
}

func (r *reader) note(name string, err error) {
	if err != nil {
		r.err = errors.Join(r.err, fmt.Errorf("flag --%s: %w", name, err))
	}
}
