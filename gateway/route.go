package gateway

import (
	"cmp"
	"net"
	"strconv"

	"memgraph-controller/memgraph/bolt"
)

// routeTTL, in seconds, is for how long a client keeps a routing table. It holds
// the gateway's own address, which no change of MAIN makes wrong.
const routeTTL = 300

// route answers ROUTE, which Memgraph refuses: all roles are at the address that
// the client itself used, so that every name and port mapping on its way goes on
// to work. Where there is a port for reading, that is at the same host, and who
// asks there cannot write. Source: Bolt message specification, ROUTE.
func (t *talk) route(m []byte) ending {
	parsed, err := bolt.ParseMessage(bolt.Payload(m))
	if err != nil {
		return endUnknown
	}
	asked := parsed.(bolt.Route)
	used, _ := asked.Routing["address"].(string)
	answer, err := bolt.AppendMessage(t.out[:0], routingTable(asked, t.g.roles(cmp.Or(used, t.s.client.LocalAddr().String()))))
	if err != nil {
		return endUnknown
	}
	return t.reply(answer)
}

// roles are the addresses for each, of a client that came by the address used.
func (g *Gateway) roles(used string) map[string][]any {
	at := map[string][]any{"WRITE": {used}, "READ": {used}, "ROUTE": {used}}
	switch host, _, err := net.SplitHostPort(used); {
	case g.forReading():
		at["WRITE"] = []any{}
	case g.read != nil && err == nil:
		at["READ"] = []any{net.JoinHostPort(host, strconv.Itoa(g.read.Addr().(*net.TCPAddr).Port))}
	}
	return at
}

// routingTable answers r with the addresses of each role.
func routingTable(r bolt.Route, at map[string][]any) bolt.Message {
	db, _ := r.Extra.(string)
	if extra, ok := r.Extra.(map[string]any); ok {
		db, _ = extra["db"].(string)
	}
	var servers []any
	for _, role := range []string{"WRITE", "READ", "ROUTE"} {
		servers = append(servers, map[string]any{"role": role, "addresses": at[role]})
	}
	return bolt.Success{Meta: map[string]any{"rt": map[string]any{
		"ttl": int64(routeTTL), "db": cmp.Or(db, "memgraph"), "servers": servers,
	}}}
}
