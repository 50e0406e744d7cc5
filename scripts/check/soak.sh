#!/bin/sh
# Runs test/soak/soak.py on the server of FLAVOUR, with what finds its mistakes.
# usage: FLAVOUR=asan scripts/check/soak.sh [--seconds S] [--seed N] [--churn]
set -eu
cd "$(dirname "$0")/../.."
export FLAVOUR="${FLAVOUR:-release}"
export ISIMUD="$PWD/build/$FLAVOUR/isimud"
export ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export TSAN_OPTIONS="halt_on_error=0:exitcode=66:second_deadlock_stack=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}"
exec "${PYTHON:-/usr/bin/python3}" test/soak/soak.py "$@"
