/* SMKEX's cryptography against the vectors: [SKY-1] to [SKY-6], [ANS-3], [TOF-1], [REC-1]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>

#include "mtls/net/engine.h"
#include "mtls/net/reactor.h"
#include "smkex/core/record.h"
#include "vectors.h"

static struct smkex_crypto *crypto;
static struct mtls_crypto *proofs;
static struct vectors *v;

static int open_library(void **state)
{
    int rc;

    mtls_engine_lock();
    rc = mtls_engine_crypto(&proofs);
    mtls_engine_unlock();
    v = vectors_load("smkex");
    return rc != 0 ? rc : smkex_crypto_new(&crypto, NULL);
}

static int close_library(void **state)
{
    vectors_free(v);
    smkex_crypto_free(crypto);
    return 0;
}

static enum smkex_mode mode_of(size_t i)
{
    return strcmp(vectors_str(v, i, "in_mode"), "single") == 0 ? SMKEX_MODE_SINGLE
                                                               : SMKEX_MODE_MULTIPATH;
}

static void bytes(size_t i, const char *path, uint8_t *out, size_t len)
{
    vectors_bytes(v, i, path, out, len);
}

static void same(size_t i, const char *path, const uint8_t *got, size_t len)
{
    uint8_t want[SMKEX_MESSAGE_MAX];

    bytes(i, path, want, len);
    assert_memory_equal(got, want, len);
}

static EVP_PKEY *p256_private(const uint8_t scalar[32], const struct smkex_share *share)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
    BIGNUM *n = BN_bin2bn(scalar, 32, NULL);
    EVP_PKEY *key = NULL;
    OSSL_PARAM *params;

    assert_true(OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0));
    assert_true(OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_PRIV_KEY, n));
    assert_true(OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, share->bytes, 65));
    params = OSSL_PARAM_BLD_to_param(build);
    assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
    assert_int_equal(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_KEYPAIR, params), 1);
    OSSL_PARAM_free(params);
    OSSL_PARAM_BLD_free(build);
    BN_free(n);
    EVP_PKEY_CTX_free(ctx);
    return key;
}

static EVP_PKEY *load_dh(size_t i, const char *side, struct smkex_share *share)
{
    char path[64];
    uint8_t private[32];

    share->group = (uint8_t)vectors_int(v, i, "in_group");
    share->len = (uint8_t)smkex_share_len(share->group);
    snprintf(path, sizeof path, "out_%s_share", side);
    bytes(i, path, share->bytes, share->len);
    snprintf(path, sizeof path, "in_%s_private", side);
    bytes(i, path, private, 32);
    return share->group == SMKEX_GROUP_X25519
               ? EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, private, 32)
               : p256_private(private, share);
}

static void diffie_hellman_gives_the_vectors(void **state)
{
    for (size_t i = 0; i < v->nobjects; i++) {
        struct smkex_share c, s;
        EVP_PKEY *client = load_dh(i, "client", &c), *server = load_dh(i, "server", &s);
        uint8_t dh[32];

        assert_int_equal(smkex_dh_derive(crypto, client, &c, &s, dh), 0);
        same(i, "out_dh", dh, 32);
        assert_int_equal(smkex_dh_derive(crypto, server, &s, &c, dh), 0);
        same(i, "out_dh", dh, 32);
        EVP_PKEY_free(client);
        EVP_PKEY_free(server);
    }
}

/* [ANS-3] */
static void unusable_shares_are_refused(void **state)
{
    static const uint8_t low_order[][32] = {{0}, {1}};
    struct smkex_share own, peer;
    EVP_PKEY *key, *other;
    uint8_t dh[32];

    assert_int_equal(smkex_dh_new(crypto, SMKEX_GROUP_X25519, &key, &own), 0);
    assert_int_equal(smkex_dh_derive(crypto, key, &own, &own, dh), MTLS_ERR_SMKEX_SHARE);
    for (size_t i = 0; i < 2; i++) {
        peer = own;
        memcpy(peer.bytes, low_order[i], 32);
        assert_int_equal(smkex_dh_derive(crypto, key, &own, &peer, dh), MTLS_ERR_SMKEX_SHARE);
    }
    EVP_PKEY_free(key);
    assert_int_equal(smkex_dh_new(crypto, SMKEX_GROUP_P256, &key, &own), 0);
    assert_int_equal(smkex_dh_new(crypto, SMKEX_GROUP_P256, &other, &peer), 0);
    assert_int_equal(smkex_dh_derive(crypto, key, &own, &peer, dh), 0);
    peer.bytes[64] ^= 1; /* off the curve */
    assert_int_equal(smkex_dh_derive(crypto, key, &own, &peer, dh), MTLS_ERR_SMKEX_SHARE);
    peer.bytes[64] ^= 1;
    peer.bytes[0] = 6; /* hybrid form */
    assert_int_equal(smkex_dh_derive(crypto, key, &own, &peer, dh), MTLS_ERR_SMKEX_SHARE);
    peer.bytes[0] = 4;
    peer.group = SMKEX_GROUP_X25519;
    assert_int_equal(smkex_dh_derive(crypto, key, &own, &peer, dh), MTLS_ERR_SMKEX_SHARE);
    EVP_PKEY_free(key);
    EVP_PKEY_free(other);
    assert_int_equal(smkex_dh_new(crypto, 3, &key, &own), MTLS_ERR_ARG);
}

static void schedule_gives_the_vectors(void **state)
{
    for (size_t i = 0; i < v->nobjects; i++) {
        uint8_t dh[32], th[32], es[32], d[32], c[32], s[32];
        uint8_t k = (uint8_t)vectors_int(v, i, "in_k");
        struct mtls_keys keys;

        bytes(i, "out_dh", dh, 32);
        bytes(i, "out_th", th, 32);
        bytes(i, "in_d", d, 32);
        assert_int_equal(smkex_schedule_confirm(crypto, mode_of(i), dh, th, es, &keys), 0);
        same(i, "out_es", es, 32);
        same(i, "out_k_s", keys.k_s, 32);
        same(i, "out_k_c", keys.k_c, 32);
        assert_int_equal(smkex_schedule_data(crypto, mode_of(i), es, d, k, k, c, s), 0);
        same(i, "out_client_secret", c, 32);
        same(i, "out_server_secret", s, 32);
    }
}

/* [SPA-3]: the labels keep the protocols apart. */
static void tags_give_the_vectors_and_are_not_multipath_tls(void **state)
{
    size_t checked = 0;

    for (size_t i = 0; i < v->nobjects; i++) {
        uint8_t dh[32], th[32], es[32], p2[32], tag_s[32], tag[32], d[32];
        struct mtls_counted counted = {0};
        struct mtls_keys keys;

        if (mode_of(i) == SMKEX_MODE_SINGLE)
            continue;
        bytes(i, "out_dh", dh, 32);
        bytes(i, "out_th", th, 32);
        bytes(i, "in_p2", p2, 32);
        assert_int_equal(smkex_schedule_confirm(crypto, mode_of(i), dh, th, es, &keys), 0);
        assert_int_equal(mtls_confirm_server_tag(proofs, &keys, p2, tag_s), 0);
        same(i, "out_tag_s", tag_s, 32);
        memcpy(counted.p2, p2, 32);
        memcpy(counted.tag_s, tag_s, 32);
        assert_int_equal(mtls_confirm_d(proofs, &counted, 1, d), 0);
        same(i, "in_d", d, 32);
        assert_int_equal(mtls_confirm_client_tag(proofs, &keys, p2, tag_s, 1, 1, d, tag), 0);
        same(i, "out_tag_c", tag, 32);
        keys.protocol = MTLS_PROTOCOL_TLS;
        assert_int_equal(mtls_confirm_server_tag(proofs, &keys, p2, tag), 0);
        assert_memory_not_equal(tag, tag_s, 32);
        checked++;
    }
    assert_true(checked >= 4);
}

/* [TOF-1] */
static void signature_gives_the_vectors(void **state)
{
    size_t checked = 0;

    for (size_t i = 0; i < v->nobjects; i++) {
        uint8_t offer[SMKEX_MESSAGE_MAX], answer[SMKEX_MESSAGE_MAX], md[32], private[32], sig[64];
        size_t no = vectors_hex(v, i, "out_offer", offer, sizeof offer);
        size_t na = vectors_hex(v, i, "out_answer", answer, sizeof answer);
        struct mtls_bytes pieces[] = {{offer, no}, {answer, na - 64}};
        struct smkex_answer a;
        EVP_PKEY *key;

        assert_int_equal(smkex_answer_parse(answer, na, &a), 0);
        if (!a.is_signed)
            continue;
        bytes(i, "in_signing_key", private, 32);
        key = EVP_PKEY_new_raw_private_key_ex(NULL, "ED25519", NULL, private, 32);
        assert_int_equal(smkex_crypto_sha256(crypto, pieces, 2, md), 0);
        assert_int_equal(smkex_sign(crypto, mode_of(i), key, md, sig), 0);
        assert_memory_equal(sig, a.signature, 64);
        assert_int_equal(smkex_verify(crypto, mode_of(i), a.key, md, sig), 0);
        assert_int_equal(smkex_verify(crypto, !mode_of(i), a.key, md, sig),
                         MTLS_ERR_SMKEX_SIGNATURE);
        sig[5] ^= 1;
        assert_int_equal(smkex_verify(crypto, mode_of(i), a.key, md, sig),
                         MTLS_ERR_SMKEX_SIGNATURE);
        sig[5] ^= 1;
        md[0] ^= 1;
        assert_int_equal(smkex_verify(crypto, mode_of(i), a.key, md, sig),
                         MTLS_ERR_SMKEX_SIGNATURE);
        EVP_PKEY_free(key);
        checked++;
    }
    assert_true(checked >= 3);
}

struct sample {
    uint8_t type;
    const char *data;
    size_t len, pad;
};
static const struct sample samples[] = {
    {SMKEX_CONTENT_HANDSHAKE, "\x14\0\0\0", 4, 0},
    {SMKEX_CONTENT_DATA, "first data", 10, 0},
    {SMKEX_CONTENT_DATA, "padded", 6, 32},
    {SMKEX_CONTENT_HANDSHAKE, "\x18\0\0\1\0", 5, 0},
    {SMKEX_CONTENT_DATA, "under the next key", 18, 0},
    {SMKEX_CONTENT_ALERT, "\1\0", 2, 0},
};
enum { SAMPLES = sizeof samples / sizeof samples[0], UPDATE_AT = 3 };

static void records_give_the_vectors(void **state)
{
    for (size_t i = 0; i < v->nobjects; i++) {
        uint8_t secret[32], suite = (uint8_t)vectors_int(v, i, "in_suite");
        struct smkex_direction out, in;

        bytes(i, "out_client_secret", secret, 32);
        assert_int_equal(smkex_direction_init(&out, crypto, mode_of(i), suite, secret, true), 0);
        assert_int_equal(smkex_direction_init(&in, crypto, mode_of(i), suite, secret, false), 0);
        same(i, "out_iv", out.iv, 12);
        for (size_t r = 0; r < SAMPLES; r++) {
            const struct sample *s = &samples[r];
            uint8_t record[SMKEX_RECORD_MAX], type;
            char path[32];
            size_t len;
            int n = smkex_seal(&out, s->type, (const uint8_t *)s->data, s->len, s->pad, record);

            assert_true(n > 0);
            snprintf(path, sizeof path, "out_records.%zu", r);
            same(i, path, record, (size_t)n);
            assert_int_equal(smkex_record_length(record), n);
            assert_int_equal(smkex_open(&in, record, (size_t)n, &type, &len), 0);
            assert_int_equal(type, s->type);
            assert_int_equal(len, s->len);
            assert_memory_equal(record + SMKEX_RECORD_HEAD, s->data, len);
            if (r == UPDATE_AT) {
                assert_int_equal(smkex_direction_update(&out, true), 0);
                assert_int_equal(smkex_direction_update(&in, false), 0);
            }
        }
        smkex_direction_wipe(&out);
        smkex_direction_wipe(&in);
    }
}

static struct smkex_direction direction(bool sending)
{
    static const uint8_t secret[32] = {7};
    struct smkex_direction d;

    assert_int_equal(
        smkex_direction_init(&d, crypto, SMKEX_MODE_MULTIPATH, SMKEX_SUITE_AES128, secret, sending),
        0);
    return d;
}

/* Every bit of a record counts, its header's too, and so does its number. */
static void tampered_records_do_not_open(void **state)
{
    struct smkex_direction out = direction(true);
    uint8_t record[SMKEX_RECORD_MAX], copy[SMKEX_RECORD_MAX], type;
    int n = smkex_seal(&out, SMKEX_CONTENT_DATA, (const uint8_t *)"hello", 5, 0, record);
    size_t len;

    for (int i = 0; i <= n; i++) {
        struct smkex_direction in = direction(false);

        memcpy(copy, record, sizeof copy);
        if (i < n)
            copy[i] ^= 1;
        assert_int_equal(smkex_open(&in, copy, (size_t)n, &type, &len),
                         i < n ? MTLS_ERR_SMKEX_RECORD : 0);
        memcpy(copy, record, sizeof copy); /* replayed: another number */
        assert_int_equal(smkex_open(&in, copy, (size_t)n, &type, &len), MTLS_ERR_SMKEX_RECORD);
        smkex_direction_wipe(&in);
    }
    smkex_direction_wipe(&out);
}

static void sizes_are_bounded(void **state)
{
    static uint8_t data[SMKEX_RECORD_DATA_MAX + 1], record[SMKEX_RECORD_MAX];
    struct smkex_direction out = direction(true), in = direction(false);
    uint8_t head[] = {0x17, 3, 3, 0x40, 0x11}, type;
    size_t len;
    int n;

    assert_int_equal(smkex_seal(&out, SMKEX_CONTENT_DATA, data, sizeof data, 0, record),
                     MTLS_ERR_ARG);
    n = smkex_seal(&out, SMKEX_CONTENT_DATA, data, sizeof data - 1, 4096, record);
    assert_int_equal(n, SMKEX_RECORD_MAX);
    assert_int_equal(smkex_open(&in, record, (size_t)n, &type, &len), 0);
    assert_int_equal(len, sizeof data - 1);
    n = smkex_seal(&out, SMKEX_CONTENT_DATA, data, 0, 0, record);
    assert_int_equal(smkex_open(&in, record, (size_t)n, &type, &len), 0);
    assert_int_equal(len, 0);
    n = smkex_seal(&out, 0, data, 3, 0, record); /* a record without a type */
    assert_int_equal(smkex_open(&in, record, (size_t)n, &type, &len), MTLS_ERR_SMKEX_RECORD);
    assert_int_equal(smkex_record_length(head), SMKEX_RECORD_MAX);
    head[4]++;
    assert_int_equal(smkex_record_length(head), MTLS_ERR_SMKEX_RECORD);
    memcpy(head + 3, "\0\x10", 2);
    assert_int_equal(smkex_record_length(head), MTLS_ERR_SMKEX_RECORD);
    head[4]++;
    assert_int_equal(smkex_record_length(head), 5 + 17);
    head[0] = 0x16;
    assert_int_equal(smkex_record_length(head), MTLS_ERR_SMKEX_RECORD);
    smkex_direction_wipe(&out);
    smkex_direction_wipe(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(diffie_hellman_gives_the_vectors),
        cmocka_unit_test(unusable_shares_are_refused),
        cmocka_unit_test(schedule_gives_the_vectors),
        cmocka_unit_test(tags_give_the_vectors_and_are_not_multipath_tls),
        cmocka_unit_test(signature_gives_the_vectors),
        cmocka_unit_test(records_give_the_vectors),
        cmocka_unit_test(tampered_records_do_not_open),
        cmocka_unit_test(sizes_are_bounded),
    };

    return cmocka_run_group_tests(tests, open_library, close_library);
}
