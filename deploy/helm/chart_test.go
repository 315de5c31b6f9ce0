// Package helm_test renders the chart with Helm's own library and judges what comes out: by the types of Kubernetes, by
// the schemas of the operators' resources, by rules, and by the program itself.
package helm_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	strictjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files and the README's table anew")

const chartDir = "penstock"

// values are those of a chart, as YAML has them.
type values = map[string]any

// render returns what helm install would send to the cluster, and the notes that it would print.
func render(v values) (manifest, notes string, err error) {
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		return "", "", err
	}
	options := chartutil.ReleaseOptions{Name: "penstock", Namespace: "cache", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, v, options, chartutil.DefaultCapabilities)
	if err != nil {
		return "", "", err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return "", "", err
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := strings.TrimSpace(files[name])
		switch {
		case strings.HasSuffix(name, "/NOTES.txt"):
			notes = text
		case text != "" && !strings.HasSuffix(name, ".tpl"):
			fmt.Fprintf(&out, "---\n# %s\n%s\n", strings.TrimPrefix(name, "penstock/templates/"), text)
		}
	}
	return out.String(), notes, nil
}

// parse makes values of YAML.
func parse(t *testing.T, text string) values {
	t.Helper()
	v := values{}
	if err := yaml.UnmarshalStrict([]byte(text), &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return v
}

// inContext are values to which only the image is missing, or, without pipelines, the rest of the built-in service's.
func inContext(t *testing.T, text string) values {
	t.Helper()
	v := parse(t, text)
	if v["pipelines"] == nil {
		return minimal(t, text)
	}
	return chartutil.CoalesceTables(v, parse(t, "image: {repository: registry.example/penstock}"))
}

// minimal are values that configure the built-in service, and more.
func minimal(t *testing.T, more string) values {
	t.Helper()
	return chartutil.CoalesceTables(parse(t, more), parse(t, `
image: {repository: registry.example/penstock}
cache:
  queueUrl: https://sqs.eu-west-1.amazonaws.com/123456789012/events
  redis: {host: redis.internal}
`))
}

// cases returns the value sets that have golden files, by name.
func cases(t *testing.T) map[string]values {
	t.Helper()
	const suffix = ".values.yaml"
	files, err := filepath.Glob("testdata/*" + suffix)
	if err != nil || len(files) < 8 {
		t.Fatalf("found %v, %v", files, err)
	}
	all := map[string]values{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), suffix)] = parse(t, string(text))
	}
	return all
}

// objects are the decoded resources of a rendering.
type objects struct {
	deployment     *appsv1.Deployment
	service        *corev1.Service
	serviceAccount *corev1.ServiceAccount
	configMap      *corev1.ConfigMap
	secret         *corev1.Secret
	budget         *policyv1.PodDisruptionBudget
	autoscaler     *autoscalingv2.HorizontalPodAutoscaler
	networkPolicy  *networkingv1.NetworkPolicy
	// custom are the resources of operators, by kind.
	custom map[string]values
	// names are all resources, as kind/name in small letters.
	names map[string]bool
}

// customSchemas are the schemas of the operators' own definitions, in which every field that is not known is an error.
func customSchemas() (map[string]*jsonschema.Schema, error) {
	files, err := filepath.Glob("testdata/crds/*.yaml")
	if err != nil {
		return nil, err
	}
	all := map[string]*jsonschema.Schema{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var definition struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct{ OpenAPIV3Schema values }
				}
			}
		}
		if err := yaml.Unmarshal(text, &definition); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, version := range definition.Spec.Versions {
			root := version.Schema.OpenAPIV3Schema
			delete(root["properties"].(values), "metadata") // any object, says the definition
			closeSchema(root)
			root["properties"].(values)["metadata"] = true
			compiler := jsonschema.NewCompiler()
			if err := compiler.AddResource(file, root); err != nil {
				return nil, err
			}
			schema, err := compiler.Compile(file)
			if err != nil {
				return nil, err
			}
			all[definition.Spec.Group+"/"+version.Name+" "+definition.Spec.Names.Kind] = schema
		}
	}
	return all, nil
}

// closeSchema makes a field that a schema does not know an error. The API server drops such fields without a word.
func closeSchema(schema any) {
	s, ok := schema.(values)
	if !ok {
		return
	}
	properties, _ := s["properties"].(values)
	if _, open := s["additionalProperties"]; properties != nil && !open {
		s["additionalProperties"] = false
	}
	for _, property := range properties {
		closeSchema(property)
	}
	closeSchema(s["additionalProperties"])
	closeSchema(s["items"])
}

// decode decodes every resource into its type. An unknown, doubled or wrongly typed field is an error.
func decode(manifest string) (*objects, error) {
	schemas, err := customSchemas()
	if err != nil {
		return nil, err
	}
	o := &objects{custom: map[string]values{}, names: map[string]bool{}}
	for document := range strings.SplitSeq("\n"+manifest, "\n---\n") {
		if strings.TrimSpace(document) == "" {
			continue
		}
		data, err := yaml.YAMLToJSONStrict([]byte(document))
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, document)
		}
		var head metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(data, &head); err != nil {
			return nil, err
		}
		kind := head.APIVersion + " " + head.Kind
		fail := func(err error) error { return fmt.Errorf("%s %s: %w", head.Kind, head.Name, err) }
		name := strings.ToLower(head.Kind) + "/" + head.Name
		if o.names[name] {
			return nil, fail(fmt.Errorf("rendered twice"))
		}
		o.names[name] = true
		if head.Namespace != "cache" {
			return nil, fail(fmt.Errorf("in namespace %q", head.Namespace))
		}

		var typed any
		switch kind {
		case "apps/v1 Deployment":
			o.deployment = &appsv1.Deployment{}
			typed = o.deployment
		case "v1 Service":
			o.service = &corev1.Service{}
			typed = o.service
		case "v1 ServiceAccount":
			o.serviceAccount = &corev1.ServiceAccount{}
			typed = o.serviceAccount
		case "v1 ConfigMap":
			o.configMap = &corev1.ConfigMap{}
			typed = o.configMap
		case "v1 Secret":
			o.secret = &corev1.Secret{}
			typed = o.secret
		case "policy/v1 PodDisruptionBudget":
			o.budget = &policyv1.PodDisruptionBudget{}
			typed = o.budget
		case "autoscaling/v2 HorizontalPodAutoscaler":
			o.autoscaler = &autoscalingv2.HorizontalPodAutoscaler{}
			typed = o.autoscaler
		case "networking.k8s.io/v1 NetworkPolicy":
			o.networkPolicy = &networkingv1.NetworkPolicy{}
			typed = o.networkPolicy
		default:
			schema, ok := schemas[kind]
			if !ok {
				return nil, fail(fmt.Errorf("no schema for %s", kind))
			}
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
			if err != nil {
				return nil, fail(err)
			}
			if err := schema.Validate(value); err != nil {
				return nil, fail(err)
			}
			o.custom[head.Kind] = value.(values)
			continue
		}
		unknown, err := strictjson.UnmarshalStrict(data, typed)
		if err != nil {
			return nil, fail(err)
		}
		if len(unknown) > 0 {
			return nil, fail(fmt.Errorf("%v", unknown))
		}
	}
	if o.deployment == nil || o.service == nil {
		return nil, fmt.Errorf("no Deployment or no Service")
	}
	return o, nil
}

// must renders and decodes.
func must(t *testing.T, v values) *objects {
	t.Helper()
	manifest, _, err := render(v)
	if err != nil {
		t.Fatal(err)
	}
	o, err := decode(manifest)
	if err != nil {
		t.Fatalf("%v\n%s", err, manifest)
	}
	return o
}

func TestChart_rendersAsItsGoldenFiles(t *testing.T) {
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) {
			manifest, notes, err := render(v)
			if err != nil {
				t.Fatal(err)
			}
			got := "# " + strings.ReplaceAll(notes, "\n", "\n# ") + "\n" + manifest
			got = strings.ReplaceAll(got, "# \n", "#\n")
			file := filepath.Join("testdata", name+".golden.yaml")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s (go test -update, then look at the diff):\n%s", file, got)
			}
		})
	}
}

func TestChart_everyRenderingKeepsTheRules(t *testing.T) {
	for name, v := range cases(t) {
		t.Run(name, func(t *testing.T) {
			for _, problem := range must(t, v).problems() {
				t.Error(problem)
			}
		})
	}
}

func TestChart_lintsClean(t *testing.T) {
	all := cases(t)
	all["no values"] = values{}
	for name, v := range all {
		t.Run(name, func(t *testing.T) {
			for _, message := range lint.All(chartDir, v, "cache", true).Messages {
				if message.Severity > support.InfoSev { // there is no icon, which is such an information
					t.Error(message)
				}
			}
		})
	}
}

func TestChart_aBrokenChartDoesNotLint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "penstock")
	if err := os.CopyFS(dir, os.DirFS(chartDir)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "templates", "service.yaml")
	if err := os.WriteFile(file, []byte("kind: Service\n metadata: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if worst := lint.All(dir, minimal(t, ""), "cache", true).HighestSeverity; worst != support.ErrorSev {
		t.Errorf("severity %d", worst)
	}
}

func TestChart_versionIsTheProgramsOwn(t *testing.T) {
	source, err := os.ReadFile("../../internal/cli/version.go")
	if err != nil {
		t.Fatal(err)
	}
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("const developed = %q\n", chart.Metadata.AppVersion); !strings.Contains(string(source), want) {
		t.Errorf("internal/cli/version.go has no %s", want)
	}
}

// TestChart_alertsAreThoseOfTheRuleFile: a chart can't read what lies outside of it, so it has a copy.
func TestChart_alertsAreThoseOfTheRuleFile(t *testing.T) {
	copied, err := os.ReadFile("penstock/files/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile("../prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(copied, rules) {
		t.Error("stale: cp deploy/prometheus/alerts.yaml deploy/helm/penstock/files/")
	}
}
