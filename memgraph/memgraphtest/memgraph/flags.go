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

// flags is what the command takes: Memgraph's, with its defaults of v3.12, and
// its own. The value tells whether a bare --flag is one.
var flags = map[string]string{
	"also-log-to-stderr": "false", "auth-password-permit-null": "true", "bolt-address": "0.0.0.0", "bolt-cert-file": "",
	"bolt-key-file": "", "bolt-num-workers": "0", "bolt-port": "7687", "data-dir-lock-acquisition-timeout-sec": "30",
	"data-directory": "mg_data", "data-recovery-on-startup": "true", "isolation-level": "SNAPSHOT_ISOLATION", "log-file": "",
	"log-level": "WARNING", "log-retention-days": "35", "memory-limit": "0", "metrics-address": "0.0.0.0",
	"metrics-format": "JSON", "metrics-port": "9091", "monitoring-address": "0.0.0.0", "monitoring-port": "7444",
	"password-encryption-algorithm": "bcrypt", "query-execution-timeout-sec": "600", "query-modules-directory": "",
	"replication-replica-check-frequency-sec": "1", "replication-restore-state-on-startup": "true",
	"storage-access-timeout-sec": "1", "storage-gc-cycle-sec": "30", "storage-mode": "IN_MEMORY_TRANSACTIONAL",
	"storage-properties-on-edges": "true", "storage-recovery-thread-count": "0", "storage-snapshot-interval": "",
	"storage-snapshot-interval-sec": "300", "storage-snapshot-on-exit": "false", "storage-snapshot-retention-count": "3",
	"storage-wal-enabled": "false", "storage-wal-file-flush-every-n-tx": "100000", "storage-wal-file-size-kib": "20480",
	"telemetry-enabled": "false",

	"listen-host": "127.0.0.1", "memgraph-version": memgraphtest.DefaultVersion, "control-socket": "",
}

// parse reads a command line; the last of several values wins.
func parse(args []string) (options, error) {
	values := map[string]string{}
	for name, value := range flags {
		values[name] = value
	}
	for len(args) > 0 {
		name, value, rest, err := flag(args)
		if err != nil {
			return options{}, err
		}
		values[name], args = value, rest
	}
	return configure(values)
}

// flag reads the first flag of args.
func flag(args []string) (name, value string, rest []string, err error) {
	text, found := strings.CutPrefix(args[0], "--")
	if !found {
		return "", "", nil, fmt.Errorf("%q is not a flag: wanted --flag=value", args[0])
	}
	name, value, given := strings.Cut(text, "=")
	name = strings.ReplaceAll(name, "_", "-")
	fallback, known := flags[name]
	if !known {
		return "", "", nil, fmt.Errorf("unknown command line flag --%s", name)
	}
	if given {
		return name, value, args[1:], nil
	}
	if isBool := fallback == "true" || fallback == "false"; isBool {
		return name, "true", args[1:], nil
	}
	if len(args) == 1 {
		return "", "", nil, fmt.Errorf("flag --%s lacks its value", name)
	}
	return name, args[1], args[2:], nil
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
			WithoutLog:       !r.bool("storage-wal-enabled"),
			ForgetRole:       !r.bool("replication-restore-state-on-startup"),
			ForgetData:       !r.bool("data-recovery-on-startup"),
			Flags:            map[string]string{},
		},
		controlSocket: values["control-socket"],
	}
	for name, value := range values {
		o.Flags[strings.ReplaceAll(name, "-", "_")] = value
	}
	if values["bolt-cert-file"] != "" || values["bolt-key-file"] != "" {
		r.err = errors.Join(r.err, errors.New("--bolt-cert-file: the stand-in does not speak TLS"))
	}
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

func (r *reader) note(name string, err error) {
	if err != nil {
		r.err = errors.Join(r.err, fmt.Errorf("flag --%s: %w", name, err))
	}
}
