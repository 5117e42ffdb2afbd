/* Concept: the directory (see directory.h): processes, sessions and claims. */
#include "directory.h"

#include <string.h>

#include "directory_mem.h"

enum { INDEX_BITS = 16 };

/* ---- Processes ---- */

bool mtls_dir_proc_at(const struct mtls_dir *d, unsigned index, struct mtls_dir_proc *out)
{
    if (index >= MTLS_DIR_PROCS_MAX)
        return false;
    mtls_dir_words(out, &d->mem->procs[index], sizeof(*out));
    return out->self != 0;
}

static uint32_t index_of(mtls_member m)
{
    return (uint32_t)(m & ((1u << INDEX_BITS) - 1)) - 1;
}

bool mtls_dir_proc(const struct mtls_dir *d, mtls_member m, struct mtls_dir_proc *out)
{
    return mtls_dir_proc_at(d, index_of(m), out) && out->self == m;
}

void mtls_dir_count_ref(struct mtls_dir *d, mtls_member m, bool more)
{
    struct mtls_dir_proc p;

    if (m != 0 && mtls_dir_proc(d, m, &p))
        mtls_dir_count(&d->mem->procs[index_of(m)].refs, more);
}

int mtls_dir_enter(struct mtls_dir *d, const struct mtls_dir_proc *who, mtls_member *out)
{
    uint32_t n, generation = mtls_dir_rd(&d->mem->generation) + 1;
    struct mtls_dir_proc p;

    for (n = 0; mtls_dir_proc_at(d, n, &p); n++)
        ;
    if (n == MTLS_DIR_PROCS_MAX)
        return MTLS_ERR_LIMIT;
    p = *who;
    p.leaving = p.refs = 0;
    p.serves = 0;
    p.self = (mtls_member)generation << INDEX_BITS | (n + 1);
    mtls_dir_wr(&d->mem->generation, generation);
    mtls_dir_words(&d->mem->procs[n], &p, sizeof(p));
    *out = p.self;
    return 0;
}

void mtls_dir_set_leaving(struct mtls_dir *d, mtls_member m)
{
    struct mtls_dir_proc p;

    if (mtls_dir_proc(d, m, &p))
        mtls_dir_wr(&d->mem->procs[index_of(m)].leaving, 1);
}

void mtls_dir_set_serves(struct mtls_dir *d, mtls_member m, uint64_t listeners)
{
    struct mtls_dir_proc p;

    if (mtls_dir_proc(d, m, &p))
        __atomic_store_n(&d->mem->procs[index_of(m)].serves, listeners, __ATOMIC_RELAXED);
}

/* The latest that stays. serves: 0: whatever it serves. */
static mtls_member latest(const struct mtls_dir *d, mtls_member besides, uint64_t serves)
{
    mtls_member best = 0;
    struct mtls_dir_proc p;
    unsigned i;

    for (i = 0; i < MTLS_DIR_PROCS_MAX; i++) {
        if (mtls_dir_proc_at(d, i, &p) && index_of(p.self) == i && p.self != besides &&
            p.leaving == 0 && (serves == 0 || p.serves == serves) && p.self > best)
            best = p.self;
    }
    return best;
}

mtls_member mtls_dir_heir(const struct mtls_dir *d, mtls_member m)
{
    return latest(d, m, 0);
}

mtls_member mtls_dir_server(const struct mtls_dir *d, mtls_member m, uint64_t listeners)
{
    return listeners != 0 ? latest(d, m, listeners) : 0;
}

/* ---- Joins ---- */

static void look(const struct mtls_dir_copy *c, struct mtls_dir_view *view)
{
    view->nsessions = c->nsessions;
    view->nclaims = c->nclaims;
    memcpy(view->owners, c->e.owners, sizeof(view->owners));
    memcpy(view->holders, c->e.holders, sizeof(view->holders));
}

/* The join's entry as it stands at now: one whose ended sessions are forgotten begins anew. */
static bool entry_now(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now,
                      struct mtls_dir_copy *c)
{
    mtls_dir_expire(d, now);
    if (!mtls_dir_find(d, join, c))
        return false;
    if (c->e.ended == 0 || c->e.ended_until > now)
        return true;
    mtls_dir_queue_remove(d, c);
    mtls_dir_save(d, c);
    return c->nclaims > 0 || c->nsessions > 0;
}

/* More than there can be: not a count of ours. */
static bool full(struct mtls_dir *d, const uint32_t *count)
{
    uint32_t n = mtls_dir_rd(count);

    d->spoilt = d->spoilt || n > d->nentries;
    return n >= d->max;
}

int mtls_dir_session_add(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN],
                         mtls_tstamp now, uint8_t *slot, struct mtls_dir_view *view)
{
    struct mtls_dir_copy c;
    bool there = entry_now(d, join, now, &c);

    if (there && c.e.ended != 0)
        return MTLS_ERR_JOIN_REUSED;
    if ((there && c.e.slots_used == MTLS_SLOTS_MAX) ||
        ((!there || c.nsessions == 0) && full(d, &d->mem->nsessions)))
        return MTLS_ERR_LIMIT;
    if (!there && !mtls_dir_make(d, join, &c))
        return MTLS_ERR_LIMIT;
    *slot = c.e.slots_used++;
    c.nsessions = (uint8_t)(c.nsessions + (c.e.owners[*slot] == 0));
    c.e.owners[*slot] = m;
    c.e.touched = now;
    mtls_dir_count_ref(d, m, true);
    mtls_dir_save(d, &c);
    look(&c, view);
    return 0;
}

static void session_out(struct mtls_dir *d, struct mtls_dir_copy *c, unsigned slot, mtls_tstamp now,
                        mtls_tstamp ttl)
{
    mtls_dir_count_ref(d, c->e.owners[slot], false);
    c->e.owners[slot] = 0;
    if (--c->nsessions > 0 || ttl == 0 || d->max_ended == 0 || c->e.ended != 0)
        return;
    c->e.ended_until = now + ttl;
    mtls_dir_queue_append(d, c);
}

void mtls_dir_session_end(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN],
                          uint8_t slot, mtls_tstamp now, mtls_tstamp ttl)
{
    struct mtls_dir_copy c;

    if (m == 0 || slot >= MTLS_SLOTS_MAX || !mtls_dir_find(d, join, &c) || c.e.owners[slot] != m)
        return;
    session_out(d, &c, slot, now, ttl);
    mtls_dir_save(d, &c);
    mtls_dir_expire(d, now);
}

int mtls_dir_claim_add(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN],
                       mtls_tstamp now, struct mtls_dir_view *view)
{
    struct mtls_dir_copy c;
    bool there = entry_now(d, join, now, &c);
    unsigned i;

    if (there && c.e.ended != 0)
        return MTLS_ERR_JOIN_REUSED;
    if (there && c.nclaims == MTLS_SLOTS_MAX)
        return MTLS_ERR_LIMIT;
    if (!there && (full(d, &d->mem->nwaiting) || !mtls_dir_make(d, join, &c)))
        return MTLS_ERR_NOMEM;
    for (i = 0; c.e.holders[i] != 0; i++)
        ;
    c.e.holders[i] = m;
    c.nclaims++;
    c.e.touched = now;
    mtls_dir_count_ref(d, m, true);
    mtls_dir_save(d, &c);
    look(&c, view);
    return 0;
}

static void claim_out(struct mtls_dir *d, struct mtls_dir_copy *c, unsigned i)
{
    mtls_dir_count_ref(d, c->e.holders[i], false);
    c->e.holders[i] = 0;
    c->nclaims--;
}

/* The number of a claim that m holds; MTLS_SLOTS_MAX: none. */
static unsigned held_by(const struct mtls_dir_copy *c, mtls_member m)
{
    unsigned i;

    for (i = 0; i < MTLS_SLOTS_MAX && (m == 0 || c->e.holders[i] != m); i++)
        ;
    return i;
}

void mtls_dir_claim_end(struct mtls_dir *d, mtls_member m, const uint8_t join[MTLS_JOIN_LEN])
{
    struct mtls_dir_copy c;
    unsigned i;

    if (!mtls_dir_find(d, join, &c) || (i = held_by(&c, m)) == MTLS_SLOTS_MAX)
        return;
    claim_out(d, &c, i);
    mtls_dir_save(d, &c);
}

void mtls_dir_claim_move(struct mtls_dir *d, mtls_member m, mtls_member to,
                         const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    struct mtls_dir_copy c;
    unsigned i;

    if (to == 0 || !mtls_dir_find(d, join, &c) || (i = held_by(&c, m)) == MTLS_SLOTS_MAX)
        return;
    c.e.holders[i] = to;
    c.e.touched = now;
    mtls_dir_count_ref(d, m, false);
    mtls_dir_count_ref(d, to, true);
    mtls_dir_save(d, &c);
}

void mtls_dir_look(struct mtls_dir *d, const uint8_t join[MTLS_JOIN_LEN],
                   struct mtls_dir_view *view)
{
    struct mtls_dir_copy c;

    memset(view, 0, sizeof(*view));
    if (mtls_dir_find(d, join, &c))
        look(&c, view);
}

/* ---- Processes that are gone, and words that were lost ---- */

static void remove_from(struct mtls_dir *d, struct mtls_dir_copy *c, mtls_member m, mtls_tstamp now,
                        mtls_tstamp ttl)
{
    bool changed = false;
    unsigned i;

    for (i = 0; i < MTLS_SLOTS_MAX; i++) {
        if (c->e.holders[i] == m) {
            claim_out(d, c, i);
            changed = true;
        }
        if (c->e.owners[i] == m) {
            session_out(d, c, i, now, ttl);
            changed = true;
        }
    }
    if (!changed)
        return;
    mtls_dir_save(d, c);
    mtls_dir_expire(d, now);
}

void mtls_dir_remove(struct mtls_dir *d, mtls_member m, mtls_tstamp now, mtls_tstamp ttl)
{
    static const struct mtls_dir_proc none;
    uint32_t n, fresh = mtls_dir_fresh(d);
    struct mtls_dir_copy c;
    struct mtls_dir_proc p;

    if (!mtls_dir_proc(d, m, &p))
        return;
    for (n = 1; p.refs > 0 && n < fresh; n++) {
        mtls_dir_walked(d, n);
        if (mtls_dir_load(d, n, &c) && c.e.used != 0)
            remove_from(d, &c, m, now, ttl);
        p.refs = mtls_dir_rd(&d->mem->procs[index_of(m)].refs);
    }
    mtls_dir_words(&d->mem->procs[index_of(m)], &none, sizeof(none));
}

/* Whether m stands there for something that it has not got, or is nobody. */
static bool is_over(const struct mtls_dir *d, const struct mtls_dir_sweep *s, mtls_member m,
                    bool has)
{
    struct mtls_dir_proc p;

    if (m == 0)
        return false;
    return m == s->member ? !has : !mtls_dir_proc(d, m, &p);
}

static unsigned sweep_entry(struct mtls_dir *d, const struct mtls_dir_sweep *s,
                            struct mtls_dir_copy *c, mtls_tstamp now)
{
    uint8_t slots = 0, nclaims = 0;
    unsigned i, n = 0;

    s->has(s->arg, c->e.join, &slots, &nclaims);
    for (i = 0; i < MTLS_SLOTS_MAX; i++) {
        if (is_over(d, s, c->e.holders[i], nclaims > 0)) {
            claim_out(d, c, i);
            n++;
        } else if (c->e.holders[i] == s->member) {
            nclaims--;
        }
        if (is_over(d, s, c->e.owners[i], (slots >> i & 1) != 0)) {
            session_out(d, c, i, now, s->ttl);
            n++;
        }
    }
    if (c->e.ended != 0 && c->e.ended_until > now + s->ttl) { /* not a time of ours */
        mtls_dir_queue_remove(d, c);
        n++;
    }
    if (n == 0)
        return 0;
    mtls_dir_save(d, c);
    mtls_dir_expire(d, now);
    return n;
}

unsigned mtls_dir_sweep(struct mtls_dir *d, struct mtls_dir_sweep *s, uint32_t count,
                        mtls_tstamp now)
{
    uint32_t n = s->at == MTLS_DIR_NONE ? 1 : s->at, fresh = mtls_dir_fresh(d);
    struct mtls_dir_copy c;
    unsigned out = 0;

    mtls_dir_expire(d, now);
    for (; count > 0 && n < fresh; n++, count--) {
        if (!mtls_dir_load(d, n, &c) || c.e.used == 0)
            continue;
        if (c.e.touched > now || now - c.e.touched >= s->age)
            out += sweep_entry(d, s, &c, now);
    }
    s->at = n < fresh ? n : MTLS_DIR_NONE;
    return out;
}
