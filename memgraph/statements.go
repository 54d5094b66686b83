package memgraph

import (
	"fmt"
	"strings"
)

// Statements of replication; none takes parameters. Source: Memgraph v3.12
// MemgraphCypher.g4:638-687.
const (
	showRole     = "SHOW REPLICATION ROLE"
	showReplicas = "SHOW REPLICAS"
	showVersion  = "SHOW VERSION"
	// showStorage tells of the database up to 3.9 and of the instance alone in
	// 3.12, where showDatabase (3.11) tells of the database.
	showStorage  = "SHOW STORAGE INFO"
	showDatabase = "SHOW STORAGE INFO ON CURRENT DATABASE"
	setMain      = "SET REPLICATION ROLE TO MAIN"
	// sealEpoch commits and leaves nothing behind. Observed on 3.7.2 and 3.12.0
	// to make the epoch durable (4 of 4).
	sealEpoch = "CREATE (n:__memgraph_controller) DELETE n"
)

func setReplica(port int) string {
	return fmt.Sprintf("SET REPLICATION ROLE TO REPLICA WITH PORT %d", port)
}

func register(r Registration) string {
	return fmt.Sprintf("REGISTER REPLICA %s %s TO %q", quoted(r.Name), strings.ToUpper(string(r.Mode)), r.Address)
}

func drop(name string) string { return "DROP REPLICA " + quoted(name) }

// quoted makes any name an identifier; the server strips the backticks.
func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "") + "`" }
