package entitlement

// orRefresh turns what became of an event that doesn't say enough into a refresh of whom it is about: an event that
// doesn't decode, one about credits in a layout that has no keys for them, and one whose type asks for it. Without
// anybody to refresh it stays what it was.
func (s *scratch) orRefresh(ev Event, err error) (Event, error) {
	var why string
	switch {
	case err != nil:
		why = err.Error()
	case ev.Kind == KindRefresh:
		why = "its type is one that asks for it"
	case ev.Filtered != "" && ev.Kind != KindIgnored && s.d.layout != LayoutV4:
		why = ev.Filtered // credits
	default:
		return ev, nil
	}
	subject, sent, found := s.subject()
	switch {
	case found:
	case ev.Kind == KindRefresh && err == nil:
		return Event{}, errorAt("customerId", errMissing)
	default:
		return ev, err
	}
	// What was decoded so far is not written.
	s.writes, s.conditions = s.writes[:0], s.conditions[:0]
	return Event{Kind: KindRefresh, Refresh: why, Subject: subject, Time: sent, Ambiguous: ev.Ambiguous, Undecoded: err != nil}, nil
}

// subject finds whom an event is about, when it is JSON and all its ids agree, and when it was sent.
func (s *scratch) subject() (subject Subject, sent int64, found bool) {
	p := parser{lexer: lex(s.Text), now: s.now}
	if !p.Object() || !p.subject() || !p.end() {
		return subject, 0, false
	}
	for i := range s.d.subjectFields {
		if !s.d.subjectFields[i].apply(&p) {
			return subject, 0, false
		}
	}
	if p.ev.customer == nil {
		return subject, 0, false
	}
	sent, _ = s.hinted()
	return Subject{Customer: string(p.ev.customer), Resource: string(p.ev.resource), HashTags: s.d.hashTags}, sent, true
}

// subject reads the ids of the event, or of the usage object in it, as members does, and skips everything else.
func (p *parser) subject() bool {
	e := &p.ev
	for first := true; ; {
		name, ok := p.Member(&first)
		if !ok {
			return p.OK()
		}
		switch string(name) {
		case "customerId":
			ok = p.id(&e.customer)
		case "customer":
			ok = p.entity(&e.customer)
		case "resourceId":
			ok = p.id(&e.resource)
		case "resource":
			ok = p.entity(&e.resource)
		case "usage":
			if p.Peek() == '{' {
				p.At++
				ok = p.subject()
				break
			}
			_, ok = p.skip()
		default:
			_, ok = p.skip()
		}
		if !ok {
			return false
		}
	}
}
