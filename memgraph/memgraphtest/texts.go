package memgraphtest

import (
	"fmt"
	"strings"
)

// Codes of failures. Source: Memgraph v3.12 bolt/v1/states/handlers.hpp:37-100.
const (
	codeClient          = "Memgraph.ClientError.MemgraphError.MemgraphError"
	codeTransient       = "Memgraph.TransientError.MemgraphError.MemgraphError"
	codeUnauthenticated = "Memgraph.ClientError.Security.Unauthenticated"
	codeProtocol        = "Memgraph.ExecutionException"
	codeRoute           = "66"
)

// Texts that do not change between versions 3.1 and 3.12. Sources: Memgraph
// v3.12 query/interpreter.cpp (lines in brackets), query/exceptions.hpp and
// bolt/v1; all of them observed on 3.7.2 and 3.12.0.
const (
	serverName = "Neo4j/v5.11.0 compatible graph database server - Memgraph"

	textUnauthenticated = "Authentication failure" // states/init.hpp:36
	textProtocol        = "Something went wrong while executing the query! Check the server logs for more details."
	textRoute           = "Route message is not supported in Memgraph!"
	textEnterprise      = "Query is part of the Enterprise feature. In order to run it, you need an Enterprise license."

	textSetMain       = "Couldn't set replication role to main!"                                                                                                                                                                 // [439]
	textSetReplica    = "Couldn't set role to replica!"                                                                                                                                                                          // [449]
	textPort          = "Port number invalid!"                                                                                                                                                                                   // [434]
	textRegisterHere  = "Replica can't register another replica!"                                                                                                                                                                // [489]
	textAddress       = "Couldn't parse string"                                                                                                                                                                                  // utils/string.hpp; a TransientError
	textDropBusy      = "Failed to unregister replica due to lack of unique access over the cluster state. Please try again later on."                                                                                           // [503]
	textDropHere      = "Replica can't unregister a replica! Please rerun the query on main in order to unregister a replica from the cluster."                                                                                  // [507]
	textShowHere      = "Show replicas query should only be run on the main instance."                                                                                                                                           // [523]
	textSystemQueries = "Multiple concurrent system queries are not supported."                                                                                                                                                  // [9925]
	textWriteHere     = "Write queries are forbidden on the replica instance. Replica instances accept only read queries, while the main instance accepts read and write queries. Please retry your query on the main instance." // exceptions.hpp:522
	textNotMain       = "Cannot commit because instance is not main anymore."                                                                                                                                                    // [10828]
	textSnapshotHere  = "Failed to create a snapshot. Replica instances are not allowed to create them."                                                                                                                         // before 3.7
	textNoAccess      = "Cannot get shared access to the storage. Try stopping other parallel queries."                                                                                                                          // storage/v2/storage.hpp:60; a TransientError
	textAnalytical    = "Replication query requires IN_MEMORY_TRANSACTIONAL mode."                                                                                                                                               // [10152]
	textNoCommit      = "No current transaction to commit."                                                                                                                                                                      // [3916]
	textNoRollback    = "No current transaction to rollback."                                                                                                                                                                    // [3940]
	textNested        = "Nested transactions are not supported."                                                                                                                                                                 // [3894]
)

// failure is an error as the server answers it.
type failure struct{ code, text string }

func (f *failure) Error() string { return f.text }

// dying is the failure that is not answered: the process dies.
var dying = &failure{}

func refuse(format string, args ...any) *failure {
	return &failure{code: codeClient, text: fmt.Sprintf(format, args...)}
}

func textDropUnknown(name string) string {
	return fmt.Sprintf("Failed to unregister the replica %s.", name) // [512]
}

// registerError is N of "Error: N". Source: Memgraph v3.12
// query/replication_query_handler.hpp:29-37.
type registerError int

const (
	nameExists     registerError = 1
	endpointExists registerError = 2
	diverged       registerError = 3 // called CONNECTION_FAILED there
	notPersisted   registerError = 4
	notAccepted    registerError = 5
	noAccess       registerError = 6
)

// textRegister has no number before 3.5.
func (v version) textRegister(name string, n registerError) string {
	if v.before(3, 5) {
		return fmt.Sprintf("Couldn't register replica %s.", name)
	}
	return fmt.Sprintf("Couldn't register replica %s. Error: %d", name, n) // [492]
}

// textMulticommand is exceptions.hpp:148, its misspellings as observed: one of
// 3.7.2 is mended in 3.12.0, which has one of its own.
func (v version) textMulticommand(subject string) string {
	known, particular := "known", "particularquery"
	if v.before(3, 8) {
		known, particular = "knwon", "particular query"
	}
	return subject + " is not allowed in multicommand transactions. A multicommand transaction, also known as " +
		"an explicit transaction, groups multiple commands into a single atomic operation. Instead, please use an implicit " +
		"transaction, also " + known + " as an auto committing transaction, in order to execute this " + particular +
		". For more details, visit https://memgraph.com/docs"
}

// textMisaligned is interpreter.cpp:3371 for a write in a read transaction.
func textMisaligned(kind string) string {
	return fmt.Sprintf("Accessor type READ and query type %s are misaligned!", kind)
}

// reason why a replica did not take a commit. Source: Memgraph v3.12
// storage/v2/storage_error.cpp:19-36.
type reason string

const (
	notInSync reason = "replica is not reachable or not in sync with the main"
	rpcLock   reason = "failed to obtain RPC lock (another transaction is in progress)"
	rpcError  reason = "RPC communication error"
	branched  reason = "replica has diverged from main"
	timedOut  reason = "RPC timeout while replicating"
)

// plural is the reason said of several replicas.
func (r reason) plural() string {
	s := string(r)
	if rest, ok := strings.CutPrefix(s, "replica is"); ok {
		return "replicas are" + rest
	}
	if rest, ok := strings.CutPrefix(s, "replica has"); ok {
		return "replicas have" + rest
	}
	return s
}

// miss is one replica that did not take a commit.
type miss struct {
	name   string
	mode   SyncMode
	reason reason
}

// textReplication says which replicas missed a commit. Source: Memgraph v3.12
// storage/v2/storage_error.cpp:38-100 and, for up to 3.9, query/
// interpreter.cpp:8104 of v3.6.2; both observed.
func (v version) textReplication(misses []miss, committed bool) string {
	if v.before(3, 10) {
		if committed {
			return "At least one SYNC replica has not confirmed committing last transaction."
		}
		return "At least one STRICT_SYNC replica has not confirmed committing last transaction. Transaction will be aborted on all instances."
	}
	subject, outcome := "Replica", "Transaction is still committed on the main instance and other alive replicas."
	if len(misses) > 1 {
		subject = "Replicas"
	}
	if !committed {
		outcome = "Transaction was aborted on all instances."
	}
	return fmt.Sprintf("Replication Exception: %s %s will be recovered automatically. %s%s Check the status of the replicas using 'SHOW REPLICAS' query.",
		strings.Join(grouped(misses), " "), subject, outcome, timeoutAdvice(misses))
}

// grouped is a sentence for each mode and reason.
func grouped(misses []miss) []string {
	var sentences []string
	said := map[miss]bool{}
	for _, m := range misses {
		key := miss{mode: m.mode, reason: m.reason}
		if said[key] {
			continue
		}
		said[key] = true
		var names []string
		for _, other := range misses {
			if other.mode == m.mode && other.reason == m.reason {
				names = append(names, "'"+other.name+"'")
			}
		}
		noun, why := "replica", string(m.reason)
		if n := len(names); n > 1 {
			noun, why = "replicas", m.reason.plural()
			names = []string{strings.Join(names[:n-1], ", ") + " and " + names[n-1]}
		}
		sentences = append(sentences, fmt.Sprintf("Failed to replicate to %s %s %s: %s.", strings.ToUpper(string(m.mode)), noun, names[0], why))
	}
	return sentences
}

func timeoutAdvice(misses []miss) string {
	var names []string
	for _, m := range misses {
		if m.reason == timedOut {
			names = append(names, m.name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf(" Main reached an RPC timeout while replicating to [%s]. One possible reason for this error is that the "+
		"replica is down and in that case make sure to recover it. If all of your replicas are up and running normally, then "+
		"please try setting a smaller parameter value for 'deltas_batch_progress_size' using 'SET COORDINATOR SETTING' query "+
		"on the coordinator.", strings.Join(names, ", "))
}

// notification is one entry of a summary's notifications.
type notification struct{ severity, code, title string }

func (n notification) wire() map[string]any {
	return map[string]any{"severity": n.severity, "code": n.code, "title": n.title, "description": ""}
}

// Notifications of success. Source: Memgraph v3.12 query/interpreter.cpp:1940-2000.
var (
	noteMain    = notification{"INFO", "SetReplica", "Replica role set to MAIN."}
	noteReplica = notification{"INFO", "SetReplica", "Replica role set to REPLICA."}
	notePort    = notification{"WARNING", "ReplicaPortWarning", "Be careful the replication port must be different from the memgraph port!"}
)

func noteRegistered(name string) notification {
	return notification{"INFO", "RegisterReplica", fmt.Sprintf("Replica %s is registered.", name)}
}

func noteDropped(name string) notification {
	return notification{"INFO", "DropReplica", fmt.Sprintf("Replica %s is dropped.", name)}
}

func noteHint(text string) notification { return notification{"INFO", "PlanHinting", text} }
