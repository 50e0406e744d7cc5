#!/bin/sh
# Runs the unit test programs of a folder, or one room's, and sums them up.
# usage: unit.sh FOLDER [ROOM]
set -u
dir=$1
room=${2:-}
passed=0
failed=0
for program in "$dir"/test_${room:-*}; do
	[ -x "$program" ] || continue
	if output=$(${VALGRIND:-} "$program" 2>&1); then
		passed=$((passed + 1))
		printf '%-28s %s\n' "${program##*/}" \
			"$(printf '%s\n' "$output" | sed -n 's/.*PASSED  \] //p')"
	else
		failed=$((failed + 1))
		printf '%s\n' "$output"
		printf '%-28s FAILED\n' "${program##*/}"
	fi
done
echo "unit: $passed passed, $failed failed"
[ "$failed" -eq 0 ] && { [ "$passed" -gt 0 ] || [ -n "$room" ]; }
