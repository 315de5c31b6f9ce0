package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// runStart measures how long penstock takes from its start until it is ready, with the quick start's pipeline, and how
// large it is.
func runStart(ctx context.Context, b *bench) (string, error) {
	var ready sample
	for range b.rounds {
		ms, err := b.start(ctx)
		if err != nil {
			return "", fmt.Errorf("start: %w", err)
		}
		ready.add(ms)
		b.say("start: ready in %.0f ms", ms)
	}
	size, err := os.Stat(b.binary)
	if err != nil {
		return "", err
	}
	t := table{header: []string{"what", "figure"}}
	t.add("start to ready (`/readyz` answers 200), quick start, ms", ready.spread(0))
	t.add("program (`make build`: static, stripped), MB", number(float64(size.Size())/1e6, 1))
	return t.String() + "\n" + aims(atMost("start to ready, ms", 200, 0, ready.median())), nil
}

// start runs the quick start on free ports and returns the milliseconds until it was ready.
func (b *bench) start(ctx context.Context) (float64, error) {
	config, err := os.ReadFile(filepath.Join(b.root, "configs", "quickstart.yaml"))
	if err != nil {
		return 0, err
	}
	text := string(config)
	var address string
	for _, port := range []string{"4000", "6380"} {
		free, err := freePort()
		if err != nil {
			return 0, err
		}
		if !strings.Contains(text, "127.0.0.1:"+port) {
			return 0, fmt.Errorf("quickstart.yaml does not use 127.0.0.1:%s: the benchmark doesn't know its ports any more", port)
		}
		own := net.JoinHostPort("127.0.0.1", strconv.Itoa(free))
		text = strings.ReplaceAll(text, "127.0.0.1:"+port, own)
		if address == "" {
			address = own
		}
	}
	file, err := b.configFile("quickstart", text)
	if err != nil {
		return 0, err
	}
	cmd := exec.Command(b.binary, "run", file)
	cmd.Dir = b.dir
	p, err := startProcess(cmd)
	if err != nil {
		return 0, err
	}
	defer p.kill()
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for time.Since(p.started) < startTimeout && ctx.Err() == nil {
		select {
		case <-p.done:
			return 0, errors.Join(errors.New("penstock ended before it was ready"), p.failure)
		default:
		}
		res, err := client.Get("http://" + address + "/readyz")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return float64(time.Since(p.started).Microseconds()) / 1000, nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	return 0, fmt.Errorf("not ready after %s: %s", startTimeout, p.err.String())
}
