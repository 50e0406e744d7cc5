#!/bin/sh
# Says in the image's root what is in it, for scanners: the records of the Debian
# packages whose files or archives it has, in var/lib/dpkg/status.d as distroless
# images have them; an SBOM of what is linked into the program (CycloneDX 1.5), in
# usr/share/doc/isimud/sbom.cdx.json; and the licence of each, in usr/share/doc.
# usage: records.sh ROOT PROGRAM VERSION         in the build stage
set -eu
here=$(dirname "$0")
. "$here/target.sh"
root=$1
program=$2
version=$3
records=$root/var/lib/dpkg/status.d
mkdir -p "$records" "$root/usr/share/doc/isimud"

# NAME[:ARCH]
record() {
	dpkg-query --status "$1" > "$records/${1%:*}"
	licence "/usr/share/doc/${1%:*}/copyright" "${1%:*}"
}
# FILE NAME
licence() {
	install -D -m 0644 "$1" "$root/usr/share/doc/$2/copyright"
}
# Before Debian 13 a package may name the file without /usr.
package_of() {
	{ dpkg -S "$1" 2> /dev/null || dpkg -S "${1#/usr}"; } | sed 's/: .*//'
}
for lib in $("$here/needed.sh" "$program"); do
	record "$(package_of "$(readlink -f "$lib")")"
done
record ca-certificates
mkdir -p "$root/etc"
# Of which release they are; some scanners read the one, some the other.
for file in os-release debian_version; do
	cat "/etc/$file" > "$root/etc/$file"
done

# NAME VERSION LICENCE SOURCE SOURCE_VERSION: what the program has within it. The
# purl is that of Debian's source, for which Debian tells what is vulnerable, its
# own patches reckoned in.
component() {
	printf '%s\n    {"type": "library", "name": "%s", "version": "%s",\n' \
		"$comma" "$1" "$2"
	printf '     "purl": "pkg:deb/debian/%s@%s?arch=source&distro=debian-%s",\n' \
		"$4" "$(echo "$5" | sed 's/+/%2B/g')" \
		"$(. /etc/os-release && echo "$VERSION_ID")"
	printf '     "licenses": [{"license": {"id": "%s"}}]}' "$3"
	comma=,
}
# NAME MODULE LICENCE PACKAGE: of an archive of a package, which has its record,
# too: a scanner that reads no SBOM finds its source there.
static() {
	record "$4:$ARCH"
	component "$1" "$(pkg-config --modversion "$2")" "$3" \
		"$(dpkg-query -W -f '${source:Package}' "$4:$ARCH")" \
		"$(dpkg-query -W -f '${source:Version}' "$4:$ARCH")"
}
comma=
{
	printf '{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,\n'
	printf '  "metadata": {"component": {"type": "application", "name": "isimud", "version": "%s"}},\n' \
		"$version"
	printf '  "components": ['
	static llhttp libllhttp MIT libllhttp-dev
	# Else Debian's libcurl and what it brings are packages of the image.
	if [ -e /opt/curl/source-version ]; then
		licence /opt/curl/copyright curl
		component curl "$(pkg-config --modversion libcurl)" curl curl \
			"$(cat /opt/curl/source-version)"
		static openssl libcrypto Apache-2.0 libssl-dev
		static nats.c libnats Apache-2.0 libnats-dev
		static libsodium libsodium ISC libsodium-dev
		static protobuf-c libprotobuf-c BSD-2-Clause libprotobuf-c-dev
		static libuv libuv MIT libuv1-dev
		static zlib zlib Zlib zlib1g-dev
	fi
	printf '\n  ]\n}\n'
} > "$root/usr/share/doc/isimud/sbom.cdx.json"
