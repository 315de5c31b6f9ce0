package redis

import (
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// embedded is a Redis inside this process, for trying things out: its keys are gone with the process.
type embedded struct {
	server *miniredis.Miniredis
	stop   chan struct{}
	done   sync.WaitGroup
}

// expireEvery is how often the built-in Redis looks for keys that have expired.
const expireEvery = time.Second

func startEmbedded(address string) (*embedded, error) {
	e := &embedded{server: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	if err := e.server.StartAddr(address); err != nil {
		return nil, err
	}
	e.done.Go(e.tick)
	return e, nil
}

// tick drives the server's clock, which otherwise stands still. A step looks at every key, so the more there are, the
// longer the steps: they never take more than a twentieth of the time.
func (e *embedded) tick() {
	last := time.Now()
	timer := time.NewTimer(expireEvery)
	defer timer.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-timer.C:
		}
		now := time.Now()
		e.server.FastForward(now.Sub(last))
		last = now
		timer.Reset(max(expireEvery, 20*time.Since(now)))
	}
}

func (e *embedded) close() {
	close(e.stop)
	e.done.Wait()
	e.server.Close()
}
