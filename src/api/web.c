/* web.c - GET /isimud.js, and the console: what of src/web is in the program.
 */
#include "api/assets.h"
#include "api/private.h"
#include "base/check.h"

#include <stdio.h>
#include <string.h>

/* For so long nobody asks again; then the entity tag says whether it is still
 * the same. An upgrade of the server is with all pages in that time. */
#define MAX_AGE    "600"
#define FIELDS_MAX 768

/* Nothing but what is here runs, and no other page frames it. "Try it" connects
 * to whatever address it is given. */
#define OF_CONSOLE                                                             \
	"Cache-Control: no-cache\r\n"                                          \
	"Content-Security-Policy: default-src 'none'; script-src 'self'; "     \
	"style-src 'self'; img-src data:; connect-src 'self' http: https: "    \
	"ws: wss:; base-uri 'none'; form-action 'none'; "                      \
	"frame-ancestors 'none'\r\n"                                           \
	"Referrer-Policy: no-referrer\r\n"

/* What of an asset is sent. */
struct form {
	const char *coding; /* NULL: as it is */
	struct span content;
};

static const struct asset *find_asset(const char *name)
{
	const struct asset *asset = assets;

	while (asset->name != NULL && strcmp(asset->name, name) != 0)
		asset++;
	CHECK(asset->name != NULL); /* it is in the Makefile's list */
	return asset;
}

static struct form form_of(const struct asset *asset, struct span accepted)
{
	if (asset->brotli.bytes != NULL &&
	    http_accepts_coding(accepted, SPAN("br")))
		return (struct form){"br", asset->brotli};
	if (http_accepts_coding(accepted, SPAN("gzip")))
		return (struct form){"gzip", asset->gzip};
	return (struct form){NULL, asset->plain};
}

/* `more`: further field lines, or "". */
static void show(struct conn *c, const struct http_request *request,
		 const struct asset *asset, const char *more)
{
	struct form form =
		form_of(asset, request->fields[HTTP_ACCEPT_ENCODING]);
	bool is_coded = form.coding != NULL;
	char tag[64];
	char fields[FIELDS_MAX];

	/* Each coding has a tag of its own (RFC 9110 8.8.3.3). */
	snprintf(tag, sizeof tag, "\"%s%s%s\"", asset->hash,
		 is_coded ? "-" : "", is_coded ? form.coding : "");
	bool is_known = http_has_entity_tag(request->fields[HTTP_IF_NONE_MATCH],
					    span_of(tag));
	/* A cache must not answer a page of another origin with what was
	 * answered without CORS. */
	snprintf(fields, sizeof fields,
		 "ETag: %s\r\n"
		 "Vary: Accept-Encoding, Origin\r\n"
		 "%s%s%s%s",
		 tag, is_coded && !is_known ? "Content-Encoding: " : "",
		 is_coded && !is_known ? form.coding : "",
		 is_coded && !is_known ? "\r\n" : "", more);
	conn_respond(c, &(struct http_response){.status = is_known ? 304 : 200,
						.content_type = asset->type,
						.content = form.content,
						.fields = fields});
}

void routes_show_library(struct routes *r, struct conn *c,
			 const struct http_request *request)
{
	(void)r;
	show(c, request, find_asset("isimud.js"),
	     "Cache-Control: public, max-age=" MAX_AGE "\r\n");
}

void routes_show_console(struct routes *r, struct conn *c,
			 const struct http_request *request)
{
	const char *name = "console.html";

	if (!routes_check_operator(r, c))
		return;
	if (span_equal(request->path, SPAN("/console.css")))
		name = "console.css";
	else if (span_equal(request->path, SPAN("/console.js")))
		name = "console.js";
	show(c, request, find_asset(name), OF_CONSOLE);
}
