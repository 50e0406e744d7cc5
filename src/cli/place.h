/* place.h - which server a command talks to, and as whom.
 *
 * --url, else ISIMUD_URL, else the settings of the server that runs beside it
 * (running.h), else its own settings. The publisher: --publisher, else the
 * URL's user, else ISIMUD_PUBLISHER. The password: --password-file, else the
 * URL's, else PASSWORD_FILE or PASSWORD of the settings. The token: --token,
 * else ISIMUD_TOKEN. Threads: the main thread. */
#ifndef ISIMUD_CLI_PLACE_H
#define ISIMUD_CLI_PLACE_H

#include "base/buf.h"
#include "base/span.h"
#include "cli/arguments.h"
#include "cli/running.h"
#include "cli/url.h"

#include <stdbool.h>
#include <stdint.h>

/* Zeroed memory is none. */
struct place {
	struct url url;
	struct url admin; /* ADMIN_PORT's, if `has_admin` */
	bool has_admin;
	struct span publisher; /* absent: not given */
	struct span token;     /* the same */
	struct buf password;
	bool has_password;
	struct running running; /* where some of it lies */
};

/* Finds it; a password that can't be read is an error only where there is a
 * --password-file, and else no password. `out` is zeroed memory. Returns 0; or
 * UV_EINVAL or UV_ENOMEM with `error` a line. In any case place_fini() is due.
 */
int place_find(struct place *out, const struct arguments *a,
	       char error[static ARGUMENTS_ERROR_MAX]);

/* Overwrites the password. */
void place_fini(struct place *p);

/* Appends Authorization: Basic of publisher and password; a publisher that is
 * not given is `fallback`. Returns 0; UV_EINVAL with `error` a line if one of
 * them is missing (`fallback` NULL: there is none); UV_ENOMEM, too. */
int place_add_basic(const struct place *p, const char *fallback,
		    struct buf *out, char error[static ARGUMENTS_ERROR_MAX]);

/* Appends `field` ("Authorization: Bearer ") and the token, a whole field line;
 * nothing if there is no token. Returns 0; UV_EINVAL with `error` a line if the
 * token has characters that none may have; UV_ENOMEM. */
int place_add_token(const struct place *p, const char *field, struct buf *out,
		    char error[static ARGUMENTS_ERROR_MAX]);

/* Prints "isimud NAME: TEXT" on stderr. */
__attribute__((format(printf, 2, 3))) void cli_say(const char *name,
						   const char *format, ...);

/* A number from 0 to `most`, at random. */
uint64_t cli_random(uint64_t most);

/* The text of an answer that is an error: that of {"error": text}, else
 * nothing. Lives as long as `memory`. */
struct span cli_error_text(struct span content, struct buf *memory);

#endif
