package memgraph

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/neo4j/neo4j-go-driver/v5/neo4j"

	"memgraph-controller/memgraph/bolt"
)

// What callers branch on. Other errors are a ServerError that is none of these,
// or an answer that could not be read.
var (
	// ErrUnreachable says that nothing answered in time, or that the connection
	// broke: the statement may have taken effect.
	ErrUnreachable = errors.New("unreachable")
	// ErrRefused is the ErrUnreachable of a host that is up and a port on which
	// nobody listens: the process is gone, or has not opened Bolt yet.
	ErrRefused = fmt.Errorf("%w: connection refused", ErrUnreachable)
	// ErrUnauthenticated says that the credentials are wrong, or the certificates:
	// the instance lives.
	ErrUnauthenticated = errors.New("wrong credentials")
	// ErrBusy says that a commit or another statement held the lock until the
	// caller's deadline.
	ErrBusy = errors.New("busy")
	// ErrNotMain says that the statement is for a MAIN and the instance is not.
	ErrNotMain = errors.New("not MAIN")
	// ErrDiverged says that the replica holds commits which MAIN does not. The
	// failed REGISTER leaves a ghost.
	ErrDiverged = errors.New("replica has diverged from MAIN")
	// ErrNotAccepted says that the target of REGISTER did not answer as a
	// replica. The failed REGISTER leaves a ghost.
	ErrNotAccepted = errors.New("target did not accept the registration")
	// ErrNameTaken says that another registration has the name.
	ErrNameTaken = errors.New("replica name is registered already")
	// ErrAddressTaken says that another registration has the address.
	ErrAddressTaken = errors.New("replica address is registered already")
	// ErrNotConfirmed says that a synchronous replica did not confirm a commit: a
	// SYNC one stays on MAIN all the same, a STRICT_SYNC one is aborted everywhere.
	ErrNotConfirmed = errors.New("not confirmed by a synchronous replica")
	// ErrUnsafe says that a statement was not sent, for MAIN might not survive it at
	// this moment.
	ErrUnsafe = errors.New("unsafe at the moment")
	// ErrNotRegistered says that MAIN knows no replica of that name.
	ErrNotRegistered = errors.New("no such replica")
)

// ServerError is a failure that Memgraph answered, with the sentinel that its
// text stands for, if any.
type ServerError struct {
	Code, Text string
	kind       error
}

func (e *ServerError) Error() string {
	if e.kind == nil {
		return fmt.Sprintf("%s (%s)", e.Text, e.Code)
	}
	return fmt.Sprintf("%v: %s", e.kind, e.Text)
}

func (e *ServerError) Unwrap() error { return e.kind }

// codeUnauthenticated comes with a failed login, after which the server closes.
// Source: Memgraph v3.12 bolt/v1/states/init.hpp:36; observed on 3.12.0.
const codeUnauthenticated = "Memgraph.ClientError.Security.Unauthenticated"

// texts maps the beginning of a server's text to what it means. Sources: query/
// interpreter.cpp of Memgraph v3.12 (lines in brackets) and, where they differ,
// of v2.18 to v3.0; all but the older forms observed on 3.7.2 and 3.12.0.
var texts = []struct {
	prefix string
	kind   error
}{
	{"Couldn't set replication role to main!", ErrBusy},                                           // [439]; or it is MAIN
	{"Couldn't set role to replica!", ErrBusy},                                                    // [449]; or it is a replica
	{"Failed to unregister replica due to lack of unique access over the cluster state", ErrBusy}, // [503]
	{"Couldn't get unique access to replication state!", ErrBusy},                                 // up to 3.0
	{"Multiple concurrent system queries are not supported.", ErrBusy},                            // [9925]
	{"Failed to unregister the replica ", ErrNotRegistered},                                       // [512]
	{"Couldn't unregister the replica ", ErrNotRegistered},                                        // up to 3.0
	{"Replica can't register another replica!", ErrNotMain},                                       // [489]
	{"Replica can't unregister a replica!", ErrNotMain},                                           // [507]
	{"Show replicas query should only be run on the main instance.", ErrNotMain},                  // [523]
	{"Replica can't show registered replicas", ErrNotMain},                                        // up to 3.0
	{"Write queries are forbidden on the replica instance.", ErrNotMain},                          // exceptions.hpp [522]
	{"Write query forbidden on the replica!", ErrNotMain},                                         // up to 3.0
	{"Cannot commit because instance is not main anymore.", ErrNotMain},                           // [10828]
	{"Replication Exception: ", ErrNotConfirmed},                                                  // exceptions.hpp [512]
}

// registerFailures are the numbers of "Couldn't register replica X. Error: N",
// which are printed since 3.5. Source: Memgraph v3.12
// query/replication_query_handler.hpp:29-37; 3 is printed for divergence only.
var registerFailures = map[string]error{
	"1": ErrNameTaken,
	"2": ErrAddressTaken,
	"3": ErrDiverged,
	"5": ErrNotAccepted,
	"6": ErrBusy,
}

// kindOf tells what a server's failure stands for; nil if none of ours.
func kindOf(code, text string) error {
	if code == codeUnauthenticated {
		return ErrUnauthenticated
	}
	for _, t := range texts {
		if strings.HasPrefix(text, t.prefix) {
			return t.kind
		}
	}
	if strings.HasPrefix(text, "Couldn't register replica ") { // [492]
		_, n, _ := strings.Cut(text, " Error: ")
		return registerFailures[n]
	}
	return nil
}

// classify turns any error of the driver or of a connection into one of ours.
// The cause of an ended context is kept: it says who ended it.
func classify(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var ours *ServerError
	var db *neo4j.Neo4jError
	var failure bolt.Failure
	switch {
	case errors.As(err, &ours), errors.Is(err, ErrUnreachable):
		return err
	case errors.As(err, &db):
		return &ServerError{Code: db.Code, Text: db.Msg, kind: kindOf(db.Code, db.Msg)}
	case errors.As(err, &failure):
		return &ServerError{Code: failure.Code, Text: failure.Message, kind: kindOf(failure.Code, failure.Message)}
	case distrusted(err):
		return fmt.Errorf("%w: %w", ErrUnauthenticated, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", ErrUnreachable, context.Cause(ctx))
	case refused(err):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case broken(err):
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return err
}

// distrusted holds for a peer that answers, and whose TLS does not go with ours.
func distrusted(err error) bool {
	var alert *net.OpError
	return errors.As(err, new(untrusted)) || errors.As(err, new(tls.RecordHeaderError)) ||
		errors.As(err, &alert) && alert.Op == "remote error"
}

// refused holds for a dial that the host answered with a reset.
func refused(err error) bool {
	var lost *neo4j.ConnectivityError
	if errors.As(err, &lost) { // it wraps without Unwrap
		err = lost.Inner
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// broken holds for a connection that could not be opened or did not last.
func broken(err error) bool {
	var network net.Error
	var lost *neo4j.ConnectivityError
	return errors.As(err, &network) || errors.As(err, &lost) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}
