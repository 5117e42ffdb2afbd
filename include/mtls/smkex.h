/* SMKEX: encryption over TCP for peers without certificates, protected against whoever owns one of
 * two network paths (doc/smkex.md).
 *
 *     struct smkex_ctx *ctx;
 *     struct smkex *s;
 *     char msg[256];
 *     if (smkex_ctx_new(&ctx, "path2=dev=wlan0,remote=192.0.2.7:914", msg, sizeof msg) != 0) ...
 *     ... int fd = a connected TCP socket ...
 *     if (smkex_client_new(&s, ctx, fd, "192.0.2.7") == 0 && smkex_handshake(s) == 0)
 *         smkex_write(s, "hello", 5);
 *
 * Conventions, for every function unless it says otherwise:
 *  - Return 0 (or a count) for success and a negative code for failure: MTLS_ERR_* of
 *    mtls/error.h, or one of SMKEX_WANT_READ, SMKEX_WANT_WRITE and SMKEX_RECONNECT, which are no
 *    failures. Failures are sticky.
 *  - The socket is the caller's: it is closed after smkex_free(). On a blocking socket functions
 *    block, the handshake for at most the deadline; on a non-blocking one they return
 *    SMKEX_WANT_*, and the socket is polled for just that. Until the handshake is done
 *    SO_RCVLOWAT is the library's.
 *  - One thread at a time for one struct smkex; a context may be used by many.
 *  - A struct smkex does not survive fork(); a context does. */
#ifndef MTLS_SMKEX_H
#define MTLS_SMKEX_H

#include <stddef.h>
#include <stdint.h>

#include <mtls/mtls.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SMKEX_WANT_READ  (-1001) /* again when the socket is readable */
#define SMKEX_WANT_WRITE (-1002) /* again when the socket is writable */
#define SMKEX_RECONNECT  (-1003) /* client, policy=prefer: see smkex_set_plain_fd() */

struct smkex_ctx;
struct smkex;

/* config: words separated by white space. SMKEX's own: mode=multipath|single, groups=x25519,p256,
 * suites=aes128,chacha20, pad=N, key=FILE (server: Ed25519 private key in PEM),
 * key-change=refuse|vouch; and of mtls.conf(5): policy, path2, need, name, deadline, grace, early,
 * tfo, reuse, hosts, reactor, listen, tls-port, memory, max-pending, per-source. The environment
 * and openssl.cnf are not looked at. A listen= word opens path 2's listeners now. msg (or NULL)
 * gets what is wrong. Errors: MTLS_ERR_CONFIG_*, _LISTEN, _PROVIDER, _CRYPTO, _NOMEM, _IO (key). */
MTLS_API int smkex_ctx_new(struct smkex_ctx **out, const char *config, char *msg, size_t msg_len);
/* Also while connections made from it live: they keep what they need. */
MTLS_API void smkex_ctx_free(struct smkex_ctx *ctx);
/* Path 2's real listening addresses, "ADDR:PORT"; NULL beyond the last. */
MTLS_API const char *smkex_ctx_get0_listener(const struct smkex_ctx *ctx, size_t index);

/* A connection to host:port is about to be made: path 2 connects in parallel with path 1. */
MTLS_API int smkex_announce(struct smkex_ctx *ctx, const char *host, uint16_t port);

/* fd: a TCP socket that is connected. name: the server's name or literal address as the user gave
 * it: path 2 may look it up, the memory goes by it; NULL: neither. The first message leaves now,
 * all or part of it, before everything that can fail is done: after an error (*out is NULL) the
 * server may have it, so close fd; it is of no use to a second try nor to data in clear. */
MTLS_API int smkex_client_new(struct smkex **out, struct smkex_ctx *ctx, int fd, const char *name);
MTLS_API int smkex_server_new(struct smkex **out, struct smkex_ctx *ctx, int fd);
MTLS_API void smkex_free(struct smkex *s);

/* 0: decided, ask smkex_get_outcome(). Called by smkex_read() and smkex_write() too. */
MTLS_API int smkex_handshake(struct smkex *s);
/* policy=prefer, after SMKEX_RECONNECT: the server does not speak SMKEX, and its connection cannot
 * be used any more. fd: a new one to the same address, on which data goes in clear; the old one is
 * the caller's to close. */
MTLS_API int smkex_set_plain_fd(struct smkex *s, int fd);

/* 1 .. len bytes; 0: the peer's authenticated end (plain: its FIN). MTLS_ERR_SMKEX_TRUNCATED: the
 * connection was cut. */
MTLS_API int smkex_read(struct smkex *s, void *buf, size_t len);
/* Takes 1 .. len bytes. A non-blocking socket may leave some of them with the library: they go out
 * with the next smkex_write(), smkex_read() or smkex_flush(). */
MTLS_API int smkex_write(struct smkex *s, const void *buf, size_t len);
/* 0: nothing is left with the library. */
MTLS_API int smkex_flush(struct smkex *s);
/* Bytes that smkex_read() has without looking at the socket. */
MTLS_API size_t smkex_pending(const struct smkex *s);
/* Ends our direction (close_notify; plain: FIN) and flushes. Reading goes on. */
MTLS_API int smkex_shutdown(struct smkex *s);
/* A new key for what we send. */
MTLS_API int smkex_update_key(struct smkex *s);

enum smkex_outcome {
    SMKEX_OUTCOME_NONE = 0, /* not decided */
    SMKEX_OUTCOME_VERIFIED, /* confirmed over distinct paths */
    SMKEX_OUTCOME_SINGLE,   /* mode=single: encrypted, unauthenticated (unless the key is known) */
    SMKEX_OUTCOME_PLAIN,    /* plain TCP, as the policy allows */
    SMKEX_OUTCOME_FAILED    /* see smkex_get_reason() */
};
MTLS_API enum smkex_outcome smkex_get_outcome(const struct smkex *s);
/* "verified", "single-path", "plain", "failed", "none". */
MTLS_API const char *smkex_outcome_name(enum smkex_outcome outcome);
MTLS_API int smkex_get_reason(const struct smkex *s);
MTLS_API unsigned smkex_get_scope(const struct smkex *s); /* MTLS_SCOPE_* */

/* How many secondary paths confirmed. */
MTLS_API unsigned smkex_get_confirmed(const struct smkex *s);
/* index 0 is path 1, 1.. the secondary paths. The strings live until the next call for the same
 * index, or smkex_free(). MTLS_ERR_ARG beyond the last. */
MTLS_API int smkex_get_path(struct smkex *s, size_t index, struct mtls_path_info *info);

/* What a client with hosts= learnt of the server's long-term key. */
enum smkex_key {
    SMKEX_KEY_NONE = 0, /* the server shows none */
    SMKEX_KEY_NEW,      /* proven; not remembered before */
    SMKEX_KEY_KNOWN,    /* the remembered one */
    SMKEX_KEY_CHANGED   /* another than remembered, or none any more: refused, or vouched for */
};
MTLS_API enum smkex_key smkex_get_key(const struct smkex *s);
/* Why the server could not be written to the memory (MTLS_ERR_*); 0: it could, or was not meant to.
 */
MTLS_API int smkex_get_memory_error(const struct smkex *s);

/* One JSON object without line breaks: "outcome", "reason", "message", "scope", "key", "paths",
 * "times_us", ... The caller frees it with OPENSSL_free. NULL: out of memory. */
MTLS_API char *smkex_report_json(struct smkex *s);

/* Removes host:port from a memory file. 0 also when it was not there. */
MTLS_API int smkex_forget_host(const char *file, const char *host, uint16_t port);

/* OpenSSL BIOs in the place of BIO_new_connect() and BIO_new_accept(); host_port as there. The
 * first is a filter that does SMKEX, pushed on a connect BIO; the second an accept BIO whose
 * connections come with such a filter. BIO_do_handshake() is optional; BIO_flush() sends what a
 * full non-blocking socket left; BIO_shutdown_wr() ends our direction, and so does freeing a
 * blocking one. Failures are on OpenSSL's error queue (mtls_last_error()). ctx must outlive them.
 * NULL: out of memory, or host_port is none. */
MTLS_API BIO *smkex_bio_new_connect(struct smkex_ctx *ctx, const char *host_port);
MTLS_API BIO *smkex_bio_new_accept(struct smkex_ctx *ctx, const char *host_port);
/* The connection inside (for its outcome), NULL before it is connected. */
MTLS_API struct smkex *smkex_bio_get0(BIO *bio);

#ifdef __cplusplus
}
#endif
#endif
