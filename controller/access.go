package controller

import (
	"fmt"
	"net"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// userAgent is how our clients call themselves.
const userAgent = "memgraph-controller"

// dialTimeout bounds connecting to the API server.
const dialTimeout = 2 * time.Second

// Access finds the API server by kubeconfig or, where that is "", as kubectl does and
// in a pod by its ServiceAccount; and the namespace, where none was given.
func Access(kubeconfig, namespace string) (*rest.Config, string, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil)
	restConfig, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("--kubeconfig: %w", err)
	}
	if namespace == "" {
		if namespace, _, err = loader.Namespace(); err != nil {
			return nil, "", fmt.Errorf("--namespace: %w", err)
		}
	}
	return restConfig, namespace, nil
}

// Clientsets returns one for record and lease, with a connection of its own and no
// client-side rate limit, and one for all else.
func Clientsets(base *rest.Config) (urgent, routine *kubernetes.Clientset, err error) {
	base = rest.AddUserAgent(rest.CopyConfig(base), userAgent)
	unlimited := rest.CopyConfig(base)
	unlimited.QPS = -1
	unlimited.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext // another dialer, another connection
	if urgent, err = kubernetes.NewForConfig(unlimited); err != nil {
		return nil, nil, fmt.Errorf("client of the API server: %w", err)
	}
	if routine, err = kubernetes.NewForConfig(base); err != nil {
		return nil, nil, fmt.Errorf("client of the API server: %w", err)
	}
	return urgent, routine, nil
}
