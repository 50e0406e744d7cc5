# isimud. `make help` lists the targets; `make run` and `make test` take a bare
# Debian 12 or 13 all the way, packages included.
#
# Everything that is made lies under build/: the release binaries directly in
# it, objects and the other flavours (debug, asan, tsan, fuzz) in folders.

SHELL := /bin/sh
.SUFFIXES:
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

# Every flavour has its own objects and programs, in build/FLAVOUR.
FLAVOURS := release debug asan tsan fuzz cover gcov clang
FLAVOUR  ?= release
OUT      := build/$(FLAVOUR)
PYTHON   ?= /usr/bin/python3

# --- flags ------------------------------------------------------------------

PKGS := libuv libcjson libcurl libcrypto libnats zlib libllhttp
# libwslay has no pkg-config file in Debian; llhttp is linked from its archive,
# so that the binary runs where trixie's libllhttp9.2 is not installed.
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS   = $(PKG_LIBS_$(LINK)) -l:libllhttp.a -lwslay
PKG_LIBS_shared = $(shell pkg-config --libs libuv libcjson libcurl libcrypto libnats zlib)

# LINK=static is for the image: all that Debian has archives of, in the program,
# and of these only what is used. It needs the libcurl of third_party/libcurl.sh.
LINK ?= shared
PKG_LIBS_static = -Wl,--gc-sections -Wl,-z,pack-relative-relocs -L/opt/curl/lib -l:libnats_static.a \
                  -l:libsodium.a -l:libprotobuf-c.a -l:libcurl.a -l:libssl.a -l:libcrypto.a -l:libz.a -l:libuv.a -lcjson

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes \
        -Wmissing-prototypes -Wformat=2 -Wvla -Wundef -Wpointer-arith \
        -Wcast-qual -Wwrite-strings -Werror=implicit-function-declaration
CC := gcc
# An index of what gcc -flto makes, too.
AR := gcc-ar

MACHINE := $(shell $(CC) -dumpmachine 2>/dev/null)
HARDEN := -fstack-protector-strong -fstack-clash-protection -fPIE \
          $(if $(filter x86_64%,$(MACHINE)),-fcf-protection) $(if $(filter aarch64%,$(MACHINE)),-mbranch-protection=standard)
HARDEN_LD := -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed

CFLAGS_release := -O2 -g -flto=auto -D_FORTIFY_SOURCE=2
CFLAGS_debug   := -O0 -g3 -DISIMUD_DEBUG
CFLAGS_asan    := -O1 -g -DISIMUD_DEBUG -fno-omit-frame-pointer \
                  -fsanitize=address,undefined -fno-sanitize-recover=all
CFLAGS_tsan    := -O1 -g -DISIMUD_DEBUG -fno-omit-frame-pointer -fsanitize=thread
CFLAGS_fuzz    := -O1 -g -DISIMUD_DEBUG -fno-omit-frame-pointer \
                  -fsanitize=fuzzer-no-link,address,undefined \
                  -fno-sanitize-recover=all

# The fuzz targets, to see which lines their inputs reach.
CFLAGS_cover   := -O0 -g -DISIMUD_DEBUG -fsanitize=fuzzer-no-link \
                  -fprofile-instr-generate -fcoverage-mapping

# All tests, to see which lines they reach: `make coverage`.
CFLAGS_gcov    := -O0 -g -DISIMUD_DEBUG --coverage -fprofile-update=atomic

# A second compiler, which warns of other things.
CFLAGS_clang   := -O2 -g -D_FORTIFY_SOURCE=2

# The compiler of a flavour.
CC_OF = $(if $(filter fuzz cover clang,$(1)),clang,$(CC))

# V=1 shows the commands.
Q := $(if $(V),,@)
SAY = $(if $(V),:,echo "  $(1)")

CPPFLAGS += -D_GNU_SOURCE -Isrc -Itest/lib
# `make check` takes warnings for errors.
ifneq ($(WERROR)$(filter check,$(MAKECMDGOALS)),)
WARN += -Werror
endif

# --- files ------------------------------------------------------------------

SRC     := $(sort $(shell find src -name '*.c'))
WEB     := $(addprefix src/web/,isimud.js console.html console.css console.js)
ROOMS   := $(filter-out src/main.c,$(SRC)) build/assets.c $(if $(filter static,$(LINK)),third_party/no_zstd.c)
LIB     := $(sort $(wildcard test/lib/*.c))
UNIT    := $(sort $(shell find test/unit -name 'test_*.c' 2>/dev/null))
FUZZ    := $(sort $(wildcard test/fuzz/fuzz_*.c))
C_FILES := $(sort $(shell find src test/lib test/unit test/fuzz test/oom test/echo test/bench -name '*.[ch]' \
             2>/dev/null))

# The unit tests that T chooses: test_$T.c, or all below a folder of that name.
CHOSEN := $(if $(T),$(shell find test/unit -name 'test_*.c' \
            \( -name 'test_$(T).c' -o -path '*/$(T)/*' \) | sort),$(UNIT))
UNIT_BIN = $(CHOSEN:test/%.c=build/$(1)/%)

# --- build ------------------------------------------------------------------

.PHONY: all
all: build/isimud build/echo ## the release binaries build/isimud, build/echo

build/isimud build/echo: build/%: build/release/%
	@ln -f $< $@

# $(call FLAVOUR_RULES,FLAVOUR): how its objects and programs are made. All
# flavours stand in this one make, so that -jN makes no object twice.
define FLAVOUR_RULES
CFLAGS_OF_$(1) := -std=c11 $$(WARN) $$(HARDEN) $$(CFLAGS_$(1)) $$(EXTRA_CFLAGS)
LD_OF_$(1) := $$(call CC_OF,$(1)) $$(HARDEN_LD) $$(CFLAGS_$(1))
ROOM_OBJ_$(1) := $$(ROOMS:%.c=build/$(1)/%.o)

build/$(1)/%.o: %.c Makefile | build/versions.ok
	@mkdir -p $$(@D)
	@$$(call SAY,CC $$@)
	$$(Q)$$(call CC_OF,$(1)) $$(CPPFLAGS) $$(PKG_CFLAGS) $$(CFLAGS_OF_$(1)) \
	  -MMD -MP -pthread -c -o $$@ $$<

build/$(1)/isimud: build/$(1)/src/main.o
build/$(1)/echo: build/$(1)/test/echo/echo.o
build/$(1)/isimud build/$(1)/echo: $$(ROOM_OBJ_$(1))
	@$$(call SAY,LD $$@)
	$$(Q)$$(LD_OF_$(1)) -o $$@ $$^ $$(PKG_LIBS) -pthread

# A unit test links its own object, and of these what it uses; a test that has,
# say, a NATS of its own goes before.
build/$(1)/rooms.a: $$(ROOM_OBJ_$(1))
build/$(1)/lib.a: $$(LIB:%.c=build/$(1)/%.o)
build/$(1)/rooms.a build/$(1)/lib.a:
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$^

build/$(1)/unit/%: build/$(1)/test/unit/%.o build/$(1)/lib.a \
                   build/$(1)/rooms.a | deps-test
	@mkdir -p $$(@D)
	@$$(call SAY,LD $$@)
	$$(Q)$$(LD_OF_$(1)) -o $$@ $$^ $$(PKG_LIBS) -lcmocka -pthread

build/$(1)/fuzz/%: build/$(1)/test/fuzz/%.o build/$(1)/test/fuzz/alloc.o \
                   build/$(1)/lib.a build/$(1)/rooms.a
	@mkdir -p $$(@D)
	@$$(call SAY,LD $$@)
	$$(Q)$$(LD_OF_$(1)) -fsanitize=fuzzer -Wl,--wrap=malloc,--wrap=calloc \
	  -Wl,--wrap=realloc -o $$@ $$^ $$(PKG_LIBS) -lcmocka -pthread

# `isimud bench` with the dialects of other servers.
build/$(1)/bench/peers: build/$(1)/test/bench/peers.o build/$(1)/rooms.a
	@mkdir -p $$(@D)
	@$$(call SAY,LD $$@)
	$$(Q)$$(LD_OF_$(1)) -o $$@ $$^ $$(PKG_LIBS) -pthread

# All that a run of the tests needs.
.PHONY: programs-$(1)
programs-$(1): $$(call UNIT_BIN,$(1)) build/$(1)/isimud build/$(1)/echo
endef
$(foreach flavour,$(FLAVOURS),$(eval $(call FLAVOUR_RULES,$(flavour))))

# What the program has of src/web.
build/assets.c: src/web/embed.sh $(WEB) Makefile
	@mkdir -p $(@D)
	@$(call SAY,EMBED $@)
	$(Q)src/web/embed.sh $(WEB) >$@.new && mv $@.new $@

# The commit: of REVISION=, or of git. Only what tells it is compiled anew.
REVISION ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
$(FLAVOURS:%=build/%/src/base/version.o): CPPFLAGS += -DREVISION='"$(REVISION)"'
$(FLAVOURS:%=build/%/src/base/version.o): build/revision
build/revision: always
	@mkdir -p $(@D)
	@echo '$(REVISION)' | cmp -s - $@ || echo '$(REVISION)' > $@
.PHONY: always

build/versions.ok: third_party/versions.sh | deps-build
	@mkdir -p $(@D)
	@third_party/versions.sh
	@touch $@

-include $(shell find build -type f -name '*.d' 2>/dev/null)

# --- run --------------------------------------------------------------------

# These goals build with what is there; all others install what is missing.
AS_IT_IS := all install build/% clean format help

# Objects of tests need the tests' packages first, too.
$(foreach flavour,$(FLAVOURS),$(UNIT:%.c=build/$(flavour)/%.o) \
  $(LIB:%.c=build/$(flavour)/%.o)): | deps-test
$(foreach flavour,fuzz cover clang,$(FUZZ:%.c=build/$(flavour)/%.o) \
  $(SRC:%.c=build/$(flavour)/%.o)): | deps-fuzz

.PHONY: deps deps-build deps-test deps-fuzz
deps: ## installs the packages that building needs, if any is missing
	@scripts/build/deps.sh build

deps-build deps-test deps-fuzz: deps-%:
	@$(if $(filter-out $(AS_IT_IS),$(or $(MAKECMDGOALS),all)),scripts/build/deps.sh $*)

.PHONY: run
run: all ## installs what is missing, builds, and starts the server
	@scripts/build/run.sh build/isimud

.PHONY: install
install: all ## installs build/isimud to $(DESTDIR)$(PREFIX)/bin
	install -D -m 0755 build/isimud $(DESTDIR)$(PREFIX)/bin/isimud
PREFIX ?= /usr/local

# --- test -------------------------------------------------------------------

# Tests at once: most wait for time-outs, or for what a server does in its own
# time. JOBS=0 runs them one after another, as -s and --pdb need it.
JOBS ?= 4
export JOBS PYTHON

.PHONY: test unit integration
test: programs-$(FLAVOUR) all ## installs what is missing, builds, and runs every test (T=word: as below)
	@scripts/build/test.sh $(FLAVOUR) "$(T)" both $(call UNIT_BIN,$(FLAVOUR))

unit: $(call UNIT_BIN,$(FLAVOUR)) ## the unit tests of FLAVOUR (T=word: test_WORD, or all of the folder WORD)
	@scripts/build/test.sh $(FLAVOUR) "$(T)" unit $^

integration: $(OUT)/isimud $(OUT)/echo ## the integration tests against FLAVOUR (T=word: pytest -k word)
	@scripts/build/deps.sh test
	@scripts/build/test.sh $(FLAVOUR) "$(T)" integration

# --- hunting mistakes ---------------------------------------------------------

.PHONY: asan tsan valgrind
asan: programs-asan ## every test under AddressSanitizer, UBSan and LeakSanitizer
	@scripts/check/sanitize.sh asan "$(T)" $(call UNIT_BIN,asan)

tsan: programs-tsan ## every test under ThreadSanitizer
	@scripts/check/sanitize.sh tsan "$(T)" $(call UNIT_BIN,tsan)

valgrind: programs-debug ## the unit tests and a part of the integration tests under valgrind
	@scripts/check/sanitize.sh valgrind "$(T)" $(call UNIT_BIN,debug)

.PHONY: fuzz
fuzz: $(FUZZ:test/fuzz/$(if $(F),fuzz_$(F),%).c=build/fuzz/fuzz/$(if $(F),fuzz_$(F),%)) ## fuzzes F=http, handshake, fields, websocket, deflate, json, v1_codec, sse, history_file or record (default: each) for S=60 seconds
	@scripts/check/fuzz.sh "$(F)" "$(or $(S),60)"

.PHONY: tcp-fuzz soak
tcp-fuzz: build/asan/isimud ## hostile clients against the whole server, beside witnesses, for S=60 seconds (SEED=n)
	@scripts/build/deps.sh test
	@FLAVOUR=asan scripts/check/soak.sh --seconds $(or $(S),60) $(if $(SEED),--seed $(SEED))

soak: $(OUT)/isimud ## the same with clients that come and go, for S=1800 seconds: promises, descriptors, memory
	@scripts/build/deps.sh test
	@FLAVOUR=$(FLAVOUR) scripts/check/soak.sh --churn --seconds $(or $(S),1800) $(if $(SEED),--seed $(SEED))

.PHONY: cluster-test cluster-soak cluster-bench
cluster-test: $(OUT)/isimud $(OUT)/echo ## several nodes, all faults, with the newest nats-server at hand (T=word)
	@scripts/build/deps.sh test
	@FLAVOUR=$(FLAVOUR) scripts/check/cluster.sh test $(if $(T),"$(T)")

cluster-soak: $(OUT)/isimud ## several nodes under random faults for S=600 seconds (SEED=n): the clients' ledger balances
	@scripts/build/deps.sh test
	@FLAVOUR=$(FLAVOUR) scripts/check/cluster.sh soak $(or $(S),600) $(SEED)

cluster-bench: all ## several nodes beside one: rates, latencies, fail-over, start (figures of README)
	@scripts/build/deps.sh test
	@scripts/check/cluster.sh bench

# What stands between the program and its libraries' malloc().
build/oom/fail.so: test/oom/fail.c Makefile
	@mkdir -p $(@D)
	@$(call SAY,LD $@)
	$(Q)$(CC) -std=c11 $(WARN) -O1 -g -shared -fPIC -o $@ $< -ldl

.PHONY: oom
OOM ?= debug
oom: build/oom/fail.so build/$(OOM)/isimud ## fails each allocation of a run (EVERY=7: each seventh, BURST=20: so many, SCENE=word, SEED=n, OOM=debug|asan)
	@scripts/build/deps.sh test
	@ISIMUD=$(CURDIR)/build/$(OOM)/isimud FLAVOUR=$(OOM) $(PYTHON) test/oom/oom.py --every $(or $(EVERY),1) \
	  --burst $(or $(BURST),1) $(if $(SCENE),--scene $(SCENE)) $(if $(SEED),--seed $(SEED))

.PHONY: coverage
coverage: programs-gcov ## lines of each folder that the unit tests reach, and all tests (W=unit: only those; V=1: by file)
	@find build/gcov -name '*.gcda' -delete
	@scripts/build/test.sh gcov "" unit $(call UNIT_BIN,gcov)
	@$(PYTHON) scripts/check/coverage.py build/gcov "by unit tests"
	@$(if $(filter unit,$(W)),,scripts/build/test.sh gcov "" integration; status=$$?; \
	  $(PYTHON) scripts/check/coverage.py build/gcov "by all tests" && exit $$status)

.PHONY: fuzz-coverage
fuzz-coverage: $(FUZZ:test/fuzz/%.c=build/cover/fuzz/%) ## how many lines of each parser the kept inputs reach; fails below 95 %
	@scripts/check/fuzz_coverage.sh

# --- container ----------------------------------------------------------------

.PHONY: image image-test
# ENGINE=start runs a dockerd of its own, where no container engine runs.
export TARGETARCH CURL
WITH_ENGINE := $(if $(filter start,$(ENGINE)),ENGINE=docker scripts/container/dockerd.sh)
image: ## builds the container image (ENGINE: docker, podman, buildah, start; TARGETARCH: amd64, arm64)
	@$(WITH_ENGINE) scripts/container/image.sh

image-test: ## builds the image, and tries it read-only, in 64 MB
	@scripts/build/deps.sh test $(if $(TARGETARCH),qemu)
	@$(WITH_ENGINE) sh -c 'scripts/container/image.sh && scripts/container/image_test.py'

.PHONY: deb deb-test
deb: ## the Debian package of the committed tree, in build/deb (SUITE=trixie: as root, for that release)
	@scripts/package/deb.sh $(SUITE)

deb-test: deb ## installs it in a clean Debian, starts it, asks it, removes it (as root; SUITE)
	@scripts/package/deb_test.sh $(SUITE)

# --- load ---------------------------------------------------------------------

.PHONY: bench bench-plot bench-selftest
bench-selftest: $(OUT)/isimud $(OUT)/bench/peers ## whether `isimud bench` finds what a faulty server does
	@ISIMUD=$(OUT)/isimud PEERS=$(OUT)/bench/peers $(PYTHON) test/bench/selftest.py

bench-plot: ## draws test/bench/figure.svg from what `make bench` measured
	@scripts/load/bench_plot.py

# What the kernel alone needs; io_uring, where it is at hand, is an option of it.
URING = $(shell pkg-config --exists liburing 2>/dev/null && echo yes)
build/bench/rawfan: test/bench/rawfan.c Makefile
	@mkdir -p $(@D)
	@$(call SAY,LD $@)
	$(Q)$(CC) -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wshadow -O2 -g $(if $(URING),-DHAVE_LIBURING) -o $@ $< \
	  -pthread $(if $(URING),-luring)

bench: all build/release/bench/peers build/bench/rawfan ## release build beside rawfan and the peers installed: rates, latencies, memory
	@scripts/load/bench.sh

.PHONY: load
load: all ## the k6 scripts, with thresholds, against a release server (S=10 s each)
	@SECONDS_EACH=$(or $(S),10) scripts/load/load.sh

# --- check ------------------------------------------------------------------

.PHONY: check
check: test format-check lint ## before each commit: warnings as errors, tests, format, lint

.PHONY: format format-check
format: ## lays out the C files by .clang-format
	clang-format -i $(C_FILES)

format-check: ## fails if `make format` would change anything
	@scripts/build/deps.sh lint
	clang-format --dry-run --Werror $(C_FILES)

.PHONY: lint
lint: build/isimud build/debug/isimud ## clang-tidy, cppcheck, the layers' includes, circles of files, names, the binary's hardening
	@scripts/build/deps.sh build lint
	@scripts/check/layers.sh
	@scripts/check/names.py
	@scripts/check/references.py
	@scripts/check/hardening.sh build/isimud
	@scripts/check/lint.sh

.PHONY: clean
clean: ## removes build/
	rm -rf build

.PHONY: help
help: ## this list
	@awk -F ':.*## ' ' \
	  /^# --- / { group = $$0; gsub(/^# --- | -*$$/, "", group) } \
	  /^[a-z-]+:.*## / { \
	    if (group != last) print (last ? "\n" : "") group; \
	    last = group; printf "  %-14s %s\n", $$1, $$2 }' Makefile
