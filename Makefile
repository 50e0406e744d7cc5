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

FLAVOUR ?= release
OUT     := build/$(FLAVOUR)
PYTHON  ?= /usr/bin/python3
VERSION := $(shell sed -n 's/^\#define VERSION "\(.*\)"$$/\1/p' src/version.h)

# --- flags ------------------------------------------------------------------

PKGS := libuv libcjson libcurl libcrypto libllhttp
# libwslay has no pkg-config file in Debian; llhttp is linked from its archive,
# so that the binary runs where trixie's libllhttp9.2 is not installed.
PKG_CFLAGS = $(shell pkg-config --cflags $(PKGS))
PKG_LIBS   = $(shell pkg-config --libs libuv libcjson libcurl libcrypto) \
             -l:libllhttp.a -lwslay

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes \
        -Wmissing-prototypes -Wformat=2 -Wvla -Wundef -Wpointer-arith \
        -Wcast-qual -Wwrite-strings -Werror=implicit-function-declaration
HARDEN := -fstack-protector-strong -fstack-clash-protection -fPIE \
          $(if $(filter x86_64,$(shell uname -m)),-fcf-protection)
HARDEN_LD := -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed

CFLAGS_release := -O2 -g -flto=auto -D_FORTIFY_SOURCE=2
CFLAGS_debug   := -O0 -g3 -DISIMUD_DEBUG
CFLAGS_asan    := -O1 -g -DISIMUD_DEBUG -fno-omit-frame-pointer \
                  -fsanitize=address,undefined -fno-sanitize-recover=all
CFLAGS_tsan    := -O1 -g -DISIMUD_DEBUG -fno-omit-frame-pointer -fsanitize=thread
CFLAGS_fuzz    := -O1 -g -DISIMUD_DEBUG -fno-omit-frame-pointer \
                  -fsanitize=fuzzer-no-link,address,undefined \
                  -fno-sanitize-recover=all

CC_fuzz := clang
CC      := gcc
ifneq ($(CC_$(FLAVOUR)),)
CC := $(CC_$(FLAVOUR))
endif

# V=1 shows the commands.
Q := $(if $(V),,@)
SAY = $(if $(V),:,echo "  $(1)")

CPPFLAGS += -D_GNU_SOURCE -Isrc
CFLAGS   := -std=c11 $(WARN) $(HARDEN) $(CFLAGS_$(FLAVOUR)) $(EXTRA_CFLAGS)
LDFLAGS  := $(HARDEN_LD) $(CFLAGS_$(FLAVOUR))
ifdef WERROR
CFLAGS += -Werror
endif

# --- files ------------------------------------------------------------------

SRC      := $(sort $(wildcard src/*.c))
ROOMS    := $(filter-out src/main.c,$(SRC))
ROOM_OBJ := $(ROOMS:src/%.c=$(OUT)/src/%.o)
UNIT     := $(sort $(wildcard test/unit/test_*.c))
UNIT_BIN := $(UNIT:test/unit/%.c=$(OUT)/unit/%)
FUZZ     := $(sort $(wildcard test/fuzz/fuzz_*.c))
FUZZ_BIN := $(FUZZ:test/fuzz/%.c=$(OUT)/fuzz/%)
C_FILES  := $(sort $(wildcard src/*.[ch] test/unit/*.[ch] test/fuzz/*.[ch] \
              test/echo/*.[ch]))

# --- build ------------------------------------------------------------------

.PHONY: all
all: build/isimud build/echo ## the release binaries build/isimud, build/echo

build/isimud build/echo: build/%: FORCE
	@$(MAKE) --no-print-directory FLAVOUR=release build/release/$*
	@ln -f build/release/$* $@

# One after the other: both are made of the same objects.
build/echo: | build/isimud

.PHONY: FORCE
FORCE:

$(OUT)/isimud: $(OUT)/src/main.o $(ROOM_OBJ)
	@mkdir -p $(@D)
	@$(call SAY,LD $@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -pthread

$(OUT)/echo: $(OUT)/test/echo/echo.o $(ROOM_OBJ)
	@mkdir -p $(@D)
	@$(call SAY,LD $@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -pthread

$(OUT)/unit/%: $(OUT)/test/unit/%.o $(ROOM_OBJ)
	@mkdir -p $(@D)
	@$(call SAY,LD $@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(PKG_LIBS) -lcmocka -pthread

$(OUT)/fuzz/%: $(OUT)/test/fuzz/%.o $(ROOM_OBJ)
	@mkdir -p $(@D)
	@$(call SAY,LD $@)
	$(Q)$(CC) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(PKG_LIBS) -pthread

build/versions.ok: third_party/versions.sh
	@mkdir -p $(@D)
	@third_party/versions.sh
	@touch $@

$(OUT)/%.o: %.c Makefile | build/versions.ok
	@mkdir -p $(@D)
	@$(call SAY,CC $@)
	$(Q)$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) -MMD -MP -pthread -c -o $@ $<

-include $(shell find build -type f -name '*.d' 2>/dev/null)

# --- run --------------------------------------------------------------------

.PHONY: deps
deps: ## installs the packages that building needs, if any is missing
	@scripts/deps.sh build

.PHONY: run
run: deps ## installs what is missing, builds, and starts the server
	@$(MAKE) --no-print-directory all
	@scripts/run.sh build/isimud

.PHONY: install
install: all ## installs build/isimud to $(DESTDIR)$(PREFIX)/bin
	install -D -m 0755 build/isimud $(DESTDIR)$(PREFIX)/bin/isimud
PREFIX ?= /usr/local

# --- test -------------------------------------------------------------------

.PHONY: test
test: ## installs what is missing, builds, and runs every test (T=room: one's)
	@scripts/deps.sh build test
	@$(MAKE) --no-print-directory all
	@$(MAKE) --no-print-directory unit integration

# Tests at once: most wait for time-outs, or for what a server does in its own
# time. JOBS=0 runs them one after another, as -s and --pdb need it.
JOBS ?= 4

.PHONY: unit-binaries unit integration
unit-binaries: $(if $(T),$(filter %/test_$(T),$(UNIT_BIN)),$(UNIT_BIN))

unit: ## the unit tests of FLAVOUR (T=room: one room's)
	@$(MAKE) --no-print-directory unit-binaries
	@scripts/unit.sh $(OUT)/unit $(T)

integration: ## the integration tests against FLAVOUR (T=word: pytest -k word)
	@$(MAKE) --no-print-directory $(OUT)/isimud $(OUT)/echo
	@ISIMUD=$(CURDIR)/$(OUT)/isimud ECHO=$(CURDIR)/$(OUT)/echo FLAVOUR=$(FLAVOUR) \
	  $(PYTHON) -m pytest -q -p no:cacheprovider -n $(JOBS) test/integration \
	  $(if $(T),-k "$(T)" || [ $$? -eq 5 ])

.PHONY: asan tsan valgrind
asan: ## every test under AddressSanitizer, UBSan and LeakSanitizer
	@scripts/sanitize.sh asan $(T)

tsan: ## every test under ThreadSanitizer
	@scripts/sanitize.sh tsan $(T)

valgrind: ## the unit tests and a part of the integration tests under valgrind
	@scripts/sanitize.sh valgrind $(T)

.PHONY: fuzz
fuzz: ## fuzzes F=http, fields, websocket, json, envelope or sse (default: each) for S=60 seconds
	@scripts/fuzz.sh "$(F)" "$(or $(S),60)"

.PHONY: image image-test
# ENGINE=start runs a dockerd of its own, where no container engine runs.
WITH_ENGINE := $(if $(filter start,$(ENGINE)),ENGINE=docker scripts/dockerd.sh)
image: ## builds the container image (ENGINE: docker, podman, buildah, start)
	@$(WITH_ENGINE) scripts/image.sh

image-test: ## builds the image, and tries it read-only, in 64 MB
	@scripts/deps.sh test
	@$(WITH_ENGINE) sh -c 'scripts/image.sh && scripts/image_test.py'

.PHONY: bench
bench: ## release build beside rawfan, Nchan and NATS: rates and latencies
	@scripts/bench.sh

.PHONY: load
load: ## the k6 scripts, with thresholds, against a release server (S=10 s each)
	@scripts/deps.sh build
	@$(MAKE) --no-print-directory all
	@SECONDS_EACH=$(or $(S),10) scripts/load.sh

# --- check ------------------------------------------------------------------

.PHONY: check
check: ## before each commit: warnings as errors, tests, format, lint
	@$(MAKE) --no-print-directory WERROR=1 test
	@$(MAKE) --no-print-directory format-check lint

.PHONY: format format-check
format: ## lays out the C files by .clang-format
	clang-format -i $(C_FILES)

format-check: ## fails if `make format` would change anything
	@scripts/deps.sh lint
	clang-format --dry-run --Werror $(C_FILES)

.PHONY: lint
lint: ## clang-tidy, cppcheck, and the layers' includes
	@scripts/deps.sh build lint
	@scripts/layers.sh
	@scripts/lint.sh

.PHONY: clean
clean: ## removes build/
	rm -rf build

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | \
	  column -t -s '|' 2>/dev/null || sed -n 's/^\([a-z-]*\):.*## /\1: /p' Makefile
