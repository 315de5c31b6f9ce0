package code

// Rules that a file breaks though every value in it is of its type.
const (
	PipelineName     Code = "PS050"
	OutOfRange       Code = "PS051"
	PoisonUnqueued   Code = "PS052"
	ListenAddress    Code = "PS053"
	OpenAdmin        Code = "PS054"
	PortTwice        Code = "PS055"
	NameTwice        Code = "PS056"
	ServiceTwice     Code = "PS057"
	BadAddress       Code = "PS058"
	Contradiction    Code = "PS059"
	HashSlots        Code = "PS060"
	NobodyToAsk      Code = "PS061"
	BadForm          Code = "PS062"
	NamedTwice       Code = "PS063"
	TooLittleTime    Code = "PS064"
	BadExpression    Code = "PS066"
	OwnRule          Code = "PS090"
	EmptyIsAbsent    Code = "PS081"
	LineEndLeftOut   Code = "PS082"
	Overtaking       Code = "PS083"
	NoOrderKept      Code = "PS084"
	Unencrypted      Code = "PS085"
	VisibilityTooLow Code = "PS086"
	NoWritesToStore  Code = "PS087"
	OwnWarning       Code = "PS099"
)

const queueURL = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"

var ruleEntries = []Entry{
	{
		Code: PipelineName, Kind: Mistake, Title: "a name that a pipeline can't have",
		Means: "The name labels metrics and logs: 1 to 63 of a-z, 0-9 and -.",
		Wrong: "name: My Pipeline\nsource: {generate: {}}\nsink: {drop: {}}\n",
		Right: "name: my-pipeline\nsource: {generate: {}}\nsink: {drop: {}}\n",
	},
	{
		Code: OutOfRange, Kind: Mistake, Title: "a value out of its range",
		Means: "The value is too large or too small. The message says how far it may go; penstock components NAME says what the setting does.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight: 0\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight: 1\n",
	},
	{
		Code: PoisonUnqueued, Kind: Mistake, Title: "on_exhausted: poison without a poison queue",
		Means: "Messages whose attempts are spent shall be stored in the poison queue, and there is none. Add poison_queue, or leave on_exhausted at release.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nretry: {on_exhausted: poison}\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nretry: {on_exhausted: poison}\npoison_queue: {file: {dir: poison}}\n",
	},
	{
		Code: ListenAddress, Kind: Mistake, Title: "an address that can't be listened on",
		Means: "Want host:port, or :port for all interfaces, with a port from 0 to 65535 in digits. Quote it, as YAML has uses for a colon.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nservice:\n  http: {address: \"4000\"}\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nservice:\n  http: {address: \":4000\"}\n",
	},
	{
		Code: OpenAdmin, Kind: Mistake, Title: "the admin address is open to the network",
		Means: "service.admin may show payloads. It answers on loopback; beyond that only with a token, which requests then carry.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nservice:\n  admin: {address: \":4001\"}\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nservice:\n  admin: {address: \"127.0.0.1:4001\"}\n",
	},
	{
		Code: PortTwice, Kind: Mistake, Title: "two servers on one port",
		Means: "service.http and service.admin share a port, but not the address. Give both the same address, and one server does both, or different ports.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nservice:\n  http: {address: \":4000\"}\n  admin: {address: \"127.0.0.1:4000\"}\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nservice:\n  http: {address: \":4000\"}\n  admin: {address: \"127.0.0.1:4001\"}\n",
	},
	{
		Code: NameTwice, Kind: Mistake, Title: "two pipelines of one name",
		Means: "The pipelines of a process are told apart by their names, in metrics and logs. Rename one.",
		Wrong: "$ penstock run pipeline.yaml pipeline.yaml\n",
		Right: "$ penstock validate pipeline.yaml another.yaml\n",
	},
	{
		Code: ServiceTwice, Kind: Mistake, Title: "two pipelines with a service",
		Means: "The servers for probes and metrics are the process's: one of its pipelines has service, and the others none.",
		Wrong: "$ penstock run serving.yaml serving-too.yaml\n",
		Right: "$ penstock validate serving.yaml pipeline.yaml\n",
	},
	{
		Code: BadAddress, Kind: Mistake, Title: "not the address of a server or a queue",
		Means: "The host, URL or name of a queue can't be one. The message says what form is wanted. URLs and hosts go into settings of their own. " +
			"In the user and the password of a URL write %, /, ?, #, : and @ as %25, %2F, %3F, %23, %3A and %40.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis: {host: \"redis://localhost:6379\"}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis: {url: \"redis://localhost:6379\"}\n",
	},
	{
		Code: Contradiction, Kind: Mistake, Title: "settings that exclude each other, or need each other",
		Means: "Two settings say the same thing in two ways, or one of them means nothing without the other. The message names both.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis: {url: \"redis://localhost:6379\", host: redis.internal}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis: {host: redis.internal}\n",
	},
	{
		Code: HashSlots, Kind: Mistake, Title: "keys that a cluster can't write in one step",
		Means: "A write, its version and its clock key are written in one step, and a Redis Cluster does that for keys of one hash slot only. " +
			"hash_tags: true in decode_entitlements gives the keys of a customer a common hash tag, for readers of your own; a hash tag in the sink's prefix keeps all keys in one slot, as the provider's SDKs need it.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms:\n  - decode_entitlements: {}\nsink:\n  redis:\n    cluster: {addresses: [\"redis-0:6379\"]}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms:\n  - decode_entitlements: {hash_tags: true}\nsink:\n  redis:\n    cluster: {addresses: [\"redis-0:6379\"]}\n",
	},
	{
		Code: NobodyToAsk, Kind: Mistake, Title: "refresh without an API to ask",
		Means: "A type of event shall be completed by the Edge API, and the transform that asks it, refresh_entitlements with an api_key, is not there.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms:\n  - decode_entitlements: {types: {CREDIT_CHANGED: refresh}}\nsink: {redis: {}}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms:\n  - refresh_entitlements: {api_key: server-abc, types: {CREDIT_CHANGED: refresh}}\nsink: {redis: {}}\n",
	},
	{
		Code: BadForm, Kind: Mistake, Title: "a text that its setting can't take",
		Means: "The text breaks a rule of its setting: a pattern, a path, a key, or one of a few words. The message says what is wanted.",
		Wrong: "name: example\nsource:\n  file: {paths: [\"events[.ndjson\"]}\nsink: {drop: {}}\n",
		Right: "name: example\nsource:\n  file: {paths: [\"events*.ndjson\"]}\nsink: {drop: {}}\n",
	},
	{
		Code: NamedTwice, Kind: Mistake, Title: "one thing named twice",
		Means: "The same queue, or the same member of a message, stands in two places that want different ones.",
		Wrong: "name: example\nsource: {generate: {}}\nsink:\n  redis:\n    plain: {key: id, value: id}\n",
		Right: "name: example\nsource: {generate: {}}\nsink:\n  redis:\n    plain: {key: id, value: data}\n",
	},
	{
		Code: TooLittleTime, Kind: Mistake, Title: "less time than the parts need",
		Means: "The waits and timeouts of a component add up to more than message_timeout, the time that one attempt has. Raise that, or lower those.",
		Wrong: "name: example\nsource: {generate: {}}\nmessage_timeout: 5s\ntransforms:\n  - refresh_entitlements: {api_key: server-abc}\nsink: {redis: {}}\n",
		Right: "name: example\nsource: {generate: {}}\nmessage_timeout: 1m\ntransforms:\n  - refresh_entitlements: {api_key: server-abc}\nsink: {redis: {}}\n",
	},
	{
		Code: BadExpression, Kind: Mistake, Title: "an expression that does not compile",
		Means: "Expressions are written in jq. The message says what is wrong, and the line and column inside the expression. The payload is ., " +
			"its metadata $metadata and the time $now, in seconds. Quote expressions in YAML: a colon, a # and a { mean something to it.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms:\n  - filter: {if: '.total >='}\nsink: {drop: {}}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms:\n  - filter: {if: '.total >= 3'}\nsink: {drop: {}}\n",
	},
	{
		Code: OwnRule, Kind: Mistake, Title: "a rule of a component is broken",
		Means: "The component has a rule that has no code of its own: the message is the component's. Components that are not shipped with penstock have this code.",
	},
}

var warningEntries = []Entry{
	{
		Code: EmptyIsAbsent, Kind: Warning, Title: "an empty value counts as absent",
		Means: "The value is \"\", and the setting has a default, which applies. Leave the key out, or write what is meant.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {redis: {prefix: \"\"}}\ntransforms: [{decode_entitlements: {}}]\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {redis: {}}\ntransforms: [{decode_entitlements: {}}]\n",
	},
	{
		Code: LineEndLeftOut, Kind: Warning, Title: "a line end at the end of a value is left out",
		Means: "A variable, or a file that ends in several line ends, has a line end at its end, which is left out. Env files with \\r\\n and secrets made with echo have them.",
		Wrong: "$ REDIS_HOST=$'localhost\\n' penstock validate required.yaml\n",
		Right: "$ REDIS_HOST=localhost penstock validate required.yaml\n",
	},
	{
		Code: Overtaking, Kind: Warning, Title: "messages overtake each other where order probably matters",
		Means: "The source has an order, messages are processed side by side, and what receives them has no way to tell the newer one. order: source keeps their order, one after another; " +
			"order: none says that it doesn't matter. For a store of keys, a version in each message is better than both.",
		Wrong: "name: example\nsource: {file: {paths: [events.ndjson], format: lines}}\nsink: {stdout: {}}\n",
		Right: "name: example\nsource: {file: {paths: [events.ndjson], format: lines}}\norder: source\nsink: {stdout: {}}\n",
	},
	{
		Code: NoOrderKept, Kind: Warning, Title: "order: source on a queue without an order",
		Means: "A standard queue of SQS hands messages out in any order: one after another they are slower and no better. Use a FIFO queue, or a version in the store.",
		Wrong: "name: example\nsource: {sqs: {queue_url: \"" + queueURL + "\"}}\norder: source\nsink: {drop: {}}\n",
		Right: "name: example\nsource: {sqs: {queue_url: \"" + queueURL + ".fifo\"}}\norder: source\nsink: {drop: {}}\n",
	},
	{
		Code: Unencrypted, Kind: Warning, Title: "a key travels unencrypted",
		Means: "The URL begins with http://: everybody on the way can read the API key. Use https://.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms:\n  - refresh_entitlements: {api_key: server-abc, url: \"http://api.example.com\"}\nsink: {redis: {}}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms:\n  - refresh_entitlements: {api_key: server-abc, url: \"https://api.example.com\"}\nsink: {redis: {}}\n",
	},
	{
		Code: VisibilityTooLow, Kind: Warning, Title: "a visibility timeout that can't be extended in time",
		Means: "While messages are held, their visibility is extended ten at a time. With as many as may be held, that takes longer than the timeout, and SQS hands some out twice. " +
			"Raise visibility_timeout, or lower max_in_flight.",
		Wrong: "name: example\nsource:\n  sqs: {queue_url: \"" + queueURL + "\", visibility_timeout: 2s}\nmax_in_flight: 100000\nsink: {drop: {}}\n",
		Right: "name: example\nsource:\n  sqs: {queue_url: \"" + queueURL + "\", visibility_timeout: 60s}\nmax_in_flight: 1000\nsink: {drop: {}}\n",
	},
	{
		Code: NoWritesToStore, Kind: Warning, Title: "a store of cache writes that gets none",
		Means: "The sink stores cache writes, which decode_entitlements makes of events, and no transform makes any. Add it, or tell the sink the form of your own messages with plain.",
		Wrong: "name: example\nsource: {file: {paths: [events.ndjson], format: lines}}\nsink: {redis: {}}\n",
		Right: "name: example\nsource: {file: {paths: [events.ndjson], format: lines}}\ntransforms: [{decode_entitlements: {}}]\nsink: {redis: {}}\n",
	},
	{
		Code: OwnWarning, Kind: Warning, Title: "a component warns of its settings",
		Means: "The component has a warning that has no code of its own: the message is the component's. Components that are not shipped with penstock have this code.",
	},
}
