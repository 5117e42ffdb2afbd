/* The pending table: queues of deadlines, the hash table, joins and sources. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "alloc_sweep.h"
#include "mtls/core/outbuf.h"
#include "mtls/core/pending.h"
#include "path2_lab.h"

/* ---- Queues of deadlines ---- */

static void queues_are_in_deadline_order(void **state)
{
    struct mtls_link queue;
    struct mtls_due a = {{0}, 0}, b = {{0}, 0}, c = {{0}, 0};

    mtls_list_init(&queue);
    assert_null(mtls_due_first(&queue, MTLS_TSTAMP_NEVER));
    assert_true(mtls_due_next(&queue) == MTLS_TSTAMP_NEVER);
    mtls_due_stop(&a); /* in no queue: nothing happens */
    mtls_due_start(&queue, &a, 100, 10);
    mtls_due_start(&queue, &b, 105, 10);
    mtls_due_start(&queue, &c, 106, 1); /* not before the one that was there */
    assert_int_equal(c.at, 115);
    assert_int_equal(mtls_due_next(&queue), 110);
    assert_null(mtls_due_first(&queue, 109));
    assert_ptr_equal(mtls_due_first(&queue, 110), &a);
    assert_ptr_equal(mtls_due_first(&queue, 110), &a); /* it stays */
    mtls_due_start(&queue, &a, 110, 10);               /* again, behind the others */
    assert_ptr_equal(mtls_due_first(&queue, 200), &b);
    mtls_due_stop(&b);
    mtls_due_stop(&b);
    assert_ptr_equal(mtls_due_first(&queue, 200), &c);
    mtls_due_stop(&c);
    assert_ptr_equal(mtls_due_first(&queue, 200), &a);
    mtls_due_stop(&a);
    assert_true(mtls_list_empty(&queue));
    mtls_due_start(&queue, &a, 100, MTLS_TSTAMP_NEVER);
    assert_true(a.at == MTLS_TSTAMP_NEVER);
}

/* ---- Hash table ---- */

/* SipHash-2-4 as libcrypto computes it. */
static void the_hash_is_siphash(void **state)
{
    for (unsigned round = 0; round < 50; round++) {
        uint8_t key[16], data[16], tag[8];
        uint64_t seed[2] = {0, 0}, got, want = 0;
        OSSL_PARAM params[2] = {OSSL_PARAM_END, OSSL_PARAM_END};
        unsigned size = 8;
        size_t len = 0;

        for (size_t i = 0; i < 16; i++) {
            key[i] = (uint8_t)(i * 31 + round * 7);
            data[i] = (uint8_t)(i + round * round);
            seed[i / 8] |= (uint64_t)key[i] << 8 * (i % 8);
        }
        params[0] = OSSL_PARAM_construct_uint("size", &size);
        assert_non_null(EVP_Q_mac(NULL, "SIPHASH", NULL, NULL, params, key, sizeof(key), data,
                                  sizeof(data), tag, sizeof(tag), &len));
        assert_int_equal(len, 8);
        for (size_t i = 0; i < 8; i++)
            want |= (uint64_t)tag[i] << 8 * i;
        got = mtls_hash_of(seed, data);
        assert_true(got == want);
    }
}

static void number_key(uint32_t i, uint8_t key[MTLS_HASH_KEY_LEN])
{
    memset(key, 0, MTLS_HASH_KEY_LEN);
    memcpy(key, &i, sizeof(i));
}

/* Against a plain array, through growth and with removals on the way. */
static void the_hash_table_finds_what_is_in_it(void **state)
{
    enum { N = 5000 };
    struct mtls_hash h = {.seed = {1, 2}};
    struct mtls_hash_node *nodes = calloc(N, sizeof(*nodes));
    uint8_t key[MTLS_HASH_KEY_LEN];
    bool *in = calloc(N, sizeof(*in));
    uint32_t x = 12345;

    assert_non_null(nodes);
    assert_non_null(in);
    number_key(1, key);
    assert_null(mtls_hash_find(&h, key));
    for (uint32_t step = 0; step < 20 * N; step++) {
        uint32_t i;

        x = x * 1664525 + 1013904223;
        i = (x >> 8) % N;
        number_key(i, key);
        assert_ptr_equal(mtls_hash_find(&h, key), in[i] ? &nodes[i] : NULL);
        if (!in[i]) {
            memcpy(nodes[i].key, key, sizeof(key));
            assert_int_equal(mtls_hash_insert(&h, &nodes[i]), 0);
            in[i] = true;
        } else if (x >> 30 == 0) {
            mtls_hash_remove(&h, &nodes[i]);
            in[i] = false;
        }
    }
    for (uint32_t i = 0; i < N; i++) {
        number_key(i, key);
        assert_ptr_equal(mtls_hash_find(&h, key), in[i] ? &nodes[i] : NULL);
        if (in[i])
            mtls_hash_remove(&h, &nodes[i]);
        assert_null(mtls_hash_find(&h, key));
    }
    assert_int_equal(h.used, 0);
    free(h.slots);
    free(h.old);
    free(nodes);
    free(in);
}

/* A table that cannot grow goes on with what it has; one that has nothing says so. */
static void growth_may_fail(void **state)
{
    enum { N = 500 };
    struct mtls_hash h = {.seed = {3, 4}};
    struct mtls_hash_node *nodes = calloc(N, sizeof(*nodes));
    int rc;

    assert_non_null(nodes);
    alloc_arm(ALLOC_OURS, 1);
    rc = mtls_hash_insert(&h, &nodes[0]);
    assert_true(alloc_disarm());
    assert_int_equal(rc, MTLS_ERR_NOMEM);
    assert_int_equal(h.used, 0);
    for (uint32_t i = 0; i < N; i++) {
        number_key(i, nodes[i].key);
        alloc_arm(ALLOC_OURS, h.nslots > 0 ? 1 : 0);
        rc = mtls_hash_insert(&h, &nodes[i]);
        alloc_disarm();
        assert_int_equal(rc, 0);
    }
    assert_int_equal(h.nslots, 64);
    for (uint32_t i = 0; i < N; i++)
        assert_ptr_equal(mtls_hash_find(&h, nodes[i].key), &nodes[i]);
    free(h.slots);
    free(nodes);
}

/* ---- Joins ---- */

static struct mtls_join *ended_join(struct mtls_pending *t, uint32_t number, mtls_tstamp now)
{
    uint8_t key[MTLS_HASH_KEY_LEN];
    struct mtls_join *j;

    number_key(number, key);
    assert_int_equal(mtls_pending_add(t, key, &j), 0);
    mtls_pending_end(t, j, now, 60);
    return j;
}

/* [SRV-8]: bounded, the oldest is forgotten first. */
static void ended_joins_are_bounded(void **state)
{
    struct mtls_pending t;
    uint8_t key[MTLS_HASH_KEY_LEN];

    assert_int_equal(mtls_pending_init(&t, lab_crypto, 3), 0);
    for (uint32_t i = 0; i < 4; i++)
        ended_join(&t, i, 100 + i);
    assert_int_equal(t.nended, 3);
    number_key(0, key);
    assert_null(mtls_pending_find(&t, key, 104));
    for (uint32_t i = 1; i < 4; i++) {
        number_key(i, key);
        assert_true(mtls_pending_find(&t, key, 104)->is_ended);
    }
    mtls_pending_expire(&t, 161);
    assert_int_equal(t.nended, 2);
    number_key(2, key);
    assert_non_null(mtls_pending_find(&t, key, 161));
    assert_null(mtls_pending_find(&t, key, 162)); /* over, though nobody called expire() */
    assert_int_equal(t.nended, 1);
    mtls_pending_clear(&t, NULL);

    assert_int_equal(mtls_pending_init(&t, lab_crypto, 0), 0);
    ended_join(&t, 1, 100);
    assert_int_equal(t.nended, 0);
    assert_int_equal(t.joins.used, 0);
    mtls_pending_clear(&t, NULL);
}

static void a_join_in_use_is_not_dropped(void **state)
{
    struct mtls_pending t;
    uint8_t key[MTLS_HASH_KEY_LEN];
    struct mtls_join *j;

    assert_int_equal(mtls_pending_init(&t, lab_crypto, 8), 0);
    number_key(7, key);
    assert_int_equal(mtls_pending_add(&t, key, &j), 0);
    j->nclaims = 1;
    mtls_pending_drop(&t, j);
    assert_ptr_equal(mtls_pending_find(&t, key, 0), j);
    j->nclaims = 0;
    j->nsessions = 1;
    mtls_pending_drop(&t, j);
    assert_ptr_equal(mtls_pending_find(&t, key, 0), j);
    j->nsessions = 0;
    mtls_pending_drop(&t, j);
    assert_null(mtls_pending_find(&t, key, 0));
    mtls_pending_clear(&t, NULL);
}

/* ---- Sources ---- */

static struct mtls_addr v6(uint8_t byte6, uint8_t byte7)
{
    return (struct mtls_addr){.family = 6, .ip = {0x20, 1, 0xd, 0xb8, 0, 1, byte6, byte7, 9}};
}

static bool same_source(struct mtls_addr a, struct mtls_addr b)
{
    uint8_t ka[MTLS_HASH_KEY_LEN], kb[MTLS_HASH_KEY_LEN];

    mtls_pending_source_key(&a, ka);
    mtls_pending_source_key(&b, kb);
    return memcmp(ka, kb, sizeof(ka)) == 0;
}

/* [SRV-4]: IPv4 address, IPv6 /56. */
static void sources(void **state)
{
    struct mtls_addr mapped = {.family = 6, .ip = {[10] = 0xff, 0xff, 192, 0, 2, 1}, .port = 7};
    struct mtls_addr compatible = {.family = 6, .ip = {[12] = 192, 0, 2, 1}};
    struct mtls_addr other_port = lab_v4(2, 1);

    other_port.port = 999;
    assert_true(same_source(lab_v4(2, 1), other_port));
    assert_false(same_source(lab_v4(2, 1), lab_v4(2, 2)));
    assert_true(same_source(lab_v4(2, 1), mapped));
    assert_false(same_source(lab_v4(2, 1), compatible));
    assert_true(same_source(v6(1, 0), v6(1, 0xff)));
    assert_false(same_source(v6(1, 0), v6(2, 0)));
}

static unsigned fill_from(struct mtls_pending *t, uint32_t source, size_t max, size_t per_source,
                          struct mtls_source **out)
{
    uint8_t key[MTLS_HASH_KEY_LEN];
    unsigned n = 0;

    number_key(source, key);
    while (mtls_pending_wait(t, key, max, per_source, out) == 0)
        n++;
    return n;
}

/* [SRV-4]: whatever others hold, a newcomer finds a place until the table is full. */
static void shares_are_fair(void **state)
{
    struct mtls_pending t;
    struct mtls_source *s[2] = {NULL, NULL}, *out = NULL;
    unsigned total = 0, sources_served = 0;

    assert_int_equal(mtls_pending_init(&t, lab_crypto, 8), 0);
    assert_int_equal(fill_from(&t, 1, 1000, 5, &s[0]), 5);      /* per_source */
    assert_int_equal(fill_from(&t, 2, 1000, 1000, &s[1]), 110); /* an eighth of what is left then */
    for (int i = 0; i < 110; i++)
        mtls_pending_unwait(&t, s[1]);
    for (int i = 0; i < 5; i++)
        mtls_pending_unwait(&t, s[0]);
    assert_int_equal(t.waiting, 0);
    assert_int_equal(t.sources.used, 0);
    for (uint32_t source = 0; source < 2000; source++) {
        unsigned n = fill_from(&t, source, 1000, 1000, &out);

        total += n;
        sources_served += n > 0;
        assert_true((n > 0) == (total < 1000 || (n > 0 && total == 1000)));
    }
    assert_int_equal(total, 1000);
    assert_true(sources_served > 40);
    assert_int_equal(fill_from(&t, 5000, 0, 10, &out), 0);   /* table smaller than what waits */
    assert_int_equal(fill_from(&t, 5000, 9999, 0, &out), 0); /* nobody may wait */
    mtls_pending_clear(&t, NULL);
}

/* ---- Unsent bytes ---- */

static void the_outbuf_is_a_queue(void **state)
{
    struct mtls_outbuf b = {0};
    uint8_t data[300], *want = calloc(1, 30000);
    size_t len, in = 0, out = 0;

    assert_non_null(want);
    assert_null(mtls_outbuf_get(&b, &len));
    assert_int_equal(len, 0);
    mtls_outbuf_sent(&b, 5);
    for (unsigned step = 0; step < 97; step++) {
        size_t n = step * 37 % 300, m = step * 53 % 290;
        const uint8_t *got;

        for (size_t i = 0; i < n; i++)
            want[in + i] = data[i] = (uint8_t)(step + i);
        assert_int_equal(mtls_outbuf_add(&b, data, n, 30000), 0);
        in += n;
        got = mtls_outbuf_get(&b, &len);
        assert_int_equal(len, in - out);
        if (len > 0)
            assert_memory_equal(got, want + out, len);
        m = m < len ? m : len;
        mtls_outbuf_sent(&b, m);
        out += m;
    }
    mtls_outbuf_sent(&b, SIZE_MAX); /* more than is there: all of it */
    assert_null(b.data);
    assert_int_equal(mtls_outbuf_add(&b, data, 300, 299), MTLS_ERR_FRAME_OVERFLOW);
    assert_int_equal(mtls_outbuf_add(&b, data, 299, 299), 0);
    assert_int_equal(mtls_outbuf_add(&b, data, 1, 299), MTLS_ERR_FRAME_OVERFLOW);
    mtls_outbuf_sent(&b, 1);
    assert_int_equal(mtls_outbuf_add(&b, data, 1, 299), 0);
    mtls_outbuf_clear(&b);
    alloc_arm(ALLOC_OURS, 1);
    assert_int_equal(mtls_outbuf_add(&b, data, 1, 299), MTLS_ERR_NOMEM);
    assert_true(alloc_disarm());
    free(want);
}

static int alloc_scenario_run(void *arg)
{
    struct mtls_pending t;
    uint8_t key[MTLS_HASH_KEY_LEN];
    struct mtls_source *s;
    struct mtls_join *j;
    int rc = mtls_pending_init(&t, lab_crypto, 8);

    number_key(1, key);
    if (rc == 0)
        rc = mtls_pending_add(&t, key, &j);
    if (rc == 0)
        rc = mtls_pending_wait(&t, key, 10, 10, &s);
    mtls_pending_clear(&t, NULL);
    return rc;
}

static void every_allocation_may_fail(void **state)
{
    assert_int_equal(alloc_sweep(ALLOC_OURS, alloc_scenario_run, NULL), 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queues_are_in_deadline_order),
        cmocka_unit_test(the_hash_is_siphash),
        cmocka_unit_test(the_hash_table_finds_what_is_in_it),
        cmocka_unit_test(growth_may_fail),
        cmocka_unit_test(ended_joins_are_bounded),
        cmocka_unit_test(a_join_in_use_is_not_dropped),
        cmocka_unit_test(sources),
        cmocka_unit_test(shares_are_fair),
        cmocka_unit_test(the_outbuf_is_a_queue),
        cmocka_unit_test(every_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
