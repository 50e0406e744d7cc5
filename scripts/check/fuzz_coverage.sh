#!/bin/sh
# How many lines of each parser the fuzz targets reach from the kept inputs
# (test/fuzz/corpus, scripts/check/fuzz_seeds.py); see fuzz_coverage.py.
set -eu
cd "$(dirname "$0")/../.."
# Whatever reads a client's bytes, or a file's.
PARSERS='src/codec/http/fields.c src/codec/http/head.c src/codec/http/http.c
	src/codec/http/query.c src/codec/json/read.c src/codec/json/scan.c
	src/codec/json/write.c src/codec/v1_codec.c src/codec/cursor.c
	src/codec/origin.c src/codec/sse.c src/codec/websocket.c
	src/codec/permessage_deflate.c src/codec/deflate.c
	src/topics/history_file.c'
out=build/cover/profiles
rm -rf "$out"
mkdir -p "$out"
scripts/check/fuzz_seeds.py build/fuzz/seeds

objects=
for program in build/cover/fuzz/fuzz_*; do
	name=${program##*/fuzz_}
	inputs=
	for folder in test/fuzz/corpus/$name build/fuzz/seeds/$name; do
		[ ! -d "$folder" ] || inputs="$inputs $folder"
	done
	LLVM_PROFILE_FILE=$out/$name.raw "$program" -runs=0 $inputs \
		>"$out/$name.log" 2>&1 || { tail -20 "$out/$name.log"; exit 1; }
	objects="$objects -object $program"
done
llvm-profdata merge -sparse -o "$out/all" "$out"/*.raw
for file in $PARSERS; do
	echo "== $file"
	llvm-cov show -instr-profile "$out/all" ${objects# -object } "$file"
done >"$out/lines"
scripts/check/fuzz_coverage.py "$out/lines"
