#!/bin/sh
# Says in the image's root what is in it, for scanners: the records of the Debian
# packages whose files it has, in var/lib/dpkg/status.d as distroless images have
# them; an SBOM of what is linked into the program (CycloneDX 1.5), in
# usr/share/doc/isimud/sbom.cdx.json; and the licence of each, in usr/share/doc.
# usage: records.sh ROOT PROGRAM VERSION         in the build stage
set -eu
root=$1
program=$2
version=$3
records=$root/var/lib/dpkg/status.d
mkdir -p "$records" "$root/usr/share/doc/isimud"

record() {
	dpkg-query --status "$1" > "$records/$1"
	licence "$1" "$1"
}
# PACKAGE, and whose licence its own is.
licence() {
	install -D -m 0644 "/usr/share/doc/$1/copyright" \
		"$root/usr/share/doc/$2/copyright"
}
# Before Debian 13 a package may name the file without /usr.
package_of() {
	{ dpkg -S "$1" 2> /dev/null || dpkg -S "${1#/usr}"; } | cut -d: -f1
}
for lib in $(ldd "$program" | grep -o '/[^ )]*'); do
	record "$(package_of "$(readlink -f "$lib")")"
done
record ca-certificates
mkdir -p "$root/etc"
# Of which release they are; some scanners read the one, some the other.
for file in os-release debian_version; do
	cat "/etc/$file" > "$root/etc/$file"
done

# NAME VERSION LICENCE PACKAGE [SOURCE_VERSION]: what the program has within it,
# and which package it is of. The purl is that of Debian's source, for which
# Debian tells what is vulnerable, its own patches reckoned in.
static() {
	source=$(dpkg-query -W -f '${source:Package}' "$4")
	of=${5:-$(dpkg-query -W -f '${source:Version}' "$4")}
	purl="pkg:deb/debian/$source@$(echo "$of" | sed 's/+/%2B/g')"
	licence "$4" "$1"
	printf '%s\n    {"type": "library", "name": "%s", "version": "%s",\n' \
		"$comma" "$1" "$2"
	printf '     "purl": "%s?arch=source&distro=debian-%s",\n' "$purl" \
		"$(. /etc/os-release && echo "$VERSION_ID")"
	printf '     "licenses": [{"license": {"id": "%s"}}]}' "$3"
	comma=,
}
comma=
{
	printf '{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,\n'
	printf '  "metadata": {"component": {"type": "application", "name": "isimud", "version": "%s"}},\n' \
		"$version"
	printf '  "components": ['
	static llhttp "$(pkg-config --modversion libllhttp)" MIT libllhttp-dev
	# Debian's libcurl is a package of the image, with a record of its own.
	ldd "$program" | grep -q libcurl ||
		static curl "$(pkg-config --modversion libcurl)" curl \
			libcurl4-openssl-dev "$(cat /opt/curl/source-version)"
	printf '\n  ]\n}\n'
} > "$root/usr/share/doc/isimud/sbom.cdx.json"
