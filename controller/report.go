package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"memgraph-controller/memgraph"
)

// Status tells what the record says, who leads, and which pods there are.
func (o *Operator) Status(ctx context.Context) error {
	t, err := o.store.Load(ctx)
	if err != nil {
		return err
	}
	leader, err := o.leader(ctx)
	if err != nil {
		return err
	}
	pods, err := o.pods(ctx)
	if err != nil {
		return err
	}
	return table(o.out, append(statusRows(t, leader), podRows(t, pods)...))
}

// leader is who holds the lease, "" if nobody does.
func (o *Operator) leader(ctx context.Context) (string, error) {
	lease, err := o.kube.CoordinationV1().Leases(o.namespace).Get(ctx, LeaseName(o.statefulSet), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("get lease: %w", err)
	case lease.Spec.HolderIdentity == nil || lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil:
		return "", nil
	}
	holder := *lease.Spec.HolderIdentity
	if lasts := time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second; time.Since(lease.Spec.RenewTime.Time) > lasts && holder != "" {
		holder += ", or nobody: its lease has run out, by the clock of this machine"
	}
	return holder, nil
}

func (o *Operator) pods(ctx context.Context) ([]corev1.Pod, error) {
	set, err := o.kube.AppsV1().StatefulSets(o.namespace).Get(ctx, o.statefulSet, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("get statefulset: %w", err)
	}
	pods, err := o.kube.CoreV1().Pods(o.namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(set.Spec.Selector)})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return pods.Items, nil
}

func statusRows(t memgraph.Topology, leader string) [][]string {
	if t.Generation == 0 {
		return [][]string{{"leader:", cmp.Or(leader, "nobody")}, {"main:", "there is no record yet"}, nil}
	}
	rows := [][]string{
		{"leader:", cmp.Or(leader, "nobody")},
		{"main:", t.Main.Pod},
		{"generation:", fmt.Sprint(t.Generation)},
		{"phase:", string(t.Phase)},
		{"partner:", partnerWord(t)},
	}
	if t.Pending != nil {
		rows = append(rows, []string{"under way:", t.Pending.Kind + ": " + t.Pending.Reason})
	}
	if t.Paused != nil {
		rows = append(rows, []string{"paused:", fmt.Sprintf("since %s: %s", t.Paused.Since.Format(time.RFC3339), cmp.Or(t.Paused.Reason, "no reason given"))})
	}
	if t.Order != nil {
		rows = append(rows, []string{"order:", t.Order.String() + ", not answered yet"})
	}
	if len(t.Answers) > 0 {
		a := t.Answers[0]
		rows = append(rows, []string{"last order:", fmt.Sprintf("%s: %s: %s", a.Order, a.Outcome, a.Reason)})
	}
	return append(rows, nil)
}

func podRows(t memgraph.Topology, pods []corev1.Pod) [][]string {
	rows := [][]string{{"POD", "IP", "READY", "RECORDED AS", "REPLICATION"}}
	for i := range pods {
		p := &pods[i]
		as := "-"
		switch {
		case p.Name == t.Main.Pod && string(p.UID) == t.Main.UID:
			as = "main"
		case p.Name == t.Partner.Pod && string(p.UID) == t.Partner.UID:
			as = "partner"
		}
		rows = append(rows, []string{
			p.Name, cmp.Or(p.Status.PodIP, "-"), string(conditionOf(p, corev1.PodReady).Status), as,
			cmp.Or(conditionOf(p, ReplicatedCondition).Message, "-"),
		})
	}
	return rows
}

func partnerWord(t memgraph.Topology) string {
	switch {
	case t.Partner.None():
		return "nobody: writes are not protected"
	case t.InSync:
		return t.Partner.Pod + ", in sync"
	}
	return t.Partner.Pod + ", not in sync"
}

// Format is how a report is printed.
type Format string

// The kinds of Format.
const (
	Table Format = "table"
	JSON  Format = "json"
)

// History tells the last changes of MAIN, the newest first.
func (o *Operator) History(ctx context.Context, as Format) error {
	if as != Table && as != JSON {
		return fmt.Errorf("--output: unknown value %q; use %s or %s", as, Table, JSON)
	}
	t, err := o.store.Load(ctx)
	if err != nil {
		return err
	}
	if as == JSON {
		encoder := json.NewEncoder(o.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(slices.Concat([]memgraph.Change{}, t.History)) // [] where there is none
	}
	return table(o.out, historyRows(t))
}

func historyRows(t memgraph.Topology) [][]string {
	rows := [][]string{{"WHEN", "GENERATION", "KIND", "FROM", "TO", "TOOK", "REASON"}}
	for _, c := range t.History {
		reason := c.Reason
		if c.EstimatedLoss != "" {
			reason += "; estimated loss: " + c.EstimatedLoss
		}
		rows = append(rows, []string{
			c.When.Format(time.RFC3339), fmt.Sprint(c.Generation), c.Kind, cmp.Or(c.From, "-"), c.To, took(c), reason,
		})
	}
	return rows
}

// took is how long a change took in all.
func took(c memgraph.Change) string {
	last := 0.0
	for _, ms := range c.Stages {
		last = max(last, ms)
	}
	if last == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0fms", last)
}

// table writes rows with their columns aligned; a row without any is a blank line.
func table(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
