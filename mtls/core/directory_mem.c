/* Concept: the directory's memory (see directory_mem.h): a hash table of entries with chains and
 * one queue, all by number, in one piece of memory. */
#include "directory_mem.h"

#include <stdlib.h>
#include <string.h>

#include "pending.h"

enum {
    MAGIC = 0x4d544432, /* rises with the layout */
    MAX = 1 << 20,
    EXPIRED_AT_ONCE = 8, /* more than one change can add */
    BEAT = 256,          /* entries of a long walk */
};

static size_t entries_at(uint32_t nbuckets)
{
    size_t at = sizeof(struct mtls_dir_memory) + nbuckets * sizeof(uint32_t);

    return (at + 63) / 64 * 64;
}

static uint32_t entries_for(uint32_t max, uint32_t max_ended)
{
    return 2 * max + max_ended;
}

static uint32_t buckets_for(uint32_t nentries)
{
    uint32_t n = 64;

    while (n < nentries && n < 1u << 24)
        n *= 2;
    return n;
}

size_t mtls_dir_size(uint32_t max, uint32_t max_ended)
{
    uint32_t n = entries_for(max, max_ended);

    return entries_at(buckets_for(n)) + n * sizeof(struct mtls_dir_entry);
}

static int view(struct mtls_dir **out, void *mem, uint32_t max, uint32_t max_ended,
                const uint64_t seed[2])
{
    struct mtls_dir *d = calloc(1, sizeof(*d));

    if (d == NULL)
        return MTLS_ERR_NOMEM;
    d->mem = mem;
    d->max = max;
    d->max_ended = max_ended;
    d->nentries = entries_for(max, max_ended);
    d->nbuckets = buckets_for(d->nentries);
    d->buckets = d->mem->numbers;
    d->entries = (struct mtls_dir_entry *)(void *)((char *)mem + entries_at(d->nbuckets));
    memcpy(d->seed, seed, sizeof(d->seed));
    *out = d;
    return 0;
}

int mtls_dir_new(struct mtls_dir **out, void *mem, uint32_t max, uint32_t max_ended,
                 const uint8_t seed[MTLS_DIR_SEED_LEN])
{
    struct mtls_dir_memory *m = mem;

    memcpy(m->seed, seed, sizeof(m->seed));
    m->fresh = 1;
    m->max = max;
    m->max_ended = max_ended;
    m->entry_size = sizeof(struct mtls_dir_entry);
    m->magic = MAGIC;
    return view(out, mem, max, max_ended, m->seed);
}

int mtls_dir_open(struct mtls_dir **out, void *mem, size_t size)
{
    const struct mtls_dir_memory *m = mem;
    uint32_t max, max_ended;
    uint64_t seed[2];

    if (size < sizeof(*m) || mtls_dir_rd(&m->magic) != MAGIC ||
        mtls_dir_rd(&m->entry_size) != sizeof(struct mtls_dir_entry))
        return MTLS_ERR_ARG;
    max = mtls_dir_rd(&m->max);
    max_ended = mtls_dir_rd(&m->max_ended);
    if (max == 0 || max > MAX || max_ended > MAX || mtls_dir_size(max, max_ended) > size)
        return MTLS_ERR_ARG;
    mtls_dir_words(seed, m->seed, sizeof(seed));
    return view(out, mem, max, max_ended, seed);
}

void mtls_dir_free(struct mtls_dir *d)
{
    free(d);
}

bool mtls_dir_spoilt(const struct mtls_dir *d)
{
    return d->spoilt;
}

uint32_t mtls_dir_beat(const struct mtls_dir *d)
{
    return mtls_dir_rd(&d->mem->beat);
}

void mtls_dir_walked(struct mtls_dir *d, uint32_t n)
{
    if (n % BEAT == 0)
        mtls_dir_wr(&d->mem->beat, mtls_dir_rd(&d->mem->beat) + 1);
}

/* ---- Copies ---- */

void mtls_dir_words(void *to, const void *from, size_t len)
{
    typedef uint64_t __attribute__((may_alias)) word;
    const volatile word *in = from;
    volatile word *out = to;
    size_t i;

    for (i = 0; i < len / sizeof(*in); i++)
        out[i] = in[i];
}

uint32_t mtls_dir_fresh(const struct mtls_dir *d)
{
    uint32_t fresh = mtls_dir_rd(&d->mem->fresh);

    return fresh == 0 || fresh > d->nentries ? d->nentries + 1 : fresh;
}

static struct mtls_dir_entry *entry_at(const struct mtls_dir *d, uint32_t n)
{
    return n == MTLS_DIR_NONE || n > d->nentries ? NULL : &d->entries[n - 1];
}

/* Claims, and nobody whom they are for. */
static bool waits(const struct mtls_dir_copy *c)
{
    return c->nsessions == 0 && c->nclaims > 0 && c->e.ended == 0;
}

bool mtls_dir_load(const struct mtls_dir *d, uint32_t n, struct mtls_dir_copy *c)
{
    const struct mtls_dir_entry *e = entry_at(d, n);
    unsigned i;

    if (e == NULL)
        return false;
    mtls_dir_words(&c->e, e, sizeof(c->e));
    c->n = n;
    c->nsessions = c->nclaims = 0;
    for (i = 0; i < MTLS_SLOTS_MAX; i++) {
        c->nsessions = (uint8_t)(c->nsessions + (c->e.owners[i] != 0));
        c->nclaims = (uint8_t)(c->nclaims + (c->e.holders[i] != 0));
    }
    if (c->e.slots_used > MTLS_SLOTS_MAX)
        c->e.slots_used = MTLS_SLOTS_MAX;
    c->counted = c->nsessions > 0;
    c->waited = waits(c);
    return true;
}

static void count_anew(struct mtls_dir *d, struct mtls_dir_copy *c)
{
    if (c->counted != (c->nsessions > 0))
        mtls_dir_count(&d->mem->nsessions, !c->counted);
    if (c->waited != waits(c))
        mtls_dir_count(&d->mem->nwaiting, !c->waited);
    c->counted = c->nsessions > 0;
    c->waited = waits(c);
}

/* ---- Chains and the free list ---- */

static uint32_t *bucket_of(const struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN])
{
    return &d->buckets[mtls_hash_of(d->seed, join) & (d->nbuckets - 1)];
}

bool mtls_dir_find(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN], struct mtls_dir_copy *c)
{
    uint32_t n = mtls_dir_rd(bucket_of(d, join)), left = MTLS_DIR_CHAIN_MAX;

    while (n != MTLS_DIR_NONE) {
        if (left-- == 0 || !mtls_dir_load(d, n, c) || c->e.used == 0) {
            d->spoilt = true;
            return false;
        }
        if (memcmp(c->e.join, join, MTLS_JOIN_LEN) == 0)
            return true;
        n = c->e.next;
    }
    return false;
}

/* False: it does not stand in its chain. */
static bool unchain(struct mtls_dir *d, const struct mtls_dir_copy *c)
{
    uint32_t *link = bucket_of(d, c->e.join), left = MTLS_DIR_CHAIN_MAX, n;
    struct mtls_dir_entry *e;

    while ((n = mtls_dir_rd(link)) != c->n) {
        if (left-- == 0 || (e = entry_at(d, n)) == NULL)
            return false;
        link = &e->next;
    }
    mtls_dir_wr(link, c->e.next);
    return true;
}

bool mtls_dir_make(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN], struct mtls_dir_copy *c)
{
    uint32_t *bucket = bucket_of(d, join), n = mtls_dir_rd(&d->mem->free_head);
    uint32_t fresh = mtls_dir_fresh(d);

    if (n != MTLS_DIR_NONE) {
        if (!mtls_dir_load(d, n, c) || c->e.used != 0) {
            d->spoilt = true;
            return false;
        }
        mtls_dir_wr(&d->mem->free_head, c->e.next);
    } else if (fresh <= d->nentries) {
        n = fresh;
        mtls_dir_wr(&d->mem->fresh, fresh + 1);
    } else {
        return false;
    }
    memset(c, 0, sizeof(*c));
    c->n = n;
    memcpy(c->e.join, join, MTLS_JOIN_LEN);
    c->e.used = 1;
    c->e.next = mtls_dir_rd(bucket);
    mtls_dir_words(&d->entries[n - 1], &c->e, sizeof(c->e));
    mtls_dir_wr(bucket, n);
    mtls_dir_count(&d->mem->nused, true);
    return true;
}

static void give_back(struct mtls_dir *d, uint32_t n)
{
    struct mtls_dir_entry none = {.next = mtls_dir_rd(&d->mem->free_head)};

    mtls_dir_words(&d->entries[n - 1], &none, sizeof(none));
    mtls_dir_wr(&d->mem->free_head, n);
}

void mtls_dir_save(struct mtls_dir *d, struct mtls_dir_copy *c)
{
    bool empty = c->nsessions == 0 && c->nclaims == 0 && c->e.ended == 0;

    count_anew(d, c);
    if (empty && unchain(d, c)) {
        give_back(d, c->n);
        mtls_dir_count(&d->mem->nused, false);
        return;
    }
    d->spoilt = d->spoilt || empty;
    mtls_dir_words(&d->entries[c->n - 1], &c->e, sizeof(c->e));
}

/* ---- Ended joins ---- */

void mtls_dir_queue_remove(struct mtls_dir *d, struct mtls_dir_copy *c)
{
    struct mtls_dir_entry *prev = entry_at(d, c->e.prev_ended);
    struct mtls_dir_entry *next = entry_at(d, c->e.next_ended);

    if (c->e.ended == 0)
        return;
    mtls_dir_wr(prev != NULL ? &prev->next_ended : &d->mem->ended_head, c->e.next_ended);
    mtls_dir_wr(next != NULL ? &next->prev_ended : &d->mem->ended_tail, c->e.prev_ended);
    c->e.prev_ended = c->e.next_ended = MTLS_DIR_NONE;
    c->e.ended = 0;
    mtls_dir_count(&d->mem->nended, false);
}

void mtls_dir_queue_append(struct mtls_dir *d, struct mtls_dir_copy *c)
{
    uint32_t last = mtls_dir_rd(&d->mem->ended_tail);
    struct mtls_dir_entry *tail = entry_at(d, last);

    if (c->e.ended != 0)
        return;
    c->e.prev_ended = tail != NULL ? last : MTLS_DIR_NONE;
    c->e.next_ended = MTLS_DIR_NONE;
    mtls_dir_wr(tail != NULL ? &tail->next_ended : &d->mem->ended_head, c->n);
    mtls_dir_wr(&d->mem->ended_tail, c->n);
    c->e.ended = 1;
    mtls_dir_count(&d->mem->nended, true);
}

void mtls_dir_expire(struct mtls_dir *d, mtls_tstamp now)
{
    unsigned left = EXPIRED_AT_ONCE;
    struct mtls_dir_copy c;
    uint32_t n;

    while (left-- > 0 && (n = mtls_dir_rd(&d->mem->ended_head)) != MTLS_DIR_NONE) {
        if (!mtls_dir_load(d, n, &c) || c.e.used == 0 || c.e.ended == 0) {
            d->spoilt = true;
            return;
        }
        if (c.e.ended_until > now && mtls_dir_rd(&d->mem->nended) <= d->max_ended)
            return;
        mtls_dir_queue_remove(d, &c);
        mtls_dir_save(d, &c);
    }
}

/* ---- Repair ---- */

static void link_again(struct mtls_dir *d, struct mtls_dir_copy *c)
{
    uint32_t *bucket = bucket_of(d, c->e.join);
    bool ended = c->e.ended != 0;
    unsigned i;

    c->counted = c->waited = false;
    c->e.ended = 0;
    if (c->nsessions == 0 && c->nclaims == 0 && !ended) {
        give_back(d, c->n);
        return;
    }
    c->e.used = 1;
    c->e.next = mtls_dir_rd(bucket);
    mtls_dir_wr(bucket, c->n);
    mtls_dir_count(&d->mem->nused, true);
    if (ended)
        mtls_dir_queue_append(d, c);
    for (i = 0; i < MTLS_SLOTS_MAX; i++) {
        mtls_dir_count_ref(d, c->e.owners[i], true);
        mtls_dir_count_ref(d, c->e.holders[i], true);
    }
    mtls_dir_save(d, c);
}

void mtls_dir_repair(struct mtls_dir *d)
{
    struct mtls_dir_memory *m = d->mem;
    uint32_t n, fresh = mtls_dir_fresh(d);
    struct mtls_dir_copy c;

    for (n = 0; n < d->nbuckets; n++)
        mtls_dir_wr(&d->buckets[n], MTLS_DIR_NONE);
    for (n = 0; n < MTLS_DIR_PROCS_MAX; n++)
        mtls_dir_wr(&m->procs[n].refs, 0);
    mtls_dir_wr(&m->free_head, MTLS_DIR_NONE);
    mtls_dir_wr(&m->ended_head, MTLS_DIR_NONE);
    mtls_dir_wr(&m->ended_tail, MTLS_DIR_NONE);
    mtls_dir_wr(&m->nsessions, 0);
    mtls_dir_wr(&m->nwaiting, 0);
    mtls_dir_wr(&m->nended, 0);
    mtls_dir_wr(&m->nused, 0);
    mtls_dir_wr(&m->fresh, fresh);
    for (n = 1; n < fresh; n++) {
        mtls_dir_walked(d, n);
        if (!mtls_dir_load(d, n, &c) || c.e.used == 0)
            give_back(d, n);
        else
            link_again(d, &c);
    }
    d->spoilt = false;
}

void mtls_dir_stats(const struct mtls_dir *d, struct mtls_dir_stats *out)
{
    uint32_t used = mtls_dir_rd(&d->mem->nused);
    struct mtls_dir_proc p;
    unsigned i;

    out->procs = 0;
    for (i = 0; i < MTLS_DIR_PROCS_MAX; i++)
        out->procs += mtls_dir_proc_at(d, i, &p);
    out->sessions = mtls_dir_rd(&d->mem->nsessions);
    out->waiting = mtls_dir_rd(&d->mem->nwaiting);
    out->ended = mtls_dir_rd(&d->mem->nended);
    out->free = used > d->nentries ? 0 : d->nentries - used;
}
