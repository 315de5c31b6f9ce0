package helm_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// binary builds the program once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "penstock")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "penstock")
	cmd := exec.Command("go", "build", "-o", file, "./cmd/penstock")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath") // as it is released
	if out, err := cmd.CombinedOutput(); err != nil {
		return file, fmt.Errorf("%w\n%s", err, out)
	}
	return file, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if file, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// validate lets the program judge what the container would run: its arguments, its variables and the files it would
// find. The values of Secrets that are not the chart's own are made up. Overrides come in place of the container's
// variables.
func (o *objects) validate(t *testing.T, overrides ...string) (output string, code int) {
	t.Helper()
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	// Paths of the container lead into a folder of this test.
	here := strings.NewReplacer("/etc/penstock/", filepath.Join(root, "etc")+"/", "/run/secrets/penstock/", filepath.Join(root, "secrets")+"/").Replace
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pod := o.deployment.Spec.Template.Spec
	container := pod.Containers[0]
	mounts := map[string]string{}
	for _, mount := range container.VolumeMounts {
		mounts[mount.Name] = mount.MountPath + "/"
	}
	for _, volume := range pod.Volumes {
		switch {
		case volume.ConfigMap != nil && volume.ConfigMap.Name == o.deployment.Name:
			for name, text := range o.configMap.Data {
				write(here(mounts[volume.Name]+name), here(text))
			}
		case volume.Projected != nil:
			for _, source := range volume.Projected.Sources {
				for _, item := range source.Secret.Items {
					text := "made-up"
					if source.Secret.Name == o.deployment.Name {
						text = string(o.secret.Data[item.Key])
					}
					write(here(mounts[volume.Name]+item.Path), text)
				}
			}
		}
	}
	if container.Args[0] != "run" {
		t.Fatalf("it would not run: %q", container.Args)
	}
	args := []string{"validate"}
	for _, arg := range container.Args[1:] {
		args = append(args, here(arg))
	}
	if len(args) == 1 {
		args = append(args, "persistent-cache") // what run without a file runs
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = root
	cmd.Env = []string{}
	for _, variable := range container.Env {
		cmd.Env = append(cmd.Env, variable.Name+"="+here(variable.Value))
	}
	cmd.Env = append(cmd.Env, overrides...) // of two the later one counts
	out, err := cmd.CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

func TestProgram_takesWhatTheChartMakes(t *testing.T) {
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) {
			if out, code := must(t, v).validate(t); code != 0 {
				t.Errorf("exit code %d\n%s", code, out)
			}
		})
	}
}

// Every variable reaches what reads it: with nonsense in it, or without it, the program complains about it.
func TestProgram_readsTheVariables(t *testing.T) {
	all := cases(t)
	for name, c := range map[string]struct{ of, override, want string }{
		"shutdown timeout":           {"defaults", "SHUTDOWN_TIMEOUT=never", "SHUTDOWN_TIMEOUT: want a duration"},
		"shutdown timeout of a file": {"pipelines", "SHUTDOWN_TIMEOUT=never", "shutdown_timeout"},
		"port":                       {"defaults", "PORT=http", "PORT: want a whole number"},
		"port of a file":             {"pipelines", "PORT=http", "service.http.address"},
		"level":                      {"defaults", "LOG_LEVEL=loud", "LOG_LEVEL"},
		"queue":                      {"defaults", "QUEUE_URL=", "QUEUE_URL"},
		"batch":                      {"defaults", "BATCH_SIZE=many", "BATCH_SIZE"},
		"host":                       {"defaults", "REDIS_HOST=", "REDIS_HOST"},
		"port of Redis":              {"defaults", "REDIS_PORT=x", "REDIS_PORT"},
		"database":                   {"defaults", "REDIS_DB=x", "REDIS_DB"},
		"TLS":                        {"defaults", "REDIS_TLS=x", "REDIS_TLS"},
		"user":                       {"secrets", "REDIS_USERNAME=other", "REDIS_USER and REDIS_USERNAME"},
		"prefix":                     {"defaults", "REDIS_ENVIRONMENT_PREFIX=other", "ENVIRONMENT_PREFIX"},
		"TTL":                        {"defaults", "REDIS_KEYS_TTL_IN_SECS=1", "KEYS_TTL_IN_SECS"},
		"policy":                     {"defaults", "CACHE_UPDATE_POLICY=x", "CACHE_UPDATE_POLICY"},
		"poison folder":              {"poison-claim", "POISON_QUEUE_URL=https://x/1/q", "POISON_DIR and POISON_QUEUE_URL"},
		"poison queue":               {"everything", "POISON_DIR=x", "POISON_DIR and POISON_QUEUE_URL"},
		"password":                   {"secrets", "REDIS_PASSWORD=other", "REDIS_PASSWORD and REDIS_PASSWORD_FILE"},
		"secret key":                 {"secrets", "AWS_SECRET_ACCESS_KEY=other", "AWS_SECRET_ACCESS_KEY and AWS_SECRET_ACCESS_KEY_FILE"},
		"access key":                 {"secrets", "AWS_ACCESS_KEY_ID=", "AWS_ACCESS_KEY_ID"},
		"Edge API":                   {"everything", "EDGE_API_URL=edge", "edge"},
		"API key":                    {"everything", "SERVER_API_KEY=other", "SERVER_API_KEY and SERVER_API_KEY_FILE"},
		"region":                     {"everything", "AWS_REGION=", "AWS_REGION: set it"},
	} {
		t.Run(name, func(t *testing.T) {
			if out, code := must(t, all[c.of]).validate(t, c.override); code != 2 || !strings.Contains(out, c.want) {
				t.Errorf("exit code %d, want 2 and %q\n%s", code, c.want, out)
			}
		})
	}
}

func TestProgram_getsSecretsAsTheyAre(t *testing.T) {
	o := must(t, cases(t)["secrets"])
	if got, want := string(o.secret.Data["redis-password"]), `p'a"s$s: #1`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	// The program compares both: the same value is no contradiction.
	if out, code := o.validate(t, `REDIS_PASSWORD=p'a"s$s: #1`); code != 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// The names of all variables are ones that the manual tells of, or that Go or the AWS SDK know.
func TestProgram_documentsTheVariables(t *testing.T) {
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(manual), "## The variables of the built-in cache service")
	table, _, _ = strings.Cut(table, "\n## ")
	var told []string
	for line := range strings.Lines(table) {
		if names, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok {
			for _, match := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(names, -1) {
				told = append(told, match[1])
			}
		}
	}
	if len(told) < 25 {
		t.Fatalf("found only %q", told)
	}
	others := []string{"GOMEMLIMIT", "AWS_ENDPOINT_URL_SQS"}
	for name, v := range cases(t) {
		own, _ := v["env"].(values)
		for _, variable := range must(t, v).deployment.Spec.Template.Spec.Containers[0].Env {
			_, users := own[variable.Name]
			if n := variable.Name; !users && !slices.Contains(told, n) && !slices.Contains(others, n) {
				t.Errorf("%s: docs/operations.md has no %s", name, n)
			}
		}
	}
}
