package memgraph

import (
	"fmt"
)

// row is one record, by column.
type row map[string]any

// field reads a column of type T; a missing one or another type is an error.
func field[T any](r row, column string) (T, error) {
	v, ok := r[column].(T)
	if !ok {
		return v, fmt.Errorf("column %q holds %T, wanted %T", column, r[column], v)
	}
	return v, nil
}

// one is the only row of a result that must have just one.
func one(rows []row) (row, error) {
	if len(rows) != 1 {
		return nil, fmt.Errorf("answered %d rows, wanted 1", len(rows))
	}
	return rows[0], nil
}

func parseRole(rows []row) (Role, error) {
	r, err := one(rows)
	if err != nil {
		return RoleUnknown, err
	}
	s, err := field[string](r, "replication role")
	if err != nil {
		return RoleUnknown, err
	}
	switch role := Role(s); role {
	case RoleMain, RoleReplica:
		return role, nil
	}
	return RoleUnknown, fmt.Errorf("unknown replication role %q", s)
}

func parseVersion(rows []row) (Version, error) {
	r, err := one(rows)
	if err != nil {
		return Version{}, err
	}
	s, err := field[string](r, "version")
	if err != nil {
		return Version{}, err
	}
	return ParseVersion(s)
}

func parseReplicas(rows []row) ([]Replica, error) {
	replicas := make([]Replica, 0, len(rows))
	for _, r := range rows {
		replica, err := parseReplica(r)
		if err != nil {
			return nil, fmt.Errorf("replica %v: %w", r["name"], err)
		}
		replicas = append(replicas, replica)
	}
	return replicas, nil
}

func parseReplica(r row) (Replica, error) {
	name, err := field[string](r, "name")
	if err != nil {
		return Replica{}, err
	}
	address, err := field[string](r, "socket_address")
	if err != nil {
		return Replica{}, err
	}
	mode, err := field[string](r, "sync_mode")
	if err != nil {
		return Replica{}, err
	}
	replica := Replica{Name: name, Address: address, Mode: SyncMode(mode)}
	if _, old := r["state"]; old {
		return parseOldState(r, replica)
	}
	return parseDataInfo(r, replica)
}

// parseDataInfo reads the columns of 2.15 and later: one map for each database,
// of which Community has one; the map is empty after a failed REGISTER.
// Source: Memgraph v3.12 query/interpreter.cpp:2028-2082.
func parseDataInfo(r row, replica Replica) (Replica, error) {
	databases, err := field[map[string]any](r, "data_info")
	if err != nil {
		return Replica{}, err
	}
	for _, v := range databases {
		database, ok := v.(map[string]any)
		if !ok {
			return Replica{}, fmt.Errorf("data_info holds %T, wanted a map", v)
		}
		return parseState(database, replica, "status", "ts", "behind")
	}
	return replica, nil
}

// parseOldState reads the columns of 2.14 and earlier.
func parseOldState(r row, replica Replica) (Replica, error) {
	return parseState(r, replica, "state", "current_timestamp_of_replica", "number_of_timestamp_behind_master")
}

func parseState(r row, replica Replica, status, timestamp, behind string) (Replica, error) {
	s, err := field[string](r, status)
	if err != nil {
		return Replica{}, err
	}
	if replica.Timestamp, err = field[int64](r, timestamp); err != nil {
		return Replica{}, err
	}
	if replica.Behind, err = field[int64](r, behind); err != nil {
		return Replica{}, err
	}
	switch replica.Status = ReplicaStatus(s); replica.Status {
	case StatusReady, StatusReplicating, StatusRecovery, StatusInvalid, StatusDiverged:
		return replica, nil
	}
	return Replica{}, fmt.Errorf("unknown status %q", s)
}

// parseStorage reads the two-column table of either storage statement. ok is
// false where it tells nothing of the data, as the bare one of 3.12.
func parseStorage(rows []row) (info StorageInfo, ok bool, err error) {
	for _, r := range rows {
		key, err := field[string](r, "storage info")
		if err != nil {
			return StorageInfo{}, false, err
		}
		switch key {
		case "vertex_count":
			if info.Vertices, err = field[int64](r, "value"); err != nil {
				return StorageInfo{}, false, err
			}
			ok = true
		case "database_uuid":
			if info.Database, err = field[string](r, "value"); err != nil {
				return StorageInfo{}, false, err
			}
		case "health":
			health, err := field[string](r, "value")
			if err != nil {
				return StorageInfo{}, false, err
			}
			info.Broken = health == "broken"
		}
	}
	return info, ok, nil
}
