/* Concept: the server's side of path 2 in this process: listeners, accepted connections, and the
 * way from a hooked handshake to core/path2_server. Engine lock held for every call; call-backs run
 * on the reactor. */
#ifndef MTLS_NET_PATH2_SERVICE_H
#define MTLS_NET_PATH2_SERVICE_H

#include "../core/config.h"
#include "../core/path2_server.h"

/* At most that many connections, and at most a quarter of the descriptors that the process may
 * have: the others are the TLS service's. */
enum { MTLS_SERVICE_CONNS_MAX = 65536 };

/* Opens the listeners of config (none is fine) and applies its limits. Returns the index of the
 * first one; the listeners stay open as long as the process. bound gets the real addresses. A
 * listener that this process has opened for the same configured address and port (0 too) is
 * shared. Errors: MTLS_ERR_LISTEN, _NOMEM, _PROVIDER, ... (none is left open). */
MTLS_NODISCARD int mtls_service_open(const struct mtls_config *config, struct mtls_addr *bound);
/* After MTLS_ERR_LISTEN: which listener, and the errno of its failure (0: there are too many). */
const struct mtls_addr *mtls_service_unopened(int *error);

/* A fork child: takes up its parent's listeners. Errors: MTLS_ERR_NOT_HOOKED (none was opened),
 * _STOPPED, _NOMEM, _IO. */
MTLS_NODISCARD int mtls_service_resume(void);

/* A connection that the program has accepted and found to be path 2; takes fd in any case. Errors:
 * MTLS_ERR_IO (not an IP connection), _NOMEM, _LIMIT. */
MTLS_NODISCARD int mtls_service_accept(int fd, mtls_tstamp now);

struct mtls_service_session;

/* k of n paths, on the claim whose connection came from peer to local. */
typedef void mtls_service_confirmed_fn(void *arg, uint8_t k, uint8_t n,
                                       const struct mtls_addr *local, const struct mtls_addr *peer,
                                       mtls_tstamp now);

/* Errors: as mtls_p2s_session_new(). */
MTLS_NODISCARD int mtls_service_session_new(struct mtls_service_session **out,
                                            const uint8_t join[MTLS_JOIN_LEN],
                                            mtls_service_confirmed_fn *fn, void *arg,
                                            mtls_tstamp now);
MTLS_NODISCARD int mtls_service_session_keys(struct mtls_service_session *s,
                                             const struct mtls_keys *keys, mtls_tstamp now);
/* Reads what has come on the connections with claims of this join, on this thread: whoever needs to
 * know need not wait for the reactor. Not inside a call-back of the service. */
void mtls_service_read(const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now);
/* mtls_p2s_session_d(), also inside mtls_service_confirmed_fn. */
void mtls_service_session_d(const struct mtls_service_session *s, uint8_t d[MTLS_SHA256_LEN]);
void mtls_service_session_free(struct mtls_service_session *s, uint8_t fail_reason,
                               mtls_tstamp now);

void mtls_service_stats(struct mtls_p2s_stats *out);
/* At exit: what this process has goes to others of the service. */
void mtls_service_exit(void);
void mtls_service_fork_child(void);

#endif
