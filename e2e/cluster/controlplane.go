package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"memgraph-controller/e2e/cluster/internal/process"
)

const (
	// readyPoll is far below the second or so that each program takes.
	readyPoll = 20 * time.Millisecond
	// readyTimeout bounds the API server's start: 3 to 6 s on two cores, and as
	// much again for etcd's recovery and a busy machine, several times over.
	readyTimeout = time.Minute
	// logTail is how much of a program's log goes into an error, in bytes.
	logTail = 2000
)

// controllers are those that the product and its manifests need.
var controllers = []string{
	"serviceaccount-controller", "serviceaccount-token-controller", "root-ca-certificate-publisher-controller",
	"namespace-controller", "garbage-collector-controller", "pod-garbage-collector-controller",
	"statefulset-controller", "deployment-controller", "replicaset-controller", "disruption-controller",
	"persistentvolume-binder-controller", "persistentvolumeclaim-protection-controller",
}

// controlPlane is etcd, the API server and the controllers on one address, with
// their usual ports. Nothing restarts what ends: a program that a test did not
// end is a failure, and its log is in the run directory.
type controlPlane struct {
	host  *process.Host
	dir   string
	ip    string
	creds *credentials
	bin   map[tool]string

	mu  sync.Mutex
	api *process.Process
}

// start returns when the API server is ready and the controllers work.
func (p *controlPlane) start(ctx context.Context) error {
	if _, err := p.run(etcd, p.etcdArgs()); err != nil {
		return err
	}
	// The controllers give up after 10 s without an API server (WaitForAPIServer),
	// which a busy machine may need: so one after the other.
	if err := p.startAPI(ctx); err != nil {
		return err
	}
	if err := p.creds.kubeconfig(p.adminKubeconfig(), p.server(), p.creds.adminToken, metav1.NamespaceDefault); err != nil {
		return err
	}
	proc, err := p.run(controllerManager, p.controllerArgs())
	if err != nil {
		return err
	}
	return p.await(ctx, controllerManager, proc, "/api/v1/namespaces/default/serviceaccounts/default")
}

// startAPI starts the API server, unless it runs, and returns when it is ready.
func (p *controlPlane) startAPI(ctx context.Context) error {
	api := p.apiProcess()
	if api == nil || api.HasEnded() {
		var err error
		if api, err = p.run(apiServer, p.apiArgs()); err != nil {
			return err
		}
		p.mu.Lock()
		p.api = api
		p.mu.Unlock()
	}
	return p.await(ctx, apiServer, api, "/readyz")
}

// await returns when the API server can serve path, or with the program's last
// words if that has ended.
func (p *controlPlane) await(ctx context.Context, t tool, proc *process.Process, path string) error {
	client, err := kubernetes.NewForConfig(p.config())
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := client.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Error()
		if err == nil {
			return nil
		}
		select {
		case <-proc.Done():
			return fmt.Errorf("await %s: it has ended: %s", t.name, p.tail(t))
		case <-ctx.Done():
			return fmt.Errorf("await %s: %w: %w", t.name, ctx.Err(), err)
		case <-time.After(readyPoll):
		}
	}
}

func (p *controlPlane) apiProcess() *process.Process {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.api
}

func (p *controlPlane) adminKubeconfig() string { return filepath.Join(p.dir, "admin.kubeconfig") }

func (p *controlPlane) server() string { return "https://" + p.ip + ":6443" }

// config is the administrator's, without a rate limit.
func (p *controlPlane) config() *rest.Config {
	return &rest.Config{
		Host:            p.server(),
		BearerToken:     p.creds.adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAFile: p.creds.certificate},
		QPS:             -1,
	}
}

// run starts the program with a bare environment: nothing of the caller's, such
// as a KUBECONFIG or a proxy, reaches it.
func (p *controlPlane) run(t tool, args []string) (*process.Process, error) {
	proc, err := p.host.Start(process.Spec{
		Path: p.bin[t], Args: args, Dir: p.dir, Log: p.logFile(t),
		Env: []string{"HOME=" + p.dir, "PATH=/usr/bin:/bin"},
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.name, err)
	}
	return proc, nil
}

// etcdArgs leave fsync on: without it the record's writes, which the tests time,
// would be faster than anywhere else.
func (p *controlPlane) etcdArgs() []string {
	client, peer := "http://"+p.ip+":2379", "http://"+p.ip+":2380"
	return []string{
		"--name=e2e", "--data-dir=" + filepath.Join(p.dir, "etcd"), "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=e2e=" + peer,
	}
}

// apiArgs: loopback addresses cannot be endpoints, hence no reconciler. New
// nodes get a taint from admission that only the node lifecycle controller
// removes, and that does not run here: no leases are kept that it would watch.
func (p *controlPlane) apiArgs() []string {
	return []string{
		"--etcd-servers=http://" + p.ip + ":2379", "--bind-address=" + p.ip, "--advertise-address=" + p.ip, "--secure-port=6443",
		"--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16",
		"--tls-cert-file=" + p.creds.certificate, "--tls-private-key-file=" + p.creds.key,
		"--token-auth-file=" + p.creds.tokens, "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + p.creds.accountKey, "--service-account-signing-key-file=" + p.creds.accountKey,
		"--disable-admission-plugins=TaintNodesByCondition", "--profiling=false",
	}
}

// controllerArgs: one administrator for all controllers, since tokens of their
// own would cost a second and nobody tests their rights; no port to collide on.
func (p *controlPlane) controllerArgs() []string {
	return []string{
		"--kubeconfig=" + p.adminKubeconfig(), "--leader-elect=false", "--secure-port=0",
		"--root-ca-file=" + p.creds.certificate, "--service-account-private-key-file=" + p.creds.accountKey,
		"--controllers=" + strings.Join(controllers, ","),
	}
}

func (p *controlPlane) logFile(t tool) string { return filepath.Join(p.dir, "logs", t.name+".log") }

// tail is the end of the program's log.
func (p *controlPlane) tail(t tool) string {
	b, err := os.ReadFile(p.logFile(t))
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(b[max(0, len(b)-logTail):]))
}
