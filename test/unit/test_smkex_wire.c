/* OFFER and ANSWER against the vectors: [OFR-2], [OFR-3], [ANS-2]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "smkex/core/wire.h"
#include "vectors.h"

static const char *result_name(int rc)
{
    return rc == 0 ? "ok" : mtls_error_name(rc);
}

static void same_hex(const struct vectors *v, size_t i, const char *path, const uint8_t *data,
                     size_t len)
{
    uint8_t want[256];

    assert_int_equal(vectors_hex(v, i, path, want, sizeof want), len);
    assert_memory_equal(want, data, len);
}

static void same_share(const struct vectors *v, size_t i, const char *path,
                       const struct smkex_share *s)
{
    uint8_t text[1 + SMKEX_SHARE_MAX];

    text[0] = s->group;
    memcpy(text + 1, s->bytes, s->len);
    same_hex(v, i, path, text, 1u + s->len);
}

static void check_offer(const struct vectors *v, size_t i, const uint8_t *data, size_t len)
{
    uint8_t again[SMKEX_MESSAGE_MAX];
    struct smkex_offer o;
    int rc = smkex_offer_parse(data, len, &o);

    assert_string_equal(result_name(rc), vectors_str(v, i, "out_result"));
    if (rc != 0)
        return;
    same_hex(v, i, "out_versions", o.versions, o.nver);
    same_hex(v, i, "out_suites", o.suites, o.nsuites);
    same_hex(v, i, "out_join", o.join, sizeof o.join);
    assert_int_equal(vectors_len(v, i, "out_shares"), o.ngroups);
    for (uint8_t j = 0; j < o.ngroups; j++) {
        char path[32];

        snprintf(path, sizeof path, "out_shares.%u", j);
        same_share(v, i, path, &o.shares[j]);
    }
    if (strstr(vectors_str(v, i, "name"), "group") != NULL) /* some were skipped */
        return;
    assert_int_equal(smkex_offer_encode(&o, again), len);
    assert_memory_equal(again, data, len);
}

static void check_answer(const struct vectors *v, size_t i, const uint8_t *data, size_t len)
{
    uint8_t again[SMKEX_MESSAGE_MAX];
    struct smkex_answer a;
    int rc = smkex_answer_parse(data, len, &a);

    assert_string_equal(result_name(rc), vectors_str(v, i, "out_result"));
    if (rc != 0)
        return;
    assert_int_equal(vectors_int(v, i, "out_version"), a.version);
    if (a.version == 0) {
        assert_int_equal(vectors_int(v, i, "out_refusal"), a.refusal);
    } else {
        assert_int_equal(vectors_int(v, i, "out_max_age"), a.max_age);
        assert_int_equal(vectors_int(v, i, "out_suite"), a.suite);
        same_share(v, i, "out_share", &a.share);
        same_hex(v, i, "out_key", a.key, a.is_signed ? SMKEX_KEY_LEN : 0);
    }
    assert_int_equal(smkex_answer_encode(&a, again), len);
    assert_memory_equal(again, data, len);
}

static void vectors_are_met(void **state)
{
    struct vectors *v = vectors_load("smkex_wire");

    for (size_t i = 0; i < v->nobjects; i++) {
        uint8_t data[2 * SMKEX_MESSAGE_MAX];
        size_t len = vectors_hex(v, i, "in_bytes", data, sizeof data);

        print_message("%s\n", vectors_str(v, i, "name"));
        if (strcmp(vectors_str(v, i, "in_message"), "offer") == 0)
            check_offer(v, i, data, len);
        else
            check_answer(v, i, data, len);
    }
    vectors_free(v);
}

/* The length is known once it is there, and what is foreign at its first byte. */
static void length_is_told_as_early_as_can_be(void **state)
{
    static const uint8_t head[] = {0xF0, 'S', 'M', 'K', 'E', 'X', 0x0D, 0x0A, 0x01, 0x02};
    uint8_t data[sizeof head];

    for (size_t n = 0; n < sizeof head; n++)
        assert_int_equal(smkex_message_length(head, n), 0);
    assert_int_equal(smkex_message_length(head, sizeof head), SMKEX_HEAD_LEN + 0x102);
    for (size_t n = 0; n < SMKEX_MAGIC_LEN; n++) {
        memcpy(data, head, sizeof head);
        data[n] ^= 0x20;
        assert_int_equal(smkex_message_length(data, n), 0);
        assert_int_equal(smkex_message_length(data, n + 1), MTLS_ERR_SMKEX_FOREIGN);
    }
    memcpy(data, head, sizeof head);
    data[8] = 4; /* 0x402: over 1024 */
    assert_int_equal(smkex_message_length(data, sizeof data), MTLS_ERR_SMKEX_MALFORMED);
    data[9] = 0;
    assert_int_equal(smkex_message_length(data, sizeof data), SMKEX_MESSAGE_MAX);
    data[8] = 0;
    assert_int_equal(smkex_message_length(data, sizeof data), MTLS_ERR_SMKEX_MALFORMED);
}

/* Whatever is not whole is malformed, nothing at all included. */
static void beginnings_are_no_messages(void **state)
{
    static const uint8_t refusal[] = {0xF0, 'S', 'M', 'K', 'E', 'X', 0x0D, 0x0A, 0, 2, 0, 3};
    struct smkex_answer a;
    struct smkex_offer o;

    assert_int_equal(smkex_answer_parse(refusal, sizeof refusal, &a), 0);
    for (size_t n = 0; n < sizeof refusal; n++) {
        uint8_t *copy = malloc(n > 0 ? n : 1); /* its end is where the sanitizer looks */

        memcpy(copy, refusal, n);
        assert_int_equal(smkex_answer_parse(copy, n, &a), MTLS_ERR_SMKEX_MALFORMED);
        assert_int_equal(smkex_offer_parse(copy, n, &o), MTLS_ERR_SMKEX_MALFORMED);
        free(copy);
    }
}

static void encoders_refuse_counts_out_of_range(void **state)
{
    struct smkex_offer o = {.nver = 1, .nsuites = 1, .ngroups = 1, .shares = {{.len = 3}}};
    struct smkex_answer a = {.version = 1, .share = {.len = SMKEX_SHARE_MAX}};
    uint8_t out[SMKEX_MESSAGE_MAX];

    assert_true(smkex_offer_encode(&o, out) > 0);
    o.nver = 0;
    assert_int_equal(smkex_offer_encode(&o, out), MTLS_ERR_ARG);
    o.nver = SMKEX_LIST_MAX + 1;
    assert_int_equal(smkex_offer_encode(&o, out), MTLS_ERR_ARG);
    o.nver = 1;
    o.shares[0].len = SMKEX_SHARE_MAX + 1;
    assert_int_equal(smkex_offer_encode(&o, out), MTLS_ERR_ARG);
    assert_true(smkex_answer_encode(&a, out) > 0);
    a.share.len = SMKEX_SHARE_MAX + 1;
    assert_int_equal(smkex_answer_encode(&a, out), MTLS_ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_are_met),
        cmocka_unit_test(length_is_told_as_early_as_can_be),
        cmocka_unit_test(beginnings_are_no_messages),
        cmocka_unit_test(encoders_refuse_counts_out_of_range),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
