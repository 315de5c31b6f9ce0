package redis

import (
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/penstock-dev/penstock/internal/reason"
	"github.com/penstock-dev/penstock/internal/redisclient"
)

//go:embed write.lua
var writeLua string

var writeScript = newScript(writeLua)

// script is the text of a script and the name under which Redis knows it.
type script struct{ text, sha string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text)) // Redis names scripts by their SHA-1
	return script{text: text, sha: hex.EncodeToString(sum[:])}
}

// The operations of write.lua.
var (
	opOneClock          any = "v" // any: boxed once
	opTwoClocks         any = "a"
	opDelete            any = "d"
	opUnversioned       any = "u"
	opDeleteUnversioned any = "x"
	opLock              any = "l"
	opGuard             any = "g"
	opTTL               any = "t"
)

// The answers of write.lua; the one for a renewed TTL needs no handling.
const (
	answerStored      = 's'
	answerOverwritten = 't'
	answerOlder       = 'o'
	answerGuarded     = 'g'
	answerLocked      = 'l'
	answerError       = 'e'
)

// ownKeys starts all keys that penstock keeps for itself under the prefix.
const ownKeys = "penstock:"

// milliseconds is a TTL as the script takes it.
func milliseconds(ttl time.Duration) string {
	if ttl < 0 {
		return ""
	}
	return strconv.FormatInt(ttl.Milliseconds(), 10)
}

// answers is what the script returned.
type answers struct {
	letters string
	errs    []any
}

// nextError returns the error of the next write that answered [answerError].
func (a *answers) nextError() error {
	err := a.errorAt(0)
	a.errs = a.errs[1:]
	return err
}

func (a *answers) errorAt(i int) error {
	text, _ := a.errs[i].(string)
	return redisclient.ReplyError(text)
}

func parseAnswers(cmd *redis.Cmd, writes int) (answers, error) {
	reply, err := cmd.Slice()
	if err != nil {
		return answers{}, err
	}
	var a answers
	if len(reply) > 0 {
		a.letters, _ = reply[0].(string)
		a.errs = reply[1:]
	}
	if len(a.letters) != writes || strings.Count(a.letters, string(answerError)) != len(a.errs) {
		return answers{}, reason.Errorf("script answered %d writes with %q and %d errors", writes, a.letters, len(a.errs))
	}
	return a, nil
}
