package penstock_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/entitlement"
	"github.com/penstock-dev/penstock/internal/testserver"
	"github.com/penstock-dev/penstock/pipeline"
	"github.com/penstock-dev/penstock/sinks"
)

// arrival is an event that comes in at a time of this machine's clock.
type arrival struct {
	clock   time.Duration // after noon
	body    string
	refused string // why it is poisoned, or ""
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// dated is a usage event of that time after noon, undated one that carries no time.
func dated(after time.Duration, usage int) string {
	return fmt.Sprintf(`{"messageId":"same","timestamp":%q,"customerId":"CUSTOMER","featureId":"f","currentUsage":%d}`,
		noon.Add(after).Format("2006-01-02T15:04:05.000Z"), usage)
}

func undated(usage int) string {
	return fmt.Sprintf(`{"messageId":"same","customerId":"CUSTOMER","featureId":"f","currentUsage":%d}`, usage)
}

func clocked(clock string, usage int) string {
	return fmt.Sprintf(`{"messageId":"same","timestamp":%s,"customerId":"CUSTOMER","featureId":"f","currentUsage":%d}`, clock, usage)
}

// What is in a real Redis after events with odd clocks and ids is what the contract says, in whatever order they
// arrive: an event's own clock decides, ids don't, this machine's clock only where the event has none, and what is
// out of range changes nothing.
func TestEvents_clocksAndIDsDoWhatTheContractSays(t *testing.T) {
	sink, client := cacheOf(t)
	const ahead, before = "more than 24 hours ahead", "before 1970"
	for name, c := range map[string]struct {
		arrivals []arrival
		inOrder  bool   // the clock belongs to the place in the row
		want     string // the usage
	}{
		"one event twice":                             {[]arrival{{0, dated(0, 1), ""}, {time.Hour, dated(0, 1), ""}}, false, "1"},
		"one id, another content":                     {[]arrival{{0, dated(0, 1), ""}, {0, dated(time.Second, 2), ""}, {0, dated(2*time.Second, 3), ""}}, false, "3"},
		"one time, the greater bytes":                 {[]arrival{{0, dated(0, 1), ""}, {0, dated(0, 3), ""}, {0, dated(0, 2), ""}}, false, "3"},
		"the clock jumps back an hour":                {[]arrival{{0, dated(0, 1), ""}, {-time.Hour, dated(time.Second, 2), ""}}, false, "2"},
		"the clock jumps ahead a year":                {[]arrival{{0, dated(0, 1), ""}, {365 * 24 * time.Hour, dated(-time.Second, 2), ""}}, false, "1"},
		"24 hours ahead":                              {[]arrival{{0, dated(24*time.Hour, 2), ""}, {0, dated(0, 1), ""}}, false, "2"},
		"a millisecond more":                          {[]arrival{{0, dated(24*time.Hour+time.Millisecond, 2), ahead}, {0, dated(0, 1), ""}}, false, "1"},
		"ahead, and again when its time comes":        {[]arrival{{0, dated(25*time.Hour, 2), ahead}, {0, dated(0, 1), ""}, {2 * time.Hour, dated(25*time.Hour, 2), ""}}, false, "2"},
		"the clock is a day behind":                   {[]arrival{{-25 * time.Hour, dated(0, 2), ahead}, {0, dated(-time.Hour, 1), ""}}, false, "1"},
		"undated: the time of receipt":                {[]arrival{{0, undated(1), ""}, {time.Second, undated(2), ""}}, true, "2"},
		"undated, and the clock jumps back":           {[]arrival{{0, undated(1), ""}, {-time.Second, undated(2), ""}}, true, "1"},
		"undated beside a dated one of later":         {[]arrival{{0, undated(1), ""}, {0, dated(time.Second, 2), ""}}, false, "2"},
		"time 0":                                      {[]arrival{{0, clocked("0", 2), before}, {0, dated(0, 1), ""}}, false, "1"},
		"a negative time":                             {[]arrival{{0, clocked("-1", 2), before}, {0, dated(0, 1), ""}}, false, "1"},
		"seconds":                                     {[]arrival{{0, clocked("1795176001", 2), "it looks like seconds"}, {0, dated(0, 1), ""}}, false, "1"},
		"microseconds":                                {[]arrival{{0, clocked("1795176001000000", 2), "it looks like microseconds"}, {0, dated(0, 1), ""}}, false, "1"},
		"nanoseconds":                                 {[]arrival{{0, clocked("1795176001000000000", 2), "it looks like nanoseconds"}, {0, dated(0, 1), ""}}, false, "1"},
		"the greatest number of 64 bits":              {[]arrival{{0, clocked("9223372036854775807", 2), ahead}, {0, dated(0, 1), ""}}, false, "1"},
		"more than 64 bits":                           {[]arrival{{0, clocked("92233720368547758070", 2), "want a time"}, {0, dated(0, 1), ""}}, false, "1"},
		"year 9999":                                   {[]arrival{{0, clocked(`"9999-12-31T23:59:59.999Z"`, 2), ahead}, {0, dated(0, 1), ""}}, false, "1"},
		"year 0":                                      {[]arrival{{0, clocked(`"0000-01-01T00:00:00Z"`, 2), before}, {0, dated(0, 1), ""}}, false, "1"},
		"a period that ends in 2100 is no clock":      {[]arrival{{0, strings.Replace(dated(0, 1), `"featureId"`, `"usagePeriodStart":1,"usagePeriodEnd":4102444800000,"featureId"`, 1), ""}}, false, "1"},
		"one time in three spellings, greatest bytes": {[]arrival{{0, clocked("1795176000000", 1), ""}, {0, clocked(`"2026-11-20T14:00:00+02:00"`, 3), ""}, {0, clocked("1.795176e12", 2), ""}}, false, "3"},
	} {
		t.Run(name, func(t *testing.T) {
			orders := [][]arrival{c.arrivals}
			if !c.inOrder {
				orders = permutations(c.arrivals)
			}
			for i, order := range orders {
				if got := usageAfter(t, sink, client, fmt.Sprintf("%s/%d", name, i), order); got != c.want {
					t.Errorf("order %d: the usage is %q, want %q: %+v", i, got, c.want, order)
				}
			}
		})
	}
}

func permutations(all []arrival) [][]arrival {
	if len(all) < 2 {
		return [][]arrival{all}
	}
	var list [][]arrival
	for i := range all {
		rest := append(append([]arrival(nil), all[:i]...), all[i+1:]...)
		for _, p := range permutations(rest) {
			list = append(list, append([]arrival{all[i]}, p...))
		}
	}
	return list
}

// usageAfter decodes the events and stores them one after another, and returns the usage that is in Redis then.
func usageAfter(t *testing.T, sink pipeline.Sink, client *redis.Client, customer string, order []arrival) string {
	t.Helper()
	decoder, err := entitlement.NewDecoder(entitlement.Options{Layout: entitlement.LayoutV3})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range order {
		body := strings.Replace(a.body, "CUSTOMER", customer, 1)
		payload, _, err := decoder.Append(nil, entitlement.Input{Body: []byte(body), Now: noon.Add(a.clock)})
		if wrong, ok := errors.AsType[*entitlement.Error](err); ok && a.refused != "" {
			if !strings.Contains(wrong.Error(), a.refused) {
				t.Errorf("%s: %v, want %q", body, err, a.refused)
			}
			continue
		}
		if err != nil || a.refused != "" {
			t.Fatalf("%s: %v, want %q", body, err, a.refused)
		}
		if err := sink.Publisher.Publish("", message.NewMessage("m", payload)); err != nil {
			t.Fatal(err)
		}
	}
	value := client.Get(t.Context(), "contract:c_"+customer+":f_f").Val()
	_, rest, _ := strings.Cut(value, `"currentUsage":`)
	usage, _, _ := strings.Cut(strings.TrimSuffix(rest, "}"), ",")
	return usage
}

// cacheOf starts a server and returns a redis sink and a client of it.
func cacheOf(t *testing.T) (pipeline.Sink, *redis.Client) {
	t.Helper()
	addr := testserver.Redis(t)
	config := &sinks.RedisConfig{}
	pipeline.SetDefaults(config)
	config.Host, config.Prefix = addr, "contract"
	sink, err := config.NewSink(pipeline.Env{})
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Publisher.(pipeline.Starter).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	t.Cleanup(func() {
		_ = sink.Publisher.Close()
		_ = client.Close()
	})
	return sink, client
}
