package code

// What ends a pipeline with an error, beside what doctor finds too: those have the codes of its findings.
const (
	PipelineEnded  Code = "PS480"
	PoisonLimit    Code = "PS481"
	ReaderGone     Code = "PS482"
	SourceFiles    Code = "PS483"
	FilesOfAnother Code = "PS484"
	AddressTaken   Code = "PS485"
	CommandMissing Code = "PS486"
	WrongBatchSink Code = "PS487"

	QueueMissing     Code = "PS102"
	AWSCredentials   Code = "PS103"
	QueueRight       Code = "PS104"
	S3Access         Code = "PS488"
	RedisLogin       Code = "PS202"
	RedisTLS         Code = "PS203"
	RedisDatabase    Code = "PS204"
	RedisRight       Code = "PS205"
	RedisClusterMode Code = "PS208"
	Directory        Code = "PS311"
)

// The exit code is 1 in all of these cases; what was in flight goes back to the source.
var endEntries = []Entry{
	{Code: PipelineEnded, Kind: End, Title: "a pipeline has ended with an error", Means: "The pipeline can't go on, for the reason in the message; nothing is lost, what was in flight goes back to the source. " +
		"The exit code is 1. Mend the cause, such as what a component of your own returned as pipeline.Fatal, and start it again."},
	{Code: PoisonLimit, Kind: End, Title: "poison_limit is reached", Means: "More of the last messages were poisoned than poison_limit allows: the events have changed, or this pipeline has. " +
		"penstock poison list --by reason says why they were poisoned. Mend the pipeline, start it again, and put the messages back with penstock poison redrive; or raise poison_limit."},
	{Code: ReaderGone, Kind: End, Title: "the reader of the standard output is gone", Means: "The sink stdout writes into a pipe, and the program behind the pipe has ended. What it did not take goes back to the source."},
	{Code: SourceFiles, Kind: End, Title: "the files of the source can't be read", Means: "No file matches the paths, one of them can't be opened, or a pipe is asked for what a pipe can't do. The message names it. " +
		"Paths are relative to the directory that the command is run in."},
	{Code: FilesOfAnother, Kind: End, Title: "the files are another's", Means: "Another pipeline, or another process, writes the files that this one wants to read or write. Give each a directory of its own."},
	{Code: AddressTaken, Kind: End, Title: "an address can't be listened on", Means: "Another program has the port, or the address is not one of this machine. The message names the setting or variable that changes it; ss -ltnp says who has the port."},
	{Code: CommandMissing, Kind: End, Title: "the Redis server lacks a command", Means: "The server is older than Redis 6, or the command is renamed or switched off there. The message names it."},
	{Code: WrongBatchSink, Kind: End, Title: "a batch sink has returned a wrong number of errors", Means: "A mistake in a sink of your own: a pipeline.BatchSinkFunc returns one error for each message, nil for those that are stored."},
	{Code: S3Access, Kind: End, Title: "payloads in S3 can't be read", Means: "The credentials, the region or the bucket of the transform unwrap's s3 are wrong. The message says which; the rights are s3:GetObject and, for objects encrypted with a key of their own, kms:Decrypt."},
}
