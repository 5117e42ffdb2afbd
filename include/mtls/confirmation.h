/* Confirmation by resumption, for servers that know nothing of Multipath TLS (doc/protocol.md,
 * section 20): a stock TLS 1.3 handshake on path 1, and on path 2 a resumption of exactly that
 * session, by the ticket that the server sent on path 1.
 *
 *     struct mtls_confirmation *c =
 *         mtls_confirmation_new("confirm=resume path2=dev=wwan0", "www.example", 443, NULL);
 *     ... TCP connect, SSL_new, SNI, SSL_set1_host, SSL_connect, nothing written or read yet ...
 *     if (mtls_confirmation_run(c, ssl) != 1)
 *         ... do not use the connection ...
 *     mtls_confirmation_free(c);
 *
 * The SSL_CTX need not be hooked. One thread at a time for one object; different objects may run on
 * different threads. */
#ifndef MTLS_CONFIRMATION_H
#define MTLS_CONFIRMATION_H

#include <mtls/mtls.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How the configuration (words, beneath them openssl.cnf and MTLS_CONFIG) wants servers confirmed.
 * -1 with an error raised: the configuration is bad. */
enum mtls_confirm_mode { MTLS_CONFIRM_EXPORTER = 0, MTLS_CONFIRM_RESUME, MTLS_CONFIRM_AUTO };
MTLS_API int mtls_confirm_mode(const char *config);

enum mtls_confirm_verdict {
    MTLS_VERDICT_NONE = 0,   /* not run yet */
    MTLS_VERDICT_VERIFIED,   /* path 2's peer holds this session's secrets */
    MTLS_VERDICT_CONSISTENT, /* the same public key on both paths, no more */
    MTLS_VERDICT_UNPROVEN,   /* nothing was learned */
    MTLS_VERDICT_ALARM       /* path 2 contradicts path 1 */
};
/* "none", "verified", "consistent", "unproven", "alarm". */
MTLS_API const char *mtls_verdict_name(enum mtls_confirm_verdict verdict);

struct mtls_confirmation;

/* Begins: reads the configuration and opens path 2's TCP connection in parallel to what the caller
 * does. name, port: the server's, as the user gave them (never an answer of path 1's look-up); an
 * address is a name too, but leads path 2 nowhere unless the configuration has remote=. offered:
 * the session that path 1 will offer, or NULL; if it has a valid record of an earlier verification,
 * path 2 is opened only when path 1 does not resume it. Does not block. NULL with an error raised:
 * MTLS_ERR_CONFIG_*, _ARG, _NOMEM, _REMEMBERED (this host was verified by the exporter proof: this
 * mode is weaker), _HOSTS_*, _PATH_NONE (no path2 word), _STOPPED. */
MTLS_API struct mtls_confirmation *mtls_confirmation_new(const char *config, const char *name,
                                                         uint16_t port, SSL_SESSION *offered);

/* NULL in the place of the object: nothing was run; mtls_confirmation_run() refuses it (_ARG). */

/* After the handshake of ssl (a client on a socket), before its first byte of application data:
 * takes the ticket in, resumes the session on path 2, judges. Blocks for at most the deadline,
 * whatever the socket is (it is non-blocking within the call). Data that came is left for SSL_read.
 * 1: the policy lets the connection proceed. 0: it does not, with an error raised
 * (MTLS_ERR_CONFIRM_*, _CLIENT_CERT, _ARG); the session is not resumable then. Once for each
 * object. */
MTLS_API int mtls_confirmation_run(struct mtls_confirmation *c, SSL *ssl);

MTLS_API enum mtls_confirm_verdict mtls_confirmation_verdict(const struct mtls_confirmation *c);
/* One word ("resumed", "other-key", ...) and one sentence of what the verdict proves and what not;
 * static. */
MTLS_API const char *mtls_confirmation_reason(const struct mtls_confirmation *c);
MTLS_API const char *mtls_confirmation_meaning(const struct mtls_confirmation *c);
/* verified alone: how the paths differ, MTLS_SCOPE_* bits; else 0. */
MTLS_API unsigned mtls_confirmation_scope(const struct mtls_confirmation *c);
/* Whether path 1 resumed a session that was verified before, without path 2 (1/0). */
MTLS_API int mtls_confirmation_resumed(const struct mtls_confirmation *c);

/* After mtls_confirmation_run(), as mtls_get_path(): index 0 is path 1, 1 the path that was tried
 * (state "confirmed" or "failed"). 1, or 0 beyond the last (no error is raised). The strings live
 * as long as c. */
MTLS_API int mtls_confirmation_get_path(const struct mtls_confirmation *c, size_t index,
                                        struct mtls_path_info *info);

/* All of it as one JSON object without line breaks: "outcome", "verdict", "reason", "meaning",
 * "scope", "paths", "tickets", "times_us". The caller frees it with OPENSSL_free. NULL: out of
 * memory, or of none. */
MTLS_API char *mtls_confirmation_json(const struct mtls_confirmation *c);

/* verified alone: a session with a ticket that was not used yet and the record of this
 * verification, for later connections; NULL: there is none (no error is raised). The caller frees
 * it with SSL_SESSION_free. */
MTLS_API SSL_SESSION *mtls_confirmation_get1_session(const struct mtls_confirmation *c);

/* NULL is fine. */
MTLS_API void mtls_confirmation_free(struct mtls_confirmation *c);

#ifdef __cplusplus
}
#endif
#endif
