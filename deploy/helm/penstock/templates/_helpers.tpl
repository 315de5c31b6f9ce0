{{- define "penstock.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "penstock.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "penstock.selector" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/name: {{ include "penstock.name" . }}
{{- end }}

{{- define "penstock.labels" -}}
{{- $own := include "penstock.selector" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" .Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") }}
{{- merge $own .Values.commonLabels | toYaml }}
{{- end }}

{{- define "penstock.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "penstock.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "penstock.image" -}}
{{- .Values.image.repository }}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ default .Chart.AppVersion .Values.image.tag }}{{ end }}
{{- end }}

{{/* A Go duration, as "1m30s", in seconds, rounded up. The dict has value, and name for the message. */}}
{{- define "penstock.seconds" -}}
{{- $value := toString .value }}
{{- if not (regexMatch "^([0-9]+([.][0-9]+)?(ms|s|m|h))+$" $value) }}
{{- fail (printf "%s: want a duration such as 8s or 1m30s, got %q" .name $value) }}
{{- end }}
{{- $ms := 0.0 }}
{{- range regexFindAll "[0-9.]+(ms|s|m|h)" $value -1 }}
{{- $unit := regexFind "[a-z]+" . }}
{{- $ms = addf $ms (mulf (trimSuffix $unit . | float64) (get (dict "ms" 1.0 "s" 1000.0 "m" 60000.0 "h" 3600000.0) $unit)) }}
{{- end }}
{{- if not (gt $ms 0.0) }}
{{- fail (printf "%s: want more than 0, got %q" .name $value) }}
{{- end }}
{{- divf $ms 1000.0 | ceil | int64 }}
{{- end }}

{{/*
The pod's grace period: the longest shutdown_timeout of what runs, and the margin. Pipelines of one process stop side by
side. A file that has a timeout of its own is read for it; one that makes it of other variables can't be.
*/}}
{{- define "penstock.gracePeriod" -}}
{{- $ours := include "penstock.seconds" (dict "name" "shutdownTimeout" "value" .Values.shutdownTimeout) | int64 }}
{{- $longest := $ours }}
{{- range $name, $text := .Values.pipelines }}
{{- $timeout := (fromYaml $text).shutdown_timeout }}
{{- if empty $timeout }}
{{- $longest = max $longest 8 }}
{{- else if regexMatch "^[$][{]SHUTDOWN_TIMEOUT(:-[^${}]*|:[?][^${}]*)?[}]$" (toString $timeout) }}
{{- else if contains "$" (toString $timeout) }}
{{- fail (printf "pipelines.%s: shutdown_timeout: %s: the chart can't tell how long that is, and the pod's grace period depends on it: say ${SHUTDOWN_TIMEOUT:-8s}, and set the value shutdownTimeout" $name $timeout) }}
{{- else }}
{{- $longest = max $longest (include "penstock.seconds" (dict "name" (printf "pipelines.%s: shutdown_timeout" $name) "value" $timeout) | int64) }}
{{- end }}
{{- end }}
{{- $margin := include "penstock.seconds" (dict "name" "shutdownMargin" "value" .Values.shutdownMargin) | int64 }}
{{- if lt $margin 7 }}
{{- fail (printf "shutdownMargin: want at least 7s, which closing may take after shutdownTimeout, got %q" .Values.shutdownMargin) }}
{{- end }}
{{- add $longest $margin }}
{{- end }}

{{/* A Kubernetes quantity in bytes. */}}
{{- define "penstock.bytes" -}}
{{- $quantity := kindIs "float64" . | ternary (printf "%.0f" .) (toString .) }}
{{- if not (regexMatch "^[0-9]+([.][0-9]+)?([KMGT]i|[kMGT])?$" $quantity) }}
{{- fail (printf "resources.limits.memory: want a quantity such as 256Mi or 1Gi, got %q" $quantity) }}
{{- end }}
{{- $unit := regexFind "[A-Za-z]+" $quantity }}
{{- $factor := get (dict "" 1.0 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0) $unit }}
{{- mulf (trimSuffix $unit $quantity | float64) $factor | int64 }}
{{- end }}

{{/* The queues that KEDA looks at, as a JSON list. */}}
{{- define "penstock.kedaQueues" -}}
{{- $queues := .Values.keda.queueUrls }}
{{- if and (empty $queues) .Values.cache.queueUrl }}
{{- $queues = splitList "," (nospace .Values.cache.queueUrl) }}
{{- end }}
{{- if empty $queues }}
{{- fail "keda.queueUrls: required with pipelines of your own: the URLs of the queues that they consume" }}
{{- end }}
{{- toJson $queues }}
{{- end }}

{{/* The region of a queue: aws.region is for the built-in service's; a URL of AWS's own knows better. */}}
{{- define "penstock.region" -}}
{{- $region := regexFind "[a-z]{2}(-[a-z]+)+-[0-9]+" (urlParse .queue).host }}
{{- required (printf "aws.region: required: %s doesn't tell its region, and KEDA needs to know" .queue) (default .region $region) }}
{{- end }}

{{/* What the chart's own Secret holds, as JSON. */}}
{{- define "penstock.ownSecrets" -}}
{{- $own := dict }}
{{- range $name, $secret := .Values.secrets }}
{{- if $secret.value }}{{ $_ := set $own $name $secret.value }}{{ end }}
{{- end }}
{{- toJson $own }}
{{- end }}

{{/* What is wrong with a folder for poisoned messages, or nothing. What other variables name can't be judged here. */}}
{{- define "penstock.poisonDir" -}}
{{- $in := "" }}
{{- range .directories }}{{ if hasPrefix (printf "%s/" .path) (printf "%s/" $.dir) }}{{ $in = . }}{{ end }}{{ end }}
{{- if contains "$" .dir }}
{{- else if not $in }}{{ .name }}: {{ .dir }} is in none of directories: it would be read-only, or gone with the container
{{- else if not $in.existingClaim }}{{ .name }}: {{ .dir }} is an emptyDir: poisoned messages, which are no longer in the queue, would be gone with the pod; it needs an existingClaim
{{- end }}
{{- end }}

{{/* What the schema can't say. Every mistake is told at once. */}}
{{- define "penstock.check" -}}
{{- $problems := list }}
{{- $v := .Values }}
{{- $knownSecrets := list "redis-password" "aws-secret-access-key" "server-api-key" "sentry-dsn" }}
{{- if not $v.image.repository }}{{ $problems = append $problems "image.repository: required: where the cluster pulls the image from" }}{{ end }}
{{- if empty $v.pipelines }}
  {{- if not $v.cache.queueUrl }}{{ $problems = append $problems "cache.queueUrl: required: the URL of the queue to consume (or pipelines of your own)" }}{{ end }}
  {{- if not $v.cache.redis.host }}{{ $problems = append $problems "cache.redis.host: required: the host of the Redis to fill" }}{{ end }}
  {{- if and $v.cache.poison.queueUrl $v.cache.poison.dir }}{{ $problems = append $problems "cache.poison: queueUrl and dir are both set: there is one poison queue" }}{{ end }}
  {{- with $v.cache.poison.dir }}
    {{- with include "penstock.poisonDir" (dict "name" "cache.poison.dir" "dir" . "directories" $v.directories) }}{{ $problems = append $problems . }}{{ end }}
  {{- end }}
  {{- range $name, $_ := $v.secrets }}
    {{- if not (has $name $knownSecrets) }}{{ $problems = append $problems (printf "secrets.%s: the built-in cache service reads %s" $name (join ", " $knownSecrets)) }}{{ end }}
  {{- end }}
  {{- if ne (empty $v.aws.accessKeyId) (not (hasKey $v.secrets "aws-secret-access-key")) }}{{ $problems = append $problems "aws.accessKeyId and secrets.aws-secret-access-key: both or neither" }}{{ end }}
  {{- if and $v.aws.roleArn $v.aws.accessKeyId }}{{ $problems = append $problems "aws: roleArn and accessKeyId are both set: the key would win, and the role would never be used" }}{{ end }}
{{- else }}
  {{- if or $v.cache.queueUrl $v.cache.redis.host $v.cache.redis.user $v.cache.poison.queueUrl $v.cache.poison.dir }}{{ $problems = append $problems "cache and pipelines are both set: cache configures the built-in service, which does not run beside files of your own" }}{{ end }}
  {{- if $v.aws.accessKeyId }}{{ $problems = append $problems "aws.accessKeyId: for the built-in cache service; a pipeline of your own has access_key_id and secret_access_key: ${file:/run/secrets/penstock/…}" }}{{ end }}
  {{- $services := list }}
  {{- range $name, $text := $v.pipelines }}
    {{- $file := fromYaml $text }}
    {{- if hasKey $file "Error" }}{{ $problems = append $problems (printf "pipelines.%s: not YAML: %s" $name $file.Error) }}
    {{- else }}
    {{- with dig "poison_queue" "file" "dir" "" $file }}
      {{- with include "penstock.poisonDir" (dict "name" (printf "pipelines.%s: poison_queue.file.dir" $name) "dir" . "directories" $v.directories) }}{{ $problems = append $problems . }}{{ end }}
    {{- end }}
    {{- if hasKey $file "service" }}
      {{- $services = append $services $name }}
      {{- $address := dig "service" "http" "address" "" $file | toString }}
      {{- $port := regexFind ":([0-9]+|[$][{]PORT(:-[0-9]+)?[}])$" $address }}
      {{- $host := trimSuffix $port $address }}
      {{- if or (empty $port) (not (has $host (list "" "0.0.0.0" "[::]"))) (and (not (contains "$" $port)) (ne $port (printf ":%v" $v.port))) }}
        {{- $problems = append $problems (printf "pipelines.%s: service.http.address: probes come to port %v of all interfaces: want \":${PORT:-4000}\", got %q" $name $v.port $address) }}
      {{- end }}
    {{- end }}
    {{- end }}
  {{- end }}
  {{- if ne (len $services) 1 }}{{ $problems = append $problems (printf "pipelines: one of them must have a service, for the probes: service: {http: {address: \":${PORT:-4000}\"}}; %d have" (len $services)) }}{{ end }}
{{- end }}
{{- range $name, $secret := $v.secrets }}
  {{- if eq (empty $secret.value) (empty $secret.existingSecret) }}{{ $problems = append $problems (printf "secrets.%s: want existingSecret or value, one of them" $name) }}{{ end }}
{{- end }}
{{- range $v.directories }}
  {{- if eq (empty .existingClaim) (not (hasKey . "emptyDir")) }}{{ $problems = append $problems (printf "directories: %s: want existingClaim or emptyDir, one of them" .name) }}{{ end }}
{{- end }}
{{- $set := (include "penstock.env" . | fromYaml).env }}
{{- range $set }}
  {{- if hasKey $v.env .name }}{{ $problems = append $problems (printf "env.%s: the chart sets it, from a value of its own" .name) }}{{ end }}
{{- end }}
{{- if and $v.autoscaling.enabled $v.keda.enabled }}{{ $problems = append $problems "autoscaling and keda are both enabled: KEDA makes a HorizontalPodAutoscaler itself, and two would fight" }}{{ end }}
{{- range list "autoscaling" "keda" }}
  {{- $scaler := get $v . }}
  {{- if gt ($scaler.minReplicas | int64) ($scaler.maxReplicas | int64) }}{{ $problems = append $problems (printf "%s: minReplicas is more than maxReplicas" .) }}{{ end }}
{{- end }}
{{- if and $v.autoscaling.enabled (empty (dig "requests" "cpu" "" $v.resources)) }}{{ $problems = append $problems "autoscaling: resources.requests.cpu is not set, and the target is a percentage of it" }}{{ end }}
{{- if and $v.aws.roleArn (not $v.serviceAccount.create) }}{{ $problems = append $problems "aws.roleArn: with serviceAccount.create: false the annotation eks.amazonaws.com/role-arn is for you to make" }}{{ end }}
{{- if $problems }}{{ fail (printf "\n\n  %s\n" (join "\n  " $problems)) }}{{ end }}
{{- end }}

{{/* The variables that the chart sets, as {env: […]}. */}}
{{- define "penstock.env" -}}
{{- $v := .Values }}
env:
  - {name: PORT, value: {{ $v.port | toString | quote }}}
  - {name: LOG_LEVEL, value: {{ $v.logLevel | quote }}}
  - {name: SHUTDOWN_TIMEOUT, value: {{ $v.shutdownTimeout | quote }}}
  {{- with dig "limits" "memory" "" $v.resources }}
  - {name: GOMEMLIMIT, value: {{ div (mul (include "penstock.bytes" . | int64) 8) 10 | toString | quote }}}
  {{- end }}
  {{- with $v.aws.region }}
  - {name: AWS_REGION, value: {{ . | quote }}}
  {{- end }}
  {{- with $v.aws.endpointUrl }}
  - {name: AWS_ENDPOINT_URL_SQS, value: {{ . | quote }}}
  {{- end }}
  {{- if empty $v.pipelines }}
  - {name: QUEUE_URL, value: {{ $v.cache.queueUrl | quote }}}
  - {name: BATCH_SIZE, value: {{ $v.cache.batchSize | toString | quote }}}
  - {name: REDIS_HOST, value: {{ $v.cache.redis.host | quote }}}
  - {name: REDIS_PORT, value: {{ $v.cache.redis.port | toString | quote }}}
  - {name: REDIS_DB, value: {{ $v.cache.redis.db | toString | quote }}}
  - {name: REDIS_TLS, value: {{ $v.cache.redis.tls | toString | quote }}}
  {{- with $v.cache.redis.user }}
  - {name: REDIS_USER, value: {{ . | quote }}}
  {{- end }}
  - {name: ENVIRONMENT_PREFIX, value: {{ $v.cache.environmentPrefix | quote }}}
  - {name: KEYS_TTL_IN_SECS, value: {{ $v.cache.keysTtlSeconds | int64 | toString | quote }}}
  - {name: CACHE_UPDATE_POLICY, value: {{ $v.cache.updatePolicy | quote }}}
  {{- with $v.cache.edgeApiUrl }}
  - {name: EDGE_API_URL, value: {{ . | quote }}}
  {{- end }}
  {{- with $v.cache.poison.queueUrl }}
  - {name: POISON_QUEUE_URL, value: {{ . | quote }}}
  {{- end }}
  {{- with $v.cache.poison.dir }}
  - {name: POISON_DIR, value: {{ . | quote }}}
  {{- end }}
  {{- with $v.aws.accessKeyId }}
  - {name: AWS_ACCESS_KEY_ID, value: {{ . | quote }}}
  {{- end }}
  {{- range $name, $_ := $v.secrets }}
  - {name: {{ $name | upper | replace "-" "_" }}_FILE, value: /run/secrets/penstock/{{ $name }}}
  {{- end }}
  {{- end }}
{{- end }}
