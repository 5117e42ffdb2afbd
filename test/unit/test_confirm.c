/* Keys, tags and the primitives beneath them: [EXT-2], [KEY-3], [TAG-1] to [TAG-5]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/provider.h>

#include "alloc_sweep.h"
#include "mtls/core/confirm.h"
#include "mtls/core/wire_frame.h"
#include "provider/provider.h"
#include "vectors.h"

static OSSL_LIB_CTX *libctx;
static OSSL_PROVIDER *providers[2];
static struct mtls_crypto *crypto;

static int open_library(void **state)
{
    libctx = OSSL_LIB_CTX_new();
    if (libctx == NULL || OSSL_PROVIDER_add_builtin(libctx, "mtls", mtls_provider_init) != 1)
        return -1;
    providers[0] = OSSL_PROVIDER_load(libctx, "default");
    providers[1] = OSSL_PROVIDER_load(libctx, "mtls");
    if (providers[0] == NULL || providers[1] == NULL)
        return -1;
    return mtls_crypto_new(&crypto, libctx, NULL);
}

static int close_library(void **state)
{
    mtls_crypto_free(crypto);
    OSSL_PROVIDER_unload(providers[1]);
    OSSL_PROVIDER_unload(providers[0]);
    OSSL_LIB_CTX_free(libctx);
    return 0;
}

/* All inputs of a client's tag (and of the server's, which uses fewer). */
struct input {
    struct mtls_keys keys;
    uint8_t p2[MTLS_SHA256_LEN], tag_s[MTLS_TAG_LEN], d[MTLS_SHA256_LEN];
    uint8_t k, n;
};

static struct input sample(size_t hlen)
{
    uint8_t ek[MTLS_EK_LEN], th[MTLS_HASH_MAX];
    struct input in;

    memset(&in, 0, sizeof in);
    for (size_t i = 0; i < sizeof ek; i++)
        ek[i] = (uint8_t)i;
    memset(th, 0x77, sizeof th);
    assert_int_equal(mtls_keys_init(&in.keys, ek, th, hlen), 0);
    memset(in.p2, 0x11, sizeof in.p2);
    memset(in.tag_s, 0x22, sizeof in.tag_s);
    memset(in.d, 0x33, sizeof in.d);
    in.k = 2;
    in.n = 4;
    return in;
}

static void server_tag(const struct input *in, uint8_t tag[MTLS_TAG_LEN])
{
    assert_int_equal(mtls_confirm_server_tag(crypto, &in->keys, in->p2, tag), 0);
}

static void client_tag(const struct input *in, uint8_t tag[MTLS_TAG_LEN])
{
    assert_int_equal(
        mtls_confirm_client_tag(crypto, &in->keys, in->p2, in->tag_s, in->k, in->n, in->d, tag), 0);
}

/* ---- Primitives ---- */

static void sha256_known_answers(void **state)
{
    const struct mtls_bytes pieces[] = {{"a", 1}, {"", 0}, {"bc", 2}};
    uint8_t want[MTLS_SHA256_LEN], got[MTLS_SHA256_LEN];

    hex_decode("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", want, 32);
    assert_int_equal(mtls_crypto_sha256(crypto, pieces, 3, got), 0);
    assert_memory_equal(got, want, 32);
    hex_decode("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", want, 32);
    assert_int_equal(mtls_crypto_sha256(crypto, NULL, 0, got), 0);
    assert_memory_equal(got, want, 32);
}

static void hashes_by_length(void **state)
{
    assert_int_equal(EVP_MD_get_size(mtls_crypto_md(crypto, 32)), 32);
    assert_int_equal(EVP_MD_get_size(mtls_crypto_md(crypto, 48)), 48);
    for (size_t hlen = 0; hlen < 100; hlen++)
        if (hlen != 32 && hlen != 48)
            assert_null(mtls_crypto_md(crypto, hlen));
}

static void random_bytes_differ(void **state)
{
    uint8_t a[32] = {0}, b[32] = {0};

    assert_int_equal(mtls_crypto_random(crypto, a, sizeof a), 0);
    assert_int_equal(mtls_crypto_random(crypto, b, sizeof b), 0);
    assert_memory_not_equal(a, b, sizeof a);
}

/* The pieces are concatenated, the role decides the label, and every call begins anew. */
static void proof_of_pieces(void **state)
{
    const uint8_t key[MTLS_KEY_LEN] = {1}, other[MTLS_KEY_LEN] = {2};
    const struct mtls_bytes whole[] = {{"abcdef", 6}}, parts[] = {{"ab", 2}, {"", 0}, {"cdef", 4}};
    uint8_t a[MTLS_TAG_LEN], b[MTLS_TAG_LEN];

    assert_int_equal(mtls_crypto_proof(crypto, MTLS_ROLE_SERVER, key, whole, 1, a), 0);
    assert_int_equal(mtls_crypto_proof(crypto, MTLS_ROLE_CLIENT, key, whole, 1, b), 0);
    assert_memory_not_equal(a, b, MTLS_TAG_LEN);
    assert_int_equal(mtls_crypto_proof(crypto, MTLS_ROLE_SERVER, other, whole, 1, b), 0);
    assert_memory_not_equal(a, b, MTLS_TAG_LEN);
    assert_int_equal(mtls_crypto_proof(crypto, MTLS_ROLE_SERVER, key, parts, 3, b), 0);
    assert_memory_equal(a, b, MTLS_TAG_LEN);
    assert_int_equal(mtls_crypto_proof(crypto, MTLS_ROLE_SERVER, key, whole, 0, b), 0);
    assert_memory_not_equal(a, b, MTLS_TAG_LEN);
}

static void proof_is_hmac_over_label_and_data(void **state)
{
    static const struct {
        enum mtls_role role;
        const char *text;
    } cases[] = {{MTLS_ROLE_SERVER, "mtls1 server proof\0data"},
                 {MTLS_ROLE_CLIENT, "mtls1 client confirm\0data"}};
    const uint8_t key[MTLS_KEY_LEN] = {9, 8, 7};
    const struct mtls_bytes data = {"data", 4};

    for (size_t i = 0; i < 2; i++) {
        size_t len = strlen(cases[i].text) + 1 + 4, out_len = 0;
        uint8_t want[MTLS_TAG_LEN], got[MTLS_TAG_LEN];

        assert_non_null(EVP_Q_mac(libctx, "HMAC", NULL, "SHA256", NULL, key, sizeof key,
                                  (const uint8_t *)cases[i].text, len, want, sizeof want,
                                  &out_len));
        assert_int_equal(mtls_crypto_proof(crypto, cases[i].role, key, &data, 1, got), 0);
        assert_memory_equal(got, want, MTLS_TAG_LEN);
    }
}

/* ---- Errors ---- */

static void without_the_provider(void **state)
{
    OSSL_LIB_CTX *bare = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *prov = OSSL_PROVIDER_load(bare, "default");
    struct mtls_crypto *c = (struct mtls_crypto *)1;

    assert_non_null(prov);
    assert_int_equal(mtls_crypto_new(&c, bare, NULL), MTLS_ERR_PROVIDER);
    assert_null(c);
    OSSL_PROVIDER_unload(prov);
    OSSL_LIB_CTX_free(bare);
    ERR_clear_error();
}

static void without_hashes(void **state)
{
    OSSL_LIB_CTX *bare = OSSL_LIB_CTX_new();
    OSSL_PROVIDER *prov = OSSL_PROVIDER_load(bare, "null");
    struct mtls_crypto *c = (struct mtls_crypto *)1;

    assert_non_null(prov);
    assert_int_equal(mtls_crypto_new(&c, bare, NULL), MTLS_ERR_CRYPTO);
    assert_null(c);
    assert_int_equal(mtls_crypto_new(&c, libctx, "provider=none"), MTLS_ERR_CRYPTO);
    OSSL_PROVIDER_unload(prov);
    OSSL_LIB_CTX_free(bare);
    mtls_crypto_free(NULL);
    ERR_clear_error();
}

static void keys_of_other_lengths(void **state)
{
    uint8_t ek[MTLS_EK_LEN] = {0}, th[MTLS_HASH_MAX] = {0};
    struct mtls_keys keys;

    for (size_t hlen = 0; hlen <= MTLS_HASH_MAX; hlen++)
        assert_int_equal(mtls_keys_init(&keys, ek, th, hlen),
                         hlen == 32 || hlen == 48 ? 0 : MTLS_ERR_ARG);
}

static void keys_are_halves_and_can_be_wiped(void **state)
{
    struct input in = sample(48);
    const struct mtls_keys zero = {0};

    assert_int_equal(in.keys.version, 1);
    assert_int_equal(in.keys.hlen, 48);
    assert_int_equal(in.keys.k_s[0], 0);
    assert_int_equal(in.keys.k_s[31], 31);
    assert_int_equal(in.keys.k_c[0], 32);
    assert_int_equal(in.keys.k_c[31], 63);
    assert_int_equal(in.keys.th[47], 0x77);
    assert_int_equal(in.keys.th[48], 0);
    mtls_keys_wipe(&in.keys);
    assert_memory_equal(&in.keys, &zero, sizeof zero);
}

static void k_and_n_out_of_range(void **state)
{
    struct input in = sample(32);
    uint8_t tag[MTLS_TAG_LEN];

    for (int k = 0; k < 12; k++)
        for (int n = 0; n < 12; n++) {
            bool legal = k >= 1 && k <= n && n <= 8;

            assert_int_equal(mtls_confirm_client_tag(crypto, &in.keys, in.p2, in.tag_s, (uint8_t)k,
                                                     (uint8_t)n, in.d, tag),
                             legal ? 0 : MTLS_ERR_ARG);
        }
}

static void d_wants_rising_paths(void **state)
{
    struct mtls_counted c[MTLS_PATHS_MAX + 1] = {{0}};
    uint8_t d[MTLS_SHA256_LEN];

    for (uint8_t i = 0; i <= MTLS_PATHS_MAX; i++)
        c[i].path = i;
    assert_int_equal(mtls_confirm_d(crypto, c, 0, d), MTLS_ERR_ARG);
    assert_int_equal(mtls_confirm_d(crypto, c, 1, d), 0);
    assert_int_equal(mtls_confirm_d(crypto, c, 8, d), 0);
    assert_int_equal(mtls_confirm_d(crypto, c, 9, d), MTLS_ERR_ARG);
    c[1].path = 0; /* twice the same */
    assert_int_equal(mtls_confirm_d(crypto, c, 2, d), MTLS_ERR_ARG);
    c[0].path = 1; /* falling */
    assert_int_equal(mtls_confirm_d(crypto, c, 2, d), MTLS_ERR_ARG);
    c[1].path = 7; /* a gap is fine */
    assert_int_equal(mtls_confirm_d(crypto, c, 2, d), 0);
}

/* ---- Tampered twins: each bit of each input counts ---- */

typedef void tag_fn(const struct input *in, uint8_t tag[MTLS_TAG_LEN]);

static void flip_all(struct input *in, tag_fn *tag, uint8_t *field, size_t len)
{
    uint8_t right[MTLS_TAG_LEN], wrong[MTLS_TAG_LEN];

    tag(in, right);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        field[bit / 8] ^= (uint8_t)(1 << bit % 8);
        tag(in, wrong);
        assert_false(mtls_tag_equal(right, wrong));
        field[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    tag(in, wrong);
    assert_true(mtls_tag_equal(right, wrong));
}

static void server_tag_binds_every_bit(void **state)
{
    for (size_t hlen = 32; hlen <= 48; hlen += 16) {
        struct input in = sample(hlen);

        flip_all(&in, server_tag, &in.keys.version, 1);
        flip_all(&in, server_tag, in.keys.th, hlen);
        flip_all(&in, server_tag, in.keys.k_s, MTLS_KEY_LEN);
        flip_all(&in, server_tag, in.p2, MTLS_SHA256_LEN);
    }
}

static void client_tag_binds_every_bit(void **state)
{
    for (size_t hlen = 32; hlen <= 48; hlen += 16) {
        struct input in = sample(hlen);

        flip_all(&in, client_tag, &in.keys.version, 1);
        flip_all(&in, client_tag, in.keys.th, hlen);
        flip_all(&in, client_tag, in.keys.k_c, MTLS_KEY_LEN);
        flip_all(&in, client_tag, in.p2, MTLS_SHA256_LEN);
        flip_all(&in, client_tag, in.tag_s, MTLS_TAG_LEN);
        flip_all(&in, client_tag, in.d, MTLS_SHA256_LEN);
    }
}

static void client_tag_binds_k_and_n(void **state)
{
    uint8_t tags[36][MTLS_TAG_LEN];
    struct input in = sample(32);
    size_t count = 0;

    for (in.n = 1; in.n <= 8; in.n++)
        for (in.k = 1; in.k <= in.n; in.k++) {
            client_tag(&in, tags[count]);
            for (size_t i = 0; i < count; i++)
                assert_false(mtls_tag_equal(tags[i], tags[count]));
            count++;
        }
    assert_int_equal(count, 36);
}

/* The length of TH is part of the input: the same bytes as a longer hash are another input. */
static void tags_bind_the_hash_length(void **state)
{
    struct input a = sample(32), b = sample(48);
    uint8_t tag_a[MTLS_TAG_LEN], tag_b[MTLS_TAG_LEN];

    server_tag(&a, tag_a);
    server_tag(&b, tag_b);
    assert_false(mtls_tag_equal(tag_a, tag_b));
    client_tag(&a, tag_a);
    client_tag(&b, tag_b);
    assert_false(mtls_tag_equal(tag_a, tag_b));
}

static void a_tag_is_never_the_other_roles(void **state)
{
    struct input in = sample(32);
    uint8_t tag_s[MTLS_TAG_LEN], tag_c[MTLS_TAG_LEN];

    memcpy(in.keys.k_c, in.keys.k_s, MTLS_KEY_LEN);
    server_tag(&in, tag_s);
    client_tag(&in, tag_c);
    assert_false(mtls_tag_equal(tag_s, tag_c));
}

static void p2_and_d_bind_every_bit(void **state)
{
    uint8_t hello[MTLS_HELLO_LEN] = {1}, ready[MTLS_READY_LEN] = {2};
    uint8_t right[MTLS_SHA256_LEN], wrong[MTLS_SHA256_LEN];
    struct mtls_counted c[2] = {{.path = 1}, {.path = 8}};

    assert_int_equal(mtls_confirm_p2(crypto, hello, ready, right), 0);
    for (size_t bit = 0; bit < 8 * (sizeof hello + sizeof ready); bit++) {
        size_t at = bit / 8;
        uint8_t *byte = at < sizeof hello ? &hello[at] : &ready[at - sizeof hello];

        *byte ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(mtls_confirm_p2(crypto, hello, ready, wrong), 0);
        assert_memory_not_equal(right, wrong, sizeof right);
        *byte ^= (uint8_t)(1 << bit % 8);
    }
    assert_int_equal(mtls_confirm_d(crypto, c, 2, right), 0);
    for (size_t bit = 0; bit < 8 * sizeof c[0]; bit++) {
        uint8_t *byte = (uint8_t *)&c[1] + bit / 8;

        *byte ^= (uint8_t)(1 << bit % 8);
        if (c[1].path > c[0].path) {
            assert_int_equal(mtls_confirm_d(crypto, c, 2, wrong), 0);
            assert_memory_not_equal(right, wrong, sizeof right);
        }
        *byte ^= (uint8_t)(1 << bit % 8);
    }
}

static void equality_of_tags(void **state)
{
    uint8_t a[MTLS_TAG_LEN] = {0}, b[MTLS_TAG_LEN] = {0};

    assert_true(mtls_tag_equal(a, b));
    for (size_t bit = 0; bit < 8 * MTLS_TAG_LEN; bit++) {
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(mtls_tag_equal(a, b));
        b[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

/* ---- test/vectors/confirm.json ---- */

static const char *element(char out[64], const char *name, size_t i)
{
    snprintf(out, 64, "%s.%zu", name, i);
    return out;
}

static void check_claims(const struct vectors *v, size_t i, const struct mtls_keys *keys,
                         struct mtls_counted *counted, size_t n)
{
    uint8_t hello[MTLS_HELLO_LEN], ready[MTLS_READY_LEN], want[MTLS_FRAME_MAX],
        proof[MTLS_PROOF_LEN];
    char path[64];

    for (size_t j = 0; j < n; j++) {
        vectors_bytes(v, i, element(path, "in_hello", j), hello, sizeof hello);
        vectors_bytes(v, i, element(path, "in_ready", j), ready, sizeof ready);
        counted[j].path = (uint8_t)vectors_int(v, i, element(path, "in_paths", j));
        assert_int_equal(counted[j].path, hello[10]);
        assert_int_equal(mtls_confirm_p2(crypto, hello, ready, counted[j].p2), 0);
        vectors_bytes(v, i, element(path, "out_p2", j), want, MTLS_SHA256_LEN);
        assert_memory_equal(counted[j].p2, want, MTLS_SHA256_LEN);
        assert_int_equal(mtls_confirm_server_tag(crypto, keys, counted[j].p2, counted[j].tag_s), 0);
        vectors_bytes(v, i, element(path, "out_tag_s", j), want, MTLS_TAG_LEN);
        assert_memory_equal(counted[j].tag_s, want, MTLS_TAG_LEN);
        vectors_bytes(v, i, element(path, "out_proof", j), want, MTLS_PROOF_LEN);
        mtls_frame_proof(proof,
                         (uint32_t)hello[7] | (uint32_t)hello[6] << 8 | (uint32_t)hello[5] << 16 |
                             (uint32_t)hello[4] << 24,
                         (uint8_t)vectors_int(v, i, "in_slot"),
                         (uint8_t)vectors_int(v, i, "in_more"), counted[j].tag_s);
        assert_memory_equal(proof, want, MTLS_PROOF_LEN);
    }
}

static void check_decision(const struct vectors *v, size_t i, const struct mtls_keys *keys,
                           const struct mtls_counted *counted, size_t n)
{
    uint8_t d[MTLS_SHA256_LEN], tag[MTLS_TAG_LEN], want[MTLS_CONFIRM_LEN], frame[MTLS_CONFIRM_LEN];
    uint8_t k = (uint8_t)vectors_int(v, i, "in_k"), slot = (uint8_t)vectors_int(v, i, "in_slot");
    char path[64];

    assert_int_equal(mtls_confirm_d(crypto, counted, n, d), 0);
    vectors_bytes(v, i, "out_d", want, MTLS_SHA256_LEN);
    assert_memory_equal(d, want, MTLS_SHA256_LEN);
    for (size_t j = 0; j < n; j++) {
        assert_int_equal(mtls_confirm_client_tag(crypto, keys, counted[j].p2, counted[j].tag_s, k,
                                                 (uint8_t)n, d, tag),
                         0);
        vectors_bytes(v, i, element(path, "out_tag_c", j), want, MTLS_TAG_LEN);
        assert_memory_equal(tag, want, MTLS_TAG_LEN);
        vectors_bytes(v, i, element(path, "out_confirm", j), want, MTLS_CONFIRM_LEN);
        mtls_frame_confirm(frame,
                           (uint32_t)want[4] << 24 | (uint32_t)want[5] << 16 |
                               (uint32_t)want[6] << 8 | want[7],
                           slot, k, (uint8_t)n, tag);
        assert_memory_equal(frame, want, MTLS_CONFIRM_LEN);
    }
}

static void vectors_agree(void **state)
{
    struct vectors *v = vectors_load("confirm");

    for (size_t i = 0; i < v->nobjects; i++) {
        uint8_t th[MTLS_HASH_MAX], ek[MTLS_EK_LEN], secret[MTLS_SECRET_LEN];
        uint8_t join[MTLS_JOIN_LEN], want[MTLS_KEY_LEN];
        struct mtls_counted counted[MTLS_PATHS_MAX];
        size_t n = vectors_len(v, i, "in_paths"), hlen;
        struct mtls_keys keys;

        hlen = vectors_hex(v, i, "in_th", th, sizeof th);
        vectors_bytes(v, i, "out_ek", ek, sizeof ek);
        vectors_bytes(v, i, "in_secret", secret, sizeof secret);
        assert_int_equal(mtls_crypto_join(crypto, secret, join), 0); /* [EXT-2] */
        vectors_bytes(v, i, "out_join", want, MTLS_JOIN_LEN);
        assert_memory_equal(join, want, MTLS_JOIN_LEN);
        assert_int_equal(mtls_keys_init(&keys, ek, th, hlen), 0);
        assert_int_equal(keys.version, vectors_int(v, i, "in_version"));
        vectors_bytes(v, i, "out_k_s", want, MTLS_KEY_LEN);
        assert_memory_equal(keys.k_s, want, MTLS_KEY_LEN);
        vectors_bytes(v, i, "out_k_c", want, MTLS_KEY_LEN);
        assert_memory_equal(keys.k_c, want, MTLS_KEY_LEN);
        assert_true(n >= 1 && n <= MTLS_PATHS_MAX);
        check_claims(v, i, &keys, counted, n);
        check_decision(v, i, &keys, counted, n);
    }
    vectors_free(v);
}

/* A failure inside libcrypto must not pass for a result: what is returned with 0 is right. */
static int whole_confirmation(void *arg)
{
    const uint8_t secret[MTLS_SECRET_LEN] = {1}, key[MTLS_KEY_LEN] = {2};
    const struct mtls_bytes piece = {secret, sizeof secret};
    uint8_t join[MTLS_JOIN_LEN] = {0}, tag[MTLS_TAG_LEN] = {0};
    uint8_t *want = arg; /* join and tag */
    struct mtls_crypto *c;
    int rc = mtls_crypto_new(&c, libctx, NULL);

    if (rc == 0)
        rc = mtls_crypto_join(c, secret, join);
    if (rc == 0)
        rc = mtls_crypto_proof(c, MTLS_ROLE_CLIENT, key, &piece, 1, tag);
    mtls_crypto_free(c);
    if (rc == 0 &&
        (memcmp(join, want, sizeof join) != 0 || memcmp(tag, want + sizeof join, sizeof tag) != 0))
        rc = MTLS_ERR_INTERNAL;
    return rc;
}

static void allocations_fail_cleanly(void **state)
{
    const uint8_t secret[MTLS_SECRET_LEN] = {1}, key[MTLS_KEY_LEN] = {2};
    const struct mtls_bytes piece = {secret, sizeof secret};
    uint8_t want[MTLS_JOIN_LEN + MTLS_TAG_LEN];

    assert_int_equal(mtls_crypto_join(crypto, secret, want), 0);
    assert_int_equal(
        mtls_crypto_proof(crypto, MTLS_ROLE_CLIENT, key, &piece, 1, want + MTLS_JOIN_LEN), 0);
    assert_true(alloc_sweep(ALLOC_OURS, whole_confirmation, want) > 0);
    assert_true(alloc_sweep(ALLOC_ALL, whole_confirmation, want) > 1);
}

/* [speed] Once there is a mtls_crypto, tags and hashes allocate nothing of ours. */
static void hot_paths_allocate_nothing_of_ours(void **state)
{
    struct input in = sample(32);
    uint8_t tag[MTLS_TAG_LEN];

    alloc_arm(ALLOC_OURS, 0);
    server_tag(&in, tag);
    client_tag(&in, tag);
    assert_int_equal(alloc_count(), 0);
    assert_false(alloc_disarm());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_known_answers),
        cmocka_unit_test(hashes_by_length),
        cmocka_unit_test(random_bytes_differ),
        cmocka_unit_test(proof_of_pieces),
        cmocka_unit_test(proof_is_hmac_over_label_and_data),
        cmocka_unit_test(without_the_provider),
        cmocka_unit_test(without_hashes),
        cmocka_unit_test(keys_of_other_lengths),
        cmocka_unit_test(keys_are_halves_and_can_be_wiped),
        cmocka_unit_test(k_and_n_out_of_range),
        cmocka_unit_test(d_wants_rising_paths),
        cmocka_unit_test(server_tag_binds_every_bit),
        cmocka_unit_test(client_tag_binds_every_bit),
        cmocka_unit_test(client_tag_binds_k_and_n),
        cmocka_unit_test(tags_bind_the_hash_length),
        cmocka_unit_test(a_tag_is_never_the_other_roles),
        cmocka_unit_test(p2_and_d_bind_every_bit),
        cmocka_unit_test(equality_of_tags),
        cmocka_unit_test(vectors_agree),
        cmocka_unit_test(allocations_fail_cleanly),
        cmocka_unit_test(hot_paths_allocate_nothing_of_ours),
    };
    return cmocka_run_group_tests(tests, open_library, close_library);
}
