package helm_test

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
)

// problems returns what is wrong with resources that are right by themselves: what they say of one another, and what
// the pod may do.
func (o *objects) problems() (all []string) {
	problem := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	pod := o.deployment.Spec.Template
	container := pod.Spec.Containers[0]
	name := o.deployment.Name

	selects := func(what string, selector map[string]string, with map[string]string) {
		if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(with)) {
			problem("%s: the selector %v does not match %v", what, selector, with)
		}
	}
	selects("Deployment", o.deployment.Spec.Selector.MatchLabels, pod.Labels)
	selects("Service", o.service.Spec.Selector, pod.Labels)
	if o.budget != nil {
		selects("PodDisruptionBudget", o.budget.Spec.Selector.MatchLabels, pod.Labels)
	}
	if o.networkPolicy != nil {
		selects("NetworkPolicy", o.networkPolicy.Spec.PodSelector.MatchLabels, pod.Labels)
	}
	for _, constraint := range pod.Spec.TopologySpreadConstraints {
		selects("topologySpreadConstraints", constraint.LabelSelector.MatchLabels, pod.Labels)
	}
	// A selector can't be changed: what an upgrade may change must not be in it.
	for key := range o.deployment.Spec.Selector.MatchLabels {
		if key != "app.kubernetes.io/name" && key != "app.kubernetes.io/instance" {
			problem("Deployment: the selector has %s", key)
		}
	}
	for key, value := range pod.Labels {
		for _, wrong := range append(validation.IsQualifiedName(key), validation.IsValidLabelValue(value)...) {
			problem("label %s=%s: %s", key, value, wrong)
		}
	}

	ports := map[string]int32{}
	for _, port := range container.Ports {
		ports[port.Name] = port.ContainerPort
	}
	leads := func(what string, port intstr.IntOrString) {
		if _, ok := ports[port.StrVal]; !ok {
			problem("%s: the container has no port %q", what, port.String())
		}
	}
	for what, probe := range map[string]*corev1.Probe{"/livez": container.LivenessProbe, "readiness": container.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			problem("no probe for %s", what)
			continue
		}
		leads(probe.HTTPGet.Path, probe.HTTPGet.Port)
		if path := probe.HTTPGet.Path; what == "/livez" && path != what || path != "/livez" && path != "/readyz" {
			problem("probe for %s: path %s", what, path)
		}
	}
	leads("Service", o.service.Spec.Ports[0].TargetPort)
	if o.networkPolicy != nil {
		leads("NetworkPolicy", *o.networkPolicy.Spec.Ingress[0].Ports[0].Port)
	}
	env := map[string]string{}
	for _, variable := range container.Env {
		if _, twice := env[variable.Name]; twice {
			problem("the variable %s is set twice", variable.Name)
		}
		env[variable.Name] = variable.Value
	}
	if want := fmt.Sprint(ports["http"]); env["PORT"] != want {
		problem("PORT is %q, and the container's port %s", env["PORT"], want)
	}

	drain, err := time.ParseDuration(env["SHUTDOWN_TIMEOUT"])
	if err != nil {
		problem("SHUTDOWN_TIMEOUT: %v", err)
	}
	if grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second; grace < drain+7*time.Second {
		problem("a grace period of %s for a shutdown timeout of %s", grace, drain)
	}

	volumes := map[string]bool{}
	for _, volume := range pod.Spec.Volumes {
		if volumes[volume.Name] {
			problem("the volume %s is there twice", volume.Name)
		}
		volumes[volume.Name] = true
		if source := volume.ConfigMap; source != nil && volume.Name == "penstock-pipelines" && !o.names["configmap/"+source.Name] {
			problem("volume %s: no ConfigMap %s", volume.Name, source.Name)
		}
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.Secret.Name != name {
				continue // one that is there already
			}
			for _, item := range source.Secret.Items {
				if o.secret == nil || o.secret.Data[item.Key] == nil {
					problem("volume %s: the Secret %s has no %s", volume.Name, name, item.Key)
				}
			}
		}
	}
	for _, mount := range container.VolumeMounts {
		if !volumes[mount.Name] {
			problem("no volume %s to mount", mount.Name)
		}
		delete(volumes, mount.Name)
	}
	for volume := range volumes {
		problem("the volume %s is mounted nowhere", volume)
	}
	for _, path := range container.Args[1:] {
		if file := strings.TrimPrefix(path, "/etc/penstock/"); o.configMap == nil || o.configMap.Data[file] == "" {
			problem("%s is in no ConfigMap", path)
		}
	}
	if account := pod.Spec.ServiceAccountName; o.serviceAccount != nil && account != o.serviceAccount.Name {
		problem("the pod's service account is %s, the chart's %s", account, o.serviceAccount.Name)
	}

	if o.autoscaler != nil {
		if target := o.autoscaler.Spec.ScaleTargetRef; target.Kind != "Deployment" || target.Name != name || target.APIVersion != "apps/v1" {
			problem("HorizontalPodAutoscaler: its target is %v", target)
		}
	}
	scaled, monitor := o.custom["ScaledObject"], o.custom["ServiceMonitor"]
	if scaled != nil {
		if target := dig(scaled, "spec", "scaleTargetRef", "name"); target != name {
			problem("ScaledObject: its target is %v", target)
		}
		for _, trigger := range dig(scaled, "spec", "triggers").([]any) {
			authentication := dig(trigger, "authenticationRef", "name")
			if made := o.custom["TriggerAuthentication"]; made != nil && dig(made, "metadata", "name") != authentication {
				problem("ScaledObject: no TriggerAuthentication %v", authentication)
			}
			if dig(trigger, "metadata", "scaleOnInFlight") != "true" {
				problem("ScaledObject: what is in flight does not count")
			}
		}
	}
	if replicas, scales := o.deployment.Spec.Replicas, o.autoscaler != nil || scaled != nil; (replicas != nil) == scales {
		problem("replicas in the Deployment: %t, an autoscaler: %t", replicas != nil, scales)
	}
	if monitor != nil {
		selector := map[string]string{}
		for key, value := range dig(monitor, "spec", "selector", "matchLabels").(values) {
			selector[key] = value.(string)
		}
		selects("ServiceMonitor", selector, o.service.Labels)
		if port := dig(monitor, "spec", "endpoints", 0, "port"); port != o.service.Spec.Ports[0].Name {
			problem("ServiceMonitor: the Service has no port %v", port)
		}
	}

	return append(all, restricted(pod.Spec)...)
}

// restricted returns where a pod is not within the Pod Security Standard "restricted", with a read-only root besides.
func restricted(pod corev1.PodSpec) (all []string) {
	is := func(what string, flag *bool, want bool) {
		if flag == nil || *flag != want {
			all = append(all, "security: "+what)
		}
	}
	container := pod.Containers[0].SecurityContext
	is("may run as root", pod.SecurityContext.RunAsNonRoot, true)
	is("escalates privileges", container.AllowPrivilegeEscalation, false)
	is("writes to its root", container.ReadOnlyRootFilesystem, true)
	is("has a token for Kubernetes", pod.AutomountServiceAccountToken, false)
	if profile := pod.SecurityContext.SeccompProfile; profile == nil || profile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		all = append(all, "security: no seccomp profile")
	}
	if uid := pod.SecurityContext.RunAsUser; uid == nil || *uid != 65532 {
		all = append(all, "security: not the image's user")
	}
	if c := container.Capabilities; c == nil || !slices.Equal(c.Drop, []corev1.Capability{"ALL"}) || len(c.Add) > 0 {
		all = append(all, "security: keeps capabilities")
	}
	return all
}

// dig returns what is at a path of keys and indices, or nil.
func dig(at any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := at.(values)
			at = m[step]
		case int:
			list, _ := at.([]any)
			if step >= len(list) {
				return nil
			}
			at = list[step]
		}
	}
	return at
}

// Each rule and each schema finds what is broken on purpose.
func TestRules_findWhatIsBroken(t *testing.T) {
	read := func(name string) string {
		manifest, err := os.ReadFile("testdata/" + name + ".golden.yaml")
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(manifest), "\n---\n") // past the notes
		return text
	}
	for name, c := range map[string]struct {
		of, from, to string // to comes in place of the first match of the regexp from
		want         string
	}{
		"unknown field":               {"everything", `minReadySeconds:`, "minimumReadySeconds:", `unknown field "spec.minimumReadySeconds"`},
		"case of a field":             {"everything", `minReadySeconds:`, "minreadySeconds:", `unknown field "spec.minreadySeconds"`},
		"wrong type":                  {"everything", `minReadySeconds: \d+`, "minReadySeconds: soon", "minReadySeconds"},
		"doubled field":               {"everything", `minReadySeconds:`, "minReadySeconds: 1\n  minReadySeconds:", "already"},
		"unknown field of KEDA":       {"everything", `pollingInterval:`, "poolingInterval:", "poolingInterval"},
		"unknown provider":            {"everything", `provider: aws`, "provider: amazon", "provider"},
		"missing field of KEDA":       {"everything", `scaleTargetRef: \{[^}]*\}`, "", "scaleTargetRef"},
		"unknown field of a monitor":  {"everything", `scrapeTimeout:`, "scrapetimeout:", "scrapetimeout"},
		"wrong interval of a monitor": {"everything", `interval: 15s`, "interval: soon", "interval"},
		"unknown kind":                {"everything", `kind: ScaledObject`, "kind: Scaled", "no schema for keda.sh/v1alpha1 Scaled"},
		"other namespace":             {"everything", `namespace: cache`, "namespace: default", `in namespace "default"`},

		"pod label":                  {"everything", `(template:\s+metadata:\s+labels:(?:\s+\S+: \S+)*?\s+app.kubernetes.io/instance:) penstock`, "$1 other", "Deployment: the selector"},
		"selector of the Service":    {"everything", `(publishNotReadyAddresses: true\s+selector:\s+app.kubernetes.io/instance:) \S+`, "$1 other", "Service: the selector"},
		"selector of the budget":     {"everything", `(AlwaysAllow\s+selector:\s+matchLabels:\s+app.kubernetes.io/instance:) \S+`, "$1 other", "PodDisruptionBudget: the selector"},
		"selector of the policy":     {"everything", `(podSelector:\s+matchLabels:\s+app.kubernetes.io/instance:) \S+`, "$1 other", "NetworkPolicy: the selector"},
		"selector of the monitor":    {"everything", `(spec:\s+selector:\s+matchLabels:\s+app.kubernetes.io/instance:) \S+(\s+app.kubernetes.io/name: \S+\s+namespaceSelector)`, "$1 other$2", "ServiceMonitor: the selector"},
		"selector of the spread":     {"everything", `(- labelSelector:\s+matchLabels:\s+app.kubernetes.io/instance:) \S+`, "$1 other", "topologySpreadConstraints: the selector"},
		"version in the selector":    {"everything", `(selector:\s+matchLabels:\n\s+)(app.kubernetes.io/instance:.*\n(?:.*\n)*?  template:)`, "${1}app.kubernetes.io/version: 0.1.0\n      $2", "the selector has app.kubernetes.io/version"},
		"label that is none":         {"everything", `(template:\s+metadata:\s+labels:)`, "$1\n        tier: a b", "label tier=a b"},
		"port of a probe":            {"everything", `httpGet: \{path: /readyz, port: http\}`, "httpGet: {path: /readyz, port: web}", `/readyz: the container has no port "web"`},
		"path of a probe":            {"everything", `path: /livez`, "path: /readyz", "probe for /livez: path /readyz"},
		"port of the Service":        {"everything", `targetPort: http`, "targetPort: web", `Service: the container has no port "web"`},
		"port of the policy":         {"everything", `ports: \[\{port: http,`, "ports: [{port: web,", `NetworkPolicy: the container has no port "web"`},
		"port of the monitor":        {"everything", `- port: http\n(\s+path: /metrics)`, "- port: web\n$1", "ServiceMonitor: the Service has no port web"},
		"PORT":                       {"everything", `name: PORT, value: "\d+"`, `name: PORT, value: "1"`, `PORT is "1"`},
		"variable twice":             {"everything", `name: LOG_LEVEL`, "name: PORT", "PORT is set twice"},
		"grace period":               {"everything", `terminationGracePeriodSeconds: \d+`, "terminationGracePeriodSeconds: 90", "a grace period of 1m30s for a shutdown timeout of 1m30s"},
		"SHUTDOWN_TIMEOUT":           {"everything", `SHUTDOWN_TIMEOUT, value: "1m30s"`, `SHUTDOWN_TIMEOUT, value: "soon"`, "SHUTDOWN_TIMEOUT: time"},
		"target of KEDA":             {"everything", `scaleTargetRef: \{name: penstock\}`, "scaleTargetRef: {name: other}", "ScaledObject: its target is other"},
		"authentication of KEDA":     {"everything", `authenticationRef: \{name: penstock\}`, "authenticationRef: {name: other}", "no TriggerAuthentication other"},
		"in flight":                  {"everything", `scaleOnInFlight: "true"`, `scaleOnInFlight: "false"`, "what is in flight does not count"},
		"replicas beside KEDA":       {"everything", `minReadySeconds:`, "replicas: 1\n  minReadySeconds:", "replicas in the Deployment: true, an autoscaler: true"},
		"target of the HPA":          {"hpa", `name: penstock\}`, "name: other}", "HorizontalPodAutoscaler: its target"},
		"volume that isn't there":    {"everything", `mountPath: /run/secrets/penstock`, "mountPath: /run, subPath: a}\n            - {name: none, mountPath: /x", "no volume none to mount"},
		"volume mounted nowhere":     {"everything", `      volumes:\n`, "      volumes:\n        - {name: idle, emptyDir: {}}\n", "the volume idle is mounted nowhere"},
		"ConfigMap that isn't":       {"pipelines", `configMap: \{name: penstock\}`, "configMap: {name: other}", "no ConfigMap other"},
		"file that isn't":            {"pipelines", `- /etc/penstock/orders.yaml`, "- /etc/penstock/order.yaml", "/etc/penstock/order.yaml is in no ConfigMap"},
		"key of the Secret":          {"everything", `(kind: Secret\n(?:.*\n)*?data:\n(?:.*\n)*?\s+)redis-password:`, "${1}redis:", "the Secret penstock has no redis-password"},
		"service account":            {"everything", `serviceAccountName: \S+`, "serviceAccountName: other", "the pod's service account is other"},
		"root":                       {"everything", `runAsNonRoot: true`, "runAsNonRoot: false", "may run as root"},
		"another user":               {"everything", `runAsUser: 65532`, "runAsUser: 1000", "not the image's user"},
		"privileges":                 {"everything", `allowPrivilegeEscalation: false`, "allowPrivilegeEscalation: true", "escalates privileges"},
		"writable root":              {"everything", `readOnlyRootFilesystem: true`, "readOnlyRootFilesystem: false", "writes to its root"},
		"token":                      {"everything", `(serviceAccountName: \S+\s+#.*\s+automountServiceAccountToken:) false`, "$1 true", "has a token for Kubernetes"},
		"no seccomp":                 {"everything", `seccompProfile: \{type: RuntimeDefault\}`, "seccompProfile: {type: Unconfined}", "no seccomp profile"},
		"capabilities":               {"everything", `capabilities: \{drop: \[ALL\]\}`, "capabilities: {drop: [ALL], add: [NET_ADMIN]}", "keeps capabilities"},
		"no probe":                   {"everything", `readinessProbe:\n.*\n`, "readinessProbe:\n", "no probe for readiness"},
		"no Deployment":              {"everything", `(?s)# deployment.yaml.*?\n---\n`, "", "no Deployment"},
		"rendered twice":             {"everything", `\A`, "apiVersion: v1\nkind: Secret\nmetadata: {name: penstock, namespace: cache}\n---\n", "rendered twice"},
		"volume that is there twice": {"everything", `      volumes:\n`, "      volumes:\n        - {name: penstock-secrets, emptyDir: {}}\n", "penstock-secrets is there twice"},
	} {
		t.Run(name, func(t *testing.T) {
			text := read(c.of)
			pattern := regexp.MustCompile(c.from)
			at := pattern.FindStringSubmatchIndex(text)
			if at == nil {
				t.Fatalf("%s has nothing like %s", c.of, c.from)
			}
			text = text[:at[0]] + string(pattern.ExpandString(nil, c.to, text, at)) + text[at[1]:]
			o, err := decode(text)
			got := fmt.Sprint(err)
			if err == nil {
				got = strings.Join(o.problems(), "\n")
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("want %q, got\n%s", c.want, got)
			}
		})
	}
}

func TestChart_gracePeriodIsTheShutdownTimeoutAndTheMargin(t *testing.T) {
	own := func(timeout string) string {
		return fmt.Sprintf("pipelines: {orders: %q}", timeout+"\nname: orders\nservice: {http: {address: \":4000\"}}\nsource: {generate: {}}\nsink: {drop: {}}\n")
	}
	for name, c := range map[string]struct {
		values string
		want   int64
	}{
		"as it comes":             {"", 18},
		"minutes and seconds":     {"shutdownTimeout: 1m30s", 100},
		"minutes":                 {"shutdownTimeout: 2m", 130},
		"an hour":                 {"shutdownTimeout: 1h0m1s", 3611},
		"a fraction":              {"shutdownTimeout: 1.5m", 100},
		"rounded up":              {"shutdownTimeout: 1500ms", 12},
		"another margin":          {"{shutdownTimeout: 20s, shutdownMargin: 40s}", 60},
		"a file's own":            {own("shutdown_timeout: 45s"), 55},
		"a file without":          {own("") + "\nshutdownTimeout: 2s", 18}, // penstock's own default, 8s
		"a file with ours":        {own("shutdown_timeout: ${SHUTDOWN_TIMEOUT:-8s}") + "\nshutdownTimeout: 20s", 30},
		"a file with ours, short": {own("shutdown_timeout: ${SHUTDOWN_TIMEOUT:-8s}") + "\nshutdownTimeout: 2s", 12},
		"a file with ours, must":  {own("shutdown_timeout: ${SHUTDOWN_TIMEOUT:?from the chart}") + "\nshutdownTimeout: 3s", 13},
		"the longest of both":     {own("shutdown_timeout: 5s") + "\nshutdownTimeout: 20s", 30},
	} {
		t.Run(name, func(t *testing.T) {
			v := inContext(t, c.values)
			if got := *must(t, v).deployment.Spec.Template.Spec.TerminationGracePeriodSeconds; got != c.want {
				t.Errorf("%d s, want %d", got, c.want)
			}
		})
	}
}

func TestChart_memoryLimitOfGoIsFourFifthsOfTheContainers(t *testing.T) {
	for limit, want := range map[string]string{
		"256Mi": "214748364", "1Gi": "858993459", "0.5Gi": "429496729", "500M": "400000000", "1000000k": "800000000", "1000000000": "800000000", "": "",
	} {
		resources := fmt.Sprintf("resources: {limits: {memory: %s}}", limit)
		if limit == "" {
			resources = "resources: {limits: {memory: null}}"
		}
		got := ""
		for _, variable := range must(t, minimal(t, resources)).deployment.Spec.Template.Spec.Containers[0].Env {
			if variable.Name == "GOMEMLIMIT" {
				got = variable.Value
			}
		}
		if got != want {
			t.Errorf("%q: %s, want %s", limit, got, want)
		}
	}
}

func TestChart_podsRestartWhenTheirFilesChange(t *testing.T) {
	annotations := func(of string) map[string]string {
		v := inContext(t, of)
		return must(t, v).deployment.Spec.Template.Annotations
	}
	for name, c := range map[string]struct {
		one, other string
		restarts   bool
	}{
		"secret": {"secrets: {redis-password: {value: a}}", "secrets: {redis-password: {value: b}}", true},
		"pipeline": {`pipelines: {a: "name: a\nservice: {http: {address: \":4000\"}}"}`,
			`pipelines: {a: "name: b\nservice: {http: {address: \":4000\"}}"}`, true},
		"neither":       {"replicaCount: 1", "replicaCount: 2", false},
		"somebody else": {"secrets: {redis-password: {existingSecret: a}}", "secrets: {redis-password: {existingSecret: b}}", false}, // the volume changes, which restarts them
	} {
		t.Run(name, func(t *testing.T) {
			if restarts := !maps.Equal(annotations(c.one), annotations(c.other)); restarts != c.restarts {
				t.Errorf("restarts: %t", restarts)
			}
			if !maps.Equal(annotations(c.one), annotations(c.one)) {
				t.Error("restarts with nothing changed")
			}
		})
	}
}

func TestChart_wrongValuesAreRefused(t *testing.T) {
	const service = `\nservice: {http: {address: \":${PORT:-4000}\"}}`
	for name, c := range map[string]struct {
		values string // on top of the minimal ones, unless they have pipelines
		want   string
	}{
		"unknown":                   {"replicas: 3", "additional properties 'replicas' not allowed"},
		"unknown, deep":             {"cache: {redis: {hostname: x}}", "additional properties 'hostname' not allowed"},
		"unknown in a directory":    {"directories: [{name: a, path: /a, claim: x}]", "additional properties 'claim' not allowed"},
		"unknown in a secret":       {"secrets: {redis-password: {secret: x}}", "additional properties 'secret' not allowed"},
		"a number as text":          {`replicaCount: "3"`, "got string, want integer"},
		"a privileged port":         {"port: 80", "minimum: got 80, want 1,024"},
		"a queue that is no URL":    {"cache: {queueUrl: events}", "at '/cache/queueUrl'"},
		"a host that is a URL":      {"cache: {redis: {host: 'redis://x'}}", "at '/cache/redis/host'"},
		"a batch of 11":             {"cache: {batchSize: 11}", "maximum: got 11, want 10"},
		"a TTL of 0":                {"cache: {keysTtlSeconds: 0}", "at '/cache/keysTtlSeconds'"},
		"a policy":                  {"cache: {updatePolicy: NEVER}", "at '/cache/updatePolicy'"},
		"a level":                   {"logLevel: loud", "at '/logLevel'"},
		"a timeout without unit":    {"shutdownTimeout: '8'", "at '/shutdownTimeout'"},
		"a timeout of nothing":      {"shutdownTimeout: 0s", `shutdownTimeout: want more than 0, got "0s"`},
		"a margin that is short":    {"shutdownMargin: 6s", "shutdownMargin: want at least 7s"},
		"a role that is none":       {"aws: {roleArn: penstock}", "at '/aws/roleArn'"},
		"a digest that is none":     {"image: {digest: latest}", "at '/image/digest'"},
		"a probe's path":            {"probes: {readiness: {path: /health}}", "at '/probes/readiness/path'"},
		"a queue length":            {"keda: {queueLength: 5}", "minimum: got 5, want 1,025"},
		"memory":                    {"resources: {limits: {memory: much}}", `resources.limits.memory: want a quantity such as 256Mi or 1Gi, got "much"`},
		"no queue, no Redis":        {"cache: {queueUrl: '', redis: {host: ''}}", "cache.queueUrl: required: the URL of the queue to consume (or pipelines of your own)\n  cache.redis.host: required: the host of the Redis to fill"},
		"no image":                  {"image: {repository: ''}", "image.repository: required"},
		"two autoscalers":           {"{autoscaling: {enabled: true}, keda: {enabled: true}}", "autoscaling and keda are both enabled"},
		"least and most":            {"autoscaling: {minReplicas: 7}", "autoscaling: minReplicas is more than maxReplicas"},
		"least and most of KEDA":    {"keda: {minReplicas: 7}", "keda: minReplicas is more than maxReplicas"},
		"a percentage of nothing":   {"{autoscaling: {enabled: true}, resources: {requests: {cpu: null}}}", "autoscaling: resources.requests.cpu is not set"},
		"no region for KEDA":        {"{keda: {enabled: true}, cache: {queueUrl: 'http://127.0.0.1:4566/1/q'}}", "aws.region: required: http://127.0.0.1:4566/1/q doesn't tell its region"},
		"two poison queues":         {"{cache: {poison: {queueUrl: 'https://x/1/q', dir: /p}}}", "cache.poison: queueUrl and dir are both set"},
		"poison nowhere":            {"cache: {poison: {dir: /var/lib/penstock}}", "cache.poison.dir: /var/lib/penstock is in none of directories"},
		"poison beside a directory": {"{cache: {poison: {dir: /var/lib/penstock2}}, directories: [{name: p, path: /var/lib/penstock, existingClaim: p}]}", "is in none of directories"},
		"poison that goes":          {"{cache: {poison: {dir: /p/q}}, directories: [{name: p, path: /p, emptyDir: {}}]}", "cache.poison.dir: /p/q is an emptyDir"},
		"a folder of nothing":       {"directories: [{name: p, path: /p}]", "directories: p: want existingClaim or emptyDir"},
		"a folder of both":          {"directories: [{name: p, path: /p, existingClaim: c, emptyDir: {}}]", "directories: p: want existingClaim or emptyDir"},
		"a secret of nothing":       {"secrets: {redis-password: {}}", "secrets.redis-password: want existingSecret or value"},
		"a secret of both":          {"secrets: {redis-password: {value: a, existingSecret: b}}", "secrets.redis-password: want existingSecret or value"},
		"a secret nobody reads":     {"secrets: {redis: {value: a}}", "secrets.redis: the built-in cache service reads redis-password, aws-secret-access-key, server-api-key, sentry-dsn"},
		"half a key":                {"aws: {accessKeyId: AKIA}", "aws.accessKeyId and secrets.aws-secret-access-key: both or neither"},
		"the other half":            {"secrets: {aws-secret-access-key: {value: a}}", "aws.accessKeyId and secrets.aws-secret-access-key: both or neither"},
		"key and role":              {"{aws: {accessKeyId: AKIA, roleArn: 'arn:aws:iam::123456789012:role/x'}, secrets: {aws-secret-access-key: {value: a}}}", "aws: roleArn and accessKeyId are both set"},
		"a role for nobody":         {"{aws: {roleArn: 'arn:aws:iam::123456789012:role/x'}, serviceAccount: {create: false}}", "aws.roleArn: with serviceAccount.create: false"},
		"a variable of the chart's": {"env: {PORT: 1}", "env.PORT: the chart sets it"},

		"cache and pipelines":     {`{pipelines: {a: "name: a` + service + `"}, cache: {queueUrl: "https://x/1/q"}}`, "cache and pipelines are both set"},
		"a pipeline's name":       {`pipelines: {A.yaml: "name: a"}`, "'A.yaml' does not match pattern"},
		"poison that goes, too":   {`{pipelines: {a: "poison_queue: {file: {dir: /p}}` + service + `"}, directories: [{name: p, path: /p, emptyDir: {}}]}`, "pipelines.a: poison_queue.file.dir: /p is an emptyDir"},
		"poison in the container": {`pipelines: {a: "poison_queue: {file: {dir: poison}}` + service + `"}`, "pipelines.a: poison_queue.file.dir: poison is in none of directories"},
		"not YAML":                {`pipelines: {a: "name: [a"}`, "pipelines.a: not YAML"},
		"no service":              {`pipelines: {a: "name: a"}`, "pipelines: one of them must have a service, for the probes: service: {http: {address: \":${PORT:-4000}\"}}; 0 have"},
		"two services":            {`pipelines: {a: "name: a` + service + `", b: "name: b` + service + `"}`, "2 have"},
		"service on loopback":     {`pipelines: {a: "service: {http: {address: \"127.0.0.1:4000\"}}"}`, "pipelines.a: service.http.address: probes come to port 4000 of all interfaces"},
		"service on another":      {`pipelines: {a: "service: {http: {address: \":8080\"}}"}`, `want ":${PORT:-4000}", got ":8080"`},
		"service without http":    {`pipelines: {a: "service: {admin: {address: \":4000\"}}"}`, "service.http.address"},
		"unreadable timeout":      {`pipelines: {a: "shutdown_timeout: ${DRAIN:-8s}` + service + `"}`, "pipelines.a: shutdown_timeout: ${DRAIN:-8s}: the chart can't tell how long that is"},
		"timeout within a text":   {`pipelines: {a: "shutdown_timeout: 1${SHUTDOWN_TIMEOUT}` + service + `"}`, "the chart can't tell how long that is"},
		"timeout that is none":    {`pipelines: {a: "shutdown_timeout: soon` + service + `"}`, `pipelines.a: shutdown_timeout: want a duration such as 8s or 1m30s, got "soon"`},
		"no queue for KEDA":       {`{pipelines: {a: "name: a` + service + `"}, keda: {enabled: true}}`, "keda.queueUrls: required with pipelines of your own"},
		"a key for a pipeline":    {`{pipelines: {a: "name: a` + service + `"}, aws: {accessKeyId: AKIA}}`, "aws.accessKeyId: for the built-in cache service"},
	} {
		t.Run(name, func(t *testing.T) {
			v := inContext(t, c.values)
			if _, _, err := render(v); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
		})
	}
}

// A misspelt value must not pass for one that nobody set.
func TestSchema_isClosed(t *testing.T) {
	text, err := os.ReadFile("penstock/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	free := []string{}
	var walk func(path string, schema any)
	walk = func(path string, schema any) {
		s, ok := schema.(values)
		if !ok {
			return
		}
		properties, _ := s["properties"].(values)
		extra, said := s["additionalProperties"]
		switch {
		case s["type"] != "object":
		case properties != nil && (!said || extra == true):
			t.Errorf("%s: additionalProperties is %v", path, extra)
		case properties == nil && !said:
			free = append(free, path)
		}
		for name, property := range properties {
			walk(path+"."+name, property)
		}
		walk(path+".*", extra)
		walk(path+"[]", s["items"])
	}
	walk("", parse(t, string(text)))
	slices.Sort(free)
	// What Kubernetes has a type of its own for, which the API server checks.
	want := []string{".affinity", ".envFrom[]", ".extraVolumeMounts[]", ".extraVolumes[]", ".global", ".imagePullSecrets[]", ".networkPolicy.egress[]",
		".networkPolicy.httpsTo[]", ".networkPolicy.ingressFrom[]", ".networkPolicy.redisTo[]", ".serviceMonitor.metricRelabelings[]",
		".serviceMonitor.relabelings[]", ".tolerations[]", ".topologySpreadConstraints[]"}
	if !slices.Equal(free, want) {
		t.Errorf("without a rule: %v", free)
	}
}
