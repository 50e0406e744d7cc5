#!/bin/sh
# Checks scripts/api/*.yaml: against the specifications of OpenAPI and AsyncAPI,
# and by scripts/check/api_check.py against their examples, each other and the source.
# usage: scripts/check/api_check.sh
#
# The specifications' own JSON Schemas are fetched by npm into build/api, once,
# each of one version with one checksum. Without the registry the rest is
# checked, with a warning; with CI=true that is a failure.
set -eu
cd "$(dirname "$0")/../.."

scripts/build/deps.sh api
out=build/api
mkdir -p "$out"

# What lies in package/FILE of NAME@VERSION becomes $out/AS.
fetch() { # name, version, sha256 of the tarball, file, as
	tarball=$(echo "$1" | tr -d @ | tr / -)-$2.tgz
	if [ ! -f "$out/$tarball" ]; then
		echo "api_check: fetching $1@$2"
		(
			cd "$out"
			npm pack --loglevel=error --fetch-timeout=60000 \
				"$1@$2" >npm.txt 2>&1
		) || {
			rm -f "$out/$tarball"
			echo "api_check: npm cannot fetch $1@$2:" >&2
			head -n 3 "$out/npm.txt" >&2
			return 1
		}
	fi
	if ! echo "$3  $out/$tarball" | sha256sum --check --status; then
		rm -f "$out/$tarball"
		echo "api_check: $tarball is not what it was, and is dropped" >&2
		exit 1
	fi
	tar -xzOf "$out/$tarball" "package/$4" >"$out/$5"
}

set --
if fetch @seriousme/openapi-schema-validator 2.11.0 \
	70f69d93ee8a9fd7ac0dbbef98288a49c3120ce7076006e5ff336e131266cd2e \
	schemas/v3.1/schema.json openapi-3.1.json &&
	fetch @asyncapi/specs 6.11.1 \
		01af8744dc33c0c7eb2e908f6a955319ee58b70ecadc9387d1aeb16c0cd28928 \
		"schemas/3.0.0-without-\$id.json" asyncapi-3.0.json
then
	set -- --openapi-schema "$out/openapi-3.1.json" \
		--asyncapi-schema "$out/asyncapi-3.0.json"
elif [ "${CI:-}" = true ]; then
	echo "api_check: FAILED: the specifications' schemas are needed" >&2
	exit 1
else
	echo "api_check: WARNING: not held against the specifications" >&2
fi
/usr/bin/python3 scripts/check/api_check.py "$@"
