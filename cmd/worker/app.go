package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"github.com/alpha-oracle/worker/internal/market"
	"github.com/alpha-oracle/worker/internal/secret"
	"github.com/alpha-oracle/worker/internal/store"
	"github.com/alpha-oracle/worker/internal/tracing"
)

// Exit codes, as the README lists them. A signal gives 128 + its number.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitPartial = 3
	exitQuota   = 4
)

// process is what the operating system hands to the program.
type process struct {
	Environ        []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Hangups returns a channel that tells of each SIGHUP until stop is called;
	// nil: there are none.
	Hangups func() (hangups <-chan os.Signal, stop func())
	// LimitNow is the clock of the rate limits, which wait in real time; nil is Now.
	LimitNow func() time.Time
	// Wait waits by Now for the next period; nil is a timer.
	Wait func(ctx context.Context, d time.Duration)
	// Spans takes the spans if tracing is on; nil: the endpoint does.
	Spans tracing.Exporter
	// Lease is that of claims on Postgres; zero values are the standard ones.
	Lease store.Lease
}

// app is one call of the program.
type app struct {
	process
	args []string
	now  func() time.Time
	// clock is the clock that was given; nil is the machine's.
	clock  func() time.Time
	cfg    config
	log    *zap.Logger
	redact func(string) string
	// watch is told what happens; nil in all commands but serve.
	watch *watch
	// traces is nil while tracing is off.
	traces *tracing.Tracer

	// symbols are the universe of the schedules as it was read at the start or
	// at the last reload, nil for the S&P 500; fixed says that it was read.
	symbols []market.Symbol
	fixed   bool

	configFile string
	asJSON     bool
	verbose    bool
}

// exitError ends the program with a code after everything was said.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// run is the whole program as a function: it returns the exit code.
func run(ctx context.Context, args []string, p process) int {
	out := &output{w: p.Stdout}
	p.Stdout = out
	clock := p.Now
	if p.Now == nil {
		p.Now = time.Now
	}
	a := &app{process: p, args: args, now: p.Now, clock: clock, log: zap.NewNop(), redact: func(s string) string { return s }}
	root := a.rootCommand() //nolint:contextcheck // cobra hands ctx to the commands
	root.SetArgs(args)
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	err := root.ExecuteContext(ctx)
	a.traces.Stop() //nolint:contextcheck // ctx may have ended by then
	_ = a.log.Sync()
	code := a.report(ctx, err)
	if out.err == nil {
		return code
	}
	_, _ = fmt.Fprintf(a.Stderr, "worker: what was to be printed is lost: %s\n", out.err)
	if code == exitOK {
		return exitFailed
	}
	return code
}

// output remembers the first write that went wrong, which no caller has to
// look at then.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.w.Write(p)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// report says what went wrong, unless it was said already, and picks the code.
func (a *app) report(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	code := exitFailed
	var exit exitError
	var stopped signalError
	switch {
	case errors.As(err, &exit):
		return exit.code
	case errors.As(context.Cause(ctx), &stopped):
		code = stopped.exitCode()
	case errors.As(err, new(usageError)):
		code = exitUsage
	}
	text := a.redact(err.Error())
	if a.asJSON {
		_ = a.printJSON(map[string]any{"error": text, "exit_code": code})
	}
	_, _ = fmt.Fprintf(a.Stderr, "worker: %s\n", text)
	return code
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "worker",
		Short: "Ingest market data for alpha-oracle",
		Long: `worker fetches market data under the limits of your API keys and stores it so
that every run can be interrupted and resumed without losing or repeating work.

Without SA_REDIS__URL and SA_DATABASE__URL it needs no server: it keeps one
SQLite file in the data directory and a Redis inside the process.

Without a command it runs the jobs on their schedules: worker serve.`,
		Example: `  worker run daily-bars --demo
  SA_ALPHA_VANTAGE_API_KEY=... worker run daily-bars --symbols AAPL,MSFT
  worker status`,
		SilenceUsage: true, SilenceErrors: true,
		Args: cobra.NoArgs,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.configure(cmd)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context()) },
	}
	root.PersistentFlags().StringVar(&a.configFile, "config", "", "configuration file in YAML (also SA_CONFIG_FILE)")
	root.PersistentFlags().BoolVar(&a.asJSON, "json", false, "print one JSON document on standard output and nothing else")
	root.PersistentFlags().BoolVarP(&a.verbose, "verbose", "v", false, "log every provider call (SA_LOG__LEVEL=debug)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		// Parsing has ended before the flags behind the wrong one.
		a.asJSON = a.asJSON || asksForJSON(a.args)
		return usagef("%w (see %s --help)", err, cmd.CommandPath())
	})
	root.AddCommand(a.serveCommand(), a.rehearseCommand(), a.runCommand(), a.backfillCommand(), a.planCommand(), a.statusCommand(), a.gapsCommand(), a.repairCommand(), a.whyCommand(), a.exportCommand(), a.keysCommand(), a.eventsCommand(), a.killSwitchCommand(), a.pdtCommand(), a.doctorCommand(),
		a.migrateCommand(), a.simulateCommand(), a.versionCommand(), a.manCommand(), a.healthcheckCommand())
	wrapArgs(root)
	return root
}

// asksForJSON finds --json among arguments that could not be parsed.
func asksForJSON(args []string) bool {
	for _, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		on, err := strconv.ParseBool(value)
		switch {
		case arg == "--":
			return false
		case name == "--json" && (!given || err == nil && on):
			return true
		}
	}
	return false
}

// helpThenUsage shows the help of a command that needs another one behind it,
// and returns the usage error that says so. The help goes to standard error,
// since nobody asked for it.
func (a *app) helpThenUsage(cmd *cobra.Command, problem string) error {
	cmd.SetOut(a.Stderr)
	_ = cmd.Help()
	return usagef("%s", problem)
}

// wrapArgs makes mistakes in arguments usage errors, for every command.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef("%w (see %s --help)", err, cmd.CommandPath())
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}

// needsNoConfig tells the commands that speak of the program alone.
func needsNoConfig(cmd *cobra.Command) bool {
	for ; cmd.HasParent(); cmd = cmd.Parent() {
		if slices.Contains([]string{"help", "version", "man", "completion", cobra.ShellCompRequestCmd}, cmd.Name()) {
			return true
		}
	}
	return false
}

// configure loads the configuration and, from it, the redactor and the log.
func (a *app) configure(cmd *cobra.Command) error {
	if needsNoConfig(cmd) {
		return nil
	}
	cfg, err := loadConfig(a.configFile, a.Environ)
	a.cfg = cfg
	a.redact = secret.Redactor(cfg.secrets()...)
	if err != nil {
		return err
	}
	a.log = a.newLog()
	return a.startTracing(cmd.Context())
}

func (a *app) newLog() *zap.Logger {
	level, format := a.cfg.LogLevel, a.cfg.LogFormat
	if a.verbose {
		level = zapcore.DebugLevel
	}
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.RFC3339TimeEncoder
	newEncoder := zapcore.NewJSONEncoder
	if format == "console" || format == "" && isTerminal(a.Stderr) {
		encoder.EncodeLevel = zapcore.CapitalLevelEncoder
		newEncoder = zapcore.NewConsoleEncoder
	}
	out := zapcore.Lock(zapcore.AddSync(secret.Writer(a.Stderr, a.redact)))
	return zap.New(zapcore.NewCore(newEncoder(encoder), out, level))
}

// isTerminal reports whether standard input, output or error is a person's.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// printJSON prints one document, without secrets in its string values.
func (a *app) printJSON(v any) error {
	document, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if document, err = secret.JSON(document, a.redact); err != nil {
		return err
	}
	_, _ = a.Stdout.Write(document)
	return nil
}

// printf prints words, without secrets.
func (a *app) printf(format string, args ...any) {
	_, _ = io.WriteString(a.Stdout, a.redact(fmt.Sprintf(format, args...)))
}

// newOwner names this process for other processes and for people.
func newOwner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown host"
	}
	return fmt.Sprintf("%s pid %d", host, os.Getpid())
}

// heldError explains a claim that another worker holds.
func heldError(err error) error {
	if held, ok := errors.AsType[*store.HeldError](err); ok {
		return fmt.Errorf("%w; --wait waits for it", held)
	}
	return err
}
