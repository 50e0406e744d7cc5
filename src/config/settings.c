/* settings.c - the table of settings. */
#include "config/private.h"

#define AT(member) offsetof(struct config, member)
#define KIB        1024ULL
#define GIB        (1024 * 1024 * KIB)
#define TIB        (1024 * GIB)

const struct config_setting config_settings[] = {
	{"PASSWORD", SECRET, AT(password), NULL, 0, 0,
	 "what publishers must present; this or PASSWORD_FILE is required. "
	 "Prefer PASSWORD_FILE: everybody can see arguments, by ps"},
	{"PASSWORD_FILE", TEXT, AT(password_file), NULL, 0, 0,
	 "a file with the password, or with two, a line each; read again when "
	 "it changes, and on SIGHUP"},
	{"IP", ADDRESS, AT(ip), "127.0.0.1", 0, 0,
	 "the address to listen on, and that of ADMIN_PORT"},
	{"PORT", NUMBER, AT(port), "3000", 0, 65535,
	 "the port to listen on; 0: any free one"},
	{"LISTEN", LISTENERS, AT(listen), NULL, 0, 0,
	 "in place of IP and PORT, up to 8 of IP:PORT, [IPV6]:PORT and "
	 "unix:/PATH, separated by commas; default: IP and PORT"},
	{"UNIX_MODE", MODE, AT(unix_mode), "0660", 0600, 0777,
	 "who may connect to a Unix socket: the mode of its file, in octal"},
	{"ADMIN_PORT", PORT_OR_NONE, AT(admin_port), NULL, 0, 65535,
	 "a listener of its own, on IP, for health and metrics; default: none"},
	{"HOMEPAGE", FLAG, AT(homepage), "true", 0, 0,
	 "whether / redirects to the project page"},
	{"AUTH_URL", URL, AT(auth_url), NULL, 0, 0,
	 "whom to ask about a subscriber's token; default: nobody, all may "
	 "subscribe"},
	{"WORKERS", NUMBER, AT(workers), NULL, 1, CONFIG_WORKERS_MAX,
	 "loop threads; default: one for each CPU that the process may use"},
	{"MAX_CONNECTIONS", NUMBER, AT(connections_max), NULL, 1, 10000000,
	 "subscribers at once, but for those of Unix sockets; default: by the "
	 "limit of descriptors"},
	{"MEMORY_LIMIT", BYTES, AT(memory_limit_bytes), NULL, 0, 64 * TIB,
	 "for the whole process, 0: none; default: 80 % of the cgroup's limit, "
	 "else none"},
	{"MAX_BODY", BYTES, AT(body_max_bytes), "2M", 1, GIB,
	 "of a request's body"},
	{"MAX_BUFFERED", BYTES, AT(buffered_max_bytes), "4M", KIB, GIB,
	 "waiting for one subscriber; above it, the subscriber is ended"},
	{"MAX_UNSENT", BYTES, AT(unsent_max_bytes), "64K", 0, GIB,
	 "that the kernel takes for one client before it can send them; what "
	 "waits behind counts as MAX_BUFFERED; 0: what the kernel likes. If it "
	 "is not given, it is 4K where there is a MEMORY_LIMIT"},
	{"MAX_MAILBOX", BYTES, AT(mailbox_max_bytes), "64M", KIB, 64 * GIB,
	 "waiting for one worker; above it, publishing is refused"},
	{"DEFER_ACCEPT", DURATION, AT(defer_accept_ms), "0", 0, 60000,
	 "for which the kernel keeps a new connection to itself until its "
	 "first bytes come; 0: not at all"},
	{"HEADER_TIMEOUT", DURATION, AT(header_timeout_ms), "10", 10,
	 CONFIG_DURATION_MAX_MS, "for a whole request head"},
	{"BODY_TIMEOUT", DURATION, AT(body_timeout_ms), "30", 10,
	 CONFIG_DURATION_MAX_MS, "for a whole request body"},
	{"WRITE_TIMEOUT", DURATION, AT(write_timeout_ms), "30", 10,
	 CONFIG_DURATION_MAX_MS,
	 "without the client taking anything of an answer"},
	{"MIN_SPEED", BYTES, AT(speed_min), "0", 0, GIB,
	 "bytes a second that a client must take, over a minute in which "
	 "something waits for it all the time; 0: it need not"},
	{"IDLE_TIMEOUT", DURATION, AT(idle_timeout_ms), "75", 10,
	 CONFIG_DURATION_MAX_MS, "between requests"},
	{"CLOSE_TIMEOUT", DURATION, AT(close_timeout_ms), "5", 10,
	 CONFIG_DURATION_MAX_MS,
	 "for a client's answer to Close, once it has taken what was sent "
	 "before"},
	{"PING_INTERVAL", DURATION, AT(ping_interval_ms), "30", 10,
	 CONFIG_DURATION_MAX_MS,
	 "between pings; two without a sign of life end a WebSocket"},
	{"DRAIN_SECONDS", DURATION, AT(drain_ms), "20", 0, 3600000,
	 "after SIGTERM, over which subscribers are ended; 0: at once"},
	{"AUTH_TIMEOUT", DURATION, AT(auth_timeout_ms), "5", 10,
	 CONFIG_DURATION_MAX_MS, "for one check with AUTH_URL"},
	{"AUTH_MAX_CHECKS", NUMBER, AT(auth_checks_max), "256", 1, 65536,
	 "checks under way at once; if it is not given, at most an eighth of "
	 "the limit of descriptors"},
	{"AUTH_QUEUE", NUMBER, AT(auth_queue), "4096", 0, 1000000,
	 "more checks, which wait for their turn within AUTH_TIMEOUT; above "
	 "it, "
	 "clients are refused; 0: none wait"},
	{"AUTH_PER_TOPIC", FLAG, AT(auth_per_topic), "false", 0, 0,
	 "whether AUTH_URL is asked about each subscription, as "
	 "/sub?publisher=P&topic=T; needs AUTH_URL"},
	{"AUTH_COOKIE", FLAG, AT(auth_cookie), "false", 0, 0,
	 "whether AUTH_URL gets the client's Cookie too, which then does for a "
	 "token; needs AUTH_URL, and ALLOWED_ORIGINS without * and null"},
	{"AUTH_CACHE_TTL", DURATION, AT(auth_cache_ttl_ms), "0", 0,
	 CONFIG_DURATION_MAX_MS,
	 "for which a yes of AUTH_URL is kept and not asked for again; 0: it "
	 "is not"},
	{"AUTH_CACHE_ENTRIES", NUMBER, AT(auth_cache_entries), "10000", 1,
	 10000000, "yeses kept; above it, the oldest go"},
	{"ALLOWED_ORIGINS", ORIGINS, AT(allowed_origins), "*", 0, 0,
	 "the web origins, separated by commas, whose pages may connect, such "
	 "as https://example.com; *: any"},
	{"ALLOWED_HOSTS", HOSTS, AT(allowed_hosts), "*", 0, 0,
	 "the hosts, separated by commas, that clients may call this server, "
	 "such as push.example.com; *: any"},
	{"TRUSTED_PROXIES", PROXIES, AT(trusted_proxies), NULL, 0, 0,
	 "addresses and networks, such as 10.0.0.0/8, and unix, separated by "
	 "commas: the proxies that are believed who their clients are; "
	 "default: none"},
	{"COMPRESS_MIN", BYTES, AT(compress_min_bytes), "256", 0, GIB,
	 "of a message that is sent compressed to clients that offer "
	 "permessage-deflate or accept gzip; 0: none is"},
	{"COMPRESS_LEVEL", NUMBER, AT(compress_level), "1", 1, 9,
	 "from 1, which is fastest, to 9, which takes the fewest bytes"},
	{"MAX_SUBSCRIPTIONS", NUMBER, AT(subscriptions_max), "128", 1, 1024,
	 "for one connection"},
	{"SSE_RETRY", DURATION, AT(sse_retry_ms), "2", 100, 3600000,
	 "an event stream's client waits so long, and up to half as long "
	 "again, before it connects again"},
	{"HISTORY_SIZE", NUMBER, AT(history_size), "64", 0, 65536,
	 "messages that a topic keeps for those who come back; 0: none"},
	{"HISTORY_TTL", DURATION, AT(history_ttl_ms), "60", 0,
	 CONFIG_DURATION_MAX_MS, "for which it keeps them; 0: none are kept"},
	{"HISTORY_BYTES", BYTES, AT(history_bytes), "64M", 0, 64 * GIB,
	 "of the messages that all topics keep; 0: none are kept. If it is not "
	 "given, it is at most a quarter of MEMORY_LIMIT"},
	{"REPLAY_BYTES", BYTES, AT(replay_bytes), "64M", 0, 64 * GIB,
	 "of messages that are kept beyond the history, until those who get it "
	 "after coming back have read them. If it is not given, it is at most "
	 "an eighth of MEMORY_LIMIT"},
	{"RETAIN", FLAG, AT(retain), "false", 0, 0,
	 "whether each topic's last message is kept beyond HISTORY_TTL, as "
	 "long as HISTORY_BYTES allows; needs history"},
	{"HISTORY_FILE", TEXT, AT(history_file), NULL, 0, 0,
	 "a file that the history is saved to when the server ends, and "
	 "restored from when it starts; default: none"},
	{"IDEMPOTENCY_TTL", DURATION, AT(idempotency_ttl_ms), "300", 0,
	 CONFIG_DURATION_MAX_MS,
	 "for which a publication sent again with the same Idempotency-Key is "
	 "answered as the first; 0: it is published again"},
	{"IDEMPOTENCY_BYTES", BYTES, AT(idempotency_bytes), "16M", 0, GIB,
	 "of the answers kept for that; above it, the oldest go. If it is not "
	 "given, it is at most a sixteenth of MEMORY_LIMIT"},
	{"NATS_URL", URLS, AT(nats_url), NULL, 0, 0,
	 "the servers, separated by commas, whose JetStream several isimud "
	 "share as their log, such as nats://10.0.0.1:4222; default: none, and "
	 "this isimud is alone"},
	{"NATS_CREDS", TEXT, AT(nats_creds), NULL, 0, 0,
	 "a credentials file for NATS_URL; default: none"},
	{"NATS_CA", TEXT, AT(nats_ca), NULL, 0, 0,
	 "a file of the certificates that may vouch for NATS_URL's servers, "
	 "which then must speak TLS; default: none"},
	{"BUS_STREAM", NAME, AT(bus_stream), "ISIMUD", 0, 0,
	 "the name of the JetStream stream that is the log"},
	{"BUS_CREATE", FLAG, AT(bus_create), "false", 0, 0,
	 "whether the stream is made where it is missing"},
	{"BUS_REPLICAS", NUMBER, AT(bus_replicas), "3", 1, 5,
	 "the replicas of a stream that BUS_CREATE makes"},
	{"BUS_TIMEOUT", DURATION, AT(bus_timeout_ms), "5", 100, 60000,
	 "for a publication to be in the log"},
	{"BUS_PENDING", BYTES, AT(bus_pending_bytes), "16M", KIB, 64 * GIB,
	 "of publications that wait for the log; above it, publishing is "
	 "refused"},
	{"BUS_LAG", DURATION, AT(bus_lag_ms), "5", 100, CONFIG_DURATION_MAX_MS,
	 "behind the log for so long, and /readyz says no"},
	{"LOG_LEVEL", LEVEL, AT(log_level), "info", 0, 0,
	 "the least important lines to write"},
	{"LOG_FORMAT", FORMAT, AT(log_is_json), "text", 0, 0,
	 "how log lines look"},
};

const size_t config_settings_count =
	sizeof config_settings / sizeof config_settings[0];
