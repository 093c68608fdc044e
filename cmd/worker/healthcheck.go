package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// healthTime bounds one health check.
const healthTime = 3 * time.Second

func (a *app) healthcheckCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the worker serve on this machine whether it is ready",
		Long: `Asks the worker serve that listens on SA_HTTP__ADDR, and prints nothing when it
is ready. For the health check of a container, in which there is no other program.

The exit code is 0 if it is ready, 1 if it is not or nobody answers.`,
		Example: "  worker healthcheck\n  worker healthcheck --path /livez",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.healthcheck(cmd.Context(), path) },
	}
	cmd.Flags().StringVar(&path, "path", "/readyz", "what to ask for: /readyz or /livez")
	return cmd
}

func (a *app) healthcheck(ctx context.Context, path string) error {
	if path != "/readyz" && path != "/livez" {
		return usagef("--path %s: want /readyz or /livez", path)
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	addr, err := reachable(a.cfg.HTTP.Addr)
	if err != nil {
		return usagef("SA_HTTP__ADDR is %q: want host:port", a.cfg.HTTP.Addr)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, http.NoBody)
	if err != nil {
		return err
	}
	// A proxy of the environment is not for this machine.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("health check: %s answers %s", path, response.Status)
	}
	return nil
}

// reachable turns the address of a listener into one that can be dialled: who
// listens everywhere is here too.
func reachable(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
