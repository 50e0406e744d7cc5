#!/bin/sh
# Runs clang-tidy (.clang-tidy says which checks) and cppcheck over src and
# test/echo: one line per tool when all is well, else the findings.
# usage: scripts/check/lint.sh [FILE.c ...]    (default: every file)
set -eu
cd "$(dirname "$0")/../.."

if [ $# -eq 0 ]; then
	for file in $(find src test/echo -name "*.c" | sort); do
		[ ! -f "$file" ] || set -- "$@" "$file"
	done
fi
jobs=$(nproc)
out=build/lint
rm -rf "$out"
mkdir -p "$out"
failed=no

# As a debug build is compiled, with clang's own warnings beside the checks.
flags="-std=c11 -D_GNU_SOURCE -DISIMUD_DEBUG -Isrc -Wall -Wextra -Wshadow
	-Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla
	$(pkg-config --cflags libuv libcjson libcurl libcrypto libllhttp)"
export out flags
# shellcheck disable=SC2016 # the inner shell expands
if printf '%s\n' "$@" | xargs -P "$jobs" -I FILE sh -c '
	log=$out/$(echo FILE | tr / -).txt
	clang-tidy --quiet --config-file=.clang-tidy FILE -- $flags >"$log" 2>"$log.noise"' 2>/dev/null
then
	echo "clang-tidy: $# files are clean"
else
	# A header is reported once for every file that includes it.
	cat "$out"/*.txt
	grep -h -E 'error|rror while' "$out"/*.noise | grep -v 'generated' |
		sort -u || :
	echo "clang-tidy: FAILED: $(cat "$out"/*.txt |
		grep -E '^[^ ]+:[0-9]+:[0-9]+: (error|warning):' | sort -u |
		wc -l) findings"
	failed=yes
fi

if cppcheck -q -j "$jobs" --std=c11 --enable=warning,performance,portability \
	--inline-suppr --error-exitcode=1 -D_GNU_SOURCE -Isrc \
	"$@" 2>"$out/cppcheck"
then
	echo "cppcheck: $# files are clean"
else
	cat "$out/cppcheck"
	echo "cppcheck: FAILED"
	failed=yes
fi

[ $failed = no ]
