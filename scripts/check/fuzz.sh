#!/bin/sh
# Fuzzes each target of test/fuzz, or one, for a while.
# usage: make fuzz F=json S=60   (which builds them, then fuzz.sh TARGET|'' SECONDS)
#
# The kept corpus, test/fuzz/corpus/TARGET, is only read, as are the large inputs
# that fuzz_seeds.py makes: what libFuzzer finds
# new goes to build/fuzz/corpus/TARGET, which the next run starts from too. An
# input that crashes, hangs or leaks is copied to the kept corpus as crash-SHA1
# (or timeout-, leak-, oom-), so that every later run tries it, and the run fails.
set -eu
cd "$(dirname "$0")/../.."
target=${1:-}
seconds=${2:-60}
case $seconds in
'' | *[!0-9]*) echo "$0: not a number of seconds: $seconds" >&2; exit 2 ;;
esac

targets=
for file in test/fuzz/fuzz_*.c; do
	name=${file#test/fuzz/fuzz_}
	name=${name%.c}
	[ -f "$file" ] || continue
	[ -n "$target" ] && [ "$target" != "$name" ] || targets="$targets $name"
done
if [ -z "$targets" ]; then
	echo "$0: no target ${target:-in test/fuzz}" >&2
	exit 2
fi

export ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"

# The longest input to try, in bytes: as long as the longest one kept, for
# libFuzzer cuts seeds to it, and no longer: short inputs run faster. A limit of
# the code (16 KiB of HTTP head) is in reach once a seed is that long.
longest() {
	find "$@" -type f -printf '%s\n' 2>/dev/null |
		awk '{ if ($1 > max) max = $1 } END { print max < 4096 ? 4096 : max }'
}

# libFuzzer names an input by what it did and by its SHA-1.
keep() {
	kept=test/fuzz/corpus/$1
	mkdir -p "$kept"
	cp "$2" "$kept/${2##*/}"
	echo "kept as $kept/${2##*/}" >&2
}

scripts/check/fuzz_seeds.py build/fuzz/seeds
summary=
failed=no
for name in $targets; do
	program=build/fuzz/fuzz/fuzz_$name
	scratch=build/fuzz/corpus/$name
	crashes=build/fuzz/crashes/$name
	log=build/fuzz/fuzz_$name.log
	kept=test/fuzz/corpus/$name
	seeds=build/fuzz/seeds/$name
	dictionary=test/fuzz/$name.dict
	rm -rf "$crashes"
	mkdir -p "$scratch" "$crashes"
	echo "fuzz: $name for $seconds s (log: $log)"
	set -- "$scratch"
	[ ! -d "$kept" ] || set -- "$@" "$kept"
	[ ! -d "$seeds" ] || set -- "$@" "$seeds"
	[ ! -f "$dictionary" ] || set -- "$@" "-dict=$dictionary"
	if "$program" -max_total_time="$seconds" -timeout=10 \
		-rss_limit_mb=1024 -max_len="$(longest "$kept" "$seeds")" -print_final_stats=1 \
		-artifact_prefix="$crashes/" "$@" >"$log" 2>&1; then
		verdict=ok
	else
		verdict=FAILED
		failed=yes
		grep -v '^#' "$log" | tail -60
		for input in "$crashes"/*; do
			[ ! -f "$input" ] || keep "$name" "$input"
		done
	fi
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	cover=$(sed -n 's/.*cov: \([0-9]*\).*/\1/p' "$log" | tail -1)
	summary="$summary$name: $verdict: ${runs:-0} runs, ${cover:-0} edges, $(
		find "$scratch" -type f | wc -l) inputs of its own
"
done
printf '%s' "$summary"
[ $failed = no ]
