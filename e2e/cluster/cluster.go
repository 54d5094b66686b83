package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"memgraph-controller/e2e/cluster/internal/kubelet"
	"memgraph-controller/e2e/cluster/internal/process"
)

const (
	// nodes is how many there are, so that three pods can be kept apart.
	nodes = 3
	// controlPlaneHost is the last octet of the control plane's address.
	controlPlaneHost = 1
	// tokenLife is more than a run takes; what uses it need not renew it.
	tokenLife = 24 * time.Hour
)

// Image is a binary that plays a container image. The Path of one that this
// module holds is "module:" and its main package: Start builds that into the
// run's own directory, with the race detector if the caller has it.
type Image = kubelet.Image

// inModule marks an Image's Path as a package of this module.
const inModule = "module:"

// Container is what Image.Args is given.
type Container = kubelet.Container

// Timing is how long nodes take to notice and to act; zero fields mean what a
// real kubelet takes.
type Timing = kubelet.Timing

// Options of Start.
type Options struct {
	// Log takes lines about progress, for people; nil discards them.
	Log io.Writer
	// Images are all that pods can run.
	Images []Image
	// Timing of the nodes; zero for that of real ones.
	Timing Timing
}

// Cluster is one that runs. Its owner must Stop it; what it started ends with
// the owner's process in any case. Its methods may be called concurrently.
type Cluster struct {
	lease  *lease
	tools  *toolbox
	host   *process.Host
	plane  *controlPlane
	client kubernetes.Interface
	agent  *kubelet.Agent

	stopAgent context.CancelFunc
	agents    sync.WaitGroup
	stop      sync.Once
}

// Start brings a cluster up, which takes seconds, and some minutes more the
// first time that the pinned programs are built. ctx bounds only that.
func Start(ctx context.Context, o Options) (*Cluster, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	tools, err := newToolbox(ctx, cache, o.Log)
	if err != nil {
		return nil, err
	}
	bin, err := tools.paths(ctx, etcd, apiServer, controllerManager)
	if err != nil {
		return nil, err
	}
	started := time.Now()
	c := &Cluster{tools: tools, host: process.NewHost(), stopAgent: func() {}}
	if err := c.start(ctx, cache, bin, o); err != nil {
		return nil, errors.Join(err, c.Stop())
	}
	fmt.Fprintf(o.Log, "cluster on %s.0/24 up in %s: KUBECONFIG=%s\n",
		c.lease.subnet, time.Since(started).Round(100*time.Millisecond), c.plane.adminKubeconfig())
	return c, nil
}

// start takes what Stop gives back, in this order: the lease, the control plane,
// the nodes.
func (c *Cluster) start(ctx context.Context, cache string, bin map[tool]string, o Options) (err error) {
	if c.lease, err = acquire(cache); err != nil {
		return err
	}
	ip := c.lease.address(controlPlaneHost)
	creds, err := newCredentials(c.lease.dir, ip)
	if err != nil {
		return err
	}
	c.plane = &controlPlane{host: c.host, dir: c.lease.dir, ip: ip, creds: creds, bin: bin}
	if err := c.plane.start(ctx); err != nil {
		return err
	}
	if o.Images, err = built(ctx, filepath.Join(c.lease.dir, "bin"), o.Images); err != nil {
		return err
	}
	if c.client, err = kubernetes.NewForConfig(c.Config()); err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	return c.startAgent(ctx, o)
}

// built is images with the packages among them compiled into dir.
func built(ctx context.Context, dir string, images []Image) ([]Image, error) {
	images = slices.Clone(images)
	var pkgs []string
	for i, image := range images {
		if pkg, ok := strings.CutPrefix(image.Path, inModule); ok {
			pkgs = append(pkgs, pkg)
			images[i].Path = filepath.Join(dir, filepath.Base(pkg))
		}
	}
	if len(pkgs) == 0 {
		return images, nil
	}
	return images, Build(ctx, dir, pkgs...)
}

// startAgent registers the nodes while ctx lasts, and runs them until Stop.
func (c *Cluster) startAgent(ctx context.Context, o Options) error {
	log, err := os.Create(filepath.Join(c.lease.dir, "logs", "agent.log"))
	if err != nil {
		return fmt.Errorf("create log of node agent: %w", err)
	}
	c.agent = kubelet.New(kubelet.Config{
		Client: c.client, Server: c.plane.server(), Host: c.host,
		Dir: c.lease.dir, Subnet: c.lease.subnet, Nodes: nodes, Images: o.Images, Timing: o.Timing,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err := c.agent.Register(ctx); err != nil {
		log.Close()
		return fmt.Errorf("register nodes: %w", err)
	}
	ctx, c.stopAgent = context.WithCancel(context.WithoutCancel(ctx))
	c.agents.Go(func() {
		defer log.Close()
		if err := c.agent.Run(ctx); err != nil {
			fmt.Fprintln(o.Log, "node agent:", err)
		}
	})
	return nil
}

// Stop ends every process of the cluster and removes its directory. It may be
// called again.
func (c *Cluster) Stop() error {
	var err error
	c.stop.Do(func() {
		// The nodes' workers wait for their processes, so those have to end too.
		c.stopAgent()
		c.host.Close()
		c.agents.Wait()
		if c.lease != nil {
			err = c.lease.clear()
			c.lease.release()
		}
	})
	return err
}

// Config is the administrator's, without a rate limit on the client's side.
func (c *Cluster) Config() *rest.Config { return c.plane.config() }

// Kubeconfig is the path of one with a token of that ServiceAccount, valid for
// a day, and goes with the cluster.
func (c *Cluster) Kubeconfig(ctx context.Context, namespace, serviceAccount string) (string, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: new(int64(tokenLife / time.Second)),
	}}
	answer, err := c.client.CoreV1().ServiceAccounts(namespace).CreateToken(ctx, serviceAccount, request, metav1.CreateOptions{})
	if err != nil {
		return "", fmt.Errorf("request token of %s/%s: %w", namespace, serviceAccount, err)
	}
	path := filepath.Join(c.lease.dir, "kubeconfigs", namespace+"_"+serviceAccount)
	return path, c.plane.creds.kubeconfig(path, c.plane.server(), answer.Status.Token, namespace)
}
