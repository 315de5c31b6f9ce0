package pipeline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestAttempt_behavesAsAContext(t *testing.T) {
	for name, end := range map[string]func(*attempt){
		"asked for its channel before": func(a *attempt) { a.Done(); a.end(context.DeadlineExceeded) },
		"asked for its channel after":  func(a *attempt) { a.end(context.DeadlineExceeded) },
		"ended twice":                  func(a *attempt) { a.end(context.DeadlineExceeded); a.end(context.Canceled) },
	} {
		t.Run(name, func(t *testing.T) {
			a := &attempt{Context: context.WithValue(t.Context(), deliveryKey, "value"), deadline: time.Now().Add(time.Hour)}
			if a.Err() != nil || a.Value(deliveryKey) != "value" {
				t.Fatalf("before its end: %v, value %v", a.Err(), a.Value(deliveryKey))
			}
			end(a)
			select {
			case <-a.Done():
			default:
				t.Error("not done after its end")
			}
			if !errors.Is(a.Err(), context.DeadlineExceeded) || !errors.Is(context.Cause(a), context.DeadlineExceeded) {
				t.Errorf("error %v, cause %v", a.Err(), context.Cause(a))
			}
		})
	}
}

func TestAttempt_contextsMadeFromItEndWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &attempt{Context: t.Context(), deadline: time.Now().Add(time.Hour)}
		child, cancel := context.WithCancel(a)
		defer cancel()
		grandchild, cancelGrandchild := context.WithTimeout(child, 2*time.Hour)
		defer cancelGrandchild()
		if deadline, ok := grandchild.Deadline(); !ok || !deadline.Equal(a.deadline) {
			t.Errorf("deadline %v, want the attempt's", deadline)
		}
		called := make(chan struct{})
		context.AfterFunc(a, func() { close(called) })
		stop := context.AfterFunc(a, func() { t.Error("a stopped function was called") })
		if !stop() || stop() {
			t.Error("stop must say that it stopped, once")
		}
		a.end(context.DeadlineExceeded)
		<-called
		<-grandchild.Done()
		if !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("child ended with %v", child.Err())
		}
		late, cancelLate := context.WithCancel(a)
		defer cancelLate()
		<-late.Done()
	})
}
