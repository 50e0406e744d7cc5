#!/bin/sh
# Builds Traefik of its Go module, for test_proxy.py: neither Debian nor a registry
# has the program, and `go install` refuses modules with replacements. Some 25
# minutes on two CPUs, and 3 GB of memory, once. Its dashboard is left out.
# usage: traefik.sh [FOLDER]       (default: build/traefik, to be put into PATH)
set -eu
version=v3.6.1
out=${1:-$(dirname "$0")/../../build/traefik}
mkdir -p "$out/src"
out=$(cd "$out" && pwd)
module=$(go mod download -json "github.com/traefik/traefik/v3@$version" |
	sed -n 's/.*"Dir": "\(.*\)",*/\1/p')
cp -r "$module/." "$out/src"
chmod -R u+w "$out/src"
cd "$out/src"
mkdir -p webui/static # which is embedded
echo none > webui/static/index.html
CGO_ENABLED=0 go build -ldflags '-s -w' -o "$out/traefik" ./cmd/traefik
