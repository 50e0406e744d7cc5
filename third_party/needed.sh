#!/bin/sh
# Prints the shared objects that a program loads, and its loader: their paths, one
# a line. As ldd does, but without running the program, which may be of another
# machine.
# usage: needed.sh PROGRAM                       in the build stage
set -eu
. "$(dirname "$0")/target.sh"
seen=
# FILE: prints what it needs, and what that needs.
visit() {
	for name in $("$TRIPLET-objdump" -p "$1" | awk '/NEEDED/ { print $2 }'); do
		case " $seen " in *" $name "*) continue ;; esac
		seen="$seen $name"
		case $name in
		ld-linux*) continue ;; # printed where the program names it
		esac
		path=/usr/lib/$TRIPLET/$name
		[ -e "$path" ] || { echo "$0: no $path" >&2; exit 1; }
		echo "$path"
		visit "$path"
	done
}
"$TRIPLET-readelf" -lW "$1" |
	sed -n 's/.*program interpreter: \(.*\)\]/\1/p'
visit "$1"
