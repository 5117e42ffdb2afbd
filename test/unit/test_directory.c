/* The directory of a service's processes: sessions and claims of joins, ended ones, full tables,
 * processes that die, words that were lost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/directory_mem.h"

enum { MAX = 4, MAX_ENDED = 3, TTL = 60 };

struct fix {
    struct mtls_dir *d;
    void *mem;
    mtls_member a, b;
};

static const uint8_t seed[MTLS_DIR_SEED_LEN] = {1, 2, 3};

static mtls_member enter(struct mtls_dir *d, uint32_t pid)
{
    struct mtls_dir_proc who = {.pid = pid, .uid = 1000, .name = {(uint8_t)pid}};
    mtls_member m = 0;

    assert_int_equal(mtls_dir_enter(d, &who, &m), 0);
    return m;
}

static int start(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));

    f->mem = aligned_alloc(64, (mtls_dir_size(MAX, MAX_ENDED) + 63) / 64 * 64);
    memset(f->mem, 0, mtls_dir_size(MAX, MAX_ENDED));
    assert_int_equal(mtls_dir_new(&f->d, f->mem, MAX, MAX_ENDED, seed), 0);
    f->a = enter(f->d, 10);
    f->b = enter(f->d, 11);
    *state = f;
    return 0;
}

static int take_down(void **state)
{
    struct fix *f = *state;

    mtls_dir_free(f->d);
    free(f->mem);
    free(f);
    return 0;
}

static const uint8_t *join(unsigned n)
{
    static uint8_t j[MTLS_JOIN_LEN];

    memset(j, 0, sizeof(j));
    j[0] = (uint8_t)n;
    j[15] = (uint8_t)(n >> 8);
    return j;
}

static int session(struct fix *f, mtls_member m, unsigned n, mtls_tstamp now, uint8_t *slot)
{
    struct mtls_dir_view view;

    return mtls_dir_session_add(f->d, m, join(n), now, slot, &view);
}

static int claim(struct fix *f, mtls_member m, unsigned n, mtls_tstamp now)
{
    struct mtls_dir_view view;

    return mtls_dir_claim_add(f->d, m, join(n), now, &view);
}

static struct mtls_dir_stats stats(const struct fix *f)
{
    struct mtls_dir_stats s;

    mtls_dir_stats(f->d, &s);
    return s;
}

static void assert_empty(const struct fix *f)
{
    struct mtls_dir_stats s = stats(f);

    assert_int_equal(s.sessions, 0);
    assert_int_equal(s.waiting, 0);
    assert_int_equal(s.ended, 0);
    assert_int_equal(s.free, 2 * MAX + MAX_ENDED);
}

/* Whoever comes second hears of the first, in either order. */
static void both_orders(void **state)
{
    struct fix *f = *state;
    struct mtls_dir_view view;
    uint8_t slot = 9;

    assert_int_equal(mtls_dir_claim_add(f->d, f->a, join(1), 0, &view), 0);
    assert_int_equal(view.nsessions, 0);
    assert_int_equal(stats(f).waiting, 1);
    assert_int_equal(mtls_dir_session_add(f->d, f->b, join(1), 0, &slot, &view), 0);
    assert_int_equal(slot, 0);
    assert_true(view.holders[0] == f->a);
    assert_int_equal(stats(f).waiting, 0);
    assert_int_equal(mtls_dir_session_add(f->d, f->b, join(2), 0, &slot, &view), 0);
    assert_int_equal(mtls_dir_claim_add(f->d, f->a, join(2), 0, &view), 0);
    assert_true(view.owners[0] == f->b);
    mtls_dir_claim_move(f->d, f->a, f->b, join(2), 0);
    mtls_dir_look(f->d, join(2), &view);
    assert_true(view.holders[0] == f->b);
    mtls_dir_claim_end(f->d, f->a, join(2)); /* not its claim any more */
    mtls_dir_look(f->d, join(2), &view);
    assert_int_equal(view.nclaims, 1);
    mtls_dir_claim_end(f->d, f->b, join(2));
    mtls_dir_claim_end(f->d, f->a, join(1));
    mtls_dir_session_end(f->d, f->b, join(1), 0, 0, 0);
    mtls_dir_session_end(f->d, f->a, join(2), 0, 0, 0); /* not its session */
    assert_int_equal(stats(f).sessions, 1);
    mtls_dir_session_end(f->d, f->b, join(2), 0, 0, 0);
    assert_empty(f);
}

/* [SRV-6] [PRF-2] slots are given once for all processes; [SRV-8] the join of ended sessions. */
static void copies_and_ended(void **state)
{
    struct fix *f = *state;
    uint8_t slot, i;

    for (i = 0; i < MTLS_SLOTS_MAX; i++) {
        assert_int_equal(session(f, i % 2 ? f->a : f->b, 1, 0, &slot), 0);
        assert_int_equal(slot, i);
    }
    assert_int_equal(session(f, f->a, 1, 0, &slot), MTLS_ERR_LIMIT);
    for (i = 0; i < MTLS_SLOTS_MAX; i++) {
        assert_int_equal(claim(f, f->a, 1, 0), 0);
        mtls_dir_claim_end(f->d, f->a, join(1));
        mtls_dir_session_end(f->d, i % 2 ? f->a : f->b, join(1), i, 5, TTL);
    }
    assert_int_equal(stats(f).ended, 1);
    assert_int_equal(session(f, f->a, 1, 5 + TTL - 1, &slot), MTLS_ERR_JOIN_REUSED);
    assert_int_equal(claim(f, f->b, 1, 5 + TTL - 1), MTLS_ERR_JOIN_REUSED);
    assert_int_equal(session(f, f->a, 1, 5 + TTL, &slot), 0);
    assert_int_equal(slot, 0);
    mtls_dir_session_end(f->d, f->a, join(1), 0, 0, 0);
    assert_empty(f);
}

static void open_claims_of_a_join(void **state)
{
    struct fix *f = *state;
    unsigned i;

    for (i = 0; i < MTLS_SLOTS_MAX; i++)
        assert_int_equal(claim(f, i % 2 ? f->a : f->b, 1, 0), 0);
    assert_int_equal(claim(f, f->a, 1, 0), MTLS_ERR_LIMIT); /* [SRV-5] */
    mtls_dir_claim_end(f->d, f->b, join(1));
    assert_int_equal(claim(f, f->a, 1, 0), 0);
}

static void full(void **state)
{
    struct fix *f = *state;
    uint8_t slot;
    unsigned i;

    for (i = 0; i < MAX; i++) {
        assert_int_equal(session(f, f->a, i, 0, &slot), 0);
        assert_int_equal(claim(f, f->a, 100 + i, 0), 0);
    }
    assert_int_equal(session(f, f->a, 50, 0, &slot), MTLS_ERR_LIMIT);
    assert_int_equal(claim(f, f->a, 150, 0), MTLS_ERR_NOMEM);
    assert_int_equal(claim(f, f->a, 0, 0), 0); /* waits for nothing: takes no room */
    mtls_dir_claim_end(f->d, f->a, join(0));
    /* The ended ones have their own room, and the oldest goes. */
    for (i = 0; i < 2 * MAX_ENDED; i++) {
        mtls_dir_session_end(f->d, f->a, join(i), 0, i, TTL);
        assert_int_equal(session(f, f->a, i + MAX, i, &slot), 0);
    }
    assert_int_equal(stats(f).ended, MAX_ENDED);
    assert_int_equal(session(f, f->a, 2 * MAX_ENDED - 1, 9, &slot), MTLS_ERR_JOIN_REUSED);
    for (i = 0; i < MAX; i++)
        mtls_dir_claim_end(f->d, f->a, join(100 + i));
    assert_int_equal(stats(f).waiting, 0);
}

static void process_dies(void **state)
{
    struct fix *f = *state;
    struct mtls_dir_proc p;
    struct mtls_dir_view view;
    mtls_member again;
    uint8_t slot;

    assert_int_equal(session(f, f->a, 1, 0, &slot), 0);
    assert_int_equal(session(f, f->b, 1, 0, &slot), 0);
    assert_int_equal(session(f, f->a, 2, 0, &slot), 0);
    assert_int_equal(claim(f, f->a, 3, 0), 0);
    assert_int_equal(claim(f, f->b, 3, 0), 0);
    assert_true(mtls_dir_proc(f->d, f->a, &p) && p.pid == 10 && p.refs == 3);
    mtls_dir_remove(f->d, f->a, 7, TTL);
    mtls_dir_remove(f->d, f->a, 7, TTL); /* once is enough */
    assert_false(mtls_dir_proc(f->d, f->a, &p));
    mtls_dir_look(f->d, join(1), &view);
    assert_int_equal(view.nsessions, 1);
    assert_true(view.owners[0] == 0 && view.owners[1] == f->b);
    assert_int_equal(session(f, f->b, 2, 8, &slot), MTLS_ERR_JOIN_REUSED);
    mtls_dir_look(f->d, join(3), &view);
    assert_int_equal(view.nclaims, 1);
    assert_int_equal(stats(f).procs, 1);
    again = enter(f->d, 10); /* the same place is another member */
    assert_true(again != f->a);
    mtls_dir_session_end(f->d, again, join(1), 1, 8, TTL);
    mtls_dir_look(f->d, join(1), &view);
    assert_int_equal(view.nsessions, 1);
}

static void heirs_and_room_for_processes(void **state)
{
    struct fix *f = *state;
    struct mtls_dir_proc who = {.pid = 5};
    mtls_member m, last = f->b;
    unsigned i;

    assert_true(mtls_dir_heir(f->d, f->a) == f->b);
    assert_true(mtls_dir_heir(f->d, f->b) == f->a);
    assert_true(mtls_dir_server(f->d, f->a, 7) == 0);
    mtls_dir_set_serves(f->d, f->b, 7);
    assert_true(mtls_dir_server(f->d, f->a, 7) == f->b);
    assert_true(mtls_dir_server(f->d, f->b, 7) == 0);
    assert_true(mtls_dir_server(f->d, f->a, 8) == 0);
    assert_true(mtls_dir_server(f->d, f->a, 0) == 0);
    mtls_dir_set_leaving(f->d, f->b);
    assert_true(mtls_dir_server(f->d, f->a, 7) == 0);
    assert_true(mtls_dir_heir(f->d, f->a) == 0);
    for (i = 2; i < MTLS_DIR_PROCS_MAX; i++)
        last = enter(f->d, 100 + i);
    assert_true(mtls_dir_heir(f->d, f->a) == last);
    assert_int_equal(mtls_dir_enter(f->d, &who, &m), MTLS_ERR_LIMIT);
    mtls_dir_remove(f->d, last, 0, 0);
    assert_int_equal(mtls_dir_enter(f->d, &who, &m), 0);
}

/* After a death in the middle of a change everything is made anew from the entries. */
static void repair(void **state)
{
    struct fix *f = *state;
    struct mtls_dir_stats before;
    struct mtls_dir_view view;
    uint8_t slot;

    assert_int_equal(session(f, f->a, 1, 0, &slot), 0);
    assert_int_equal(claim(f, f->b, 1, 0), 0);
    assert_int_equal(claim(f, f->b, 2, 0), 0);
    assert_int_equal(session(f, f->b, 3, 0, &slot), 0);
    mtls_dir_session_end(f->d, f->b, join(3), 0, 0, TTL);
    before = stats(f);
    mtls_dir_repair(f->d);
    assert_int_equal(stats(f).sessions, before.sessions);
    assert_int_equal(stats(f).waiting, before.waiting);
    assert_int_equal(stats(f).ended, before.ended);
    assert_int_equal(stats(f).free, before.free);
    mtls_dir_look(f->d, join(1), &view);
    assert_true(view.owners[0] == f->a && view.holders[0] == f->b);
    assert_int_equal(session(f, f->a, 3, 1, &slot), MTLS_ERR_JOIN_REUSED);
    mtls_dir_remove(f->d, f->b, 1, TTL);
    mtls_dir_session_end(f->d, f->a, join(1), 0, 1, 0);
    assert_int_equal(claim(f, f->a, 9, TTL), 0);
    mtls_dir_claim_end(f->d, f->a, join(9));
    assert_empty(f);
}

/* Another process finds what this one has made, if it is all there. */
static void another_view(void **state)
{
    struct fix *f = *state;
    size_t size = mtls_dir_size(MAX, MAX_ENDED);
    struct mtls_dir_view view;
    struct mtls_dir *d;
    uint8_t slot;

    assert_int_equal(mtls_dir_open(&d, f->mem, size - 1), MTLS_ERR_ARG);
    assert_int_equal(mtls_dir_open(&d, f->mem, 0), MTLS_ERR_ARG);
    assert_int_equal(session(f, f->a, 1, 0, &slot), 0);
    assert_int_equal(mtls_dir_open(&d, f->mem, size), 0);
    mtls_dir_look(d, join(1), &view);
    assert_true(view.owners[0] == f->a);
    mtls_dir_free(d);
    ((uint8_t *)f->mem)[0] ^= 1;
    assert_int_equal(mtls_dir_open(&d, f->mem, size), MTLS_ERR_ARG);
}

struct has {
    uint8_t slots, nclaims;
    unsigned asked;
};

static void has(void *arg, const uint8_t j[MTLS_JOIN_LEN], uint8_t *slots, uint8_t *nclaims)
{
    struct has *h = arg;

    h->asked++;
    *slots = h->slots;
    *nclaims = h->nclaims;
}

static unsigned sweep_all(struct fix *f, struct has *h, mtls_tstamp now)
{
    struct mtls_dir_sweep s = {.member = f->a, .age = 30, .ttl = TTL, .has = has, .arg = h};
    unsigned n = mtls_dir_sweep(f->d, &s, 1000, now);

    assert_int_equal(s.at, 0);
    return n;
}

/* What a member does not have is taken out in time, what it has stays, and so does what is others'.
 */
static void sweep(void **state)
{
    struct fix *f = *state;
    struct has h = {.slots = 1, .nclaims = 1};
    struct mtls_dir_view view;
    uint8_t slot;

    assert_int_equal(session(f, f->a, 1, 0, &slot), 0);
    assert_int_equal(session(f, f->a, 1, 0, &slot), 0);
    assert_int_equal(session(f, f->b, 1, 0, &slot), 0);
    assert_int_equal(claim(f, f->a, 1, 0), 0);
    assert_int_equal(claim(f, f->b, 1, 0), 0);
    mtls_dir_claim_move(f->d, f->b, f->a, join(1), 7); /* on its way until now */
    assert_int_equal(claim(f, f->b, 1, 7), 0);
    assert_int_equal(sweep_all(f, &h, 36), 0);
    assert_int_equal(h.asked, 0);
    assert_int_equal(sweep_all(f, &h, 37), 2);
    mtls_dir_look(f->d, join(1), &view);
    assert_true(view.owners[0] == f->a && view.owners[1] == 0 && view.owners[2] == f->b);
    assert_int_equal(view.nclaims, 2);
    assert_int_equal(sweep_all(f, &h, 38), 0);
    /* Its place is somebody else's: nobody will ever end these. */
    ((struct mtls_dir_memory *)f->mem)->procs[1].self = 0;
    assert_int_equal(sweep_all(f, &h, 40), 2);
    h.slots = h.nclaims = 0;
    assert_int_equal(sweep_all(f, &h, 40), 2);
    assert_int_equal(stats(f).ended, 1);
    assert_int_equal(claim(f, f->a, 1, 40 + TTL - 1), MTLS_ERR_JOIN_REUSED);
    assert_int_equal(sweep_all(f, &h, 40 + TTL), 0); /* forgets what is over */
    assert_empty(f);
}

static void sweep_in_steps(void **state)
{
    struct fix *f = *state;
    struct has h = {0};
    struct mtls_dir_sweep s = {.member = f->a, .age = 30, .ttl = TTL, .has = has, .arg = &h};
    unsigned i, steps = 1, out = 0;

    for (i = 0; i < MAX; i++)
        assert_int_equal(claim(f, f->a, i, 0), 0);
    assert_int_equal(claim(f, f->a, 9, 0), MTLS_ERR_NOMEM);
    for (out = mtls_dir_sweep(f->d, &s, 1, 30); s.at != 0; steps++)
        out += mtls_dir_sweep(f->d, &s, 1, 30);
    assert_int_equal(steps, MAX);
    assert_int_equal(out, MAX);
    assert_empty(f);
    assert_int_equal(claim(f, f->a, 9, 31), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(both_orders, start, take_down),
        cmocka_unit_test_setup_teardown(copies_and_ended, start, take_down),
        cmocka_unit_test_setup_teardown(open_claims_of_a_join, start, take_down),
        cmocka_unit_test_setup_teardown(full, start, take_down),
        cmocka_unit_test_setup_teardown(process_dies, start, take_down),
        cmocka_unit_test_setup_teardown(heirs_and_room_for_processes, start, take_down),
        cmocka_unit_test_setup_teardown(repair, start, take_down),
        cmocka_unit_test_setup_teardown(another_view, start, take_down),
        cmocka_unit_test_setup_teardown(sweep, start, take_down),
        cmocka_unit_test_setup_teardown(sweep_in_steps, start, take_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
