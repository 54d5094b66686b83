// Memgraph-controller keeps a Memgraph StatefulSet writable: see README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"memgraph-controller/controller"
	"memgraph-controller/gateway"
	"memgraph-controller/memgraph"
	"memgraph-controller/memgraph/bolt"
)

// watchAlive makes client-go notice within 10 s that a connection to the API
// server is dead, which by default takes 45: a silent watch is a blind one.
var watchAlive = map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "5", "HTTP2_PING_TIMEOUT_SECONDS": "5"}

func main() {
	for name, value := range watchAlive {
		if os.Getenv(name) == "" {
			os.Setenv(name, value)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "memgraph-controller:", err)
	}
	os.Exit(exitCode(err))
}

// exitCode tells scripts whether something went wrong, or whether it did is not
// known.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, controller.ErrUnclear):
		return 2
	}
	return 1
}

// run executes one command line. Logs go to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := &cobra.Command{
		Use:           "memgraph-controller",
		Short:         "Keep a Memgraph StatefulSet writable through the loss of any of its pods",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(runCommand(stderr), prepareCommand(stderr), guardCommand(stderr), versionCommand())
	root.AddCommand(operatorCommands()...)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return root.ExecuteContext(ctx)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version := "unknown"
			if info, ok := debug.ReadBuildInfo(); ok {
				version = info.Main.Version
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "memgraph-controller %s %s\n", version, runtime.Version())
			return err
		},
	}
}

// operatorCommands are those by which people watch and steer a cluster. They act
// on its record, and work with the rights of the controller or of a user.
func operatorCommands() []*cobra.Command {
	var to, pod, reason, output string
	var lossy bool
	o := &operator{}
	switchover := o.command("switchover", "Hand MAIN over to its partner, which is in sync", func(ctx context.Context, op *controller.Operator) error {
		return op.Order(ctx, memgraph.OrderSwitchover, to)
	})
	failover := o.command("failover", "Promote a replica that may lack acknowledged writes", func(ctx context.Context, op *controller.Operator) error {
		if to == "" || !lossy {
			return errors.New("--to, --accept-data-loss: give both; what the pod does not hold is lost")
		}
		return op.Order(ctx, memgraph.OrderFailover, to)
	})
	reseed := o.command("reseed", "Have a replica start empty, its data moved aside", func(ctx context.Context, op *controller.Operator) error {
		return op.Order(ctx, memgraph.OrderReseed, pod)
	})
	pause := o.command("pause", "Keep MAIN and its partner as they are, whatever happens", func(ctx context.Context, op *controller.Operator) error {
		return op.Order(ctx, memgraph.OrderPause, reason)
	})
	resume := o.command("resume", "End a pause, and acknowledge that MAIN failed often", func(ctx context.Context, op *controller.Operator) error {
		return op.Order(ctx, memgraph.OrderResume, "")
	})
	history := o.command("history", "Print the last changes of MAIN", func(ctx context.Context, op *controller.Operator) error {
		return op.History(ctx, controller.Format(output))
	})
	status := o.command("status", "Print what the record says", func(ctx context.Context, op *controller.Operator) error { return op.Status(ctx) })
	doctor := o.command("doctor", "Tell what of the StatefulSet and its surroundings costs safety", func(ctx context.Context, op *controller.Operator) error { return op.Doctor(ctx) })
	switchover.Flags().StringVar(&to, "to", "", "pod that is to be MAIN (default: the partner, whoever it is)")
	failover.Flags().StringVar(&to, "to", "", "pod that is to be MAIN")
	failover.Flags().BoolVar(&lossy, "accept-data-loss", false, "say that acknowledged writes may be lost")
	pause.Flags().StringVar(&reason, "reason", "", "why, for those who wonder")
	history.Flags().StringVarP(&output, "output", "o", string(controller.Table), "table or json")
	reseed.Use, reseed.Args = "reseed POD", func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(1)(cmd, args); err != nil {
			return err
		}
		pod = args[0]
		return nil
	}
	return []*cobra.Command{switchover, failover, reseed, pause, resume, history, status, doctor}
}

// operator are the flags that operatorCommands have in common.
type operator struct {
	kubeconfig, namespace, statefulSet string
	wait                               time.Duration
}

func (o *operator) command(use, short string, do func(context.Context, *controller.Operator) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig; see run for what is used without it")
	f.StringVar(&o.namespace, "namespace", "", "namespace of the StatefulSet (default: the kubeconfig's, or the pod's own)")
	f.StringVar(&o.statefulSet, "statefulset", "memgraph", "name of the Memgraph StatefulSet")
	f.DurationVar(&o.wait, "wait", 30*time.Second, "how long to wait for the end of it")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		restConfig, namespace, err := controller.Access(o.kubeconfig, o.namespace)
		if err != nil {
			return err
		}
		kube, _, err := controller.Clientsets(restConfig)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), o.wait)
		defer cancel()
		return do(ctx, controller.NewOperator(kube, namespace, o.statefulSet, cmd.OutOrStdout()))
	}
	return cmd
}

// prepareCommand is the init container's of a Memgraph pod. Whatever keeps it from
// asking for the record keeps it from touching the data.
func prepareCommand(stderr io.Writer) *cobra.Command {
	p, kubeconfig := controller.DefaultPreparation, ""
	cmd := &cobra.Command{
		Use:   "prepare",
		Short: "Move a pod's data directory aside, if the record says that it is of no use",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.Validate(); err != nil {
				return err
			}
			log := slog.New(slog.NewJSONHandler(stderr, nil))
			restConfig, namespace, err := controller.Access(kubeconfig, p.Namespace)
			if err != nil {
				log.Warn("api server is not known, the data stays", "err", err)
				return nil
			}
			kube, _, err := controller.Clientsets(restConfig)
			if err != nil {
				return err
			}
			p.Namespace = namespace
			return p.Run(cmd.Context(), kube, log)
		},
	}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	p.AddFlags(flags)
	cmd.Flags().AddGoFlagSet(flags)
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "path of a kubeconfig; see run for what is used without it")
	return cmd
}

// guardCommand runs beside a Memgraph in its pod, until the pod is deleted.
func guardCommand(stderr io.Writer) *cobra.Command {
	g, secured, credentials := controller.DefaultGuard, memgraph.TLS{}, memgraph.Credentials{}
	cmd := &cobra.Command{
		Use:   "guard",
		Short: "End the Memgraph in this pod if it hangs when the pod is deleted",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(g.Validate(), secured.Validate()); err != nil {
				return err
			}
			login, err := credentials.Login(credentialsOfEnvironment())
			if err != nil {
				return err
			}
			rules, err := secured.Rules()
			if err != nil {
				return err
			}
			prober := memgraph.NewProber(login, rules)
			defer prober.Close()
			return g.Run(cmd.Context(), prober, slog.New(slog.NewJSONHandler(stderr, nil)))
		},
	}
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	g.AddFlags(flags)
	secured.AddFlags(flags)
	credentials.AddFlags(flags)
	cmd.Flags().AddGoFlagSet(flags)
	return cmd
}

// options are the flags of run, as they were given.
type options struct {
	controller  controller.Config
	gateway     gateway.Config
	tls         memgraph.TLS
	credentials memgraph.Credentials

	kubeconfig    string
	httpListen    string
	logLevel      string
	shutdownDelay time.Duration
	stderr        io.Writer
}

func runCommand(stderr io.Writer) *cobra.Command {
	o := &options{controller: controller.Defaults, stderr: stderr}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Control one StatefulSet and carry its clients until SIGTERM",
		Long: `Run watches one Memgraph StatefulSet, keeps its MAIN writable while it is the
leader, and carries Bolt clients to the current MAIN whether it is or not.

The cluster is that of --kubeconfig, $KUBECONFIG, ~/.kube/config or, inside a
pod, its ServiceAccount. Memgraph's credentials come from $MEMGRAPH_USER and
$MEMGRAPH_PASSWORD or from the files of --user-file and --password-file; with
neither, logins carry none.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	o.addFlags(cmd)
	return cmd
}

func credentialsOfEnvironment() bolt.Auth {
	return bolt.Auth{User: os.Getenv("MEMGRAPH_USER"), Password: os.Getenv("MEMGRAPH_PASSWORD")}
}

func (o *options) addFlags(cmd *cobra.Command) {
	hostname, _ := os.Hostname()
	o.controller.Identity = hostname
	f, parts := cmd.Flags(), flag.NewFlagSet("", flag.ContinueOnError)
	o.controller.AddFlags(parts)
	o.gateway.AddFlags(parts)
	o.tls.AddFlags(parts)
	o.credentials.AddFlags(parts)
	f.AddGoFlagSet(parts)
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig; see above for what is used without it")
	f.StringVar(&o.httpListen, "http-listen", ":8080", "host:port for /healthz, /readyz, /metrics and /status")
	f.DurationVar(&o.shutdownDelay, "shutdown-delay", 5*time.Second, "how long clients are still accepted after SIGTERM, for endpoints to follow")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
}

// validate names every flag that is wrong.
func (o *options) validate() error {
	errs := []error{o.controller.Validate(), o.gateway.Validate(), o.tls.Validate()}
	if err := gateway.Listens(o.httpListen); err != nil {
		errs = append(errs, fmt.Errorf("--http-listen: %w", err))
	}
	if o.shutdownDelay < 0 {
		errs = append(errs, fmt.Errorf("--shutdown-delay: %s is negative; use 0 or more", o.shutdownDelay))
	}
	return errors.Join(errs...)
}

// run builds the parts and runs them until ctx ends or one fails.
func (o *options) run(ctx context.Context) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return fmt.Errorf("--log-level: unknown value %q; use debug, info, warn or error", o.logLevel)
	}
	log := slog.New(slog.NewJSONHandler(o.stderr, &slog.HandlerOptions{Level: level}))
	klog.SetSlogLogger(log)

	restConfig, namespace, err := controller.Access(o.kubeconfig, o.controller.Namespace)
	if err != nil {
		return err
	}
	o.controller.Namespace = namespace
	if err := o.validate(); err != nil {
		return err
	}
	login, err := o.credentials.Login(credentialsOfEnvironment())
	if err != nil {
		return err
	}
	if o.gateway.BackendTLS, err = o.tls.Rules(); err != nil {
		return fmt.Errorf("--memgraph-tls: %w", err)
	}
	return o.serve(ctx, restConfig, login, log)
}

// serve runs controller, gateway and HTTP server. At the end of ctx the
// controller stops first, its lease released, and the gateway last.
func (o *options) serve(ctx context.Context, restConfig *rest.Config, login bolt.Login, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	var suspect atomic.Pointer[func()] // the controller's, once there is one
	o.gateway.Login, o.gateway.Logger, o.gateway.Registerer = login, log, registry
	o.gateway.Lost = func(string, int64) {
		if f := suspect.Load(); f != nil {
			(*f)()
		}
	}
	gate, err := gateway.New(o.gateway)
	if err != nil {
		return err
	}
	urgent, routine, err := controller.Clientsets(restConfig)
	if err != nil {
		return err
	}
	client := memgraph.NewClient(login, o.gateway.BackendTLS)
	newProber := func() *memgraph.Prober { return memgraph.NewProber(login, o.gateway.BackendTLS) }
	urgentProber, sentinel, prober := newProber(), newProber(), newProber()
	defer urgentProber.Close()
	defer sentinel.Close()
	defer prober.Close()
	closing := context.WithoutCancel(ctx)
	defer func() { _ = within(closing, client.Close) }()
	control, err := controller.New(o.controller, controller.Dependencies{
		Urgent: urgent, Routine: routine, UrgentProber: urgentProber, Sentinel: sentinel, Prober: prober,
		Asker: client, Roles: client, Registrations: client, Resolve: net.DefaultResolver.LookupHost,
		Forget: func(addr string) {
			urgentProber.Forget(addr)
			sentinel.Forget(addr)
			prober.Forget(addr)
			_ = within(closing, func(ctx context.Context) error { return client.Forget(ctx, addr) })
		},
		Gateway: gate, Disown: gate.Disown, Heard: gate.Heard, Vigil: memgraph.Vigil, Quiet: gate.Quiet, Readers: gate.Readers, Log: log, Registerer: registry,
	})
	if err != nil {
		return err
	}
	suspect.Store(new(control.Suspect))
	return o.runAll(ctx, control, gate, controller.HTTP{
		Ready:   func() error { return ready(ctx, control, gate) },
		Status:  func() any { return status{control.Status(), gate.Status()} },
		Metrics: registry,
	})
}

// within bounds what closes connections: the peer may be gone.
func within(ctx context.Context, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return f(ctx)
}

// runAll ends with the first error, or in order once ctx has ended: leadership
// is given up at once, clients are still accepted for a while and then drained,
// and the record is watched to the last, since the gateway obeys it till then.
func (o *options) runAll(ctx context.Context, control *controller.Controller, gate *gateway.Gateway, server controller.HTTP) error {
	listener, err := net.Listen("tcp", o.httpListen)
	if err != nil {
		return fmt.Errorf("--http-listen: %w", err)
	}
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	leading, stopLeading := context.WithCancel(failed)
	carrying, stopCarrying := context.WithCancel(failed)
	serving, stopServing := context.WithCancel(failed)
	defer context.AfterFunc(ctx, stopLeading)()
	group.Go(func() error {
		control.Lead(leading)
		select {
		case <-time.After(o.shutdownDelay):
		case <-failed.Done():
		}
		stopCarrying()
		return nil
	})
	group.Go(func() error {
		defer stopServing()
		return gate.Run(carrying)
	})
	group.Go(func() error { return control.Run(serving) })
	group.Go(func() error { return server.Serve(serving, listener) })
	return group.Wait()
}

// ready means that the gateway knows whom to serve, not that MAIN is well: an
// endpoint that is taken away while MAIN changes would turn clients away who
// could have been parked. It ends with stopping.
func ready(stopping context.Context, control *controller.Controller, gate *gateway.Gateway) error {
	switch {
	case stopping.Err() != nil:
		return errors.New("stopping")
	case !control.Synced():
		return errors.New("caches are not synced")
	case gate.Status().Generation == 0:
		return errors.New("no MAIN has been decided on yet")
	}
	return nil
}

// status is what this replica knows.
type status struct {
	controller.Status
	Gateway gateway.Status `json:"gateway"`
}
