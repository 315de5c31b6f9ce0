package cli

import (
	"errors"
	"maps"
	"os"
	"strings"
	"testing"
)

func fromMap(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

// minimal is an environment in which nothing is missing.
func minimal(more ...string) map[string]string {
	env := map[string]string{
		"QUEUE_URL":      "https://sqs.eu-west-1.amazonaws.com/123456789012/events",
		"REDIS_HOST":     "redis.internal",
		"POISON_DIR":     "poison",
		"SERVER_API_KEY": "server-key",
	}
	for i := 0; i < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

var secretFiles = map[string]string{"/run/secrets/redis": "s3cret\n", "/run/secrets/empty": "\n", "/run/secrets/quoted": `"s3cret"` + "\n"}

func readSecret(name string) ([]byte, error) {
	if content, ok := secretFiles[name]; ok {
		return []byte(content), nil
	}
	return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
}

func TestDropIn_valuesAsTheFileWantsThem(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want map[string]string // variable → what interpolation sees; "" = unset
	}{
		"nothing but the required": {minimal(), map[string]string{
			"QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/123456789012/events", "REDIS_HOST": "redis.internal",
			"AWS_REGION": "eu-west-1", "BATCH_SIZE": "10", "REDIS_PORT": "", "KEYS_TTL_IN_SECS": "", "ENVIRONMENT_PREFIX": "",
		}},
		"region from a FIPS host":    {minimal("QUEUE_URL", "https://sqs-fips.us-gov-west-1.amazonaws.com/1/q"), map[string]string{"AWS_REGION": "us-gov-west-1"}},
		"region from a VPC endpoint": {minimal("QUEUE_URL", "https://vpce-1a.sqs.us-east-2.vpce.amazonaws.com/1/q"), map[string]string{"AWS_REGION": "us-east-2"}},
		"region from the old form":   {minimal("QUEUE_URL", "https://eu-central-1.queue.amazonaws.com/1/q"), map[string]string{"AWS_REGION": "eu-central-1"}},
		"region from the environment": {minimal("QUEUE_URL", "http://127.0.0.1:4566/1/q", "AWS_REGION", "us-east-1"),
			map[string]string{"AWS_REGION": "us-east-1"}},
		"region from AWS's other name": {minimal("QUEUE_URL", "http://127.0.0.1:4566/1/q", "AWS_DEFAULT_REGION", "us-east-1"),
			map[string]string{"AWS_REGION": "us-east-1"}},
		"prefix by its other name": {minimal("REDIS_ENVIRONMENT_PREFIX", "staging"), map[string]string{"ENVIRONMENT_PREFIX": "staging"}},
		"prefix by both, the same": {minimal("REDIS_ENVIRONMENT_PREFIX", "x", "ENVIRONMENT_PREFIX", "x"), map[string]string{"ENVIRONMENT_PREFIX": "x"}},
		"user by its other name":   {minimal("REDIS_USERNAME", "app"), map[string]string{"REDIS_USER": "app"}},
		"password from a file":     {minimal("REDIS_PASSWORD_FILE", "/run/secrets/redis"), map[string]string{"REDIS_PASSWORD": "s3cret"}},
		"API key from a file":      {minimal("SERVER_API_KEY", "", "SERVER_API_KEY_FILE", "/run/secrets/redis"), map[string]string{"SERVER_API_KEY": "s3cret"}},
		"API elsewhere":            {minimal("EDGE_API_URL", "http://127.0.0.1:3060"), map[string]string{"EDGE_API_URL": "http://127.0.0.1:3060"}},
		"AWS secret from a file": {minimal("AWS_ACCESS_KEY_ID", "AKIA", "AWS_SECRET_ACCESS_KEY_FILE", "/run/secrets/redis"),
			map[string]string{"AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_ACCESS_KEY_ID": "AKIA"}},
		"AWS key from files": {minimal("AWS_ACCESS_KEY_ID_FILE", "/run/secrets/redis", "AWS_SECRET_ACCESS_KEY_FILE", "/run/secrets/redis"),
			map[string]string{"AWS_SECRET_ACCESS_KEY": "s3cret", "AWS_ACCESS_KEY_ID": "s3cret"}},
		"password with dollar sign":  {minimal("REDIS_PASSWORD", "${HOME}"), map[string]string{"REDIS_PASSWORD": "${HOME}"}},
		"TLS yes":                    {minimal("REDIS_TLS", "YES"), map[string]string{"REDIS_TLS": "true"}},
		"TLS 0":                      {minimal("REDIS_TLS", "0"), map[string]string{"REDIS_TLS": "false"}},
		"batch of 1":                 {minimal("BATCH_SIZE", "1"), map[string]string{"BATCH_SIZE": "1"}},
		"batch above 10":             {minimal("BATCH_SIZE", "64"), map[string]string{"BATCH_SIZE": "10"}},
		"TTL in seconds":             {minimal("KEYS_TTL_IN_SECS", "60"), map[string]string{"KEYS_TTL_IN_SECS": "60"}},
		"TTL by its other name":      {minimal("REDIS_KEYS_TTL_IN_SECS", "61"), map[string]string{"KEYS_TTL_IN_SECS": "61"}},
		"TTL in ms":                  {minimal("KEYS_TTL_IN_MS", "604800000"), map[string]string{"KEYS_TTL_IN_SECS": "604800"}},
		"TTL in odd ms":              {minimal("KEYS_TTL_IN_MS", "1500"), map[string]string{"KEYS_TTL_IN_SECS": "1.5"}},
		"no expiry":                  {minimal("KEYS_TTL_IN_SECS", "-1"), map[string]string{"KEYS_TTL_IN_SECS": "-1"}},
		"no expiry in ms":            {minimal("KEYS_TTL_IN_MS", "-1"), map[string]string{"KEYS_TTL_IN_SECS": "-0.001"}},
		"seconds beat ms":            {minimal("KEYS_TTL_IN_SECS", "60", "KEYS_TTL_IN_MS", "1"), map[string]string{"KEYS_TTL_IN_SECS": "60"}},
		"policy":                     {minimal("CACHE_UPDATE_POLICY", "UPDATE_IF_EXISTS"), map[string]string{"CACHE_UPDATE_POLICY": "update_if_exists"}},
		"prefix with a line end":     {minimal("ENVIRONMENT_PREFIX", "production\n"), map[string]string{"ENVIRONMENT_PREFIX": "production"}},
		"prefix with CR":             {minimal("ENVIRONMENT_PREFIX", "production\r"), map[string]string{"ENVIRONMENT_PREFIX": "production"}},
		"host with CR LF":            {minimal("REDIS_HOST", "redis.internal\r\n"), map[string]string{"REDIS_HOST": "redis.internal"}},
		"port with a line end":       {minimal("PORT", "4001\n"), map[string]string{"PORT": "4001"}},
		"queue with a line end":      {minimal("QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/q\n"), map[string]string{"QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/q"}},
		"key with a line end":        {minimal("AWS_ACCESS_KEY_ID", "AKIA\n", "AWS_SECRET_ACCESS_KEY", "s3cret\n"), map[string]string{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s3cret"}},
		"port of a link":             {minimal("REDIS_HOST", "10.0.0.7", "REDIS_PORT", "tcp://10.0.0.7:6380"), map[string]string{"REDIS_PORT": "6380"}},
		"password with quotes in it": {minimal("REDIS_PASSWORD", `a"b'c`), map[string]string{"REDIS_PASSWORD": `a"b'c`}},
		"set to nothing":             {minimal("REDIS_PORT", "", "REDIS_TLS", "", "BATCH_SIZE", ""), map[string]string{"REDIS_PORT": "", "BATCH_SIZE": "10"}},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := newDropIn(fromMap(c.env), readSecret, dropInNeeds{queue: true, redis: true})
			if err != nil {
				t.Fatal(err)
			}
			lookup := d.Lookup(fromMap(c.env))
			for variable, want := range c.want {
				if got, _ := lookup(variable); got != want {
					t.Errorf("%s = %q, want %q", variable, got, want)
				}
			}
		})
	}
}

func TestDropIn_problemsNameTheVariable(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"all missing ones in one line": {map[string]string{"QUEUE_URL": ""},
			"not set: QUEUE_URL (the URL of the queue to consume), REDIS_HOST (the host of the Redis to fill)"},
		"one missing":  {map[string]string{"QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/q"}, "not set: REDIS_HOST (the host of the Redis to fill)"},
		"not a URL":    {minimal("QUEUE_URL", "events"), `QUEUE_URL: queue URL "events": want https://HOST/ACCOUNT/NAME`},
		"no queue":     {minimal("QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/"), `QUEUE_URL: queue URL "https://sqs.eu-west-1.amazonaws.com/": want https://HOST/ACCOUNT/NAME`},
		"no region":    {minimal("QUEUE_URL", "http://127.0.0.1:4566/1/q"), `AWS_REGION: set it: QUEUE_URL, "http://127.0.0.1:4566/1/q", doesn't tell the region`},
		"prefixes":     {minimal("ENVIRONMENT_PREFIX", "a", "REDIS_ENVIRONMENT_PREFIX", "b"), "ENVIRONMENT_PREFIX and REDIS_ENVIRONMENT_PREFIX mean the same and are set to different values"},
		"users":        {minimal("REDIS_USER", "a", "REDIS_USERNAME", "b"), "REDIS_USER and REDIS_USERNAME mean the same and are set to different values"},
		"TTLs":         {minimal("KEYS_TTL_IN_SECS", "1", "REDIS_KEYS_TTL_IN_SECS", "2"), "KEYS_TTL_IN_SECS and REDIS_KEYS_TTL_IN_SECS mean the same and are set to different values"},
		"passwords":    {minimal("REDIS_PASSWORD", "other", "REDIS_PASSWORD_FILE", "/run/secrets/redis"), "REDIS_PASSWORD and REDIS_PASSWORD_FILE are both set and say different things"},
		"no such file": {minimal("REDIS_PASSWORD_FILE", "/run/secrets/none"), "REDIS_PASSWORD_FILE: open /run/secrets/none: file does not exist"},
		"empty file":   {minimal("REDIS_PASSWORD_FILE", "/run/secrets/empty"), `REDIS_PASSWORD_FILE: "/run/secrets/empty" is empty`},
		"half a key": {minimal("AWS_ACCESS_KEY_ID", "AKIA"),
			"AWS_SECRET_ACCESS_KEY: AWS_ACCESS_KEY_ID is set, so this must be too (or AWS_SECRET_ACCESS_KEY_FILE); set neither to use AWS's default chain"},
		"other half": {minimal("AWS_SECRET_ACCESS_KEY", "s3cret"),
			"AWS_ACCESS_KEY_ID: AWS_SECRET_ACCESS_KEY is set, so this must be too; set neither to use AWS's default chain"},
		"host with scheme":   {minimal("REDIS_HOST", "redis://x"), "REDIS_HOST: want a host name or an address, got a URL; user and password are REDIS_USER and REDIS_PASSWORD"},
		"host with password": {minimal("REDIS_HOST", "me:geheim@x"), "REDIS_HOST: want a host name or an address, got a URL; user and password are REDIS_USER and REDIS_PASSWORD"},
		"host with a path":   {minimal("REDIS_HOST", "x/1"), `REDIS_HOST: want a host name or an address, got "x/1"`},
		"port":               {minimal("REDIS_PORT", "70000"), `REDIS_PORT: want a whole number from 1 to 65535, got "70000"`},
		"db":                 {minimal("REDIS_DB", "-1"), `REDIS_DB: want a whole number from 0 to 2147483647, got "-1"`},
		"TLS":                {minimal("REDIS_TLS", "maybe"), `REDIS_TLS: want true or false (or 1, 0, yes, no), got "maybe"`},
		"batch":              {minimal("BATCH_SIZE", "0"), `BATCH_SIZE: want a whole number from 1 to 2147483647, got "0"`},
		"TTL of 0":           {minimal("KEYS_TTL_IN_SECS", "0"), "KEYS_TTL_IN_SECS: 0 would expire every key at once; want a number of seconds, or a negative one for no expiry"},
		"TTL of 0 ms":        {minimal("KEYS_TTL_IN_MS", "0"), "KEYS_TTL_IN_MS: 0 would expire every key at once; want a number of milliseconds, or a negative one for no expiry"},
		"TTL with unit":      {minimal("KEYS_TTL_IN_SECS", "7d"), `KEYS_TTL_IN_SECS: want a whole number from -1000000000 to 1000000000, got "7d"`},
		"policy":             {minimal("CACHE_UPDATE_POLICY", "NEVER"), `CACHE_UPDATE_POLICY: want UPSERT or UPDATE_IF_EXISTS, got "NEVER"`},
		"probe port":         {minimal("PORT", "http"), `PORT: want a whole number from 1 to 65535, got "http"`},
		"drain, no unit":     {minimal("SHUTDOWN_TIMEOUT", "8"), `SHUTDOWN_TIMEOUT: want a duration of more than 0, such as 8s or 1m30s, got "8"`},
		"drain of nothing":   {minimal("SHUTDOWN_TIMEOUT", "0s"), `SHUTDOWN_TIMEOUT: want a duration of more than 0, such as 8s or 1m30s, got "0s"`},
		"level":              {minimal("LOG_LEVEL", "loud"), `LOG_LEVEL: want debug, info, warn or error, got "loud"`},
		"API keys":           {minimal("SERVER_API_KEY", "other", "SERVER_API_KEY_FILE", "/run/secrets/redis"), "SERVER_API_KEY and SERVER_API_KEY_FILE are both set and say different things"},
		"API key":            {minimal("SERVER_API_KEY", "a b"), "SERVER_API_KEY: want letters, digits and signs without blanks, as the provider gives it out"},
		"API":                {minimal("EDGE_API_URL", "edge.api.stigg.io"), "EDGE_API_URL: want a URL such as https://edge.api.stigg.io"},
		"API without a host": {minimal("EDGE_API_URL", "https://edge..internal"), "EDGE_API_URL: want a URL such as https://edge.api.stigg.io"},
		"API, no such port":  {minimal("EDGE_API_URL", "https://edge:70000"), "EDGE_API_URL: want a URL such as https://edge.api.stigg.io"},
		"queue, password":    {minimal("QUEUE_URL", "https://me:s3cret@sqs/"), `QUEUE_URL: queue URL "https://me:xxxxx@sqs/": want https://HOST/ACCOUNT/NAME`},
		"password, region":   {minimal("QUEUE_URL", "https://me:s3cret@sqs/1/q"), `AWS_REGION: set it: QUEUE_URL, "https://me:xxxxx@sqs/1/q", doesn't tell the region`},
		"queue, no URL":      {minimal("QUEUE_URL", "https://me:s3cret@s qs/1/q"), `QUEUE_URL: queue URL: want https://HOST/ACCOUNT/NAME`},
		"queue, no host":     {minimal("QUEUE_URL", "https://a..b/1/q", "AWS_REGION", "us-east-1"), `QUEUE_URL: queue URL: want a host, or host:port, got "a..b"`},
		"a host of 300":      {minimal("REDIS_HOST", strings.Repeat("x", 300)), `REDIS_HOST: want a host name or an address, got "` + strings.Repeat("x", 60) + `…"`},
		"a port of 300":      {minimal("REDIS_PORT", strings.Repeat("x", 300)), `REDIS_PORT: want a whole number from 1 to 65535, got "` + strings.Repeat("x", 60) + `…"`},
		"Sentry, no host": {minimal("SENTRY_DSN", "https://key@sentry..io/1"), "SENTRY_DSN: want https://KEY@HOST/PROJECT, as Sentry shows it under the project's client keys; " +
			"what is set is not shown, it holds the key. DISABLE_SENTRY=true switches reports off"},
		"API with password": {minimal("EDGE_API_URL", "https://me:s3cret@edge"), "EDGE_API_URL: want a URL without user, query and fragment, such as https://edge.api.stigg.io"},
		"two poisons":       {minimal("POISON_QUEUE_URL", "https://x/1/q"), "POISON_DIR and POISON_QUEUE_URL are both set: there is one poison queue"},
		"poison queue":      {minimal("POISON_DIR", "", "POISON_QUEUE_URL", "poison"), `POISON_QUEUE_URL: queue URL "poison": want https://HOST/ACCOUNT/NAME`},
		"Sentry's address": {minimal("SENTRY_DSN", "geheim"), "SENTRY_DSN: want https://KEY@HOST/PROJECT, as Sentry shows it under the project's client keys; " +
			"what is set is not shown, it holds the key. DISABLE_SENTRY=true switches reports off"},
		"Sentry's file":      {minimal("SENTRY_DSN_FILE", "/run/secrets/empty"), `SENTRY_DSN_FILE: "/run/secrets/empty" is empty`},
		"Sentry's switch":    {minimal("DISABLE_SENTRY", "maybe"), `DISABLE_SENTRY: want true or false (or 1, 0, yes, no), got "maybe"`},
		"prefix in quotes":   {minimal("ENVIRONMENT_PREFIX", `"production"`), `ENVIRONMENT_PREFIX: is wrapped in quotes ("…"), which would be a part of it: write it without them (env files keep quotes as they are)`},
		"prefix with a line": {minimal("ENVIRONMENT_PREFIX", "prod\nuction"), `ENVIRONMENT_PREFIX: has a line end in it: "\n", character 5 of 11`},
		"prefix with blank":  {minimal("ENVIRONMENT_PREFIX", "production "), `ENVIRONMENT_PREFIX: ends with a blank (" ")`},
		"host in quotes":     {minimal("REDIS_HOST", `'redis'`), `REDIS_HOST: is wrapped in quotes ('…'), which would be a part of it: write it without them (env files keep quotes as they are)`},
		"host with a blank":  {minimal("REDIS_HOST", "my redis"), `REDIS_HOST: want a host name or an address, got "my redis"`},
		"host, zero width":   {minimal("REDIS_HOST", "redis\u200b"), `REDIS_HOST: has a character that can't be seen in it: "\u200b", character 6 of 6`},
		"password in quotes": {minimal("REDIS_PASSWORD", `"s3cret"`), `REDIS_PASSWORD: is wrapped in quotes ("…"), which would be a part of it: write it without them (env files keep quotes as they are)`},
		"password, line end": {minimal("REDIS_PASSWORD", "s3\ncret"), `REDIS_PASSWORD: has a line end in it: "\n", character 3 of 7`},
		"password file":      {minimal("REDIS_PASSWORD_FILE", "/run/secrets/quoted"), `REDIS_PASSWORD_FILE: what "/run/secrets/quoted" holds is wrapped in quotes ("…"), which would be a part of it: write it without them (env files keep quotes as they are)`},
		"AWS key in quotes":  {minimal("AWS_ACCESS_KEY_ID", `"AKIA"`, "AWS_SECRET_ACCESS_KEY", "s3cret"), `AWS_ACCESS_KEY_ID: is wrapped in quotes ("…"), which would be a part of it: write it without them (env files keep quotes as they are)`},
		"AWS key, letters":   {minimal("AWS_ACCESS_KEY_ID", "АKIA", "AWS_SECRET_ACCESS_KEY", "s3cret"), "AWS_ACCESS_KEY_ID: want letters and digits, as AWS gives it out"},
		"queue in quotes":    {minimal("QUEUE_URL", `"https://sqs.eu-west-1.amazonaws.com/1/q"`), `QUEUE_URL: is wrapped in quotes ("…"), which would be a part of it: write it without them (env files keep quotes as they are)`},
		"region with blank":  {minimal("QUEUE_URL", "http://127.0.0.1:4566/1/q", "AWS_REGION", "us-east-1 "), "AWS_REGION: ends with a blank (\" \")\nAWS_REGION: set it: QUEUE_URL, \"http://127.0.0.1:4566/1/q\", doesn't tell the region"},
		"linked port":        {minimal("REDIS_PORT", "tcp://10.0.0.7:6379"), `REDIS_PORT: want a whole number from 1 to 65535, got "tcp://10.0.0.7:6379": a container link, or a service link of Kubernetes, has set the variable; switch that off (enableServiceLinks: false in the pod), or set the variable yourself`},
		"octal port":         {minimal("REDIS_PORT", "06379"), `REDIS_PORT: want a whole number from 1 to 65535, got "06379": no leading zeros (in some YAML they mean octal): write 6379`},
		"hex port":           {minimal("PORT", "0x0FA0"), `PORT: want a whole number from 1 to 65535, got "0x0FA0": write it in decimal, 4000`},
		"underscores":        {minimal("BATCH_SIZE", "1_0"), `BATCH_SIZE: want a whole number from 1 to 2147483647, got "1_0": write 10`},
		"several at once": {minimal("PORT", "x", "REDIS_PORT", "y"),
			"REDIS_PORT: want a whole number from 1 to 65535, got \"y\"\nPORT: want a whole number from 1 to 65535, got \"x\""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newDropIn(fromMap(c.env), readSecret, dropInNeeds{queue: true, redis: true})
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Error("a secret is in the message")
			}
		})
	}
}

func TestDropIn_saysOnceWhatIsOdd(t *testing.T) {
	const noPoison = "neither POISON_DIR nor POISON_QUEUE_URL is set: messages that can never be processed are released, for the queue's own redrive policy to move"
	for name, c := range map[string]struct {
		env             map[string]string
		warnings, notes string
	}{
		"nothing":        {minimal(), "", ""},
		"no poison":      {minimal("POISON_DIR", ""), "", noPoison},
		"no API key":     {minimal("SERVER_API_KEY", ""), "", "SERVER_API_KEY is not set: events that don't say enough, such as those about credits, are not completed by the Edge API"},
		"unused":         {minimal("CACHE_LOCK_RETRY_COUNT", "240"), "", "set, but not used by this version: CACHE_LOCK_RETRY_COUNT"},
		"Sentry":         {minimal("SENTRY_DSN", "https://key@sentry.example/1", "DISABLE_SENTRY", "no"), "", ""},
		"no Sentry":      {minimal("SENTRY_DSN", "nonsense", "DISABLE_SENTRY", "YES"), "", ""},
		"batch of 1":     {minimal("BATCH_SIZE", "1"), "BATCH_SIZE=1 asks SQS for one message at a time: about ten times the receive requests (and their cost) of the default, 10", ""},
		"batch above 10": {minimal("BATCH_SIZE", "50"), "", "BATCH_SIZE=50: SQS hands out 10 messages a receive at most, so 10 it is"},
		"two TTLs":       {minimal("KEYS_TTL_IN_SECS", "60", "KEYS_TTL_IN_MS", "1"), "KEYS_TTL_IN_SECS=60 is used, KEYS_TTL_IN_MS=1 is not", ""},
		"two equal TTLs": {minimal("KEYS_TTL_IN_SECS", "60", "KEYS_TTL_IN_MS", "60000"), "", ""},
		"policy": {minimal("CACHE_UPDATE_POLICY", "update_if_exists"),
			"CACHE_UPDATE_POLICY=UPDATE_IF_EXISTS: what a customer's first event finds in Redis now depends on the order of arrival, so a replay may end in another state; UPSERT doesn't have that", ""},
		"line end":     {minimal("ENVIRONMENT_PREFIX", "production\n"), "", "the line end at the end of ENVIRONMENT_PREFIX is left out"},
		"linked port":  {minimal("REDIS_HOST", "10.0.0.7", "REDIS_PORT", "tcp://10.0.0.7:6380"), "", "REDIS_PORT is tcp://10.0.0.7:6380, as a container link sets it: port 6380 is used"},
		"other region": {minimal("AWS_REGION", "us-east-1"), "", "AWS_REGION is us-east-1, but the queue is in eu-west-1, as its URL says: eu-west-1 is used"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := newDropIn(fromMap(c.env), readSecret, dropInNeeds{queue: true, redis: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(d.warnings, "\n"); got != c.warnings {
				t.Errorf("warnings: got  %s\nwant %s", got, c.warnings)
			}
			if got := strings.Join(d.notes, "\n"); got != c.notes {
				t.Errorf("notes: got  %s\nwant %s", got, c.notes)
			}
		})
	}
}

func TestDropIn_asksOnlyForWhatTheCommandUses(t *testing.T) {
	env := minimal("QUEUE_URL", "", "AWS_ACCESS_KEY_ID", "half", "BATCH_SIZE", "x")
	if _, err := newDropIn(fromMap(env), readSecret, dropInNeeds{redis: true}); err != nil {
		t.Errorf("reading Redis needs no queue: %v", err)
	}
	delete(env, "REDIS_HOST")
	if _, err := newDropIn(fromMap(env), readSecret, dropInNeeds{redis: true}); err == nil {
		t.Error("REDIS_HOST is missing, and nothing is said")
	}
}

func TestDropIn_readsOneSnapshot(t *testing.T) {
	// The lookup must keep its answers when the caller's map changes: files are resolved later.
	d, err := newDropIn(fromMap(minimal("REDIS_TLS", "1")), readSecret, dropInNeeds{queue: true, redis: true})
	if err != nil {
		t.Fatal(err)
	}
	lookup := d.Lookup(fromMap(nil))
	maps.DeleteFunc(d.values, func(string, string) bool { return true })
	if got, ok := lookup("REDIS_TLS"); got != "true" || !ok {
		t.Errorf("got %q, %t", got, ok)
	}
	if _, err := newDropIn(fromMap(minimal("REDIS_PASSWORD_FILE", "x")), func(string) ([]byte, error) { return nil, errors.New("no") },
		dropInNeeds{redis: true}); err == nil {
		t.Error("an unreadable secret is no problem")
	}
}
