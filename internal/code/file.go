package code

import "strings"

// What is wrong with a file as a whole, or keeps it from being YAML.
const (
	FileUnreadable  Code = "PS001"
	FileEmpty       Code = "PS002"
	FileTooLarge    Code = "PS003"
	FileCompressed  Code = "PS004"
	FileEncoding    Code = "PS005"
	SecondDocument  Code = "PS006"
	NotYAML         Code = "PS007"
	Tab             Code = "PS008"
	BareExpansion   Code = "PS009"
	Invisible       Code = "PS010"
	Directive       Code = "PS011"
	UnknownAnchor   Code = "PS015"
	AnchorOnly      Code = "PS016"
	Tag             Code = "PS017"
	AliasCycle      Code = "PS018"
	TooManyCopies   Code = "PS019"
	MergeKey        Code = "PS020"
	NoSuchPipeline  Code = "PS029"
	TestsFile       Code = "PS069"
	NoTests         Code = "PS072"
	CacheService    Code = "PS070"
	ProcessVariable Code = "PS071"
)

// minimal is a pipeline with nothing wrong.
const minimal = `name: example
source: {generate: {}}
sink: {drop: {}}
`

var fileEntries = []Entry{
	{
		Code: FileUnreadable, Kind: Mistake, Title: "the file can't be read",
		Means: "There is no file of that name, it is a directory, or this user has no right to read it. The message says which. " +
			"Paths are relative to the directory that the command is run in.",
		Wrong: "$ penstock validate ./no-such-file.yaml\n",
		Right: "$ penstock validate pipeline.yaml\n",
	},
	{
		Code: FileEmpty, Kind: Mistake, Title: "the file is empty",
		Means: "The file holds nothing, or nothing but comments. A pipeline wants a name, a source and a sink at least.",
		Wrong: "# name: example\n",
		Right: minimal,
	},
	{
		Code: FileTooLarge, Kind: Mistake, Title: "the file is larger than 1 MiB",
		Means: "A pipeline file is a few kilobytes. What is that large is something else: most often a recording, which belongs behind " +
			"the pipeline file in penstock replay FILE RECORDING.",
		Wrong: minimal + "# " + strings.Repeat("filler ", 1<<18) + "\n",
		Right: minimal,
	},
	{
		Code: FileCompressed, Kind: Mistake, Title: "the file is compressed",
		Means: "The file begins as those of gzip or zstd do. Pipeline files are read as they are: unpack it. If it is a recording, it belongs " +
			"behind the pipeline file in penstock replay FILE RECORDING, which does read compressed files.",
		Wrong: "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbK\xccM\xb5RH\xadH\xcc-\xc8I\x05\x00\n",
		Right: minimal,
	},
	{
		Code: FileEncoding, Kind: Mistake, Title: "the file is not UTF-8",
		Means: "Pipeline files are UTF-8, or UTF-16 with a byte order mark. The message names the first byte that is neither, or the encoding " +
			"that the file seems to have. Convert it, such as with iconv -f ISO-8859-1 -t UTF-8, or save it as UTF-8 in the editor.",
		Wrong: "# f\xfcr die Testumgebung\n" + minimal,
		Right: "# für die Testumgebung\n" + minimal,
	},
	{
		Code: SecondDocument, Kind: Mistake, Title: "a second document in the file",
		Means: "A line of three dashes begins another document of YAML. A file holds one pipeline: put each into a file of its own, and give " +
			"penstock run all of them.",
		Wrong: minimal + "---\nname: another\nsource: {generate: {}}\nsink: {drop: {}}\n",
		Right: minimal,
	},
	{
		Code: NotYAML, Kind: Mistake, Title: "not YAML",
		Means: "The file breaks the syntax of YAML. The place is the first line that can't belong to what stands above it; the cause may be on the line before: " +
			"an indentation that differs from that of the keys beside it, a quote or a bracket that is not closed, a missing colon.",
		Wrong: "name: example\nsource: {generate: {}\nsink: {drop: {}}\n",
		Right: minimal,
	},
	{
		Code: Tab, Kind: Mistake, Title: "a tab before a key",
		Means: "YAML is indented by spaces. Replace the tab; most editors can be told to write spaces in files that end in .yaml.",
		Wrong: "name: example\nsource:\n\tgenerate: {}\nsink: {drop: {}}\n",
		Right: "name: example\nsource:\n  generate: {}\nsink: {drop: {}}\n",
	},
	{
		Code: BareExpansion, Kind: Mistake, Title: "an expansion breaks the syntax",
		Means: "The braces of ${…} mean something to YAML inside { } and [ ], and so do \": \" and \" #\" in a default everywhere. Write the expansion in quotes; " +
			"it stays text then. Where a number or a boolean is wanted, put it on a line of its own, without quotes.",
		Wrong: "name: example\nsource: {generate: {}}\nsink: {file: {dir: ${DIR:-out}}}\n",
		Right: "name: example\nsource: {generate: {}}\nsink:\n  file:\n    dir: ${DIR:-out}\n",
	},
	{
		Code: Invisible, Kind: Mistake, Title: "a character that can't be seen breaks the syntax",
		Means: "There is a character in the file that looks like a blank, or like nothing, and is none: a non-breaking space or a byte order mark from a web page or " +
			"a word processor, or a control character. The message names it and its line. Type the line anew.",
		Wrong: "name: example\nsource: {generate: {}}\a\nsink: {drop: {}}\n",
		Right: "name: example\nsource: {generate: {}}\nsink: {drop: {}}\n",
	},
	{
		Code: Directive, Kind: Mistake, Title: "a directive that is not understood",
		Means: "The file begins with a line such as %YAML 1.2. Leave it out, and the --- below it.",
		Wrong: "%YAML 2.0\n---\n" + minimal,
		Right: minimal,
	},
	{
		Code: UnknownAnchor, Kind: Mistake, Title: "no anchor for an alias",
		Means: "To YAML a value that begins with * is an alias, and stands for what has been marked with & and the same name. Quote the value if it is meant as text, " +
			"as a glob or a password may be.",
		Wrong: "name: example\nsource:\n  file: {paths: [*events]}\nsink: {drop: {}}\n",
		Right: "name: example\nsource:\n  file: {paths: [\"*events\"]}\nsink: {drop: {}}\n",
	},
	{
		Code: AnchorOnly, Kind: Mistake, Title: "nothing but an anchor",
		Means: "To YAML a value that begins with & is an anchor, a name for what follows it; and nothing follows. Quote the value if it is meant as text.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    password: &s3cret\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    password: \"&s3cret\"\n",
	},
	{
		Code: Tag, Kind: Mistake, Title: "a tag of YAML",
		Means: "To YAML a value that begins with ! has a tag, which says what type it is of. Pipeline files have no use for those. Quote the value if it is meant as text.",
		Wrong: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    password: !s3cret\n",
		Right: "name: example\nsource: {generate: {}}\ntransforms: [{decode_entitlements: {}}]\nsink:\n  redis:\n    password: \"!s3cret\"\n",
	},
	{
		Code: AliasCycle, Kind: Mistake, Title: "an alias inside what it stands for",
		Means: "The alias (*name) stands inside the value that its anchor (&name) marks, so that it would have no end.",
		Wrong: "name: example\nsource: {generate: {}}\nsink:\n  fan_out: &all\n    - drop: {}\n    - fan_out: *all\n",
		Right: "name: example\nsource: {generate: {}}\nsink:\n  fan_out:\n    - drop: {}\n    - fan_out: [{drop: {}}]\n",
	},
	{
		Code: TooManyCopies, Kind: Mistake, Title: "aliases copy too much",
		Means: "Aliases of aliases multiply: the file would grow to more than 10,000 values. Write out what is meant.",
		Wrong: "name: example\nx-a: &a [{drop: {}}, {drop: {}}, {drop: {}}, {drop: {}}, {drop: {}}, {drop: {}}, {drop: {}}, {drop: {}}]\n" +
			"x-b: &b [{fan_out: *a}, {fan_out: *a}, {fan_out: *a}, {fan_out: *a}, {fan_out: *a}, {fan_out: *a}, {fan_out: *a}, {fan_out: *a}]\n" +
			"x-c: &c [{fan_out: *b}, {fan_out: *b}, {fan_out: *b}, {fan_out: *b}, {fan_out: *b}, {fan_out: *b}, {fan_out: *b}, {fan_out: *b}]\n" +
			"x-d: &d [{fan_out: *c}, {fan_out: *c}, {fan_out: *c}, {fan_out: *c}, {fan_out: *c}, {fan_out: *c}, {fan_out: *c}, {fan_out: *c}]\n" +
			"x-e: &e [{fan_out: *d}, {fan_out: *d}, {fan_out: *d}, {fan_out: *d}]\n" +
			"source: {generate: {}}\nsink: {fan_out: *e}\n",
		Right: "name: example\nx-a: &a [{drop: {}}, {drop: {}}]\nsource: {generate: {}}\nsink: {fan_out: *a}\n",
	},
	{
		Code: MergeKey, Kind: Mistake, Title: "a merge key without a mapping",
		Means: "The key << takes over the entries of another mapping: its value is an alias of one, or a list of such aliases.",
		Wrong: "name: example\nsource:\n  generate:\n    <<: [rate]\nsink: {drop: {}}\n",
		Right: "name: example\nx-pace: &pace {rate: 100}\nsource:\n  generate:\n    <<: *pace\nsink: {drop: {}}\n",
	},
	{
		Code: NoSuchPipeline, Kind: Mistake, Title: "neither a file nor a ready pipeline",
		Means: "A name without a slash and without a dot is that of a file in this directory or, when there is none, of a pipeline that penstock brings along. " +
			"The message lists those.",
		Wrong: "$ penstock validate quickstrat\n",
		Right: "$ penstock validate quickstart\n",
	},
	{
		Code: TestsFile, Kind: Mistake, Title: "a file of tests in the place of a pipeline",
		Means: "NAME_test.yaml holds the tests of NAME.yaml and no pipeline. penstock test runs them, penstock validate checks them; every other command wants NAME.yaml.",
	},
	{
		Code: CacheService, Kind: Mistake, Title: "the environment variables don't configure the cache service",
		Means: "The built-in pipeline, which runs when no file is named, is configured by environment variables. The message lists everything that is wrong with them " +
			"at once; docs/migration.md has them all.",
		Wrong: "$ penstock validate persistent-cache\n",
		Right: "$ QUEUE_URL=https://sqs.eu-west-1.amazonaws.com/123456789012/events REDIS_HOST=127.0.0.1 ENVIRONMENT_PREFIX=production penstock validate persistent-cache\n",
	},
	{
		Code: NoTests, Kind: Mistake, Title: "no tests",
		Means: "penstock test has found nothing to run: tests stand in a pipeline file under tests:, or beside NAME.yaml in NAME_test.yaml.",
	},
	{
		Code: ProcessVariable, Kind: Mistake, Title: "an environment variable holds what can't be right",
		Means: "Libraries read some variables by themselves, such as those of AWS and of OpenTelemetry. One of them holds a character that can't be seen, or that no such value has, " +
			"and would fail later in a way that looks like an outage. Set it anew. Only commands that connect to something look at these variables.",
	},
}
