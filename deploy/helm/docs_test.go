package helm_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/strvals"
)

// document is what one of the documents shows.
type document struct {
	path string
	// commands are the lines of its shell blocks, those joined that a \ continues.
	commands []string
	// files are the YAML blocks that begin with their name in a comment.
	files map[string]string
	json  []string
}

var (
	fenced   = regexp.MustCompile("(?m)^```(sh|yaml|json)\n((?s:.*?))^```$")
	fileName = regexp.MustCompile(`\A# (\S+\.yaml)\n`)
)

func readDocument(path, text string) document {
	d := document{path: path, files: map[string]string{}}
	for _, match := range fenced.FindAllStringSubmatch(text, -1) {
		switch body := match[2]; match[1] {
		case "sh":
			d.commands = append(d.commands, strings.Split(strings.ReplaceAll(body, "\\\n", " "), "\n")...)
		case "json":
			d.json = append(d.json, body)
		case "yaml":
			if name := fileName.FindStringSubmatch(body); name != nil {
				d.files[name[1]] = body
			}
		}
	}
	return d
}

func documents(t *testing.T) []document {
	t.Helper()
	var all []document
	for _, pattern := range []string{"../../README.md", "../../docs/*.md", "penstock/README.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", pattern, paths, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, readDocument(path, string(text)))
		}
	}
	return all
}

// words splits a command as a shell does, as far as documents need it.
var word = regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`)

func words(line string) []string {
	var all []string
	for _, w := range word.FindAllString(line, -1) {
		all = append(all, strings.Trim(w, `'"`))
	}
	return all
}

// helmValues returns the values that a helm command gives, or what is wrong with it.
func (d document) helmValues(line string) (values, error) {
	v := values{}
	var positional []string
	args := words(line)[1:]
	for i := 0; i < len(args); i++ {
		flag, value, inline := strings.Cut(args[i], "=")
		if !strings.HasPrefix(flag, "-") {
			positional = append(positional, args[i])
			continue
		}
		switch flag {
		case "--install", "--create-namespace", "--wait", "--atomic":
			continue
		case "--reuse-values":
			v = chartutil.CoalesceTables(v, values{"cache": values{"queueUrl": "https://sqs.eu-west-1.amazonaws.com/1/q", "redis": values{"host": "redis"}},
				"image": values{"repository": "penstock"}})
			continue
		}
		if !inline {
			if i++; i == len(args) {
				return nil, fmt.Errorf("%s of what?", flag)
			}
			value = args[i]
		}
		switch flag {
		case "--namespace", "-n", "--timeout":
		case "--set":
			if err := strvals.ParseInto(value, v); err != nil {
				return nil, err
			}
		case "--set-string":
			if err := strvals.ParseIntoString(value, v); err != nil {
				return nil, err
			}
		case "--set-file":
			var missing error
			err := strvals.ParseIntoFile(value, v, func(name []rune) (any, error) {
				if d.files[string(name)] == "" {
					missing = fmt.Errorf("no block begins with # %s", string(name))
				}
				return d.files[string(name)], nil
			})
			if err != nil || missing != nil {
				return nil, fmt.Errorf("%s: %v %v", value, err, missing)
			}
		case "-f", "--values":
			text, ok := d.files[value]
			if !ok {
				return nil, fmt.Errorf("no block begins with # %s", value)
			}
			file, err := chartutil.ReadValues([]byte(text))
			if err != nil {
				return nil, err
			}
			v = chartutil.CoalesceTables(file, v)
		default:
			return nil, fmt.Errorf("the flag %s is not known to this test", flag)
		}
	}
	if len(positional) != 3 || !slices.Contains([]string{"install", "upgrade", "template"}, positional[0]) {
		return nil, fmt.Errorf("want install, upgrade or template, a release and a chart, got %q", positional)
	}
	if positional[1] != "penstock" {
		return nil, fmt.Errorf("the release is %s: other commands say penstock", positional[1])
	}
	if _, err := os.Stat(filepath.Join("../..", positional[2], "Chart.yaml")); err != nil {
		return nil, err
	}
	return v, nil
}

// judgeKubectl returns what is wrong with a kubectl command: it must name what the chart makes, and what the program
// knows.
func (d document) judgeKubectl(line string, made map[string]bool, program string) error {
	command, inside, runs := strings.Cut(line, " -- ")
	args := words(command)[1:]
	if len(args) > 1 && args[0] == "-n" {
		args = args[2:]
	}
	if len(args) == 0 || !slices.Contains([]string{"create", "exec", "get", "logs", "rollout"}, args[0]) {
		return fmt.Errorf("its verb is not known to this test: %q", args)
	}
	for _, arg := range args[1:] {
		if strings.Contains(arg, "/") && !strings.HasPrefix(arg, "-") && !made[arg] {
			return fmt.Errorf("the chart makes no %s", arg)
		}
	}
	if len(args) > 3 && slices.Equal(args[:3], []string{"create", "secret", "generic"}) {
		if !slices.ContainsFunc(slices.Collect(maps.Values(d.files)), func(text string) bool { return strings.Contains(text, "existingSecret: "+args[3]) }) {
			return fmt.Errorf("no values mention the secret %s", args[3])
		}
	}
	if runs {
		ours, ok := strings.CutPrefix(inside, "/penstock ") // the image's only program
		if !ok {
			return fmt.Errorf("the image has no %s", inside)
		}
		out, err := exec.Command(program, append(words(ours), "--help")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		// Asked for the help of what it doesn't have it shows its own.
		if usage := "penstock " + words(ours)[0] + " "; !strings.Contains(string(out), "\n  "+usage) {
			return fmt.Errorf("its help has no %q", usage)
		}
	}
	return nil
}

// made are all resources that the chart can make.
func made(t *testing.T) map[string]bool {
	all := map[string]bool{}
	for _, name := range []string{"everything", "hpa", "pipelines"} {
		for resource := range must(t, cases(t)[name]).names {
			all[resource] = true
		}
	}
	return all
}

func TestDocs_everyHelmAndKubectlCommandWorks(t *testing.T) {
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	helm, kubectl, all := 0, 0, made(t)
	for _, d := range documents(t) {
		for _, line := range d.commands {
			switch line = strings.TrimPrefix(line, "$ "); {
			case strings.HasPrefix(line, "kubectl "):
				kubectl++
				if err := d.judgeKubectl(line, all, program); err != nil {
					t.Errorf("%s: %s: %v", d.path, line, err)
				}
			case strings.HasPrefix(line, "helm "):
				helm++
				v, err := d.helmValues(line)
				if err != nil {
					t.Errorf("%s: %s: %v", d.path, line, err)
					continue
				}
				o := must(t, v)
				if problems := o.problems(); len(problems) > 0 {
					t.Errorf("%s: %s: %q", d.path, line, problems)
				}
				if out, code := o.validate(t); code != 0 {
					t.Errorf("%s: %s: the program refuses it with %d\n%s", d.path, line, code, out)
				}
			}
		}
	}
	if helm < 5 || kubectl < 4 {
		t.Errorf("found %d and %d commands: the search misses them", helm, kubectl)
	}
}

func TestDocs_allValuesRender(t *testing.T) {
	n := 0
	for _, d := range documents(t) {
		for name, text := range d.files {
			if !strings.HasSuffix(name, "values.yaml") {
				continue
			}
			n++
			t.Run(name, func(t *testing.T) {
				for _, problem := range must(t, inDocument(t, text)).problems() {
					t.Error(problem)
				}
			})
		}
	}
	if n < 3 {
		t.Errorf("found %d: the search misses them", n)
	}
}

// inDocument are values with a made-up pipeline when their secrets are for one, and else with what the built-in
// service needs.
func inDocument(t *testing.T, text string) values {
	t.Helper()
	v := parse(t, text)
	secrets, _ := v["secrets"].(values)
	for name := range secrets {
		if !slices.Contains([]string{"redis-password", "aws-secret-access-key", "server-api-key", "sentry-dsn"}, name) {
			v["pipelines"] = values{"made-up": "service: {http: {address: ':4000'}}"}
			return v
		}
	}
	return minimal(t, text)
}

func TestDocs_wrongCommandsAreFound(t *testing.T) {
	program, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := readDocument("made-up.md", "```yaml\n# values.yaml\ncache: {redis: {host: x}}\nsecrets: {a: {existingSecret: known}}\n```\n")
	all := made(t)
	for line, want := range map[string]string{
		"helm install penstock deploy/helm/penstok":                                    "no such file",
		"helm install cache deploy/helm/penstock":                                      "the release is cache",
		"helm instal penstock deploy/helm/penstock":                                    "want install, upgrade or template",
		"helm install penstock deploy/helm/penstock --set":                             "--set of what?",
		"helm install penstock deploy/helm/penstock --sett a=b":                        "the flag --sett is not known",
		"helm install penstock deploy/helm/penstock -f other.yaml":                     "no block begins with # other.yaml",
		"helm install penstock deploy/helm/penstock --set-file pipelines.a=a.yaml":     "no block begins with # a.yaml",
		"helm install penstock deploy/helm/penstock --reuse-values --set replicas=3":   "additional properties 'replicas' not allowed",
		"helm install penstock deploy/helm/penstock -f values.yaml":                    "image.repository: required",
		"helm upgrade penstock deploy/helm/penstock --reuse-values --set port=x":       "got string, want integer",
		"kubectl -n cache rollout status deployment/penstok":                           "the chart makes no deployment/penstok",
		"kubectl -n cache rolout status deployment/penstock":                           "its verb is not known",
		"kubectl -n cache create secret generic other --from-file=password":            "no values mention the secret other",
		"kubectl -n cache exec deployment/penstock -- penstock doctor":                 "the image has no penstock doctor",
		"kubectl -n cache exec deployment/penstock -- /penstock docter":                `its help has no "penstock docter "`,
		"kubectl -n cache exec deployment/penstock -- /penstock doctor --loud":         "exit status 2",
		"kubectl -n cache exec deployment/penstock -- /penstock doctor":                "<nil>",
		"kubectl create secret generic known --from-file=password":                     "<nil>",
		"helm upgrade --install penstock deploy/helm/penstock --reuse-values -n cache": "<nil>",
	} {
		var err error
		if strings.HasPrefix(line, "kubectl") {
			err = d.judgeKubectl(line, all, program)
		} else {
			var v values
			if v, err = d.helmValues(line); err == nil {
				_, _, err = render(v)
			}
		}
		if got := fmt.Sprint(err); !strings.Contains(got, want) || want == "<nil>" && got != want {
			t.Errorf("%s: want %q, got %v", line, want, err)
		}
	}
}

// The policy in the document allows exactly what the manual says that the program needs.
func TestDocs_policyHasTheRightsThatTheManualNames(t *testing.T) {
	text, err := os.ReadFile("../../docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rights, _ := strings.Cut(string(manual), "### Rights\n")
	rights, _, _ = strings.Cut(rights, "penstock never creates queues")
	want := regexp.MustCompile(`sqs:\w+`).FindAllString(rights, -1)
	if len(want) < 4 {
		t.Fatalf("docs/operations.md names %q", want)
	}
	policies := readDocument("docs/kubernetes.md", string(text)).json
	if len(policies) != 2 {
		t.Fatalf("%d policies", len(policies))
	}
	var policy struct {
		Statement []struct {
			Effect, Resource string
			Action           []string
		}
	}
	for _, text := range policies {
		if !json.Valid([]byte(text)) {
			t.Errorf("no JSON: %s", text)
		}
	}
	if err := json.Unmarshal([]byte(policies[0]), &policy); err != nil {
		t.Fatal(err)
	}
	if got := policy.Statement[0].Action; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
