/* Concept: tests of the transcript observer: the same results as the KDF it wraps, and, over real
 * TLS 1.3 handshakes in memory, the transcript hash and the exporter secret that libssl used. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>

#include "provider_lib.h"

enum { OBSERVED = 130 };

/* ---- Transparency ---- */

struct tls13 { /* one use of TLS13-KDF */
    int mode;
    const char *digest, *label;
    size_t keylen, datalen, outlen;
};

static const struct tls13 uses[] = {
    {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "SHA256", "exp master", 32, 32, 32},
    {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "SHA384", "exp master", 48, 48, 48},
    {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "SHA256", "exp maste", 32, 32, 32},
    {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "SHA256", "key", 32, 0, 16},
    {EVP_KDF_HKDF_MODE_EXTRACT_ONLY, "SHA256", "derived", 32, 0, 32},
    /* refused underneath: */
    {EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND, "SHA256", "derived", 32, 0, 32},
    {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "no-such-digest", "key", 32, 0, 16},
    {EVP_KDF_HKDF_MODE_EXPAND_ONLY, "SHA256", "key", 0, 0, 16},
};

static int tls13_derive(EVP_KDF_CTX *ctx, const struct tls13 *use, bool beforehand, uint8_t *out)
{
    static const uint8_t key[64] = {1, 2, 3}, data[64] = {4, 5, 6};
    int mode = use->mode;
    OSSL_PARAM params[8], *p = params;

    *p++ = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode);
    *p++ = TEXT(OSSL_KDF_PARAM_DIGEST, use->digest);
    if (use->keylen > 0)
        *p++ = BYTES(OSSL_KDF_PARAM_KEY, key, use->keylen);
    *p++ = BYTES(OSSL_KDF_PARAM_PREFIX, "tls13 ", 6);
    *p++ = BYTES(OSSL_KDF_PARAM_LABEL, use->label, strlen(use->label));
    if (use->datalen > 0)
        *p++ = BYTES(OSSL_KDF_PARAM_DATA, data, use->datalen);
    *p = END;
    memset(out, 0, 64);
    if (!beforehand)
        return EVP_KDF_derive(ctx, out, use->outlen, params);
    return EVP_KDF_CTX_set_params(ctx, params) && EVP_KDF_derive(ctx, out, use->outlen, NULL);
}

/* Not every OpenSSL 3 can duplicate its TLS13-KDF: then ours cannot either. */
static void check_dup(const EVP_KDF_CTX *ours, const EVP_KDF_CTX *theirs)
{
    EVP_KDF_CTX *a = EVP_KDF_CTX_dup(ours), *b = EVP_KDF_CTX_dup(theirs);
    uint8_t x[64], y[64];

    assert_int_equal(a == NULL, b == NULL);
    if (a != NULL) {
        assert_int_equal(tls13_derive(a, &uses[0], true, x), 1);
        assert_int_equal(tls13_derive(b, &uses[0], true, y), 1);
        assert_memory_equal(x, y, sizeof(x));
    }
    EVP_KDF_CTX_free(a);
    EVP_KDF_CTX_free(b);
    ERR_clear_error();
}

static void observer_gives_the_results_of_the_kdf_underneath(void **state)
{
    struct lib lib;
    uint8_t a[64], b[64];

    lib_open(&lib);
    for (size_t i = 0; i < 2 * sizeof(uses) / sizeof(uses[0]); i++) {
        EVP_KDF_CTX *ours = lib_kdf(&lib, "TLS13-KDF", "mtls.observer=yes");
        EVP_KDF_CTX *theirs = lib_kdf(&lib, "TLS13-KDF", "provider=default");
        unsigned long e;
        int rc = tls13_derive(theirs, &uses[i / 2], i % 2, a);

        e = ERR_peek_error();
        ERR_clear_error();
        assert_int_equal(tls13_derive(ours, &uses[i / 2], i % 2, b), rc);
        assert_int_equal(ERR_peek_error(), e);
        ERR_clear_error();
        if (rc == 1)
            assert_memory_equal(a, b, sizeof(a));
        assert_int_equal(EVP_KDF_CTX_get_kdf_size(ours), EVP_KDF_CTX_get_kdf_size(theirs));
        check_dup(ours, theirs);
        EVP_KDF_CTX_reset(ours); /* nothing of the parameters stays */
        assert_int_not_equal(EVP_KDF_derive(ours, b, 32, NULL), 1);
        ERR_clear_error();
        EVP_KDF_CTX_free(ours);
        EVP_KDF_CTX_free(theirs);
    }
    lib_close(&lib);
}

static void same_names(const OSSL_PARAM *a, const OSSL_PARAM *b)
{
    assert_int_equal(a == NULL, b == NULL);
    for (; a != NULL && a->key != NULL; a++, b++) {
        assert_non_null(b->key);
        assert_string_equal(a->key, b->key);
        assert_int_equal(a->data_type, b->data_type);
    }
    assert_true(b == NULL || b->key == NULL);
}

static void observer_has_the_parameters_of_the_kdf_underneath(void **state)
{
    struct lib lib;
    EVP_KDF *ours, *theirs;

    lib_open(&lib);
    ours = EVP_KDF_fetch(lib.ctx, "TLS13-KDF", "?mtls.observer=yes");
    theirs = EVP_KDF_fetch(lib.ctx, "TLS13-KDF", "provider=default");
    assert_ptr_equal(EVP_KDF_get0_provider(ours), lib.mtls);
    assert_ptr_equal(EVP_KDF_get0_provider(theirs), lib.dflt);
    same_names(EVP_KDF_settable_ctx_params(theirs), EVP_KDF_settable_ctx_params(ours));
    same_names(EVP_KDF_gettable_ctx_params(theirs), EVP_KDF_gettable_ctx_params(ours));
    same_names(EVP_KDF_gettable_params(theirs), EVP_KDF_gettable_params(ours));
    EVP_KDF_free(ours);
    EVP_KDF_free(theirs);
    lib_close(&lib);
}

/* ---- The slot ---- */

static int take(EVP_KDF_CTX *reader, uint8_t out[OBSERVED])
{
    return EVP_KDF_derive(reader, out, OBSERVED, NULL);
}

static void expect_nothing(EVP_KDF_CTX *reader)
{
    uint8_t out[OBSERVED];

    assert_int_not_equal(take(reader, out), 1);
    expect_reason("no handshake was observed on this thread");
}

static void observe_once(const struct lib *lib, const struct tls13 *use)
{
    EVP_KDF_CTX *ctx = lib_kdf(lib, "TLS13-KDF", "mtls.observer=yes");
    uint8_t out[64];

    assert_int_equal(tls13_derive(ctx, use, false, out), 1);
    EVP_KDF_CTX_free(ctx);
}

static void only_exp_master_is_noted_and_is_taken_once(void **state)
{
    struct lib lib;
    EVP_KDF_CTX *reader;
    uint8_t out[OBSERVED], want[64] = {4, 5, 6}, secret[64];

    lib_open(&lib);
    reader = lib_kdf(&lib, MTLS_ALG_OBSERVED, NULL);
    assert_int_equal(EVP_KDF_CTX_get_kdf_size(reader), OBSERVED);
    for (size_t i = 0; i < 5; i++) {
        EVP_KDF_CTX *theirs = lib_kdf(&lib, "TLS13-KDF", "provider=default");

        assert_int_equal(tls13_derive(theirs, &uses[i], false, secret), 1);
        EVP_KDF_CTX_free(theirs);
        observe_once(&lib, &uses[i]);
        if (i < 2) {
            assert_int_equal(take(reader, out), 1);
            assert_int_equal(out[0], uses[i].datalen);
            assert_int_equal(out[1], uses[i].outlen);
            assert_memory_equal(out + 2, want, 64);
            assert_memory_equal(out + 66, secret, 64);
        }
        expect_nothing(reader);
    }
    EVP_KDF_CTX_free(reader);
    lib_close(&lib);
}

static void wrong_length_leaves_the_note(void **state)
{
    struct lib lib;
    EVP_KDF_CTX *reader, *dup;
    uint8_t out[OBSERVED + 1];

    lib_open(&lib);
    reader = lib_kdf(&lib, MTLS_ALG_OBSERVED, NULL);
    observe_once(&lib, &uses[0]);
    for (size_t len = OBSERVED - 1; len <= OBSERVED + 1; len += 2) {
        assert_int_not_equal(EVP_KDF_derive(reader, out, len, NULL), 1);
        expect_reason("output has the wrong length");
    }
    EVP_KDF_CTX_reset(reader);
    dup = EVP_KDF_CTX_dup(reader);
    assert_non_null(dup);
    EVP_KDF_CTX_free(reader);
    assert_int_equal(take(dup, out), 1);
    EVP_KDF_CTX_free(dup);
    lib_close(&lib);
}

static void without_a_reader_nothing_is_noted(void **state)
{
    struct lib lib;
    EVP_KDF_CTX *reader;

    lib_open(&lib);
    observe_once(&lib, &uses[0]);
    reader = lib_kdf(&lib, MTLS_ALG_OBSERVED, NULL);
    expect_nothing(reader);
    observe_once(&lib, &uses[0]);
    EVP_KDF_CTX_free(reader); /* the last one takes the note with it */
    reader = lib_kdf(&lib, MTLS_ALG_OBSERVED, NULL);
    expect_nothing(reader);
    EVP_KDF_CTX_free(reader);
    lib_close(&lib);
}

static void *take_on_thread(void *reader)
{
    uint8_t out[OBSERVED];
    int rc = take(reader, out);

    ERR_clear_error();
    return rc == 1 ? reader : NULL;
}

static void the_note_belongs_to_thread_and_library_context(void **state)
{
    struct lib a, b;
    EVP_KDF_CTX *reader_a, *reader_b;
    uint8_t out[OBSERVED];
    pthread_t thread;
    void *got;

    lib_open(&a);
    lib_open(&b);
    reader_a = lib_kdf(&a, MTLS_ALG_OBSERVED, NULL);
    reader_b = lib_kdf(&b, MTLS_ALG_OBSERVED, NULL);
    observe_once(&a, &uses[0]);
    expect_nothing(reader_b);
    assert_int_equal(pthread_create(&thread, NULL, take_on_thread, reader_a), 0);
    pthread_join(thread, &got);
    assert_null(got);
    assert_int_equal(take(reader_a, out), 1);
    observe_once(&a, &uses[0]);
    observe_once(&b, &uses[1]); /* the latest one counts */
    expect_nothing(reader_a);
    assert_int_equal(take(reader_b, out), 1);
    assert_int_equal(out[0], 48);
    EVP_KDF_CTX_free(reader_a);
    EVP_KDF_CTX_free(reader_b);
    lib_close(&a);
    lib_close(&b);
}

/* ---- Handshakes ---- */

struct end { /* one side of a handshake, with a transcript of its own */
    SSL *ssl;
    uint8_t log[16384];
    size_t len, first_hello; /* length of ClientHello1 */
    bool retried, closed;
    EVP_KDF_CTX *reader;
    int taken;
    uint8_t seen[OBSERVED];
};

static const uint8_t hrr_random[4] = {0xcf, 0x21, 0xad, 0x74};

/* ClientHello .. server Finished; ClientHello1 is replaced after a HelloRetryRequest when hashing.
 */
static void on_message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                       void *arg)
{
    struct end *end = arg;
    const uint8_t *msg = buf;

    if (type != SSL3_RT_HANDSHAKE || end->closed)
        return;
    assert_true(len <= sizeof(end->log) - end->len);
    if (end->len == 0)
        end->first_hello = len;
    if (msg[0] == SSL3_MT_SERVER_HELLO && memcmp(msg + 6, hrr_random, sizeof(hrr_random)) == 0)
        end->retried = true;
    memcpy(end->log + end->len, buf, len);
    end->len += len;
    if (msg[0] == SSL3_MT_FINISHED)
        end->closed = true;
}

static size_t transcript_hash(const struct end *end, const char *digest, uint8_t *out)
{
    uint8_t input[sizeof(end->log) + 64];
    size_t n = 0, skip = 0, hlen = 0;

    if (end->retried) {
        assert_int_equal(
            EVP_Q_digest(NULL, digest, NULL, end->log, end->first_hello, input + 4, &hlen), 1);
        memcpy(input, (const uint8_t[]){254, 0, 0, (uint8_t)hlen}, 4);
        n = 4 + hlen;
        skip = end->first_hello;
    }
    memcpy(input + n, end->log + skip, end->len - skip);
    assert_int_equal(EVP_Q_digest(NULL, digest, NULL, input, n + end->len - skip, out, &hlen), 1);
    return hlen;
}

static void end_open(struct end *end, const struct lib *lib, SSL_CTX *ctx, bool server)
{
    memset(end, 0, sizeof(*end));
    end->ssl = SSL_new(ctx);
    assert_non_null(end->ssl);
    SSL_set_msg_callback(end->ssl, on_message);
    SSL_set_msg_callback_arg(end->ssl, end);
    end->reader = lib_kdf(lib, MTLS_ALG_OBSERVED, NULL);
    if (server)
        SSL_set_accept_state(end->ssl);
    else
        SSL_set_connect_state(end->ssl);
}

static void end_close(struct end *end)
{
    SSL_set_shutdown(end->ssl,
                     SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* or the session is spoilt */
    SSL_free(end->ssl);
    EVP_KDF_CTX_free(end->reader);
}

/* One step; the note is taken before the other side can replace it. */
static void end_step(struct end *end)
{
    int rc = SSL_do_handshake(end->ssl);

    if (rc != 1)
        assert_int_equal(SSL_get_error(end->ssl, rc), SSL_ERROR_WANT_READ);
    if (end->taken == 0 && take(end->reader, end->seen) == 1)
        end->taken = 1;
    ERR_clear_error();
}

static void end_check(const struct end *end, const char *digest)
{
    uint8_t th[EVP_MAX_MD_SIZE], ours[64], theirs[64];
    size_t hlen = transcript_hash(end, digest, th);

    assert_int_equal(end->taken, 1);
    assert_int_equal(end->seen[0], hlen);
    assert_int_equal(end->seen[1], hlen);
    assert_memory_equal(end->seen + 2, th, hlen);
    raw_exporter(digest, end->seen + 66, hlen, "EXPORTER-Multipath-TLS-1", ours, 64);
    assert_int_equal(SSL_export_keying_material(end->ssl, theirs, 64, "EXPORTER-Multipath-TLS-1",
                                                24, NULL, 0, 0),
                     1);
    assert_memory_equal(ours, theirs, 64);
}

static void self_signed(SSL_CTX *ctx)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *name = X509_NAME_new();

    assert_non_null(key);
    assert_non_null(cert);
    assert_int_equal(X509_set_version(cert, X509_VERSION_3), 1);
    assert_int_equal(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(cert), -60));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(cert), 3600));
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                                (const uint8_t *)"server.test", -1, -1, 0),
                     1);
    assert_int_equal(X509_set_subject_name(cert, name), 1);
    assert_int_equal(X509_set_issuer_name(cert, name), 1);
    X509_NAME_free(name);
    assert_int_equal(X509_set_pubkey(cert, key), 1);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static SSL_CTX *context(const struct lib *lib, const char *query, const char *suite, bool server)
{
    SSL_CTX *ctx = SSL_CTX_new_ex(lib->ctx, query, TLS_method());

    assert_non_null(ctx);
    assert_int_equal(SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION), 1);
    assert_int_equal(SSL_CTX_set_ciphersuites(ctx, suite), 1);
    assert_int_equal(SSL_CTX_set1_groups_list(ctx, server ? "P-384" : "X25519:P-384"), 1);
    if (server)
        self_signed(ctx);
    return ctx;
}

/* Runs client and server against each other; session: resume this one, or NULL. Returns the new
 * one. */
static SSL_SESSION *handshake(struct end *client, struct end *server, SSL_SESSION *session)
{
    SSL_SESSION *fresh;
    char byte;
    BIO *a, *b;

    if (session != NULL)
        assert_int_equal(SSL_set_session(client->ssl, session), 1);
    assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
    SSL_set_bio(client->ssl, a, a);
    SSL_set_bio(server->ssl, b, b);
    for (int i = 0;
         i < 10 && !(SSL_is_init_finished(client->ssl) && SSL_is_init_finished(server->ssl)); i++) {
        end_step(client);
        end_step(server);
    }
    assert_true(SSL_is_init_finished(client->ssl) && SSL_is_init_finished(server->ssl));
    assert_int_equal(SSL_session_reused(client->ssl), session != NULL);
    assert_true(SSL_read(client->ssl, &byte, 1) <= 0); /* tickets */
    fresh = SSL_get1_session(client->ssl);
    SSL_SESSION_free(session);
    return fresh;
}

static void handshakes_are_observed(bool mtls_first, const char *suite, const char *digest,
                                    bool retry)
{
    struct end client, server;
    SSL_SESSION *session = NULL;
    SSL_CTX *cctx, *sctx;
    struct lib lib;

    lib_open_order(&lib, mtls_first);
    cctx = context(&lib, MTLS_OBSERVER_QUERY, suite, false);
    sctx = context(&lib, MTLS_OBSERVER_QUERY, suite, true);
    if (!retry)
        assert_int_equal(SSL_CTX_set1_groups_list(cctx, "P-384"), 1);
    for (int round = 0; round < 2; round++) { /* full, then resumed */
        end_open(&client, &lib, cctx, false);
        end_open(&server, &lib, sctx, true);
        session = handshake(&client, &server, session);
        assert_int_equal(client.retried, retry);
        end_check(&client, digest);
        end_check(&server, digest);
        assert_memory_equal(client.seen, server.seen, OBSERVED);
        end_close(&client);
        end_close(&server);
    }
    SSL_SESSION_free(session);
    SSL_CTX_free(cctx);
    SSL_CTX_free(sctx);
    lib_close(&lib);
}

/* [KEY-1] */
static void every_handshake_is_observed(void **state)
{
    for (unsigned bits = 0; bits < 8; bits++)
        handshakes_are_observed(bits & 1,
                                bits & 2 ? "TLS_AES_256_GCM_SHA384" : "TLS_AES_128_GCM_SHA256",
                                bits & 2 ? "SHA384" : "SHA256", bits & 4);
}

/* The default query: whichever provider libcrypto takes, TLS works; and where the observer is
 * excluded, nothing is noted. */
static void handshakes_without_the_query_work(void **state)
{
    static const char *const queries[] = {NULL, "", "provider=default", "mtls.observer!=yes"};
    struct end client, server;

    for (unsigned i = 0; i < 8; i++) {
        const char *suite = "TLS_AES_128_GCM_SHA256", *query = queries[i / 2];
        SSL_CTX *cctx, *sctx;
        struct lib lib;

        lib_open_order(&lib, i % 2);
        cctx = context(&lib, query, suite, false);
        sctx = context(&lib, query, suite, true);
        end_open(&client, &lib, cctx, false);
        end_open(&server, &lib, sctx, true);
        SSL_SESSION_free(handshake(&client, &server, NULL));
        if (i >= 4)
            assert_int_equal(client.taken + server.taken, 0);
        else if (client.taken)
            end_check(&client, "SHA256");
        end_close(&client);
        end_close(&server);
        SSL_CTX_free(cctx);
        SSL_CTX_free(sctx);
        lib_close(&lib);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(observer_gives_the_results_of_the_kdf_underneath),
        cmocka_unit_test(observer_has_the_parameters_of_the_kdf_underneath),
        cmocka_unit_test(only_exp_master_is_noted_and_is_taken_once),
        cmocka_unit_test(wrong_length_leaves_the_note),
        cmocka_unit_test(without_a_reader_nothing_is_noted),
        cmocka_unit_test(the_note_belongs_to_thread_and_library_context),
        cmocka_unit_test(every_handshake_is_observed),
        cmocka_unit_test(handshakes_without_the_query_work),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
