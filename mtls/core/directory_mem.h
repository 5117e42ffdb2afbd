/* Concept: the directory's memory: its layout, copies of entries, chains, the free list, the queue
 * of ended joins, counts. What is read here is hostile (directory.h): every number is read once and
 * checked before it is used. directory.c alone includes it. */
#ifndef MTLS_CORE_DIRECTORY_MEM_H
#define MTLS_CORE_DIRECTORY_MEM_H

#include "directory.h"

enum { MTLS_DIR_NONE = 0 }; /* entries and places are numbered from 1 */

struct mtls_dir_entry {
    uint8_t join[MTLS_JOIN_LEN];
    uint32_t next; /* in its bucket's chain, or in the free list */
    uint32_t prev_ended, next_ended;
    uint8_t used, ended, slots_used, pad;
    mtls_member owners[MTLS_SLOTS_MAX], holders[MTLS_SLOTS_MAX];
    mtls_tstamp ended_until, touched;
};

struct mtls_dir_memory {
    uint32_t magic, entry_size, max, max_ended;
    uint64_t seed[2];
    uint32_t fresh; /* entries from this one on have never been used */
    uint32_t free_head, ended_head, ended_tail;
    uint32_t nsessions, nwaiting, nended, nused;
    uint32_t generation, beat;
    struct mtls_dir_proc procs[MTLS_DIR_PROCS_MAX];
    uint32_t numbers[]; /* the buckets; behind them the entries */
};

struct mtls_dir {
    struct mtls_dir_memory *mem;
    uint32_t *buckets;
    struct mtls_dir_entry *entries;
    uint32_t max, max_ended, nentries, nbuckets;
    uint64_t seed[2];
    bool spoilt;
};

/* A copy of an entry, and what it counted for when it was made. */
struct mtls_dir_copy {
    uint32_t n;
    uint8_t nsessions, nclaims;
    bool counted, waited;
    struct mtls_dir_entry e;
};

static inline uint32_t mtls_dir_rd(const uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

static inline void mtls_dir_wr(uint32_t *p, uint32_t n)
{
    __atomic_store_n(p, n, __ATOMIC_RELAXED);
}

/* A count that somebody may have spoilt. */
static inline void mtls_dir_count(uint32_t *p, bool up)
{
    uint32_t n = mtls_dir_rd(p);

    if (up || n > 0)
        mtls_dir_wr(p, up ? n + 1 : n - 1);
}

/* Whole words, each read or written once: no compiler may look again. len: a multiple of 8. */
void mtls_dir_words(void *to, const void *from, size_t len);

/* The first entry that has never been used; at most nentries + 1. */
uint32_t mtls_dir_fresh(const struct mtls_dir *d);
/* False: there is no such entry. */
bool mtls_dir_load(const struct mtls_dir *d, uint32_t n, struct mtls_dir_copy *c);
bool mtls_dir_find(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN], struct mtls_dir_copy *c);
/* A new entry, to be saved. False: there is no room. */
bool mtls_dir_make(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN], struct mtls_dir_copy *c);
/* Writes the copy back, or gives the entry back if nothing is in it. No other entry may have been
 * changed since it was made. */
void mtls_dir_save(struct mtls_dir *d, struct mtls_dir_copy *c);
void mtls_dir_queue_append(struct mtls_dir *d, struct mtls_dir_copy *c);
void mtls_dir_queue_remove(struct mtls_dir *d, struct mtls_dir_copy *c);
/* Forgets joins whose time is over; a few. */
void mtls_dir_expire(struct mtls_dir *d, mtls_tstamp now);
/* Once for each entry of a long walk. */
void mtls_dir_walked(struct mtls_dir *d, uint32_t n);
/* directory.c: owners and holders that name m. */
void mtls_dir_count_ref(struct mtls_dir *d, mtls_member m, bool more);

#endif
