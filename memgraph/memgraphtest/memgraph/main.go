package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"memgraph-controller/memgraph/memgraphtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until ctx ends, which stands for SIGTERM.
func run(ctx context.Context, args []string, stderr io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	o.User, o.Password = os.Getenv("MEMGRAPH_USER"), os.Getenv("MEMGRAPH_PASSWORD")
	o.Logger = slog.New(slog.NewJSONHandler(stderr, nil))
	server, err := memgraphtest.New(o.Config)
	if err != nil {
		return err
	}
	var control sync.WaitGroup
	defer control.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.controlSocket != "" {
		l, err := listenControl(o.controlSocket)
		if err != nil {
			return err
		}
		control.Go(func() {
			if err := server.ServeControl(ctx, l); err != nil {
				o.Logger.Error("control ended", "err", err)
			}
		})
	}
	if err := server.Start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(stderr, "You are running the stand-in for Memgraph v%s on %s\n", o.Version, server.Addr())
	select {
	case <-ctx.Done():
		server.Terminate()
		return nil
	case <-server.Died():
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
}

// listenControl opens the socket, over one that a killed process left.
func listenControl(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	return l, nil
}
