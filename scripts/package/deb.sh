#!/bin/sh
# Makes the Debian package of the committed tree: build/deb/isimud_*.deb; lintian
# must find nothing.
# usage: deb.sh
set -eu
cd "$(dirname "$0")/../.."
scripts/build/deps.sh build deb
version=$(sed -n 's/^#define VERSION "\(.*\)"/\1/p' src/base/version.h)
out=$PWD/build/deb
tree=$out/isimud-$version
rm -rf "$out"
mkdir -p "$tree"
git archive HEAD | tar -x -C "$tree"
cp -r scripts/debian "$tree/debian"
grep -q "^isimud ($version-" "$tree/debian/changelog" ||
	{ echo "$0: scripts/debian/changelog is not of $version" >&2; exit 1; }
export REVISION="$(git rev-parse --short=12 HEAD)"
export SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)"
(cd "$tree" && dpkg-buildpackage -b -us -uc)
lintian --fail-on warning,error --display-info "$out"/isimud_*.changes
ls -l "$out"/*.deb
