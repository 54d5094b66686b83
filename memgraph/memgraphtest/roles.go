package memgraphtest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Role of an instance, in the words of SHOW REPLICATION ROLE.
type Role string

// Roles.
const (
	RoleMain    Role = "main"
	RoleReplica Role = "replica"
)

// Registration is a replica as REGISTER REPLICA named it. Address is host:port.
type Registration struct {
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Mode    SyncMode `json:"mode"`
}

// member is a registered replica; without a client it is what a failed REGISTER
// left behind: listed, and otherwise ignored.
type member struct {
	Registration
	client *client
}

// replication is an instance's role, and what it does in it. Source: Memgraph
// v3.12 replication_handler.hpp and replication_handler.cpp.
type replication struct {
	version    version
	host       string
	frequency  time.Duration // of the check of each replica
	poll       time.Duration // of the replication server
	scale      float64       // of RPC time-outs
	withoutLog bool
	network    *network
	dir        *directory
	storage    *storage
	faults     *faults
	life       context.Context // ends all calls to replicas

	// lock is Memgraph's on the replication state: commits and SHOW read-lock
	// it, changes fail unless they get it at once and hold it to their end. It
	// comes before storage.engine, which comes before the turn of a link.
	lock sync.RWMutex

	mu      sync.Mutex
	id      identity
	members []*member
	server  *replicationServer // nil on MAIN, and where the port was in use
}

func (r *replication) role() Role {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id.Role
}

func (r *replication) mainUUID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.id.MainUUID
}

// clients lists the members that take part in commits, in the order of their
// registration.
func (r *replication) clients() []*client {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []*client
	for _, m := range r.members {
		if m.client != nil {
			list = append(list, m.client)
		}
	}
	return list
}

// update changes what the instance knows of itself on disk and then in memory, or
// not at all. Source: Memgraph v3.12 replication_state.cpp, SetReplicationRoleReplica.
func (r *replication) update(change func(*identity)) error {
	r.mu.Lock()
	id := r.id
	id.Replicas = nil
	for _, m := range r.members {
		id.Replicas = append(id.Replicas, m.Registration)
	}
	r.mu.Unlock()
	change(&id)
	id.DatabaseUUID = r.storage.identity()
	if err := r.dir.writeIdentity(id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.id)
	return nil
}

// obey makes main the only one this replica listens to.
func (r *replication) obey(main string) error {
	return r.update(func(id *identity) { id.MainUUID = main })
}

// restore takes up the role that the instance had: it listens as a replica, or
// talks to its replicas as MAIN, one after the other.
func (r *replication) restore() error {
	if r.id.Role == RoleReplica {
		server, err := r.serveReplication(r.addressOf(r.id.Port))
		if err != nil {
			return fmt.Errorf("restore replica: %w", err)
		}
		r.server = server
		return nil
	}
	for _, reg := range r.id.Replicas {
		m := &member{Registration: reg, client: newClient(r.life, r, reg)}
		r.mu.Lock()
		r.members = append(r.members, m)
		r.mu.Unlock()
		m.client.check()
		m.client.start(r.frequency)
	}
	return nil
}

// addressOf is a port of this instance.
func (r *replication) addressOf(port int64) string {
	return net.JoinHostPort(r.host, strconv.FormatInt(port, 10))
}

// end stops everything; it returns once nothing runs any more.
func (r *replication) end() {
	r.mu.Lock()
	members, server := r.members, r.server
	r.mu.Unlock()
	closeClients(members)
	if server != nil {
		server.listener.close()
		server.close()
	}
}

// closeClients ends their connections, which the replicas notice.
func closeClients(members []*member) {
	for _, m := range members {
		if m.client != nil {
			m.client.close()
		}
	}
}

// setMain is SET REPLICATION ROLE TO MAIN. Source: Memgraph v3.12
// replication_handler.cpp:262-331.
func (r *replication) setMain() error {
	if !r.lock.TryLock() {
		return refuse(textSetMain)
	}
	defer r.lock.Unlock()
	if r.role() == RoleMain {
		return refuse(textSetMain)
	}
	r.mu.Lock()
	server := r.server
	r.server = nil
	r.mu.Unlock()
	if server != nil {
		server.shutdown(r.life, r.poll)
	}
	uuid := newUUID()
	err := r.update(func(id *identity) {
		id.Role, id.MainUUID, id.Port = RoleMain, uuid, 0
	})
	if err != nil {
		return refuse(textSetMain)
	}
	r.storage.newEpoch()
	return nil
}

// setReplica is SET REPLICATION ROLE TO REPLICA. Where the port cannot be bound
// it fails and leaves a replica that does not listen, as Memgraph does (observed).
// Source: Memgraph v3.12 replication_handler.hpp:352-404.
func (r *replication) setReplica(port int64) error {
	if port < 0 || port > 65535 {
		return refuse(textPort)
	}
	if !r.lock.TryLock() {
		return refuse(textSetReplica)
	}
	defer r.lock.Unlock()
	if r.role() == RoleReplica {
		return refuse(textSetReplica)
	}
	r.mu.Lock()
	members := r.members
	r.members = nil
	r.mu.Unlock()
	closeClients(members)
	uuid := newUUID()
	err := r.update(func(id *identity) {
		id.Role, id.MainUUID, id.Port = RoleReplica, uuid, port
	})
	if err != nil {
		return refuse(textSetReplica)
	}
	server, err := r.serveReplication(r.addressOf(port))
	if err != nil {
		return refuse(textSetReplica)
	}
	r.mu.Lock()
	r.server = server
	r.mu.Unlock()
	return nil
}

// register is REGISTER REPLICA. It holds the lock while it talks to the target,
// which stalls commits and SHOW, and leaves the member behind when it fails.
// Source: Memgraph v3.12 replication_handler.hpp:239-349.
func (r *replication) register(reg Registration) error {
	if !r.lock.TryLock() {
		return refuse("%s", r.version.textRegister(reg.Name, noAccess))
	}
	defer r.lock.Unlock()
	m := &member{Registration: reg}
	if err := r.admit(m); err != nil {
		return err
	}
	c := newClient(r.life, r, reg)
	a, err := c.link.turnCall(request{method: swapMainUUID, main: c.main})
	if err != nil || !a.ok {
		c.close()
		return refuse("%s", r.version.textRegister(reg.Name, notAccepted))
	}
	// Whether the replica aligns its database is not looked at.
	_, _ = c.link.turnCall(request{method: systemRecovery, main: c.main, database: r.storage.identity()})
	c.check()
	if c.is(stateDiverged) {
		c.close()
		return refuse("%s", r.version.textRegister(reg.Name, diverged))
	}
	r.mu.Lock()
	m.client = c
	r.mu.Unlock()
	c.start(r.frequency)
	return nil
}

// admit lists a new member.
func (r *replication) admit(m *member) error {
	r.mu.Lock()
	main := r.id.Role == RoleMain
	name := slices.ContainsFunc(r.members, func(o *member) bool { return o.Name == m.Name })
	address := slices.ContainsFunc(r.members, func(o *member) bool { return o.Address == m.Address })
	if main && !name && !address {
		r.members = append(r.members, m)
	}
	r.mu.Unlock()
	switch {
	case !main:
		return refuse(textRegisterHere)
	case name:
		return refuse("%s", r.version.textRegister(m.Name, nameExists))
	case address:
		return refuse("%s", r.version.textRegister(m.Name, endpointExists))
	}
	if r.update(func(*identity) {}) != nil {
		return refuse("%s", r.version.textRegister(m.Name, notPersisted))
	}
	return nil
}

// drop is DROP REPLICA. Source: Memgraph v3.12 replication_handler.cpp:337-375.
func (r *replication) drop(name string) error {
	if !r.lock.TryLock() {
		return refuse(textDropBusy)
	}
	defer r.lock.Unlock()
	r.mu.Lock()
	main := r.id.Role == RoleMain
	i := slices.IndexFunc(r.members, func(m *member) bool { return m.Name == name })
	var dropped []*member
	if main && i >= 0 {
		dropped = []*member{r.members[i]}
		r.members = slices.Delete(slices.Clone(r.members), i, i+1)
	}
	r.mu.Unlock()
	switch {
	case !main:
		return refuse(textDropHere)
	case dropped == nil:
		return refuse("%s", textDropUnknown(name))
	}
	if r.dropKills(dropped[0].client) {
		r.faults.kill()
		return dying
	}
	closeClients(dropped)
	if r.update(func(*identity) {}) != nil {
		return refuse("%s", textDropUnknown(name))
	}
	return nil
}

// dropFreeze is how long DROP of a silent replica freezes MAIN before it dies.
// Observed: 28.0 s on 3.12.0, 28.4 s on 3.7.2.
const dropFreeze = 28 * time.Second

// dropKills reports whether DROP takes MAIN's own client from under its worker,
// of which the process dies:
//
//	recovery                        at once
//	ASYNC, lacks commits, silent    after a freeze, of new connections too
//	all others, also dead ones      never
//
// Observed on 3.7.2 and 3.12.0; see Memgraph's issue 1526.
func (r *replication) dropKills(c *client) bool {
	switch {
	case c == nil:
		return false
	case c.is(stateRecovery):
		return true
	case c.mode != ModeAsync || !c.lacks(r.storage.position().ldt) || !c.isSilent():
		return false
	}
	if err := r.network.freeze(); err != nil {
		return true
	}
	sleep(r.life, scaled(dropFreeze, r.scale))
	return true
}

// defaultPort of REGISTER REPLICA. Source: Memgraph v3.12
// io/network/endpoint.cpp:153-180.
const defaultPort = "10000"

// parseAddress completes an address; the host is resolved at every connect.
func parseAddress(s string) (string, error) {
	host, port, given := strings.Cut(s, ":")
	if !given {
		port = defaultPort
	}
	if _, err := strconv.ParseUint(port, 10, 32); err != nil {
		return "", &failure{codeTransient, textAddress}
	}
	return host + ":" + port, nil
}

// replicaRow is one row of SHOW REPLICAS.
type replicaRow struct {
	Registration
	known  bool // false for what a failed REGISTER left
	ts     int64
	behind int64
	state  clientState
}

// replicas lists what SHOW REPLICAS shows, from memory.
func (r *replication) replicas() []replicaRow {
	ldt := r.storage.position().ldt
	r.mu.Lock()
	defer r.mu.Unlock()
	var rows []replicaRow
	for _, m := range r.members {
		row := replicaRow{Registration: m.Registration}
		if c := m.client; c != nil {
			c.mu.Lock()
			row.known, row.ts, row.behind, row.state = true, c.ts, c.ts-ldt, c.state
			c.mu.Unlock()
		}
		rows = append(rows, row)
	}
	return rows
}
