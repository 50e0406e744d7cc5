#!/bin/sh
# Installs the package of `make deb` in a clean Debian of this release, or of
# that for which it was made, starts the server as its unit says, asks it, and
# removes it. As root.
# usage: deb_test.sh [SUITE]
# systemd itself does not run in a chroot: its part (notify socket, credential,
# state folder) is played here, and systemd-analyze judges the unit.
set -eu
cd "$(dirname "$0")/../.."
deb=$(ls build/deb/isimud_*.deb)
suite=${1:-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)}
base=${BARE_DIR:-/tmp/isimud-bare}/$suite
[ -e "$base.done" ] || scripts/build/bare.sh "$suite" true
root=$(mktemp -d "$base.deb.XXXXXX")
server=
cleanup() {
	[ -z "$server" ] || kill "$server" 2> /dev/null || true
	umount "$root/proc" "$root/dev" 2> /dev/null || true
	rm -rf --one-file-system "$root"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
fail() { echo "deb_test: $*" >&2; exit 1; }
cp -a "$base/." "$root"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/apt/apt.conf.d/99* "$root/etc/apt/apt.conf.d/" 2> /dev/null || true
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
cp "$deb" "$root/isimud.deb"
inside() {
	chroot "$root" env -i HOME=/root LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

inside apt-get update -q > /dev/null
inside apt-get install -y -q --no-install-recommends /isimud.deb > /dev/null
[ "$(stat -c %a "$root/etc/isimud/password")" = 600 ] || fail "the password is not root's alone"
[ "$(wc -c < "$root/etc/isimud/password")" -gt 24 ] || fail "the password is short"
[ -s "$root/usr/share/man/man1/isimud.1.gz" ] || [ -e "$root/etc/dpkg/dpkg.cfg.d/docker" ] || fail "no man page"
[ -s "$root/usr/share/bash-completion/completions/isimud" ] || fail "no completion"

# As the unit says.
unit=$(ls "$root"/lib/systemd/system/isimud.service "$root"/usr/lib/systemd/system/isimud.service 2> /dev/null | head -1)
[ -n "$unit" ] || fail "no unit"
start=$(sed -n 's/^ExecStart=//p' "$unit")
mkdir -p "$root/run/credentials" "$root/var/lib/isimud"
cp "$root/etc/isimud/password" "$root/run/credentials/password"
chown -R 64000:64000 "$root/run/credentials" "$root/var/lib/isimud"
drain=$(sed -n 's/^TimeoutStopSec=//p' "$unit")
[ "$drain" -gt 20 ] || fail "TimeoutStopSec is not above DRAIN_SECONDS"
run() {
	chroot --userspec=64000:64000 "$root" env -i PORT="$port" DRAIN_SECONDS=0 \
		CREDENTIALS_DIRECTORY=/run/credentials STATE_DIRECTORY=/var/lib/isimud \
		sh -c "exec $start" > "$root/tmp/log" 2>&1 &
	server=$!
	for _ in $(seq 100); do
		! grep -q 'listening on' "$root/tmp/log" || return 0
		sleep 0.1
	done
	cat "$root/tmp/log"
	fail "it does not start"
}
stop() {
	kill "$server"
	wait "$server" || fail "it did not end with status 0: $(cat "$root/tmp/log")"
	server=
}
port=$((20000 + $$ % 10000))
url=http://news@127.0.0.1:$port
run
inside /usr/bin/isimud healthcheck --port "$port" || fail "it is not well"
inside /usr/bin/isimud pub --url "$url" --password-file /etc/isimud/password t hello
stop
[ -s "$root/var/lib/isimud/history" ] || fail "no history was saved"
run
[ "$(inside /usr/bin/isimud sub --url "$url" --last 1 --count 1 --timeout 5 t)" = hello ] ||
	fail "the history was not restored"
stop
if command -v systemd-analyze > /dev/null; then
	# The chroot has no systemd, and this machine no isimud.
	sed 's|^ExecStart=/usr/bin/isimud|ExecStart=/bin/true|' "$unit" > "$root/tmp/isimud.service"
	systemd-analyze verify --man=no "$root/tmp/isimud.service" ||
		fail "systemd-analyze finds faults in the unit"
	systemd-analyze security --offline=true --no-pager --threshold=20 "$root/tmp/isimud.service" \
		> "$root/tmp/security" || { cat "$root/tmp/security"; fail "the unit is exposed by more than 2.0"; }
fi

inside apt-get purge -y -q isimud > /dev/null
for path in etc/isimud etc/default/isimud usr/bin/isimud var/lib/isimud lib/systemd/system/isimud.service; do
	[ ! -e "$root/$path" ] || fail "purge left /$path"
done
echo "deb_test: installed, started, asked, stopped, restored and purged on $suite"
