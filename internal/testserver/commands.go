package testserver

import (
	"os/exec"
	"strings"
	"testing"
)

// Commands returns the arguments of each command of that name in a script, as a shell would hand them to it: what is
// printed to be pasted must mean to a shell what was meant.
func Commands(t testing.TB, name, script string) [][]string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-euc", name+"() { for word in \"$@\"; do printf '%s\\0' \"$word\"; done; printf '\\1'; }\n"+script).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, out, script)
	}
	var commands [][]string
	for command := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x01"), "\x01") {
		commands = append(commands, strings.Split(strings.TrimSuffix(command, "\x00"), "\x00"))
	}
	return commands
}
