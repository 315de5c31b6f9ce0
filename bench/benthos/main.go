// Command benthos is Benthos 4.27 with the components that the benchmark needs. It is a module of its own, so that its
// dependencies are fetched only by those who ask for the comparison.
package main

import (
	"context"

	"github.com/benthosdev/benthos/v4/public/service"

	_ "github.com/benthosdev/benthos/v4/public/components/aws"
	_ "github.com/benthosdev/benthos/v4/public/components/io"
	_ "github.com/benthosdev/benthos/v4/public/components/pure"
	_ "github.com/benthosdev/benthos/v4/public/components/redis"
)

func main() { service.RunCLI(context.Background()) }
