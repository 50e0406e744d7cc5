#!/bin/sh
# Starts the server given as $1 for development. PASSWORD defaults to `secret`.
set -eu
if [ -z "${PASSWORD:-}" ]; then
	PASSWORD=secret
	echo "isimud: no PASSWORD set, using the development password: $PASSWORD"
fi
export PASSWORD
exec "$1"
