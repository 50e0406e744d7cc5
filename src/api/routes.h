/* routes.h - what /pub, /sub and / mean: isimud's contract with its clients.
 *
 *   POST /pub   Basic credentials, {"topic": …, "data": …}: publishes
 *   GET /sub    a WebSocket; its first message {"publisher": …, "topic": …}
 *               subscribes, and from then on it receives
 *   GET /       the project page, or 404
 *   GET /healthz, /readyz, /metrics   for whoever operates it
 *
 * Each is described in README.md. Owner: what is kept for a worker belongs to
 * its thread. */
#ifndef ISIMUD_API_ROUTES_H
#define ISIMUD_API_ROUTES_H

#include "server/worker.h"

/* The application that main.c runs. */
extern const struct worker_app routes_app;

#endif
