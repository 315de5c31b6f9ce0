# The targets people type. CI calls the same ones: .ci/run is `CI=true make test vulncheck`.

# What runs without the race detector is compiled as deploy/build compiles it, so that everything is compiled twice at most.
PLAIN       := CGO_ENABLED=0 GOFLAGS=-trimpath
STATICCHECK := $(PLAIN) go run honnef.co/go/tools/cmd/staticcheck@v0.6.1
# The modules beside this one. That of the chart runs nothing side by side, and all of Helm would be compiled once more for
# the race detector.
MODULES     := $(patsubst %/go.mod,%,$(wildcard examples/*/go.mod bench/go.mod deploy/helm/go.mod))

empty :=
space := $(empty) $(empty)

.DEFAULT_GOAL := help

.PHONY: help
help: ## shows this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /  make \1\t/'

.PHONY: run
run: ## runs the quick start: made-up events into a built-in Redis
	@# A make that got the ^C would end by it (130) however its program ended: what runs has the terminal for itself.
	@# And go run ends with 1 after ^C however its program ended.
	@[ ! -t 0 ] || set -m; sh -c 'trap stopped=yes INT; go run ./cmd/penstock run configs/quickstart.yaml; code=$$?; \
		[ -n "$$stopped" ] || exit $$code'

.PHONY: build
build: ## builds dist/penstock
	deploy/build dist/penstock

.PHONY: image-root
image-root: ## lays out the container image's file tree in dist/image-root, without a container engine
	deploy/image-root $(or $(IMAGE_ROOT),dist/image-root)

.PHONY: release
release: ## builds the files of a release into dist/release; the version is the tag's
	deploy/release dist/release

.PHONY: setup
setup: ## installs what the tests need beside Go: a C compiler, Redis, Node, promtool (or says how)
	@.ci/setup

.PHONY: setup-reader
setup-reader: ## installs what examples/node-reader needs: Node and the provider's SDK (or says how)
	@.ci/setup reader

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, in every module
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then \
		echo "not formatted (gofmt -w):"; echo "$$unformatted"; exit 1; fi
	$(PLAIN) go vet ./...
	$(STATICCHECK) ./...
	@for module in $(MODULES); do echo "lint $$module"; \
		(cd $$module && $(PLAIN) go vet ./... && $(STATICCHECK) ./...) || exit 1; done

.PHONY: test
test: setup lint ## runs every test, those of the examples and of bench included
	@$(MAKE) --no-print-directory -j2 test-main test-modules

# Side by side: many tests wait for something most of the time.
.PHONY: test-main test-modules
test-main:
	go test -vet=off -race -shuffle=on ./...

test-modules:
	@for module in $(filter-out deploy/helm,$(MODULES)); do echo "go test $$module"; \
		(cd $$module && go test -vet=off -race -shuffle=on ./...) || exit 1; done
	cd deploy/helm && $(PLAIN) go test -vet=off -shuffle=on ./...

.PHONY: soak
soak: ## runs the fault suite in its long form, an hour or more (make soak ROW='Redis killed' for one row)
	SOAK=yes go test -vet=off -count=1 -timeout 12h -v -run 'TestFaults/rows/$(subst $(space),_,$(or $(ROW),.))' ./test/faults

.PHONY: vulncheck
vulncheck: ## looks for known vulnerabilities in what the program calls
	@.ci/vulncheck

.PHONY: docs
docs: ## generates docs/reference.md, docs/codes.md and configs/pipeline.schema.json
	go run ./cmd/penstock components --markdown > docs/reference.md
	go run ./cmd/penstock schema > configs/pipeline.schema.json
	go run ./cmd/penstock schema --tests > configs/tests.schema.json
	go run ./cmd/penstock explain --markdown > docs/codes.md

.PHONY: bench
bench: ## runs the benchmarks (they go to docs/benchmarks.md)
	cd bench && go run .
