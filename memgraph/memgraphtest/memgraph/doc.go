// Command memgraph is the stand-in of package memgraphtest as a process. It
// takes Memgraph's own flags, as --flag=value or --flag value, spelled with
// hyphens or underscores, and credentials from MEMGRAPH_USER and
// MEMGRAPH_PASSWORD. Flags that the stand-in has no use for are accepted, and
// shown by SHOW CONFIG; unknown ones are refused.
//
// Its own flags:
//
//	--listen-host       the address of all its ports: a pod's network namespace
//	--memgraph-version  which Memgraph to be
//	--control-socket    a unix socket for memgraphtest.Control
//	--timeout-scale     a factor for the time-outs of replication, 1 by default
//
// SIGTERM and SIGINT end it as they end Memgraph, with status 0.
package main
