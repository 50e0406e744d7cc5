#!/bin/sh
# Makes a small libcurl for the container image, in /opt/curl: Debian's source
# of it, patches included, with http and https alone. Debian's package brings
# 27 libraries for protocols and ways to log in that isimud never uses (LDAP,
# Kerberos, SSH, RTMP, HTTP/3, ...); with this one the image is half as large.
# usage: libcurl.sh [VERSION]                     as root in the build stage
#
# It is the very version of the package that is installed, so that it lacks no
# security fix: where the mirror does not have that source, nothing is made, and
# the package serves. VERSION takes the source of that version instead.
set -eu
prefix=/opt/curl
work=/tmp/libcurl

version=${1:-$(dpkg-query -W -f '${source:Version}' libcurl4-openssl-dev)}
mkdir -p "$work"
cd "$work"
# A source of its own, so that what the system has stays as it is.
sed -n -e 's/^Types:.*/Types: deb-src/' -e p \
	/etc/apt/sources.list.d/debian.sources \
	> /etc/apt/sources.list.d/libcurl-source.sources
apt-get update -q
if ! apt-get source -q --download-only -o APT::Sandbox::User=root \
	"curl=$version"; then
	echo "$0: WARNING: the mirror has no source of curl $version;" \
		"the image gets Debian's own libcurl and twice the size" >&2
	exit 0
fi
apt-get install -y -q --no-install-recommends dpkg-dev
dpkg-source --no-check -x curl_*.dsc source
cd source
# What an AUTH_URL can need stays: TLS, IPv6, look-ups in a thread, proxies and
# their passwords.
./configure --prefix="$prefix" --disable-shared --with-pic --with-openssl \
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
	CFLAGS='-O2 -g -fstack-protector-strong -fstack-clash-protection' \
	CPPFLAGS='-D_FORTIFY_SOURCE=2'
make -C lib -j "$(nproc)" install
make -C include install
make install-pkgconfigDATA
echo "$version" > "$prefix/source-version" # for records.sh
rm -rf "$work"
