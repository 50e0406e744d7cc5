/* json_texts.c - see json_texts.h. */
#include "json_texts.h"

void assert_span(struct span got, struct span expected)
{
	assert_non_null(got.bytes);
	assert_int_equal(got.len, expected.len);
	assert_memory_equal(got.bytes, expected.bytes, expected.len);
}

void read_publications(struct json_publications *p, struct span text)
{
	struct json_error error = {0};

	if (json_read_publications(p, text, &error) != 0)
		fail_msg("refused: %s", error.text);
}

void assert_publication(struct span text, struct span topic, struct span data)
{
	struct json_publications p = {0};

	read_publications(&p, text);
	assert_false(p.is_array);
	assert_int_equal(p.count, 1);
	assert_span(p.all[0].topic, topic);
	assert_span(p.all[0].data.text, data);
	assert_false(p.all[0].data.is_json);
	json_publications_fini(&p);
}
