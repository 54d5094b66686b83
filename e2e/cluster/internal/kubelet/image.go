package kubelet

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Image is a binary that plays a container image.
type Image struct {
	// Name is the repository in a container's `image:`, without tag, digest
	// and the default registry.
	Name string
	// Path is the binary, the image's entrypoint.
	Path string
	// Args returns flags to append, last so that they win: what takes the
	// place of a network namespace. Nil appends nothing.
	Args func(Container) []string
}

// Container is what Image.Args may need to know.
type Container struct {
	Pod  string
	Name string
	IP   string
	// Dir belongs to this incarnation of the pod and goes with it.
	Dir string
	// Args are the container's own, expanded.
	Args []string
}

// ControlSocket is where a fault that a process plays itself is asked for.
func (c Container) ControlSocket() string { return filepath.Join(c.Dir, "control.sock") }

// repository strips registry default, tag and digest off an image reference.
func repository(ref string) string {
	ref, _, _ = strings.Cut(ref, "@")
	if i := strings.LastIndexByte(ref, ':'); i > strings.LastIndexByte(ref, '/') {
		ref = ref[:i]
	}
	return strings.TrimPrefix(strings.TrimPrefix(ref, "docker.io/"), "library/")
}

// findImage takes any tag: there is one binary per repository.
func findImage(images []Image, ref string) (Image, error) {
	i := slices.IndexFunc(images, func(i Image) bool { return i.Name == repository(ref) })
	if i < 0 {
		return Image{}, fmt.Errorf("no binary plays image %q", ref)
	}
	return images[i], nil
}

// commandLine is what the container passes to the image's binary. A command
// must name that binary, whatever its directory: there is no other program in
// the image.
func commandLine(c *corev1.Container, image Image, env map[string]string) ([]string, error) {
	args := c.Args
	if len(c.Command) > 0 {
		if filepath.Base(c.Command[0]) != filepath.Base(image.Path) {
			return nil, fmt.Errorf("command %q is not the binary of image %q", c.Command[0], c.Image)
		}
		args = slices.Concat(c.Command[1:], c.Args)
	}
	out := make([]string, 0, len(args))
	for _, a := range args {
		out = append(out, expand(a, env))
	}
	return out, nil
}

var reference = regexp.MustCompile(`\$\$|\$\([^)]+\)`)

// expand replaces $(NAME) by the variable's value if there is one, and $$ by $.
func expand(s string, env map[string]string) string {
	return reference.ReplaceAllStringFunc(s, func(ref string) string {
		if ref == "$$" {
			return "$"
		}
		if v, ok := env[ref[2:len(ref)-1]]; ok {
			return v
		}
		return ref
	})
}

// mount is a path in the container and the directory that it stands for.
type mount struct{ path, dir string }

// redirect replaces the paths of mounts in s by their directories: whole path
// elements only, the longest mount first. With /data mounted from /run/1,
//
//	--dir=/data/mg       becomes  --dir=/run/1/mg
//	--dir=/database      stays
//	--dir=/srv/data      stays
//
// so a program has to be told its paths; those built into it are the host's.
func redirect(s string, mounts []mount) string {
	sorted := slices.Clone(mounts)
	slices.SortFunc(sorted, func(a, b mount) int { return len(b.path) - len(a.path) })
	for i := 0; i < len(s); i++ {
		if i > 0 && isPathByte(s[i-1]) {
			continue
		}
		for _, m := range sorted {
			rest, ok := strings.CutPrefix(s[i:], m.path)
			if !ok || rest != "" && rest[0] != '/' && isPathByte(rest[0]) {
				continue
			}
			s = s[:i] + m.dir + rest
			i += len(m.dir) - 1
			break
		}
	}
	return s
}

// isPathByte says whether b, next to a path, would make it a longer one.
func isPathByte(b byte) bool {
	return b == '/' || b == '.' || b == '-' || b == '_' ||
		'0' <= b && b <= '9' || 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z'
}
