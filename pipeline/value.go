package pipeline

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/penstock-dev/penstock/internal/plaintext"
)

// Secret is a string that must not be seen: it prints as "[redacted]" in every verb, dump and encoding. Reveal returns
// it. The empty Secret prints as "".
//
// A secret that a pipeline file takes from a file (${file:…}, or a variable that NAME_FILE sets) may be rotated while
// the program runs: see [Secret.Current].
type Secret struct {
	value  string
	reread func() string // nil: it does not come from a file
}

// NewSecret makes a Secret of s.
func NewSecret(s string) Secret { return Secret{value: s} }

// Reveal returns the secret itself.
func (s Secret) Reveal() string { return s.value }

// Current returns the secret as its file holds it now; while the file can't be read or is empty, what it held last. One
// that comes from no file is what [Secret.Reveal] returns. Components call it whenever they log in.
func (s Secret) Current() string {
	if s.reread == nil {
		return s.value
	}
	return s.reread()
}

// rereads makes Current ask again. What was good last is kept: a secret that was replaced must not come back because
// the file is away for a moment.
func (s *Secret) rereads(again func() (string, error)) {
	first := s.value
	var last atomic.Pointer[string]
	last.Store(&first)
	s.reread = func() string {
		if now, err := again(); err == nil && now != "" {
			last.Store(&now)
		}
		return *last.Load()
	}
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.value == "" }

func (s Secret) redacted() string {
	if s.value == "" {
		return ""
	}
	return "[redacted]"
}

// String returns "[redacted]", or "" when the secret is empty.
func (s Secret) String() string { return s.redacted() }

// GoString returns what String does.
func (s Secret) GoString() string { return strconv.Quote(s.redacted()) }

// Format prints what String returns, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.redacted())) }

// MarshalText returns what String does, for JSON, YAML and logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.redacted()), nil }

// UnmarshalText sets the secret.
func (s *Secret) UnmarshalText(b []byte) error { s.value = string(b); return nil }

// ByteSize is a number of bytes. In YAML it is a whole number with an optional unit: B, KB, MB, GB (powers of 1000) or
// KiB, MiB, GiB (powers of 1024), such as "64 MiB".
type ByteSize int64

var byteUnits = []struct {
	suffix string
	factor int64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1},
}

// UnmarshalText parses a size such as "64MiB", "64 MiB" or "1000".
func (b *ByteSize) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range byteUnits {
		if !strings.HasSuffix(s, u.suffix) {
			continue
		}
		number := strings.TrimSpace(strings.TrimSuffix(s, u.suffix))
		n, err := strconv.ParseInt(number, 10, 64)
		if err == nil && !plaintext.IsDecimal(number, false) {
			return fmt.Errorf("want a size such as 64MiB, got %q%s", plaintext.Cut(s), plaintext.DecimalHint(number))
		}
		if err != nil || n < 0 || n > (1<<62)/u.factor {
			break
		}
		*b = ByteSize(n * u.factor)
		return nil
	}
	return fmt.Errorf("want a size such as 64MiB, got %q", plaintext.Cut(s))
}

// String prints the size in the largest unit that divides it.
func (b ByteSize) String() string {
	for _, u := range []int{2, 1, 0} {
		if f := byteUnits[u].factor; b != 0 && int64(b)%f == 0 {
			return strconv.FormatInt(int64(b)/f, 10) + byteUnits[u].suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText prints what String does.
func (b ByteSize) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
