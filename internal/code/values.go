package code

// What is wrong with a value.
const (
	WrongType          Code = "PS030"
	NumberSize         Code = "PS031"
	NotDuration        Code = "PS032"
	DurationUnit       Code = "PS033"
	NotSize            Code = "PS034"
	NotInEnum          Code = "PS035"
	NotParsed          Code = "PS036"
	UnseenText         Code = "PS037"
	UnquotedBoolean    Code = "PS038"
	QuotedExpansion    Code = "PS039"
	VariableNotSet     Code = "PS040"
	VariableEmpty      Code = "PS041"
	ExpansionSyntax    Code = "PS042"
	ExpandedFile       Code = "PS043"
	SettingsFromOneVar Code = "PS044"
)

var valueEntries = []Entry{
	{
		Code: WrongType, Kind: Mistake, Title: "a value of the wrong type",
		Means: "A number, a boolean or a text is wanted, and something else is there. Numbers are decimal, without separators and units: 1024, not 1_024, 0x400 or 1k. " +
			"Booleans are true and false.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight: many\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight: 1000\n",
	},
	{
		Code: NumberSize, Kind: Mistake, Title: "a number beyond its type",
		Means: "The number is larger or smaller than anything that this setting could ever hold. The message says from where to where it goes.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight: 99999999999999999999\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight: 1000\n",
	},
	{
		Code: NotDuration, Kind: Mistake, Title: "not a duration",
		Means: "Durations are numbers with units, one after another without blanks: ns, us, ms, s, m, h, such as 500ms, 1m30s or 168h. There are no days and weeks.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {redis: {ttl: 7 days}}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {redis: {ttl: 168h}}\n",
	},
	{
		Code: DurationUnit, Kind: Mistake, Title: "a duration without a unit",
		Means: "A bare number could be seconds or milliseconds: write the unit behind it.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmessage_timeout: 30\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmessage_timeout: 30s\n",
	},
	{
		Code: NotSize, Kind: Mistake, Title: "not a size",
		Means: "Sizes are whole numbers of bytes, with a unit or without: B, KB, MB, GB (powers of 1000) or KiB, MiB, GiB (powers of 1024).",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight_bytes: 64M\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\nmax_in_flight_bytes: 64MiB\n",
	},
	{
		Code: NotInEnum, Kind: Mistake, Title: "not one of the allowed values",
		Means: "The setting takes one of a few words, which the message lists. They are written as they are listed, in small letters.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\norder: sources\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\norder: source\n",
	},
	{
		Code: NotParsed, Kind: Mistake, Title: "a text of another form",
		Means: "The text is read further, as a time, a rate or another thing that has a form, and does not have it. The message says which.",
		Wrong: "name: example\nsource: {generate: {rate: fast}}\nsink: {drop: {}}\n",
		Right: "name: example\nsource: {generate: {rate: 100/s}}\nsink: {drop: {}}\n",
	},
	{
		Code: UnseenText, Kind: Mistake, Title: "something in a text that can't be seen, or doesn't belong there",
		Means: "The text has a line end, a tab, blanks at an end, a non-breaking space, a character that shows nothing, or quotes around it that are a part of it. " +
			"Hosts, keys and passwords with such a thing in them fail later, and nobody sees why. They come from copying, from env files and from secrets that were made with echo (use printf). " +
			"The message says which character and where.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    host: \"localhost \"\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    host: \"localhost\"\n",
	},
	{
		Code: UnquotedBoolean, Kind: Mistake, Title: "yes, no, on or off without quotes",
		Means: "Many readers of YAML take these words for booleans, and some editors change them. Where the text is meant, quote it.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {redis: {prefix: no}}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink: {redis: {prefix: \"no\"}}\n",
	},
	{
		Code: QuotedExpansion, Kind: Mistake, Title: "a quoted expansion where a number or a boolean is wanted",
		Means: "What stands in quotes is text, also after its expansion. Without quotes, and as the whole value, ${PORT} becomes a number.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    port: \"${PORT:-6379}\"\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    port: ${PORT:-6379}\n",
	},
	{
		Code: VariableNotSet, Kind: Mistake, Title: "an environment variable is not set",
		Means: "The file asks for a variable that the process does not have. Set it (export, env_file, env of the container), or give it a default: ${NAME:-default}.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    host: ${REDIS_HOST}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    host: ${REDIS_HOST:-localhost}\n",
	},
	{
		Code: VariableEmpty, Kind: Mistake, Title: "an environment variable is empty",
		Means: "The file asks with ${NAME:?…} for a variable that is not empty, and it is. Set it to something, or use ${NAME?…} when empty will do.",
		Wrong: "$ REDIS_HOST= penstock validate required.yaml\n",
		Right: "$ REDIS_HOST=localhost penstock validate required.yaml\n",
	},
	{
		Code: ExpansionSyntax, Kind: Mistake, Title: "an expansion that is not understood",
		Means: "Expansions are ${NAME}, ${NAME:-default}, ${NAME-default}, ${NAME:?message}, ${NAME?message}, ${NAME:+text}, ${NAME+text} and ${file:/path}; " +
			"names are letters, digits and _. Write $${ for a literal ${.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    host: ${redis.host}\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    host: ${REDIS_HOST:-localhost}\n",
	},
	{
		Code: ExpandedFile, Kind: Mistake, Title: "the file of an expansion can't be read",
		Means: "${file:/path} stands for what a file holds, such as a mounted secret. There is no such file, or this user has no right to read it. " +
			"Paths are relative to the directory that the command is run in.",
		Wrong:  "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    password: ${file:secrets/redis-pasword}\n",
		Right:  "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    password: ${file:secrets/redis-password}\n",
		Secret: [2]string{"secrets/redis-password", "s3cret\n"},
	},
	{
		Code: SettingsFromOneVar, Kind: Mistake, Title: "an expansion in the place of settings or a list",
		Means: "An expansion gives one value, never keys, settings or a list: it can't put YAML into the file. Write the list, with an expansion in each item.",
		Wrong: "name: example\nsource:\n  file:\n    paths: ${EVENTS:-events.ndjson}\nsink: {drop: {}}\n",
		Right: "name: example\nsource:\n  file:\n    paths:\n      - ${EVENTS:-events.ndjson}\nsink: {drop: {}}\n",
	},
}
