/* Concept: claims made ahead of their ClientHello, for a connection that the application has
 * announced: HELLO leaves with path 2's connect, in its SYN where TCP Fast Open allows. Engine lock
 * held for every call. */
#ifndef MTLS_NET_ANNOUNCED_H
#define MTLS_NET_ANNOUNCED_H

#include "path2_pool.h"

/* Announcements that no ClientHello has come for: at most that many (a further one only opens
 * connections), and no longer than the server lets HELLO wait [TIM]. */
enum { MTLS_ANNOUNCED_MAX = 64, MTLS_ANNOUNCED_MS = 8000 };

struct mtls_announced {
    struct mtls_announced *next;
    struct mtls_timer *timer;
    char name[MTLS_HOST_MAX + 1];
    uint16_t port1;
    uint8_t secret[MTLS_SECRET_LEN];
    struct mtls_path2_claim *claims[MTLS_PATHS_MAX]; /* by path number; NULL: could not begin */
};

/* Opens path 2 for the next session with name and port 1 (a list with `auto` in it: only opens
 * connections, since HELLO needs the path's number; likewise when MTLS_ANNOUNCED_MAX are kept).
 * path1: family 0 = not known. Errors: of mtls_path2_claim_new(), or why no path could be started.
 */
MTLS_NODISCARD int mtls_announced_add(const struct mtls_config *config, const char *name,
                                      uint16_t port1, const struct mtls_addr *path1,
                                      mtls_tstamp now);
/* Takes a over until its session, or its time, has come. */
void mtls_announced_keep(struct mtls_announced *a, mtls_tstamp now);
/* The oldest announcement of this name and port, the caller's from now on; NULL: none. */
struct mtls_announced *mtls_announced_take(const char *name, uint16_t port1);
void mtls_announced_free(struct mtls_announced *a); /* its claims end; NULL is fine */

void mtls_announced_fork_child(void);

#endif
