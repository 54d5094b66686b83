package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// tool is a program that e2e/tools pins.
type tool struct {
	name string
	pkg  string
	cost string // of the first build, on two idle cores
}

var (
	etcd              = tool{"etcd", "go.etcd.io/etcd/server/v3", "15 seconds"}
	apiServer         = tool{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver", "4 minutes"}
	controllerManager = tool{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager", "1 minute"}
	kustomize         = tool{"kustomize", "sigs.k8s.io/kustomize/kustomize/v5", "10 seconds"}
)

// toolFlags are the same for all tools, so that they share the build cache.
var toolFlags = []string{"-trimpath", "-buildvcs=false"}

// stampPackage holds the version that Kubernetes' programs report.
const stampPackage = "k8s.io/component-base/version"

// toolbox builds tools on first use and keeps them for later runs, in a
// directory named for pins, flags and Go version: a change of any of them builds
// anew and disturbs nobody who still runs the old ones. Runs that need the same
// tool at the same time build it once.
type toolbox struct {
	module string // directory of e2e/tools
	bin    string
	log    io.Writer
}

// newToolbox finds the pins. Binaries are kept apart by what decides their
// content.
func newToolbox(ctx context.Context, cache string, log io.Writer) (*toolbox, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	t := &toolbox{module: filepath.Join(root, "e2e", "tools"), log: log}
	sum := sha256.New()
	fmt.Fprintln(sum, runtime.Version(), runtime.GOOS, runtime.GOARCH, toolFlags, "-s -w")
	for _, name := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(t.module, name))
		if err != nil {
			return nil, fmt.Errorf("read pins: %w", err)
		}
		sum.Write(b)
	}
	t.bin = filepath.Join(cache, "bin", fmt.Sprintf("%x", sum.Sum(nil)[:8]))
	if err := os.MkdirAll(t.bin, 0o700); err != nil {
		return nil, fmt.Errorf("make directory of binaries: %w", err)
	}
	return t, nil
}

// paths builds what is not there yet, one after the other: each build uses all
// cores.
func (t *toolbox) paths(ctx context.Context, of ...tool) (map[tool]string, error) {
	out := map[tool]string{}
	for _, one := range of {
		path, err := t.path(ctx, one)
		if err != nil {
			return nil, err
		}
		out[one] = path
	}
	return out, nil
}

// path is the binary, built if it is not there yet.
func (t *toolbox) path(ctx context.Context, of tool) (string, error) {
	path := filepath.Join(t.bin, of.name)
	if _, err := os.Stat(path); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	lock, err := waitLock(ctx, path+".lock")
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(path); err == nil {
		return path, nil // somebody else has built it meanwhile
	}
	started := time.Now()
	fmt.Fprintf(t.log, "building %s, once; about %s unless Go has it cached\n", of.name, of.cost)
	stamp, err := t.stamp(ctx)
	if err != nil {
		return "", err
	}
	args := append([]string{"build", "-ldflags=-s -w " + stamp, "-o", path + ".new"}, toolFlags...)
	if _, err := run(ctx, t.module, []string{"CGO_ENABLED=0"}, "go", append(args, of.pkg)...); err != nil {
		return "", fmt.Errorf("build %s: %w", of.name, err)
	}
	fmt.Fprintf(t.log, "built %s in %s\n", of.name, time.Since(started).Round(time.Second))
	return path, os.Rename(path+".new", path)
}

// stamp is the linker flags that give Kubernetes' programs their version:
// without it they would say v0.0.0-master and refuse nothing by version.
func (t *toolbox) stamp(ctx context.Context) (string, error) {
	out, err := run(ctx, t.module, nil, "go", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	if err != nil {
		return "", fmt.Errorf("find version of Kubernetes: %w", err)
	}
	version := strings.TrimSpace(string(out))
	major, rest, _ := strings.Cut(strings.TrimPrefix(version, "v"), ".")
	minor, _, _ := strings.Cut(rest, ".")
	set := func(name, value string) string { return "-X " + stampPackage + "." + name + "=" + value }
	return strings.Join([]string{
		set("gitVersion", version), set("gitMajor", major), set("gitMinor", minor), set("gitTreeState", "archive"),
	}, " "), nil
}

// Build compiles main packages of this module into dir, each under the last
// element of its path, with the race detector if the caller has it.
func Build(ctx context.Context, dir string, pkgs ...string) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	env, args := []string{"CGO_ENABLED=0"}, []string{"build", "-o", dir + "/"}
	if raceEnabled {
		env, args = []string{"CGO_ENABLED=1"}, append(args, "-race")
	}
	if _, err := run(ctx, root, env, "go", append(args, pkgs...)...); err != nil {
		return fmt.Errorf("build %s: %w", strings.Join(pkgs, " "), err)
	}
	return nil
}

// moduleRoot is the directory of the module that the working directory is in.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := run(ctx, "", nil, "go", "env", "GOMOD")
	if err != nil {
		return "", fmt.Errorf("find module: %w", err)
	}
	path := strings.TrimSpace(string(out))
	if path == "" || path == os.DevNull {
		return "", errors.New("find module: working directory is outside of the repository")
	}
	return filepath.Dir(path), nil
}

// run is the program's output; what it said about a failure is in the error.
func run(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && stderr.Len() > 0 {
		return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, err
}
