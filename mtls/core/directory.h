/* Concept: the directory: which processes of a service have sessions, and which have open claims,
 * of a join value; the joins of ended sessions; and the processes themselves. It lies in memory
 * that the processes share, so it holds numbers and no pointers, and takes whatever it reads there
 * for possibly wrong: every walk is bounded. The caller holds the lock that goes with it
 * (net/share). Look-up, insertion and expiry cost O(1); only forgetting a process that died with
 * entries costs a walk through all of them. */
#ifndef MTLS_CORE_DIRECTORY_H
#define MTLS_CORE_DIRECTORY_H

#include "common.h"

enum {
    MTLS_DIR_PROCS_MAX = 1024,
    MTLS_DIR_NAME_LEN = 16,
    MTLS_DIR_SEED_LEN = 16,
};

struct mtls_dir; /* the shared memory itself */

/* A member: number in the low half, generation in the high one, so that a later process in the same
 * place is another member. 0: none. */
typedef uint64_t mtls_member;

struct mtls_dir_proc {
    mtls_member self; /* 0: free */
    uint32_t pid, uid;
    uint32_t leaving;                /* hands over what it has; nothing new goes there */
    uint32_t refs;                   /* owners and holders that name it */
    uint8_t name[MTLS_DIR_NAME_LEN]; /* of its socket */
};

/* Room for max joins with sessions, as many with claims only, and max_ended ended ones. */
size_t mtls_dir_size(uint32_t max, uint32_t max_ended);
void mtls_dir_init(struct mtls_dir *d, uint32_t max, uint32_t max_ended,
                   const uint8_t seed[MTLS_DIR_SEED_LEN]);
/* Whether memory of this size holds a directory of this version. */
bool mtls_dir_valid(const struct mtls_dir *d, size_t size);
/* After a process died in the middle of a change: makes lists and counts anew from the entries. */
void mtls_dir_repair(struct mtls_dir *d);

/* ---- Processes ---- */

/* Errors: MTLS_ERR_LIMIT. */
MTLS_NODISCARD int mtls_dir_enter(struct mtls_dir *d, uint32_t pid, uint32_t uid,
                                  const uint8_t name[MTLS_DIR_NAME_LEN], mtls_member *out);
/* False: it is no member (any more). */
bool mtls_dir_proc(const struct mtls_dir *d, mtls_member m, struct mtls_dir_proc *out);
void mtls_dir_set_leaving(struct mtls_dir *d, mtls_member m);
/* Forgets it with all that it had; its sessions have ended at now. */
void mtls_dir_remove(struct mtls_dir *d, mtls_member m, mtls_tstamp now, mtls_tstamp ttl);
/* The index-th place (0 .. MTLS_DIR_PROCS_MAX - 1). False: it is free. */
bool mtls_dir_proc_at(const struct mtls_dir *d, unsigned index, struct mtls_dir_proc *out);
/* A member other than m that is not leaving, the one that has entered last; 0: none. */
mtls_member mtls_dir_heir(const struct mtls_dir *d, mtls_member m);

/* ---- Joins ---- */

struct mtls_dir_view {
    uint8_t nsessions, nclaims;          /* live ones of all processes */
    mtls_member owners[MTLS_SLOTS_MAX];  /* by slot; 0: none, or its process is gone */
    mtls_member holders[MTLS_SLOTS_MAX]; /* one for each open claim, 0: none */
};

/* A session of m. *slot is its number among those of this join. Errors: MTLS_ERR_JOIN_REUSED (all
 * of them have ended), MTLS_ERR_LIMIT (MTLS_SLOTS_MAX have had this join, or the table is full).
 * [SRV-6] [SRV-8] [SRV-11] */
MTLS_NODISCARD int mtls_dir_session_add(struct mtls_dir *d, mtls_member m,
                                        const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now,
                                        uint8_t *slot, struct mtls_dir_view *view);
/* With the last one the join becomes one of ended sessions, for ttl. */
void mtls_dir_session_end(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN],
                          uint8_t slot, mtls_tstamp now, mtls_tstamp ttl);
/* An open claim whose connection is m's. Errors: MTLS_ERR_JOIN_REUSED, MTLS_ERR_LIMIT
 * (MTLS_SLOTS_MAX are open), MTLS_ERR_NOMEM (the table is full). [SRV-5] [SRV-8] */
MTLS_NODISCARD int mtls_dir_claim_add(struct mtls_dir *d, mtls_member m,
                                      const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now,
                                      struct mtls_dir_view *view);
void mtls_dir_claim_end(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN]);
/* Its connection goes from m to another member. */
void mtls_dir_claim_move(struct mtls_dir *d, mtls_member m, mtls_member to,
                         const uint8_t join[MTLS_JOIN_LEN]);
void mtls_dir_look(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN],
                   struct mtls_dir_view *view);

struct mtls_dir_stats {
    uint32_t procs, sessions, waiting, ended, free; /* joins, but for procs */
};
void mtls_dir_stats(const struct mtls_dir *d, struct mtls_dir_stats *out);

#endif
