#!/bin/sh
# Proves that `make test` (or the command given) takes a bare Debian all the
# way: makes a minimal system with debootstrap, copies the committed tree into
# it, and runs the command there. As root.
# usage: bare.sh bookworm|trixie [COMMAND...]
# The system is kept, bare, under ${BARE_DIR:-/tmp/isimud-bare} for the next time.
# BARE_OUT: a folder of the tree, which is copied back where COMMAND succeeds.
set -eu
cd "$(dirname "$0")/../.."
suite=$1
shift
base=${BARE_DIR:-/tmp/isimud-bare}/$suite
mirror=$(awk '/^URIs:/ { print $2; exit }' \
	/etc/apt/sources.list.d/debian.sources)

command -v debootstrap > /dev/null || {
	apt-get update -q
	apt-get install -y -q --no-install-recommends debootstrap
}
if [ ! -e "$base.done" ]; then
	rm -rf "$base"
	mkdir -p "$base"
	debootstrap --variant=minbase \
		--keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
		"$suite" "$base" "$mirror"
	touch "$base.done"
fi
root=$(mktemp -d "$base.XXXXXX")
cleanup() {
	umount "$root/proc" "$root/dev" 2> /dev/null || true
	rm -rf --one-file-system "$root"
}
trap cleanup EXIT
trap 'exit 1' INT TERM
cp -a "$base/." "$root"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp /etc/apt/apt.conf.d/99* "$root/etc/apt/apt.conf.d/" 2> /dev/null || true
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mkdir "$root/isimud"
git archive HEAD | tar -x -C "$root/isimud"
# Bare has no make either; that is the one package its user installs.
chroot "$root" sh -c 'apt-get update -q &&
	apt-get install -y -q --no-install-recommends make' > /dev/null
[ $# -gt 0 ] || set -- make test
chroot "$root" env -i HOME=/root LANG=C.UTF-8 \
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
	sh -c 'cd /isimud && exec "$@"' sh "$@"
[ -z "${BARE_OUT:-}" ] ||
	{ mkdir -p "$BARE_OUT" && cp -r "$root/isimud/$BARE_OUT/." "$BARE_OUT"; }
