package gateway

import (
	"bytes"
	"slices"

	"memgraph-controller/memgraph/bolt"
)

// Codes of what the gateway answers in MAIN's stead. Every driver takes a code
// whose second word is TransientError for "try again", which is only said where
// nothing took effect, and DatabaseError for "do not": nobody repeats blindly
// what may have taken effect. All four words must be there. Source:
// neo4j-go-driver v5 db/errors.go, and its JavaScript, Python and Java
// counterparts.
const (
	codeNoMain         = "Memgraph.TransientError.Gateway.NoMain"
	codeOverloaded     = "Memgraph.TransientError.Gateway.Overloaded"
	codeDraining       = "Memgraph.TransientError.Gateway.Draining"
	codeMainChanged    = "Memgraph.TransientError.Gateway.MainChanged"
	codeOutcomeUnknown = "Memgraph.DatabaseError.Gateway.OutcomeUnknown"
	codePlain          = "Memgraph.ClientError.Gateway.EncryptionRequired"
	codeDenied         = "Memgraph.ClientError.Gateway.AdministrationDenied"
)

var (
	failMainChanged = bolt.Failure{
		Code:    codeMainChanged,
		Message: "the transaction was rolled back: MAIN changed before its end, or clients were held from it for too long; run it again",
	}
	failOutcomeUnknown = bolt.Failure{
		Code: codeOutcomeUnknown,
		Message: "the connection to MAIN was lost before it answered: whether this took effect is not known; " +
			"look before you repeat it",
	}
	failDenied = bolt.Failure{
		Code:    codeDenied,
		Message: "the controller manages replication: it would undo this, or clients would lose what it is there to protect",
	}
)

// Answers without content, and what is none.
var (
	replyNoop    = []byte{0, 0}
	replySuccess = []byte{0, 3, 0xB1, byte(bolt.TagSuccess), 0xA0, 0, 0}
	replyIgnored = []byte{0, 2, 0xB0, byte(bolt.TagIgnored), 0, 0}
)

// appendFailure adds f as it goes over the wire.
func appendFailure(b []byte, f bolt.Failure) []byte {
	b, err := bolt.AppendMessage(b, f)
	if err != nil {
		panic("gateway: a failure is two strings: " + err.Error())
	}
	return b
}

// proxy answers requests in MAIN's stead after a unit came to a bad end, until
// the client has let go of it:
//
//	state    RESET         ROLLBACK      anything else
//	idle     (not asked)   (not asked)   (not asked)
//	lost     SUCCESS, idle SUCCESS, idle FAILURE why, failed
//	failed   SUCCESS, idle IGNORED       IGNORED
type proxy struct {
	state proxyState
	why   bolt.Failure
}

type proxyState byte

const (
	proxyIdle   proxyState = iota // MAIN answers for itself
	proxyLost                     // the unit is lost, and the client does not know
	proxyFailed                   // it has been told
)

// answer adds the reply to a.
func (p *proxy) answer(b []byte, a ask) []byte {
	switch {
	case a == askReset, a == askRollback && p.state == proxyLost:
		p.state = proxyIdle
		return append(b, replySuccess...)
	case p.state == proxyLost:
		p.state = proxyFailed
		return appendFailure(b, p.why)
	}
	return append(b, replyIgnored...)
}

// notMain are how Memgraph begins to say that an instance is not MAIN (any
// more), where that means that nothing was executed; versions and places:
//
//	3.5.2 …, RUN; 2.4 … 3.0, RUN
//	3.0 …, COMMIT, or PULL of a statement of its own
//	3.5 …, commit
//	many, administration of users, databases and triggers
//
// "PeriodicCommit failed: …" is not among them: earlier batches took effect.
// Source: Memgraph v3.12 query/exceptions.hpp:522, query/interpreter.cpp:10828;
// the first two observed on 3.7.2 and 3.12.0.
var notMain = [][]byte{
	[]byte("Write queries are forbidden on the replica instance."),
	[]byte("Write query forbidden on the replica!"),
	[]byte("Cannot commit because instance is not main anymore."),
	[]byte("Queries on replica shouldn't write."),
	[]byte("Query forbidden on the replica!"),
}

// isNotMain reports whether a FAILURE's payload says that MAIN is elsewhere.
func isNotMain(payload []byte) bool {
	text, _ := bolt.Text(bolt.Lookup(payload, "message"))
	return slices.ContainsFunc(notMain, func(prefix []byte) bool { return bytes.HasPrefix(text, prefix) })
}
