#!/bin/sh
# Checks the includes of src/ against the layers of the code: a room includes
# headers of its own layer or a lower one, one room alone includes each
# dependency, and the codecs know nothing of libuv but its error names.
# usage: scripts/layers.sh [FOLDER]    (src)
# Prints every breach as FILE:LINE, and fails if there is one.
set -eu
cd "$(dirname "$0")/.."
dir=${1:-src}

# Every room stands here once. `http_*` is any further file of the room http;
# a header ROOM_private.h is for the files of that room only.
layers='
5 main server acceptor worker routes routes_* options probe
4 conn conn_* subscribers subscribers_* auth deadline outq chunk
3 config config_* cgroup secret endings stats histogram metrics listener memory message mailbox registry registry_* history_file receipts verdicts
2 http http_* websocket json json_* envelope sse cursor origin
1 check list span log buf decimal digest siphash version
'
# A dependency's headers, as <NAME>, and the one room that may include them.
owners='
llhttp.h http
wslay/ websocket
cjson/ json
cJSON.h json
curl/ auth
openssl/ digest
'

exec awk -v layers="$layers" -v owners="$owners" '
function fail(text)
{
	printf "%s:%d: %s\n", FILENAME, FNR, text
	failed = 1
}
function layer_of(room)
{
	if (room in layer)
		return layer[room]
	for (i = 1; i <= n_prefixes; i++)
		if (index(room, prefix[i]) == 1)
			return layer[prefix[i]]
	return 0
}
# http_head belongs to the room http, if a line above says http_*.
function room_of(file)
{
	for (i = 1; i <= n_prefixes; i++)
		if (index(file, prefix[i]) == 1)
			return substr(prefix[i], 1, length(prefix[i]) - 1)
	return file
}
BEGIN {
	n = split(layers, line, "\n")
	for (l = 1; l <= n; l++) {
		words = split(line[l], word, " ")
		for (w = 2; w <= words; w++) {
			if (sub(/\*$/, "", word[w]))
				prefix[++n_prefixes] = word[w]
			layer[word[w]] = word[1]
		}
	}
	n_owned = split(owners, line, "\n")
	for (l = 1; l <= n_owned; l++)
		if (split(line[l], word, " ") == 2)
			owner[word[1]] = word[2]
}
FNR == 1 {
	files++
	file = FILENAME
	sub(/.*\//, "", file)
	sub(/\.[ch]$/, "", file)
	here = layer_of(file)
	if (!here)
		fail("unknown room " file ": add it to its layer in " \
		     "scripts/layers.sh and src/README.md")
}
/^[ \t]*#[ \t]*include[ \t]/ {
	match($0, /[<"][^>"]*[>"]/)
	name = substr($0, RSTART + 1, RLENGTH - 2)
	if (substr($0, RSTART, 1) == "\"") {
		room = name
		sub(/\.h$/, "", room)
		there = layer_of(room)
		if (room == name || room ~ /\//)
			fail("include \"ROOM.h\", not \"" name "\"")
		else if (!there)
			fail("includes unknown room " room)
		else if (room ~ /_private$/ && room_of(room) != room_of(file))
			fail(name " is for the room " room_of(room) " only")
		else if (here && there > here)
			fail(file " (layer " here ") includes " name \
			     " (layer " there "): reach upward by callbacks only")
	} else {
		for (o in owner)
			if (index(name, o) == 1 && room_of(file) != owner[o])
				fail("only the room " owner[o] " includes <" name ">")
		if (here == 2 && name ~ /^uv/ && name != "uv/errno.h")
			fail("a codec includes no <" name ">: of libuv it may " \
			     "use <uv/errno.h> for the UV_E codes")
	}
}
END {
	if (!files) {
		print "layers: no files"
		exit 1
	}
	if (failed)
		exit 1
	print "layers: " files " files keep to them"
}' "$dir"/*.[ch]
