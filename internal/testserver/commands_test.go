package testserver

import (
	"reflect"
	"testing"
)

func TestCommands_areWhatAShellMakesOfThem(t *testing.T) {
	got := Commands(t, "aws", "# a comment\naws sqs 'a b' '{\"c\":\"$d\"}' ''\naws x")
	if want := [][]string{{"sqs", "a b", `{"c":"$d"}`, ""}, {"x"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
