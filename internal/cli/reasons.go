package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/penstock-dev/penstock/internal/complaint"
)

// reasons counts why messages were poisoned or released. Reasons that differ in numbers and quoted values only are one.
// It is safe for concurrent use.
type reasons struct {
	mu    sync.Mutex
	count map[string]int64
	other int64 // of more than are kept apart
}

const (
	// maxReasons bounds memory: a reason may quote a message.
	maxReasons    = 1000
	maxReasonText = 160
	shownReasons  = 10
)

var values = regexp.MustCompile(`"[^"]*"|\d+`)

// observe takes what the engine tells.
func (r *reasons) observe(i complaint.Incident) {
	what := ""
	switch title := i.Title.String(); {
	case title == "message poisoned":
		what = "poisoned: "
	case strings.HasPrefix(title, "message released"):
		what = "released: "
	}
	if what == "" || i.Err == nil {
		return
	}
	text := strings.Join(strings.Fields(values.ReplaceAllString(i.Err.Error(), "…")), " ")
	if len(text) > maxReasonText {
		text = strings.ToValidUTF8(text[:maxReasonText], "") + "…"
	}
	text = what + text
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == nil {
		r.count = map[string]int64{}
	}
	if _, ok := r.count[text]; !ok && len(r.count) == maxReasons {
		r.other++
		return
	}
	r.count[text]++
}

// write tells the most frequent ones. A nil r has none.
func (r *reasons) write(w io.Writer) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.SortedFunc(maps.Keys(r.count), func(a, b string) int {
		return cmp.Or(cmp.Compare(r.count[b], r.count[a]), strings.Compare(a, b))
	})
	rest := r.other
	for i, text := range all {
		if i >= shownReasons {
			rest += r.count[text]
			continue
		}
		_, _ = fmt.Fprintf(w, "%10s  %s\n", grouped(r.count[text]), text)
	}
	if rest > 0 {
		_, _ = fmt.Fprintf(w, "%10s  for other reasons\n", grouped(rest))
	}
}
