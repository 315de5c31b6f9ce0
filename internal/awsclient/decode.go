package awsclient

import (
	"bytes"
	"context"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/segmentio/encoding/json"
)

// fastDecoding decodes the responses that come with every ten messages in one go into structs. The SDK's own decoder
// builds maps of interfaces first, which costs more than all else that the client does. What isn't a plain success is
// left to the SDK.
func fastDecoding(stack *middleware.Stack) error {
	const id = "OperationDeserializer"
	original, ok := stack.Deserialize.Get(id)
	if !ok {
		return nil
	}
	_, err := stack.Deserialize.Swap(id, fastDecoder{original})
	return err
}

type fastDecoder struct {
	original middleware.DeserializeMiddleware
}

func (d fastDecoder) ID() string { return d.original.ID() }

func (d fastDecoder) HandleDeserialize(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
	decode := decoders[middleware.GetOperationName(ctx)]
	if decode == nil {
		return d.original.HandleDeserialize(ctx, in, next)
	}
	out, metadata, err := next.HandleDeserialize(ctx, in)
	if err != nil {
		return out, metadata, err
	}
	response, ok := out.RawResponse.(*smithyhttp.Response)
	if ok && response.StatusCode == 200 {
		body, err := wholeBody(response.Body)
		if err == nil {
			if out.Result, err = decode(body); err == nil {
				return out, metadata, nil
			}
		}
		out.Result = nil
		response.Body = newWholeBodyReader(body)
	}
	return d.original.HandleDeserialize(ctx, in, answered{out, metadata})
}

// wholeBody returns what WholeBodies has read, without a copy where it still can be had.
func wholeBody(body io.Reader) ([]byte, error) {
	if b, ok := body.(*wholeBodyReader); ok {
		return b.all, nil
	}
	return io.ReadAll(body)
}

// wholeBodyReader is a body in memory.
type wholeBodyReader struct {
	bytes.Reader
	all []byte
}

func (*wholeBodyReader) Close() error { return nil }

func newWholeBodyReader(all []byte) *wholeBodyReader {
	b := &wholeBodyReader{all: all}
	b.Reset(all)
	return b
}

// answered is the rest of the stack, after it has run.
type answered struct {
	out      middleware.DeserializeOutput
	metadata middleware.Metadata
}

func (a answered) HandleDeserialize(context.Context, middleware.DeserializeInput) (middleware.DeserializeOutput, middleware.Metadata, error) {
	return a.out, a.metadata, nil
}

type receiveResponse struct{ Messages []receivedMessage }

type receivedMessage struct {
	MessageId, ReceiptHandle, Body, MD5OfBody *string //nolint:revive // the protocol's names
	Attributes                                map[string]string
	MessageAttributes                         map[string]struct {
		DataType, StringValue *string
		BinaryValue           []byte
	}
}

var decoders = map[string]func([]byte) (any, error){
	"ReceiveMessage": func(body []byte) (any, error) {
		in := receiveResponse{Messages: make([]receivedMessage, 0, 10)}
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		out := &sqs.ReceiveMessageOutput{Messages: make([]types.Message, len(in.Messages))}
		for i, m := range in.Messages {
			out.Messages[i] = types.Message{MessageId: m.MessageId, ReceiptHandle: m.ReceiptHandle, Body: m.Body, MD5OfBody: m.MD5OfBody, Attributes: m.Attributes}
			if len(m.MessageAttributes) > 0 {
				attributes := make(map[string]types.MessageAttributeValue, len(m.MessageAttributes))
				for k, v := range m.MessageAttributes {
					attributes[k] = types.MessageAttributeValue{DataType: v.DataType, StringValue: v.StringValue, BinaryValue: v.BinaryValue}
				}
				out.Messages[i].MessageAttributes = attributes
			}
		}
		return out, nil
	},
	"DeleteMessageBatch": func(body []byte) (any, error) {
		var in struct {
			Successful []types.DeleteMessageBatchResultEntry
			Failed     []types.BatchResultErrorEntry
		}
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		return &sqs.DeleteMessageBatchOutput{Successful: in.Successful, Failed: in.Failed}, nil
	},
	"ChangeMessageVisibilityBatch": func(body []byte) (any, error) {
		var in struct {
			Successful []types.ChangeMessageVisibilityBatchResultEntry
			Failed     []types.BatchResultErrorEntry
		}
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, err
		}
		return &sqs.ChangeMessageVisibilityBatchOutput{Successful: in.Successful, Failed: in.Failed}, nil
	},
}
