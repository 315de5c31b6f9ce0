package code

// What is wrong with the keys of a file, and with what stands behind them.
const (
	UnknownKey       Code = "PS012"
	DuplicateKey     Code = "PS013"
	KeyNotName       Code = "PS014"
	WrongShape       Code = "PS021"
	Required         Code = "PS022"
	EmptyItem        Code = "PS023"
	NoComponent      Code = "PS025"
	UnknownComponent Code = "PS026"
	OtherKind        Code = "PS027"
	SecondComponent  Code = "PS028"
)

var keyEntries = []Entry{
	{
		Code: UnknownKey, Kind: Mistake, Title: "unknown key",
		Means: "There is no setting of that name in this place. The message names the nearest one, or lists all. Is it indented as far as its neighbours? " +
			"A key that is indented too far or too little belongs to something else. penstock components NAME shows the settings of a component. " +
			"Keys at the top that begin with x- are left alone: they are for anchors of your own.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    hots: localhost\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    host: localhost\n",
	},
	{
		Code: DuplicateKey, Kind: Mistake, Title: "duplicate key",
		Means: "The same key stands twice in one mapping; the message names the line of the first. Which of both is meant can't be known: leave one out.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight: 10\nmax_in_flight: 20\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight: 20\n",
	},
	{
		Code: KeyNotName, Kind: Mistake, Title: "a key that is no name",
		Means: "The key of a mapping is a list, a mapping, or empty. Often a bracket or a question mark at the begin of a line is not meant as YAML takes it.",
		Wrong: "name: example\nsource:\n  generate:\n    [rate]: 10\nsink: {drop: {}}\n",
		Right: "name: example\nsource:\n  generate:\n    rate: 10\nsink: {drop: {}}\n",
	},
	{
		Code: WrongShape, Kind: Mistake, Title: "settings, a list or a single value in the place of another",
		Means: "The key takes settings of its own (key: value), or a list (- item), or one value, and has something else of the three. A list of one item is a list, too.",
		Wrong: "name: example\nsource:\n  file: {paths: events.ndjson}\nsink: {drop: {}}\n",
		Right: "name: example\nsource:\n  file: {paths: [events.ndjson]}\nsink: {drop: {}}\n",
	},
	{
		Code: Required, Kind: Mistake, Title: "something required is missing",
		Means: "The setting has no default, and is absent or empty. What is empty after its expansions counts as absent, so that it may also be an environment variable that is empty.",
		Wrong: "name: example\nsource:\n  file: {format: lines}\nsink: {drop: {}}\n",
		Right: "name: example\nsource:\n  file: {format: lines, paths: [events.ndjson]}\nsink: {drop: {}}\n",
	},
	{
		Code: EmptyItem, Kind: Mistake, Title: "an empty item in a list",
		Means: "There is nothing behind a dash, or between two commas. Leave the item out.",
		Wrong: "name: example\nsource:\n  file:\n    paths: [events.ndjson, \"\"]\nsink: {drop: {}}\n",
		Right: "name: example\nsource:\n  file:\n    paths: [events.ndjson]\nsink: {drop: {}}\n",
	},
	{
		Code: NoComponent, Kind: Mistake, Title: "no component where one belongs",
		Means: "Here the name of a component belongs as a key, with its settings as the value: redis: {…}, or redis: {} for those with defaults only. The message lists the names; " +
			"penstock components shows what they do.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: drop\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\n",
	},
	{
		Code: UnknownComponent, Kind: Mistake, Title: "unknown component",
		Means: "This program has no source, transform or sink of that name. The message names the nearest one, or lists all. " +
			"A component of your own is known to the program that registers it, not to another build of penstock.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {reddis: {}}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {redis: {}}\n",
	},
	{
		Code: OtherKind, Kind: Mistake, Title: "a component of another kind",
		Means: "There is a component of that name, but it is a source in the place of a sink, or the like.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {generate: {}}\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\n",
	},
	{
		Code: SecondComponent, Kind: Mistake, Title: "more than one component in the place of one",
		Means: "source, sink, poison_queue, record and each item of transforms take one component. fan_out is the sink that feeds several.",
		Wrong: "name: example\nsource: {generate: {}}\nsink:\n  drop: {}\n  stdout: {}\n",
		Right: "name: example\nsource: {generate: {}}\norder: none\nsink:\n  fan_out:\n    - drop: {}\n    - stdout: {}\n",
	},
}
