#!/bin/sh
# Runs the tests under a sanitizer, or a part of them under valgrind.
# usage: scripts/check/sanitize.sh asan|tsan|valgrind T [PROGRAM...]
#   T: the integration tests whose name has T, '' for all
#   PROGRAM: the unit tests; make has built them, and the servers
set -eu
cd "$(dirname "$0")/../.."
tool=${1:-}
only=${2:-}
shift 2

# What the environment says comes last and so wins. There is no
# detect_stack_use_after_return, as in fuzz.sh with clang: gcc 12 then puts
# variables of alignment 64 at places that are not (its bug 110027).
export ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
# A test goes on after a race, so that one run shows them all, and fails by 66.
export TSAN_OPTIONS="halt_on_error=0:exitcode=66:second_deadlock_stack=1${TSAN_OPTIONS:+:$TSAN_OPTIONS}"


# ThreadSanitizer's shadow leaves too few addresses for the randomness of newer
# kernels (vm.mmap_rnd_bits over 28): gcc's then ends with "unexpected memory
# mapping", at random. setarch -R turns that off, unless a container forbids it.
without_random_addresses() {
	if [ "$(cat /proc/sys/vm/mmap_rnd_bits 2>/dev/null || echo 28)" -gt 28 ] &&
		setarch -R true 2>/dev/null; then
		echo setarch -R
	fi
}

# The server under valgrind: the integration tests start this in its place.
make_wrapper() {
	mkdir -p build/valgrind
	cat >build/valgrind/isimud <<-EOF
		#!/bin/sh
		exec valgrind -q --error-exitcode=1 --leak-check=full \\
			--errors-for-leak-kinds=definite,possible \\
			--log-file=$PWD/build/valgrind/isimud.%p.log \\
			$PWD/build/debug/isimud "\$@"
	EOF
	chmod +x build/valgrind/isimud
}

# A server that a test had to kill takes its exit status along: the logs tell.
fail_on_reports() {
	for log in build/valgrind/isimud.*.log; do
		[ -s "$log" ] || continue
		echo "$log:"
		cat "$log"
		reported=yes
	done
	[ -z "${reported:-}" ]
}

run_valgrind() {
	scripts/build/deps.sh valgrind
	VALGRIND='valgrind -q --error-exitcode=1 --leak-check=full' \
		scripts/build/test.sh debug "$only" unit "$@" || units=$?
	# 5: no unit test has `only` in its name.
	[ "${units:-}" != 5 ] || [ -z "$only" ] || units=
	make_wrapper
	rm -f build/valgrind/*.log
	# Not the other files: valgrind runs one thread at a time and some 30 times
	# slower, which tests of rates and deadlines would rightly call a failure.
	status=0
	ISIMUD=$PWD/build/valgrind/isimud ECHO=$PWD/build/debug/echo \
		FLAVOUR=valgrind /usr/bin/python3 -m pytest -q \
		-p no:cacheprovider test/integration/test_contract.py \
		${only:+-k "$only"} || status=$?
	# 5: no test has `only` in its name.
	[ $status -ne 5 ] || [ -z "$only" ] || status=0
	fail_on_reports && [ -z "${units:-}" ] && return $status
}

case $tool in
asan)
	exec scripts/build/test.sh asan "$only" both "$@" ;;
tsan)
	exec $(without_random_addresses) scripts/build/test.sh tsan "$only" both "$@" ;;
valgrind)
	run_valgrind "$@" ;;
*)
	echo "usage: $0 asan|tsan|valgrind [T]" >&2
	exit 2 ;;
esac
