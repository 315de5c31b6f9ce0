package transforms

import (
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/penstock-dev/penstock/pipeline"
)

// BenchmarkExpressions is filter and map on 300 B of JSON.
func BenchmarkExpressions(b *testing.B) {
	const payload = `{"id":"order-4711","customer":{"id":"customer-17","name":"Ada Lovelace","country":"GB"},"total":129.90,"currency":"EUR","updated":"2026-11-20T10:05:00Z","items":[{"sku":"cup-blue","count":2,"price":14.95},{"sku":"pan-28cm","count":1,"price":100.00}],"note":"leave it with the neighbours, please!!"}`
	filter, err := (&FilterConfig{If: ".total >= 3", OnErrorConfig: OnErrorConfig{OnError: "poison"}}).NewTransform(pipeline.Env{})
	if err != nil {
		b.Fatal(err)
	}
	to, err := (&MapConfig{To: "{id, customer: .customer.id, total}", OnErrorConfig: OnErrorConfig{OnError: "poison"}}).NewTransform(pipeline.Env{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		out, err := filter(message.NewMessage("m", []byte(payload)))
		if err != nil || len(out) != 1 {
			b.Fatal(out, err)
		}
		if out, err = to(out[0]); err != nil || len(out) != 1 {
			b.Fatal(out, err)
		}
	}
}
