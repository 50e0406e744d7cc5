#!/bin/sh
# Runs the k6 scripts against a release server of its own on loopback.
# usage: scripts/load/load.sh [publish|subscribe|fanout_latency|reconnect_storm ...]
#
# Environment: ISIMUD=build/isimud; SECONDS_EACH=10, the length of a script, and
# what the scripts themselves read: PUBLISHERS, SUBSCRIBERS, MESSAGES, TOPICS,
# RATE, CLIENTS, STORMS. k6 is the one in PATH, else build/k6, which Go installs
# there if it is missing (three minutes on two CPUs, once).
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

log=$(mktemp)
PASSWORD=load
export PASSWORD
env -u LISTEN -u ADMIN_PORT -u AUTH_URL -u PASSWORD_FILE IP=127.0.0.1 PORT=0 \
	"$isimud" 2>"$log" &
server=$!
# The second signal ends it at once; two of one kind could become one.
stop() {
	kill -TERM $server 2>/dev/null || :
	kill -INT $server 2>/dev/null || :
	wait $server 2>/dev/null || :
	rm -f "$log"
}
trap stop EXIT
port=
tries=0
while [ -z "$port" ] && [ $tries -lt 100 ] && kill -0 $server 2>/dev/null; do
	sleep 0.1
	tries=$((tries + 1))
	port=$(sed -n 's/.*listening on 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$log")
done
[ -n "$port" ] || { echo "load: no server:" >&2; cat "$log" >&2; exit 2; }

failed=
[ $# -gt 0 ] || set -- publish subscribe fanout_latency reconnect_storm
for name in "$@"; do
	echo
	echo "=== $name: http://127.0.0.1:$port"
	# No report to k6's makers, no API of its own, a hard end at 60 s.
	timeout 60 "$k6" run --no-usage-report --no-color --quiet --address '' \
		-e URL="http://127.0.0.1:$port" -e PASSWORD="$PASSWORD" \
		-e SECONDS="${SECONDS_EACH:-10}" "scripts/load/$name.js" ||
		failed="$failed $name"
	kill -0 $server 2>/dev/null ||
		{ echo "load: the server ended:" >&2; cat "$log" >&2; exit 1; }
done
echo
if [ -n "$failed" ]; then
	echo "load: thresholds failed:$failed" >&2
	exit 1
fi
echo "load: every threshold held"
