#!/bin/sh
# Builds the container image of the Dockerfile, and prints its size.
# usage: image.sh                                          (or `make image`)
#
# Environment:
#   IMAGE=isimud    its name; the tags are the version and `latest`. The build
#                   stage is kept as isimud-build: image_test.py uses its tools
#   ENGINE=         docker, podman or buildah; default: the first that answers
#   TARGETARCH=     amd64 or arm64; default: this machine's. Another machine's
#                   image has its name behind: isimud-arm64
#   CURL=           which version of curl's source is taken of Debian's, or
#                   `debian`: the package (third_party/libcurl.sh)
#   BUILD_FLAGS=    given to `ENGINE build`
set -eu
cd "$(dirname "$0")/../.."
IMAGE=${IMAGE:-isimud}

engine=$(scripts/container/engine.sh docker podman buildah)
version=$(sed -n 's/^#define VERSION "\(.*\)"$/\1/p' src/base/version.h)
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)
# That of the commit, so that the same commit makes the same image.
created=$(git log -1 --format=%cI 2> /dev/null || echo unknown)
# The engine's own format knows HEALTHCHECK, which OCI's does not.
case $engine in
docker) build='docker build' ;;
podman) build='podman build --format docker' ;;
buildah) build='buildah build --format docker' ;;
esac
case $(uname -m) in
x86_64) here=amd64 ;;
aarch64) here=arm64 ;;
*) echo "$0: the image is for amd64 and arm64" >&2; exit 1 ;;
esac
arch=${TARGETARCH:-$here}
[ "$arch" = "$here" ] || IMAGE=$IMAGE-$arch
# The same arguments, so that the stage is built once.
set -- --build-arg "BUILDPLATFORM=linux/$here" --build-arg "TARGETARCH=$arch" \
	--build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
	--build-arg "CURL=${CURL:-}"
$build ${BUILD_FLAGS:-} "$@" --target build -t "$IMAGE-build" .
set -- "$@" --build-arg "CREATED=$created" -t "$IMAGE:$version" -t "$IMAGE:latest"
if [ "$arch" = "$here" ]; then
	$build ${BUILD_FLAGS:-} "$@" .
elif [ "$engine" != docker ] || docker buildx version > /dev/null 2>&1; then
	$build ${BUILD_FLAGS:-} "$@" --platform "linux/$arch" .
else
	$build ${BUILD_FLAGS:-} "$@" .
	docker save "$IMAGE:$version" "$IMAGE:latest" |
		scripts/container/machine.py "$arch" | docker load -q
fi

if [ "$engine" = buildah ]; then
	buildah images "$IMAGE:$version"
	exit
fi
"$engine" image inspect -f '{{.Size}}' "$IMAGE:$version" |
	awk -v name="$IMAGE:$version" \
	'{ printf "%s: %.1f MB (%d bytes)\n", name, $1 / 1e6, $1 }'
