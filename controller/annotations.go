package controller

import (
	"strings"

	"memgraph-controller/memgraph"
)

// Annotations of the record by which operators give orders: one for each verb,
// whose value is the order's argument, and one for the request that it is.
const (
	annotationPrefix  = "memgraph-controller/"
	annotationRequest = annotationPrefix + "request"
)

func annotationOf(verb memgraph.Verb) string { return annotationPrefix + string(verb) }

// decodeOrder reads the order that stands in a record's annotations; nil if none
// does. Several at once are one that nobody can carry out.
func decodeOrder(annotations map[string]string) *memgraph.Order {
	var verbs, arguments []string
	for _, verb := range memgraph.Verbs {
		if argument, ok := annotations[annotationOf(verb)]; ok {
			verbs = append(verbs, string(verb))
			arguments = append(arguments, argument)
		}
	}
	if verbs == nil {
		return nil
	}
	return &memgraph.Order{
		Verb: memgraph.Verb(strings.Join(verbs, " and ")), Argument: strings.Join(arguments, " "),
		Request: annotations[annotationRequest],
	}
}

// withoutOrder are the annotations that take any order away: nil removes one.
func withoutOrder() map[string]*string {
	annotations := map[string]*string{annotationRequest: nil}
	for _, verb := range memgraph.Verbs {
		annotations[annotationOf(verb)] = nil
	}
	return annotations
}

// withOrder are the annotations that o stands in, and no other.
func withOrder(o memgraph.Order) map[string]*string {
	annotations := withoutOrder()
	annotations[annotationOf(o.Verb)], annotations[annotationRequest] = &o.Argument, &o.Request
	return annotations
}
