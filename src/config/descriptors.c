/* descriptors.c - the formula. */
#include "config/descriptors.h"

#include <stddef.h>
#include <sys/resource.h>

/* Standard input to error, the acceptor's loop (4), its spare, libuv's own, the
 * history file with its lock and its folder, the password, and what libraries
 * open for a moment. */
#define BASE (20 + 2 * DESCRIPTORS_OVER_MAX)
/* A loop's epoll, its wake-up, and a pipe of libuv's. */
#define PER_WORKER 4
/* libcurl's wake-up of a worker. */
#define PER_ASKING_WORKER 2
/* A check's, while its host's name is looked up, or it tries two addresses. */
#define PER_CHECK 2
/* Of the admin listener: probes, scrapers, and somebody who looks. */
#define ADMIN_MAX 64
#define ADMIN_PART                                                             \
	16 /* of the limit, where that is low; one a worker at least */
/* Kept for those that do not subscribe, of what clients may have. */
#define RESERVE_MIN  128
#define RESERVE_MAX  4096
#define RESERVE_PART 16 /* of the subscribers */
#define RESERVE_OF_CLIENTS                                                     \
	4 /* a quarter at most, where descriptors are few                      \
	   */
#define CHECKS_PART 8
/* Fewer than this for clients is no server. */
#define CLIENTS_MIN 8
/* Where there is no limit, MAX_CONNECTIONS has one all the same. */
#define SUBSCRIBERS_MAX 1000000

static uint64_t least_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t most_of(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* What checks need. Each is a client's, so where there are few descriptors half
 * of them is enough, however many checks are allowed. */
static uint64_t checks_of(const struct descriptors_needs *n)
{
	if (n->checks == 0)
		return 0;
	uint64_t kept = most_of(DESCRIPTORS_CHECKS_KEPT(n->checks), n->workers);
	return PER_ASKING_WORKER * n->workers +
	       least_of(PER_CHECK * n->checks + kept, n->limit / 2);
}

/* What the server needs for itself, but for the admin's connections. */
static uint64_t own(const struct descriptors_needs *n)
{
	return BASE + PER_WORKER * n->workers + n->listeners + checks_of(n);
}

static uint64_t admin_of(const struct descriptors_needs *n)
{
	if (!n->has_admin)
		return 0;
	return most_of(least_of(n->limit / ADMIN_PART, ADMIN_MAX), n->workers);
}

/* Each worker has one of the reserve, and as many subscribers at least. */
static uint64_t least_clients(const struct descriptors_needs *n)
{
	return most_of(CLIENTS_MIN, 2 * n->workers);
}

static uint64_t reserve_of(const struct descriptors_needs *n, uint64_t clients,
			   uint64_t subscribers)
{
	uint64_t reserve = most_of(subscribers / RESERVE_PART, RESERVE_MIN);

	reserve = least_of(least_of(reserve, RESERVE_MAX),
			   clients / RESERVE_OF_CLIENTS);
	return most_of(reserve, n->workers);
}

bool descriptors_share(const struct descriptors_needs *n,
		       struct descriptors_shares *out, uint64_t *least)
{
	uint64_t taken = own(n) + admin_of(n);
	uint64_t wanted = n->subscribers;

	if (least != NULL)
		*least = taken + least_clients(n);
	if (n->limit < taken + least_clients(n))
		return false;
	out->admin = admin_of(n);
	out->clients = n->limit - taken;
	if (wanted == 0)
		wanted = least_of(out->clients, SUBSCRIBERS_MAX);
	out->reserve = reserve_of(n, out->clients, wanted);
	out->subscribers = out->clients - out->reserve;
	out->tcp_subscribers = least_of(wanted, out->subscribers);
	out->tcp = least_of(out->tcp_subscribers + out->reserve, out->clients);
	return true;
}

uint64_t descriptors_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
	    limit.rlim_max == RLIM_INFINITY)
		return DESCRIPTORS_UNLIMITED;
	return limit.rlim_max;
}

uint64_t descriptors_default_checks(uint64_t limit, uint64_t most)
{
	uint64_t part = limit / CHECKS_PART;

	return part < 1 ? 1 : least_of(part, most);
}
