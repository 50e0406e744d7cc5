#!/bin/sh
# Checks what the compiler and the linker were to do for a program's safety:
# a position-independent executable, RELRO and BIND_NOW, no executable stack, no
# writable and executable segment, no text relocations, stack protector,
# fortified functions; no RUNPATH. One line when all is well, else one for each
# thing that lacks. (Control-flow protection is not asked for: the mark is lost
# by linking Debian's libllhttp.a, which lacks it.)
# usage: scripts/check/hardening.sh [PROGRAM ...]    (build/isimud)
set -eu
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- build/isimud
failed=no

lacks() {
	echo "hardening: $program: $*"
	failed=yes
}

for program in "$@"; do
	head=$(readelf -hW "$program")
	segments=$(readelf -lW "$program")
	dynamic=$(readelf -dW "$program")
	symbols=$(readelf --dyn-syms -W "$program")

	echo "$head" | grep -q 'Type: *DYN' && echo "$segments" | grep -q INTERP ||
		lacks "no position-independent executable"
	echo "$segments" | grep -q GNU_RELRO || lacks "no RELRO"
	echo "$dynamic" | grep -Eq 'BIND_NOW|FLAGS.*NOW' || lacks "no BIND_NOW"
	echo "$segments" | grep GNU_STACK | grep -q 'RW ' &&
		! echo "$segments" | grep GNU_STACK | grep -q RWE ||
		lacks "an executable stack"
	! echo "$segments" | grep LOAD | grep -q 'RWE' ||
		lacks "a segment that is writable and executable"
	! echo "$dynamic" | grep -q TEXTREL || lacks "text relocations"
	! echo "$dynamic" | grep -Eq 'RPATH|RUNPATH' || lacks "a RUNPATH"
	echo "$symbols" | grep -q __stack_chk_fail || lacks "no stack protector"
	echo "$symbols" | grep -Eq '__[a-z]+_chk(@| |$)' ||
		lacks "no fortified function"
done
[ $failed = no ] || exit 1
echo "hardening: $* as it should be"
