// Command bench measures penstock beside its alternatives, in one run, on one machine, and writes what it found into
// docs/benchmarks.md.
//
//	go run .              everything; takes minutes and wants the machine for itself
//	go run . -run file    one part
//	go run . -short       a functional check: small, and says nothing about speed
//	go run . compare      Go benchmarks of two commits in turn: is the difference larger than the noise? See -h
//
// It counts at the store, not at the source: every run ends with a comparison of all of Redis with a model, and a run
// that differs counts for nothing. Contenders alternate; one of them runs twice (A/A) to show the noise. Quoted are
// medians, and from the least to the most.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bench is one run of the program.
type bench struct {
	// root is the folder of penstock's repository, dir one for files of this run.
	root, dir string
	// binary is the penstock to measure.
	binary string
	// benthos is the Benthos to measure beside it; empty: none.
	benthos string
	// withoutBenthos tells that it should have been there and could not be built.
	withoutBenthos bool
	// chart is the SVG that the part at hand has drawn, if any.
	chart  string
	rounds int
	seed   uint64
	// only, when not empty, are the contenders that take part.
	only []string

	events, customers  int           // of the file and script parts
	size               string        // of their events: small or real
	messages           int           // of the sqs part
	batch, connections int           // of the redis sink
	profile            string        // file to keep the last CPU profile in
	idlePeriod         time.Duration // how long an empty queue is watched
	sizes              []int         // of the growth part, in events, ascending
	replicas           []int         // of the replicas part: how many penstocks compete for one queue
	trickles           []int         // of the replicas part: messages a second at which requests are counted
	steady             time.Duration // how long the latency part holds a rate
	version            string        // of penstock, before this run writes its page
	log                func(string)
}

func (b *bench) say(format string, args ...any) { b.log(fmt.Sprintf(format, args...)) }

func (b *bench) wants(contender string) bool {
	if contender == benthosName && b.benthos == "" {
		return false
	}
	return len(b.only) == 0 || slices.Contains(b.only, contender)
}

// parts are the benchmarks, in the order of the page. Each returns its section in Markdown.
var parts = []struct {
	name, title string
	run         func(context.Context, *bench) (string, error)
}{
	{"file", "File → decode → Redis", runFile},
	{"script", "The script, beside a plain one", runScript},
	{"profile", "Where a message's CPU goes", runProfile},
	{"sqs", "SQS → Redis", runSQS},
	{"replicas", "Replicas on one queue", runReplicas},
	{"start", "Start and size", runStart},
	{"growth", "From ten thousand to ten million", runGrowth},
	{"latency", "Latency and memory at a steady rate", runLatency},
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == contenderFlag {
		if err := contenderMain(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := mainErr
	if len(os.Args) > 1 && os.Args[1] == "compare" {
		run = func(ctx context.Context, args []string) error {
			return compareMain(ctx, args[1:], os.Stdout, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
		}
	}
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func mainErr(ctx context.Context, args []string) error {
	b := &bench{idlePeriod: time.Minute, replicas: []int{1, 2, 4}, trickles: []int{1, 10, 100, 1000}, log: func(line string) { fmt.Fprintln(os.Stderr, line) }}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	var names []string
	for _, part := range parts {
		names = append(names, part.name)
	}
	run := flags.String("run", strings.Join(names, ","), "parts to run")
	only := flags.String("only", "", "contenders to run, separated by commas; empty for all")
	out := flags.String("out", "", "page to write the figures into; default docs/benchmarks.md, with -short or -only none")
	short := flags.Bool("short", false, "a small run that checks that everything works")
	flags.StringVar(&b.binary, "penstock", "", "penstock program to measure; built when empty")
	flags.StringVar(&b.profile, "profile", "", "file to keep the profile part's last CPU profile in")
	flags.StringVar(&b.benthos, "benthos", "build", "Benthos program to measure beside it; \"build\" builds it, which fetches its modules, \"\" is none (so is -short)")
	sizes := flags.String("sizes", "10000,100000,1000000,10000000", "events of the growth part's runs, ascending")
	flags.DurationVar(&b.steady, "steady", 20*time.Second, "how long the latency part holds a rate")
	flags.IntVar(&b.rounds, "n", 5, "rounds")
	flags.Uint64Var(&b.seed, "seed", 1, "seed of the made-up events")
	flags.IntVar(&b.events, "events", 400_000, "events of the file part")
	flags.IntVar(&b.customers, "customers", 10_000, "customers of the file part")
	flags.StringVar(&b.size, "size", sizeSmall, "size of the events of the file and script parts: small, or real (2 to 8 KB)")
	flags.IntVar(&b.messages, "messages", 20_000, "messages of the sqs part")
	flags.IntVar(&b.batch, "batch", 256, "messages a batch of the redis sink")
	flags.IntVar(&b.connections, "connections", 2, "connections of the redis sink")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || b.rounds < 1 || b.events < 1 || b.customers < 1 || b.messages < 1 || b.batch < 1 || b.connections < 1 {
		return errors.New("takes flags only, and their numbers must be at least 1")
	}
	if b.size != sizeSmall && b.size != sizeReal {
		return fmt.Errorf("-size: want small or real, got %q", b.size)
	}
	if *only != "" {
		b.only = strings.Split(*only, ",")
	}
	if *short {
		b.rounds, b.events, b.customers, b.messages = 1, 2000, 200, 300
		b.idlePeriod, b.steady, *sizes = time.Second, time.Second, "1000,2000"
		b.replicas, b.trickles = []int{1, 2}, []int{100}
		if b.benthos == "build" {
			b.benthos = ""
		}
	}
	for text := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return fmt.Errorf("-sizes: want numbers of events, got %q", text)
		}
		b.sizes = append(b.sizes, n)
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	b.root = root
	b.version = b.output(ctx, "git", "describe", "--always", "--dirty")
	if *out == "" && !*short && *only == "" {
		*out = filepath.Join(root, "docs", "benchmarks.md")
	}
	if b.dir, err = os.MkdirTemp("", "penstock-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	if b.binary == "" {
		if err := b.build(ctx, *short); err != nil {
			return err
		}
	}
	names = strings.Split(*run, ",")
	if b.benthos == "build" && (slices.Contains(names, "file") || slices.Contains(names, "sqs")) && b.wants(benthosName) {
		if err := b.buildBenthos(ctx); err != nil {
			b.say("without Benthos: %v", err)
			b.benthos, b.withoutBenthos = "", true
		}
	}
	return b.run(ctx, names, *out, "cd bench && go run . "+strings.Join(args, " "))
}

// run runs parts, prints their sections and writes them into the page, when there is one.
func (b *bench) run(ctx context.Context, names []string, page, command string) error {
	for _, name := range names {
		i := slices.IndexFunc(parts, func(p struct {
			name, title string
			run         func(context.Context, *bench) (string, error)
		}) bool {
			return p.name == name
		})
		if i < 0 {
			return fmt.Errorf("no part %q", name)
		}
		b.chart = ""
		text, err := parts[i].run(ctx, b)
		if err != nil {
			return err
		}
		if b.chart != "" && page != "" {
			picture := "benchmarks-" + name + ".svg"
			if err := os.WriteFile(filepath.Join(filepath.Dir(page), picture), []byte(b.chart), 0o644); err != nil {
				return err
			}
			text += fmt.Sprintf("\n![%s: the figures above as bars](%s)\n", parts[i].title, picture)
		}
		section := fmt.Sprintf("## %s\n\n%s\n%s\n", parts[i].title, text, b.facts(ctx, command))
		fmt.Println(section)
		if page != "" {
			if err := replaceSection(page, name, section); err != nil {
				return err
			}
		}
	}
	return nil
}

// build builds penstock as `make build` does, or quickly.
func (b *bench) build(ctx context.Context, quickly bool) error {
	b.binary = filepath.Join(b.dir, "penstock")
	args := []string{"build", "-o", b.binary}
	if !quickly {
		args = append(args, "-trimpath", "-ldflags", "-s -w")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/penstock")...)
	cmd.Dir = b.root
	if !quickly {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build penstock: %w: %s", err, out)
	}
	return nil
}

// configFile writes a pipeline file for one process, under a name of its own: another process may be reading the one
// before.
func (b *bench) configFile(name, text string) (string, error) {
	f, err := os.CreateTemp(b.dir, name+"-*.yaml")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	return f.Name(), errors.Join(err, f.Close())
}

// output is what a command prints, run in the repository.
func (b *bench) output(ctx context.Context, name string, args ...string) string {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = b.root
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// facts says on what and of what the figures were taken.
func (b *bench) facts(ctx context.Context, command string) string {
	server := "unknown"
	for field := range strings.FieldsSeq(b.output(ctx, "redis-server", "--version")) {
		if version, ok := strings.CutPrefix(field, "v="); ok {
			server = version
		}
	}
	without := ""
	if b.withoutBenthos {
		without = " (Benthos could not be built there)"
	}
	return fmt.Sprintf("<sub>%s, %d rounds, penstock %s, %d cores (%s), %s, Redis %s, Node %s%s: `%s`</sub>\n",
		time.Now().UTC().Format(time.DateOnly), b.rounds, b.version, runtime.NumCPU(),
		processor(), runtime.Version(), server, b.output(ctx, "node", "--version"), without, strings.TrimSpace(command))
}

// processor is the name of the CPU.
func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// replaceSection puts text between the marks of a part in the page.
func replaceSection(page, part, text string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	begin, end := "<!-- bench:"+part+" -->\n", "<!-- /bench:"+part+" -->\n"
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for part %s: want the lines %q and %q", page, part, begin, end)
	}
	return os.WriteFile(page, []byte(before+begin+text+end+after), 0o644)
}

// moduleRoot finds penstock's repository: this module lies in a folder of it.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "sinks", "redis", "write.lua")); err == nil {
			return dir, nil
		}
		if filepath.Dir(dir) == dir {
			return "", errors.New("run it in the folder bench of penstock's repository")
		}
		dir = filepath.Dir(dir)
	}
}
