/* One connection of SMKEX, sans I/O: the exchange, its failures, data and its ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/crypto.h>

#include "alloc_sweep.h"
#include "smkex/core/machine.h"

static struct smkex_crypto *crypto;
static EVP_PKEY *signer;
static const uint8_t d[MTLS_SHA256_LEN] = {9};

static int open_library(void **state)
{
    signer = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    return signer == NULL ? -1 : smkex_crypto_new(&crypto, NULL);
}

static int close_library(void **state)
{
    EVP_PKEY_free(signer);
    smkex_crypto_free(crypto);
    return 0;
}

static struct smkex_params params(bool server)
{
    return (struct smkex_params){
        .server = server,
        .nsuites = 2,
        .suites = {SMKEX_SUITE_AES128, SMKEX_SUITE_CHACHA20},
        .ngroups = 2,
        .groups = {SMKEX_GROUP_X25519, SMKEX_GROUP_P256},
        .join = {1, 2, 3},
        .max_age = 77,
    };
}

static struct smkex_machine *make(const struct smkex_params *p)
{
    struct smkex_machine *m;

    assert_int_equal(smkex_machine_new(&m, crypto, p), 0);
    return m;
}

/* Moves at most max bytes from a's output to b, step at a time; what b says at the end. */
static int move(struct smkex_machine *a, struct smkex_machine *b, size_t step)
{
    const uint8_t *out;
    size_t len, room;
    int rc = 0;

    while (rc == 0 && (out = smkex_machine_out(a, &len)) != NULL && len > 0) {
        uint8_t *in = smkex_machine_room(b, &room);

        if (in == NULL || room == 0)
            break;
        len = len < room ? len : room;
        len = len < step ? len : step;
        memcpy(in, out, len);
        smkex_machine_sent(a, len);
        rc = smkex_machine_filled(b, len);
    }
    return rc;
}

static int exchange(struct smkex_machine *c, struct smkex_machine *s, size_t step)
{
    int rc = move(c, s, step);

    if (rc == 0)
        rc = smkex_machine_answer(s);
    if (rc == 0)
        rc = move(s, c, step);
    return rc;
}

static int decide(struct smkex_machine *m, bool single)
{
    return smkex_machine_decide(m, single ? NULL : d, single ? 0 : 1, single ? 0 : 1);
}

struct pair {
    struct smkex_machine *c, *s;
};

/* Both decided, both Finished delivered. */
static struct pair connected(const struct smkex_params *cp, const struct smkex_params *sp)
{
    struct pair p = {make(cp), make(sp)};
    bool single = cp->mode == SMKEX_MODE_SINGLE;

    assert_int_equal(exchange(p.c, p.s, SIZE_MAX), 0);
    assert_int_equal(decide(p.c, single), 0);
    assert_int_equal(decide(p.s, single), 0);
    assert_int_equal(move(p.c, p.s, SIZE_MAX), 0);
    assert_int_equal(move(p.s, p.c, SIZE_MAX), 0);
    assert_true(smkex_machine_peer_finished(p.c) && smkex_machine_peer_finished(p.s));
    return p;
}

static struct pair usual(void)
{
    struct smkex_params cp = params(false), sp = params(true);

    return connected(&cp, &sp);
}

static void pair_free(struct pair *p)
{
    smkex_machine_free(p->c);
    smkex_machine_free(p->s);
}

static void expect_data(struct smkex_machine *m, const char *text)
{
    size_t len;
    const uint8_t *data = smkex_machine_data(m, &len);

    assert_int_equal(len, strlen(text));
    assert_memory_equal(data, text, len);
    assert_int_equal(smkex_machine_take(m, len), 0);
}

static void send_text(struct smkex_machine *from, struct smkex_machine *to, const char *text)
{
    assert_int_equal(smkex_machine_write(from, (const uint8_t *)text, strlen(text)), strlen(text));
    assert_int_equal(move(from, to, SIZE_MAX), 0);
    expect_data(to, text);
}

/* ---- The exchange ---- */

static void both_sides_get_the_same_keys_at_any_split(void **state)
{
    for (size_t step = 1; step < 200; step += 13) {
        struct smkex_params cp = params(false), sp = params(true);
        struct smkex_machine *c = make(&cp), *s = make(&sp);

        assert_int_equal(exchange(c, s, step), 0);
        assert_int_equal(smkex_machine_state(c), SMKEX_STATE_KEYED);
        assert_int_equal(smkex_machine_state(s), SMKEX_STATE_KEYED);
        assert_memory_equal(smkex_machine_join(s), cp.join, MTLS_JOIN_LEN);
        assert_memory_equal(smkex_machine_keys(c), smkex_machine_keys(s), sizeof(struct mtls_keys));
        assert_int_equal(decide(c, false), 0);
        assert_int_equal(decide(s, false), 0);
        assert_int_equal(move(c, s, step), 0);
        assert_true(smkex_machine_peer_finished(s));
        send_text(c, s, "hello");
        send_text(s, c, "hello yourself");
        smkex_machine_free(c);
        smkex_machine_free(s);
    }
}

static void each_group_and_suite_is_chosen(void **state)
{
    for (uint8_t i = 0; i < 4; i++) {
        struct smkex_params cp = params(false), sp = params(true);
        struct pair p;

        sp.ngroups = sp.nsuites = 1;
        sp.groups[0] = i & 1 ? SMKEX_GROUP_P256 : SMKEX_GROUP_X25519;
        sp.suites[0] = i & 2 ? SMKEX_SUITE_CHACHA20 : SMKEX_SUITE_AES128;
        p = connected(&cp, &sp);
        assert_int_equal(smkex_machine_group(p.c), sp.groups[0]);
        assert_int_equal(smkex_machine_suite(p.c), sp.suites[0]);
        send_text(p.c, p.s, "hello");
        send_text(p.s, p.c, "hello");
        pair_free(&p);
    }
}

/* [ANS-1]: the refusal is said, and understood as one. */
static void without_common_ground_the_server_refuses(void **state)
{
    for (int i = 0; i < 3; i++) {
        struct smkex_params cp = params(false), sp = params(true);
        struct smkex_machine *c, *s;

        cp.ngroups = cp.nsuites = sp.ngroups = sp.nsuites = 1;
        if (i == 0)
            sp.groups[0] = SMKEX_GROUP_P256;
        if (i == 1)
            sp.suites[0] = SMKEX_SUITE_CHACHA20;
        if (i == 2)
            sp.mode = SMKEX_MODE_SINGLE; /* [SPM-3] */
        c = make(&cp);
        s = make(&sp);
        assert_int_equal(exchange(c, s, SIZE_MAX), MTLS_ERR_SMKEX_CHOICE);
        assert_int_equal(smkex_machine_state(s), SMKEX_STATE_FAILED);
        assert_int_equal(move(s, c, SIZE_MAX), MTLS_ERR_SMKEX_REFUSED);
        assert_int_equal(smkex_machine_error(c), MTLS_ERR_SMKEX_REFUSED);
        smkex_machine_free(c);
        smkex_machine_free(s);
    }
}

static void bad_params_are_refused(void **state)
{
    struct smkex_params p = params(false);
    struct smkex_machine *m;

    p.groups[1] = p.groups[0];
    assert_int_equal(smkex_machine_new(&m, crypto, &p), MTLS_ERR_ARG);
    p.groups[1] = 9;
    assert_int_equal(smkex_machine_new(&m, crypto, &p), MTLS_ERR_ARG);
    p = params(false);
    p.nsuites = 0;
    assert_int_equal(smkex_machine_new(&m, crypto, &p), MTLS_ERR_ARG);
    p = params(false);
    p.pad = SMKEX_RECORD_DATA_MAX + 1;
    assert_int_equal(smkex_machine_new(&m, crypto, &p), MTLS_ERR_ARG);
}

/* Runs an exchange in which byte at of what one side sends is changed. Whether both sides end with
 * the same keys. */
static bool tampered_passes(bool offer, size_t at, size_t *len, bool signed_answer)
{
    struct smkex_params cp = params(false), sp = params(true);
    struct smkex_machine *c, *s, *from;
    const uint8_t *out;
    bool same;

    sp.key = signed_answer ? signer : NULL;
    c = make(&cp);
    s = make(&sp);
    from = offer ? c : s;
    if (!offer) {
        assert_int_equal(move(c, s, SIZE_MAX), 0);
        assert_int_equal(smkex_machine_answer(s), 0);
    }
    out = smkex_machine_out(from, len);
    if (at < *len)
        ((uint8_t *)(uintptr_t)out)[at] ^= 0x04;
    same = (offer ? exchange(c, s, SIZE_MAX) : move(s, c, SIZE_MAX)) == 0 &&
           smkex_machine_state(c) == SMKEX_STATE_KEYED &&
           memcmp(smkex_machine_keys(c), smkex_machine_keys(s), sizeof(struct mtls_keys)) == 0;
    smkex_machine_free(c);
    smkex_machine_free(s);
    return same;
}

/* [SKY-1]: whatever byte of OFFER or ANSWER is changed, no two sides agree. */
static void every_byte_of_the_exchange_is_under_the_keys(void **state)
{
    for (int which = 0; which < 3; which++) {
        size_t len = 1;

        assert_true(tampered_passes(which == 0, SIZE_MAX, &len, which == 2));
        for (size_t at = 0; at < len; at++)
            assert_false(tampered_passes(which == 0, at, &len, which == 2));
        assert_true(len > 50);
    }
}

static void long_term_key_is_proven(void **state)
{
    struct smkex_params cp = params(false), sp = params(true);
    uint8_t raw[SMKEX_KEY_LEN];
    size_t len = sizeof raw;
    uint32_t max_age;
    struct pair p;

    p = connected(&cp, &sp);
    assert_null(smkex_machine_server_key(p.c, &max_age));
    pair_free(&p);
    sp.key = signer;
    p = connected(&cp, &sp);
    assert_int_equal(EVP_PKEY_get_raw_public_key(signer, raw, &len), 1);
    assert_memory_equal(smkex_machine_server_key(p.c, &max_age), raw, sizeof raw);
    assert_int_equal(max_age, 77);
    pair_free(&p);
}

/* [ANS-4] */
static void nothing_is_read_between_keys_and_decision(void **state)
{
    struct smkex_params cp = params(false), sp = params(true);
    struct smkex_machine *c = make(&cp), *s = make(&sp);
    size_t len;

    assert_int_equal(exchange(c, s, SIZE_MAX), 0);
    assert_null(smkex_machine_room(c, &len));
    assert_null(smkex_machine_room(s, &len));
    assert_int_equal(smkex_machine_write(c, d, 1), MTLS_ERR_ARG);
    assert_int_equal(smkex_machine_close(c), MTLS_ERR_ARG);
    assert_int_equal(smkex_machine_filled(c, 1), MTLS_ERR_GATE_FLOOD);
    assert_int_equal(smkex_machine_state(c), SMKEX_STATE_FAILED);
    assert_int_equal(decide(c, false), MTLS_ERR_ARG);
    assert_int_equal(smkex_machine_eof(s), MTLS_ERR_PEER_CLOSED);
    smkex_machine_free(c);
    smkex_machine_free(s);
}

static void decisions_that_differ_give_keys_that_differ(void **state)
{
    static const uint8_t other[MTLS_SHA256_LEN] = {8};
    const struct {
        const uint8_t *d;
        uint8_t k, n;
    } cases[] = {{other, 1, 1}, {d, 1, 2}, {d, 2, 2}};

    for (size_t i = 0; i < 3; i++) {
        struct smkex_params cp = params(false), sp = params(true);
        struct smkex_machine *c = make(&cp), *s = make(&sp);

        assert_int_equal(exchange(c, s, SIZE_MAX), 0);
        assert_int_equal(decide(c, false), 0);
        assert_int_equal(smkex_machine_decide(s, cases[i].d, cases[i].k, cases[i].n), 0);
        assert_int_equal(move(c, s, SIZE_MAX), MTLS_ERR_SMKEX_RECORD);
        smkex_machine_free(c);
        smkex_machine_free(s);
    }
}

/* [SPM-1] [SPM-2] */
static void single_path_mode_stands_apart(void **state)
{
    struct smkex_params cp = params(false), sp = params(true);
    struct smkex_machine *c, *s;
    struct pair p;

    cp.mode = sp.mode = SMKEX_MODE_SINGLE;
    sp.key = signer;
    p = connected(&cp, &sp);
    send_text(p.c, p.s, "hello");
    pair_free(&p);
    c = make(&cp);
    s = make(&sp);
    assert_int_equal(exchange(c, s, SIZE_MAX), 0);
    assert_int_equal(decide(c, false), MTLS_ERR_ARG); /* with a D it would be another mode */
    assert_int_equal(decide(c, true), 0);
    smkex_machine_free(c);
    smkex_machine_free(s);
}

static void foreign_bytes_show_at_once(void **state)
{
    struct smkex_params cp = params(false);
    struct smkex_machine *c = make(&cp);
    size_t len;

    *smkex_machine_room(c, &len) = 'H';
    assert_int_equal(len, SMKEX_HEAD_LEN);
    assert_int_equal(smkex_machine_filled(c, 1), MTLS_ERR_SMKEX_FOREIGN);
    smkex_machine_free(c);
}

/* ---- Data ---- */

static void bulk_data_arrives_whole(void **state)
{
    enum { SIZE = 300000 };
    uint8_t *data = malloc(SIZE);
    struct pair p = usual();
    size_t sent = 0, got = 0, len;

    for (size_t i = 0; i < SIZE; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    while (got < SIZE) {
        const uint8_t *at;
        int n = sent < SIZE ? smkex_machine_write(p.c, data + sent, SIZE - sent) : 0;

        assert_true(n >= 0);
        sent += (size_t)n;
        assert_int_equal(move(p.c, p.s, 1447), 0);
        while ((at = smkex_machine_data(p.s, &len)) != NULL) {
            size_t piece = len > 5000 ? 5000 : len;

            assert_memory_equal(at, data + got, piece);
            got += piece;
            assert_int_equal(smkex_machine_take(p.s, piece), 0);
        }
    }
    assert_int_equal(got, SIZE);
    free(data);
    pair_free(&p);
}

/* [REC-4] */
static void keys_are_updated_in_both_directions(void **state)
{
    struct pair p = usual();

    for (int i = 0; i < 5; i++) {
        assert_int_equal(smkex_machine_update(p.c, i % 2 == 0), 0);
        send_text(p.c, p.s, "hello");
        send_text(p.s, p.c, "hello"); /* carries the answer, if one was asked for */
        assert_int_equal(smkex_machine_update(p.s, false), 0);
        send_text(p.s, p.c, "again");
    }
    pair_free(&p);
}

/* [REC-6] */
static void endless_updates_are_cut_off(void **state)
{
    struct pair p = usual();
    int rc = 0;

    for (int i = 0; i < 40 && rc == 0; i++) {
        assert_int_equal(smkex_machine_update(p.c, false), 0);
        rc = move(p.c, p.s, SIZE_MAX);
    }
    assert_int_equal(rc, MTLS_ERR_SMKEX_UNEXPECTED);
    pair_free(&p);
}

/* [REC-5] */
static void ends_are_authenticated(void **state)
{
    struct pair p = usual();
    size_t len;

    assert_int_equal(smkex_machine_write(p.c, (const uint8_t *)"bye", 3), 3);
    assert_int_equal(smkex_machine_close(p.c), 0);
    assert_int_equal(smkex_machine_close(p.c), 0);
    assert_int_equal(smkex_machine_write(p.c, d, 1), MTLS_ERR_ARG);
    assert_int_equal(move(p.c, p.s, SIZE_MAX), 0);
    assert_false(smkex_machine_peer_closed(p.s)); /* what came before it is first */
    expect_data(p.s, "bye");
    assert_true(smkex_machine_peer_closed(p.s));
    memset(smkex_machine_room(p.s, &len), 'x', 5);
    assert_int_equal(smkex_machine_filled(p.s, 5), 0);
    assert_int_equal(smkex_machine_eof(p.s), 0);
    send_text(p.s, p.c, "half open");
    assert_int_equal(smkex_machine_eof(p.c), MTLS_ERR_SMKEX_TRUNCATED);
    assert_int_equal(smkex_machine_write(p.c, d, 1), MTLS_ERR_SMKEX_TRUNCATED);
    pair_free(&p);
}

/* [REC-1] [SER-1]: a forged record delivers nothing, is answered by an alert, and is the end. */
static void forged_records_end_it(void **state)
{
    struct pair p = usual();
    size_t len;

    assert_int_equal(smkex_machine_write(p.c, (const uint8_t *)"hello", 5), 5);
    ((uint8_t *)(uintptr_t)smkex_machine_out(p.c, &len))[7] ^= 1;
    assert_int_equal(move(p.c, p.s, SIZE_MAX), MTLS_ERR_SMKEX_RECORD);
    assert_null(smkex_machine_data(p.s, &len));
    assert_null(smkex_machine_room(p.s, &len));
    assert_int_equal(smkex_machine_write(p.s, d, 1), MTLS_ERR_SMKEX_RECORD);
    assert_int_equal(move(p.s, p.c, SIZE_MAX), MTLS_ERR_SMKEX_ALERT);
    pair_free(&p);
}

/* [REC-7] */
static void padding_hides_lengths(void **state)
{
    struct smkex_params cp = params(false), sp = params(true);
    size_t first, len;
    struct pair p;

    cp.pad = 512;
    p = connected(&cp, &sp);
    assert_int_equal(smkex_machine_write(p.c, d, 1), 1);
    (void)smkex_machine_out(p.c, &first);
    assert_int_equal(move(p.c, p.s, SIZE_MAX), 0);
    assert_int_equal(smkex_machine_take(p.s, 1), 0);
    assert_int_equal(smkex_machine_write(p.c, d, sizeof d), sizeof d);
    (void)smkex_machine_out(p.c, &len);
    assert_int_equal(len, first);
    assert_int_equal(len, SMKEX_RECORD_HEAD + 512 + SMKEX_RECORD_TAG);
    pair_free(&p);
}

/* ---- Memory ---- */

static int whole_life(void *arg)
{
    struct smkex_params cp = params(false), sp = params(true);
    struct smkex_machine *c = NULL, *s = NULL;
    int rc;

    sp.key = signer;
    rc = smkex_machine_new(&c, crypto, &cp);
    if (rc == 0)
        rc = smkex_machine_new(&s, crypto, &sp);
    if (rc == 0)
        rc = exchange(c, s, SIZE_MAX);
    if (rc == 0)
        rc = decide(c, false);
    if (rc == 0)
        rc = decide(s, false);
    if (rc == 0)
        rc = move(c, s, SIZE_MAX);
    if (rc == 0) {
        rc = smkex_machine_write(c, d, sizeof d);
        rc = rc < 0 ? rc : move(c, s, SIZE_MAX);
    }
    smkex_machine_free(c);
    smkex_machine_free(s);
    return rc == MTLS_ERR_SMKEX_SHARE || rc == MTLS_ERR_SMKEX_SIGNATURE ? MTLS_ERR_CRYPTO : rc;
}

static void failing_allocations_are_clean_errors(void **state)
{
    assert_true(alloc_sweep(ALLOC_OURS, whole_life, NULL) > 5);
    assert_true(alloc_sweep(ALLOC_ALL, whole_life, NULL) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_sides_get_the_same_keys_at_any_split),
        cmocka_unit_test(each_group_and_suite_is_chosen),
        cmocka_unit_test(without_common_ground_the_server_refuses),
        cmocka_unit_test(bad_params_are_refused),
        cmocka_unit_test(every_byte_of_the_exchange_is_under_the_keys),
        cmocka_unit_test(long_term_key_is_proven),
        cmocka_unit_test(nothing_is_read_between_keys_and_decision),
        cmocka_unit_test(decisions_that_differ_give_keys_that_differ),
        cmocka_unit_test(single_path_mode_stands_apart),
        cmocka_unit_test(foreign_bytes_show_at_once),
        cmocka_unit_test(bulk_data_arrives_whole),
        cmocka_unit_test(keys_are_updated_in_both_directions),
        cmocka_unit_test(endless_updates_are_cut_off),
        cmocka_unit_test(ends_are_authenticated),
        cmocka_unit_test(forged_records_end_it),
        cmocka_unit_test(padding_hides_lengths),
        cmocka_unit_test(failing_allocations_are_clean_errors),
    };

    return cmocka_run_group_tests(tests, open_library, close_library);
}
