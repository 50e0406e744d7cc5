#!/bin/sh
# Runs the k6 scripts against release servers of its own on loopback.
# usage: scripts/load/load.sh [SCRIPT ...]    (README.md has a list of them)
#
# Environment: ISIMUD=build/isimud; SECONDS_EACH=10, the length of a script, and
# what the scripts themselves read (README.md). k6 is the one in PATH, else
# build/k6, which Go installs there if it is missing (three minutes on two CPUs,
# once). `stream` needs a k6 with the extension k6/x/sse.
# Exit status: 1 if a threshold failed, 2 if nothing could be run.
set -eu
cd "$(dirname "$0")/../.."

isimud=${ISIMUD:-build/isimud}
k6=$(command -v k6 || true)
if [ -z "$k6" ]; then
	k6=build/k6
	if [ ! -x "$k6" ]; then
		command -v go >/dev/null || {
			echo "load: install k6, or Go to build it" >&2
			exit 2
		}
		echo "load: installing k6 into build/"
		GOBIN="$PWD/build" go install go.k6.io/k6@v1.8.1
	fi
fi
ulimit -n "$(ulimit -Hn)"

folder=$(mktemp -d)
server=
authority=
# The second signal ends it at once; two of one kind could become one.
stop_server() {
	[ -n "$server" ] || return 0
	kill -TERM $server 2>/dev/null || :
	kill -INT $server 2>/dev/null || :
	wait $server 2>/dev/null || :
	server=
}
stop() {
	stop_server
	[ -z "$authority" ] || kill $authority 2>/dev/null || :
	rm -rf "$folder"
}
trap stop EXIT

# Waits for a line of a file, and prints what `sed` makes of it.
await() {
	tries=0
	while [ $tries -lt 100 ]; do
		found=$(sed -n "$2" "$1")
		[ -z "$found" ] || { echo "$found"; return; }
		sleep 0.1
		tries=$((tries + 1))
	done
	echo "load: nothing came up:" >&2
	cat "$1" >&2
	exit 2
}

# Starts a server with further settings; sets `url`.
serve() {
	stop_server
	: >"$folder/log"
	env -u LISTEN -u ADMIN_PORT -u AUTH_URL -u PASSWORD_FILE \
		PASSWORD=load IP=127.0.0.1 PORT=0 "$@" "$isimud" 2>"$folder/log" &
	server=$!
	url=http://127.0.0.1:$(await "$folder/log" \
		's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p')
}

# Of a limit that was found k6 says what it says of a threshold that failed.
run() {
	status=0
	# No report to k6's makers, no API of its own, a hard end.
	timeout 120 "$k6" run --no-usage-report --no-color --quiet --address '' \
		-e URL="$url" -e PASSWORD=load -e SECONDS="${SECONDS_EACH:-10}" \
		"scripts/load/$1.js" || status=$?
	[ "$1" != limit ] || [ $status -ne 99 ] || status=0
	[ $status -eq 0 ] || failed="$failed $1"
}

failed=
[ $# -gt 0 ] ||
	set -- publish subscribe v1 fanout_latency reconnect_storm resume tokens
serve
for name in "$@"; do
	if [ "$name" = tokens ]; then
		scripts/load/authority.py >"$folder/authority" &
		authority=$!
		serve AUTH_URL="$(await "$folder/authority" p)"
	fi
	echo
	echo "=== $name: $url"
	run "$name"
	kill -0 $server 2>/dev/null || {
		echo "load: the server ended:" >&2
		cat "$folder/log" >&2
		exit 1
	}
	[ "$name" != tokens ] || serve
done
echo
if [ -n "$failed" ]; then
	echo "load: thresholds failed:$failed" >&2
	exit 1
fi
echo "load: every threshold held"
