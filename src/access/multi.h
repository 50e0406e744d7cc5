/* multi.h - libcurl's multi handle on a libuv loop.
 *
 * libcurl names the descriptors that it waits for, and the time until it wants
 * to be called; a uv_poll_t for each descriptor and one timer do that (libcurl:
 * curl_multi_socket_action). Owner: the loop's thread, `owner`. */
#ifndef ISIMUD_ACCESS_MULTI_H
#define ISIMUD_ACCESS_MULTI_H

#include "base/list.h"

#include <curl/curl.h>
#include <uv.h>

struct multi;

struct multi_hooks {
	/* libcurl has worked: transfers may be over (curl_multi_info_read). */
	void (*on_turn)(struct multi *m);
	/* Before on_turn(): libcurl lacked memory, and the handle is of no more
	 * use; 7.88 divides by zero at its next transfer. Removes all
	 * transfers, and calls multi_close() and multi_open(). */
	void (*on_broken)(struct multi *m);
};

/* Embedded by its owner. */
struct multi {
	uv_thread_t owner;
	uv_loop_t *loop;
	uv_timer_t timer;
	CURLM *handle;       /* NULL: there was no memory for another one */
	struct list sockets; /* that `handle` waits for */
	unsigned kept_max;
	const struct multi_hooks *hooks;
};

/* `kept_max`: connections that libcurl keeps, idle ones included. Returns 0, or
 * UV_ENOMEM; else the owner closes `timer` behind multi_close(). */
int multi_init(struct multi *m, uv_loop_t *loop, unsigned kept_max,
	       const struct multi_hooks *hooks);

/* Makes the handle anew. Returns 0, or UV_ENOMEM with none. */
int multi_open(struct multi *m);

/* Without transfers: closes the handle. Twice is fine. */
void multi_close(struct multi *m);

#endif
