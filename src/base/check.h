/* check.h - assertions that stay on: our own mistakes end the process at once.
 *
 * A peer's mistake or a full machine is an error to be returned, never a
 * CHECK. Threads: any. */
#ifndef ISIMUD_BASE_CHECK_H
#define ISIMUD_BASE_CHECK_H

/* Logs condition, place and thread, waiting for nobody (log_crash()), and
 * aborts. */
_Noreturn void check_failed(const char *condition, const char *file, int line,
			    const char *function);

/* Aborts if `condition` is false. On in every build. */
#define CHECK(condition)                                                       \
	do {                                                                   \
		if (__builtin_expect(!(condition), 0))                         \
			check_failed(#condition, __FILE__, __LINE__,           \
				     __func__);                                \
	} while (0)

/* Aborts unless the calling thread is `owner` (a uv_thread_t; the file that
 * uses this includes uv.h). On where ISIMUD_DEBUG is defined: the debug and
 * sanitizer builds. */
#ifdef ISIMUD_DEBUG
#define CHECK_ON_THREAD(thread)                                                \
	do {                                                                   \
		uv_thread_t self_ = uv_thread_self();                          \
		uv_thread_t owner_ = (thread);                                 \
		CHECK(uv_thread_equal(&self_, &owner_));                       \
	} while (0)
#else
#define CHECK_ON_THREAD(thread) ((void)(thread))
#endif

/* The structure of type `type` whose member `member` is at `pointer`. */
#define CONTAINER_OF(pointer, type, member)                                    \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
