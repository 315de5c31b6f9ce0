package e2e

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/penstock-dev/penstock"
	"github.com/penstock-dev/penstock/configs"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
)

// compose is deploy/compose.yaml: those keys of a Compose file that it uses, and no others.
type compose struct {
	Name     string
	Services map[string]service
	Configs  map[string]struct{ Content string }
	Volumes  map[string]any
}

type service struct {
	Build          *struct{ Context, Dockerfile string }
	Image          string
	Command        []string
	Environment    map[string]string
	Ports, Volumes []string
	Configs        []struct{ Source, Target string }
	Tmpfs          []string
	DependsOn      map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck    *struct {
		Test              []string
		Interval, Timeout time.Duration
		Retries           int
	}
	User            string
	ReadOnly        bool     `yaml:"read_only"`
	CapDrop         []string `yaml:"cap_drop"`
	SecurityOpt     []string `yaml:"security_opt"`
	MemLimit        string   `yaml:"mem_limit"`
	Restart         string
	StopGracePeriod time.Duration `yaml:"stop_grace_period"`
}

func composeFile(t testing.TB) compose {
	t.Helper()
	text, err := os.ReadFile(root(t, "deploy", "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var c compose
	if err := decoder.Decode(&c); err != nil {
		t.Fatalf("deploy/compose.yaml: %v", err)
	}
	return c
}

// shutdownTimeout is that of the built-in service.
func shutdownTimeout(t testing.TB) time.Duration {
	t.Helper()
	text, _ := configs.Read(configs.PersistentCache)
	cfg, _, err := pipeline.LoadBytes(penstock.Builtins(), "persistent-cache.yaml", text, pipeline.LoadOptions{Env: func(name string) (string, bool) {
		value, ok := minimalEnvironment()[name]
		return value, ok
	}})
	if err != nil {
		t.Fatal(err)
	}
	return cfg.ShutdownTimeout
}

// knownVariable reports whether the table in docs/operations.md has the variable; what an endpoint is for, AWS says.
func knownVariable(name string) bool {
	_, ok := variables[name]
	return ok || name == "AWS_ENDPOINT_URL_SQS"
}

func TestCompose_everyServiceRunsWithoutRights(t *testing.T) {
	c := composeFile(t)
	if got := len(c.Services); got != 3 {
		t.Errorf("%d services", got)
	}
	for name, s := range c.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) || !slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) {
			t.Errorf("%s: want a read-only root file system, no capabilities and no new ones", name)
		}
		if s.Build == nil && (s.User == "" || s.User == "root" || s.Healthcheck == nil || !regexp.MustCompile(`:\d+\.\d+\.\d+-`).MatchString(s.Image)) {
			t.Errorf("%s: want a user, a health check and a pinned image", name) // ours has the first two in it
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: %s is published to the world", name, port)
			}
		}
		for other, on := range s.DependsOn {
			if _, ok := c.Services[other]; !ok || on.Condition != "service_healthy" {
				t.Errorf("%s depends on %s: %s", name, other, on.Condition)
			}
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if _, ok := c.Volumes[source]; !ok {
				t.Errorf("%s: no volume %s", name, source)
			}
		}
		for _, use := range s.Configs {
			if _, ok := c.Configs[use.Source]; !ok {
				t.Errorf("%s: no config %s", name, use.Source)
			}
		}
	}
	ours := c.Services["penstock"]
	if ours.Build == nil || ours.Build.Context != ".." || ours.Build.Dockerfile != "deploy/Dockerfile" {
		t.Errorf("penstock is not built from this checkout: %+v", ours.Build)
	}
	if ours.StopGracePeriod <= shutdownTimeout(t) {
		t.Errorf("penstock is killed after %s, and drains for up to %s", ours.StopGracePeriod, shutdownTimeout(t))
	}
	if len(ours.DependsOn) != 2 {
		t.Errorf("penstock starts before its servers: %v", ours.DependsOn)
	}
	writes := dockerfile(t).workdir
	if !slices.ContainsFunc(ours.Volumes, func(v string) bool { return strings.HasSuffix(v, ":"+writes) }) || !strings.HasPrefix(ours.Environment["POISON_DIR"], writes+"/") {
		t.Errorf("penstock can't write poison to %q", ours.Environment["POISON_DIR"])
	}
}

// TestCompose_itsQueueAndItsEnvironmentFitTogether runs what the file says without Compose: its SQS server with its
// queues, a Redis, and the image's tree with its environment, on other addresses.
func TestCompose_itsQueueAndItsEnvironmentFitTogether(t *testing.T) {
	t.Parallel()
	file := composeFile(t)
	ours, sqs := file.Services["penstock"], file.Services["sqs"]
	for name := range ours.Environment {
		if !knownVariable(name) {
			t.Errorf("docs/operations.md has no %s", name)
		}
	}
	endpoint, queueURL := ours.Environment["AWS_ENDPOINT_URL_SQS"], ours.Environment["QUEUE_URL"]
	if want := "http://sqs:" + sqs.Environment["FAUXQS_PORT"]; endpoint != want {
		t.Errorf("penstock looks for its queue at %s, want %s", endpoint, want)
	}
	if ours.Environment["REDIS_HOST"] != "redis" {
		t.Errorf("the Redis is %q", ours.Environment["REDIS_HOST"])
	}
	// The server's version is the tests'.
	var packages struct{ Dependencies map[string]string }
	text, err := os.ReadFile(root(t, "test", "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &packages); err != nil {
		t.Fatal(err)
	}
	if want := []string{"npx", "--yes", "fauxqs@" + packages.Dependencies["fauxqs"]}; !slices.Equal(sqs.Command, want) {
		t.Errorf("sqs runs %q, want %q", sqs.Command, want)
	}
	if len(sqs.Configs) != 1 || sqs.Configs[0].Target != sqs.Environment["FAUXQS_INIT"] {
		t.Fatalf("the queues are mounted as %v and looked for at %q", sqs.Configs, sqs.Environment["FAUXQS_INIT"])
	}

	init := filepath.Join(t.TempDir(), "queues.json")
	if err := os.WriteFile(init, []byte(file.Configs[sqs.Configs[0].Source].Content), 0o600); err != nil {
		t.Fatal(err)
	}
	server := freeAddress(t)
	_, port := split(t, server)
	cmd := exec.Command("node", filepath.Join(testserver.NodeModules(t, "fauxqs"), "dist", "cli.js"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	for name, value := range sqs.Environment {
		switch name {
		case "FAUXQS_PORT":
			value = strconv.Itoa(port)
		case "FAUXQS_INIT":
			value = init
		}
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	launch(t, cmd)

	store := testserver.Redis(t)
	host, redisPort := split(t, store)
	address := freeAddress(t)
	_, webPort := split(t, address)
	moved, err := url.Parse(queueURL)
	if err != nil {
		t.Fatal(err)
	}
	moved.Host = net.JoinHostPort(moved.Hostname(), strconv.Itoa(port)) // the server knows its queues by their URLs
	env := map[string]string{"REDIS_PORT": strconv.Itoa(redisPort), "PORT": strconv.Itoa(webPort)}
	for name, value := range ours.Environment {
		switch name {
		case "AWS_ENDPOINT_URL_SQS":
			value = "http://" + server
		case "QUEUE_URL":
			value = moved.String()
		case "REDIS_HOST":
			value = host
		}
		env[name] = value
	}
	eventually(t, func() string { // as depends_on has it
		connection, err := net.DialTimeout("tcp", server, time.Second)
		if err != nil {
			return err.Error()
		}
		_ = connection.Close()
		return ""
	})
	c := newContainer(t, env)
	p := launch(t, c.command())
	newWeb(p, address).eventually("/readyz", ready)
	q := &queue{t: t, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}, endpoint: "http://" + server, url: moved.String()}
	t.Cleanup(q.client.CloseIdleConnections)
	q.send(samplesAt(t, sampleTime, "01")...)
	p.eventually(q.notEmpty)
	if len(dump(t, dial(t, store, 0))) == 0 {
		t.Error("nothing is in the Redis")
	}
}

// unit is deploy/systemd/penstock.service: section.name → values.
func unit(t testing.TB) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(root(t, "deploy", "systemd", "penstock.service"))
	if err != nil {
		t.Fatal(err)
	}
	settings, section := map[string][]string{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		switch name, value, ok := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		case ok:
			settings[section+"."+name] = append(settings[section+"."+name], value)
		default:
			t.Fatalf("penstock.service: %q", line)
		}
	}
	return settings
}

func TestSystemd_unitRunsTheServiceWithoutRights(t *testing.T) {
	t.Parallel()
	u := unit(t)
	// A mistake in the command line shows in --help already.
	args := strings.Fields(u["Service.ExecStart"][0])
	if args[0] != "/usr/local/bin/penstock" {
		t.Errorf("it runs %s", args[0])
	}
	if p := launch(t, penstockProgram(t, nil, append(args[1:], "--help")...)); p.code() != 0 {
		t.Errorf("%q: %s", args, p.errors())
	}
	stop, err := strconv.Atoi(u["Service.TimeoutStopSec"][0])
	if err != nil || time.Duration(stop)*time.Second <= shutdownTimeout(t) {
		t.Errorf("it is killed after %d s, and drains for up to %s", stop, shutdownTimeout(t))
	}
	for name, want := range map[string]string{
		"Type": "exec", "Restart": "on-failure", "RestartPreventExitStatus": "2", "KillMode": "mixed", "EnvironmentFile": "/etc/penstock/penstock.env",
		"DynamicUser": "yes", "StateDirectory": "penstock", "WorkingDirectory": "%S/penstock", "UMask": "0077",
		"CapabilityBoundingSet": "", "AmbientCapabilities": "", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
		"PrivateDevices": "yes", "PrivateUsers": "yes", "ProtectClock": "yes", "ProtectControlGroups": "yes", "ProtectHostname": "yes", "ProtectKernelLogs": "yes",
		"ProtectKernelModules": "yes", "ProtectKernelTunables": "yes", "ProtectProc": "invisible", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
		"RestrictNamespaces": "yes", "RestrictRealtime": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes", "MemoryDenyWriteExecute": "yes",
		"SystemCallArchitectures": "native", "SystemCallErrorNumber": "EPERM",
	} {
		if got := u["Service."+name]; !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if got, want := u["Service.SystemCallFilter"], []string{"@system-service", "~@privileged @resources"}; !slices.Equal(got, want) {
		t.Errorf("SystemCallFilter is %q, want %q", got, want)
	}
	if _, err := exec.LookPath("systemd-analyze"); err == nil {
		// The threshold is in tenths: docs/container.md has the score.
		if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=12", root(t, "deploy/systemd/penstock.service")).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestSystemd_exampleOfTheEnvironmentStartsTheService(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(root(t, "deploy", "systemd", "penstock.env.example"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^(#?)([A-Z_]+)=(.*)$`).FindAllStringSubmatch(string(text), -1) {
		if !knownVariable(match[2]) {
			t.Errorf("docs/operations.md has no %s", match[2])
		}
		if match[1] == "" {
			env[match[2]] = match[3]
		}
	}
	if len(env) < 3 {
		t.Fatalf("found %d variables", len(env))
	}
	if p := launch(t, penstockProgram(t, env, "validate", "persistent-cache")); p.code() != 0 {
		t.Error(p.errors())
	}
}
