#!/bin/sh
# Runs the unit test programs given, the integration tests, or both.
# usage: test.sh FLAVOUR T unit|integration|both [PROGRAM...]
#   T: pytest -k T; make has chosen the unit programs by it. Empty: all.
# Fails if a test failed, or if there was none to run.
set -u
cd "$(dirname "$0")/../.."
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
		if output=$(timeout 900 ${VALGRIND:-} "$program" 2>&1); then
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

# What a sanitizer, or the program itself, says of a fault that need not come
# twice.
REPORTS='Sanitizer|runtime error:|CHECK failed|LeakSanitizer|panic'

run_pytest() {
	ISIMUD=$PWD/build/$flavour/isimud ECHO=$PWD/build/$flavour/echo \
		FLAVOUR=$flavour "${PYTHON:-/usr/bin/python3}" -m pytest -q \
		-o cache_dir="$PWD/build/$flavour/pytest-cache" "$@" \
		test/integration ${word:+-k "$word"}
}

# Some tests have deadlines, and four at a time keep two CPUs busy: those that
# failed are run again, one after the other. What fails then has failed, and so
# has all that a sanitizer reported.
integration() {
	log=build/$flavour/integration.log
	{
		run_pytest -n "${JOBS:-4}" 2>&1
		echo $? >build/$flavour/integration.status
	} | tee "$log"
	first=$(cat build/$flavour/integration.status)
	[ "$first" -eq 1 ] || return "$first"
	! grep -qE "$REPORTS" "$log" || return 1
	echo "integration: what failed is run again, one test at a time"
	run_pytest -n 0 --last-failed --last-failed-no-failures none
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
