/* Concept: ends that must reach the directory (see share_ends.h). */
#include "share_ends.h"

#include <stdlib.h>
#include <string.h>

#include "share.h"

enum { STEP = 1024, STEP_PAUSE_US = 10000, PROBES = 16, CLAIM = MTLS_SLOTS_MAX };

struct end {
    uint8_t join[MTLS_JOIN_LEN], slot; /* CLAIM: of a claim */
};

static struct {
    struct mtls_reactor *reactor;
    mtls_tstamp ended_ttl;
    struct end *list;
    size_t n, cap;
    struct mtls_timer *again, *search;
    bool searching; /* the timer is set */
    struct mtls_dir_sweep sweep;
    unsigned next_place;
    mtls_peers_lost_fn *gone;
} ends;

static void say(struct mtls_dir *d, const struct end *e, mtls_tstamp now)
{
    if (e->slot == CLAIM)
        mtls_dir_claim_end(d, mtls_share_self(), e->join);
    else
        mtls_dir_session_end(d, mtls_share_self(), e->join, e->slot, now, ends.ended_ttl);
}

static void keep(const struct end *e, mtls_tstamp now)
{
    struct end *grown;
    size_t cap = ends.cap == 0 ? 64 : ends.cap * 2;

    if (ends.n == ends.cap) {
        grown = cap <= MTLS_ENDS_MAX ? realloc(ends.list, cap * sizeof(*grown)) : NULL;
        if (grown == NULL)
            return;
        ends.list = grown;
        ends.cap = cap;
    }
    ends.list[ends.n++] = *e;
    if (ends.n == 1 && ends.again != NULL)
        mtls_timer_set(ends.again, now + MTLS_ENDS_AGAIN_US);
}

static void end(const uint8_t join[MTLS_JOIN_LEN], uint8_t slot, mtls_tstamp now)
{
    struct mtls_dir *d;
    struct end e = {.slot = slot};

    memcpy(e.join, join, MTLS_JOIN_LEN);
    if (mtls_share_self() == 0)
        return;
    if ((d = mtls_share_lock()) == NULL) {
        keep(&e, now);
        return;
    }
    say(d, &e, now);
    mtls_share_unlock();
}

void mtls_ends_session(const uint8_t join[MTLS_JOIN_LEN], uint8_t slot, mtls_tstamp now)
{
    end(join, slot, now);
}

void mtls_ends_claim(const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    end(join, CLAIM, now);
}

/* False: it is still locked. */
static bool say_kept(mtls_tstamp now)
{
    struct mtls_dir *d = ends.n > 0 ? mtls_share_lock() : NULL;

    if (d == NULL)
        return ends.n == 0;
    while (ends.n > 0)
        say(d, &ends.list[--ends.n], now);
    mtls_share_unlock();
    return true;
}

static void on_again(void *arg, mtls_tstamp now)
{
    if (!say_kept(now))
        mtls_timer_set(ends.again, now + MTLS_ENDS_AGAIN_US);
}

/* ---- The search ---- */

/* Members that have something here, and with whom there is no link that would tell of their end. */
static void probe_some(mtls_tstamp now)
{
    const struct mtls_dir *d = mtls_share_peek();
    unsigned i, probes = 0;
    struct mtls_dir_proc p;

    for (i = 0; i < MTLS_DIR_PROCS_MAX && probes < PROBES; i++) {
        unsigned place = ends.next_place;

        ends.next_place = (place + 1) % MTLS_DIR_PROCS_MAX;
        if (!mtls_dir_proc_at(d, place, &p) || p.self == mtls_share_self() || p.refs == 0 ||
            mtls_peers_linked(p.self))
            continue;
        probes++;
        if (!mtls_peers_probe(&p))
            ends.gone(p.self, now);
    }
}

/* One step. False: the directory is locked. */
static bool step(mtls_tstamp now, unsigned *out)
{
    struct mtls_dir *d = mtls_share_lock();

    if (d == NULL)
        return false;
    ends.sweep.member = mtls_share_self();
    *out += mtls_dir_sweep(d, &ends.sweep, STEP, now);
    mtls_share_unlock();
    return true;
}

static bool anything(void)
{
    struct mtls_dir_stats s;

    mtls_dir_stats(mtls_share_peek(), &s);
    return s.sessions + s.waiting + s.ended > 0;
}

static void on_search(void *arg, mtls_tstamp now)
{
    mtls_tstamp pause = MTLS_ENDS_AGAIN_US;
    unsigned out = 0;

    if (ends.sweep.at == 0)
        probe_some(now);
    if (step(now, &out))
        pause = ends.sweep.at != 0 ? STEP_PAUSE_US : MTLS_SWEEP_EVERY_US;
    ends.searching = pause != MTLS_SWEEP_EVERY_US || anything();
    if (ends.searching)
        mtls_timer_set(ends.search, now + pause);
}

void mtls_ends_begun(mtls_tstamp now)
{
    if (ends.search == NULL || ends.searching)
        return;
    ends.searching = true;
    mtls_timer_set(ends.search, now + MTLS_SWEEP_EVERY_US);
}

unsigned mtls_ends_sweep(mtls_tstamp now)
{
    unsigned out = 0;

    probe_some(now);
    ends.sweep.at = 0;
    while (step(now, &out) && ends.sweep.at != 0)
        ;
    return out;
}

/* ---- Life ---- */

int mtls_ends_open(struct mtls_reactor *r, mtls_tstamp ended_ttl, mtls_dir_has_fn *has,
                   mtls_peers_lost_fn *gone)
{
    int err;

    mtls_timer_free(ends.again);
    mtls_timer_free(ends.search);
    ends.again = ends.search = NULL;
    ends.searching = false;
    ends.ended_ttl = ended_ttl;
    ends.gone = gone;
    ends.sweep = (struct mtls_dir_sweep){.age = MTLS_SWEEP_EVERY_US, .ttl = ended_ttl, .has = has};
    if ((err = mtls_timer_new(&ends.again, r, on_again, NULL)) == 0)
        err = mtls_timer_new(&ends.search, r, on_search, NULL);
    return err;
}

void mtls_ends_close(void)
{
    ends.n = 0; /* all of it goes with the membership */
    mtls_timer_free(ends.again);
    mtls_timer_free(ends.search);
    ends.again = ends.search = NULL;
    ends.searching = false;
}

void mtls_ends_fork_child(void)
{
    mtls_ends_close();
    free(ends.list);
    memset(&ends, 0, sizeof(ends));
}
