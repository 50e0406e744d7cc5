/* counts.c - see counts.h. */
#include "cluster/counts.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/little_endian.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/siphash.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <uv.h>

#define VERSION_1 1
#define HEAD      28
#define ENTRY     12
#define CAP_MIN   64

enum kind {
	KIND_CHANGES = 1,
	KIND_FIRST = 2, /* begins the whole list; the rest follows as changes */
	KIND_ASK = 3,
};

/* --- a table of counts by hash -------------------------------------------- */

struct entry {
	uint64_t hash; /* 0: free */
	uint32_t count;
	bool is_seen; /* in this node's: since counts_begin() */
};

struct table {
	struct entry *entries; /* open addressing, at most half full */
	size_t cap;            /* a power of two, or 0 */
	size_t used;
	size_t dead; /* of those, what is known not to count */
};

static void table_fini(struct table *t)
{
	memory_credit(t->cap * sizeof(struct entry));
	free(t->entries);
	*t = (struct table){0};
}

/* Hashes come from other nodes, which may choose them to collide. Immutable
 * after counts_new(). */
static uint64_t secret;

/* The finaliser of splitmix64. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
	return x ^ (x >> 31);
}

static struct entry *place(const struct table *t, uint64_t hash)
{
	size_t i = mix(hash ^ secret) & (t->cap - 1);

	while (t->entries[i].hash != 0 && t->entries[i].hash != hash)
		i = (i + 1) & (t->cap - 1);
	return &t->entries[i];
}

static const struct entry *find(const struct table *t, uint64_t hash)
{
	const struct entry *e = t->cap == 0 ? NULL : place(t, hash);
	return e == NULL || e->hash == 0 ? NULL : e;
}

/* Whether rebuild() would make the table larger by at most `max` bytes. */
static bool may_grow(const struct table *t, size_t max)
{
	size_t cap = CAP_MIN;

	while (cap < 4 * (t->used - t->dead + 1))
		cap *= 2;
	return cap <= t->cap || (cap - t->cap) * sizeof(struct entry) <= max;
}

/* Moves the entries that are not 0 to a table with room for more. Returns 0 or
 * UV_ENOMEM. */
static int rebuild(struct table *t)
{
	struct table larger = {.cap = CAP_MIN};
	size_t live = 0;

	for (size_t i = 0; i < t->cap; i++)
		live += t->entries[i].hash != 0 && t->entries[i].count > 0;
	while (larger.cap < 4 * (live + 1))
		larger.cap *= 2;
	larger.entries = calloc(larger.cap, sizeof(struct entry));
	if (larger.entries == NULL)
		return UV_ENOMEM;
	memory_charge(larger.cap * sizeof(struct entry));
	for (size_t i = 0; i < t->cap; i++) {
		const struct entry *e = &t->entries[i];
		if (e->hash == 0 || e->count == 0)
			continue;
		*place(&larger, e->hash) = *e;
		larger.used++;
	}
	table_fini(t);
	*t = larger;
	return 0;
}

/* The entry of `hash`, made if there is none. NULL without memory, or where the
 * table would grow by more than `max` bytes. */
static struct entry *enter(struct table *t, uint64_t hash, size_t max)
{
	struct entry *found = t->cap == 0 ? NULL : place(t, hash);

	if (found != NULL && found->hash == hash)
		return found;
	if (2 * (t->used + 1) > t->cap &&
	    (!may_grow(t, max) || rebuild(t) != 0))
		return NULL;
	struct entry *e = place(t, hash);
	if (e->hash == 0) {
		e->hash = hash;
		t->used++;
	}
	return e;
}

/* --- nodes ---------------------------------------------------------------- */

struct node {
	uint64_t id; /* 0: free */
	uint64_t number;
	uint64_t heard_ms;
	bool is_known; /* all that it has was told */
	struct table table;
};

struct counts {
	uv_thread_t owner;
	uint64_t self;
	uint64_t number; /* of the last message told */
	struct table mine;
	bool is_asked; /* all is to be told */
	struct buf out;
	/* Guarded by `lock`; the owner alone changes it. */
	struct rwlock lock;
	uint64_t epoch;
	bool is_full; /* something was left out since counts_take_full() */
	struct node nodes[COUNTS_NODES_MAX];
	_Atomic unsigned nodes_count;
};

int counts_new(struct counts **out, uint64_t node)
{
	struct counts *c = calloc(1, sizeof *c);

	if (c == NULL)
		return UV_ENOMEM;
	if (rwlock_init(&c->lock, LOCK_LEAF) != 0) {
		free(c);
		return UV_ENOMEM;
	}
	c->owner = uv_thread_self();
	c->self = node;
	if (secret == 0)
		CHECK(uv_random(NULL, NULL, &secret, sizeof secret, 0, NULL) ==
		      0);
	*out = c;
	return 0;
}

void counts_adopt(struct counts *c)
{
	c->owner = uv_thread_self();
}

void counts_free(struct counts *c)
{
	if (c == NULL)
		return;
	for (unsigned i = 0; i < COUNTS_NODES_MAX; i++)
		table_fini(&c->nodes[i].table);
	table_fini(&c->mine);
	buf_fini(&c->out);
	rwlock_fini(&c->lock);
	free(c);
}

static uint64_t hash_of(const struct counts *c, struct span publisher,
			struct span topic)
{
	/* All nodes use the epoch as the key. Clients see it in ids, so one of
	 * them could give two topics the same count: no harm worth a secret. */
	const struct siphash_key key = {c->epoch, ~c->epoch};
	uint64_t parts[2] = {siphash(&key, publisher.bytes, publisher.len),
			     siphash(&key, topic.bytes, topic.len)};
	uint64_t hash = siphash(&key, parts, sizeof parts);

	return hash == 0 ? 1 : hash;
}

uint64_t counts_others(struct counts *c, struct span publisher,
		       struct span topic)
{
	uint64_t sum = 0;

	if (counts_nodes(c) == 0)
		return 0;
	rwlock_read_acquire(&c->lock);
	uint64_t hash = hash_of(c, publisher, topic);
	for (unsigned i = 0; i < COUNTS_NODES_MAX; i++) {
		const struct entry *e = find(&c->nodes[i].table, hash);
		if (e != NULL)
			sum += e->count;
	}
	rwlock_read_release(&c->lock);
	return sum;
}

bool counts_take_full(struct counts *c)
{
	bool was_full = c->is_full;

	CHECK_ON_THREAD(c->owner);
	c->is_full = false;
	return was_full;
}

unsigned counts_nodes(const struct counts *c)
{
	return atomic_load_explicit(&c->nodes_count, memory_order_relaxed);
}

static void forget_node(struct counts *c, struct node *n)
{
	table_fini(&n->table);
	*n = (struct node){0};
	atomic_fetch_sub_explicit(&c->nodes_count, 1, memory_order_relaxed);
}

void counts_set_epoch(struct counts *c, uint64_t epoch)
{
	CHECK_ON_THREAD(c->owner);
	rwlock_write_acquire(&c->lock);
	c->epoch = epoch;
	for (unsigned i = 0; i < COUNTS_NODES_MAX; i++)
		if (c->nodes[i].id != 0)
			forget_node(c, &c->nodes[i]);
	rwlock_write_release(&c->lock);
	table_fini(&c->mine);
	c->is_asked = true;
}

void counts_age(struct counts *c, uint64_t now_ms)
{
	CHECK_ON_THREAD(c->owner);
	rwlock_write_acquire(&c->lock);
	for (unsigned i = 0; i < COUNTS_NODES_MAX; i++) {
		struct node *n = &c->nodes[i];
		if (n->id != 0 && now_ms - n->heard_ms > COUNTS_SILENT_MS)
			forget_node(c, n);
	}
	rwlock_write_release(&c->lock);
}

/* --- messages ------------------------------------------------------------- */

static int begin_message(struct counts *c, enum kind kind)
{
	c->out.len = 0;
	if (buf_reserve(&c->out, HEAD) != 0)
		return UV_ENOMEM;
	char *to = c->out.bytes;
	to[0] = VERSION_1;
	to[1] = (char)kind;
	little_endian_write(to + 2, 0, 2);
	little_endian_write(to + 4, c->self, 8);
	little_endian_write(to + 12, kind == KIND_ASK ? c->number : ++c->number,
			    8);
	little_endian_write(to + 20, c->epoch, 8);
	c->out.len = HEAD;
	return 0;
}

static size_t entries_in(const struct counts *c)
{
	return (c->out.len - HEAD) / ENTRY;
}

static void send_changes(struct counts *c, counts_send_cb send, void *user)
{
	little_endian_write(c->out.bytes + 2, entries_in(c), 2);
	send(user, (struct span){c->out.bytes, c->out.len});
}

static int add_entry(struct counts *c, const struct entry *e,
		     counts_send_cb send, void *user)
{
	if (entries_in(c) == COUNTS_TOPICS_MAX) {
		send_changes(c, send, user);
		if (begin_message(c, KIND_CHANGES) != 0)
			return UV_ENOMEM;
	}
	if (buf_reserve(&c->out, ENTRY) != 0)
		return UV_ENOMEM;
	little_endian_write(c->out.bytes + c->out.len, e->hash, 8);
	little_endian_write(c->out.bytes + c->out.len + 8, e->count, 4);
	c->out.len += ENTRY;
	return 0;
}

/* --- telling -------------------------------------------------------------- */

#define CHANGED 0x80000000u /* in entry.count of `mine`: not told yet */

void counts_begin(struct counts *c)
{
	CHECK_ON_THREAD(c->owner);
	for (size_t i = 0; i < c->mine.cap; i++)
		c->mine.entries[i].is_seen = false;
}

void counts_add(struct counts *c, struct span publisher, struct span topic,
		uint64_t subscribers)
{
	uint32_t count =
		subscribers < CHANGED ? (uint32_t)subscribers : CHANGED - 1;
	struct entry *e =
		enter(&c->mine, hash_of(c, publisher, topic), SIZE_MAX);

	CHECK_ON_THREAD(c->owner);
	if (e == NULL)
		return; /* it is told later */
	e->is_seen = true;
	if ((e->count & ~CHANGED) != count)
		e->count = count | CHANGED;
}

/* Without memory, the rest is told next time. */
void counts_end(struct counts *c, counts_send_cb send, void *user)
{
	bool is_all = c->is_asked;

	CHECK_ON_THREAD(c->owner);
	if (begin_message(c, is_all ? KIND_FIRST : KIND_CHANGES) != 0)
		return;
	for (size_t i = 0; i < c->mine.cap; i++) {
		struct entry *e = &c->mine.entries[i];
		if (e->hash == 0)
			continue;
		if (!e->is_seen && e->count != 0)
			e->count = CHANGED;
		if (!(e->count & CHANGED) && !(is_all && e->count > 0))
			continue;
		struct entry told = {.hash = e->hash,
				     .count = e->count & ~CHANGED};
		if (add_entry(c, &told, send, user) != 0)
			return;
		e->count = told.count;
	}
	c->is_asked = false;
	send_changes(c, send, user);
}

/* --- hearing -------------------------------------------------------------- */

static struct node *node_of(struct counts *c, uint64_t id)
{
	struct node *unused = NULL;

	for (unsigned i = 0; i < COUNTS_NODES_MAX; i++) {
		if (c->nodes[i].id == id)
			return &c->nodes[i];
		if (c->nodes[i].id == 0 && unused == NULL)
			unused = &c->nodes[i];
	}
	if (unused != NULL) {
		unused->id = id;
		atomic_fetch_add_explicit(&c->nodes_count, 1,
					  memory_order_relaxed);
	}
	return unused;
}

/* How many bytes the other nodes' tables may still grow. */
static size_t room_in(const struct counts *c)
{
	size_t bytes = 0;

	if (memory_level() >= MEMORY_TIGHT)
		return 0;
	for (unsigned i = 0; i < COUNTS_NODES_MAX; i++)
		bytes += c->nodes[i].table.cap * sizeof(struct entry);
	return bytes < COUNTS_HEARD_MAX_BYTES ? COUNTS_HEARD_MAX_BYTES - bytes
					      : 0;
}

static void hear_entries(struct counts *c, struct node *n, const char *at,
			 size_t count)
{
	size_t room = room_in(c);

	for (; count > 0; count--, at += ENTRY) {
		uint64_t hash = little_endian_read(at, 8);
		uint32_t told = (uint32_t)little_endian_read(at + 8, 4);
		const struct entry *known = find(&n->table, hash);
		if (hash == 0 || (known == NULL && told == 0))
			continue;
		size_t cap = n->table.cap;
		struct entry *e = enter(&n->table, hash, room);
		if (e == NULL) {
			c->is_full = true;
			continue;
		}
		/* A new entry is 0, but is not counted in `dead` yet. */
		n->table.dead += e->count > 0 && told == 0;
		n->table.dead -= known != NULL && e->count == 0 && told > 0;
		e->count = told;
		if (n->table.cap != cap)
			room = room_in(c);
	}
}

/* Returns whether all must be asked for. */
static bool hear_locked(struct counts *c, struct span m, enum kind kind,
			uint64_t now_ms)
{
	struct node *n = node_of(c, little_endian_read(m.bytes + 4, 8));
	uint64_t number = little_endian_read(m.bytes + 12, 8);

	CHECK_HOLDS_FOR_WRITING(&c->lock);
	if (n == NULL)
		return false;
	n->heard_ms = now_ms;
	if (kind == KIND_FIRST) {
		table_fini(&n->table);
		n->is_known = true;
	} else if (number != n->number + 1) {
		n->is_known = false;
	}
	n->number = number;
	if (n->is_known)
		hear_entries(c, n, m.bytes + HEAD, (m.len - HEAD) / ENTRY);
	return !n->is_known;
}

void counts_hear(struct counts *c, struct span m, uint64_t now_ms,
		 counts_send_cb send, void *user)
{
	CHECK_ON_THREAD(c->owner);
	if (m.len < HEAD || m.bytes[0] != VERSION_1 ||
	    m.len - HEAD != little_endian_read(m.bytes + 2, 2) * ENTRY ||
	    little_endian_read(m.bytes + 4, 8) == c->self ||
	    little_endian_read(m.bytes + 4, 8) == 0 ||
	    little_endian_read(m.bytes + 20, 8) != c->epoch)
		return;
	enum kind kind = (enum kind)m.bytes[1];
	if (kind == KIND_ASK) {
		c->is_asked = true; /* with the next second's */
		return;
	}
	if (kind != KIND_CHANGES && kind != KIND_FIRST)
		return;
	rwlock_write_acquire(&c->lock);
	bool must_ask = hear_locked(c, m, kind, now_ms);
	rwlock_write_release(&c->lock);
	if (must_ask && begin_message(c, KIND_ASK) == 0)
		send_changes(c, send, user);
}
