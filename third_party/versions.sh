#!/bin/sh
# Checks that each dependency is there and new enough: older releases lack
# functions that are used here, or fixes that are relied on.
set -u
failed=0

at_least() {
	if ! pkg-config --atleast-version="$2" "$1"; then
		echo "isimud needs $1 >= $2, found:" \
			"$(pkg-config --modversion "$1" 2> /dev/null ||
				echo none)" >&2
		failed=1
	fi
}

at_least libuv 1.44       # uv_try_write() without a queue of its own
at_least libllhttp 9.2    # the request smuggling fixes up to CVE-2024-27982
at_least libcjson 1.7.15
at_least libcurl 7.87     # CURLOPT_QUICK_EXIT
at_least libnats 3.4      # named consumers
at_least libcrypto 3.0    # EVP_MD_fetch()
at_least zlib 1.2.12      # the fix of CVE-2018-25032
echo '#include <wslay/wslay.h>' | ${CC:-cc} -E - > /dev/null 2>&1 || {
	echo "isimud needs wslay >= 1.1.1" >&2
	failed=1
}
[ $failed -eq 0 ] || echo "isimud: 'make deps' installs what is missing" >&2
exit $failed
