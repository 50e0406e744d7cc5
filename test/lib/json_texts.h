/* json_texts.h - texts and what reading them says. */
#ifndef ISIMUD_TEST_JSON_TEXTS_H
#define ISIMUD_TEST_JSON_TEXTS_H

#include "codec/json/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

#include "base/name.h"
#include "oom.h"

void assert_span(struct span got, struct span expected);

void read_publications(struct json_publications *p, struct span text);

void assert_publication(struct span text, struct span topic, struct span data);

#endif
