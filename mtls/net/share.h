/* Concept: the memory that the processes of a service share: the directory (core/directory.h), its
 * lock (share_lock.h), and this process's place in it. Made with the listener, inherited by fork;
 * with a name (share=NAME) processes of one user that are not related find it too (shm_open, mode
 * 0600). Processes of several users may share it (workers that drop root): what one of them writes
 * there does the others no harm but to path 2. Engine lock held for every call; nothing is called
 * back but alive. */
#ifndef MTLS_NET_SHARE_H
#define MTLS_NET_SHARE_H

#include "../core/crypto.h"
#include "../core/directory.h"

/* Makes or finds the memory; once. name: "" for this process and its children alone. Errors:
 * MTLS_ERR_NOMEM, MTLS_ERR_CRYPTO, MTLS_ERR_IO, MTLS_ERR_SHARE (the name is another user's, of
 * another version, or not what it should be), MTLS_ERR_SHARE_ROOM (no room in /dev/shm). */
MTLS_NODISCARD int mtls_share_open(const char *name, uint32_t max_pending, struct mtls_crypto *c);
bool mtls_share_is_open(void);

enum { MTLS_SHARE_WAIT_US = 100000 }; /* for the lock, in any second */

/* NULL: there is none, or others keep it. */
struct mtls_dir *mtls_share_lock(void);
void mtls_share_unlock(void);
/* For what can be looked at without the lock; NULL: there is none. */
const struct mtls_dir *mtls_share_peek(void);

/* Whether somebody is behind that name, or cannot be asked. */
typedef bool mtls_share_alive_fn(const struct mtls_dir_proc *p);

/* This process becomes a member, under a socket of this name, which is open; the dead are
 * forgotten. Errors: MTLS_ERR_LIMIT, MTLS_ERR_IO (lock). */
MTLS_NODISCARD int mtls_share_enter(const uint8_t name[MTLS_DIR_NAME_LEN],
                                    mtls_share_alive_fn *alive, mtls_tstamp now,
                                    mtls_tstamp ended_ttl);
mtls_member mtls_share_self(void); /* 0: not a member */
/* Whether its name, and its pid, mean something to this process. */
bool mtls_share_same_net(const struct mtls_dir_proc *p);
bool mtls_share_same_pids(const struct mtls_dir_proc *p);
void mtls_share_leave(mtls_tstamp now, mtls_tstamp ended_ttl);
/* In a fork child: its parent is the member. */
void mtls_share_fork_child(void);

#endif
