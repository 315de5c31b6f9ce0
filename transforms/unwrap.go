package transforms

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/internal/configfacts"
	"github.com/penstock-dev/penstock/internal/jsonscan"
	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/rfc3339"
	"github.com/penstock-dev/penstock/pipeline"
)

// UnwrapConfig takes messages out of what transports put around them, again and again until nothing is left to take
// off:
//
//   - SNS notifications (their Message), EventBridge events (their detail);
//   - GraphQL results ({"data": {"field": {…}}}) and webhook wrappers ({"type": …, "data": {…}}, whose other members go
//     with the data);
//   - arrays of objects: every element becomes a message of its own;
//   - base64 text, gzipped or not, when JSON comes out;
//   - pointers to payloads in S3, as the extended client libraries of SQS and SNS leave them, when s3 is set: the
//     object takes the pointer's place. Objects are not deleted; a lifecycle rule of the bucket does that.
//
// Anything else passes as it is, and costs next to nothing. An envelope tells its time and the event's type in the
// metadata envelope_time (RFC 3339) and envelope_type, the innermost one last.
//
// What it can't take off is a permanent error: a pointer to a payload in S3 without s3, or to an object that doesn't
// exist; an SNS message that is no notification; a GraphQL result with errors; and whatever exceeds the limits. An
// object that may not be read is tried again as often as the retry settings say: S3 answers the same for one that
// doesn't exist, and a right can be granted. S3 away is an outage, like a store that is away.
type UnwrapConfig struct {
	// How many envelopes may lie one in another: 1 to 100.
	MaxDepth int `yaml:"max_depth" default:"8" range:"1..100" unit:"envelopes"`
	// How large all that a message unpacks to may be.
	MaxSize pipeline.ByteSize `yaml:"max_size" default:"16MiB" range:"1.."`
	// Fetches payloads that are in S3; s3: {} takes everything from AWS's default chain. Needs the right s3:GetObject, and
	// kms:Decrypt where objects are encrypted with a key of their own.
	S3 *UnwrapS3Config `yaml:"s3"`
}

// Metadata keys that envelopes set.
const (
	metadataEnvelopeTime = "envelope_time"
	metadataEnvelopeType = "envelope_type"
)

var _ configfacts.PassThrough = (*UnwrapConfig)(nil)

// PassesThrough says that what comes out is no cache write unless it went in as one.
func (c *UnwrapConfig) PassesThrough() {}

// Validate reports all broken rules at once.
func (c *UnwrapConfig) Validate() error { return pipeline.CheckTags(c) }

// NewTransform makes the transform. It is safe for concurrent use.
func (c *UnwrapConfig) NewTransform(pipeline.Env) (pipeline.Transform, error) {
	maxDepth, maxSize := c.MaxDepth, int64(c.MaxSize)
	var objects *s3Objects
	if c.S3 != nil {
		objects = &s3Objects{config: *c.S3}
	}
	return func(msg *message.Message) ([]*message.Message, error) {
		if bare(msg.Payload) {
			return []*message.Message{msg}, nil
		}
		u := unwrapping{ctx: msg.Context(), objects: objects, maxDepth: maxDepth, maxSize: maxSize, left: maxSize}
		if err := u.peel(unwrapped{body: msg.Payload}, 0); err != nil {
			if _, ok := errors.AsType[*fetchError](err); ok || errors.Is(err, pipeline.ErrNoRoom) {
				return nil, err // says itself what becomes of the message
			}
			return nil, pipeline.Permanent(err)
		}
		if len(u.out) == 1 {
			u.out[0].fill(msg)
			return []*message.Message{msg}, nil
		}
		msgs := make([]*message.Message, len(u.out))
		for i, out := range u.out {
			m := message.NewMessage(msg.UUID+"-"+strconv.Itoa(i), nil)
			for k, v := range msg.Metadata {
				m.Metadata[k] = v
			}
			m.SetContext(msg.Context())
			out.fill(m)
			msgs[i] = m
		}
		return msgs, nil
	}, nil
}

var (
	markMessage = []byte(`"Message"`)
	markDetail  = []byte(`"detail"`)
	markData    = []byte(`"data"`)
)

// byteOrderMark stands before texts of some programs. JSON readers may pass over it.
var byteOrderMark = []byte("\xef\xbb\xbf")

// bare reports whether the body is certainly in no envelope: an object in which no envelope's member is named. Nearly
// all bodies are; this is all that they pay.
func bare(body []byte) bool {
	return first(body) == '{' && !bytes.Contains(body, markMessage) && !bytes.Contains(body, markDetail) && !bytes.Contains(body, markData)
}

// first returns the first byte that is not blank, or 0.
func first(b []byte) byte {
	for _, c := range b {
		if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c
		}
	}
	return 0
}

// unwrapped is a body and what its envelopes told.
type unwrapped struct {
	body      []byte
	time, typ string
}

func (u unwrapped) fill(msg *message.Message) {
	msg.Payload = u.body
	if u.time != "" {
		msg.Metadata.Set(metadataEnvelopeTime, u.time)
	}
	if u.typ != "" {
		msg.Metadata.Set(metadataEnvelopeType, u.typ)
	}
}

// unwrapping is the work on one message.
type unwrapping struct {
	ctx      context.Context
	objects  *s3Objects // nil: S3 is not asked
	maxDepth int
	maxSize  int64
	left     int64 // bytes that may still be unpacked
	out      []unwrapped
}

// peel takes one envelope after the other off and collects what is left.
func (u *unwrapping) peel(in unwrapped, depth int) error {
	for ; ; depth++ {
		in.body = bytes.TrimPrefix(in.body, byteOrderMark)
		var again bool
		var err error
		switch c := first(in.body); c {
		case '{':
			if bare(in.body) {
				break
			}
			again, err = u.object(&in)
		case '[':
			if pointer, ok := pointerToS3(in.body); ok {
				again, err = true, u.fetch(&in, pointer)
				break
			}
			parts, ok := objectsOf(in.body)
			if !ok {
				break
			}
			if depth == u.maxDepth {
				return u.tooDeep()
			}
			for i, body := range parts {
				part := in
				part.body = body
				if err := u.peel(part, depth+1); err != nil {
					return fmt.Errorf("element %d: %w", i, err)
				}
			}
			return nil
		default:
			again, err = u.text(&in)
		}
		if err != nil {
			return err
		}
		if !again {
			u.out = append(u.out, in)
			return nil
		}
		if depth == u.maxDepth {
			return u.tooDeep()
		}
	}
}

func (u *unwrapping) tooDeep() error {
	return reason.Errorf("more than %d envelopes in one another (max_depth)", u.maxDepth)
}

func (u *unwrapping) tooLarge() error {
	return reason.Errorf("unpacks to more than %s (max_size)", pipeline.ByteSize(u.maxSize))
}

// member is one member of an object: its name, with escapes resolved, and its value as it stands.
type member struct {
	name, value []byte
}

// members splits an object and looks no deeper than its own members; ok is false when it is none. The values are
// parts of b.
func members(b []byte) (list []member, ok bool) {
	s := jsonscan.Scanner{Text: b}
	if !s.Is('{') {
		return nil, false
	}
	list = make([]member, 0, 12)
	for first := true; ; {
		name, ok := s.Member(&first)
		if !ok {
			return list, s.OK() && s.End(errBehind)
		}
		m := member{name: name}
		if m.value, ok = extent(&s); !ok {
			return nil, false
		}
		list = append(list, m)
	}
}

// elements splits an array; ok is false when it is none. See members.
func elements(b []byte) (list [][]byte, ok bool) {
	s := jsonscan.Scanner{Text: b}
	if !s.Is('[') {
		return nil, false
	}
	for first := true; s.Element(&first); {
		value, ok := extent(&s)
		if !ok {
			return nil, false
		}
		list = append(list, value)
	}
	return list, s.OK() && s.End(errBehind)
}

// errBehind is never told: what is no envelope passes as it is.
var errBehind = reason.New("text behind the value")

// extent steps over a value without looking into it: whoever reads the value does.
func extent(s *jsonscan.Scanner) (value []byte, ok bool) {
	s.Peek()
	from := s.At
	if s.At = jsonscan.Extent(s.Text, from); s.At < 0 {
		return nil, false
	}
	return s.Text[from:s.At], true
}

// find returns the value of the last member of that name, which is the one that JSON readers take.
func find(list []member, name string) []byte {
	for i := len(list) - 1; i >= 0; i-- {
		if string(list[i].name) == name {
			return list[i].value
		}
	}
	return nil
}

// content returns what a value says that is a string; ok is false when it is none.
func content(value []byte) (_ []byte, ok bool) {
	if len(value) == 0 || value[0] != '"' {
		return nil, false // and nothing is said about it
	}
	s := jsonscan.Scanner{Text: value}
	b, ok := s.String()
	return b, ok && s.End(errBehind)
}

// text is content as a string.
func text(value []byte) (string, bool) {
	b, ok := content(value)
	return string(b), ok
}

// object takes an object's envelope off, if it is one.
func (u *unwrapping) object(in *unwrapped) (again bool, err error) {
	list, ok := members(in.body)
	if !ok {
		return false, nil // whoever reads the body will say what is wrong with it
	}
	if kind, ok := text(find(list, "Type")); ok && find(list, "TopicArn") != nil {
		body := find(list, "Message")
		switch {
		case kind == "Notification" && first(body) == '"':
			if in.body, ok = content(body); !ok {
				return false, reason.New("the Message of an SNS notification is no text that UTF-8 can carry")
			}
			in.told(find(list, "Timestamp"), nil)
			if attributes, ok := members(find(list, "MessageAttributes")); ok {
				if attribute, ok := members(find(attributes, "eventType")); ok {
					in.told(nil, find(attribute, "Value"))
				}
			}
			return true, nil
		case kind == "SubscriptionConfirmation" || kind == "UnsubscribeConfirmation":
			topic, _ := text(find(list, "TopicArn"))
			return false, reason.Errorf("this is no event but an SNS %s of topic %q", kind, topic)
		}
	}
	if detail := find(list, "detail"); first(detail) == '{' && find(list, "detail-type") != nil {
		in.body = detail
		in.told(find(list, "time"), find(list, "detail-type"))
		return true, nil
	}
	if data := find(list, "data"); first(data) == '{' {
		return u.data(in, list, data)
	}
	return false, nil
}

// told notes an envelope's time and type.
func (u *unwrapped) told(at, typ []byte) {
	if s, ok := text(at); ok {
		if _, ok := rfc3339.Parse(s); ok {
			u.time = s
		}
	}
	if s, ok := text(typ); ok && s != "" {
		u.typ = s
	}
}

// data takes the members of data out of a GraphQL result or a webhook's wrapper.
func (u *unwrapping) data(in *unwrapped, list []member, data []byte) (again bool, err error) {
	inner, ok := members(data)
	if !ok {
		return false, nil
	}
	graphQL := len(inner) == 1 && first(inner[0].value) == '{'
	for _, m := range list {
		switch string(m.name) {
		case "data", "extensions":
		case "errors":
			if s := string(bytes.TrimSpace(m.value)); s != "null" && s != "[]" {
				return false, reason.New("this is no event but a GraphQL result with errors")
			}
		default:
			graphQL = false
		}
	}
	if graphQL {
		in.body = inner[0].value
		in.typ = string(inner[0].name)
		return true, nil
	}
	if len(list) == 1 {
		in.body = data
		return true, nil
	}
	if _, ok := text(find(list, "type")); !ok {
		return false, nil
	}
	// What stands beside data belongs to the event: its type, its time.
	body := make([]byte, 0, len(in.body))
	body = append(body, '{')
	for _, m := range list {
		if string(m.name) == "data" || find(inner, string(m.name)) != nil {
			continue
		}
		body = appendMember(body, m)
	}
	for _, m := range inner {
		body = appendMember(body, m)
	}
	in.body = append(body, '}')
	return true, nil
}

func appendMember(dst []byte, m member) []byte {
	if len(dst) > 1 {
		dst = append(dst, ',')
	}
	dst = jsonscan.AppendQuoted(dst, m.name)
	dst = append(dst, ':')
	return append(dst, m.value...)
}

// objectsOf splits an array of objects; ok is false when it is something else.
func objectsOf(b []byte) (parts [][]byte, ok bool) {
	if parts, ok = elements(b); !ok {
		return nil, false
	}
	for _, part := range parts {
		if first(part) != '{' {
			return nil, false
		}
	}
	return parts, true
}

// text decodes base64, and gzip in it, when JSON comes out.
func (u *unwrapping) text(in *unwrapped) (again bool, err error) {
	body, ok := fromBase64(in.body)
	if !ok {
		return false, nil
	}
	if err := u.reserve(len(body)); err != nil {
		return false, err
	}
	packed := len(body)
	body, err = u.gunzip(body)
	if errors.Is(err, pipeline.ErrNoRoom) {
		return false, err
	}
	if err != nil {
		return false, reason.Errorf("base64 text with broken gzip in it: %w", err)
	}
	if int64(len(body)) > u.left && len(body) > packed {
		return false, u.tooLarge()
	}
	body = bytes.TrimPrefix(body, byteOrderMark)
	if c := first(body); c != '{' && c != '[' {
		return false, nil
	}
	if u.left -= int64(len(body)); u.left < 0 {
		return false, u.tooLarge()
	}
	in.body = body
	return true, nil
}

// gunzip unpacks what is gzip, up to one byte more than may still be unpacked, and returns everything else as it is.
func (u *unwrapping) gunzip(b []byte) ([]byte, error) {
	if !bytes.HasPrefix(b, gzipMagic) {
		return b, nil
	}
	rest := bytes.NewReader(b)
	r, err := gzip.NewReader(rest)
	if err != nil {
		return b, nil //nolint:nilerr // it only looked like gzip
	}
	var out []byte
	for {
		r.Multistream(false)
		if out, err = u.readAll(out, r); err != nil {
			return nil, err
		}
		behind := b[len(b)-rest.Len():]
		switch {
		case int64(len(out)) > u.left || len(bytes.Trim(behind, "\x00")) == 0: // gzip itself ignores zeros that fill up a block
			return out, nil
		case !bytes.HasPrefix(behind, gzipMagic):
			return nil, reason.Errorf("%d bytes behind its end are not gzip", len(behind))
		}
		if err := r.Reset(rest); err != nil {
			return nil, err
		}
	}
}

// readAll appends what r gives to b, up to one byte more than may still be unpacked. Room is reserved before it is
// taken: a small text may unpack to a large one.
func (u *unwrapping) readAll(b []byte, r io.Reader) ([]byte, error) {
	for int64(len(b)) <= u.left {
		if len(b) == cap(b) {
			size := min(max(2*int64(cap(b)), firstRoom), u.left+1)
			if err := u.reserve(int(size)); err != nil {
				return nil, err
			}
			b = append(make([]byte, 0, size), b...)
		}
		n, err := r.Read(b[len(b):min(int64(cap(b)), u.left+1)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
	}
	return b, nil
}

// firstRoom is enough for most messages. What needs no more than this isn't reserved: it is a fixed part of the cost
// of a message.
const firstRoom = 16 << 10

// reserve makes sure that there is room for n bytes more.
func (u *unwrapping) reserve(n int) error {
	if n <= firstRoom {
		return nil
	}
	return pipeline.Reserve(u.ctx, int64(n))
}

var gzipMagic = []byte{0x1f, 0x8b}

// fromBase64 decodes standard and URL-safe base64, padded or not.
func fromBase64(b []byte) ([]byte, bool) {
	b = bytes.TrimSpace(b)
	b = bytes.TrimRight(b, "=")
	if len(b) < 2 {
		return nil, false
	}
	encoding := base64.RawStdEncoding
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '+', c == '/', c == '\n', c == '\r':
		case c == '-', c == '_':
			encoding = base64.RawURLEncoding
		default:
			return nil, false
		}
	}
	decoded := make([]byte, encoding.DecodedLen(len(b)))
	n, err := encoding.Decode(decoded, b)
	return decoded[:n], err == nil
}
