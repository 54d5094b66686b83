package gateway

import (
	"cmp"

	"memgraph-controller/memgraph/bolt"
)

// routeTTL, in seconds, is for how long a client keeps a routing table. It holds
// the gateway's own address, which no change of MAIN makes wrong.
const routeTTL = 300

// route answers ROUTE, which Memgraph refuses: all roles are at the address that
// the client itself used, so that every name and port mapping on its way goes on
// to work. Source: Bolt message specification, ROUTE.
func (t *talk) route(m []byte) ending {
	parsed, err := bolt.ParseMessage(bolt.Payload(m))
	if err != nil {
		return endUnknown
	}
	answer, err := bolt.AppendMessage(t.out[:0], routingTable(parsed.(bolt.Route), t.s.client.LocalAddr().String()))
	if err != nil {
		return endUnknown
	}
	return t.reply(answer)
}

// routingTable answers r; fallback is for clients that do not say which address
// they used.
func routingTable(r bolt.Route, fallback string) bolt.Message {
	address, _ := r.Routing["address"].(string)
	at := []any{cmp.Or(address, fallback)}
	db, _ := r.Extra.(string)
	if extra, ok := r.Extra.(map[string]any); ok {
		db, _ = extra["db"].(string)
	}
	var servers []any
	for _, role := range []string{"WRITE", "READ", "ROUTE"} {
		servers = append(servers, map[string]any{"role": role, "addresses": at})
	}
	return bolt.Success{Meta: map[string]any{"rt": map[string]any{
		"ttl": int64(routeTTL), "db": cmp.Or(db, "memgraph"), "servers": servers,
	}}}
}
