#!/bin/sh
# Installs libllhttp-dev, the one dependency Debian 12 does not package.
#
# On Debian 13 and later it is an ordinary package. On Debian 12 it is taken
# from trixie, off the mirror that the machine already uses for bookworm, with
# a pin that keeps everything else of trixie out of reach: a later
# `apt-get dist-upgrade` is offered nothing new (third_party/README.md).
set -eu

PACKAGES='libllhttp-dev libllhttp9.2'
SOURCE=/etc/apt/sources.list.d/isimud-llhttp.sources
PIN=/etc/apt/preferences.d/isimud-llhttp

if dpkg-query -W -f '${db:Status-Status}\n' libllhttp-dev 2>/dev/null |
	grep -qx installed; then
	exit 0
fi

codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
if [ "$codename" = bookworm ]; then
	mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' \
		'Created-By: Packages' | awk '$2 == "bookworm" { print $1; exit }')
	if [ -z "$mirror" ]; then
		echo "$0: no bookworm mirror in the machine's apt sources" >&2
		exit 1
	fi
	cat > "$SOURCE" <<END
# Written by isimud's third_party/llhttp.sh; only for: $PACKAGES
Types: deb
URIs: $mirror
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
	cat > "$PIN" <<END
Explanation: written by isimud's third_party/llhttp.sh
Package: *
Pin: release n=trixie
Pin-Priority: -1

Package: $PACKAGES
Pin: release n=trixie
Pin-Priority: 100
END
	apt-get update -q
fi
DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
	libllhttp-dev
