package pipeline

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/penstock-dev/penstock/internal/complaint"
	"github.com/penstock-dev/penstock/internal/inside"
)

// What the engine complains of.
var (
	titleReleased        = complaint.NewTitle("message released")
	titleNoPoisonQueue   = complaint.NewTitle("message released, for want of a poison queue")
	titleNotPoisoned     = complaint.NewTitle("message released, the poison queue did not take it")
	titlePoisoned        = complaint.NewTitle("message poisoned")
	titleNotRecorded     = complaint.NewTitle("message not recorded")
	titleOutage          = complaint.NewTitle("outage begins: a backend is away, messages are held")
	titleOutageOfSome    = complaint.NewTitle("outage begins: a backend is away, messages that need it are held")
	titleSourceAway      = complaint.NewTitle("the source is away, trying again")
	titlePoisonAway      = complaint.NewTitle("the poison_queue is away")
	titleRecordAway      = complaint.NewTitle("the record is away")
	titleShutdownTooLong = complaint.NewTitle("shutdown_timeout has passed: what is in flight is released")
	titleClose           = complaint.NewTitle("close")
)

func init() {
	inside.Observe = func(settings any, observe func(complaint.Incident)) { settings.(*Settings).observe = observe }
}

// complain logs what goes wrong, and tells the observer.
func (r *runner) complain(title complaint.Title, err error, fields ...zap.Field) {
	r.tell(complaint.Incident{Title: title, Pipeline: r.p.Name, Err: err})
	if err != nil {
		fields = append(fields, zap.Error(err))
	}
	r.log.Warn(title.String(), append(fields, complaint.Code(title.String()))...)
}

func (r *runner) tell(i complaint.Incident) {
	if r.observe != nil {
		r.observe(i)
	}
}

// complainOften tells the observer what became of a message, every time, and logs it without a line for each: of
// every title the first at once, then one in ten seconds, with the number of those between.
func (r *runner) complainOften(title complaint.Title, err error) {
	r.tell(complaint.Incident{Title: title, Pipeline: r.p.Name, Err: err})
	log, muted := r.muted.admit(title)
	if !log {
		return
	}
	fields := []zap.Field{zap.Error(err)}
	if muted > 0 {
		fields = append(fields, zap.Int("not_logged_before", muted))
	}
	r.log.Warn(title.String(), append(fields, complaint.Code(title.String()))...)
}

// muting remembers when each title was logged last.
type muting struct {
	mu     sync.Mutex
	titles map[complaint.Title]*mutedTitle
}

type mutedTitle struct {
	logged time.Time
	muted  int // since then
}

const complaintInterval = 10 * time.Second

// admit says whether to log a title, and how many were not logged before it.
func (m *muting) admit(title complaint.Title) (log bool, muted int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.titles[title]
	if s == nil {
		s = &mutedTitle{}
		m.titles[title] = s
	}
	now := time.Now()
	if now.Sub(s.logged) < complaintInterval {
		s.muted++
		return false, 0
	}
	muted = s.muted
	*s = mutedTitle{logged: now}
	return true, muted
}
