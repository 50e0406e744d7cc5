/* fuzz_record.c - feeds any bytes to src/cluster/record.c, and checks that what
 * it takes for a record is written again as the same bytes. */
#include "base/check.h"
#include "cluster/record.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span bytes = {(const char *)data, size};
	struct record_publication p;
	struct record r;
	struct buf out = {0};
	unsigned count = 0;

	if (record_parse(&r, bytes) != 0)
		return 0;
	CHECK(record_begin(&out, &r) == 0);
	struct span body = r.body;
	while (record_next(&body, &p)) {
		CHECK(record_add(&out, 0, &p) == 0);
		count++;
	}
	CHECK(body.len == 0 && count == r.count);
	CHECK(span_equal((struct span){out.bytes, out.len}, bytes));
	buf_fini(&out);
	return 0;
}
