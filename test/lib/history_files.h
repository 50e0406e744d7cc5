/* history_files.h - a registry that is saved and restored. */
#ifndef ISIMUD_TEST_HISTORY_FILES_H
#define ISIMUD_TEST_HISTORY_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/memory.h"
#include "base/name.h"
#include "boxes.h"
#include "codec/sse.h"
#include "oom.h"
#include "topics/history_file.h"

#define SIZE 4

#define TTL 60000 /* ms */

#define BYTES (64 << 20) /* in all */

#define TOPIC_AT 49 /* the first topic */

#define KEY_AT (TOPIC_AT + 40)

#define MESSAGE_AT (KEY_AT + 9) /* alice, news */

#define DATA_LEN_AT (MESSAGE_AT + 9)

extern char folder[64];

extern char path[96];

extern char beside[128]; /* what saving makes first */
;

extern char refused[128]; /* what a bad file is renamed to */
;

extern char file_error[HISTORY_FILE_ERROR_MAX];

extern size_t topics;

extern size_t file_used_before;

extern struct history_file_loading loading;

int open_all(void **state);

int close_all(void **state);

static const struct topic_key news = {{"alice", 5}, {"news", 4}};

static const struct topic_key weather = {{"alice", 5}, {"weather", 7}};

void publish_span(const struct topic_key *key, struct span data, bool is_json);

void file_publish(const struct topic_key *key, const char *text);

/* As after a restart: another registry. */
void restart(void);

int save(void);

int file_load(void);

bool exists(const char *name);

/* A topic as text: "SEQUENCE:text,text,"; JSON in brackets. */
extern char told[256];

int tell(void *user, const struct registry_topic *t);

const char *find(const struct topic_key *key);

extern unsigned char bytes[4096];

extern size_t file_len; /* of the file */
;

void read_bytes(void);

void write_bytes(size_t written);

/* Writes a file with a digest that is right. */
void seal_bytes(void);

void set_number(size_t at, uint64_t number);

uint64_t get_number(size_t at);

/* The file of one topic, news, with messages "one", JSON 2, "". */
void save_news(void);

/* Must refuse what is at `path` with `rv`, and a text with `word`. */
void expect_refusal(int rv, const char *word);

#define TEST(f) cmocka_unit_test_setup_teardown(f, open_all, close_all)

#endif
