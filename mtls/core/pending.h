/* Concept: the pending table: join values with the sessions and claims that have them, the joins of
 * ended sessions, how many claims wait and from which source, and queues in deadline order.
 * Owns its joins and sources; the sessions and claims that hang on a join belong to path2_server.
 * Look-up, insertion and expiry cost O(1): hash tables with a secret seed that grow in small steps,
 * and lists to which a constant time to live lets one append at the tail. */
#ifndef MTLS_CORE_PENDING_H
#define MTLS_CORE_PENDING_H

#include "common.h"
#include "crypto.h"

/* ---- Lists and queues of deadlines ---- */

struct mtls_link { /* in a ring with its list's head; next == NULL: in none */
    struct mtls_link *prev, *next;
};

/* The object of this type whose member is at link. */
#define MTLS_OWNER(link, type, member) ((type *)((char *)(link)-offsetof(type, member)))

static inline void mtls_list_init(struct mtls_link *head)
{
    head->prev = head->next = head;
}

static inline bool mtls_list_empty(const struct mtls_link *head)
{
    return head->next == head;
}

static inline void mtls_list_append(struct mtls_link *head, struct mtls_link *l)
{
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

/* Does nothing to a link that is in no list. */
static inline void mtls_list_remove(struct mtls_link *l)
{
    if (l->next == NULL)
        return;
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->prev = l->next = NULL;
}

struct mtls_due {
    struct mtls_link link;
    mtls_tstamp at;
};

/* at = now + ttl, but never before the last one in the queue: a shorter time to live takes hold
 * once the entries made under the longer one are through. */
void mtls_due_start(struct mtls_link *queue, struct mtls_due *t, mtls_tstamp now, mtls_tstamp ttl);
void mtls_due_stop(struct mtls_due *t);
/* The first timer of the queue that is due at now, NULL if none. It stays in the queue. */
struct mtls_due *mtls_due_first(const struct mtls_link *queue, mtls_tstamp now);
/* When the first is due; MTLS_TSTAMP_NEVER for an empty queue. */
mtls_tstamp mtls_due_next(const struct mtls_link *queue);

/* ---- Hash table ---- */

enum { MTLS_HASH_KEY_LEN = 16 };

struct mtls_hash_node {
    struct mtls_hash_node *next;
    uint64_t hash;
    uint8_t key[MTLS_HASH_KEY_LEN];
};

struct mtls_hash {
    struct mtls_hash_node **slots, **old; /* old: being emptied into slots, from index 0 up */
    size_t nslots, nold, moved;           /* powers of two; old[0 .. moved) is empty */
    size_t used;
    uint64_t seed[2];
    uint64_t finds, probes; /* look-ups made, nodes looked at by them */
};

/* SipHash-2-4 of the key. */
uint64_t mtls_hash_of(const uint64_t seed[2], const uint8_t key[MTLS_HASH_KEY_LEN]);
struct mtls_hash_node *mtls_hash_find(struct mtls_hash *h, const uint8_t key[MTLS_HASH_KEY_LEN]);
/* node->key is set by the caller and not in the table. Errors: MTLS_ERR_NOMEM (only of the very
 * first; a table that cannot grow goes on with longer chains). */
MTLS_NODISCARD int mtls_hash_insert(struct mtls_hash *h, struct mtls_hash_node *node);
void mtls_hash_remove(struct mtls_hash *h, struct mtls_hash_node *node);

/* ---- The table ---- */

struct mtls_join {
    struct mtls_hash_node node;
    struct mtls_link sessions, claims; /* heads */
    struct mtls_due ended;             /* while is_ended: until when it is remembered */
    uint8_t nsessions, nclaims;
    uint8_t slots_used; /* a slot is given once, lest a claim hears two PROOFs for it */
    bool is_ended;
};

struct mtls_source { /* exists while connections of it do, or claims of it wait */
    struct mtls_hash_node node;
    size_t waiting, conns;
    struct mtls_link fresh, idle; /* heads, path2_room.c's: its connections, the oldest first */
};

struct mtls_pending {
    struct mtls_hash joins, sources;
    struct mtls_link ended; /* queue of joins */
    size_t nended, ended_max;
    size_t waiting;
};

/* Errors: MTLS_ERR_CRYPTO (no random seed). */
MTLS_NODISCARD int mtls_pending_init(struct mtls_pending *t, struct mtls_crypto *c,
                                     size_t ended_max);
/* Frees joins and sources. Whoever still hangs on a join must be gone, or be freed by each (may be
 * NULL), which is called for every join before it is freed. */
void mtls_pending_clear(struct mtls_pending *t, void (*each)(struct mtls_join *join));

/* The join, or NULL. One remembered as ended is forgotten first if that is over. */
struct mtls_join *mtls_pending_find(struct mtls_pending *t, const uint8_t join[MTLS_JOIN_LEN],
                                    mtls_tstamp now);
/* Adds an empty join, which is not in the table. Errors: MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_pending_add(struct mtls_pending *t, const uint8_t join[MTLS_JOIN_LEN],
                                    struct mtls_join **out);
/* Frees join if nothing hangs on it and it is not remembered as ended. */
void mtls_pending_drop(struct mtls_pending *t, struct mtls_join *join);
/* Remembers join, on which nothing hangs any more, as ended; forgets the oldest if there are too
 * many. */
void mtls_pending_end(struct mtls_pending *t, struct mtls_join *join, mtls_tstamp now,
                      mtls_tstamp ttl);
void mtls_pending_expire(struct mtls_pending *t, mtls_tstamp now);

/* Source of a waiting claim: the IPv4 address (also when mapped into IPv6), or the IPv6 /56. */
void mtls_pending_source_key(const struct mtls_addr *peer, uint8_t key[MTLS_HASH_KEY_LEN]);
/* The source, made if there is none: once its conns or waiting counts it, or with
 * mtls_pending_source_drop(), which frees one that nothing counts, it is given back. Errors:
 * MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_pending_source(struct mtls_pending *t, const uint8_t key[MTLS_HASH_KEY_LEN],
                                       struct mtls_source **out);
void mtls_pending_source_drop(struct mtls_pending *t, struct mtls_source *source);
/* Counts one waiting claim of the source. Nobody is evicted for it. Errors: MTLS_ERR_LIMIT (the
 * table is full, or the source has its share: per_source, or an eighth of what is free, but 1 at
 * least), MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_pending_wait(struct mtls_pending *t, const uint8_t key[MTLS_HASH_KEY_LEN],
                                     size_t max, size_t per_source, struct mtls_source **out);
void mtls_pending_unwait(struct mtls_pending *t, struct mtls_source *source);

#endif
