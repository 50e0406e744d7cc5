#!/bin/sh
# Runs a command with a Docker daemon of its own, for machines where no
# container engine runs and none can be had: no systemd, no registry. As root.
# usage: dockerd.sh COMMAND...
# The daemon touches nothing of the machine's network: no iptables rules, no
# docker0, no forwarding. So a build needs the host's network (BUILD_FLAGS
# says so to image.sh), while containers see each other and published ports.
# Images and layers are kept under ${DOCKERD_DIR:-/tmp/isimud-docker}.
set -eu
cd "$(dirname "$0")/../.."
dir=${DOCKERD_DIR:-/tmp/isimud-docker}
base=debian:trixie-slim

command -v dockerd > /dev/null || {
	apt-get update -q
	DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
		--no-install-recommends docker.io
}
mkdir -p "$dir"
run=$(mktemp -d "$dir/run.XXXXXX")
daemon=
cleanup() {
	[ -z "$daemon" ] || { kill "$daemon"; wait "$daemon"; } || true
	# It leaves the mount of a network namespace behind.
	awk -v run="$run/" 'index($2, run) == 1 { print $2 }' /proc/mounts |
		xargs -r umount
	rm -rf --one-file-system "$run"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

export DOCKER_HOST="unix://$run/docker.sock"
export BUILD_FLAGS="${BUILD_FLAGS:-} --network host"
dockerd --host "$DOCKER_HOST" --data-root "$dir/data" \
	--exec-root "$run/exec" --pidfile "$run/pid" \
	--bridge none --iptables=false --ip-forward=false --ip-masq=false \
	> "$dir/dockerd.log" 2>&1 &
daemon=$!
tries=0
until docker info > /dev/null 2>&1; do
	tries=$((tries + 1))
	if [ $tries -gt 300 ] || ! kill -0 "$daemon" 2> /dev/null; then
		echo "$0: dockerd does not answer, see $dir/dockerd.log" >&2
		exit 1
	fi
	sleep 0.2
done

# What stands in for the official image: the same packages, less what the
# official one leaves out too, with this machine's mirror.
import_base() {
	bare=${BARE_DIR:-/tmp/isimud-bare}/trixie
	[ -e "$bare.done" ] || scripts/build/bare.sh trixie true
	root=$run/base
	cp -a "$bare" "$root"
	rm -rf "$root"/usr/share/man/* "$root"/usr/share/info/* \
		"$root"/usr/share/locale/* "$root"/var/lib/apt/lists/* \
		"$root"/var/cache/apt/* "$root"/var/log/* \
		"$root"/etc/resolv.conf
	find "$root/usr/share/doc" ! -type d ! -name copyright -delete
	cp /etc/apt/apt.conf.d/99* "$root/etc/apt/apt.conf.d/" \
		2> /dev/null || true
	mirror=$(awk '{ print $2; exit }' "$root/etc/apt/sources.list")
	rm "$root/etc/apt/sources.list"
	cat > "$root/etc/apt/sources.list.d/debian.sources" <<-SOURCES
		Types: deb
		URIs: $mirror
		Suites: trixie trixie-updates
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

		Types: deb
		URIs: $mirror-security
		Suites: trixie-security
		Components: main
		Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
	SOURCES
	cat > "$root/etc/dpkg/dpkg.cfg.d/docker" <<-DPKG
		force-unsafe-io
		path-exclude /usr/share/doc/*
		path-include /usr/share/doc/*/copyright
		path-exclude /usr/share/man/*
		path-exclude /usr/share/info/*
		path-exclude /usr/share/locale/*
	DPKG
	tar -C "$root" --numeric-owner -c . |
		docker import -c 'CMD ["bash"]' - "$base"
	rm -rf --one-file-system "$root"
}

docker image inspect "$base" > /dev/null 2>&1 ||
	docker pull -q "$base" 2> /dev/null || import_base
"$@"
