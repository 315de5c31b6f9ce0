package redis

// request gathers the arguments of one script call. go-redis reads texts and numbers through pointers into the
// request's slices, so that an argument costs no allocation of its own; a slice that grows leaves what was pointed to
// in place.
type request struct {
	writes   int
	keys     []any
	operands []any
	texts    []text
	numbers  []int64
	buffer   []byte
	command  []any
}

// text is an argument that is passed by pointer.
type text []byte

// MarshalBinary is how go-redis gets at the bytes.
func (t *text) MarshalBinary() ([]byte, error) { return *t, nil }

// begin starts a write of the key.
func (r *request) begin(prefix, key string) {
	from := len(r.buffer)
	r.buffer = append(r.buffer, prefix...)
	r.buffer = append(r.buffer, ':')
	r.buffer = append(r.buffer, key...)
	r.keys = append(r.keys, r.text(r.buffer[from:]))
	r.writes++
}

// key returns the key of the first write, prefix included.
func (r *request) key() string { return string(*r.keys[0].(*text)) }

func (r *request) text(b []byte) any {
	r.texts = append(r.texts, b)
	return &r.texts[len(r.texts)-1]
}

// literal adds an operand that needs no copy: a constant, or a small number.
func (r *request) literal(v any) { r.operands = append(r.operands, v) }

func (r *request) value(b []byte) { r.operands = append(r.operands, r.text(b)) }

func (r *request) string(s string) {
	from := len(r.buffer)
	r.buffer = append(r.buffer, s...)
	r.value(r.buffer[from:])
}

func (r *request) number(n int64) {
	r.numbers = append(r.numbers, n)
	r.operands = append(r.operands, &r.numbers[len(r.numbers)-1])
}

// arguments returns the command to call the script named sha. It is valid until reset.
func (r *request) arguments(sha, prefix, ttl, clocksTTL string) []any {
	r.command = append(r.command[:0], "evalsha", sha, r.writes)
	r.command = append(r.command, r.keys...)
	r.command = append(r.command, prefix, ttl, clocksTTL)
	r.command = append(r.command, r.operands...)
	return r.command
}

// reset empties the request and keeps its buffers.
func (r *request) reset() {
	clear(r.texts)
	clear(r.keys)
	clear(r.operands)
	clear(r.command)
	r.writes = 0
	r.keys, r.operands, r.texts, r.numbers, r.buffer, r.command =
		r.keys[:0], r.operands[:0], r.texts[:0], r.numbers[:0], r.buffer[:0], r.command[:0]
}
