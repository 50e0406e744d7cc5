#!/bin/sh
# Prints the first of the container engines given that is there and answers;
# ENGINE names the only one to try.
# usage: engine.sh docker podman ...
set -eu

for engine in ${ENGINE:-"$@"}; do
	case $engine in
	docker) question='version -f {{.Server.Version}}' ;;
	podman | buildah) question=info ;;
	*) echo "$0: unknown engine $engine" >&2; exit 2 ;;
	esac
	"$engine" $question > /dev/null 2>&1 || continue
	echo "$engine"
	exit 0
done
cat >&2 <<END_OF_HELP
isimud: no container engine answers (tried: ${ENGINE:-$*}).
  On Debian: apt-get install docker.io, then systemctl start docker;
         or: apt-get install podman, which needs no daemon.
  Elsewhere: https://docs.docker.com/engine/install/
  Without systemd or a registry, as root on Debian: add ENGINE=start to the
  make command; it installs docker.io and runs dockerd for as long as it takes.
END_OF_HELP
exit 1
