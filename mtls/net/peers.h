/* Concept: messages between the processes of a service: a socket of this process (abstract Unix
 * seqpacket, of a random name that stands in the directory), links to and from the others, queues
 * with a bound. Who is at the other end is what the kernel says (SO_PEERCRED) and the directory
 * knows; everybody else is shut out. Engine lock held for every call; call-backs run on the
 * reactor, or inside mtls_peers_send() not at all. */
#ifndef MTLS_NET_PEERS_H
#define MTLS_NET_PEERS_H

#include "../core/crypto.h"
#include "../core/handover.h"
#include "reactor.h"

/* fd: a socket that came with it, the callee's to close; -1: none. */
typedef void mtls_peers_message_fn(mtls_member from, const struct mtls_handover *m, int fd,
                                   mtls_tstamp now);
/* Nothing will come from it any more, nor reach it. */
typedef void mtls_peers_lost_fn(mtls_member peer, mtls_tstamp now);

/* Opens the socket and gives its name. Errors: MTLS_ERR_IO, MTLS_ERR_CRYPTO, MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_peers_open(struct mtls_reactor *r, struct mtls_crypto *c,
                                   uint8_t name[MTLS_DIR_NAME_LEN], mtls_peers_message_fn *message,
                                   mtls_peers_lost_fn *lost);
bool mtls_peers_is_open(const struct mtls_reactor *r);

/* Sends or queues; with fd (else -1) a copy of that socket goes along. Errors: MTLS_ERR_IO (it
 * cannot be reached), MTLS_ERR_LIMIT (it takes nothing now). */
MTLS_NODISCARD int mtls_peers_send(const struct mtls_dir_proc *to, const struct mtls_handover *m,
                                   int fd);
/* A link, so that its end is heard of. Errors: as mtls_peers_send(). */
MTLS_NODISCARD int mtls_peers_follow(const struct mtls_dir_proc *to);
/* Whether the process behind the name is there, or cannot be asked (another network namespace). */
bool mtls_peers_probe(const struct mtls_dir_proc *p);

/* Whether words of that process may still come, said before its end. */
bool mtls_peers_hear(mtls_member peer, mtls_tstamp now);

/* Whether a link would tell of its end. */
bool mtls_peers_linked(mtls_member peer);

/* At exit: takes what has come, without the reactor; and gives what is queued a moment to go. */
void mtls_peers_drain(mtls_tstamp now);
/* Closes all. lost is not called. */
void mtls_peers_close(void);
void mtls_peers_fork_child(void);

#endif
