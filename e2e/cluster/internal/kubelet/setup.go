package kubelet

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"memgraph-controller/e2e/cluster/internal/process"
)

// noRaceSleep spares binaries with the race detector its second of sleep at
// exit, which would be taken for theirs.
const noRaceSleep = "GORACE=atexit_sleep_ms=0"

// setUp reads all that the pod refers to, so that later starts need no API.
func (p *pod) setUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	object := p.seen().DeepCopy()
	object.Status.PodIP, object.Status.HostIP = p.ip, p.node.ip
	s := sources{client: p.agent.client, pod: object}
	volumes, err := p.mountAll(ctx, s)
	if err != nil {
		return err
	}
	for _, c := range p.containers {
		if err := c.setUp(ctx, s, volumes); err != nil {
			return err
		}
	}
	return nil
}

// setUp makes the command that plays the container, and its probes.
func (c *container) setUp(ctx context.Context, s sources, volumes map[string]string) error {
	if err := c.supported(); err != nil {
		return err
	}
	if err := c.setUpProbes(); err != nil {
		return err
	}
	image, err := findImage(c.pod.agent.images, c.spec.Image)
	if err != nil {
		return err
	}
	env, err := s.environment(ctx, c.spec)
	if err != nil {
		return fmt.Errorf("container %s: %w", c.spec.Name, err)
	}
	args, err := commandLine(c.spec, image, env)
	if err != nil {
		return err
	}
	mounts := c.pod.mounts(c.spec.VolumeMounts, volumes)
	for i := range args {
		args[i] = redirect(args[i], mounts)
	}
	if image.Args != nil {
		args = append(args, image.Args(Container{Pod: c.pod.name(), Name: c.spec.Name, IP: c.pod.ip, Dir: c.pod.dir, Args: args})...)
	}
	environ, err := c.pod.environ(env, mounts)
	if err != nil {
		return err
	}
	c.command = process.Spec{
		Path: image.Path, Args: args, Env: environ,
		Dir: c.pod.dir, Log: c.pod.agent.logFile(c.pod.key, c.spec.Name),
	}
	return nil
}

// supported refuses what would silently be left out.
func (c *container) supported() error {
	if l := c.spec.Lifecycle; l != nil && (l.PostStart != nil || l.PreStop != nil && l.PreStop.Sleep == nil) {
		return fmt.Errorf("unsupported lifecycle hook of container %s", c.spec.Name)
	}
	if c.init && c.spec.RestartPolicy != nil {
		return fmt.Errorf("unsupported sidecar %s", c.spec.Name)
	}
	return nil
}

// setUpProbes also refuses the probes that cannot be played.
func (c *container) setUpProbes() error {
	c.checks = map[*corev1.Probe]func(context.Context) error{}
	for _, spec := range []*corev1.Probe{c.spec.StartupProbe, c.spec.ReadinessProbe, c.spec.LivenessProbe} {
		if spec == nil {
			continue
		}
		check, err := checker(spec, c.spec, c.pod.ip)
		if err != nil {
			return err
		}
		c.checks[spec] = check
	}
	return nil
}

// mountAll makes the pod's directory, fills its volumes and says where they are.
func (p *pod) mountAll(ctx context.Context, s sources) (map[string]string, error) {
	if err := writeFiles(p.dir, nil); err != nil {
		return nil, fmt.Errorf("make directory of pod: %w", err)
	}
	dirs := map[string]string{}
	var claims []string
	for _, v := range s.pod.Spec.Volumes {
		dirs[v.Name] = filepath.Join(p.dir, "volumes", v.Name)
		var files map[string][]byte
		var err error
		if v.PersistentVolumeClaim == nil {
			files, err = s.files(ctx, v.VolumeSource)
		} else {
			dirs[v.Name], err = p.claimed(ctx, s, v.PersistentVolumeClaim.ClaimName)
			claims = append(claims, dirs[v.Name])
		}
		if err == nil {
			err = writeFiles(dirs[v.Name], files)
		}
		if err != nil {
			return nil, fmt.Errorf("volume %s: %w", v.Name, err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims = claims
	return dirs, nil
}

// claimed is the directory of the claim's volume, for as long as the claim lives.
func (p *pod) claimed(ctx context.Context, s sources, claim string) (string, error) {
	uid, err := s.boundClaim(ctx, claim)
	return claimDir(p.agent.volumes(), uid), err
}

func (p *pod) mounts(mounts []corev1.VolumeMount, volumes map[string]string) []mount {
	var out []mount
	for _, m := range mounts {
		out = append(out, mount{path: m.MountPath, dir: filepath.Join(volumes[m.Name], m.SubPath)})
	}
	return out
}

// environ is a process's whole environment. A client's configuration is part
// of it where admission has mounted the ServiceAccount's token.
func (p *pod) environ(env map[string]string, mounts []mount) ([]string, error) {
	out := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOSTNAME=" + p.name(), "HOME=" + p.dir, noRaceSleep}
	if i := slices.IndexFunc(mounts, func(m mount) bool { return m.path == accountPath }); i >= 0 {
		path := filepath.Join(p.dir, "kubeconfig")
		namespace, _, _ := strings.Cut(p.key, "/")
		if err := writeKubeconfig(path, p.agent.server, mounts[i].dir, namespace); err != nil {
			return nil, fmt.Errorf("write kubeconfig: %w", err)
		}
		out = append(out, "KUBECONFIG="+path)
	}
	for k, v := range env {
		out = append(out, k+"="+redirect(v, mounts))
	}
	return out, nil
}
