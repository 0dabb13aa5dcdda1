# DocDB. `make help` lists the targets.
#
# Everything is built out of tree, below $(BUILD). A .c file that is added to a room is built without a change here; a
# .c file in tests/unit, tests/failure or tests/concurrency is one cmocka program; a .sh or .py file in tests/integration or
# tests/fuse is one test; a .c file in tests/benchmarks is one benchmark, and what they share is in its lib.

.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

VERSION  := $(shell awk '$$1 ~ /define$$/ && $$2 == "DOCDB_VERSION" { gsub("\"", "", $$3); print $$3 }' include/docdb.h)
SOVERSION := 0
BUILD    ?= build/release
PREFIX   ?= /usr/local
DESTDIR  ?=
BINDIR   ?= $(PREFIX)/bin
LIBDIR   ?= $(PREFIX)/lib
INCDIR   ?= $(PREFIX)/include
MANDIR   ?= $(PREFIX)/share/man
JOBS     := $(shell nproc 2>/dev/null || echo 2)

# ---- What is needed to build, test and lint (Debian's names; `make deps` installs what is missing) ----
LIB_PACKAGES   := libxxhash
BIN_PACKAGES   := libxxhash libuv fuse3 libarchive
TEST_PACKAGES  := cmocka
BENCH_PACKAGES := sqlite3 lmdb rocksdb liburing
DEPS_BUILD     := gcc make pkg-config libxxhash-dev libuv1-dev libfuse3-dev fuse3 libarchive-dev scdoc
DEPS_TEST      := libcmocka-dev python3 strace
DEPS_BENCH     := libsqlite3-dev liblmdb-dev librocksdb-dev liburing-dev
DEPS_LINT      := clang clang-format clang-tidy cppcheck shellcheck libclang-rt-14-dev

# ---- Flags ----
CC       ?= cc
ifeq ($(origin CC),default)
CC       := gcc
endif
OPTIMIZE ?= -O2 -g
SANITIZE ?=
HARDEN   := -fstack-protector-strong -fstack-clash-protection -fcf-protection
ifeq ($(SANITIZE),)
HARDEN   += -D_FORTIFY_SOURCE=2
endif
WARN     := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 \
            -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef $(if $(WERROR),-Werror)
CFLAGS   ?=
LDFLAGS  ?=
pkg       = $(shell pkg-config $(1) $(2) 2>/dev/null)
ALL_CFLAGS = -std=gnu17 $(OPTIMIZE) $(WARN) $(HARDEN) -fPIC -fvisibility=hidden -pthread -MMD -MP \
             -D_GNU_SOURCE -Iinclude -Isrc -I. \
             $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all) $(CFLAGS)
ALL_LDFLAGS = -pthread -Wl,-z,relro -Wl,-z,now $(if $(SANITIZE),-fsanitize=$(SANITIZE)) $(LDFLAGS)

# ---- What is built ----
LIB_SRC   := $(wildcard src/base/*.c src/protocol/*.c src/api/*.c src/engine/*.c src/client/*.c)
BIN_SRC   := $(wildcard src/server/*.c fuse/*.c)
CLI_SRC   := $(wildcard src/cli/*.c)
TESTLIB_SRC := $(wildcard tests/lib/*.c)
TEST_SRC  := $(wildcard tests/unit/*.c tests/failure/*.c tests/concurrency/*.c)
TOOL_SRC  := $(wildcard tests/tools/*.c)
BENCH_SRC := $(wildcard tests/benchmarks/*.c)
BENCHLIB_SRC := $(wildcard tests/benchmarks/lib/*.c)
EXAMPLE_SRC := $(wildcard examples/c/*.c)
SCRIPT_TESTS := $(wildcard tests/integration/*.sh tests/integration/*.py tests/fuse/*.sh tests/fuse/*.py)

obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
LIB_OBJ   := $(call obj,$(LIB_SRC))
BIN_OBJ   := $(call obj,$(BIN_SRC))
CLI_OBJ   := $(call obj,$(CLI_SRC))
TESTLIB_OBJ := $(call obj,$(TESTLIB_SRC))
BENCHLIB_OBJ := $(call obj,$(BENCHLIB_SRC))

LIB_A     := $(BUILD)/libdocdb.a
LIB_SO    := $(BUILD)/libdocdb.so.$(VERSION)
BIN       := $(BUILD)/docdb
TESTS     := $(patsubst %.c,$(BUILD)/%,$(TEST_SRC))
TOOLS     := $(patsubst %.c,$(BUILD)/%,$(TOOL_SRC))
BENCHES   := $(patsubst %.c,$(BUILD)/%,$(BENCH_SRC))
EXAMPLES  := $(patsubst %.c,$(BUILD)/%,$(EXAMPLE_SRC))
MANUALS   := $(patsubst docs/man/%.scd,$(BUILD)/man/%,$(wildcard docs/man/*.scd))

.PHONY: all
all: $(BIN) $(LIB_A) $(LIB_SO) $(EXAMPLES) $(MANUALS) docdb ## build the program, the libraries, the examples and the man pages (default)

docdb: $(BIN)
	@ln -sf $(BIN) docdb

# `make V=1` shows the commands.
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-4s %s\n' '$(1)' '$@')

$(BUILD)/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC)
	$(Q)$(CC) $(ALL_CFLAGS) $(call pkg,--cflags,$(BIN_PACKAGES)) $(EXTRA_CFLAGS) -c $< -o $@

$(LIB_A): $(LIB_OBJ)
	$(call say,AR)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(LIB_SO): $(LIB_OBJ)
	$(call say,LD)
	$(Q)$(CC) -shared -Wl,-soname,libdocdb.so.$(SOVERSION) $(ALL_LDFLAGS) $^ -o $@ $(call pkg,--libs,$(LIB_PACKAGES))

$(BIN): $(CLI_OBJ) $(BIN_OBJ) $(LIB_A)
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ -o $@ $(call pkg,--libs,$(BIN_PACKAGES))

$(TESTS) $(TOOLS): $(BUILD)/%: $(BUILD)/obj/%.o $(TESTLIB_OBJ) $(BIN_OBJ) $(LIB_A)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ -o $@ $(call pkg,--libs,$(BIN_PACKAGES) $(TEST_PACKAGES)) -lm

# The benchmarks' peers are needed by the benchmarks alone (and by lint, which looks at all files).
$(BUILD)/obj/tests/benchmarks/%.o: EXTRA_CFLAGS = $(call pkg,--cflags,$(BENCH_PACKAGES))
$(BENCHES): $(BUILD)/%: $(BUILD)/obj/%.o $(BENCHLIB_OBJ) $(call obj,tests/lib/temp.c) $(LIB_A)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ -o $@ $(call pkg,--libs,$(LIB_PACKAGES) $(BENCH_PACKAGES))

$(EXAMPLES): $(BUILD)/%: $(BUILD)/obj/%.o $(LIB_A)
	@mkdir -p $(@D)
	$(call say,LD)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ -o $@ $(call pkg,--libs,$(LIB_PACKAGES))

$(BUILD)/man/%: docs/man/%.scd
	@mkdir -p $(@D)
	$(call say,MAN)
	$(Q)scdoc < $< > $@

-include $(patsubst %.o,%.d,$(LIB_OBJ) $(BIN_OBJ) $(CLI_OBJ) $(TESTLIB_OBJ) \
           $(call obj,$(TEST_SRC) $(TOOL_SRC) $(BENCH_SRC) $(BENCHLIB_SRC) $(EXAMPLE_SRC)))

# ---- Set-up ----
.PHONY: deps deps-build deps-test deps-bench deps-lint
deps: deps-build deps-test deps-bench deps-lint ## install the development packages that are missing (root, or sudo)

deps-build deps-test deps-bench deps-lint: deps-%:
	@tests/tools/install-packages.sh $(DEPS_$(shell echo $* | tr a-z A-Z))

# The set-up runs before make reads pkg-config's answers, hence the second make.
.PHONY: run
run: deps-build ## set up, build and serve ./data on /tmp/docdb.sock and at ./mnt until Ctrl-C
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tests/tools/foreground.sh ./docdb serve --data-dir ./data --socket /tmp/docdb.sock --mount ./mnt

.PHONY: test
test: deps-build deps-test ## set up, build and run every test but the sanitizers'
	@$(MAKE) --no-print-directory -j$(JOBS) all tests
	@tests/tools/run-tests.sh $(BUILD) $(TESTS) $(SCRIPT_TESTS)

.PHONY: tests
tests: $(TESTS) $(TOOLS) $(BIN) ## build the test programs

# The C tests and the scripts that drive the real program, under the sanitizers.
.PHONY: test-asan
test-asan: deps-build deps-test deps-lint ## run the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/asan CC=clang OPTIMIZE='-O1 -g' SANITIZE=address,undefined \
	    build/asan/docdb tests examples-only
	@ASAN_OPTIONS=detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 DOCDB_TEST_SLOW=1 \
	    tests/tools/run-tests.sh build/asan $(patsubst $(BUILD)/%,build/asan/%,$(TESTS)) $(SCRIPT_TESTS)

.PHONY: test-tsan
test-tsan: deps-build deps-test deps-lint ## run the tests under ThreadSanitizer
	@$(MAKE) --no-print-directory -j$(JOBS) BUILD=build/tsan CC=clang OPTIMIZE='-O1 -g' SANITIZE=thread \
	    build/tsan/docdb tests examples-only
	@TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=$(CURDIR)/tests/tools/tsan.supp DOCDB_TEST_SLOW=1 \
	    tests/tools/run-tests.sh build/tsan $(patsubst $(BUILD)/%,build/tsan/%,$(TESTS)) $(SCRIPT_TESTS)

.PHONY: examples-only
examples-only: $(EXAMPLES)

.PHONY: bench
bench: deps-build deps-bench ## run the benchmarks (ratios within one run; nothing else should be running)
	@$(MAKE) --no-print-directory -j$(JOBS) all benches
	@for bench in $(BENCHES); do $$bench || exit 1; done

.PHONY: benches
benches: $(BENCHES) ## build the benchmarks

# ---- Lint ----
C_FILES := $(LIB_SRC) $(BIN_SRC) $(CLI_SRC) $(TESTLIB_SRC) $(TEST_SRC) $(TOOL_SRC) $(BENCH_SRC) $(BENCHLIB_SRC) $(EXAMPLE_SRC)
H_FILES := $(wildcard include/*.h src/*/*.h fuse/*.h tests/lib/*.h tests/benchmarks/lib/*.h)
LINT_FLAGS = -std=gnu17 -D_GNU_SOURCE -Iinclude -Isrc -I. $(call pkg,--cflags,$(BIN_PACKAGES) $(TEST_PACKAGES) $(BENCH_PACKAGES))

.PHONY: lint lint-format lint-warnings lint-tidy lint-cppcheck lint-shell lint-layers
lint: deps-build deps-test deps-bench deps-lint ## clang-format, compiler warnings, thread-safety analysis, clang-tidy, cppcheck, shellcheck
	@$(MAKE) --no-print-directory -j$(JOBS) --output-sync=target lint-format lint-warnings lint-tidy lint-cppcheck lint-shell lint-layers
	@echo "lint: clean"

lint-format:
	@clang-format --dry-run --Werror $(C_FILES) $(H_FILES)

lint-warnings:
	@clang -fsyntax-only -Werror $(WARN) -Wthread-safety $(LINT_FLAGS) $(C_FILES)
	@gcc -fsyntax-only -Werror $(WARN) -O2 -Wlogical-op -Wduplicated-cond $(LINT_FLAGS) $(C_FILES)

lint-tidy:
	@echo $(filter-out tests/%,$(C_FILES)) | tr ' ' '\n' | xargs -P$(JOBS) -n1 \
	    sh -c 'clang-tidy --quiet --warnings-as-errors="*" "$$@" -- $(LINT_FLAGS) 2>build/tidy.$$$$.log || { cat build/tidy.$$$$.log; exit 255; }; rm -f build/tidy.$$$$.log' lint

lint-cppcheck:
	@cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability --inline-suppr \
	    --suppress=missingIncludeSystem -D_GNU_SOURCE -D__linux__ -Iinclude -Isrc -I. $(C_FILES)

lint-shell:
	@shellcheck -x $(wildcard tests/*/*.sh examples/shell/*.sh) .ci/run

# Dependencies point one way: no room includes a header of a room above it.
lint-layers:
	@tests/tools/check-layers.sh

.PHONY: format
format: ## rewrite all C files as clang-format wants them
	@clang-format -i $(C_FILES) $(H_FILES)

# ---- Installing ----
.PHONY: install
install: all ## install below $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(INCDIR) $(DESTDIR)$(MANDIR)/man1
	install -m 755 $(BIN) $(DESTDIR)$(BINDIR)/docdb
	install -m 644 $(LIB_A) $(DESTDIR)$(LIBDIR)/libdocdb.a
	install -m 755 $(LIB_SO) $(DESTDIR)$(LIBDIR)/libdocdb.so.$(VERSION)
	ln -sf libdocdb.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libdocdb.so.$(SOVERSION)
	ln -sf libdocdb.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libdocdb.so
	install -m 644 include/docdb.h $(DESTDIR)$(INCDIR)/docdb.h
	for page in $(MANUALS); do install -m 644 $$page $(DESTDIR)$(MANDIR)/man1/; done
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCDIR@|$(INCDIR)|' -e 's|@VERSION@|$(VERSION)|' \
	    docdb.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/docdb.pc
	chmod 644 $(DESTDIR)$(LIBDIR)/pkgconfig/docdb.pc

.PHONY: uninstall
uninstall: ## remove what install put there
	rm -f $(DESTDIR)$(BINDIR)/docdb $(DESTDIR)$(LIBDIR)/libdocdb.a $(DESTDIR)$(LIBDIR)/libdocdb.so* \
	    $(DESTDIR)$(INCDIR)/docdb.h $(DESTDIR)$(LIBDIR)/pkgconfig/docdb.pc \
	    $(foreach page,$(MANUALS),$(DESTDIR)$(MANDIR)/man1/$(notdir $(page)))

.PHONY: clean
clean: ## remove what was built
	rm -rf build docdb

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
