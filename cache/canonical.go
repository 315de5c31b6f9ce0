package cache

import "github.com/penstock-dev/penstock/internal/jsonscan"

// canonical reads a line that looks exactly as [Append] makes it: nearly all do, and it takes a third of the time. It
// gives up, leaving w in any state, at everything else: escapes, blanks, another order, deep nesting and all
// mistakes. Then the parser reads the line and says what is wrong with it.
func canonical(b []byte, w *Write) bool {
	const head = `{"key":"`
	if len(b) < len(head) || string(b[:len(head)]) != head {
		return false
	}
	key := span{len(head), plainString(b, len(head))}
	if key.to <= key.from {
		return false
	}
	i := key.to + 1
	end := key.to
	var ok bool
	// Constants are compared without a call here, but not within one (see after).
	if at := i + len(`,"version":`); at <= len(b) && string(b[i:at]) == `,"version":` {
		if w.Version, i, ok = jsonscan.Whole(b, at); !ok {
			return false
		}
	}
	if at := i + len(`,"as_of":`); at <= len(b) && string(b[i:at]) == `,"as_of":` {
		if w.AsOf, i, ok = jsonscan.Whole(b, at); !ok || w.Version == 0 {
			return false
		}
	}
	if at := i + len(`,"delete":true`); at <= len(b) && string(b[i:at]) == `,"delete":true` {
		w.Delete, i = true, at
	}
	var conditions []span
	if at := i + len(`,"if_any_exists":["`); at <= len(b) && string(b[i:at]) == `,"if_any_exists":["` {
		if conditions, i, ok = plainList(b, at); !ok {
			return false
		}
		end = conditions[len(conditions)-1].to
	}
	var lock span
	if at := i + len(`,"lock":"`); at <= len(b) && string(b[i:at]) == `,"lock":"` {
		lock = span{at, plainString(b, at)}
		if lock.to < lock.from {
			return false
		}
		i, end = lock.to+1, lock.to
	}
	if !w.Delete {
		at := i + len(`,"value":`)
		if at > len(b) || string(b[i:at]) != `,"value":` {
			return false
		}
		end, form, fault := jsonscan.Value(b, at, maxDepth)
		if fault != jsonscan.None || form&jsonscan.Infinite != 0 {
			return false
		}
		i = end
		w.Value = b[at:i:i]
	}
	if i != len(b)-1 || b[i] != '}' {
		return false
	}
	// One copy for all strings of the line.
	strings := string(b[key.from:end])
	part := func(s span) string { return strings[s.from-key.from : s.to-key.from] }
	w.Key = part(key)
	if lock.to > 0 {
		w.Lock = part(lock)
	}
	if conditions != nil {
		w.IfAnyExists = make([]string, len(conditions))
		for j, c := range conditions {
			w.IfAnyExists[j] = part(c)
		}
	}
	return true
}

// plainList reads the rest of a list of strings from inside its first one, and returns what follows the list.
func plainList(b []byte, i int) (list []span, next int, ok bool) {
	for {
		c := span{i, plainString(b, i)}
		if c.to < c.from {
			return nil, 0, false
		}
		list = append(list, c)
		if at, found := after(b, c.to, `","`); found {
			i = at
			continue
		}
		next, ok = after(b, c.to, `"]`)
		return list, next, ok
	}
}

// span is a part of a line.
type span struct{ from, to int }

// after returns the place behind text, if text stands at i.
func after(b []byte, i int, text string) (int, bool) {
	end := i + len(text)
	if end > len(b) || b[end-1] != text[len(text)-1] || string(b[i:end]) != text {
		return i, false
	}
	return end, true
}

// plainString returns where the string ends that begins behind its quote at i, or -1 when it isn't plain.
func plainString(b []byte, i int) int {
	end, form, fault := jsonscan.String(b, i-1)
	if form&jsonscan.Escaped != 0 || fault != jsonscan.None {
		return -1
	}
	return end - 1
}
