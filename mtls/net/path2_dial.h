/* Concept: one TCP connection over path 2 to the service itself, for a handshake that is not ours
 * (confirmation by resumption, [RSM-1]): look-up over path 2, bound socket, proxy, connect; and its
 * orderly end. The bytes are the owner's. */
#ifndef MTLS_NET_PATH2_DIAL_H
#define MTLS_NET_PATH2_DIAL_H

#include "../core/config.h"
#include "../core/distinct.h"
#include "reactor.h"

struct mtls_dial;

struct mtls_dial_request {
    const struct mtls_path_spec *spec; /* copied; not auto */
    const char *name;                  /* canonical; asked over path 2 unless spec has remote= */
    uint16_t port;                     /* the service's; the port words of spec have no say */
    struct mtls_addr path1_remote;     /* goes first if path 2's own answer has it; family 0 */
    uint32_t timeout_ms;               /* for all of it */
};

/* Begins; engine lock held. Errors of mtls_resolve_new() and mtls_path2_socket(), MTLS_ERR_STOPPED,
 * _NOMEM. */
MTLS_NODISCARD int mtls_dial_new(struct mtls_dial **out, const struct mtls_dial_request *req,
                                 mtls_tstamp now);

/* Waits until it is open (0), has failed (MTLS_ERR_PATH_*, _SOCKS_*), or until
 * (MTLS_ERR_PATH_TIMEOUT). Takes the engine lock itself. *fd: non-blocking, the caller's from then
 * on. */
MTLS_NODISCARD int mtls_dial_wait(struct mtls_dial *d, mtls_tstamp until, int *fd);

/* The facts of the path now, after mtls_dial_wait() gave fd. */
void mtls_dial_facts(const struct mtls_dial *d, int fd, struct mtls_path_facts *facts);
mtls_tstamp mtls_dial_connected_at(const struct mtls_dial *d); /* 0: never */

/* Takes the engine lock itself. NULL is fine. A descriptor that was given out is not touched. */
void mtls_dial_free(struct mtls_dial *d);

/* Ends a connection in order: shuts our side down, reads and discards until the peer's end, for at
 * most 2 s, on the reactor. fd is taken. [RSM-5] Takes the engine lock itself. */
void mtls_dial_linger(int fd);

#endif
