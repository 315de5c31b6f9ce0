package sqs

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-dev/penstock/internal/awsclient"
	"github.com/penstock-dev/penstock/pipeline"
)

// queueFixes gathers the commands that mend the findings of a queue: all attributes of a queue in one of them, so that
// they can be pasted as they are. The zero value is ready.
type queueFixes struct {
	findings   []int // by their place among those of the queue
	created    []string
	other      []string // about other queues
	attributes map[string]string
	before     string // a comment above the command that sets the attributes
}

func (f *queueFixes) mends(finding int) {
	if !slices.Contains(f.findings, finding) {
		f.findings = append(f.findings, finding)
	}
}

// set sets an attribute of the queue.
func (f *queueFixes) set(finding int, name, value string) {
	f.mends(finding)
	if f.attributes == nil {
		f.attributes = map[string]string{}
	}
	f.attributes[name] = value
}

// setOf sets an attribute of another queue.
func (f *queueFixes) setOf(finding int, url, name, value string) {
	f.mends(finding)
	f.alsoOf(url, name, value)
}

// alsoOf sets an attribute of another queue that what is set here asks for.
func (f *queueFixes) alsoOf(url, name, value string) {
	f.other = append(f.other, awsclient.SetAttributes(url, map[string]string{name: value}))
}

// create makes a dead letter queue beside the queue.
func (f *queueFixes) create(finding int, beside, name string) {
	f.mends(finding)
	attributes := map[string]string{"MessageRetentionPeriod": inWholeSeconds(mostRetention)}
	if strings.HasSuffix(name, ".fifo") {
		attributes["FifoQueue"] = "true"
	}
	f.created = append(f.created, awsclient.CreateQueue(beside, name, attributes))
}

// shorten gives the queue a shorter retention than it has.
func (f *queueFixes) shorten(finding int) {
	f.set(finding, "MessageRetentionPeriod", inWholeSeconds(advisedRetention))
	f.before = "# a shorter retention deletes what waits for longer already: first see that nothing does"
}

// write gives the findings the text that mends them all.
func (f *queueFixes) write(found []pipeline.Finding, url string) {
	lines := append(slices.Clone(f.created), f.other...)
	if len(f.attributes) > 0 {
		if f.before != "" {
			lines = append(lines, f.before)
		}
		lines = append(lines, awsclient.SetAttributes(url, maps.Clone(f.attributes)))
	}
	for _, i := range f.findings {
		found[i].Fix = strings.Join(lines, "\n")
	}
}

// redrive has the commands give the queue a redrive policy: to the queue of that ARN, or to one that they make.
func (d *doctor) redrive(attributes map[string]string, target string) {
	if target == "" {
		arn := attributes["QueueArn"]
		if arn == "" {
			arn = awsclient.ARN(d.url)
		}
		target = arn + "-dead"
		if name, fifo := strings.CutSuffix(arn, ".fifo"); fifo {
			target = name + "-dead.fifo"
		}
		d.fixes.create(len(d.found)-1, d.url, target[strings.LastIndexByte(target, ':')+1:])
	}
	d.attribute("RedrivePolicy", awsclient.Redrive(target, advisedReceives))
}

// inWholeSeconds is a duration as an attribute has it.
func inWholeSeconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) }
