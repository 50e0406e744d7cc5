#!/bin/sh
# Makes the Debian package of the committed tree: build/deb/isimud_*.deb; lintian
# must find nothing. SUITE: in a bare system of another release (as root).
# usage: deb.sh [SUITE]
set -eu
cd "$(dirname "$0")/../.."
here=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
out=$PWD/build/deb
# A tree without git, in the bare system, is told.
: "${REVISION:=$(git rev-parse --short=12 HEAD)}"
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct)}"
export REVISION SOURCE_DATE_EPOCH
rm -rf "$out"
if [ "${1:-$here}" != "$here" ]; then
	BARE_OUT=build/deb scripts/build/bare.sh "$1" env "REVISION=$REVISION" \
		"SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" scripts/package/deb.sh
	exit
fi

scripts/build/deps.sh build deb
version=$(sed -n 's/^#define VERSION "\(.*\)"/\1/p' src/base/version.h)
tree=$out/isimud-$version
mkdir -p "$tree"
if [ -e .git ]; then
	git archive HEAD
else
	tar --exclude=./build -c .
fi | tar -x -C "$tree"
cp -r scripts/debian "$tree/debian"
grep -q "^isimud ($version-" "$tree/debian/changelog" ||
	{ echo "$0: scripts/debian/changelog is not of $version" >&2; exit 1; }
(cd "$tree" && dpkg-buildpackage -b -us -uc)
lintian --fail-on warning,error --display-info "$out"/isimud_*.changes
ls -l "$out"/*.deb
