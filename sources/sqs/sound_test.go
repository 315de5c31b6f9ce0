package sqs

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// What a broken server or proxy makes of messages is neither handed on nor poisoned: receiving counts as failing.
func TestSound_whatIsNoMessage(t *testing.T) {
	good := types.Message{MessageId: aws.String("1"), ReceiptHandle: aws.String("r"), Body: aws.String("hello"), MD5OfBody: aws.String("5d41402abc4b2a76b9719d911017c592")}
	edited := func(edit func(*types.Message)) types.Message { m := good; edit(&m); return m }
	for name, test := range map[string]struct {
		in   types.Message
		kept bool
	}{
		"whole":                  {good, true},
		"checksum in capitals":   {edited(func(m *types.Message) { m.MD5OfBody = aws.String("5D41402ABC4B2A76B9719D911017C592") }), true},
		"no checksum":            {edited(func(m *types.Message) { m.MD5OfBody = nil }), true},
		"no id":                  {edited(func(m *types.Message) { m.MessageId = nil }), false},
		"empty id":               {edited(func(m *types.Message) { m.MessageId = aws.String("") }), false},
		"no receipt handle":      {edited(func(m *types.Message) { m.ReceiptHandle = nil }), false},
		"another body":           {edited(func(m *types.Message) { m.Body = aws.String("hellO") }), false},
		"no body":                {edited(func(m *types.Message) { m.Body = nil }), false},
		"checksum of nothing":    {edited(func(m *types.Message) { m.MD5OfBody = aws.String("") }), false},
		"nothing but a checksum": {types.Message{MD5OfBody: good.MD5OfBody}, false},
	} {
		t.Run(name, func(t *testing.T) {
			kept, err := sound([]types.Message{good, test.in, good})
			want := 2
			if test.kept {
				want = 3
			}
			if len(kept) != want || (err == nil) != test.kept {
				t.Errorf("kept %d, want %d; %v", len(kept), want, err)
			}
		})
	}
}
