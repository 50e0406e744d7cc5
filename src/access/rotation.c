/* rotation.c - two looks that agree, then reading. */
#include "access/rotation.h"

#include "access/password.h"
#include "base/log.h"

#include <sys/stat.h>

static struct rotation_stamp look_at_file(const char *path)
{
	struct rotation_stamp stamp = {0};
	struct stat st;

	if (stat(path, &st) != 0)
		return stamp;
	stamp.device = st.st_dev;
	stamp.inode = st.st_ino;
	stamp.size = st.st_size;
	stamp.modified = st.st_mtim;
	stamp.changed = st.st_ctim;
	return stamp;
}

static bool is_same_stamp(const struct rotation_stamp *a,
			  const struct rotation_stamp *b)
{
	return a->device == b->device && a->inode == b->inode &&
	       a->size == b->size && a->modified.tv_sec == b->modified.tv_sec &&
	       a->modified.tv_nsec == b->modified.tv_nsec &&
	       a->changed.tv_sec == b->changed.tv_sec &&
	       a->changed.tv_nsec == b->changed.tv_nsec;
}

/* Returns whether the file could be read; else `error` says why not. */
static bool read_file(struct rotation *r, const struct config *c,
		      const struct rotation_stamp *stamp,
		      char error[static CONFIG_ERROR_MAX])
{
	if (password_load(c, error) != 0)
		return false;
	r->read = *stamp;
	r->has_read = true;
	r->has_refused = false;
	return true;
}

/* What has failed is tried at each look, since the file need not change for it
 * to become right: descriptors may have been scarce. */
void rotation_look(struct rotation *r, const struct config *c)
{
	char error[CONFIG_ERROR_MAX];
	unsigned before = password_generation();

	if (c->password_file == NULL)
		return;
	struct rotation_stamp now = look_at_file(c->password_file);
	bool is_quiet = is_same_stamp(&now, &r->seen);
	r->seen = now;
	bool is_read =
		r->has_read && is_same_stamp(&now, &r->read) && !r->has_refused;
	if (!is_quiet || is_read)
		return;
	if (read_file(r, c, &now, error)) {
		if (password_generation() != before)
			log_event(LOG_INFO, "password_read", LOG_NO_FIELDS,
				  "PASSWORD_FILE has changed, and was read "
				  "again");
		return;
	}
	if (r->has_refused && is_same_stamp(&now, &r->refused))
		return;
	log_event(LOG_ERROR, "password_kept",
		  LOG_FIELDS(log_text("error", error)),
		  "PASSWORD_FILE has changed, but the old password stays: %s",
		  error);
	r->has_refused = true;
	r->refused = now;
}

void rotation_reload(struct rotation *r, const struct config *c)
{
	char error[CONFIG_ERROR_MAX];
	struct rotation_stamp now = {0};

	if (c->password_file != NULL)
		now = look_at_file(c->password_file);
	if (read_file(r, c, &now, error))
		log_event(LOG_INFO, "password_read", LOG_NO_FIELDS,
			  "the password was read again");
	else
		log_event(LOG_ERROR, "password_kept",
			  LOG_FIELDS(log_text("error", error)),
			  "the old password stays: %s", error);
}
