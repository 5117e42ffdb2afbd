/* Concept: tests of the provider's MAC and KDF, of its parameters and of its section in
 * openssl.cnf. Its life is in test_provider_life.c, the transcript observer in test_observer.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <unistd.h>

#include "provider_lib.h"
#include "vectors.h"

/* ---- MTLS1-PROOF ---- */

/* [TAG-3] [TAG-5] */
static void proof_is_hmac_over_label_and_data(void **state)
{
    static const char *const labels[2][2] = {{"mtls1 server proof", "mtls1 client confirm"},
                                             {"smkex1 server proof", "smkex1 client confirm"}};
    static const char *const roles[] = {"server", "client"}, *const protocols[] = {"mtls1",
                                                                                   "smkex1"};
    uint8_t data[300], input[340], want[32], tag[32];
    EVP_MAC_CTX *ctx;
    struct lib lib;

    lib_open(&lib);
    ctx = lib_proof(&lib);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    for (int i = 0; i < 4; i++) {
        const char *label = labels[i / 2][i % 2];
        size_t n = strlen(label) + 1;

        memcpy(input, label, n);
        memcpy(input + n, data, sizeof(data));
        for (size_t len = 0; len <= sizeof(data); len += len < 130 ? 1 : 85) {
            raw_hmac("SHA256", test_key, 32, input, n + len, want);
            proof_tag(ctx, roles[i % 2], protocols[i / 2], test_key, data, len, tag);
            assert_memory_equal(tag, want, 32);
        }
    }
    EVP_MAC_CTX_free(ctx);
    lib_close(&lib);
}

static void proof_depends_on_every_bit(void **state)
{
    uint8_t data[40] = {9}, k[32], tag[32], other[32];
    EVP_MAC_CTX *ctx;
    struct lib lib;

    lib_open(&lib);
    ctx = lib_proof(&lib);
    memcpy(k, test_key, 32);
    proof_tag(ctx, "server", NULL, k, data, 40, tag);
    for (size_t bit = 0; bit < 8 * 32; bit++) {
        k[bit / 8] ^= (uint8_t)(1 << bit % 8);
        proof_tag(ctx, "server", "mtls1", k, data, 40, other);
        assert_memory_not_equal(tag, other, 32);
        k[bit / 8] ^= (uint8_t)(1 << bit % 8);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        proof_tag(ctx, "server", NULL, k, data, 40, other);
        assert_memory_not_equal(tag, other, 32);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    proof_tag(ctx, "client", NULL, k, data, 40, other);
    assert_memory_not_equal(tag, other, 32);
    proof_tag(ctx, "server", "smkex1", k, data, 40, other);
    assert_memory_not_equal(tag, other, 32);
    proof_tag(ctx, "server", "mtls1", NULL, data, 39, other); /* the key stays */
    assert_memory_not_equal(tag, other, 32);
    proof_tag(ctx, NULL, NULL, NULL, data, 40, other); /* the role too */
    assert_memory_equal(tag, other, 32);
    EVP_MAC_CTX_free(ctx);
    lib_close(&lib);
}

static void proof_refuses_what_is_incomplete(void **state)
{
    const OSSL_PARAM wrong_type[] = {OSSL_PARAM_construct_octet_string("role", "server", 6), END};
    const OSSL_PARAM wrong_key[] = {TEXT("key", "0123456789abcdef0123456789abcdef"), END};
    const OSSL_PARAM same_role[] = {TEXT("role", "server"), END};
    EVP_MAC_CTX *ctx;
    uint8_t tag[32], k[64] = {0};
    struct lib lib;
    size_t n;

    lib_open(&lib);
    ctx = lib_proof(&lib);
    assert_int_equal(EVP_MAC_update(ctx, test_key, 1), 0);
    expect_reason("operation is not initialised");
    assert_int_equal(proof_init(ctx, NULL, NULL, test_key), 0);
    expect_reason("role is missing (server or client)");
    EVP_MAC_CTX_free(ctx);
    ctx = lib_proof(&lib);
    assert_int_equal(proof_init(ctx, "server", NULL, NULL), 0);
    expect_reason("key is missing");
    assert_int_equal(proof_init(ctx, "serverx", NULL, test_key), 0);
    expect_reason("role is neither server nor client");
    assert_int_equal(proof_init(ctx, "", NULL, test_key), 0);
    expect_reason("role is neither server nor client");
    assert_int_equal(proof_init(ctx, "server", "mtls2", test_key), 0);
    expect_reason("protocol is neither mtls1 nor smkex1");
    for (size_t len = 0; len <= 64; len++) {
        if (len == 32)
            continue;
        assert_int_equal(EVP_MAC_init(ctx, k, len, same_role), 0);
        expect_reason("key has the wrong length");
    }
    assert_int_equal(EVP_MAC_init(ctx, test_key, 32, wrong_type), 0);
    expect_reason("parameter has the wrong type");
    assert_int_equal(EVP_MAC_init(ctx, NULL, 0, wrong_key), 0);
    expect_reason("parameter has the wrong type");
    assert_int_equal(proof_init(ctx, "server", "mtls1", test_key), 1);
    assert_int_equal(EVP_MAC_final(ctx, tag, &n, 31), 0);
    ERR_clear_error();
    assert_int_equal(EVP_MAC_CTX_set_params(ctx, same_role), 1); /* ends the operation */
    assert_int_equal(EVP_MAC_final(ctx, tag, &n, 32), 0);
    expect_reason("operation is not initialised");
    proof_tag(ctx, NULL, NULL, NULL, k, 3, tag);
    assert_int_equal(EVP_MAC_update(ctx, k, 1), 0); /* final was the end */
    expect_reason("operation is not initialised");
    EVP_MAC_CTX_free(ctx);
    lib_close(&lib);
}

static void proof_parameters_are_complete(void **state)
{
    static const char *const gettable[] = {"size", "block-size", "role", "protocol"},
                             *const settable[] = {"role", "protocol", "key"};
    char role[16], protocol[16];
    size_t size = 0, block = 0;
    OSSL_PARAM get[] = {OSSL_PARAM_construct_utf8_string("role", role, sizeof(role)),
                        OSSL_PARAM_construct_utf8_string("protocol", protocol, sizeof(protocol)),
                        OSSL_PARAM_construct_size_t("size", &size),
                        OSSL_PARAM_construct_size_t("block-size", &block), END};
    const OSSL_PARAM set[] = {TEXT("role", "client"), TEXT("protocol", "smkex1"),
                              BYTES("key", test_key, 32), END};
    EVP_MAC_CTX *ctx, *dup;
    uint8_t a[32], b[32];
    struct lib lib;
    size_t n;

    lib_open(&lib);
    ctx = lib_proof(&lib);
    for (size_t i = 0; i < 4; i++)
        assert_non_null(OSSL_PARAM_locate_const(EVP_MAC_CTX_gettable_params(ctx), gettable[i]));
    for (size_t i = 0; i < 3; i++)
        assert_non_null(OSSL_PARAM_locate_const(EVP_MAC_CTX_settable_params(ctx), settable[i]));
    assert_int_equal(EVP_MAC_CTX_get_mac_size(ctx), 32);
    assert_int_equal(EVP_MAC_CTX_get_block_size(ctx), 64);
    assert_int_equal(EVP_MAC_CTX_get_params(ctx, get), 1);
    assert_string_equal(role, "");
    assert_string_equal(protocol, "mtls1");
    assert_int_equal(EVP_MAC_CTX_set_params(ctx, set), 1);
    assert_int_equal(EVP_MAC_CTX_get_params(ctx, get), 1);
    assert_string_equal(role, "client");
    assert_string_equal(protocol, "smkex1");
    assert_true(size == 32 && block == 64);
    assert_int_equal(EVP_MAC_init(ctx, NULL, 0, NULL), 1);
    assert_int_equal(EVP_MAC_update(ctx, test_key, 9), 1);
    dup = EVP_MAC_CTX_dup(ctx); /* in the middle */
    assert_non_null(dup);
    assert_int_equal(EVP_MAC_update(ctx, test_key, 3), 1);
    assert_int_equal(EVP_MAC_final(ctx, a, &n, 32), 1);
    EVP_MAC_CTX_free(ctx);
    assert_int_equal(EVP_MAC_update(dup, test_key, 3), 1);
    assert_int_equal(EVP_MAC_final(dup, b, &n, 32), 1);
    assert_memory_equal(a, b, 32);
    EVP_MAC_CTX_free(dup);
    lib_close(&lib);
}

/* ---- MTLS1-EK ---- */

/* [KEY-3] */
static void ek_is_the_tls_exporter(void **state)
{
    struct vectors *v = vectors_load("exporter");
    uint8_t secret[64], want[64], raw[64], got[64];
    EVP_KDF_CTX *ctx, *dup;
    struct lib lib;

    lib_open(&lib);
    ctx = lib_kdf(&lib, MTLS_ALG_EK, NULL);
    for (size_t i = 0; i < v->nobjects; i++) {
        const char *digest = vectors_str(v, i, "in_hash");
        size_t n = vectors_hex(v, i, "in_exporter_master_secret", secret, sizeof(secret));

        vectors_bytes(v, i, "out_ek", want, 64);
        raw_exporter(digest, secret, n, vectors_str(v, i, "in_label"), raw, 64);
        assert_memory_equal(raw, want, 64);
        assert_int_equal(ek_derive(ctx, digest, secret, n, got, 64), 1);
        assert_memory_equal(got, want, 64);
        dup = EVP_KDF_CTX_dup(ctx);
        assert_non_null(dup);
        assert_int_equal(EVP_KDF_derive(dup, got, 64, NULL), 1);
        assert_memory_equal(got, want, 64);
        EVP_KDF_CTX_free(dup);
        secret[n - 1] ^= 1;
        assert_int_equal(ek_derive(ctx, digest, secret, n, got, 64), 1);
        assert_memory_not_equal(got, want, 64);
    }
    EVP_KDF_CTX_free(ctx);
    vectors_free(v);
    lib_close(&lib);
}

static void ek_refuses_what_is_incomplete(void **state)
{
    const OSSL_PARAM digest[] = {TEXT("digest", "SHA256"), END},
                     smkex[] = {TEXT("protocol", "smkex1"), END};
    const OSSL_PARAM wrong[] = {BYTES("digest", "SHA256", 6), END},
                     nowhere[] = {TEXT("digest", "SHA256"), TEXT("properties", "provider=nowhere"),
                                  END};
    uint8_t secret[80] = {1}, out[128];
    EVP_KDF_CTX *ctx;
    struct lib lib;

    lib_open(&lib);
    ctx = lib_kdf(&lib, MTLS_ALG_EK, NULL);
    assert_int_equal(EVP_KDF_CTX_get_kdf_size(ctx), 64);
    assert_int_equal(EVP_KDF_derive(ctx, out, 64, NULL), 0);
    expect_reason("digest is missing");
    assert_int_equal(EVP_KDF_derive(ctx, out, 64, digest), 0);
    expect_reason("key is missing");
    for (size_t len = 1; len <= 80; len++) {
        if (len == 32)
            continue;
        assert_int_equal(ek_derive(ctx, "SHA256", secret, len, out, 64), 0);
        expect_reason("key has the wrong length");
    }
    for (size_t len = 1; len <= 128; len++) {
        if (len == 64)
            continue;
        assert_int_equal(ek_derive(ctx, "SHA256", secret, 32, out, len), 0);
        expect_reason("output has the wrong length");
    }
    assert_int_equal(ek_derive(ctx, "SHA256", secret, 32, out, 64), 1);
    assert_int_equal(EVP_KDF_CTX_set_params(ctx, wrong), 0);
    expect_reason("parameter has the wrong type");
    assert_int_equal(EVP_KDF_CTX_set_params(ctx, nowhere), 0);
    ERR_clear_error();
    assert_int_equal(ek_derive(ctx, "SHAKE256", secret, 32, out, 64), 0);
    expect_reason("digest is unknown or unusable here");
    assert_int_equal(EVP_KDF_derive(ctx, out, 64, smkex), 0);
    expect_reason("this protocol has no TLS exporter");
    EVP_KDF_CTX_reset(ctx); /* back to mtls1, without digest and key */
    assert_int_equal(EVP_KDF_derive(ctx, out, 64, NULL), 0);
    expect_reason("digest is missing");
    EVP_KDF_CTX_free(ctx);
    lib_close(&lib);
}

/* ---- Known answers of whole sessions ---- */

static void tags_of_the_vectors(const struct lib *lib, const struct vectors *v, size_t o)
{
    uint8_t head[2 + 64 + 32 + 32 + 2 + 32], ks[32], kc[32], want[32], got[32];
    EVP_MAC_CTX *ctx = lib_proof(lib);
    size_t hlen = vectors_hex(v, o, "in_th", head + 2, 64), n = vectors_len(v, o, "in_paths"), at;
    char path[32];

    head[0] = (uint8_t)vectors_int(v, o, "in_version");
    head[1] = (uint8_t)hlen;
    vectors_bytes(v, o, "out_k_s", ks, 32);
    vectors_bytes(v, o, "out_k_c", kc, 32);
    for (size_t i = 0; i < n; i++) {
        at = 2 + hlen;
        snprintf(path, sizeof(path), "out_p2.%zu", i);
        vectors_bytes(v, o, path, head + at, 32);
        at += 32;
        snprintf(path, sizeof(path), "out_tag_s.%zu", i);
        vectors_bytes(v, o, path, want, 32);
        proof_tag(ctx, "server", NULL, ks, head, at, got);
        assert_memory_equal(got, want, 32);
        memcpy(head + at, want, 32);
        at += 32;
        head[at++] = (uint8_t)vectors_int(v, o, "in_k");
        head[at++] = (uint8_t)n;
        vectors_bytes(v, o, "out_d", head + at, 32);
        snprintf(path, sizeof(path), "out_tag_c.%zu", i);
        vectors_bytes(v, o, path, want, 32);
        proof_tag(ctx, "client", NULL, kc, head, at + 32, got);
        assert_memory_equal(got, want, 32);
        proof_tag(ctx, "client", NULL, ks, head, at + 32, got);
        assert_memory_not_equal(got, want, 32);
    }
    EVP_MAC_CTX_free(ctx);
}

static void proof_makes_the_tags_of_the_vectors(void **state)
{
    struct vectors *v = vectors_load("confirm");
    struct lib lib;

    lib_open(&lib);
    for (size_t o = 0; o < v->nobjects; o++)
        tags_of_the_vectors(&lib, v, o);
    vectors_free(v);
    lib_close(&lib);
}

/* ---- The provider's own parameters ---- */

static void provider_parameters_are_complete(void **state)
{
    static const char *const names[] = {"name", "version", "buildinfo", "status",
                                        MTLS_PROV_PARAM_CONFIG};
    char *texts[4] = {NULL}, *config = NULL;
    int status = 0;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_ptr(names[0], &texts[0], 0),
                           OSSL_PARAM_construct_utf8_ptr(names[1], &texts[1], 0),
                           OSSL_PARAM_construct_utf8_ptr(names[2], &texts[2], 0),
                           OSSL_PARAM_construct_int(names[3], &status),
                           OSSL_PARAM_construct_utf8_ptr(names[4], &config, 0),
                           END};
    struct lib lib;

    lib_open(&lib);
    for (size_t i = 0; i < 5; i++)
        assert_non_null(OSSL_PARAM_locate_const(OSSL_PROVIDER_gettable_params(lib.mtls), names[i]));
    assert_int_equal(OSSL_PROVIDER_get_params(lib.mtls, params), 1);
    assert_string_equal(texts[0], "Multipath TLS");
    for (size_t i = 1; i < 3; i++)
        assert_true(texts[i] != NULL && texts[i][0] != '\0');
    assert_int_equal(status, 1);
    assert_string_equal(config, "");
    assert_int_equal(OSSL_PROVIDER_self_test(lib.mtls), 1);
    lib_close(&lib);
}

/* The words out of a configuration file with this section; NULL when the provider refuses them for
 * the right reason. */
static char *config_words(const char *section)
{
    char file[] = "/tmp/test_provider.XXXXXX", *words = NULL, *copy = NULL;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_ptr(MTLS_PROV_PARAM_CONFIG, &words, 0), END};
    struct lib lib = {OSSL_LIB_CTX_new(), NULL, NULL};
    FILE *f = fdopen(mkstemp(file), "w");

    assert_non_null(f);
    fprintf(f,
            "openssl_conf = init\n[init]\nproviders = list\n[list]\ndefault = yes\nmtls = "
            "words\n[yes]\n"
            "activate = 1\n[words]\nactivate = 1\n%s\n",
            section);
    fclose(f);
    assert_int_equal(OSSL_PROVIDER_add_builtin(lib.ctx, "mtls", mtls_provider_init), 1);
    assert_int_equal(OSSL_LIB_CTX_load_config(lib.ctx, file), 1);
    unlink(file);
    lib.mtls = OSSL_PROVIDER_try_load(lib.ctx, "mtls", 1);
    assert_non_null(lib.mtls);
    for (int i = 0; i < 2; i++) { /* the answer is the same the second time */
        free(copy);
        copy = OSSL_PROVIDER_get_params(lib.mtls, params) == 1 ? strdup(words) : NULL;
        if (copy == NULL)
            expect_reason("configuration value is empty or contains white space");
    }
    lib_close(&lib);
    return copy;
}

static void expect_words(const char *section, const char *want)
{
    char *words = config_words(section);

    assert_non_null(words);
    assert_string_equal(words, want);
    free(words);
}

static void section_becomes_words(void **state)
{
    expect_words("", "");
    expect_words("policy = require", "policy=require");
    expect_words("path2 = local=192.0.2.7,port=4434\nneed = 2\npath2.1 = dev=wlan0\npath2.8 = "
                 "auto\npolicy=prefer",
                 "policy=prefer path2=local=192.0.2.7,port=4434 path2=dev=wlan0 path2=auto need=2");
    expect_words("path2.2 = b\nunknown = 1\npath2.1 = a\npath2.9 = i\npath2.x = y",
                 "path2=a path2=b");
    expect_words(
        "name=n\ndeadline=1\ngrace=2\nearly=on\ntfo=off\nreuse=on\nhosts=/"
        "h\nresume=3\nreactor=app\n"
        "listen=[::]:914\nlisten.1=192.0.2.1:914\nadvertise=4\naddress=192.0.2.1:5\naddress.8=192."
        "0.2.2:6\n"
        "tls-port=443\ntls-port.1=8443\ntls-port.16=9443\nmemory=7\nmax-pending=8\nper-source=9\n"
        "share=web\nsingle-port=on\nconfirm=resume\naccept=consistent\nexpose-certificate="
        "on\nalternate=aa\n"
        "alternate.1=bb\nevidence=/e\nevidence-of=all",
        "name=n deadline=1 grace=2 early=on tfo=off reuse=on hosts=/h resume=3 reactor=app "
        "listen=[::]:914 listen=192.0.2.1:914 advertise=4 address=192.0.2.1:5 address=192.0.2.2:6 "
        "tls-port=443 tls-port=8443 tls-port=9443 memory=7 max-pending=8 per-source=9 share=web "
        "single-port=on confirm=resume accept=consistent expose-certificate=on alternate=aa "
        "alternate=bb evidence=/e evidence-of=all");
    assert_null(config_words("name = \"a b\""));
    assert_null(config_words("name = a\\tpolicy=off"));
    assert_null(config_words("name = \"\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proof_is_hmac_over_label_and_data),
        cmocka_unit_test(proof_depends_on_every_bit),
        cmocka_unit_test(proof_refuses_what_is_incomplete),
        cmocka_unit_test(proof_parameters_are_complete),
        cmocka_unit_test(ek_is_the_tls_exporter),
        cmocka_unit_test(ek_refuses_what_is_incomplete),
        cmocka_unit_test(proof_makes_the_tags_of_the_vectors),
        cmocka_unit_test(provider_parameters_are_complete),
        cmocka_unit_test(section_becomes_words),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
