/* Concept: the directory (see directory.h): a hash table of entries with chains and one queue, all
 * by number, in one piece of memory. */
#include "directory.h"

#include <string.h>

#include "pending.h"

enum {
    MAGIC = 0x4d544431, /* rises with the layout */
    NONE = 0,           /* entries and places are numbered from 1 */
    INDEX_BITS = 16,
};

struct entry {
    uint8_t join[MTLS_JOIN_LEN];
    uint32_t next; /* in its bucket's chain, or in the free list */
    uint32_t prev_ended, next_ended;
    uint8_t used, ended, slots_used, nsessions, nclaims;
    mtls_member owners[MTLS_SLOTS_MAX], holders[MTLS_SLOTS_MAX];
    mtls_tstamp ended_until;
};

struct mtls_dir {
    uint32_t magic, nentries, nbuckets, max, max_ended;
    uint32_t entry_size;
    uint64_t seed[2];
    uint32_t fresh; /* entries from this one on have never been used */
    uint32_t free_head, ended_head, ended_tail;
    uint32_t nsessions, nwaiting, nended, nused;
    uint32_t generation;
    uint32_t nprocs;
    struct mtls_dir_proc procs[MTLS_DIR_PROCS_MAX];
    uint32_t numbers[]; /* the buckets; behind them the entries */
};

static size_t entries_at(uint32_t nbuckets)
{
    size_t at = sizeof(struct mtls_dir) + nbuckets * sizeof(uint32_t);

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

static struct entry *entry_at(const struct mtls_dir *d, uint32_t n)
{
    const char *base = (const char *)d + entries_at(d->nbuckets);

    if (n == NONE || n > d->nentries)
        return NULL;
    return (struct entry *)(uintptr_t)(base + (n - 1) * sizeof(struct entry));
}

static uint32_t number_of(const struct mtls_dir *d, const struct entry *e)
{
    return (uint32_t)(e - entry_at(d, 1)) + 1;
}

static uint32_t *bucket_of(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN])
{
    return &d->numbers[mtls_hash_of(d->seed, join) & (d->nbuckets - 1)];
}

size_t mtls_dir_size(uint32_t max, uint32_t max_ended)
{
    uint32_t n = entries_for(max, max_ended);

    return entries_at(buckets_for(n)) + n * sizeof(struct entry);
}

void mtls_dir_init(struct mtls_dir *d, uint32_t max, uint32_t max_ended,
                   const uint8_t seed[MTLS_DIR_SEED_LEN])
{
    memset(d, 0, sizeof(*d));
    d->fresh = 1;
    d->max = max;
    d->max_ended = max_ended;
    d->nentries = entries_for(max, max_ended);
    d->nbuckets = buckets_for(d->nentries);
    d->entry_size = sizeof(struct entry);
    memcpy(d->seed, seed, sizeof(d->seed));
    d->magic = MAGIC;
}

bool mtls_dir_valid(const struct mtls_dir *d, size_t size)
{
    return size >= sizeof(*d) && d->magic == MAGIC && d->entry_size == sizeof(struct entry) &&
           d->max > 0 && d->max <= 1u << 20 && d->max_ended <= 1u << 20 &&
           d->nentries == entries_for(d->max, d->max_ended) &&
           d->nbuckets == buckets_for(d->nentries) && size >= mtls_dir_size(d->max, d->max_ended);
}

/* ---- Entries ---- */

static struct entry *find(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN])
{
    struct entry *e = entry_at(d, *bucket_of(d, join));
    uint32_t left = d->nentries;

    while (e != NULL && left-- > 0) {
        if (memcmp(e->join, join, MTLS_JOIN_LEN) == 0)
            return e;
        e = entry_at(d, e->next);
    }
    return NULL;
}

/* Claims, and nobody whom they are for. */
static bool waits(const struct entry *e)
{
    return e->nsessions == 0 && e->nclaims > 0 && e->ended == 0;
}

static void queue_remove(struct mtls_dir *d, struct entry *e)
{
    struct entry *prev = entry_at(d, e->prev_ended), *next = entry_at(d, e->next_ended);

    if (e->ended == 0)
        return;
    if (prev != NULL)
        prev->next_ended = e->next_ended;
    else
        d->ended_head = e->next_ended;
    if (next != NULL)
        next->prev_ended = e->prev_ended;
    else
        d->ended_tail = e->prev_ended;
    e->prev_ended = e->next_ended = NONE;
    e->ended = 0;
    d->nended--;
    d->nwaiting += waits(e);
}

static void queue_append(struct mtls_dir *d, struct entry *e)
{
    struct entry *tail = entry_at(d, d->ended_tail);
    uint32_t n = number_of(d, e);

    e->prev_ended = d->ended_tail;
    e->next_ended = NONE;
    if (tail != NULL)
        tail->next_ended = n;
    else
        d->ended_head = n;
    d->ended_tail = n;
    e->ended = 1;
    d->nended++;
}

static bool is_empty(const struct entry *e)
{
    return e->nsessions == 0 && e->nclaims == 0 && e->ended == 0;
}

/* Gives the entry back if nothing is in it. */
static void drop(struct mtls_dir *d, struct entry *e)
{
    uint32_t *link = bucket_of(d, e->join), left = d->nentries, n = number_of(d, e);

    if (!is_empty(e) || e->used == 0)
        return;
    while (*link != NONE && *link <= d->nentries && *link != n && left-- > 0)
        link = &entry_at(d, *link)->next;
    if (*link == n)
        *link = e->next;
    memset(e, 0, sizeof(*e));
    e->next = d->free_head;
    d->free_head = n;
    d->nused--;
}

static void forget_ended(struct mtls_dir *d, struct entry *e)
{
    queue_remove(d, e);
    drop(d, e);
}

static void expire(struct mtls_dir *d, mtls_tstamp now)
{
    uint32_t batch = 8; /* more than one change can add */
    struct entry *e;

    while (batch-- > 0 && (e = entry_at(d, d->ended_head)) != NULL &&
           (e->ended_until <= now || d->nended > d->max_ended)) {
        if (e->ended == 0) { /* not the queue that we made */
            mtls_dir_repair(d);
            return;
        }
        forget_ended(d, e);
    }
}

static struct entry *make(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN])
{
    struct entry *e = entry_at(d, d->free_head);
    uint32_t *bucket = bucket_of(d, join);

    if (e != NULL)
        d->free_head = e->next;
    else if (d->fresh <= d->nentries)
        e = entry_at(d, d->fresh++);
    else
        return NULL;
    if (e == NULL || e->used != 0) { /* not the list that we made */
        mtls_dir_repair(d);
        return NULL;
    }
    memset(e, 0, sizeof(*e));
    memcpy(e->join, join, MTLS_JOIN_LEN);
    e->used = 1;
    e->next = *bucket;
    *bucket = number_of(d, e);
    d->nused++;
    return e;
}

static void link_again(struct mtls_dir *d, struct entry *e)
{
    uint32_t n = number_of(d, e), *bucket = bucket_of(d, e->join);
    bool ended = e->ended != 0;
    unsigned i;

    e->nsessions = e->nclaims = e->ended = 0;
    for (i = 0; i < MTLS_SLOTS_MAX; i++) {
        e->nsessions = (uint8_t)(e->nsessions + (e->owners[i] != 0));
        e->nclaims = (uint8_t)(e->nclaims + (e->holders[i] != 0));
    }
    e->next = *bucket;
    *bucket = n;
    d->nused++;
    d->nsessions += e->nsessions > 0;
    if (ended)
        queue_append(d, e);
    d->nwaiting += waits(e);
    drop(d, e);
}

static void count_procs(struct mtls_dir *d)
{
    unsigned i;

    d->nprocs = 0;
    for (i = 0; i < MTLS_DIR_PROCS_MAX; i++) {
        d->procs[i].refs = UINT32_MAX / 2; /* not known: its removal looks at all entries */
        d->nprocs += d->procs[i].self != 0;
    }
}

void mtls_dir_repair(struct mtls_dir *d)
{
    uint32_t n;

    memset(d->numbers, 0, d->nbuckets * sizeof(uint32_t));
    d->free_head = d->ended_head = d->ended_tail = NONE;
    d->nsessions = d->nwaiting = d->nended = d->nused = 0;
    if (d->fresh == 0 || d->fresh > d->nentries)
        d->fresh = d->nentries + 1;
    for (n = 1; n < d->fresh; n++) {
        if (entry_at(d, n)->used == 0) {
            entry_at(d, n)->next = d->free_head;
            d->free_head = n;
        }
    }
    for (n = 1; n < d->fresh; n++) {
        if (entry_at(d, n)->used != 0)
            link_again(d, entry_at(d, n));
    }
    count_procs(d);
}

/* ---- Processes ---- */

static struct mtls_dir_proc *place_of(const struct mtls_dir *d, mtls_member m)
{
    uint32_t n = (uint32_t)(m & ((1u << INDEX_BITS) - 1));
    const struct mtls_dir_proc *p;

    if (n == NONE || n > MTLS_DIR_PROCS_MAX)
        return NULL;
    p = &d->procs[n - 1];
    return p->self == m ? (struct mtls_dir_proc *)(uintptr_t)p : NULL;
}

static void count_ref(const struct mtls_dir *d, mtls_member m, bool more)
{
    struct mtls_dir_proc *p = place_of(d, m);

    if (p != NULL && more)
        p->refs++;
    else if (p != NULL && p->refs > 0)
        p->refs--;
}

int mtls_dir_enter(struct mtls_dir *d, uint32_t pid, uint32_t uid,
                   const uint8_t name[MTLS_DIR_NAME_LEN], mtls_member *out)
{
    uint32_t n;

    for (n = 0; n < MTLS_DIR_PROCS_MAX && d->procs[n].self != 0; n++)
        ;
    if (n == MTLS_DIR_PROCS_MAX)
        return MTLS_ERR_LIMIT;
    memset(&d->procs[n], 0, sizeof(d->procs[n]));
    d->procs[n].pid = pid;
    d->procs[n].uid = uid;
    memcpy(d->procs[n].name, name, MTLS_DIR_NAME_LEN);
    d->generation++;
    d->procs[n].self = (mtls_member)d->generation << INDEX_BITS | (n + 1);
    d->nprocs++;
    *out = d->procs[n].self;
    return 0;
}

bool mtls_dir_proc(const struct mtls_dir *d, mtls_member m, struct mtls_dir_proc *out)
{
    const struct mtls_dir_proc *p = place_of(d, m);

    if (p != NULL)
        *out = *p;
    return p != NULL;
}

bool mtls_dir_proc_at(const struct mtls_dir *d, unsigned index, struct mtls_dir_proc *out)
{
    if (index >= MTLS_DIR_PROCS_MAX || d->procs[index].self == 0)
        return false;
    *out = d->procs[index];
    return true;
}

void mtls_dir_set_leaving(struct mtls_dir *d, mtls_member m)
{
    struct mtls_dir_proc *p = place_of(d, m);

    if (p != NULL)
        p->leaving = 1;
}

mtls_member mtls_dir_heir(const struct mtls_dir *d, mtls_member m)
{
    mtls_member best = 0;
    unsigned i;

    for (i = 0; i < MTLS_DIR_PROCS_MAX; i++) {
        const struct mtls_dir_proc *p = &d->procs[i];

        if (p->self != 0 && p->self != m && p->leaving == 0 && p->self > best)
            best = p->self;
    }
    return best;
}

/* ---- Joins ---- */

static void look(const struct entry *e, struct mtls_dir_view *view)
{
    memset(view, 0, sizeof(*view));
    if (e == NULL)
        return;
    view->nsessions = e->nsessions;
    view->nclaims = e->nclaims;
    memcpy(view->owners, e->owners, sizeof(view->owners));
    memcpy(view->holders, e->holders, sizeof(view->holders));
}

/* The join's entry as it stands at now: one whose ended sessions are forgotten begins anew. */
static struct entry *entry_now(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN],
                               mtls_tstamp now)
{
    struct entry *e;

    expire(d, now);
    e = find(d, join);
    if (e == NULL || e->ended == 0 || e->ended_until > now)
        return e;
    queue_remove(d, e);
    if (!is_empty(e))
        return e;
    drop(d, e);
    return NULL;
}

int mtls_dir_session_add(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN],
                         mtls_tstamp now, uint8_t *slot, struct mtls_dir_view *view)
{
    struct entry *e = entry_now(d, join, now);

    if (e != NULL && e->ended != 0)
        return MTLS_ERR_JOIN_REUSED;
    if ((e != NULL && e->slots_used >= MTLS_SLOTS_MAX) ||
        ((e == NULL || e->nsessions == 0) && d->nsessions >= d->max))
        return MTLS_ERR_LIMIT;
    if (e == NULL && (e = make(d, join)) == NULL)
        return MTLS_ERR_LIMIT;
    d->nwaiting -= waits(e);
    d->nsessions += e->nsessions == 0;
    *slot = e->slots_used++;
    e->owners[*slot] = m;
    e->nsessions++;
    count_ref(d, m, true);
    look(e, view);
    return 0;
}

static void session_out(struct mtls_dir *d, struct entry *e, uint8_t slot, mtls_tstamp now,
                        mtls_tstamp ttl)
{
    count_ref(d, e->owners[slot], false);
    e->owners[slot] = 0;
    if (e->nsessions == 0 || --e->nsessions > 0)
        return;
    d->nsessions--;
    if (ttl > 0 && d->max_ended > 0) {
        e->ended_until = now + ttl;
        queue_append(d, e);
    }
    d->nwaiting += waits(e);
    expire(d, now);
    drop(d, e);
}

void mtls_dir_session_end(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN],
                          uint8_t slot, mtls_tstamp now, mtls_tstamp ttl)
{
    struct entry *e = find(d, join);

    if (e != NULL && m != 0 && slot < MTLS_SLOTS_MAX && e->owners[slot] == m)
        session_out(d, e, slot, now, ttl);
}

int mtls_dir_claim_add(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN],
                       mtls_tstamp now, struct mtls_dir_view *view)
{
    struct entry *e = entry_now(d, join, now);
    unsigned i;

    if (e != NULL && e->ended != 0)
        return MTLS_ERR_JOIN_REUSED;
    if (e != NULL && e->nclaims >= MTLS_SLOTS_MAX)
        return MTLS_ERR_LIMIT;
    if (e == NULL && (d->nwaiting >= d->max || (e = make(d, join)) == NULL))
        return MTLS_ERR_NOMEM;
    for (i = 0; i < MTLS_SLOTS_MAX && e->holders[i] != 0; i++)
        ;
    if (i == MTLS_SLOTS_MAX)
        return MTLS_ERR_LIMIT;
    d->nwaiting -= waits(e);
    e->holders[i] = m;
    e->nclaims++;
    d->nwaiting += waits(e);
    count_ref(d, m, true);
    look(e, view);
    return 0;
}

static void claim_out(struct mtls_dir *d, struct entry *e, unsigned i)
{
    count_ref(d, e->holders[i], false);
    d->nwaiting -= waits(e);
    e->holders[i] = 0;
    if (e->nclaims > 0)
        e->nclaims--;
    d->nwaiting += waits(e);
    drop(d, e);
}

/* The number of a claim that m holds; MTLS_SLOTS_MAX: none. */
static unsigned held_by(const struct entry *e, mtls_member m)
{
    unsigned i;

    for (i = 0; i < MTLS_SLOTS_MAX && (e == NULL || m == 0 || e->holders[i] != m); i++)
        ;
    return i;
}

void mtls_dir_claim_end(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN])
{
    struct entry *e = find(d, join);
    unsigned i = held_by(e, m);

    if (i < MTLS_SLOTS_MAX)
        claim_out(d, e, i);
}

void mtls_dir_claim_move(struct mtls_dir *d, mtls_member m, mtls_member to,
                         const uint8_t join[MTLS_JOIN_LEN])
{
    struct entry *e = find(d, join);
    unsigned i = held_by(e, m);

    if (i == MTLS_SLOTS_MAX)
        return;
    e->holders[i] = to;
    count_ref(d, m, false);
    count_ref(d, to, true);
}

void mtls_dir_look(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN],
                   struct mtls_dir_view *view)
{
    look(find(d, join), view);
}

/* ---- A process that is gone ---- */

static void remove_from(struct mtls_dir *d, struct entry *e, mtls_member m, mtls_tstamp now,
                        mtls_tstamp ttl)
{
    unsigned i;

    for (i = 0; i < MTLS_SLOTS_MAX && e->used != 0; i++) {
        if (e->holders[i] == m)
            claim_out(d, e, i);
    }
    for (i = 0; i < MTLS_SLOTS_MAX && e->used != 0; i++) {
        if (e->owners[i] == m)
            session_out(d, e, (uint8_t)i, now, ttl);
    }
}

void mtls_dir_remove(struct mtls_dir *d, mtls_member m, mtls_tstamp now, mtls_tstamp ttl)
{
    struct mtls_dir_proc *p = place_of(d, m);
    uint32_t n;

    if (p == NULL)
        return;
    for (n = 1; p->refs > 0 && n <= d->nentries; n++)
        remove_from(d, entry_at(d, n), m, now, ttl);
    memset(p, 0, sizeof(*p));
    d->nprocs--;
}

void mtls_dir_stats(const struct mtls_dir *d, struct mtls_dir_stats *out)
{
    out->procs = d->nprocs;
    out->sessions = d->nsessions;
    out->waiting = d->nwaiting;
    out->ended = d->nended;
    out->free = d->nentries - d->nused;
}
