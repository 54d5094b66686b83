package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

const (
	fieldManager = "e2e"
	// yamlBuffer is how far the decoder looks for JSON, in bytes.
	yamlBuffer = 4096
)

// Apply installs what `kustomize build dir` gives, by server-side apply with
// strict validation. It tries all objects and returns all errors. What names no
// namespace goes to "default".
func (c *Cluster) Apply(ctx context.Context, dir string) error { return c.apply(ctx, dir, nil) }

// DryRun has the API server validate what Apply would install. A namespace that
// it would create has to exist.
func (c *Cluster) DryRun(ctx context.Context, dir string) error {
	return c.apply(ctx, dir, []string{metav1.DryRunAll})
}

// apply goes on after an object that was refused: a test of manifests wants to
// hear of all mistakes at once.
func (c *Cluster) apply(ctx context.Context, dir string, dryRun []string) error {
	path, err := c.tools.path(ctx, kustomize)
	if err != nil {
		return err
	}
	manifests, err := run(ctx, "", nil, path, "build", dir)
	if err != nil {
		return fmt.Errorf("build %s: %w", dir, err)
	}
	objects, err := decode(manifests)
	if err != nil {
		return fmt.Errorf("decode %s: %w", dir, err)
	}
	apply, err := c.applier(metav1.PatchOptions{
		FieldManager: fieldManager, Force: new(true), DryRun: dryRun,
		FieldValidation: metav1.FieldValidationStrict,
	})
	if err != nil {
		return err
	}
	var failed []error
	for _, o := range objects {
		if err := apply(ctx, o); err != nil {
			failed = append(failed, fmt.Errorf("apply %s %s: %w", o.GetKind(), o.GetName(), err))
		}
	}
	return errors.Join(failed...)
}

// applier returns what applies one object.
func (c *Cluster) applier(options metav1.PatchOptions) (func(context.Context, *unstructured.Unstructured) error, error) {
	disco, err := discovery.NewDiscoveryClientForConfig(c.Config())
	if err != nil {
		return nil, fmt.Errorf("make discovery client: %w", err)
	}
	client, err := dynamic.NewForConfig(c.Config())
	if err != nil {
		return nil, fmt.Errorf("make dynamic client: %w", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(disco))
	return func(ctx context.Context, o *unstructured.Unstructured) error {
		kind := o.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			return err
		}
		body, err := json.Marshal(o)
		if err != nil {
			return err
		}
		resource := dynamic.ResourceInterface(client.Resource(mapping.Resource))
		if mapping.Scope.Name() == "namespace" {
			namespace := o.GetNamespace()
			if namespace == "" {
				namespace = metav1.NamespaceDefault
			}
			resource = client.Resource(mapping.Resource).Namespace(namespace)
		}
		_, err = resource.Patch(ctx, o.GetName(), types.ApplyPatchType, body, options)
		return err
	}, nil
}

// decode reads a stream of YAML documents. kustomize has put namespaces first
// and workloads last.
func decode(manifests []byte) ([]*unstructured.Unstructured, error) {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), yamlBuffer)
	var out []*unstructured.Unstructured
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(o)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
}
