/* Concept: the directory: which processes of a service have sessions, and which have open claims,
 * of a join value; the joins of ended sessions; and the processes themselves. It lies in memory
 * that the processes share, so it holds numbers and no pointers. Whatever stands there may have
 * been written by somebody hostile, at any moment: each process has its own copy of the sizes and
 * of the hash's seed, copies an entry before it looks at it, checks every number, and bounds every
 * walk. Wrong contents cost the service its path 2, never a process its memory or its time. The
 * caller holds the lock that goes with it (net/share) where nothing else is said. Look-up,
 * insertion and expiry cost O(1); a walk through all entries is made for a process that died with
 * entries, and to repair. */
#ifndef MTLS_CORE_DIRECTORY_H
#define MTLS_CORE_DIRECTORY_H

#include "common.h"

enum {
    MTLS_DIR_PROCS_MAX = 1024,
    MTLS_DIR_NAME_LEN = 16,
    MTLS_DIR_SEED_LEN = 16,
    MTLS_DIR_CHAIN_MAX = 128, /* of entries with one hash: more are not natural */
};

struct mtls_dir; /* this process's view: of its own memory; a fork child inherits it */

/* A member: number in the low half, generation in the high one, so that a later process in the same
 * place is another member. 0: none. */
typedef uint64_t mtls_member;

struct mtls_dir_proc {
    mtls_member self; /* 0: free */
    uint32_t pid, uid;
    uint64_t net_ns, pid_ns;         /* the namespaces that its name and its pid belong to */
    uint32_t leaving;                /* hands over what it has; nothing new goes there */
    uint32_t refs;                   /* owners and holders that name it */
    uint64_t serves;                 /* the listeners that it answers path 2 on; 0: it does not */
    uint8_t name[MTLS_DIR_NAME_LEN]; /* of its socket */
};

/* Room for max joins with sessions, as many with claims only, and max_ended ended ones. */
size_t mtls_dir_size(uint32_t max, uint32_t max_ended);
/* A new one in mem: mtls_dir_size() bytes, all zero, aligned to 64. Errors: MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_dir_new(struct mtls_dir **out, void *mem, uint32_t max, uint32_t max_ended,
                                const uint8_t seed[MTLS_DIR_SEED_LEN]);
/* One that another process has made. Errors: MTLS_ERR_ARG (there is none of this version in this
 * size), MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_dir_open(struct mtls_dir **out, void *mem, size_t size);
void mtls_dir_free(struct mtls_dir *d); /* the view; NULL is fine */

/* Something stood there that we do not write: lists and counts are to be made anew. */
bool mtls_dir_spoilt(const struct mtls_dir *d);
/* Makes lists and counts anew from the entries: after a change that was not finished, too. */
void mtls_dir_repair(struct mtls_dir *d);
/* Changes while a long walk goes on, in whatever process. Without the lock. */
uint32_t mtls_dir_beat(const struct mtls_dir *d);

/* ---- Processes ---- */

/* who: pid, uid, namespaces, name. Errors: MTLS_ERR_LIMIT. */
MTLS_NODISCARD int mtls_dir_enter(struct mtls_dir *d, const struct mtls_dir_proc *who,
                                  mtls_member *out);
/* False: it is no member (any more). */
bool mtls_dir_proc(const struct mtls_dir *d, mtls_member m, struct mtls_dir_proc *out);
void mtls_dir_set_leaving(struct mtls_dir *d, mtls_member m);
void mtls_dir_set_serves(struct mtls_dir *d, mtls_member m, uint64_t listeners);
/* Forgets it with all that it had; its sessions have ended at now. */
void mtls_dir_remove(struct mtls_dir *d, mtls_member m, mtls_tstamp now, mtls_tstamp ttl);
/* The index-th place (0 .. MTLS_DIR_PROCS_MAX - 1). False: it is free. Without the lock it may be
 * half of one and half of its successor; a member that is there all the time is seen. */
bool mtls_dir_proc_at(const struct mtls_dir *d, unsigned index, struct mtls_dir_proc *out);
/* A member other than m that is not leaving, the one that has entered last; 0: none. */
mtls_member mtls_dir_heir(const struct mtls_dir *d, mtls_member m);
/* The same of those that serve these very listeners. */
mtls_member mtls_dir_server(const struct mtls_dir *d, mtls_member m, uint64_t listeners);

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
                         const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now);
void mtls_dir_look(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN],
                   struct mtls_dir_view *view);

/* What the member that sweeps really has of a join: its sessions' slots (bits), its open claims. */
typedef void mtls_dir_has_fn(void *arg, const uint8_t join[MTLS_JOIN_LEN], uint8_t *slots,
                             uint8_t *nclaims);
struct mtls_dir_sweep {
    mtls_member member;
    mtls_tstamp age, ttl; /* entries to which nothing was added for age; ttl of ended sessions */
    mtls_dir_has_fn *has;
    void *arg;
    uint32_t at; /* where it goes on; 0: it is through */
};
/* Looks at the next count entries: takes out what the member does not have (the word of its end, or
 * the connection itself, was lost), and what names processes that are no members. Returns how many
 * were taken out. */
unsigned mtls_dir_sweep(struct mtls_dir *d, struct mtls_dir_sweep *s, uint32_t count,
                        mtls_tstamp now);

struct mtls_dir_stats {
    uint32_t procs, sessions, waiting, ended, free; /* joins, but for procs */
};
void mtls_dir_stats(const struct mtls_dir *d, struct mtls_dir_stats *out);

#endif
