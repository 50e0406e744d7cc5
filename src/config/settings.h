/* settings.h - the table of settings: one row each, from which the members of
 * struct config, --help and the readers are made. README.md lists them, too.
 *
 * A row has the kind (private.h), the name, the member, the default as text
 * (NULL: none, or config_load() works it out), the least and the most that the
 * value as kept may be (0 and 0: anything), and the help, which ends in the
 * default where that is not a text. Sizes are kept in bytes, durations in
 * milliseconds. KIB, GIB, TIB and DAY_MS are settings.c's. */
#ifndef ISIMUD_CONFIG_SETTINGS_H
#define ISIMUD_CONFIG_SETTINGS_H

#define CONFIG_SETTINGS(X)                                                     \
	X(SECRET, PASSWORD, password, NULL, 0, 0,                              \
	  "what publishers must present; this or PASSWORD_FILE is required. "  \
	  "Prefer PASSWORD_FILE: everybody can see arguments, by ps")          \
	X(TEXT, PASSWORD_FILE, password_file, NULL, 0, 0,                      \
	  "a file with the password, or with two, a line each; read again "    \
	  "when it changes, and on SIGHUP")                                    \
	X(ADDRESS, IP, ip, "127.0.0.1", 0, 0,                                  \
	  "the address to listen on, and that of ADMIN_PORT")                  \
	X(NUMBER, PORT, port, "3000", 0, 65535,                                \
	  "the port to listen on; 0: any free one")                            \
	X(LISTENERS, LISTEN, listen, NULL, 0, 0,                               \
	  "in place of IP and PORT, up to 8 of IP:PORT, [IPV6]:PORT and "      \
	  "unix:/PATH, separated by commas; default: IP and PORT")             \
	X(MODE, UNIX_MODE, unix_mode, "0660", 0600, 0777,                      \
	  "who may connect to a Unix socket: the mode of its file, in octal")  \
	X(PORT_OR_NONE, ADMIN_PORT, admin_port, NULL, 0, 65535,                \
	  "a listener of its own, on IP, for health and metrics; default: "    \
	  "none")                                                              \
	X(FLAG, HOMEPAGE, homepage, "true", 0, 0,                              \
	  "whether / redirects to the project page")                           \
	X(URL, AUTH_URL, auth_url, NULL, 0, 0,                                 \
	  "whom to ask about a subscriber's token; default: nobody, all may "  \
	  "subscribe")                                                         \
	X(NUMBER, WORKERS, workers, NULL, 1, CONFIG_WORKERS_MAX,               \
	  "loop threads; default: one for each CPU that the process may use")  \
	X(NUMBER, MAX_CONNECTIONS, connections_max, NULL, 1, 10000000,         \
	  "subscribers at once, but for those of Unix sockets; default: by "   \
	  "the limit of descriptors")                                          \
	X(BYTES, MEMORY_LIMIT, memory_limit_bytes, NULL, 0, 64 * TIB,          \
	  "for the whole process, 0: none; default: 80 % of the cgroup's "     \
	  "limit, else none")                                                  \
	X(BYTES, MAX_BODY, body_max_bytes, "2M", 1, GIB,                       \
	  "of a request's body")                                               \
	X(BYTES, MAX_BUFFERED, buffered_max_bytes, "4M", KIB, GIB,             \
	  "waiting for one subscriber; above it, the subscriber is ended")     \
	X(BYTES, MAX_UNSENT, unsent_max_bytes, "64K", 0, GIB,                  \
	  "that the kernel takes for one client before it can send them; "     \
	  "what waits behind counts as MAX_BUFFERED; 0: what the kernel "      \
	  "likes. If it is not given, it is 4K where there is a MEMORY_LIMIT") \
	X(BYTES, MAX_MAILBOX, mailbox_max_bytes, "64M", KIB, 64 * GIB,         \
	  "waiting for one worker; above it, publishing is refused")           \
	X(DURATION, DEFER_ACCEPT, defer_accept_ms, "0", 0, 60000,              \
	  "for which the kernel keeps a new connection to itself until its "   \
	  "first bytes come; 0: not at all")                                   \
	X(DURATION, HEADER_TIMEOUT, header_timeout_ms, "10", 10, DAY_MS,       \
	  "for a whole request head")                                          \
	X(DURATION, BODY_TIMEOUT, body_timeout_ms, "30", 10, DAY_MS,           \
	  "for a whole request body")                                          \
	X(DURATION, WRITE_TIMEOUT, write_timeout_ms, "30", 10, DAY_MS,         \
	  "without the client taking anything of an answer")                   \
	X(BYTES, MIN_SPEED, speed_min, "0", 0, GIB,                            \
	  "bytes a second that a client must take, over a minute in which "    \
	  "something waits for it all the time; 0: it need not")               \
	X(DURATION, IDLE_TIMEOUT, idle_timeout_ms, "75", 10, DAY_MS,           \
	  "between requests")                                                  \
	X(DURATION, CLOSE_TIMEOUT, close_timeout_ms, "5", 10, DAY_MS,          \
	  "for a client's answer to Close, once it has taken what was sent "   \
	  "before")                                                            \
	X(DURATION, PING_INTERVAL, ping_interval_ms, "30", 10, DAY_MS,         \
	  "between pings; two without a sign of life end a WebSocket")         \
	X(DURATION, DRAIN_SECONDS, drain_ms, "20", 0, 3600000,                 \
	  "after SIGTERM, over which subscribers are ended; 0: at once")       \
	X(DURATION, AUTH_TIMEOUT, auth_timeout_ms, "5", 10, DAY_MS,            \
	  "for one check with AUTH_URL")                                       \
	X(NUMBER, AUTH_MAX_CHECKS, auth_checks_max, "256", 1, 65536,           \
	  "checks under way at once; if it is not given, at most an eighth "   \
	  "of the limit of descriptors")                                       \
	X(NUMBER, AUTH_QUEUE, auth_queue, "4096", 0, 1000000,                  \
	  "more checks, which wait for their turn within AUTH_TIMEOUT; "       \
	  "above it, clients are refused; 0: none wait")                       \
	X(FLAG, AUTH_PER_TOPIC, auth_per_topic, "false", 0, 0,                 \
	  "whether AUTH_URL is asked about each subscription, as "             \
	  "/sub?publisher=P&topic=T; needs AUTH_URL")                          \
	X(FLAG, AUTH_COOKIE, auth_cookie, "false", 0, 0,                       \
	  "whether AUTH_URL gets the client's Cookie too, which then does "    \
	  "for a token; needs AUTH_URL, and ALLOWED_ORIGINS without * and "    \
	  "null")                                                              \
	X(DURATION, AUTH_CACHE_TTL, auth_cache_ttl_ms, "0", 0, DAY_MS,         \
	  "for which a yes of AUTH_URL is kept and not asked for again; 0: "   \
	  "it is not")                                                         \
	X(NUMBER, AUTH_CACHE_ENTRIES, auth_cache_entries, "10000", 1,          \
	  10000000, "yeses kept; above it, the oldest go")                     \
	X(ORIGINS, ALLOWED_ORIGINS, allowed_origins, "*", 0, 0,                \
	  "the web origins, separated by commas, whose pages may connect, "    \
	  "such as https://example.com; *: any")                               \
	X(HOSTS, ALLOWED_HOSTS, allowed_hosts, "*", 0, 0,                      \
	  "the hosts, separated by commas, that clients may call this "        \
	  "server, such as push.example.com; *: any")                          \
	X(PROXIES, TRUSTED_PROXIES, trusted_proxies, NULL, 0, 0,               \
	  "addresses and networks, such as 10.0.0.0/8, and unix, separated "   \
	  "by commas: the proxies that are believed who their clients are; "   \
	  "default: none")                                                     \
	X(BYTES, COMPRESS_MIN, compress_min_bytes, "256", 0, GIB,              \
	  "of a message that is sent compressed to clients that offer "        \
	  "permessage-deflate or accept gzip; 0: none is")                     \
	X(NUMBER, COMPRESS_LEVEL, compress_level, "1", 1, 9,                   \
	  "from 1, which is fastest, to 9, which takes the fewest bytes")      \
	X(NUMBER, MAX_SUBSCRIPTIONS, subscriptions_max, "128", 1, 1024,        \
	  "for one connection")                                                \
	X(DURATION, SSE_RETRY, sse_retry_ms, "2", 100, 3600000,                \
	  "an event stream's client waits so long, and up to half as long "    \
	  "again, before it connects again")                                   \
	X(NUMBER, HISTORY_SIZE, history_size, "64", 0, 65536,                  \
	  "messages that a topic keeps for those who come back; 0: none")      \
	X(DURATION, HISTORY_TTL, history_ttl_ms, "60", 0, DAY_MS,              \
	  "for which it keeps them; 0: none are kept")                         \
	X(BYTES, HISTORY_BYTES, history_bytes, "64M", 0, 64 * GIB,             \
	  "of the messages that all topics keep; 0: none are kept. If it is "  \
	  "not given, it is at most a quarter of MEMORY_LIMIT")                \
	X(BYTES, REPLAY_BYTES, replay_bytes, "64M", 0, 64 * GIB,               \
	  "of messages that are kept beyond the history, until those who "     \
	  "get it after coming back have read them. If it is not given, it "   \
	  "is at most an eighth of MEMORY_LIMIT")                              \
	X(FLAG, RETAIN, retain, "false", 0, 0,                                 \
	  "whether each topic's last message is kept beyond HISTORY_TTL, as "  \
	  "long as HISTORY_BYTES allows; needs history")                       \
	X(TEXT, HISTORY_FILE, history_file, NULL, 0, 0,                        \
	  "a file that the history is saved to when the server ends, and "     \
	  "restored from when it starts; default: none")                       \
	X(DURATION, IDEMPOTENCY_TTL, idempotency_ttl_ms, "300", 0, DAY_MS,     \
	  "for which a publication sent again with the same Idempotency-Key "  \
	  "is answered as the first; 0: it is published again")                \
	X(BYTES, IDEMPOTENCY_BYTES, idempotency_bytes, "16M", 0, GIB,          \
	  "of the answers kept for that; above it, the oldest go. If it is "   \
	  "not given, it is at most a sixteenth of MEMORY_LIMIT")              \
	X(URLS, NATS_URL, nats_url, NULL, 0, 0,                                \
	  "the servers, separated by commas, whose JetStream several isimud "  \
	  "share as their log, such as nats://10.0.0.1:4222; default: none, "  \
	  "and this isimud is alone")                                          \
	X(TEXT, NATS_CREDS, nats_creds, NULL, 0, 0,                            \
	  "a credentials file for NATS_URL; default: none")                    \
	X(TEXT, NATS_CA, nats_ca, NULL, 0, 0,                                  \
	  "a file of the certificates that may vouch for NATS_URL's "          \
	  "servers, which then must speak TLS; default: none")                 \
	X(NAME, BUS_STREAM, bus_stream, "ISIMUD", 0, 0,                        \
	  "the name of the JetStream stream that is the log")                  \
	X(FLAG, BUS_CREATE, bus_create, "false", 0, 0,                         \
	  "whether the stream is made where it is missing")                    \
	X(NUMBER, BUS_REPLICAS, bus_replicas, "3", 1, 5,                       \
	  "the replicas of a stream that BUS_CREATE makes")                    \
	X(DURATION, BUS_TIMEOUT, bus_timeout_ms, "5", 100, 60000,              \
	  "for a publication to be in the log")                                \
	X(BYTES, BUS_PENDING, bus_pending_bytes, "16M", KIB, 64 * GIB,         \
	  "of publications that wait for the log; above it, publishing is "    \
	  "refused")                                                           \
	X(DURATION, BUS_LAG, bus_lag_ms, "5", 100, CONFIG_DURATION_MAX_MS,     \
	  "behind the log for so long, and /readyz says no")                   \
	X(LEVEL, LOG_LEVEL, log_level, "info", 0, 0,                           \
	  "the least important lines to write")                                \
	X(FORMAT, LOG_FORMAT, log_is_json, "text", 0, 0, "how log lines look")

#endif
