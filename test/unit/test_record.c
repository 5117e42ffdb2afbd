/* The resumption record: its bytes, and [RES-1]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/record.h"
#include "vectors.h"

enum { NOW = 1700000000, DAY = 86400, WEEK = 604800 };

static struct mtls_record sample(void)
{
    struct mtls_record r;

    memset(&r, 0, sizeof r);
    r.mode = MTLS_MODE_EXPORTER;
    r.k = 2;
    r.scope = MTLS_DISTINCT_CLIENT;
    r.verified_at = NOW;
    r.max_age_s = DAY;
    r.port = 443;
    strcpy(r.name, "www.example.com");
    return r;
}

static bool same(const struct mtls_record *a, const struct mtls_record *b)
{
    return a->mode == b->mode && a->k == b->k && a->scope == b->scope &&
           a->verified_at == b->verified_at && a->max_age_s == b->max_age_s && a->port == b->port &&
           strcmp(a->name, b->name) == 0;
}

/* Parses a heap copy of exactly this length, so that a read beyond it is seen by the ASan build. */
static int parse(const uint8_t *data, size_t len, struct mtls_record *out)
{
    uint8_t *copy = malloc(len + 1);
    int rc;

    assert_non_null(copy);
    memcpy(copy + 1, data, len);
    rc = mtls_record_parse(copy + 1, len, out);
    free(copy);
    return rc;
}

static void known_bytes(void **state)
{
    const uint8_t want[] = {'M',  'T',  'L',  'r',  1,    1,    2,    1,    0,    0,
                            0,    0,    0x65, 0x53, 0xF1, 0x00, 0x00, 0x01, 0x51, 0x80,
                            0x01, 0xBB, 15,   'w',  'w',  'w',  '.',  'e',  'x',  'a',
                            'm',  'p',  'l',  'e',  '.',  'c',  'o',  'm'};
    struct mtls_record r = sample(), back;
    uint8_t out[MTLS_RECORD_MAX];

    assert_int_equal(mtls_record_encode(&r, out, sizeof out), sizeof want);
    assert_memory_equal(out, want, sizeof want);
    assert_int_equal(parse(want, sizeof want, &back), 0);
    assert_true(same(&r, &back));
}

static void every_name_length_and_capacity(void **state)
{
    uint8_t out[MTLS_RECORD_MAX + 1];

    for (size_t n = 0; n <= MTLS_HOST_MAX; n++) {
        struct mtls_record r = sample(), back;
        int len;

        memset(r.name, 0, sizeof r.name);
        memset(r.name, 'a', n);
        len = mtls_record_encode(&r, out, sizeof out);
        assert_int_equal(len, 23 + n);
        assert_true(len <= MTLS_RECORD_MAX);
        assert_int_equal(parse(out, (size_t)len, &back), 0);
        assert_true(same(&r, &back));
        assert_int_equal(mtls_record_encode(&r, out, (size_t)len), len);
        assert_int_equal(mtls_record_encode(&r, out, (size_t)len - 1), MTLS_ERR_ARG);
        assert_int_equal(mtls_record_encode(&r, out, 0), MTLS_ERR_ARG);
    }
}

static void name_without_end_is_refused(void **state)
{
    struct mtls_record r = sample();
    uint8_t out[MTLS_RECORD_MAX + 1];

    memset(r.name, 'a', sizeof r.name);
    assert_int_equal(mtls_record_encode(&r, out, sizeof out), MTLS_ERR_ARG);
}

/* Each field just inside and just outside its range, through encoder and parser alike. */
static void ranges(void **state)
{
    static const struct {
        uint8_t mode, k, scope;
        int64_t verified_at;
        uint32_t max_age_s;
        bool legal;
    } cases[] = {
        {1, 1, 1, 0, 1, true},
        {2, 8, 3, INT64_MAX, WEEK, true},
        {0, 1, 1, NOW, DAY, false},
        {3, 1, 1, NOW, DAY, false},
        {1, 0, 1, NOW, DAY, false},
        {1, 9, 1, NOW, DAY, false},
        {1, 1, 0, NOW, DAY, false},
        {1, 1, 4, NOW, DAY, false},
        {1, 1, 1, -1, DAY, false},
        {1, 1, 1, INT64_MIN, DAY, false},
        {1, 1, 1, NOW, 0, false},
        {1, 1, 1, NOW, WEEK + 1, false},
        {1, 1, 1, NOW, UINT32_MAX, false},
        {1, 1, 2, NOW, WEEK, true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mtls_record r = sample(), back;
        uint8_t out[MTLS_RECORD_MAX];
        int len = mtls_record_encode(&r, out, sizeof out);

        r.mode = out[5] = cases[i].mode;
        r.k = out[6] = cases[i].k;
        r.scope = out[7] = cases[i].scope;
        r.verified_at = cases[i].verified_at;
        r.max_age_s = cases[i].max_age_s;
        for (int b = 0; b < 8; b++)
            out[8 + b] = (uint8_t)((uint64_t)r.verified_at >> (56 - 8 * b));
        for (int b = 0; b < 4; b++)
            out[16 + b] = (uint8_t)(r.max_age_s >> (24 - 8 * b));
        assert_int_equal(parse(out, (size_t)len, &back), cases[i].legal ? 0 : MTLS_ERR_RECORD);
        assert_int_equal(mtls_record_encode(&r, out, sizeof out),
                         cases[i].legal ? len : MTLS_ERR_ARG);
        if (cases[i].legal)
            assert_true(same(&r, &back));
    }
}

static void cut_anywhere_or_longer(void **state)
{
    struct mtls_record r = sample(), back;
    uint8_t out[MTLS_RECORD_MAX + 1] = {0};
    size_t len = (size_t)mtls_record_encode(&r, out, sizeof out);

    assert_int_equal(mtls_record_parse(NULL, 0, &back), MTLS_ERR_RECORD);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(parse(out, cut, &back), MTLS_ERR_RECORD);
    assert_int_equal(parse(out, len, &back), 0);
    assert_int_equal(parse(out, len + 1, &back), MTLS_ERR_RECORD);
}

/* A flipped bit gives an error or another record, never the same one. */
static void every_bit_flipped(void **state)
{
    struct mtls_record r = sample(), back;
    uint8_t out[MTLS_RECORD_MAX];
    size_t len = (size_t)mtls_record_encode(&r, out, sizeof out), refused = 0;

    for (size_t bit = 0; bit < 8 * len; bit++) {
        int rc;

        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
        rc = parse(out, len, &back);
        assert_true(rc == MTLS_ERR_RECORD || (rc == 0 && !same(&r, &back)));
        if (bit / 8 < 5 || bit / 8 == 22) /* magic, version, length of the name */
            assert_int_equal(rc, MTLS_ERR_RECORD);
        refused += rc != 0;
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(refused > 48);
    assert_int_equal(parse(out, len, &back), 0);
}

static void names_are_canonical_text(void **state)
{
    struct mtls_record r = sample(), back;
    uint8_t out[MTLS_RECORD_MAX];
    size_t len = (size_t)mtls_record_encode(&r, out, sizeof out);

    for (int c = 0; c < 256; c++) {
        bool legal = c > ' ' && c <= '~' && !(c >= 'A' && c <= 'Z');

        out[23] = (uint8_t)c;
        assert_int_equal(parse(out, len, &back), legal ? 0 : MTLS_ERR_RECORD);
        if (c == 0) /* would be the empty name */
            continue;
        r.name[0] = (char)c;
        assert_true(mtls_record_encode(&r, out, sizeof out) == (legal ? (int)len : MTLS_ERR_ARG));
    }
}

/* ---- [RES-1] ---- */

static bool valid_at(int64_t verified_at, uint32_t max_age_s, uint32_t wanted_s, int64_t now_at)
{
    struct mtls_record r = sample();

    r.verified_at = verified_at;
    r.max_age_s = max_age_s;
    return mtls_record_valid(&r, r.name, 443, 1, 0, wanted_s, now_at);
}

static void age_is_the_smaller_of_both(void **state)
{
    assert_true(valid_at(NOW, DAY, WEEK, NOW));
    assert_true(valid_at(NOW, DAY, WEEK, NOW + DAY));
    assert_false(valid_at(NOW, DAY, WEEK, NOW + DAY + 1));
    assert_true(valid_at(NOW, WEEK, DAY, NOW + DAY));
    assert_false(valid_at(NOW, WEEK, DAY, NOW + DAY + 1));
    assert_true(valid_at(NOW, 1, 1, NOW + 1));
    assert_false(valid_at(NOW, 1, 1, NOW + 2));
    assert_false(valid_at(NOW, DAY, 0, NOW)); /* resume=0 */
}

static void clock_in_the_past(void **state)
{
    assert_true(valid_at(NOW, DAY, DAY, NOW - 300));
    assert_false(valid_at(NOW, DAY, DAY, NOW - 301));
    assert_true(valid_at(300, DAY, DAY, 0));
    assert_false(valid_at(300, DAY, DAY, -1));
    assert_false(valid_at(INT64_MAX, DAY, DAY, NOW));
    assert_false(valid_at(0, DAY, DAY, INT64_MAX));
    assert_false(valid_at(0, DAY, DAY, INT64_MIN));
    assert_true(valid_at(INT64_MAX, DAY, DAY, INT64_MAX));
}

static void record_and_session_agree(void **state)
{
    struct mtls_record r = sample();

    assert_true(mtls_record_valid(&r, "www.example.com", 443, 2, MTLS_DISTINCT_CLIENT, DAY, NOW));
    assert_false(mtls_record_valid(&r, "www.example.org", 443, 2, MTLS_DISTINCT_CLIENT, DAY, NOW));
    assert_false(mtls_record_valid(&r, "www.example.co", 443, 2, MTLS_DISTINCT_CLIENT, DAY, NOW));
    assert_false(mtls_record_valid(&r, "", 443, 2, MTLS_DISTINCT_CLIENT, DAY, NOW));
    assert_false(mtls_record_valid(&r, "www.example.com", 444, 2, MTLS_DISTINCT_CLIENT, DAY, NOW));
    assert_true(mtls_record_valid(&r, "www.example.com", 443, 1, MTLS_DISTINCT_CLIENT, DAY, NOW));
    assert_false(mtls_record_valid(&r, "www.example.com", 443, 3, MTLS_DISTINCT_CLIENT, DAY, NOW));
    assert_true(mtls_record_valid(&r, "www.example.com", 443, 2, 0, DAY, NOW));
    assert_false(mtls_record_valid(&r, "www.example.com", 443, 2, MTLS_DISTINCT_SERVER, DAY, NOW));
    assert_false(mtls_record_valid(&r, "www.example.com", 443, 2, 3, DAY, NOW));
    r.scope = 3;
    assert_true(mtls_record_valid(&r, "www.example.com", 443, 2, 3, DAY, NOW));
    assert_true(mtls_record_valid(&r, "www.example.com", 443, 2, MTLS_DISTINCT_SERVER, DAY, NOW));
}

static void weaker_mode_and_broken_records_vouch_for_nothing(void **state)
{
    struct mtls_record r = sample();

    assert_true(mtls_record_valid(&r, r.name, 443, 1, 0, DAY, NOW));
    r.mode = MTLS_MODE_RESUME;
    assert_false(mtls_record_valid(&r, r.name, 443, 1, 0, DAY, NOW));
    /* [RSM-16] the two modes have their own, each blind to the other's */
    assert_true(mtls_record_valid_resume(&r, r.name, 443, MTLS_DISTINCT_CLIENT, DAY, NOW));
    assert_false(mtls_record_valid_resume(&r, r.name, 443, MTLS_DISTINCT_SERVER, DAY, NOW));
    assert_false(mtls_record_valid_resume(&r, r.name, 444, 0, DAY, NOW));
    assert_false(mtls_record_valid_resume(&r, "other", 443, 0, DAY, NOW));
    assert_false(mtls_record_valid_resume(&r, r.name, 443, 0, DAY, NOW + DAY + 1));
    assert_false(mtls_record_valid_resume(&r, r.name, 443, 0, 0, NOW));
    r.mode = MTLS_MODE_EXPORTER;
    assert_false(mtls_record_valid_resume(&r, r.name, 443, 0, DAY, NOW));
    r = sample();
    r.max_age_s = WEEK + 1;
    assert_false(mtls_record_valid(&r, r.name, 443, 1, 0, DAY, NOW));
    memset(&r, 0, sizeof r);
    assert_false(mtls_record_valid(&r, "", 0, 0, 0, DAY, 0));
}

/* ---- test/vectors/record.json ---- */

static void vectors_agree(void **state)
{
    struct vectors *v = vectors_load("record");
    size_t accepted = 0;

    for (size_t i = 0; i < v->nobjects; i++) {
        uint8_t bytes[512], out[MTLS_RECORD_MAX];
        size_t len = vectors_hex(v, i, "in_bytes", bytes, sizeof bytes);
        struct mtls_record r;
        int rc = parse(bytes, len, &r);

        assert_string_equal(mtls_error_name(rc), vectors_str(v, i, "out_result"));
        if (rc != 0)
            continue;
        accepted++;
        assert_int_equal(r.mode, vectors_int(v, i, "out_mode"));
        assert_int_equal(r.k, vectors_int(v, i, "out_k"));
        assert_int_equal(r.scope, vectors_int(v, i, "out_scope"));
        assert_int_equal(r.verified_at, vectors_int(v, i, "out_verified_at"));
        assert_int_equal(r.max_age_s, vectors_int(v, i, "out_max_age"));
        assert_int_equal(r.port, vectors_int(v, i, "out_port"));
        assert_string_equal(r.name, vectors_str(v, i, "out_name"));
        assert_int_equal(mtls_record_encode(&r, out, sizeof out), len);
        assert_memory_equal(out, bytes, len);
    }
    assert_true(accepted > 0 && accepted < v->nobjects);
    vectors_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_bytes),
        cmocka_unit_test(every_name_length_and_capacity),
        cmocka_unit_test(name_without_end_is_refused),
        cmocka_unit_test(ranges),
        cmocka_unit_test(cut_anywhere_or_longer),
        cmocka_unit_test(every_bit_flipped),
        cmocka_unit_test(names_are_canonical_text),
        cmocka_unit_test(age_is_the_smaller_of_both),
        cmocka_unit_test(clock_in_the_past),
        cmocka_unit_test(record_and_session_agree),
        cmocka_unit_test(weaker_mode_and_broken_records_vouch_for_nothing),
        cmocka_unit_test(vectors_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
