//go:build !linux && !darwin

package recording

import (
	"errors"
	"os"
)

func lock(*os.File, Locking) error { return errors.ErrUnsupported }
func unlock(*os.File) error        { return nil }
