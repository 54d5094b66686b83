package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"

	"memgraph-controller/controller"
	"memgraph-controller/gateway"
	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/memgraphtest"
)

const module = "memgraph-controller"

// imports is who may import whom of our packages and of the libraries that are
// kept to one place. A package may import what its row names and the standard
// library; a name ending in /... stands for all below it.
//
// memgraph imports memgraph/bolt because the Neo4j driver drops the run_id by
// which a restarted instance is told from the one it replaced.
var imports = map[string]struct{ ours, others []string }{
	".":                     {ours: []string{"controller", "gateway", "memgraph", "memgraph/bolt"}, others: []string{"k8s.io/...", "github.com/spf13/...", "github.com/prometheus/client_golang/...", "golang.org/x/sync/..."}},
	"controller":            {ours: []string{"failover", "reconcile", "memgraph", "memgraph/datadir"}, others: []string{"k8s.io/...", "github.com/prometheus/client_golang/..."}},
	"failover":              {ours: []string{"memgraph"}},
	"reconcile":             {ours: []string{"memgraph"}, others: []string{"github.com/sony/gobreaker/v2"}},
	"memgraph":              {ours: []string{"memgraph/bolt"}, others: []string{"github.com/neo4j/neo4j-go-driver/..."}},
	"memgraph/bolt":         {},
	"memgraph/datadir":      {},
	"memgraph/memgraphtest": {ours: []string{"memgraph/bolt", "memgraph/memgraphtest/..."}},
	"gateway":               {ours: []string{"memgraph/bolt"}, others: []string{"github.com/prometheus/client_golang/..."}},
}

// pure packages decide: no network, no files, no log.
var pure = map[string][]string{
	"failover":  {"net", "net/...", "os", "os/...", "log", "log/..."},
	"reconcile": {"net", "net/...", "os", "os/...", "log", "log/..."},
}

// The caps. A function that holds its decision table in a comment may be longer;
// in tests a table does not count.
const (
	maxFunction     = 60
	maxTestFunction = 100
	maxFile         = 500
	maxTestFile     = 800
	maxParameters   = 5
	maxResults      = 3
	maxMethods      = 4
	maxFields       = 16
	maxNesting      = 3
)

func TestTheTopLevelIsTheDesignCards(t *testing.T) {
	allowed := []string{
		"main.go", "main_test.go", "controller", "failover", "reconcile", "memgraph", "gateway", "e2e", "deploy",
		"go.mod", "go.sum", "Makefile", "README.md", "LICENSE",
	}
	entries, err := os.ReadDir(".")
	require.NoError(t, err)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			assert.Contains(t, allowed, e.Name())
		}
	}
}

func TestPackagesImportOnlyWhatTheyMay(t *testing.T) {
	for pkg, imported := range directImports(t) {
		row, found := rowOf(pkg)
		if !found {
			assert.True(t, strings.HasPrefix(pkg, "e2e"), "package %s has no row in the table", pkg)
			continue
		}
		for _, path := range imported {
			ours, isOurs := strings.CutPrefix(path, module+"/")
			switch {
			case isOurs:
				assert.True(t, matches(row.ours, ours), "%s imports %s", pkg, path)
			case strings.Contains(strings.Split(path, "/")[0], "."):
				assert.True(t, matches(row.others, path), "%s imports %s", pkg, path)
			default:
				assert.False(t, matches(pure[pkg], path), "%s imports %s", pkg, path)
			}
		}
	}
}

// rowOf is a package's row in the table, or that of the package it is below.
func rowOf(pkg string) (row struct{ ours, others []string }, found bool) {
	for ; ; pkg = filepath.Dir(pkg) {
		if row, found = imports[pkg]; found {
			return row, true
		}
		if !strings.Contains(pkg, "/") {
			return row, false
		}
	}
}

// directImports are the imports of every package of ours, tests left out.
func directImports(t *testing.T) map[string][]string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	list := exec.CommandContext(ctx, "go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	require.NoError(t, err, "%s", &stderr)
	found := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		name := "."
		if words[0] != module {
			name = strings.TrimPrefix(words[0], module+"/")
		}
		found[name] = words[1:]
	}
	require.Greater(t, len(found), 8, "the list is not empty by mistake")
	return found
}

func matches(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		prefix, below := strings.CutSuffix(p, "/...")
		return path == prefix || below && strings.HasPrefix(path, prefix+"/")
	})
}

func TestCodeKeepsItsCaps(t *testing.T) {
	files := 0
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && strings.HasPrefix(d.Name(), ".") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, ".go") {
			files++
			checkFile(t, path)
		}
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, files, 50, "the walk is not empty by mistake")
}

func checkFile(t *testing.T, path string) {
	t.Helper()
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	c := checker{t: t, fset: fset, test: strings.HasSuffix(path, "_test.go"), methods: methodsOf(t, filepath.Dir(path))}
	limit := maxFile
	if c.test {
		limit = maxTestFile
	}
	assert.LessOrEqual(t, fset.Position(file.End()).Line, limit, "%s: lines", path)
	ast.Inspect(file, c.visit)
}

// checker checks the declarations of one file.
type checker struct {
	t       *testing.T
	fset    *token.FileSet
	test    bool
	methods map[string]bool // types that have some
}

func (c *checker) atMost(limit, is int, n ast.Node, what, name string) {
	assert.LessOrEqual(c.t, is, limit, "%s: %s of %s", c.fset.Position(n.Pos()), what, name)
}

func (c *checker) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		c.function(n)
	case *ast.TypeSpec:
		switch x := n.Type.(type) {
		case *ast.InterfaceType:
			c.atMost(maxMethods, x.Methods.NumFields(), n, "methods", n.Name.Name)
		case *ast.StructType:
			if c.methods[n.Name.Name] && !c.test {
				c.atMost(maxFields, x.Fields.NumFields(), n, "fields", n.Name.Name)
			}
		}
	}
	return true
}

func (c *checker) function(f *ast.FuncDecl) {
	lines := c.lines(f)
	limit := maxFunction
	if c.test {
		limit = maxTestFunction
		lines -= c.tableLines(f)
	}
	c.atMost(limit, lines, f, "lines", f.Name.Name)
	c.atMost(maxParameters, f.Type.Params.NumFields(), f, "parameters", f.Name.Name)
	c.atMost(maxResults, f.Type.Results.NumFields(), f, "results", f.Name.Name)
	if f.Body != nil {
		c.atMost(maxNesting, nesting(f.Body), f, "nesting", f.Name.Name)
	}
	if !f.Name.IsExported() || c.test {
		return
	}
	for _, p := range f.Type.Params.List {
		if id, ok := p.Type.(*ast.Ident); ok {
			assert.NotEqual(c.t, "bool", id.Name, "%s: %s takes a bool: two names tell more", c.fset.Position(f.Pos()), f.Name.Name)
		}
	}
}

func (c *checker) lines(n ast.Node) int {
	return c.fset.Position(n.End()).Line - c.fset.Position(n.Pos()).Line + 1
}

// tableLines is the length of f's longest composite literal.
func (c *checker) tableLines(f *ast.FuncDecl) (longest int) {
	ast.Inspect(f, func(n ast.Node) bool {
		if literal, ok := n.(*ast.CompositeLit); ok {
			longest = max(longest, c.lines(literal))
		}
		return true
	})
	return longest
}

// nesting is how deep control statements stand in each other below n. An else-if
// is no deeper than its if, and a function literal begins anew.
func nesting(n ast.Node) int {
	deepest := 0
	var walk func(ast.Node, int)
	walk = func(n ast.Node, depth int) {
		deepest = max(deepest, depth)
		ast.Inspect(n, func(x ast.Node) bool {
			if x == n {
				return true
			}
			switch x := x.(type) {
			case *ast.FuncLit:
				walk(x.Body, 0)
			case *ast.IfStmt:
				for _, branch := range branches(x) {
					walk(branch, depth+1)
				}
			case *ast.ForStmt, *ast.RangeStmt, *ast.SwitchStmt, *ast.TypeSwitchStmt, *ast.SelectStmt:
				walk(x, depth+1)
			default:
				return true
			}
			return false
		})
	}
	walk(n, 0)
	return deepest
}

// branches are the blocks of an if, of the ifs that follow an else, and of the
// last else.
func branches(s *ast.IfStmt) []ast.Node {
	blocks := []ast.Node{s.Body}
	switch other := s.Else.(type) {
	case *ast.IfStmt:
		return append(blocks, branches(other)...)
	case *ast.BlockStmt:
		return append(blocks, other)
	}
	return blocks
}

func TestNestingIsCounted(t *testing.T) {
	for body, want := range map[string]int{
		"x()":                            0,
		"if a { x() }":                   1,
		"if a { x() } else if b { x() }": 1,
		"for { if a { x() } }":           2,
		"for { switch a { case b: if c { x() } } }":    3,
		"for { if a { go func() { for { x() } }() } }": 2,
		"for { if a { x() } else { for { x() } } }":    3,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc f() {"+body+"}", 0)
		require.NoError(t, err)
		assert.Equal(t, want, nesting(file.Decls[0].(*ast.FuncDecl).Body), body)
	}
}

// methodsOf are the types of a directory's package that have methods.
func methodsOf(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, path := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv == nil {
				continue
			}
			receiver := f.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			if id, ok := receiver.(*ast.Ident); ok {
				found[id.Name] = true
			}
		}
	}
	return found
}

// numbered matches an invariant in a doc.go, and referred the references to some.
var (
	numbered = regexp.MustCompile(`(?m)^//  (\d)\. `)
	referred = regexp.MustCompile(`[Ii]nvariants? \d(?:(?:, | and )\d)*`)
)

// What a package promises in its doc.go is referred to, by number, where a test
// holds it to that.
func TestEveryInvariantIsTested(t *testing.T) {
	promised := 0
	docs, err := filepath.Glob("*/doc.go")
	require.NoError(t, err)
	for _, below := range []string{"*/*/doc.go", "*/*/*/doc.go", "*/*/*/*/doc.go"} {
		more, err := filepath.Glob(below)
		require.NoError(t, err)
		docs = append(docs, more...)
	}
	for _, doc := range docs {
		text, err := os.ReadFile(doc)
		require.NoError(t, err)
		tests := testText(t, filepath.Dir(doc))
		for _, m := range numbered.FindAllStringSubmatch(string(text), -1) {
			promised++
			assert.True(t, slices.ContainsFunc(referred.FindAllString(tests, -1), func(reference string) bool {
				return strings.Contains(reference, m[1])
			}), "%s: no test refers to invariant %s", doc, m[1])
		}
	}
	assert.Greater(t, promised, 30, "the walk is not empty by mistake")
}

// testText is all of a directory's tests.
func testText(t *testing.T, dir string) string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	var all strings.Builder
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		all.Write(text)
	}
	return all.String()
}

var (
	ofOurs = regexp.MustCompile(`\bmemgraph_controller_\w+`)
	fqName = regexp.MustCompile(`fqName: "(\w+)"`)
)

// The rules that are shipped for Prometheus name metrics that there are, and each
// tells people what to do about it.
func TestAlertsAreAboutWhatIsMeasured(t *testing.T) {
	registry := prometheus.NewRegistry()
	authority := memgraphtest.NewAuthority(t)
	door := gateway.Door{CertFile: authority.CertFile, KeyFile: authority.KeyFile}
	_, err := gateway.New(gateway.Config{Listen: "127.0.0.1:0", Door: door, Registerer: registry})
	require.NoError(t, err)
	kube, _, err := controller.Clientsets(&rest.Config{})
	require.NoError(t, err)
	cfg := controller.Defaults
	cfg.Namespace, cfg.StatefulSet, cfg.Identity = "x", "x", "x"
	_, err = controller.New(cfg, controller.Dependencies{Urgent: kube, Routine: kube, Registerer: registry})
	require.NoError(t, err)
	described := make(chan *prometheus.Desc)
	go func() { defer close(described); registry.Describe(described) }()
	measured := map[string]bool{}
	for d := range described {
		measured[fqName.FindStringSubmatch(d.String())[1]] = true
	}

	file, err := os.ReadFile("deploy/alerts.yaml")
	require.NoError(t, err)
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	require.NoError(t, yaml.UnmarshalStrict(file, &rules))
	require.NotEmpty(t, rules.Groups)
	for _, r := range rules.Groups[0].Rules {
		names := ofOurs.FindAllString(r.Expr, -1)
		assert.NotEmpty(t, names, r.Alert)
		for _, name := range names {
			assert.True(t, measured[strings.TrimSuffix(name, "_bucket")], "%s: nobody measures %s", r.Alert, name)
		}
		assert.NotEmpty(t, r.Labels["severity"], r.Alert)
		assert.NotEmpty(t, r.Annotations["summary"], r.Alert)
		assert.NotEmpty(t, r.Annotations["description"], r.Alert)
	}
}

// The product is kept lean: another direct dependency needs a reason here.
func TestDirectDependenciesAreFew(t *testing.T) {
	allowed := []string{
		"k8s.io/client-go", "k8s.io/apimachinery", "k8s.io/api", "k8s.io/klog/v2",
		"github.com/neo4j/neo4j-go-driver/v5", "github.com/sony/gobreaker/v2", "github.com/stretchr/testify",
		"github.com/prometheus/client_golang", "github.com/spf13/cobra", "golang.org/x/sync", "go.uber.org/goleak",
	}
	text, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	var direct []string
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 2 && strings.HasPrefix(words[1], "v") {
			direct = append(direct, words[0])
		}
	}
	assert.ElementsMatch(t, allowed, direct)
}

// kubeconfigOf is the path of a kubeconfig for an API server.
func kubeconfigOf(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, `
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q}}]
contexts: [{name: c, context: {cluster: c, namespace: ns}}]
current-context: c
`, server), 0o600))
	return path
}

// nowhere is an API server that does not answer.
const nowhere = "https://127.0.0.1:1"

// Flags that are wrong or contradict each other refuse to start, and say which.
func TestWrongFlagsRefuseToStart(t *testing.T) {
	kubeconfig := kubeconfigOf(t, nowhere)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"--lease-duration=4s"}, "--lease-duration: 4s is too short; use 5s or more, --lease-renew-deadline and 1s"},
		{[]string{"--gateway-listen=7687"}, "--gateway-listen: address 7687: missing port in address; use host:port or :port"},
		{[]string{"--http-listen=x"}, "--http-listen: "},
		{[]string{"--gateway-max-sessions=0"}, "--gateway-max-sessions: use more than 0"},
		{[]string{"--gateway-max-parked=9", "--gateway-max-sessions=8"}, "--gateway-max-parked: 9 is more than --gateway-max-sessions, 8"},
		{[]string{"--gateway-rerun=maybe"}, `--gateway-rerun: unknown value "maybe"; use off, unseen or verified`},
		{[]string{"--gateway-administration=some"}, `--gateway-administration: unknown value "some"; use allowed or denied`},
		{[]string{"--memgraph-tls=some"}, `--memgraph-tls: unknown value "some"; use off or on`},
		{[]string{"--memgraph-tls=on"}, "--memgraph-tls: any certificate in the world would do; give --memgraph-tls-ca-file or"},
		{[]string{"--memgraph-tls-key-file=k"}, "--memgraph-tls-cert-file: it needs --memgraph-tls-key-file, and the other way round"},
		{[]string{"--memgraph-tls=on", "--memgraph-tls-ca-file=/none"}, "--memgraph-tls: read authorities: open /none"},
		{[]string{"--gateway-read-listen=7688"}, "--gateway-read-listen: address 7688: missing port in address"},
		{[]string{"--gateway-read-fallback=any"}, `--gateway-read-fallback: unknown value "any"; use main or none`},
		{[]string{"--gateway-tls=some"}, `--gateway-tls: unknown value "some"; use required or optional`},
		{[]string{"--gateway-tls-key-file=k"}, "--gateway-tls-cert-file: it needs --gateway-tls-key-file, and the other way round"},
		{[]string{"--gateway-tls-client-ca-file=c"}, "--gateway-tls-client-ca-file: clients show certificates in TLS only"},
		{[]string{"--gateway-proxy-protocol-from=10.0.0.1"}, "--gateway-proxy-protocol-from"},
		{[]string{"--gateway-finish-timeout=0s"}, "--gateway-finish-timeout: use more than 0"},
		{[]string{"--sync-mode=async"}, `--sync-mode: unknown value "async"; use auto, strict_sync or sync`},
		{[]string{"--on-partner-loss=panic"}, `--on-partner-loss: unknown value "panic"; use degrade or wait`},
		{[]string{"--max-failovers=99"}, "--max-failovers: 99 is out of range; use 0, for any number, to 20"},
		{[]string{"--register-by=guess"}, `--register-by: unknown value "guess"; use name or ip`},
		{[]string{"--user-file=u"}, "--user-file, --password-file: only one of them is given"},
		{[]string{"--user-file=/none", "--password-file=/none"}, "--user-file: open /none"},
		{[]string{"--log-level=loud"}, `--log-level: unknown value "loud"; use debug, info, warn or error`},
		{[]string{"--shutdown-delay=-1s"}, "--shutdown-delay: -1s is negative"},
		{[]string{"--no-such-flag"}, "unknown flag: --no-such-flag"},
		{[]string{"an-argument"}, "unknown command"},
		{[]string{"--kubeconfig=/none"}, "--kubeconfig: "},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			args := append([]string{"run", "--kubeconfig=" + kubeconfig}, c.args...)
			err := run(t.Context(), args, &bytes.Buffer{}, &bytes.Buffer{})
			require.Error(t, err)
			assert.Contains(t, err.Error(), c.says)
		})
	}
}

// A command that lacks what it needs says so before it asks for anything.
func TestAnOrderThatIsNotMeantIsNotGiven(t *testing.T) {
	kubeconfig := kubeconfigOf(t, nowhere)
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"failover", "--to=memgraph-1"}, "--to, --accept-data-loss: give both"},
		{[]string{"failover", "--accept-data-loss"}, "--to, --accept-data-loss: give both"},
		{[]string{"history", "--output=xml"}, `--output: unknown value "xml"; use table or json`},
		{[]string{"switchover", "memgraph-1"}, "unknown command"},
		{[]string{"switchover"}, "connection refused"},
		{[]string{"status"}, "connection refused"},
	} {
		err := run(t.Context(), append(c.args, "--kubeconfig="+kubeconfig), &bytes.Buffer{}, &bytes.Buffer{})
		require.ErrorContains(t, err, c.says, c.args)
		assert.Equal(t, 1, exitCode(err))
	}
	assert.Equal(t, 2, exitCode(fmt.Errorf("switchover: %w", controller.ErrUnclear)))
}

// cluster is an API server with a record, and a leader who answers every order by
// outcome, if it is one.
type cluster struct {
	mu      sync.Mutex
	record  corev1.ConfigMap
	outcome memgraph.Outcome
}

func (c *cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	var object any = &c.record
	switch name := path.Base(r.URL.Path); {
	case name == controller.RecordName("memgraph") && r.Method == http.MethodPatch:
		c.patch(r.Body)
	case name == controller.RecordName("memgraph"):
	case name == "memgraph":
		object = &appsv1.StatefulSet{TypeMeta: metav1.TypeMeta{Kind: "StatefulSet", APIVersion: "apps/v1"}}
	case name == "pods":
		object = &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}}
	default:
		w.WriteHeader(http.StatusNotFound)
		object = &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Reason: metav1.StatusReasonNotFound}
	}
	_ = json.NewEncoder(w).Encode(object)
}

// patch is what an operator does to the record, and the leader upon that.
func (c *cluster) patch(body io.Reader) {
	var patch struct {
		Metadata struct{ Annotations map[string]*string }
	}
	_ = json.NewDecoder(body).Decode(&patch)
	answer := memgraph.Answer{Outcome: c.outcome, Reason: "because"}
	for key, value := range patch.Metadata.Annotations {
		key = strings.TrimPrefix(key, "memgraph-controller/")
		switch {
		case value == nil:
		case key == "request":
			answer.Order.Request = *value
		default:
			answer.Order.Verb, answer.Order.Argument = memgraph.Verb(key), *value
		}
	}
	if answer.Order.Request == "" {
		c.record.Annotations = nil // it is taken back
		return
	}
	c.record.Annotations = map[string]string{
		"memgraph-controller/" + string(answer.Order.Verb): answer.Order.Argument, "memgraph-controller/request": answer.Order.Request,
	}
	if c.outcome != "" {
		answers, _ := json.Marshal([]memgraph.Answer{answer})
		c.record.Annotations, c.record.Data["answers"] = nil, string(answers)
	}
}

// Scripts tell by the exit code what became of a command, and people by what it
// prints.
func TestExitCodes(t *testing.T) {
	c := &cluster{record: corev1.ConfigMap{
		TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"}, ObjectMeta: metav1.ObjectMeta{ResourceVersion: "5"},
		Data: map[string]string{
			"generation": "3", "phase": "Stable", "inSync": "false", "mainIndex": "0", "mainUID": "u", "mainIP": "10.0.0.1", "mainRunID": "r",
			"history": `[{"kind": "forced-failover", "generation": 3, "to": "memgraph-0", "reason": "x", "estimatedLoss": "about 13 commits"}]`,
		},
	}}
	api := httptest.NewServer(c)
	defer api.Close()
	kubeconfig := kubeconfigOf(t, api.URL)
	command := func(outcome memgraph.Outcome, wait string, args ...string) (code int, printed string) {
		c.mu.Lock()
		c.outcome = outcome
		c.mu.Unlock()
		var out bytes.Buffer
		err := run(t.Context(), append(args, "--kubeconfig="+kubeconfig, "--wait="+wait), &out, &out)
		return exitCode(err), fmt.Sprintf("%s%v", &out, err)
	}
	const answered, inVain = "30s", "1s"
	for _, order := range [][]string{
		{"switchover"}, {"switchover", "--to=memgraph-1"}, {"failover", "--to=memgraph-1", "--accept-data-loss"},
		{"pause", "--reason=x"}, {"resume"}, {"reseed", "memgraph-2"},
	} {
		for _, want := range []struct {
			outcome memgraph.Outcome
			code    int
			printed string
		}{
			{memgraph.OutcomeDone, 0, "done: because"},
			{memgraph.OutcomeRefused, 1, "refused: because"},
			{memgraph.OutcomeCalledOff, 1, "called-off: because"},
		} {
			code, printed := command(want.outcome, answered, order...)
			assert.Equal(t, want.code, code, "%v, %q: %s", order, want.outcome, printed)
			assert.Contains(t, printed, want.printed, order)
			assert.Contains(t, printed, "asked for "+order[0], order)
		}
	}
	for outcome, says := range map[memgraph.Outcome]string{
		memgraph.OutcomeAccepted: "unclear: it is not finished yet, in phase Stable",
		"":                       "unclear: nobody leads who would begin on it; it is taken back and nothing has changed",
	} {
		code, printed := command(outcome, inVain, "switchover")
		assert.Equal(t, 2, code, printed)
		assert.Contains(t, printed, says)
	}
	for report, says := range map[string]string{
		"history": "x; estimated loss: about 13 commits", "history --output=json": `"estimatedLoss": "about 13 commits"`, "status": "nobody: writes are not protected",
	} {
		code, printed := command("", answered, strings.Fields(report)...)
		assert.Zero(t, code, printed)
		assert.Contains(t, printed, says)
	}
}

func TestEveryFlagIsExplained(t *testing.T) {
	var help bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"run", "--help"}, &help, &help))
	for _, flag := range []string{"--statefulset", "--gateway-listen", "--lease-duration", "--user-file"} {
		assert.Contains(t, help.String(), flag)
	}
	var version bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"version"}, &version, &version))
	assert.Contains(t, version.String(), "memgraph-controller")
}

// observed is what Memgraph 3.7.2 and 3.12.0 were seen to do that no document tells,
// and the tests of what is made of it, beside those of the stand-in, which does the same.
var observed = []struct {
	what  string
	tests []string // package and name
}{
	{"promotion waits up to 200 ms for the replication server, unless that is nudged", []string{"memgraph TestAPromotionDoesNotWaitForThePoll"}},
	{"promotion while a transaction is being applied is refused, or takes as long", []string{"memgraph TestWhatIsBusyIsAskedAgainUntilTheDeadline", "failover TestAFailureAtAnyStepIsMadeUpFor"}},
	{"DROP REPLICA of one that lives, and is not in step, can kill MAIN", []string{"reconcile TestDiff", "controller TestWhatMainIsSendingToIsNotDropped", "controller TestAReplicaThatObeysNobodyIsEvicted"}},
	{"REGISTER REPLICA towards one that hangs keeps MAIN from answering anybody", []string{"controller TestWhoDoesNotListenIsNotRegistered", "controller TestAMainThatRegistersIsNotTakenForHung"}},
	{"a registration that is refused leaves a row that protects nothing", []string{"controller TestARefusedRegistrationLeavesNothingBehind"}},
	{"an empty MAIN may empty whom it registers", []string{"reconcile TestAnEmptyMainRegistersNobodyWhoHoldsData"}},
	{"a wiped replica is a MAIN, and may be listed as ready", []string{"reconcile TestAWipedReplicaIsRegisteredAnew"}},
	{"while a synchronous replica is dead commits are refused, yet kept by SYNC", []string{"memgraph TestErrorsAreTyped", "gateway TestTheFateOfAUnit", "controller TestALostPartnerIsSucceededWhileClientsAreHeld"}},
	{"while one hangs commits wait for 30 s, and roles are told", []string{"failover TestEvict", "controller TestAHungPartnerIsEvicted"}},
	{"one that has diverged is refused at its registration, and nowhere else", []string{"memgraph TestAReplicaWithCommitsOfItsOwnHasDiverged", "failover TestReseed", "controller TestADivergedPodIsReplacedAndFollowsAgain"}},
	{"an asynchronous replica lacks what MAIN had not sent when it died", []string{"failover TestEverySmallClusterIsDecidedSafely", "failover TestWhatAForcedFailoverMayCostIsTold"}},
	{"all commits fail while a synchronous replica catches up", []string{"reconcile TestWhoMustCatchUpIsRegisteredAsyncFirst", "memgraph TestNearIsWhatCatchesUpUnnoticed"}},
	{"a replica that was killed is listed as ready for 3 s", []string{"failover TestAKilledPartnerIsLostThoughMainCallsItReady", "failover TestMainIsShownThatItsPartnerIsGone"}},
	{"a change of role that fails may have taken effect", []string{"memgraph TestAFailedChangeOfRoleMayHaveTakenEffect"}},
	{"a promotion is undone by a restart before the first commit", []string{"failover TestAFailoverGoesInItsOneSafeOrder", "failover TestARestartedTargetKeepsWhereTheChangeCameFrom"}},
	{"one that was killed, followed on and was promoted refuses its equals", []string{"failover TestAPartnerThatRestartedIsSucceededByOneThatHasNot", "controller TestADivergedPodIsReplacedAndFollowsAgain"}},
	{"sessions outlive a change of role", []string{"gateway TestADemotionCutsRelays", "gateway TestNoSessionStaysOnAnOlderGeneration"}},
	{"logins take a quarter of a second, and starve everybody else", []string{"controller TestNoFalseAlarm", "gateway TestMainIsHeardInAStormOfLogins", "gateway TestACrowdDoesNotQueueForTheLoginLock"}},
	{"a commit takes half a millisecond, and twice as long with a partner", []string{"memgraph/memgraphtest BenchmarkCommits", "gateway BenchmarkRelay"}},
}

func TestWhatWasObservedIsTested(t *testing.T) {
	for _, o := range observed {
		for _, test := range o.tests {
			pkg, name, _ := strings.Cut(test, " ")
			files, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
			require.NoError(t, err)
			found := slices.ContainsFunc(files, func(path string) bool {
				code, err := os.ReadFile(path)
				require.NoError(t, err)
				return bytes.Contains(code, []byte("\nfunc "+name+"("))
			})
			assert.True(t, found, "%s: there is no %s in %s", o.what, name, pkg)
		}
	}
}
