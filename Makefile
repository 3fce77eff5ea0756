# moss: rootless containers. `make help` lists the targets.
PREFIX  ?= /usr/local
GO      ?= go
VERSION ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)

stamp   := -s -w -X main.version=$(VERSION) -X moss/cmd/moss/cli.Version=$(VERSION)
pure    := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(stamp)'
# userns/enter is C: it joins namespaces before the Go runtime has threads.
withc   := CGO_ENABLED=1 $(GO) build -trimpath -buildvcs=false -tags 'netgo osusergo' -ldflags '$(stamp) -extldflags -static'
builtin := storage/archive/builtin/box.tar.gz
helpers := moss-image moss-monitor moss-runtime moss-stage moss-net moss-generator

.PHONY: build try test unit e2e vm bench lint docs check install clean help FORCE
build: $(addprefix bin/,moss $(helpers) box) ## build bin/moss and its helpers, all static

bin/moss bin/moss-runtime: FORCE
	@$(withc) -o $@ ./cmd/$(@F)
bin/moss-monitor bin/moss-stage bin/moss-net bin/moss-generator: FORCE
	@$(pure) -o $@ ./cmd/$(@F)
bin/moss-image: $(builtin) FORCE
	@$(pure) -o $@ ./cmd/$(@F)
bin/box: go.mod $(wildcard test/box/*.go)
	@$(pure) -o $@ ./test/box

# The image that moss carries itself: moss-image packs it, and is built again with it.
$(builtin): bin/box $(wildcard storage/archive/*.go)
	@$(pure) -o bin/moss-image ./cmd/moss-image
	@bin/moss-image pack-builtin bin/box bin/box.tar.gz && mv bin/box.tar.gz $@

try: build ## run a container here, now, as an unprivileged user
	@test/try
test: build ## run every test that this machine can run
	@test/run unit e2e vm
unit: build ## unit and architecture tests: no root, no namespaces
	@test/run unit
e2e: build ## script tests, as an unprivileged user
	@test/run e2e
vm: build ## the tests that need a machine of their own
	@test/run vm
bench: build ## compare with podman, bwrap and crun where installed; BENCH=-quick for a look
	@test/run bench $(BENCH)
lint: ## gofmt, go vet, staticcheck
	@test/run lint
docs: build ## write man pages and docs/compat.md from the command grammar
	@bin/moss man cmd/moss/man
	@test/compat/generate
check: lint test ## what continuous integration runs; also: are man pages and docs/compat.md up to date
	@test/run docs

install: build ## install under DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/libexec/moss $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 755 bin/moss $(DESTDIR)$(PREFIX)/bin/moss
	install -m 755 $(addprefix bin/,$(helpers)) $(DESTDIR)$(PREFIX)/libexec/moss
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/user-generators
	ln -sf ../../../libexec/moss/moss-generator $(DESTDIR)$(PREFIX)/lib/systemd/user-generators/moss-generator
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/user
	for unit in systemd/user/moss-*; do sed 's|@moss@|$(PREFIX)/bin/moss|' $$unit >$(DESTDIR)$(PREFIX)/lib/systemd/user/$${unit##*/} || exit 1; done
	install -m 644 cmd/moss/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 cmd/moss/man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions fish/vendor_completions.d)
	bin/moss completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/moss
	bin/moss completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_moss
	bin/moss completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/moss.fish
clean: ## remove what build made
	rm -rf bin $(builtin) test/out
help: ## this list
	@sed -n 's/^\([a-z0-9]*\):.*## /\1\t/p' Makefile | expand -t 10
