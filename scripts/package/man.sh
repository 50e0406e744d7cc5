#!/bin/sh
# Prints the man page isimud(1) as scdoc source, made of what the program says of
# itself, so that there is one text of each thing.
# usage: man.sh PROGRAM | scdoc > isimud.1
set -eu
program=$1

# Fenced, as it stands.
literal() {
	echo '```'
	cat
	echo '```'
	echo
}

cat <<'END'
isimud(1)

# NAME

isimud - pub/sub push server, and its client

# SYNOPSIS

*isimud* [_SETTING_ ...]++
*isimud* _COMMAND_ [_OPTION_ ...]

# DESCRIPTION

Without a command it serves until SIGTERM: a backend publishes over HTTP, any
number of browsers and services receive over WebSocket or Server-Sent Events.
With one it is a client of a server, by default of the one that runs here.

# COMMANDS

END
"$program" help | sed -n 's/^  \([a-z]*\)  .*/\1/p' | while read -r name; do
	echo "## isimud $name"
	echo
	"$program" "$name" --help | literal
done
cat <<'END'
# SETTINGS

END
"$program" --help | sed -n '/^Each setting/,$p' | literal
cat <<'END'
# ENVIRONMENT

_ISIMUD_URL_, _ISIMUD_PUBLISHER_, _ISIMUD_TOKEN_
	What commands take for *--url*, *--publisher* and *--token* where these are
	not given.

_NOTIFY_SOCKET_
	Where a service manager is told when it serves, and when it stops.

# SIGNALS

SIGTERM, SIGINT
	Drains: subscribers are ended over DRAIN_SECONDS. A second one ends it at
	once.

SIGHUP
	PASSWORD_FILE is read again.

SIGUSR1
	Connections, queues and counters are logged.

# EXIT STATUS

The server's: 0 after SIGTERM, 1 if it can't start, 2 if a setting is wrong, or
another process has its socket or HISTORY_FILE. Each command's help has its own.

# FILES

/etc/default/isimud
	Settings, in Debian's package: one a line, NAME=VALUE.

/etc/isimud/password
	The password, or two, in Debian's package.

/var/lib/isimud/history
	Ids and history over a restart, in Debian's package.

# SEE ALSO

curl(1), systemd.service(5)
END
