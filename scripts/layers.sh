#!/bin/sh
# The layer check has moved to scripts/check/layers.sh.
exec "$(dirname "$0")/check/layers.sh" "$@"
