#!/bin/sh
# Builds the container image of the Dockerfile, and prints its size.
# usage: image.sh                                          (or `make image`)
#
# Environment:
#   IMAGE=isimud    its name; the tags are the version and `latest`. The build
#                   stage is kept as isimud-build: image_test.py uses its tools
#   ENGINE=         docker, podman or buildah; default: the first that answers
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
# The same arguments, so that the stage is built once.
$build ${BUILD_FLAGS:-} --build-arg "VERSION=$version" \
	--build-arg "REVISION=$revision" --target build -t "$IMAGE-build" .
$build ${BUILD_FLAGS:-} --build-arg "VERSION=$version" \
	--build-arg "REVISION=$revision" --build-arg "CREATED=$created" \
	-t "$IMAGE:$version" -t "$IMAGE:latest" .

if [ "$engine" = buildah ]; then
	buildah images "$IMAGE:$version"
	exit
fi
"$engine" image inspect -f '{{.Size}}' "$IMAGE:$version" |
	awk -v name="$IMAGE:$version" \
	'{ printf "%s: %.1f MB (%d bytes)\n", name, $1 / 1e6, $1 }'
