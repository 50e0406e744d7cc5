/* notify.h - tells the service manager how far the process is: sd_notify(3), by
 * a datagram to the socket that NOTIFY_SOCKET names.
 *
 * Where the variable is not set, or the socket can't be reached, nothing
 * happens: nobody waits for it. Threads: any. */
#ifndef ISIMUD_SERVER_NOTIFY_H
#define ISIMUD_SERVER_NOTIFY_H

/* Sends `text`: lines of NAME=VALUE, such as "READY=1". */
void notify_send(const char *text);

#endif
