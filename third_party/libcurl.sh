#!/bin/sh
# Makes a small libcurl for the container image, in /opt/curl: Debian's source
# of it, patches included, with http and https alone. Debian's package brings
# 27 libraries for protocols and ways to log in that isimud never uses (LDAP,
# Kerberos, SSH, RTMP, HTTP/3, ...); with this one the image is half as large.
# usage: libcurl.sh [VERSION|debian]              as root in the build stage
#
# It lacks no security fix that the package has: it is the package's version, or,
# where the mirror does not have that source, the next newer one of backports,
# testing or unstable. Where it has none of these either, the package serves, and
# the output says which older version there is. VERSION takes just that one, and
# `debian` the package.
set -eu
. "$(dirname "$0")/target.sh"
prefix=/opt/curl
package=libcurl4-openssl-dev
work=/tmp/libcurl
sources=/etc/apt/sources.list.d/libcurl-source.sources
system=/etc/apt/sources.list.d/debian.sources

# suites NAME...: of the mirror's sources; without names, of the system's suites.
suites() {
	if [ $# -eq 0 ]; then
		sed -n -e 's/^Types:.*/Types: deb-src/' -e p "$system"
	else
		sed -n -e '/^$/q' -e 's/^Types:.*/Types: deb-src/' \
			-e "s/^Suites:.*/Suites: $*/" -e p "$system"
		echo
	fi >> "$sources"
	apt-get update -q || true # a mirror need not have each suite
}

# All versions that the indexes have, the oldest first.
versions() {
	apt-cache showsrc --only-source curl | sed -n 's/^Version: //p' |
		grep -v '~rc' | sort -uV
}

# An index may name what the mirror does not have any more, or not yet.
download() {
	apt-get source -q --download-only -o APT::Sandbox::User=root \
		"curl=$1" || { rm -f curl_*; return 1; }
}

# Sets `version` to what lies in the work folder then; empty: nothing.
fetch() {
	version=
	[ "$wanted" != debian ] || return 0
	suites
	if [ -n "$wanted" ]; then
		download "$wanted"
		version=$wanted
		return
	fi
	version=$packaged
	! download "$version" || return 0
	suites "$(. /etc/os-release && echo "$VERSION_CODENAME")-backports" \
		testing unstable
	for version in $(versions); do
		dpkg --compare-versions "$version" gt "$packaged" || continue
		download "$version" || continue
		echo "$0: NOTE: the mirror has no source of curl $packaged;" \
			"the image gets curl $version" >&2
		return 0
	done
	older=none
	for version in $(versions | sort -rV); do
		dpkg --compare-versions "$version" lt "$packaged" || continue
		download "$version" || continue
		older=$version
		break
	done
	version=
	echo "$0: WARNING: the mirror has no source of curl $packaged or newer;" \
		"the image gets Debian's own libcurl and twice the size." >&2
	[ "$older" = none ] || echo "$0: it has curl $older, which may lack" \
		"security fixes. To take it: make image CURL='$older'" >&2
}

wanted=${1:-}
packaged=$(apt-cache show --no-all-versions "$package:$ARCH" |
	sed -n -e 's/^Source: .*(\(.*\))$/\1/p' -e 's/^Version: //p' | head -1)
mkdir -p "$work"
cd "$work"
# A source of its own, so that what the system has stays as it is.
trap 'rm -f "$sources"' EXIT
fetch
if [ -z "$version" ]; then
	rm -f "$sources"
	apt-get update -q
	target_install "$package:-"
	exit 0
fi
dpkg-source --no-check -x curl_*.dsc source
cd source
# What an AUTH_URL can need stays: TLS, IPv6, look-ups in a thread, proxies and
# their passwords.
./configure --prefix="$prefix" --host="$TRIPLET" --disable-shared --with-pic \
	--with-openssl \
	--with-ca-bundle=/etc/ssl/certs/ca-certificates.crt --without-ca-path \
	--enable-ipv6 --enable-threaded-resolver --enable-proxy \
	--disable-ftp --disable-file --disable-ipfs --disable-ldap \
	--disable-ldaps --disable-rtsp --disable-dict --disable-telnet \
	--disable-tftp --disable-pop3 --disable-imap --disable-smb \
	--disable-smtp --disable-gopher --disable-mqtt --disable-websockets \
	--disable-alt-svc --disable-hsts --disable-cookies --disable-netrc \
	--disable-doh --disable-mime --disable-ntlm --disable-aws \
	--disable-negotiate-auth --disable-kerberos-auth --disable-tls-srp \
	--disable-unix-sockets --disable-manual --disable-docs \
	--without-zlib --without-brotli --without-zstd --without-libpsl \
	--without-libssh2 --without-nghttp2 --without-nghttp3 \
	--without-libidn2 --without-librtmp \
	CFLAGS='-O2 -g -ffunction-sections -fstack-protector-strong -fstack-clash-protection' \
	CPPFLAGS='-D_FORTIFY_SOURCE=2'
make -C lib -j "$(nproc)" install
make -C include install
make install-pkgconfigDATA
install -D -m 0644 debian/copyright "$prefix/copyright"
echo "$version" > "$prefix/source-version" # for records.sh
rm -rf "$work"
