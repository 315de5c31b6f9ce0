// Command penstock runs pipelines declared in YAML: source → transforms → sink.
package main

import "github.com/penstock-dev/penstock"

func main() { penstock.Main(penstock.Builtins()) }
