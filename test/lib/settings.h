/* settings.h - settings given to config_load(). */
#ifndef ISIMUD_TEST_SETTINGS_H
#define ISIMUD_TEST_SETTINGS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "config/cgroup.h"
#include "config/config.h"

/* The environment of a test: PASSWORD, one setting more, and those that this
 * one depends on. */
extern const char *password;

extern const char *name;

extern const char *value;

extern const char *others[4][2]; /* names and values; NULL behind the last */
;

const char *get(const char *of);

int reset(void **state);

struct config load(const char *of, const char *text);

void assert_refused(const char *of, const char *text, const char *says);

#define TEST(f) cmocka_unit_test_setup(f, reset)

#endif
