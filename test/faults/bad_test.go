package faults

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/internal/recording"
)

const (
	badItem = `{"isGranted":true,"usageLimit":5,"hasUnlimitedUsage":false,"currentUsage":1,"entitlementUpdatedAt":"2026-11-20T10:15:30.250Z",` +
		`"usageUpdatedAt":"2026-11-20T10:15:30.250Z","feature":{"refId":"api-calls","featureType":"NUMBER","meterType":"Incremental"}}`
	badEvent = `{"__typename":"EntitlementsUpdated","customerId":"bad-@","entitlements":[` + badItem + `]}`
	badUsage = `{"__typename":"UsageUpdated","entitlement":{"usageUpdatedAt":"2026-11-20T11:00:00.000Z"},"usage":{"customerId":"bad-@"*}}`
)

func but(old, new string) string { return strings.Replace(badEvent, old, new, 1) }

// malformed are the kinds of bodies that can never be processed; @ is the number of the body.
var malformed = []string{
	`certainly not JSON @`,
	`"an event in words @"`,
	`1@`,
	`[1@]`,
	`[true,"@"]`,
	`{"n":"@"}`,
	`customerId=bad-@&usage=3`,
	`<event customer="bad-@"/>`,
	`{"type":"SOMETHING_UNHEARD_OF","customerId":"bad-@"}`,
	`["software.amazon.payloadoffloading.PayloadS3Pointer",{"s3BucketName":"b","s3Key":"@"}]`,
	`{"__typename":"EntitlementsUpdated","customerId":"bad-@`,
	`{"__typename":"EntitlementsUpdated","customerId":"bad-@","timestamp":"2026-11-20T10:15:30.250Z"}`,
	`{"__typename":"EntitlementsUpdated","customerId":"bad-@","entitlements":"none","timestamp":"2026-11-20T10:15:30Z"}`,
	`{"__typename":"EntitlementsUpdated","customerId":"bad-@","entitlements":[7],"timestamp":"2026-11-20T10:15:30Z"}`,
	badEvent + `@`,
	badEvent[:len(badEvent)-1],
	strings.Repeat("[", 3000) + `@`,
	but(`"customerId":"bad-@"`, `"customerId":null,"n":"@"`),
	but(`"customerId":"bad-@"`, `"customerId":["bad-@"]`),
	but(`"customerId":"bad-@"`, `"customerId":{"id":"bad-@"}`),
	but(`"customerId":"bad-@"`, `"customerId":"","n":"@"`),
	but(`2026-11-20T10:15:30.250Z`, `yesterday`),
	but(`2026-11-20T10:15:30.250Z`, `2226-11-20T10:15:30Z`),
	but(`2026-11-20T10:15:30.250Z`, `1969-11-20T10:15:30Z`),
	but(`"refId":"api-calls"`, `"refId":null`),
	but(`"usageLimit":5`, `"usageLimit":"a lot"`),
	but(`"currentUsage":1`, `"currentUsage":"three"`),
	but(`"feature":{`, `"feature":[{`),
	strings.Replace(badUsage, "*", `,"currentUsage":3`, 1),
	strings.Replace(badUsage, "*", `,"featureId":"f-1"`, 1),
	strings.Replace(badUsage, "*", `,"featureId":"f-1","currentUsage":"three"`, 1),
	`{"Type":"Notification","MessageId":"@","TopicArn":"a","Message":"{\"x","Timestamp":"2026-11-20T10:15:30.250Z"}`,
}

// makeBad returns n bodies of all kinds, no two alike.
func makeBad(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(malformed[i%len(malformed)], "@", strconv.Itoa(i))
	}
	return all
}

// flood sends n events and as many malformed bodies, mixed.
func (s *scene) flood(n int) {
	s.bad = makeBad(n)
	bodies := append([]string(nil), s.bad...)
	for range n {
		bodies = append(bodies, s.load.next())
	}
	rand.Shuffle(len(bodies), func(i, j int) { bodies[i], bodies[j] = bodies[j], bodies[i] })
	s.must(s.queue.send(bodies...))
}

// drip sends malformed bodies until the function that it returns is called.
func (s *scene) drip(n int) (stop func()) {
	s.bad = makeBad(n)
	done, ended := make(chan struct{}), make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		for _, body := range s.bad {
			if err = s.queue.send(body); err != nil {
				return
			}
			select {
			case <-done: // the rest at once
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		s.must(err)
	}
}

// entries reads all recordings of a folder; a line that is torn or malformed is wrong.
func (s *scene) entries(dir string) (all []recording.Entry) {
	files, _ := filepath.Glob(filepath.Join(s.dir, dir, "*.ndjson"))
	for _, file := range files {
		lines, err := recording.OpenLines(file, 16<<20)
		s.must(err)
		reader := recording.NewReader(lines, filepath.Base(file))
		for {
			var e recording.Entry
			err := reader.Next(&e)
			if err != nil {
				if err.Error() != "EOF" {
					s.wrong("%v", err)
				}
				break
			}
			e.Payload = slices.Clone(e.Payload) // the reader uses its memory again
			all = append(all, e)
		}
		_ = lines.Close()
	}
	return all
}

// poisonIn wants every malformed body in a folder, whole and with a reason, and nothing else.
func poisonIn(dir string) func(*scene) {
	return func(s *scene) {
		found := map[string]bool{}
		for _, e := range s.entries(dir) {
			if e.Poison == nil || e.Poison.Reason == "" {
				s.wrong("poison without a reason: %.200s", e.Payload)
			}
			found[string(e.Payload)] = true
		}
		s.allBad(found)
	}
}

// allBad wants every malformed body, and nothing else.
func (s *scene) allBad(found map[string]bool) {
	missing := 0
	for _, body := range s.bad {
		if !found[body] {
			if missing++; missing <= 3 {
				s.wrong("it is not in the poison queue: %.200s", body)
			}
		}
		delete(found, body)
	}
	if missing > 3 {
		s.wrong("and %d malformed bodies more", missing-3)
	}
	for body := range found {
		s.wrong("it should not be in the poison queue: %.200s", body)
		break
	}
	s.result.notes = append(s.result.notes, fmt.Sprintf("%d of %d malformed bodies poisoned", len(s.bad)-missing, len(s.bad)))
}

// poisonQueue gives the program a poison queue at the same SQS server.
func poisonQueue(s *scene) {
	behindFront(s)
	s.poison = s.queue.sqs.queue(s.t, 30)
	s.env = append(s.env, "POISON_URL="+s.poison.url)
}

// withoutPoison is a pipeline without a poison queue.
const withoutPoison = "# without poison_queue\n"

// deadLetters has the queue move what was received three times to another one.
func deadLetters(s *scene) {
	s.poison = s.queue.sqs.queue(s.t, 30)
	var got struct{ Attributes struct{ QueueArn string } }
	s.must(s.queue.call("GetQueueAttributes", map[string]any{"QueueUrl": s.poison.url, "AttributeNames": []string{"QueueArn"}}, &got))
	rule := fmt.Sprintf(`{"deadLetterTargetArn":%q,"maxReceiveCount":"3"}`, got.Attributes.QueueArn)
	s.must(s.queue.call("SetQueueAttributes", map[string]any{"QueueUrl": s.queue.url, "Attributes": map[string]string{"RedrivePolicy": rule}}, nil))
}

// poisonAtSQS wants every malformed body in the queue for them.
func poisonAtSQS(s *scene) {
	found := map[string]bool{}
	for {
		var got struct{ Messages []struct{ Body string } }
		s.must(s.poison.call("ReceiveMessage", map[string]any{"QueueUrl": s.poison.url, "MaxNumberOfMessages": 10}, &got))
		if len(got.Messages) == 0 {
			break
		}
		for _, m := range got.Messages {
			found[m.Body] = true
		}
	}
	s.allBad(found)
}

// recordedIn wants every event that was sent in a folder.
func recordedIn(dir string) func(*scene) {
	return func(s *scene) {
		found := map[string]bool{}
		for _, e := range s.entries(dir) {
			found[string(e.Payload)] = true
		}
		missing := 0
		for _, body := range s.load.bodies {
			if !found[body] {
				missing++
			}
		}
		if missing > 0 {
			s.wrong("%d of %d events are not recorded", missing, len(s.load.bodies))
		}
		noPoison(s)
	}
}

// noPoison wants that nothing is poisoned.
func noPoison(s *scene) {
	if files, _ := filepath.Glob(filepath.Join(s.dir, "poison", "*")); len(files) > 0 {
		s.wrong("there is poison: %s", files)
	}
}
