/* The bytes of extension 0xFF4D: [EXT-4] to [EXT-10]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/wire_ext.h"
#include "vectors.h"

#define MAGIC 0x4D, 0x54, 0x4C, 0x31

static struct mtls_ext_ch sample_ch(uint8_t nver)
{
    struct mtls_ext_ch ch = {.nver = nver};

    for (size_t i = 0; i < MTLS_EXT_VERSIONS_MAX && i < nver; i++)
        ch.versions[i] = (uint8_t)(i + 1);
    for (size_t i = 0; i < MTLS_JOIN_LEN; i++)
        ch.join[i] = (uint8_t)(0xA0 + i);
    return ch;
}

static struct mtls_ext_ee sample_ee(uint8_t naddr)
{
    struct mtls_ext_ee ee = {.version = 1,
                             .flags = MTLS_EE_OTHER_PORTS,
                             .port = 4434,
                             .max_age = 15552000,
                             .naddr = naddr};

    for (size_t i = 0; i < MTLS_EXT_ADDRS_MAX && i < naddr; i++) {
        ee.addrs[i].family = i % 2 == 0 ? 4 : 6;
        ee.addrs[i].port = (uint16_t)(0x3900 + i);
        for (size_t j = 0; j < (i % 2 == 0 ? 4 : 16); j++)
            ee.addrs[i].ip[j] = (uint8_t)(0x10 * i + j);
    }
    return ee;
}

/* Encodes into a heap buffer of exactly this size, so that a write beyond it is seen by the ASan
 * build. */
static int encode_ee(const struct mtls_ext_ee *ee, size_t cap)
{
    uint8_t *out = malloc(cap + 1);
    int rc;

    assert_non_null(out);
    rc = mtls_ext_ee_encode(ee, out + 1, cap);
    free(out);
    return rc;
}

static int encode_ch(const struct mtls_ext_ch *ch, size_t cap)
{
    uint8_t *out = malloc(cap + 1);
    int rc;

    assert_non_null(out);
    rc = mtls_ext_ch_encode(ch, out + 1, cap);
    free(out);
    return rc;
}

static bool same_ee(const struct mtls_ext_ee *a, const struct mtls_ext_ee *b)
{
    bool same = a->version == b->version && a->flags == b->flags && a->port == b->port &&
                a->max_age == b->max_age && a->naddr == b->naddr;

    for (size_t i = 0; same && i < a->naddr; i++)
        same = a->addrs[i].family == b->addrs[i].family && a->addrs[i].port == b->addrs[i].port &&
               memcmp(a->addrs[i].ip, b->addrs[i].ip, sizeof a->addrs[i].ip) == 0;
    return same;
}

/* Parses a heap copy of exactly this length, so that a read beyond it is seen by the ASan build. */
static int parse_ch(const uint8_t *data, size_t len, struct mtls_ext_ch *out)
{
    uint8_t *copy = malloc(len + 1);
    int rc;

    assert_non_null(copy);
    memcpy(copy + 1, data, len);
    rc = mtls_ext_ch_parse(copy + 1, len, out);
    free(copy);
    return rc;
}

static int parse_ee(const uint8_t *data, size_t len, struct mtls_ext_ee *out)
{
    uint8_t *copy = malloc(len + 1);
    int rc;

    assert_non_null(copy);
    memcpy(copy + 1, data, len);
    rc = mtls_ext_ee_parse(copy + 1, len, out);
    free(copy);
    return rc;
}

static void ch_known_bytes(void **state)
{
    const uint8_t want[] = {MAGIC, 1,    1,    0,    0xA0, 0xA1, 0xA2, 0xA3, 0xA4, 0xA5,
                            0xA6,  0xA7, 0xA8, 0xA9, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF};
    struct mtls_ext_ch ch = sample_ch(1), back;
    uint8_t out[MTLS_EXT_CH_MAX];

    assert_int_equal(mtls_ext_ch_encode(&ch, out, sizeof out), sizeof want);
    assert_memory_equal(out, want, sizeof want);
    assert_int_equal(parse_ch(want, sizeof want, &back), 0);
    assert_memory_equal(&back, &ch, sizeof ch);
}

static void ee_known_bytes(void **state)
{
    const uint8_t want[] = {MAGIC, 1,    2,    0x11, 0x52, 0x00, 0xED, 0x4E, 0x00,
                            2,     4,    0x00, 0x01, 0x02, 0x03, 0x39, 0x00, 6,
                            0x10,  0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
                            0x19,  0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F, 0x39, 0x01};
    struct mtls_ext_ee ee = sample_ee(2), back;
    uint8_t out[MTLS_EXT_EE_MAX];

    assert_int_equal(mtls_ext_ee_encode(&ee, out, sizeof out), sizeof want);
    assert_memory_equal(out, want, sizeof want);
    assert_int_equal(parse_ee(want, sizeof want, &back), 0);
    assert_true(same_ee(&back, &ee));
}

static void ch_every_count_and_capacity(void **state)
{
    uint8_t out[MTLS_EXT_CH_MAX + 1];

    for (uint8_t nver = 1; nver <= MTLS_EXT_VERSIONS_MAX; nver++) {
        struct mtls_ext_ch ch = sample_ch(nver), back;
        int len = mtls_ext_ch_encode(&ch, out, sizeof out);

        assert_int_equal(len, 22 + nver);
        assert_true(len <= MTLS_EXT_CH_MAX);
        assert_int_equal(parse_ch(out, (size_t)len, &back), 0);
        assert_memory_equal(&back, &ch, sizeof ch);
        assert_int_equal(encode_ch(&ch, (size_t)len), len);
        for (size_t cap = 0; cap < (size_t)len; cap++)
            assert_int_equal(encode_ch(&ch, cap), MTLS_ERR_ARG);
    }
}

static void ee_every_count_and_capacity(void **state)
{
    uint8_t out[MTLS_EXT_EE_MAX + 1];

    for (uint8_t naddr = 0; naddr <= MTLS_EXT_ADDRS_MAX; naddr++) {
        struct mtls_ext_ee ee = sample_ee(naddr), back;
        int len = mtls_ext_ee_encode(&ee, out, sizeof out);

        assert_int_equal(len, 13 + (naddr + 1) / 2 * 7 + naddr / 2 * 19);
        assert_int_equal(parse_ee(out, (size_t)len, &back), 0);
        assert_true(same_ee(&back, &ee));
        assert_int_equal(encode_ee(&ee, (size_t)len), len);
        for (size_t cap = 0; cap < (size_t)len; cap++)
            assert_int_equal(encode_ee(&ee, cap), MTLS_ERR_ARG);
    }
}

static void ee_longest_fits_the_bound(void **state)
{
    struct mtls_ext_ee ee = sample_ee(MTLS_EXT_ADDRS_MAX);
    uint8_t out[MTLS_EXT_EE_MAX];

    for (size_t i = 0; i < MTLS_EXT_ADDRS_MAX; i++)
        ee.addrs[i].family = 6;
    assert_int_equal(mtls_ext_ee_encode(&ee, out, sizeof out), MTLS_EXT_EE_MAX);
}

static void encoders_refuse_what_parsers_would(void **state)
{
    uint8_t out[1024];
    struct mtls_ext_ch ch = sample_ch(0);
    struct mtls_ext_ee ee = sample_ee(1);

    assert_int_equal(mtls_ext_ch_encode(&ch, out, sizeof out), MTLS_ERR_ARG);
    ch.nver = MTLS_EXT_VERSIONS_MAX + 1;
    assert_int_equal(mtls_ext_ch_encode(&ch, out, sizeof out), MTLS_ERR_ARG);
    for (int family = 0; family < 256; family++) {
        ee.addrs[0].family = (uint8_t)family;
        if (family == 4 || family == 6)
            assert_true(mtls_ext_ee_encode(&ee, out, sizeof out) > 0);
        else
            assert_int_equal(mtls_ext_ee_encode(&ee, out, sizeof out), MTLS_ERR_ARG);
    }
    ee = sample_ee(MTLS_EXT_ADDRS_MAX);
    ee.naddr++;
    assert_int_equal(mtls_ext_ee_encode(&ee, out, sizeof out), MTLS_ERR_ARG);
}

/* [EXT-4]: fewer than 4 bytes, or others than the magic, are not ours; [EXT-5]: any other cut is
 * malformed. */
static void ch_cut_anywhere_or_longer(void **state)
{
    struct mtls_ext_ch ch = sample_ch(3), back;
    uint8_t out[MTLS_EXT_CH_MAX + 1] = {0};
    size_t len = (size_t)mtls_ext_ch_encode(&ch, out, sizeof out);

    assert_int_equal(mtls_ext_ch_parse(NULL, 0, &back), MTLS_ERR_EXT_NOT_OURS);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(parse_ch(out, cut, &back),
                         cut < 4 ? MTLS_ERR_EXT_NOT_OURS : MTLS_ERR_EXT_MALFORMED);
    assert_int_equal(parse_ch(out, len, &back), 0);
    assert_int_equal(parse_ch(out, len + 1, &back), MTLS_ERR_EXT_MALFORMED);
}

/* [EXT-9] */
static void ee_cut_anywhere_or_longer(void **state)
{
    struct mtls_ext_ee ee = sample_ee(3), back;
    uint8_t out[MTLS_EXT_EE_MAX + 1] = {0};
    size_t len = (size_t)mtls_ext_ee_encode(&ee, out, sizeof out);

    assert_int_equal(mtls_ext_ee_parse(NULL, 0, &back), MTLS_ERR_EXT_NOT_OURS);
    for (size_t cut = 0; cut < len; cut++)
        assert_int_equal(parse_ee(out, cut, &back),
                         cut < 4 ? MTLS_ERR_EXT_NOT_OURS : MTLS_ERR_EXT_MALFORMED);
    assert_int_equal(parse_ee(out, len, &back), 0);
    assert_int_equal(parse_ee(out, len + 1, &back), MTLS_ERR_EXT_MALFORMED);
}

/* Each bit of an accepted extension: refused as the rule says, or read as another value. */
static void ch_every_bit_flipped(void **state)
{
    struct mtls_ext_ch ch = sample_ch(2), back;
    uint8_t out[MTLS_EXT_CH_MAX];
    size_t len = (size_t)mtls_ext_ch_encode(&ch, out, sizeof out);

    for (size_t bit = 0; bit < 8 * len; bit++) {
        int want = bit / 8 < 4    ? MTLS_ERR_EXT_NOT_OURS
                   : bit / 8 == 4 ? MTLS_ERR_EXT_MALFORMED /* nver no longer fits the length */
                                  : 0;

        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(parse_ch(out, len, &back), want);
        assert_memory_not_equal(&back, &ch, sizeof ch);
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(parse_ch(out, len, &back), 0);
    assert_memory_equal(&back, &ch, sizeof ch);
}

static void ee_every_bit_flipped(void **state)
{
    struct mtls_ext_ee ee = sample_ee(2), back;
    uint8_t out[MTLS_EXT_EE_MAX];
    size_t len = (size_t)mtls_ext_ee_encode(&ee, out, sizeof out);

    for (size_t bit = 0; bit < 8 * len; bit++) {
        size_t at = bit / 8;
        int want = at < 4                             ? MTLS_ERR_EXT_NOT_OURS
                   : at == 4                          ? MTLS_ERR_EXT_VERSION
                   : at == 12 || at == 13 || at == 20 ? MTLS_ERR_EXT_MALFORMED /* naddr, families */
                                                      : 0;

        out[at] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(parse_ee(out, len, &back), want);
        assert_false(same_ee(&back, &ee));
        out[at] ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(parse_ee(out, len, &back), 0);
    assert_true(same_ee(&back, &ee));
}

/* [EXT-5]: nver of 0 or over 16, with a length that fits it. */
static void ch_every_nver_with_its_own_length(void **state)
{
    uint8_t data[22 + 255] = {MAGIC};
    struct mtls_ext_ch back;

    for (size_t nver = 0; nver < 256; nver++) {
        data[4] = (uint8_t)nver;
        assert_int_equal(parse_ch(data, 22 + nver, &back),
                         nver >= 1 && nver <= MTLS_EXT_VERSIONS_MAX ? 0 : MTLS_ERR_EXT_MALFORMED);
    }
}

/* [EXT-9]: naddr over 8, with a length that fits it. */
static void ee_every_naddr_with_its_own_length(void **state)
{
    uint8_t data[13 + 255 * 7] = {MAGIC, 1};
    struct mtls_ext_ee back;

    for (size_t i = 0; i < 255; i++)
        data[13 + 7 * i] = 4;
    for (size_t naddr = 0; naddr < 256; naddr++) {
        data[12] = (uint8_t)naddr;
        assert_int_equal(parse_ee(data, 13 + 7 * naddr, &back),
                         naddr <= MTLS_EXT_ADDRS_MAX ? 0 : MTLS_ERR_EXT_MALFORMED);
    }
}

/* [EXT-6]: flags that a receiver does not know are no error, on either side. */
static void unknown_flags_are_read_and_ignored(void **state)
{
    struct mtls_ext_ch ch = sample_ch(1), ch_back;
    struct mtls_ext_ee ee = sample_ee(0), ee_back;
    uint8_t out[MTLS_EXT_EE_MAX];

    for (int flags = 0; flags < 256; flags++) {
        ch.flags = ee.flags = (uint8_t)flags;
        assert_int_equal(mtls_ext_ch_encode(&ch, out, sizeof out), 23);
        assert_int_equal(parse_ch(out, 23, &ch_back), 0);
        assert_int_equal(ch_back.flags, flags);
        assert_int_equal(mtls_ext_ee_encode(&ee, out, sizeof out), 13);
        assert_int_equal(parse_ee(out, 13, &ee_back), 0);
        assert_int_equal(ee_back.flags, flags);
    }
}

/* [EXT-9]: no family but 4 and 6, whatever length its address might have. */
static void ee_every_family_with_every_length(void **state)
{
    for (int family = 0; family < 256; family++)
        for (size_t ip = 0; ip <= 20; ip++) {
            uint8_t data[64] = {MAGIC, 1};
            struct mtls_ext_ee back;
            bool legal = (family == 4 && ip == 4) || (family == 6 && ip == 16);

            data[12] = 1;
            data[13] = (uint8_t)family;
            assert_int_equal(parse_ee(data, 14 + ip + 2, &back),
                             legal ? 0 : MTLS_ERR_EXT_MALFORMED);
        }
}

/* [EXT-10]: another version is told apart from a malformed answer, however it is laid out. */
static void ee_other_versions(void **state)
{
    uint8_t data[13] = {MAGIC};
    struct mtls_ext_ee back;

    for (int version = 0; version < 256; version++) {
        data[4] = (uint8_t)version;
        assert_int_equal(parse_ee(data, 13, &back), version == 1 ? 0 : MTLS_ERR_EXT_VERSION);
        assert_int_equal(parse_ee(data, 5, &back),
                         version == 1 ? MTLS_ERR_EXT_MALFORMED : MTLS_ERR_EXT_VERSION);
    }
}

/* [EXT-7] */
static void offered_versions(void **state)
{
    struct mtls_ext_ch ch = sample_ch(3);

    assert_true(mtls_ext_ch_offers(&ch, 1));
    assert_true(mtls_ext_ch_offers(&ch, 3));
    assert_false(mtls_ext_ch_offers(&ch, 4));
    assert_false(mtls_ext_ch_offers(&ch, 0));
    ch.nver = 2;
    assert_false(mtls_ext_ch_offers(&ch, 3));
}

static void ee_extreme_values(void **state)
{
    struct mtls_ext_ee ee = sample_ee(1), back;
    uint8_t out[MTLS_EXT_EE_MAX];
    int len;

    ee.port = 0xFFFF;
    ee.max_age = 0xFFFFFFFF;
    ee.addrs[0].port = 0; /* the port field's */
    memset(ee.addrs[0].ip, 0xFF, 4);
    len = mtls_ext_ee_encode(&ee, out, sizeof out);
    assert_int_equal(len, 20);
    assert_int_equal(parse_ee(out, (size_t)len, &back), 0);
    assert_true(same_ee(&back, &ee));
}

/* ---- test/vectors/ext.json ---- */

static void check_ch_vector(const struct vectors *v, size_t i, const struct mtls_ext_ch *ch,
                            const uint8_t *bytes, size_t len)
{
    uint8_t want[MTLS_EXT_CH_MAX];

    assert_int_equal(vectors_hex(v, i, "out_versions", want, sizeof want), ch->nver);
    assert_memory_equal(ch->versions, want, ch->nver);
    assert_int_equal(vectors_int(v, i, "out_flags"), ch->flags);
    vectors_bytes(v, i, "out_join", want, MTLS_JOIN_LEN);
    assert_memory_equal(ch->join, want, MTLS_JOIN_LEN);
    assert_int_equal(mtls_ext_ch_encode(ch, want, sizeof want), len);
    assert_memory_equal(want, bytes, len);
}

static void check_ee_vector(const struct vectors *v, size_t i, const struct mtls_ext_ee *ee,
                            const uint8_t *bytes, size_t len)
{
    uint8_t want[MTLS_EXT_EE_MAX];

    assert_int_equal(vectors_int(v, i, "out_version"), ee->version);
    assert_int_equal(vectors_int(v, i, "out_flags"), ee->flags);
    assert_int_equal(vectors_int(v, i, "out_port"), ee->port);
    assert_int_equal(vectors_int(v, i, "out_max_age"), ee->max_age);
    assert_int_equal(vectors_len(v, i, "out_addresses"), ee->naddr);
    for (size_t j = 0; j < ee->naddr; j++) {
        const struct mtls_addr *a = &ee->addrs[j];
        size_t ip = a->family == 4 ? 4 : 16;
        char path[32];

        snprintf(path, sizeof path, "out_addresses.%zu", j);
        vectors_bytes(v, i, path, want, 1 + ip + 2);
        assert_int_equal(a->family, want[0]);
        assert_memory_equal(a->ip, want + 1, ip);
        assert_int_equal(a->port, want[1 + ip] << 8 | want[2 + ip]);
    }
    assert_int_equal(mtls_ext_ee_encode(ee, want, sizeof want), len);
    assert_memory_equal(want, bytes, len);
}

static void vectors_agree(void **state)
{
    struct vectors *v = vectors_load("ext");
    size_t accepted[2] = {0};

    for (size_t i = 0; i < v->nobjects; i++) {
        bool client = strcmp(vectors_str(v, i, "in_message"), "client_hello") == 0;
        uint8_t bytes[2048];
        size_t len = vectors_hex(v, i, "in_bytes", bytes, sizeof bytes);
        struct mtls_ext_ch ch;
        struct mtls_ext_ee ee;
        int rc = client ? parse_ch(bytes, len, &ch) : parse_ee(bytes, len, &ee);

        assert_string_equal(mtls_error_name(rc), vectors_str(v, i, "out_result"));
        accepted[client] += rc == 0;
        if (rc == 0 && client)
            check_ch_vector(v, i, &ch, bytes, len);
        else if (rc == 0)
            check_ee_vector(v, i, &ee, bytes, len);
    }
    assert_true(accepted[0] > 0 && accepted[1] > 0);
    vectors_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ch_known_bytes),
        cmocka_unit_test(ee_known_bytes),
        cmocka_unit_test(ch_every_count_and_capacity),
        cmocka_unit_test(ee_every_count_and_capacity),
        cmocka_unit_test(ee_longest_fits_the_bound),
        cmocka_unit_test(encoders_refuse_what_parsers_would),
        cmocka_unit_test(ch_cut_anywhere_or_longer),
        cmocka_unit_test(ee_cut_anywhere_or_longer),
        cmocka_unit_test(ch_every_bit_flipped),
        cmocka_unit_test(ee_every_bit_flipped),
        cmocka_unit_test(ch_every_nver_with_its_own_length),
        cmocka_unit_test(ee_every_naddr_with_its_own_length),
        cmocka_unit_test(ee_every_family_with_every_length),
        cmocka_unit_test(unknown_flags_are_read_and_ignored),
        cmocka_unit_test(ee_other_versions),
        cmocka_unit_test(offered_versions),
        cmocka_unit_test(ee_extreme_values),
        cmocka_unit_test(vectors_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
