package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Finding is something about the cluster that costs safety or time when a pod goes.
type Finding struct {
	// Field is where it is, as kubectl explain names it.
	Field string
	// Cost is what comes of it, and Remedy what to write there.
	Cost, Remedy string
}

// neighbours are what a StatefulSet needs beside itself; nil where there is none.
type neighbours struct {
	service *corev1.Service                 // that it names
	budgets []*policyv1.PodDisruptionBudget // in its namespace
}

const (
	// dataDirectory is where Memgraph's image keeps its data by default.
	dataDirectory = "/var/lib/memgraph"
	// leastSleep is for a handover with everything against it, and leastExit for an
	// exit snapshot of a small database: seconds.
	leastSleep, leastExit = 2, 20
	// pairSize is MAIN and who protects it.
	pairSize = 2
)

// patient is a StatefulSet, with what the rules ask for most.
type patient struct {
	neighbours
	set      *appsv1.StatefulSet
	pod      *corev1.PodSpec
	memgraph *corev1.Container
	flags    map[string]string // of Memgraph
}

// rules are what the controller relies on, and why. Sources: Memgraph v3.12
// flags/general.cpp, and what was observed on 3.7.2 and 3.12.0.
var rules = []struct {
	Finding
	broken func(patient) bool
}{
	{Finding{"spec.replicas", "nobody protects MAIN", "2, or 3 to stay protected while one is away"},
		func(p patient) bool { return p.set.Spec.Replicas == nil || *p.set.Spec.Replicas < pairSize }},
	{Finding{"spec.podManagementPolicy", "a pod that cannot start keeps those after it from starting", "Parallel; delete the StatefulSet with --cascade=orphan and make it anew"},
		func(p patient) bool { return p.set.Spec.PodManagementPolicy != appsv1.ParallelPodManagement }},
	{Finding{"spec.volumeClaimTemplates", "a pod that is replaced comes back empty", "a claim for Memgraph's data directory"},
		func(p patient) bool { return !p.keepsData() }},
	{Finding{"spec.template.spec.readinessGates", "rolling updates and evictions do not wait for redundancy", "conditionType: " + string(ReplicatedCondition)},
		func(p patient) bool {
			return !slices.Contains(p.pod.ReadinessGates, corev1.PodReadinessGate{ConditionType: ReplicatedCondition})
		}},
	{Finding{"spec.template.spec.initContainers", "a replica that has diverged stays so: nothing moves its data aside", "one that runs memgraph-controller prepare"},
		func(p patient) bool { return !slices.ContainsFunc(p.pod.InitContainers, prepares) }},
	{Finding{"spec.template.spec.terminationGracePeriodSeconds", "Memgraph may be killed over its exit snapshot", fmt.Sprintf("that of the preStop hook and %d s or more, by the size of the data", leastExit)},
		func(p patient) bool { return p.grace() < p.sleeps()+leastExit }},
	{Finding{"spec.template.spec.containers[memgraph].lifecycle.preStop", "MAIN ends before it could hand over: to delete its pod is to kill it", "sleep: {seconds: 5}"},
		func(p patient) bool { return p.sleeps() < leastSleep }},
	{Finding{"spec.template.spec.containers[memgraph].livenessProbe", "a MAIN that is busy is killed", "none: the controller tells a hung instance from a busy one"},
		func(p patient) bool { return p.memgraph.LivenessProbe != nil }},
	{Finding{"spec.template.spec.containers[memgraph].readinessProbe", "a pod that is recovering its data counts as ready", "tcpSocket: {port: 7687}, which opens once the data is recovered"},
		func(p patient) bool { return p.memgraph.ReadinessProbe == nil }},
	{flagFinding("bolt-port", "the controller looks for Bolt at 7687", "7687"),
		func(p patient) bool { return p.flag("bolt-port", "7687") != "7687" }},
	{flagFinding("storage-wal-enabled", "nothing is replicated", "true"),
		func(p patient) bool { return p.flag("storage-wal-enabled", "true") != "true" }},
	{flagFinding("storage-wal-file-flush-every-n-tx", "a node that dies takes MAIN's last commits with it, acknowledged ones", "1"),
		func(p patient) bool { return p.flag("storage-wal-file-flush-every-n-tx", "100000") != "1" }},
	{flagFinding("data-recovery-on-startup", "a pod that restarts puts its data away and starts empty", "true"),
		func(p patient) bool { return p.flag("data-recovery-on-startup", "true") != "true" }},
	{flagFinding("replication-restore-state-on-startup", "a replica that restarts is a MAIN of its own", "true"),
		func(p patient) bool { return p.flag("replication-restore-state-on-startup", "true") != "true" }},
	{flagFinding("storage-snapshot-on-exit", "a replica that restarts may be refused by others for ever if it becomes MAIN", "true"),
		func(p patient) bool { return p.flag("storage-snapshot-on-exit", "true") != "true" }},
	{Finding{"spec.serviceName", "pods have no stable name by which MAIN could find them", "a Service with clusterIP: None"},
		func(p patient) bool { return p.service == nil || p.service.Spec.ClusterIP != corev1.ClusterIPNone }},
	{Finding{"service.spec.publishNotReadyAddresses", "a replica cannot be registered before it is ready, and is not ready before it is registered", "true"},
		func(p patient) bool { return p.service != nil && !p.service.Spec.PublishNotReadyAddresses }},
	{Finding{"poddisruptionbudget.spec", "a drain may evict MAIN and its partner at once", "maxUnavailable: 1, for the StatefulSet's pods"},
		func(p patient) bool { return !slices.ContainsFunc(p.budgets, p.isKeptBy) }},
}

func flagFinding(flag, cost, remedy string) Finding {
	return Finding{"spec.template.spec.containers[memgraph].args: --" + flag, cost, remedy}
}

// examine returns what of a StatefulSet is not as the controller relies on.
func examine(set *appsv1.StatefulSet, n neighbours) (found []Finding) {
	pod := &set.Spec.Template.Spec
	p := patient{neighbours: n, set: set, pod: pod, memgraph: container(pod)}
	p.flags = flagsOf(p.memgraph)
	for _, r := range rules {
		if r.broken(p) {
			found = append(found, r.Finding)
		}
	}
	return found
}

// flagsOf are the flags of a command, in the forms that gflags knows: --name=value,
// --name value, --name and --noname. Of those given twice the last counts.
func flagsOf(c *corev1.Container) map[string]string {
	flags, args := map[string]string{}, slices.Concat(c.Command, c.Args)
	for i, arg := range args {
		name, isFlag := strings.CutPrefix(arg, "-")
		if !isFlag {
			continue
		}
		name, value, given := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		switch off, no := strings.CutPrefix(name, "no"); {
		case given:
		case no:
			name, value = off, "false"
		case i+1 < len(args) && !strings.HasPrefix(args[i+1], "-"):
			value = args[i+1]
		default:
			value = "true"
		}
		flags[strings.ReplaceAll(name, "_", "-")] = value
	}
	return flags
}

// flag is a flag of Memgraph's; standard is what its image has where it is not given.
func (p patient) flag(name, standard string) string {
	if value, given := p.flags[name]; given {
		return value
	}
	return standard
}

// keepsData reports whether the data directory is on a volume that outlives pods.
func (p patient) keepsData() bool {
	directory := p.flag("data-directory", dataDirectory) + "/"
	return slices.ContainsFunc(p.memgraph.VolumeMounts, func(m corev1.VolumeMount) bool {
		claimed := func(c corev1.PersistentVolumeClaim) bool { return c.Name == m.Name }
		return strings.HasPrefix(directory, strings.TrimSuffix(m.MountPath, "/")+"/") && slices.ContainsFunc(p.set.Spec.VolumeClaimTemplates, claimed)
	})
}

func prepares(c corev1.Container) bool {
	return slices.Contains(slices.Concat(c.Command, c.Args), "prepare")
}

// sleeps is how many seconds a pod that is deleted goes on for; what a command of its
// own does counts as enough.
func (p patient) sleeps() int64 {
	l := p.memgraph.Lifecycle
	switch {
	case l == nil || l.PreStop == nil:
		return 0
	case l.PreStop.Sleep != nil:
		return l.PreStop.Sleep.Seconds
	}
	return leastSleep
}

func (p patient) grace() int64 {
	if s := p.pod.TerminationGracePeriodSeconds; s != nil {
		return *s
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

// isKeptBy reports whether a budget is for the StatefulSet's pods.
func (p patient) isKeptBy(b *policyv1.PodDisruptionBudget) bool {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && !selector.Empty() && selector.Matches(labels.Set(p.set.Spec.Template.Labels))
}

// Doctor tells what of the cluster is not as the controller relies on. It returns an
// error if there is anything, or it cannot be looked at.
func (o *Operator) Doctor(ctx context.Context) error {
	set, err := o.kube.AppsV1().StatefulSets(o.namespace).Get(ctx, o.statefulSet, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("statefulset %s/%s: %w", o.namespace, o.statefulSet, err)
	}
	n, err := o.neighbours(ctx, set)
	if err != nil {
		return err
	}
	found := examine(set, n)
	for _, f := range found {
		o.say("%s\n    %s\n    wanted: %s", f.Field, f.Cost, f.Remedy)
	}
	if len(found) > 0 {
		return fmt.Errorf("%d of %d things are not as they should be", len(found), len(rules))
	}
	o.say("all %d things are as they should be", len(rules))
	return nil
}

// neighbours looks for what set needs beside itself.
func (o *Operator) neighbours(ctx context.Context, set *appsv1.StatefulSet) (n neighbours, err error) {
	if name := set.Spec.ServiceName; name != "" {
		n.service, err = o.kube.CoreV1().Services(o.namespace).Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			n.service, err = nil, nil
		}
		if err != nil {
			return n, fmt.Errorf("service %s/%s: %w", o.namespace, name, err)
		}
	}
	budgets, err := o.kube.PolicyV1().PodDisruptionBudgets(o.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return n, fmt.Errorf("pod disruption budgets of %s: %w", o.namespace, err)
	}
	for i := range budgets.Items {
		n.budgets = append(n.budgets, &budgets.Items[i])
	}
	return n, nil
}
