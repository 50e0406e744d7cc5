#!/bin/sh
# Several nodes with the newest nats-server that is at hand: $NATS_SERVER, else
# what Go has installed or can install, else Debian's.
# usage: cluster.sh test [T] | soak [SECONDS [SEED]] | bench
set -eu
cd "$(dirname "$0")/../.."

find_server() {
	if [ -n "${NATS_SERVER:-}" ]; then
		echo "$NATS_SERVER"
		return
	fi
	if command -v go >/dev/null; then
		bin=$(go env GOPATH)/bin
		[ -x "$bin/nats-server" ] || GOBIN=$bin go install \
			github.com/nats-io/nats-server/v2@latest >&2 || :
		[ ! -x "$bin/nats-server" ] || { echo "$bin/nats-server"; return; }
	fi
	echo nats-server
}

NATS_SERVER=$(find_server)
FLAVOUR=${FLAVOUR:-release}
ISIMUD=${ISIMUD:-$PWD/build/$FLAVOUR/isimud}
ECHO=$PWD/build/$FLAVOUR/echo
python=${PYTHON:-/usr/bin/python3}
export NATS_SERVER FLAVOUR ISIMUD ECHO
echo "cluster: $("$NATS_SERVER" --version)"
task=${1:-}
case $task in
test)
	# One after the other: each has six processes of its own.
	CLUSTER=all exec "$python" -m pytest -q -p no:cacheprovider \
		test/integration/test_cluster.py ${2:+-k "$2"} ;;
soak)
	exec "$python" test/cluster/soak.py --seconds "${2:-600}" \
		${3:+--seed "$3"} ;;
bench)
	exec "$python" test/cluster/bench.py ;;
*)
	sed -n '2,4s/^# //p' "$0" >&2
	exit 2 ;;
esac
