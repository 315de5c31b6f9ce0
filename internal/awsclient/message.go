package awsclient

import (
	"encoding/base64"
	"maps"
	"strings"

	wmsqs "github.com/ThreeDotsLabs/watermill-aws/sqs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

var marshaler wmsqs.DefaultMarshalerUnmarshaler

// ToMessage makes a message of what was received from SQS: the one that the sqs sink was given, if that has sent it.
// Its metadata are the message attributes. Nothing in a message makes it undeliverable: what can't be understood stays
// as it is.
func ToMessage(m *types.Message) *message.Message {
	for name, a := range m.MessageAttributes {
		// "Number.int" and the like: SQS lets senders label the three types, the marshaler knows them bare.
		if a.DataType != nil {
			if i := strings.IndexByte(*a.DataType, '.'); i > 0 {
				a.DataType = aws.String((*a.DataType)[:i])
				m.MessageAttributes[name] = a
			}
		}
		if name == wmsqs.UUIDAttribute && a.StringValue == nil {
			delete(m.MessageAttributes, name)
		}
	}
	msg, _ := marshaler.Unmarshal(m) // it returns no error
	if packed, ok := msg.Metadata[AttributeMetadata]; ok {
		if more, ok := UnpackMetadata(packed); ok {
			delete(msg.Metadata, AttributeMetadata)
			maps.Copy(msg.Metadata, more)
		}
	}
	switch msg.Metadata[AttributeEncoding] {
	case "base64":
		if body, err := base64.StdEncoding.DecodeString(string(msg.Payload)); err == nil {
			msg.Payload = body
			delete(msg.Metadata, AttributeEncoding)
		}
	case "empty":
		msg.Payload = []byte{}
		delete(msg.Metadata, AttributeEncoding)
	}
	return msg
}
