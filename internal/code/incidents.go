package code

import (
	"slices"
	"strings"
)

// What a running pipeline logs and an operator may have to act on. The title is the message of the log line.
var incidentEntries = []Entry{
	{Code: "PS401", Kind: Incident, Title: "message poisoned", Means: "A message can't be processed, or its attempts are spent with on_exhausted: poison; it is whole in the poison queue, and the source has been told that it is done. The line says why. Look at the entry, mend the cause, and replay the entries: docs/runbooks/PenstockPoison.md."},
	{Code: "PS402", Kind: Incident, Title: "message released", Means: "The attempts of a message are spent, and it went back to the source, which delivers it again: nothing is lost. The line has the last error. When it goes on, see docs/runbooks/PenstockReleasing.md."},
	{Code: "PS403", Kind: Incident, Title: "message released, for want of a poison queue", Means: "A message will always fail, and the pipeline has no poison_queue to store it in: it comes back until the source gives it up. Add a poison_queue."},
	{Code: "PS404", Kind: Incident, Title: "message released, the poison queue did not take it", Means: "A message belongs into the poison queue, and storing it there failed; it went back to the source and is tried again. The line says why: a full disk, a missing right, a queue that is away."},
	{Code: "PS405", Kind: Incident, Title: "message not recorded", Means: "The record sink did not take a message. With on_error: continue the message goes on, and the recording lacks it. See docs/runbooks/PenstockNotRecording.md."},
	{Code: "PS411", Kind: Incident, Title: "outage begins: a backend is away, messages are held", Means: "The store can't be reached. Messages are held, not lost and not poisoned, and the pipeline goes on by itself when it is back. Mend the store; penstock doctor says what is wrong with it. See docs/runbooks/PenstockStuck.md."},
	{Code: "PS412", Kind: Incident, Title: "outage begins: a backend is away, messages that need it are held", Means: "A transform's backend, such as the provider's API, can't be reached. The messages that need it are held, the others go on. See docs/runbooks/PenstockTransformDown.md."},
	{Code: "PS413", Kind: Incident, Title: "the source is away, trying again", Means: "The source can't be read. Nothing is received until it is back; it is tried again and again. penstock doctor says what is wrong with it."},
	{Code: "PS414", Kind: Incident, Title: "the poison_queue is away", Means: "The poison queue can't be reached: messages that belong into it are held until it can."},
	{Code: "PS415", Kind: Incident, Title: "the record is away", Means: "The record sink can't be reached. See docs/runbooks/PenstockNotRecording.md."},
	{Code: "PS421", Kind: Incident, Title: "shutdown_timeout has passed: what is in flight is released", Means: "The graceful stop took longer than shutdown_timeout. Messages in flight went back to the source and are delivered again. When it happens at every stop, the store is slow, or shutdown_timeout is too short."},
	{Code: "PS422", Kind: Incident, Title: "close", Means: "A component could not be closed properly at the stop. What it had not acknowledged is delivered again."},
	{Code: "PS423", Kind: Incident, Title: "pipeline failed: the others go on", Means: "One of several pipelines of the process has ended with an error, which the line has; the exit code will be 1. Mend it and restart the process."},
	{Code: "PS424", Kind: Incident, Title: "panic", Means: "A part of a sink has panicked: a mistake in the program. The message counts as one that always fails. Report it with the stack that the line has."},
	{Code: "PS431", Kind: Incident, Title: "more than 1 % of the last 1000 bodies don't decode", Means: "Many messages are not the events that decode_entitlements expects: another producer sends to the queue, their format has changed, or an envelope needs unwrap. The line has the last error; the messages are in the poison queue."},
	{Code: "PS432", Kind: Incident, Title: "more than 1 % of the last 1000 bodies don't decode, and are refreshed", Means: "Many events don't decode and are completed by the provider's API instead: the cache stays right, at the cost of requests. The format of the events has probably changed."},
	{Code: "PS433", Kind: Incident, Title: "too many ambiguous ids: further ones are not logged", Means: "See PS434: there are so many that they are not logged one by one."},
	{Code: "PS434", Kind: Incident, Title: "id makes keys ambiguous: another id's key may be the same", Means: "An id has a character that separates the parts of a key, so that two ids could share a key. Give that customer, or resource, another id."},
	{Code: "PS441", Kind: Incident, Title: "Redis has been emptied, or is another one now", Means: "The keys that the sink keeps for itself are gone. What happens next stands in the line. Fill the cache from recordings: docs/runbooks/PenstockRedisWiped.md."},
	{Code: "PS442", Kind: Incident, Title: "no right to read the SDK's locks: an SDK that refetches a customer at the moment of a newer event may undo it; grant the keys, or set respect_sdk_locks: false", Means: "The Redis user may not read the locks that SDKs set. penstock doctor prints the ACL SETUSER that is missing."},
	{Code: "PS451", Kind: Incident, Title: "deleting fails: trying on", Means: "Processed messages can't be deleted from the queue, and come again until they can. Check sqs:DeleteMessage and the network; penstock doctor tries it."},
	{Code: "PS452", Kind: Incident, Title: "changing visibility fails: trying on", Means: "The visibility of held messages can't be extended: they may be handed out twice. Check sqs:ChangeMessageVisibility and the network."},
	{Code: "PS453", Kind: Incident, Title: "messages were held for 11.5 hours and are visible to others again: SQS hides none for more than 12", Means: "An outage has lasted so long that SQS had to be given the messages back; they are received again, which counts as one more receive. Mend the outage before the dead letter queue or the retention takes them."},
	{Code: "PS454", Kind: Incident, Title: "the queue's visibility timeout can't be used: set it to 30 s or more, or set visibility_timeout", Means: "The queue's own visibility timeout is too short to be extended in time."},
	{Code: "PS455", Kind: Incident, Title: "the queue's visibility timeout is not known: allow sqs:GetQueueAttributes, or set visibility_timeout", Means: "The right to read the queue's attributes is missing, so that its visibility timeout is guessed."},
	{Code: "PS456", Kind: Incident, Title: "more messages may be held than can be kept hidden when a request takes 100 ms: raise the visibility timeout, or lower max_in_flight", Means: "More messages may be held than can be extended within the visibility timeout; some would be handed out twice in an outage."},
	{Code: "PS457", Kind: Incident, Title: "receiving fails: trying on", Means: "The queue can't be read. Nothing is received until it can; penstock doctor says what is wrong."},
	{Code: "PS458", Kind: Incident, Title: "whether the queue exists is not known before the first message: allow sqs:GetQueueAttributes", Means: "The sink may not look at its queue before it sends: a wrong name shows with the first message only."},
	{Code: "PS461", Kind: Incident, Title: "unresolved", Means: "A line of a file has failed to its last attempt, and has not been stored anywhere. The line of the log names file and line. Mend the cause and run it again; what has been written stays."},
	{Code: "PS462", Kind: Incident, Title: "the checkpoint can't be written: a run that goes on from it repeats more than it has to", Means: "The file of the checkpoint can't be written: a missing right, or a full disk. The line says why. Nothing is lost: the next run begins earlier than it has to."},
	{Code: "PS463", Kind: Incident, Title: "old files can't be removed", Means: "Recordings that keep or max_size have outlived stay, and fill the disk. The line says why: a missing right, as a rule. What is recorded now is not affected."},
	{Code: "PS471", Kind: Incident, Title: "spans are dropped: the collector does not take them", Means: "Traces get lost; messages do not. Check the endpoint of service.tracing and the collector."},
}

// OfTitle returns the code of an incident by the message of its log line, or "".
func OfTitle(title string) Code {
	i := slices.IndexFunc(incidentEntries, func(e Entry) bool {
		return title == e.Title || strings.HasPrefix(title, e.Title+": ")
	})
	if i < 0 {
		return ""
	}
	return incidentEntries[i].Code
}
