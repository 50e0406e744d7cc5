#!/bin/sh
# Writes, as C, the table of api/assets.h: each file with its compressed forms.
# usage: embed.sh FILE... >assets.c
# Comments, indentation and empty lines of a script or style sheet stay here: a
# comment begins with /* at a line's start or behind code, and ends its line.
set -eu
export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

type_of() {
	case $1 in
	*.js) echo 'text/javascript; charset=utf-8' ;;
	*.css) echo 'text/css; charset=utf-8' ;;
	*.html) echo 'text/html; charset=utf-8' ;;
	*.svg) echo 'image/svg+xml' ;;
	*) echo "$0: $1: of which type?" >&2; exit 1 ;;
	esac
}

strip() {
	awk '
	inside { if (/\*\//) inside = 0; next }
	{ sub(/^[ \t]+/, "") }
	/^\/\*/ { if (!/\*\/[ \t]*$/) inside = 1; next }
	{ sub(/[ \t]*\/\*.*\*\/$/, "") }
	/[ \t]\/\* / { if (!/\*\//) { sub(/[ \t]*\/\* .*/, ""); inside = 1 } }
	/./'
}

# bytes NAME <FILE: an array of that name.
bytes() {
	echo "static const unsigned char $1[] = {"
	od -An -v -tu1 | sed 's/  */,/g; s/^,//; s/$/,/'
	echo "};"
}

span() {
	echo "	 .$1 = {(const char *)$2, sizeof $2},"
}

echo '/* Made by src/web/embed.sh. */'
echo '#include "api/assets.h"'
i=0
for file; do
	i=$((i + 1))
	strip <"$file" >"$work/plain"
	bytes "plain_$i" <"$work/plain"
	# No name and no time in it: the same bytes each time.
	gzip -9 -n <"$work/plain" | bytes "gzip_$i"
	{
		echo "	{.name = \"${file##*/}\","
		echo "	 .type = \"$(type_of "$file")\","
		echo "	 .hash = \"$(sha256sum <"$work/plain" | cut -c 1-16)\","
		span plain "plain_$i"
		span gzip "gzip_$i"
	} >>"$work/table"
	if command -v brotli >/dev/null; then
		brotli -q 11 -w 22 -c <"$work/plain" | bytes "brotli_$i"
		span brotli "brotli_$i" >>"$work/table"
	fi
	echo "	}," >>"$work/table"
done
echo 'const struct asset assets[] = {'
cat "$work/table"
echo '	{.name = NULL},'
echo '};'
