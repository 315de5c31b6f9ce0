package faults

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// load sends events as long as a fault goes on, and keeps a model of what they must leave in Redis. Three of four are
// about a customer of their own, so that each one that is lost is missing; the others are about a few customers, of
// which the newest must win, however late an older one comes again.
type load struct {
	q      *queue
	begin  time.Time
	stop   chan struct{}
	ended  chan struct{}
	paused chan chan struct{}

	mu     sync.Mutex
	sent   int
	bodies []string
	model  map[string]event // by customer
	jumps  []time.Duration  // of the clocks that events have, in turn
	failed error
}

// event is what the model knows of the newest event of a customer.
type event struct {
	number int
	at     time.Time
}

func (e event) limit() int { return 1000 + e.number }
func (e event) usage() int { return e.number }

const (
	shared  = 40 // customers with many events
	perSend = 10
	mostOwn = 100_000 // a soak would fill the machine's memory
)

func newLoad(q *queue) *load {
	return &load{q: q, begin: time.Now().Add(-2 * time.Hour).Truncate(time.Second), model: map[string]event{},
		stop: make(chan struct{}), ended: make(chan struct{}), paused: make(chan chan struct{})}
}

const stamp = "2006-01-02T15:04:05.000Z"

// next makes an event.
func (l *load) next() string { return l.event("API calls") }

// event makes an event whose feature has that name, in JSON.
func (l *load) event(displayName string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.sent
	l.sent++
	customer := fmt.Sprintf("own-%d", n%mostOwn)
	if n%4 == 0 {
		customer = fmt.Sprintf("shared-%d", n/4%shared)
	}
	e := event{n, l.begin.Add(time.Duration(n) * time.Millisecond)}
	if len(l.jumps) > 0 {
		e.at = e.at.Add(l.jumps[n/4%len(l.jumps)])
	}
	if !e.at.Before(l.model[customer].at) {
		l.model[customer] = e
	}
	at := e.at.UTC().Format(stamp)
	body := fmt.Sprintf(`{"__typename":"EntitlementsUpdated","customerId":%q,"resourceId":null,"entitlements":[{"isGranted":true,`+
		`"usageLimit":%d,"hasUnlimitedUsage":false,"hasSoftLimit":false,"currentUsage":%d,"entitlementUpdatedAt":%q,"usageUpdatedAt":%q,`+
		`"feature":{"refId":"api-calls","featureType":"NUMBER","meterType":"Incremental","featureUnits":"call","featureUnitsPlural":"calls",`+
		`"displayName":"%s"}}]}`, customer, e.limit(), e.usage(), at, at, displayName)
	l.bodies = append(l.bodies, body)
	return body
}

// send sends n events at once.
func (l *load) send(n int) {
	bodies := make([]string, n)
	for i := range bodies {
		bodies[i] = l.next()
	}
	if err := l.q.send(bodies...); err != nil {
		l.mu.Lock()
		l.failed = err
		l.mu.Unlock()
	}
}

// run sends events at that pace until end.
func (l *load) run(perSecond int) {
	go func() {
		defer close(l.ended)
		ticker := time.NewTicker(time.Second * perSend / time.Duration(perSecond))
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				l.send(perSend)
			case resume := <-l.paused:
				<-resume
			case <-l.stop:
				return
			}
		}
	}()
}

// pause stops the sending until the function that it returns is called.
func (l *load) pause() func() {
	resume := make(chan struct{})
	l.paused <- resume
	return func() { close(resume) }
}

// again sends all events once more.
func (l *load) again() error {
	l.mu.Lock()
	bodies := l.bodies
	l.mu.Unlock()
	return l.q.send(bodies...)
}

// end stops the sending, and returns how many events were sent.
func (l *load) end() (int, error) {
	close(l.stop)
	<-l.ended
	return l.sent, l.failed
}

// client is a client of a Redis.
func client(t testing.TB, addr, password string) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: addr, Password: password, Protocol: 2, DisableIdentity: true, ReadTimeout: 20 * time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dump reads all of a Redis.
func dump(s *scene, c *redis.Client) map[string]string {
	ctx := s.t.Context()
	found := map[string]string{}
	for cursor := uint64(0); ; {
		keys, next, err := c.Scan(ctx, cursor, "*", 5000).Result()
		if err != nil {
			s.giveUp("SCAN: %v", err)
		}
		if len(keys) > 0 {
			values, err := c.MGet(ctx, keys...).Result()
			if err != nil {
				s.giveUp("MGET: %v", err)
			}
			for i, key := range keys {
				found[key], _ = values[i].(string)
			}
		}
		if cursor = next; cursor == 0 {
			return found
		}
	}
}

const prefix = "production:"

// check compares all of Redis with the model, and returns how many of the events that were sent it has found: those of
// a customer whose newest one is there count all.
func (l *load) check(s *scene, c *redis.Client) int {
	found := dump(s, c)
	wrong := 0
	for customer, e := range l.model {
		if problem := e.find(found, prefix+"c_"+customer); problem != "" {
			wrong++
			if wrong <= 5 {
				s.wrong("event %d of customer %s: %s", e.number, customer, problem)
			}
		}
	}
	if wrong > 5 {
		s.wrong("and %d customers more", wrong-5)
	}
	for key := range found {
		if !strings.HasPrefix(key, prefix+"penstock:") {
			s.wrong("%q should not be there", key)
			break
		}
	}
	return l.sent - wrong
}

// find looks an event up in what was found, takes it out, and says what is wrong.
func (e event) find(found map[string]string, key string) string {
	take := func(key string) string {
		value := found[key]
		delete(found, key)
		return value
	}
	value, used := take(key), take(key+":f_api-calls")
	at := strconv.FormatInt(e.at.UnixMilli(), 10)
	versions := []string{take(key + "#timestamp"), take(key + ":f_api-calls#timestamp"), take(key + ":metadata#timestamp")}
	metadata := take(key + ":metadata")
	if value == "" || used == "" || metadata == "" {
		return "it is missing"
	}
	var limits map[string]struct{ CalculatedEntitlement struct{ UsageLimit int } }
	if err := json.Unmarshal([]byte(value), &limits); err != nil || len(limits) != 1 || limits["api-calls"].CalculatedEntitlement.UsageLimit != e.limit() {
		return fmt.Sprintf("it is %s, want a limit of %d", value, e.limit())
	}
	var usage struct{ CurrentUsage int }
	if err := json.Unmarshal([]byte(used), &usage); err != nil || usage.CurrentUsage != e.usage() {
		return fmt.Sprintf("its usage is %s, want %d", used, e.usage())
	}
	for _, version := range versions {
		if version != at {
			return fmt.Sprintf("its versions are %q, want %s", versions, at)
		}
	}
	return ""
}
