/* listener.h - by which door a connection came. */
#ifndef ISIMUD_CONFIG_LISTENER_H
#define ISIMUD_CONFIG_LISTENER_H

enum listener_kind {
	LISTENER_TCP,
	LISTENER_UNIX,
	LISTENER_ADMIN, /* TCP: health and metrics, and nothing else */
	LISTENER_KINDS,
};

/* A connection on its way from the acceptor to a worker. */
struct accepted {
	int socket;
	enum listener_kind kind;
};

#endif
