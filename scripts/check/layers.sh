#!/bin/sh
# Checks the includes of src/: a folder includes its own headers and those of
# folders below it; a header called private.h is for its own folder; one folder
# alone includes each dependency. Then circles.py looks for circles of files, if
# the debug build is up to date (`make lint` sees to it).
# usage: scripts/check/layers.sh [FOLDER]    (src)
# Prints every breach as FILE:LINE, and fails if there is one.
set -eu
scripts=$(cd "$(dirname "$0")" && pwd)
cd "${1:-$scripts/../../src}"

# From the bottom up. Folders on one line do not include each other.
layers='
base
codec
stats
config
topics cli
access cluster conn
fanout server
api
main.c
'
# A dependency's headers, as <NAME>, and the folder that may include them.
owners='
llhttp.h codec/http
wslay/ codec
zlib.h codec
cJSON.h codec/json
cjson/ codec/json
curl/ access
openssl/ base
nats cluster
'

find . -name '*.[ch]' | sed 's|^\./||' | sort | xargs awk \
	-v layers="$layers" -v owners="$owners" '
function fail(text) { print FILENAME ":" FNR ": " text; failed = 1 }
function layer(path) { sub(/\/.*/, "", path); return rank[path] }
function folder(path) { sub(/\/?[^\/]*$/, "", path); return path }
BEGIN {
	n = split(layers, line, "\n")
	for (l = 1; l <= n; l++)
		for (w = split(line[l], word, " "); w > 0; w--)
			rank[word[w]] = l
	n = split(owners, line, "\n")
	for (l = 1; l <= n; l++)
		if (split(line[l], word, " ") == 2)
			owner[word[1]] = word[2]
}
FNR == 1 && !layer(FILENAME) {
	fail("its folder is not in the list of scripts/check/layers.sh")
}
/^[ \t]*#[ \t]*include[ \t]*</ {
	name = $0
	gsub(/.*<|>.*/, "", name)
	for (o in owner)
		if (index(name, o) == 1 && folder(FILENAME) != owner[o])
			fail("only " owner[o] "/ includes <" name ">")
	if (FILENAME ~ /^codec\// && name ~ /^uv/ && name != "uv/errno.h")
		fail("a codec includes no <" name ">, only <uv/errno.h>")
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
	split($0, quoted, "\"")
	name = quoted[2]
	top = FILENAME
	sub(/\/.*/, "", top)
	if (index(name, top "/") == 1) {
		if (name ~ /\/private\.h$/ && folder(name) != folder(FILENAME))
			fail(name " is for its own folder")
	} else if (!layer(name))
		fail("include \"FOLDER/FILE.h\", not \"" name "\"")
	else if (name ~ /\/private\.h$/)
		fail(name " is for its own folder")
	else if (layer(name) >= layer(FILENAME))
		fail("includes " name ", which is not below it: reach upward " \
		     "by callbacks only")
}
END {
	if (!failed)
		print "layers: all files of src/ keep to them"
	exit failed
}'

debug=../build/debug
if [ $# -eq 0 ] && [ -e $debug/isimud ] && [ -z "$(find . -name '*.[ch]' -newer $debug/isimud)" ]; then
	exec "$scripts/circles.py" "$debug/src"
fi
echo "layers: $debug/isimud is not up to date: circles are not looked for"
