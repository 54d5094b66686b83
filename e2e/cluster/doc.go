// Package cluster is a real Kubernetes API on loopback, without root: etcd,
// kube-apiserver and kube-controller-manager, built from the modules that
// e2e/tools pins, and three nodes whose containers are plain processes.
//
// Invariants that the tests refer to:
//
//  1. Clusters do not collide: each has a subnet 127.0.N.0/24 and a directory
//     of its own, however many run on the machine.
//  2. Whatever ends the process that started a cluster, no process of the
//     cluster outlives it, and the next Start removes the directory it left.
//  3. A node reports nothing sooner than a real kubelet would, unless Timing
//     says otherwise.
//  4. A fault is in effect when its call returns.
//
// Programs and runs are kept in the user's cache directory, or where the
// environment's MEMGRAPH_CONTROLLER_CACHE says.
//
// Limits: pods reach each other by IP only (no DNS, and Services have no
// endpoints: EndpointSlices refuse loopback addresses); only images that
// Options names can run; nothing is isolated or limited.
package cluster
