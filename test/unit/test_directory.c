/* The directory of a service's processes: sessions and claims of joins, ended ones, full tables,
 * processes that die, memory that somebody has spoilt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/directory.h"

enum { MAX = 4, MAX_ENDED = 3, TTL = 60 };

struct fix {
    struct mtls_dir *d;
    mtls_member a, b;
};

static const uint8_t seed[MTLS_DIR_SEED_LEN] = {1, 2, 3};

static mtls_member enter(struct mtls_dir *d, uint32_t pid)
{
    uint8_t name[MTLS_DIR_NAME_LEN] = {(uint8_t)pid};
    mtls_member m = 0;

    assert_int_equal(mtls_dir_enter(d, pid, 1000, name, &m), 0);
    return m;
}

static int start(void **state)
{
    struct fix *f = calloc(1, sizeof(*f));

    f->d = calloc(1, mtls_dir_size(MAX, MAX_ENDED));
    mtls_dir_init(f->d, MAX, MAX_ENDED, seed);
    f->a = enter(f->d, 10);
    f->b = enter(f->d, 11);
    *state = f;
    return 0;
}

static int take_down(void **state)
{
    struct fix *f = *state;

    free(f->d);
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
    mtls_dir_claim_move(f->d, f->a, f->b, join(2));
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
    uint8_t name[MTLS_DIR_NAME_LEN] = {0};
    mtls_member m, last = f->b;
    unsigned i;

    assert_true(mtls_dir_heir(f->d, f->a) == f->b);
    assert_true(mtls_dir_heir(f->d, f->b) == f->a);
    mtls_dir_set_leaving(f->d, f->b);
    assert_true(mtls_dir_heir(f->d, f->a) == 0);
    for (i = 2; i < MTLS_DIR_PROCS_MAX; i++)
        last = enter(f->d, 100 + i);
    assert_true(mtls_dir_heir(f->d, f->a) == last);
    assert_int_equal(mtls_dir_enter(f->d, 5, 0, name, &m), MTLS_ERR_LIMIT);
    mtls_dir_remove(f->d, last, 0, 0);
    assert_int_equal(mtls_dir_enter(f->d, 5, 0, name, &m), 0);
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

/* Whatever stands in the memory, no walk leaves it or goes on for ever. */
static void spoilt(void **state)
{
    struct fix *f = *state;
    size_t size = mtls_dir_size(MAX, MAX_ENDED), i;
    uint8_t *copy = malloc(size), slot;
    struct mtls_dir *d = f->d;

    assert_true(mtls_dir_valid(d, size));
    assert_false(mtls_dir_valid(d, size - 1));
    assert_false(mtls_dir_valid(d, 0));
    assert_int_equal(session(f, f->a, 1, 0, &slot), 0);
    assert_int_equal(claim(f, f->b, 2, 0), 0);
    assert_int_equal(session(f, f->b, 3, 0, &slot), 0);
    mtls_dir_session_end(d, f->b, join(3), 0, 0, TTL);
    memcpy(copy, d, size);
    for (i = 0; i < size; i++) {
        ((uint8_t *)d)[i] ^= 0xff;
        if (mtls_dir_valid(d, size)) {
            for (unsigned n = 0; n < 6; n++) {
                (void)!session(f, f->a, n, 1, &slot);
                (void)!claim(f, f->b, n, 1);
                mtls_dir_claim_end(d, f->b, join(n));
                mtls_dir_session_end(d, f->a, join(n), 0, 2, TTL);
            }
            mtls_dir_remove(d, f->a, 3, TTL);
            mtls_dir_repair(d);
        }
        memcpy(d, copy, size);
    }
    free(copy);
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
        cmocka_unit_test_setup_teardown(spoilt, start, take_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
