/* Multipath TLS for programs that use libssl.
 *
 *     SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
 *     if (mtls_ssl_ctx_hook(ctx, "policy=require path2=local=192.0.2.7,resolver=192.0.2.1") != 1)
 *         ERR_print_errors_fp(stderr);
 *     ... SSL_new, SSL_set_tlsext_host_name, SSL_connect, SSL_read, SSL_write as ever ...
 *
 * Conventions, for every function unless it says otherwise:
 *  - Return 1 for success and 0 for failure with an entry on OpenSSL's error queue whose text is
 *    mtls_error_string()'s; mtls_last_error() gives the code.
 *  - An SSL or SSL_CTX is the caller's and is not kept beyond its life. Strings returned are owned
 * by the object they came from, or static, unless "the caller frees" is said.
 *  - Functions on an SSL follow libssl's rule: one thread at a time for one SSL. Everything else
 * may be called from any thread. Nothing may be called from a signal handler.
 *  - Nothing blocks, except a handshake on a blocking socket (as libssl's own does), until at most
 *    the deadline.
 *  - Times are microseconds of CLOCK_MONOTONIC (`_us`), milliseconds (`_ms`) or seconds since the
 *    epoch (`_at`).
 *  - After fork() the child may use hooked contexts; a handshake begun before the fork fails there.
 *
 * The configuration's words stand in doc/architecture.md and mtls.conf(5); the protocol in
 * doc/protocol.md. */
#ifndef MTLS_MTLS_H
#define MTLS_MTLS_H

#include <stddef.h>
#include <stdint.h>

#include <sys/socket.h>

#include <openssl/ssl.h>

#include <mtls/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(MTLS_STATIC)
#define MTLS_API
#else
#define MTLS_API __attribute__((visibility("default")))
#endif

#define MTLS_VERSION_STRING "0.1.0"
MTLS_API const char *mtls_version(void);

/* ---- Hook -------------------------------------------------------------------------------------
 */

/* Makes every handshake of SSLs made from ctx a Multipath TLS handshake, as client and as server.
 * config: the words, or NULL; the layers openssl.cnf and MTLS_CONFIG lie beneath it. Call it before
 * SSL_new, once per SSL_CTX (every SSL_CTX that an SNI call-back switches to, too).
 * It registers extension 0xFF4D, takes ctx's message call-back slot (set before: lost, see
 * mtls_ssl_ctx_set_msg_callback()), chains its security call-back, switches 0-RTT off, and with
 * policy=require raises the minimum version to TLS 1.3. A server opens its path-2 listeners here.
 * Errors: MTLS_ERR_CONFIG_*, _LISTEN, _PROVIDER, _NOMEM, _ARG (hooked already, ctx NULL, a method
 * of DTLS or QUIC: such a context is left as it is). With policy off nothing is changed and 1 is
 * returned. */
MTLS_API int mtls_ssl_ctx_hook(SSL_CTX *ctx, const char *config);

/* Whether ctx is hooked (1/0). Raises nothing. */
MTLS_API int mtls_ssl_ctx_is_hooked(const SSL_CTX *ctx);

/* An application that wants the message call-back passes it here instead of
 * SSL_CTX_set_msg_callback (whose use displaces ours: handshakes then fail with transcript-lost
 * unless the provider's transcript observer is active). */
typedef void mtls_msg_cb(int write_p, int version, int content_type, const void *buf, size_t len,
                         SSL *ssl, void *arg);
MTLS_API int mtls_ssl_ctx_set_msg_callback(SSL_CTX *ctx, mtls_msg_cb *cb, void *arg);

/* For applications that insist on the message call-back slot: makes the provider `mtls` observe the
 * transcript hash in this library context (NULL = default). Call it before SSL_CTX_new(); it sets
 * the context's default property query to "?mtls.observer=yes". openssl.cnf can do the same
 * (provider-mtls(7)). Errors: MTLS_ERR_PROVIDER, _LIMIT (8 library contexts), _CONFIG_*. */
MTLS_API int mtls_observer_enable(OSSL_LIB_CTX *libctx);

/* The path-2 listeners' real addresses, "ADDR:PORT"; index from 0; NULL beyond the last. */
MTLS_API const char *mtls_ssl_ctx_get0_listener(const SSL_CTX *ctx, size_t index);

/* Tells that a connection to host:port is about to be made: path 2's look-up, connect and HELLO go
 * out now, in parallel with path 1's connect; in one packet with TCP Fast Open. Serves the next
 * handshake with that host and port within 8 s (64 announcements are kept). Optional. Errors:
 * MTLS_ERR_NOT_HOOKED, _PATH_*, _NOMEM; none is fatal to the later handshake. */
MTLS_API int mtls_announce(SSL_CTX *ctx, const char *host, uint16_t port);

/* Tells path 1's socket where libssl does not know it (memory BIOs, BIOs of the application). Call
 * it before the handshake; the application keeps the descriptor. A non-blocking one lets the
 * handshake wait for path 2 without blocking a call: its SO_RCVLOWAT is raised meanwhile. Without
 * it a client with such BIOs cannot judge its paths, and a server's call may block until the
 * deadline. Errors: MTLS_ERR_NOT_HOOKED, _ARG, _NOMEM. */
MTLS_API int mtls_set_fd(SSL *ssl, int fd);

/* For servers with single-port=on, which accept their connections themselves: whether fd, just
 * accepted, is path 2 and not TLS. 1: it is, and fd is the library's from now on. 0: it is not;
 * nothing was read, go on with SSL_accept(). -1: nothing has come yet; ask again when fd is
 * readable. Raises nothing; does not block. */
MTLS_API int mtls_accept_path2(SSL_CTX *ctx, int fd);

/* Binds a connected TCP socket to the device that it leaves by now (SO_BINDTODEVICE), so that
 * routes pushed later cannot pull path 1 over to path 2's network. Optional; for client programs
 * that make their own sockets. Loopback is left alone. Errors: MTLS_ERR_PATH_UNKNOWN (not a
 * connected IP socket), MTLS_ERR_PATH_BIND (not permitted). */
MTLS_API int mtls_pin_socket(int fd);

/* The same before connect(). To be preferred where a program makes many connections and leaves the
 * choice of their local ports to connect(): that of a socket without a device overlooks those that
 * are bound to one, and takes over the port of a live connection to the same server. */
MTLS_API int mtls_pin_socket_to(int fd, const struct sockaddr *to, socklen_t len);

/* The server's name for this connection, where it differs from SNI or none is sent. */
MTLS_API int mtls_set_name(SSL *ssl, const char *name);

/* ---- Outcome ----------------------------------------------------------------------------------
 */

enum mtls_outcome {
    MTLS_OUTCOME_NONE = 0,         /* not decided, or not hooked */
    MTLS_OUTCOME_VERIFIED,         /* confirmed over distinct paths */
    MTLS_OUTCOME_RESUMED_VERIFIED, /* resumed from a verified session, within its age */
    MTLS_OUTCOME_PLAIN,            /* ordinary TLS, as policy=prefer allows */
    MTLS_OUTCOME_FAILED            /* see mtls_get_reason(); sticky */
};
MTLS_API enum mtls_outcome mtls_get_outcome(const SSL *ssl);
/* "verified", "resumed-verified", "plain", "failed", "none". */
MTLS_API const char *mtls_outcome_name(enum mtls_outcome outcome);
/* MTLS_ERR_* of a failed or plain outcome (why it is not verified), else 0. */
MTLS_API int mtls_get_reason(const SSL *ssl);
/* What holds of the counted paths: MTLS_SCOPE_* bits. */
#define MTLS_SCOPE_CLIENT                                                                          \
    1 /* pairwise distinct at the client's side: egress devices or protected tunnels */
#define MTLS_SCOPE_SERVER 2 /* the server's addresses are in different prefixes */
MTLS_API unsigned mtls_get_scope(const SSL *ssl);
/* How many secondary paths confirmed. */
MTLS_API unsigned mtls_get_confirmed(const SSL *ssl);

/* 0, or the MTLS_ERR_* because of which a verified host could not be written to the memory of
 * verified hosts (hosts=FILE). The session is verified all the same; the next one to this host is
 * not protected by the memory. */
MTLS_API int mtls_get_memory_error(const SSL *ssl);

/* One path of a session; strings live as long as the SSL or until its next handshake. */
struct mtls_path_info {
    const char *local, *remote; /* "ADDR:PORT"; "" = unknown */
    const char *device;         /* "" = unknown */
    const char *via;            /* proxy, "" = none */
    const char *spec;           /* the configured words; path 1: "" */
    const char *shares;         /* with path 1: "nothing" or words, comma-separated; path 1: "" */
    const char *state;          /* "idle", "starting", "ready", "proof" (unchecked), "proof-right",
                                   "confirmed" (counted), "wrong", "failed"; server: "confirmed"
                                   or ""; path 1: "" */
    int error;                  /* MTLS_ERR_* or 0 */
    uint32_t rtt_us;            /* 0 = unknown */
};
/* index 0 is path 1, 1.. the secondary paths. 1, or 0 beyond the last (no error is raised). */
MTLS_API int mtls_get_path(const SSL *ssl, size_t index, struct mtls_path_info *info);

/* When each step was reached; 0 = never. */
enum mtls_step {
    MTLS_STEP_CLIENT_HELLO = 0,
    MTLS_STEP_PATH2_CONNECTED,
    MTLS_STEP_HELLO, /* HELLO handed to the kernel */
    MTLS_STEP_READY,
    MTLS_STEP_PROOF,
    MTLS_STEP_FINISHED, /* the server's Finished: processed (client), written (server) */
    MTLS_STEP_DECIDED,
    MTLS_STEP_COUNT
};
MTLS_API uint64_t mtls_get_time_us(const SSL *ssl, enum mtls_step step);

/* All of the above as one JSON object without line breaks: "outcome", "reason", "message", "scope",
 * "paths", "times_us" (relative to the ClientHello; negative: before it; null: never). The caller
 * frees it with OPENSSL_free. NULL: out of memory. */
MTLS_API char *mtls_report_json(const SSL *ssl);

/* Called once per handshake when the outcome is known, on the thread that drives the handshake;
 * once more, from the reactor's thread, if a plain outcome turns into failed(downgrade-late) (ssl
 * is NULL then, and json says it all). json lives for the call. Must not call libssl on ssl, only
 * this header's queries. */
typedef void mtls_outcome_cb(SSL *ssl, enum mtls_outcome outcome, int reason, const char *json,
                             void *arg);
MTLS_API int mtls_ssl_ctx_set_outcome_callback(SSL_CTX *ctx, mtls_outcome_cb *cb, void *arg);

/* The code of the earliest Multipath TLS entry on this thread's OpenSSL error queue, 0 if none.
 * Removes nothing. */
MTLS_API int mtls_last_error(void);

/* ---- Memory of verified hosts -----------------------------------------------------------------
 */

/* For applications that check the host name themselves after SSL_connect (and set no
 * X509_VERIFY_PARAM host): says that the name was checked, so that a verified outcome is
 * remembered. */
MTLS_API int mtls_name_checked(SSL *ssl);
/* Removes host:port from the memory file. 1 also when it was not there. */
MTLS_API int mtls_forget_host(const char *file, const char *host, uint16_t port);

/* ---- Reactor driven by the application (reactor=app) -------------------------------------------
 */

/* A descriptor that is readable when mtls_dispatch() has work; -1 with an error raised. Owned by
 * the library. */
MTLS_API int mtls_pollable_fd(void);
/* Does the work that is there; does not block. */
MTLS_API int mtls_dispatch(void);

#ifdef __cplusplus
}
#endif
#endif
