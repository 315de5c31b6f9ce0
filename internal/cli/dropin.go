package cli

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/internal/edgeapi"
	"github.com/penstock-dev/penstock/internal/errorreport"
	"github.com/penstock-dev/penstock/internal/plaintext"
)

// dropIn has the environment variables of the existing cache service, in the form that configs/persistent-cache.yaml
// interpolates: aliases under their first name, secrets read from their files, booleans as true or false, the two units
// of the TTL as one, the batch size within what SQS allows. The file stays a plain pipeline file that way: with
// variables in this form it also works by itself.
type dropIn struct {
	files    map[string]string // of secrets, by variable
	readFile func(string) ([]byte, error)
	// values are the variables that differ from those of the process.
	values map[string]string
	// poison is the variable that says where permanent failures go: "POISON_DIR", "POISON_QUEUE_URL" or "".
	poison string
	// warnings and notes are said once at start.
	warnings, notes []string
}

// dropInNeeds says what the command at hand will use: problems with anything else are no problem.
type dropInNeeds struct{ queue, redis bool }

// poisonSections are what the variables that name a poison queue add to the pipeline file: a section with
// nothing in it would be a mistake there, so it can't always stand in the file.
var poisonSections = map[string]string{
	"POISON_DIR": `
poison_queue:
  file:
    dir: ${POISON_DIR}
`,
	"POISON_QUEUE_URL": `
poison_queue:
  sqs:
    queue_url: ${POISON_QUEUE_URL}
    endpoint: ${AWS_ENDPOINT_URL_SQS:-}
    access_key_id: ${AWS_ACCESS_KEY_ID:-}
    secret_access_key: ${AWS_SECRET_ACCESS_KEY:-}
    session_token: ${AWS_SESSION_TOKEN:-}
`,
}

// unusedVariables are accepted because the existing service has them; they change nothing here.
var unusedVariables = []string{
	"CACHE_LOCK_RETRY_COUNT",
}

// newDropIn reads and checks all variables. The error joins all problems, each naming its variable.
func newDropIn(lookup func(string) (string, bool), readFile func(string) ([]byte, error), needs dropInNeeds) (*dropIn, error) {
	r := &dropInReader{dropIn: &dropIn{values: map[string]string{}, files: map[string]string{}, readFile: readFile}, lookup: lookup, broken: map[string]bool{}}
	r.required(needs)
	if needs.queue {
		r.queue()
	}
	r.redis()
	r.ttl()
	r.oneOf("CACHE_UPDATE_POLICY", "UPSERT", "UPDATE_IF_EXISTS")
	if r.get("CACHE_UPDATE_POLICY") == "update_if_exists" {
		r.warnings = append(r.warnings, "CACHE_UPDATE_POLICY=UPDATE_IF_EXISTS: what a customer's first event finds in Redis now "+
			"depends on the order of arrival, so a replay may end in another state; UPSERT doesn't have that")
	}
	r.edge()
	r.integer("PORT", 1, 65535)
	r.duration("SHUTDOWN_TIMEOUT")
	if _, err := logLevel(r.get); err != nil {
		r.problem("%w", err)
	}
	if _, err := errorreport.FromEnv(trimmed(r.lookup), r.readFile); err != nil {
		r.problems = append(r.problems, err)
	}
	r.poisonQueue()
	if set := slices.DeleteFunc(slices.Clone(unusedVariables), func(name string) bool { return r.get(name) == "" }); len(set) > 0 {
		r.notes = append(r.notes, "set, but not used by this version: "+strings.Join(set, ", "))
	}
	return r.dropIn, errors.Join(r.problems...)
}

// Lookup looks variables up for interpolation: the values in their plain form, over what else is set.
func (d *dropIn) Lookup(lookup func(string) (string, bool)) func(string) (string, bool) {
	values, files := maps.Clone(d.values), maps.Clone(d.files)
	return func(name string) (string, bool) {
		if file, ok := files[name]; ok { // which may hold another secret by now
			if content, err := d.readFile(file); err == nil && trimLineEnds(string(content)) != "" {
				return trimLineEnds(string(content)), true
			}
		}
		if value, ok := values[name]; ok {
			return value, value != ""
		}
		return lookup(name)
	}
}

type dropInReader struct {
	*dropIn
	lookup   func(string) (string, bool)
	problems []error
	broken   map[string]bool // variables that hold what can't be right
}

func (r *dropInReader) problem(format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf(format, args...))
}

// get returns the variable's plain value; what is set to nothing is not set. Line ends at its end are left out, and
// what can't be right is a problem, once.
func (r *dropInReader) get(name string) string {
	if value, ok := r.values[name]; ok {
		return value
	}
	value, set := r.lookup(name)
	if !set {
		return ""
	}
	if trimmed := trimLineEnds(value); trimmed != value {
		r.notes = append(r.notes, trimmedNote(name))
		value = trimmed
	}
	if err := plaintext.Check(value); err != nil {
		r.problem("%s: %w", name, err)
		r.broken[name] = true
		value = ""
	}
	r.values[name] = value
	return value
}

func (r *dropInReader) required(needs dropInNeeds) {
	var missing []string
	if needs.queue && r.get("QUEUE_URL") == "" && !r.broken["QUEUE_URL"] {
		missing = append(missing, "QUEUE_URL (the URL of the queue to consume)")
	}
	if needs.redis && r.get("REDIS_HOST") == "" && !r.broken["REDIS_HOST"] {
		missing = append(missing, "REDIS_HOST (the host of the Redis to fill)")
	}
	if len(missing) > 0 {
		r.problem("not set: %s", strings.Join(missing, ", "))
	}
}

func (r *dropInReader) queue() {
	if queue := r.get("QUEUE_URL"); queue != "" {
		r.region(queue)
	}
	r.secretFile("AWS_ACCESS_KEY_ID")
	r.secretFile("AWS_SECRET_ACCESS_KEY")
	id, secret := r.get("AWS_ACCESS_KEY_ID"), r.get("AWS_SECRET_ACCESS_KEY")
	switch {
	case r.broken["AWS_ACCESS_KEY_ID"] || r.broken["AWS_SECRET_ACCESS_KEY"]:
	case !isHeaderText(id):
		r.problem("AWS_ACCESS_KEY_ID: want letters and digits, as AWS gives it out")
	case id != "" && secret == "":
		r.problem("AWS_SECRET_ACCESS_KEY: AWS_ACCESS_KEY_ID is set, so this must be too (or AWS_SECRET_ACCESS_KEY_FILE); " +
			"set neither to use AWS's default chain")
	case id == "" && secret != "":
		r.problem("AWS_ACCESS_KEY_ID: AWS_SECRET_ACCESS_KEY is set, so this must be too; set neither to use AWS's default chain")
	}

	switch n, ok := r.integer("BATCH_SIZE", 1, 1<<31-1); {
	case !ok:
		r.values["BATCH_SIZE"] = "10"
	case n > 10:
		r.notes = append(r.notes, fmt.Sprintf("BATCH_SIZE=%d: SQS hands out 10 messages a receive at most, so 10 it is", n))
		r.values["BATCH_SIZE"] = "10"
	case n == 1:
		r.warnings = append(r.warnings, "BATCH_SIZE=1 asks SQS for one message at a time: about ten times the receive requests "+
			"(and their cost) of the default, 10")
	}
}

// region makes AWS_REGION what the queue's URL says. It wins: requests are signed for a region, and SQS refuses those
// that are signed for another than the host's; and platforms set AWS_REGION to where they run, not to where the queue
// is.
func (r *dropInReader) region(queues string) {
	region := r.get("AWS_REGION")
	if region == "" {
		region = r.get("AWS_DEFAULT_REGION")
	}
	for queue := range strings.SplitSeq(queues, ",") {
		told, _, err := awsclient.QueueLocation(strings.TrimSpace(queue))
		switch {
		case err != nil:
			r.problem("QUEUE_URL: %w", err)
		case told == "" && region == "":
			r.problem("AWS_REGION: set it: QUEUE_URL, %q, doesn't tell the region", plaintext.Cut(withoutPassword(queue)))
		case told != "":
			if region != "" && told != region {
				r.notes = append(r.notes, fmt.Sprintf("AWS_REGION is %s, but the queue is in %s, as its URL says: %s is used", region, told, told))
			}
			region = told
		}
	}
	r.values["AWS_REGION"] = region
}

// withoutPassword shows a URL that is known to be one.
func withoutPassword(text string) string {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return ""
	}
	return u.Redacted()
}

func (r *dropInReader) redis() {
	switch host := r.get("REDIS_HOST"); {
	case strings.Contains(host, "://"), strings.Contains(host, "@"): // not shown: it may hold a password
		r.problem("REDIS_HOST: want a host name or an address, got a URL; user and password are REDIS_USER and REDIS_PASSWORD")
	case host != "" && !plaintext.IsHost(host):
		r.problem("REDIS_HOST: want a host name or an address, got %q", plaintext.Cut(host))
	}
	r.linkedPort()
	r.integer("REDIS_PORT", 1, 65535)
	r.integer("REDIS_DB", 0, 1<<31-1)
	r.alias("ENVIRONMENT_PREFIX", "REDIS_ENVIRONMENT_PREFIX")
	r.alias("REDIS_USER", "REDIS_USERNAME")
	r.secretFile("REDIS_PASSWORD")
	switch value := strings.ToLower(r.get("REDIS_TLS")); value {
	case "":
	case "1", "true", "yes":
		r.values["REDIS_TLS"] = "true"
	case "0", "false", "no":
		r.values["REDIS_TLS"] = "false"
	default:
		r.problem("REDIS_TLS: want true or false (or 1, 0, yes, no), got %q", plaintext.Cut(value))
	}
}

// linkedPort takes the port out of what a container link, or a service link of Kubernetes, sets in the place of a
// port, such as tcp://10.0.0.7:6379, where it is about the host that REDIS_HOST names.
func (r *dropInReader) linkedPort() {
	link, err := url.Parse(r.get("REDIS_PORT"))
	if err != nil || link.Scheme != "tcp" || link.Port() == "" {
		return
	}
	if host := r.get("REDIS_HOST"); host == link.Hostname() || host == link.Host {
		r.values["REDIS_PORT"] = link.Port()
		r.notes = append(r.notes, fmt.Sprintf("REDIS_PORT is %s, as a container link sets it: port %s is used", link, link.Port()))
	}
}

// isHeaderText reports whether a text can be the value of an HTTP header: ASCII that can be seen, without blanks.
func isHeaderText(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// edge is the provider's API, which completes events that don't say enough.
func (r *dropInReader) edge() {
	r.secretFile("SERVER_API_KEY")
	if !isHeaderText(r.get("SERVER_API_KEY")) {
		r.problem("SERVER_API_KEY: want letters, digits and signs without blanks, as the provider gives it out")
	}
	if address := r.get("EDGE_API_URL"); address != "" {
		if _, err := edgeapi.ParseURL(address); err != nil { // not shown: it may hold a password
			r.problem("EDGE_API_URL: %w", err)
		}
	}
	if r.get("SERVER_API_KEY") == "" {
		r.notes = append(r.notes, "SERVER_API_KEY is not set: events that don't say enough, such as those about credits, are not completed by the Edge API")
	}
}

// maxTTL is about 30 years: more is a mistake in the unit.
const maxTTL = 1_000_000_000

func (r *dropInReader) ttl() {
	r.alias("KEYS_TTL_IN_SECS", "REDIS_KEYS_TTL_IN_SECS")
	seconds, secondsSet := r.integer("KEYS_TTL_IN_SECS", -maxTTL, maxTTL)
	ms, msSet := r.integer("KEYS_TTL_IN_MS", -maxTTL*1000, maxTTL*1000)
	if secondsSet && seconds == 0 {
		r.problem("KEYS_TTL_IN_SECS: 0 would expire every key at once; want a number of seconds, or a negative one for no expiry")
	}
	if msSet && ms == 0 {
		r.problem("KEYS_TTL_IN_MS: 0 would expire every key at once; want a number of milliseconds, or a negative one for no expiry")
	}
	switch {
	case secondsSet && msSet:
		if ms != seconds*1000 {
			r.warnings = append(r.warnings, fmt.Sprintf("KEYS_TTL_IN_SECS=%d is used, KEYS_TTL_IN_MS=%d is not", seconds, ms))
		}
	case msSet:
		r.values["KEYS_TTL_IN_SECS"] = strconv.FormatFloat(float64(ms)/1000, 'f', -1, 64)
	}
}

func (r *dropInReader) poisonQueue() {
	dir, queue := r.get("POISON_DIR"), r.get("POISON_QUEUE_URL")
	switch {
	case dir != "" && queue != "":
		r.problem("POISON_DIR and POISON_QUEUE_URL are both set: there is one poison queue")
	case dir != "":
		r.poison = "POISON_DIR"
	case queue != "":
		r.poison = "POISON_QUEUE_URL"
		if _, _, err := awsclient.QueueLocation(queue); err != nil {
			r.problem("POISON_QUEUE_URL: %w", err)
		}
	default:
		r.notes = append(r.notes, "neither POISON_DIR nor POISON_QUEUE_URL is set: messages that can never be processed are released, "+
			"for the queue's own redrive policy to move")
	}
}

// alias makes the value of either variable that of the first.
func (r *dropInReader) alias(name, other string) {
	a, b := r.get(name), r.get(other)
	switch {
	case a != "" && b != "" && a != b:
		r.problem("%s and %s mean the same and are set to different values", name, other)
	case a == "" && b != "":
		r.values[name] = b
	}
}

// secretFile makes the content of the file that NAME_FILE names the value of NAME.
func (r *dropInReader) secretFile(name string) {
	r.get(name)
	file := r.get(name + "_FILE")
	if file == "" {
		return
	}
	content, err := r.readFile(file)
	if err != nil {
		r.problem("%s_FILE: %w", name, err)
		return
	}
	secret := trimLineEnds(string(content))
	wrong := plaintext.Check(secret)
	switch value := r.get(name); {
	case secret == "":
		r.problem("%s_FILE: %q is empty", name, file)
	case wrong != nil:
		r.problem("%s_FILE: what %q holds %w", name, file, wrong)
		r.broken[name] = true
	case value != "" && value != secret:
		r.problem("%s and %s_FILE are both set and say different things", name, name)
	default:
		r.values[name] = secret
		r.files[name] = file
	}
}

// integer reports a value that isn't a whole number from low to high; ok says that there is one that is.
func (r *dropInReader) integer(name string, low, high int64) (n int64, ok bool) {
	value := r.get(name)
	if value == "" {
		return 0, false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < low || n > high || !plaintext.IsDecimal(value, false) {
		r.problem("%s: want a whole number from %d to %d, got %q%s", name, low, high, plaintext.Cut(value), plaintext.DecimalHint(value))
		return 0, false
	}
	r.values[name] = strconv.FormatInt(n, 10)
	return n, true
}

// duration reports a value that isn't a span of time of more than nothing.
func (r *dropInReader) duration(name string) {
	value := r.get(name)
	if value == "" {
		return
	}
	if d, err := time.ParseDuration(value); err != nil || d <= 0 {
		r.problem("%s: want a duration of more than 0, such as 8s or 1m30s, got %q%s", name, plaintext.Cut(value), plaintext.DurationHint(value))
	}
}

// oneOf reports a value that isn't one of the words, in capitals or not, and makes it small.
func (r *dropInReader) oneOf(name string, words ...string) {
	value := r.get(name)
	if value == "" {
		return
	}
	if !slices.Contains(words, strings.ToUpper(value)) {
		r.problem("%s: want %s, got %q", name, strings.Join(words, " or "), plaintext.Cut(value))
		return
	}
	r.values[name] = strings.ToLower(value)
}
