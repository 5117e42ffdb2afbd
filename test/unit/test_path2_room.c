/* The server's end of path 2: room for connections, and who goes when there is none [RDY-2]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "alloc_sweep.h"
#include "mtls/core/path2_internal.h"
#include "path2_lab.h"

enum { ROOM = 8, HALF = ROOM / 2 };

static void room_start(struct lab *lab)
{
    *lab = (struct lab){.config = lab_config()};
    lab->config.conns_max = ROOM;
    lab_start(lab);
}

/* A connection with an open claim of its own. */
static struct peer *claimer(struct lab *lab, struct mtls_addr addr, uint32_t secret)
{
    struct peer *p = peer_new(lab, addr);

    peer_greet(p);
    side_open(p, 1, secret, 0);
    return p;
}

/* A connection whose only claim has ended. */
static struct peer *idler(struct lab *lab, struct mtls_addr addr, uint32_t secret)
{
    struct peer *p = claimer(lab, addr, secret);
    uint8_t fail[MTLS_FAIL_LEN];

    mtls_frame_fail(fail, 1, 0);
    assert_int_equal(peer_send(p, fail, sizeof(fail)), 0);
    return p;
}

static void assert_gone(const struct lab *lab, const struct peer *p, unsigned closes)
{
    assert_int_equal(lab->closes, closes);
    assert_ptr_equal(lab->closed_conn, p);
    assert_int_equal(lab->close_error, MTLS_ERR_LIMIT);
    assert_int_equal(p->conn->err, MTLS_ERR_LIMIT);
}

static void free_all(struct peer **p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        peer_free(p[i]);
}

/* Of a source that has its share the oldest silent one goes, others' stay, and then the oldest
 * without a claim. */
static void a_source_makes_room_of_its_own(void **state)
{
    struct mtls_addr greedy = lab_v4(2, 1),
                     mapped = {.family = 6, .ip = {[10] = 0xff, 0xff, 192, 0, 2, 1}};
    struct peer *p[ROOM], *other;
    struct lab lab;

    room_start(&lab);
    other = peer_new(&lab, lab_v4(3, 1)); /* the oldest of all */
    p[0] = idler(&lab, greedy, 100);
    p[1] = peer_new(&lab, greedy);
    p[2] = peer_new(&lab, greedy);
    p[3] = claimer(&lab, greedy, 101);
    assert_int_equal(lab.closes, 0);
    p[4] = peer_new(&lab, mapped);
    assert_gone(&lab, p[1], 1);
    p[5] = claimer(&lab, greedy, 102);
    assert_gone(&lab, p[2], 2);
    p[6] = claimer(&lab, greedy, 103);
    assert_gone(&lab, p[4], 3);
    p[7] = claimer(&lab, greedy, 104);
    assert_gone(&lab, p[0], 4);
    assert_int_equal(lab_stats(&lab).evicted, 4);
    assert_int_equal(lab_stats(&lab).conn_errors, 0);
    assert_int_equal(lab_stats(&lab).ready_busy, 0);
    assert_int_equal(other->conn->err, 0);
    free_all(p, ROOM);
    peer_free(other);
    assert_int_equal(lab.server->pending.sources.used, 0);
    assert_int_equal(lab.server->nroom, 0);
    lab_stop(&lab);
}

/* All of the source's have claims: its next one hears READY{busy} and no silence, other sources are
 * served. */
static void busy_for_the_greedy_alone(void **state)
{
    struct peer *p[HALF], *late, *other;
    struct lab lab;

    room_start(&lab);
    for (uint32_t i = 0; i < HALF; i++)
        p[i] = claimer(&lab, lab_v4(2, 1), 100 + i);
    late = peer_new(&lab, lab_v4(2, 1));
    assert_int_equal(lab.closes, 0);
    peer_greet(late);
    assert_int_equal(peer_hello(late, 1, 200, 0), MTLS_ERR_LIMIT); /* to be closed */
    peer_expect_ready(late, 1, MTLS_READY_BUSY, NULL);
    peer_expect_nothing(late);
    assert_int_equal(lab_stats(&lab).ready_busy, 1);
    assert_int_equal(lab_stats(&lab).conn_errors, 0);
    assert_int_equal(lab.server->nbusy, 0);
    other = claimer(&lab, lab_v4(2, 2), 201);
    peer_free(late);
    peer_free(p[0]);
    p[0] = claimer(&lab, lab_v4(2, 1), 202); /* a place is free again */
    free_all(p, HALF);
    peer_free(other);
    lab_stop(&lab);
}

/* Full with connections of many sources: silent ones go first, whosever, then those without a
 * claim; one with a claim never. */
static void the_server_makes_room(void **state)
{
    struct peer *p[ROOM], *q[5];
    struct lab lab;

    room_start(&lab);
    for (uint8_t i = 0; i < ROOM; i++)
        p[i] = i == 3   ? idler(&lab, lab_v4(2, i), 100)
               : i == 5 ? peer_new(&lab, lab_v4(2, i))
                        : claimer(&lab, lab_v4(2, i), 101u + i);
    q[0] = claimer(&lab, lab_v4(3, 0), 200);
    assert_gone(&lab, p[5], 1);
    q[1] = claimer(&lab, lab_v4(3, 1), 201);
    assert_gone(&lab, p[3], 2);
    q[2] = peer_new(&lab, lab_v4(3, 2));
    assert_int_equal(lab.closes, 2);
    peer_greet(q[2]);
    assert_int_equal(peer_hello(q[2], 1, 202, 0), MTLS_ERR_LIMIT);
    peer_expect_ready(q[2], 1, MTLS_READY_BUSY, NULL);
    q[3] = peer_new(&lab, lab_v4(3, 3)); /* not-here goes before busy [RDY-3] */
    lab.config.ntls_ports = 1;
    lab.config.tls_ports[0] = 443;
    mtls_p2s_set_config(lab.server, &lab.config);
    peer_greet(q[3]);
    assert_int_equal(peer_hello_to(q[3], 1, 203, 0, 444), MTLS_ERR_LIMIT);
    peer_expect_ready(q[3], 1, MTLS_READY_NOT_HERE, NULL);
    assert_true(!mtls_p2s_evict(lab.server, lab.now));
    q[4] = peer_new(&lab, lab_v4(3, 4));
    assert_true(mtls_p2s_evict(lab.server, lab.now)); /* descriptors: a busy one may go */
    assert_gone(&lab, q[4], 3);
    assert_int_equal(lab.server->nroom, ROOM);
    free_all(p, ROOM);
    free_all(q, 5);
    assert_int_equal(lab.server->nroom, 0);
    assert_int_equal(lab.server->pending.sources.used, 0);
    lab_stop(&lab);
}

/* Those that wait for their READY{busy} are few and do not stay. */
static void busy_ones_are_bounded(void **state)
{
    enum { BUSY = ROOM / 4 + 1 };
    struct peer *p[ROOM], *q[BUSY + 1];
    struct lab lab;

    room_start(&lab);
    for (uint8_t i = 0; i < ROOM; i++)
        p[i] = claimer(&lab, lab_v4(2, i), 100u + i);
    for (size_t i = 0; i < BUSY; i++)
        q[i] = peer_new(&lab, lab_v4(3, 1));
    assert_int_equal(lab.closes, 0);
    assert_int_equal(lab.server->nbusy, BUSY);
    q[BUSY] = peer_new(&lab, lab_v4(3, 1));
    assert_gone(&lab, q[0], 1);
    assert_int_equal(lab.server->nbusy, BUSY);
    assert_true(mtls_p2s_deadline(lab.server) <= lab.now + 11 * SEC);
    lab.now += 11 * SEC;
    mtls_p2s_expire(lab.server, lab.now);
    assert_int_equal(lab.closes, 1 + BUSY + 0);
    assert_int_equal(lab.server->nbusy, 0);
    free_all(p, ROOM);
    free_all(q, BUSY + 1);
    lab_stop(&lab);
}

/* A lower limit takes hold with the next connections; the least is one, and one of a source. */
static void limits_may_change(void **state)
{
    struct peer *p[3];
    struct lab lab;

    room_start(&lab);
    p[0] = peer_new(&lab, lab_v4(2, 1));
    p[1] = peer_new(&lab, lab_v4(2, 2));
    lab.config.conns_max = 1;
    mtls_p2s_set_config(lab.server, &lab.config);
    p[2] = peer_new(&lab, lab_v4(2, 2));
    assert_gone(&lab, p[0], 2); /* its own for the source's share, another for the room */
    assert_int_equal(p[1]->conn->err, MTLS_ERR_LIMIT);
    free_all(p, 3);
    lab_stop(&lab);
}

static int enter_run(void *arg)
{
    struct lab lab;
    struct mtls_p2s_conn *c = NULL;
    struct mtls_addr addr = lab_v4(2, 1);
    struct mtls_p2s_config config = lab_config();
    int rc = mtls_p2s_new(&lab.server, lab_crypto, &config, &lab_events, &lab);

    (void)arg;
    if (rc != 0)
        return rc;
    rc = mtls_p2s_conn_new(&c, lab.server, &addr, NULL, 1);
    if (rc != 0)
        assert_int_equal(lab.server->pending.sources.used, 0);
    mtls_p2s_conn_free(c);
    mtls_p2s_free(lab.server);
    return rc;
}

static void every_allocation_may_fail(void **state)
{
    assert_int_equal(alloc_sweep(ALLOC_OURS, enter_run, NULL), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_makes_room_of_its_own),
        cmocka_unit_test(busy_for_the_greedy_alone),
        cmocka_unit_test(the_server_makes_room),
        cmocka_unit_test(busy_ones_are_bounded),
        cmocka_unit_test(limits_may_change),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
