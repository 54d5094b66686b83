// Package kubelet plays scheduler, volume provisioner and kubelet of a few
// nodes on one machine, for pods whose containers are plain processes: an image
// is a binary, the network namespace a loopback address, a mount the textual
// replacement of its path in arguments and environment.
//
// Invariants that the tests refer to:
//
//  1. What a node reports it reports no sooner than a real kubelet: containers
//     start and end for the API at the node's next relist, Ready follows a real
//     probe. The figures are in Timing.
//  2. Processes depend on no API call but the first of their pod: with the API
//     away they run, are probed and restarted, and the newest status is written
//     when it is back.
//  3. A process may outlive its pod's object, by Timing's grace, as on a real
//     node; its address is not given to another pod meanwhile.
//  4. A volume belongs to its claim's UID: it is kept over pods and lost with
//     the claim.
//
// It does not limit resources, isolate anything, follow affinities, keep node
// leases, or give Services an address. A pod whose containers ask for what it
// cannot do, such as an exec probe, waits with the reason in its status.
// Sources: pkg/kubelet of Kubernetes v1.37 (pod_workers.go, prober/worker.go,
// kuberuntime), and figures measured on three kubelets v1.36 with containerd.
package kubelet
