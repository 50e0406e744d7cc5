#!/bin/sh
# Runs the unit test programs given, the integration tests, or both.
# usage: test.sh FLAVOUR T unit|integration|both [PROGRAM...]
#   T: pytest -k T; make has chosen the unit programs by it. Empty: all.
# Fails if a test failed, or if there was none to run.
set -u
cd "$(dirname "$0")/.."
flavour=$1
word=$2
what=$3
shift 3
# pytest's status where no test was chosen
NONE=5

unit() {
	[ $# -gt 0 ] || return $NONE
	passed=0
	failed=0
	for program in "$@"; do
		if output=$(${VALGRIND:-} "$program" 2>&1); then
			passed=$((passed + 1))
			printf '%-34s %s\n' "${program#build/*/unit/}" \
				"$(printf '%s\n' "$output" |
					sed -n 's/.*PASSED  \] //p')"
		else
			failed=$((failed + 1))
			printf '%s\n' "$output"
			printf '%-34s FAILED\n' "${program#build/*/unit/}"
		fi
	done
	echo "unit: $passed passed, $failed failed"
	[ $failed -eq 0 ]
}

integration() {
	ISIMUD=$PWD/build/$flavour/isimud ECHO=$PWD/build/$flavour/echo \
		FLAVOUR=$flavour "${PYTHON:-/usr/bin/python3}" -m pytest -q \
		-p no:cacheprovider -n "${JOBS:-4}" test/integration \
		${word:+-k "$word"}
}

none=0
for part in unit integration; do
	[ "$what" = $part ] || [ "$what" = both ] || continue
	status=0
	$part "$@" || status=$?
	case $status in
	0) ;;
	$NONE) none=$((none + 1)) ;;
	*) exit $status ;;
	esac
done
case $what$none in
both2 | unit1 | integration1)
	echo "$0: no test matches ${word:-}" >&2
	exit $NONE ;;
esac
