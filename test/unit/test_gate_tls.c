/* TLS's own features under the gate: HelloRetryRequest, client certificates, suites, SNI switches,
 * resumption, KeyUpdate, early data. */
#include "gate_lab.h"

#include <signal.h>

#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include "mtls/core/record.h"

static void lab_verified(struct lab *l)
{
    lab_run(l);
    assert_verified(&l->c);
    assert_verified(&l->s);
}

static void groups(struct lab *l, const char *server, const char *client)
{
    assert_int_equal(SSL_CTX_set1_groups_list(l->server, server), 1);
    assert_int_equal(SSL_CTX_set1_groups_list(l->client, client), 1);
}

static void hello_retry(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++) {
        struct lab l;

        if (!tells_fd((enum style)style))
            continue;
        lab_make(&l, SERVER_WORDS, "require", "");
        groups(&l, "P-384", "X25519:P-384");
        l.c.style = l.s.style = (enum style)style;
        lab_verified(&l);
        assert_int_equal(relay_seen(&l.p1, C2S, 22), 2); /* there was one */
        lab_free(&l);
    }
}

static unsigned told; /* atomic: outcome call-backs */

static void tell(SSL *ssl, enum mtls_outcome outcome, int reason, const char *json, void *arg)
{
    __atomic_add_fetch(&told, 1, __ATOMIC_SEQ_CST);
}

/* A plain peer on either side, with HelloRetryRequest: one outcome for each handshake, not two. */
static void hello_retry_plain(void **state)
{
    struct lab l;

    lab_make(&l, "policy=prefer", NULL, "");
    groups(&l, "P-384", "X25519:P-384");
    __atomic_store_n(&told, 0, __ATOMIC_SEQ_CST);
    mtls_ssl_ctx_set_outcome_callback(l.server, tell, NULL);
    lab_run(&l);
    assert_int_equal(l.s.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(l.s.reason, MTLS_ERR_NOT_OFFERED);
    assert_int_equal(l.c.got, 5);
    assert_int_equal(__atomic_load_n(&told, __ATOMIC_SEQ_CST), 1);
    lab_free(&l);

    lab_make(&l, NULL, "prefer", "");
    relay_stop(&l.p2); /* refused */
    groups(&l, "P-384", "X25519:P-384");
    __atomic_store_n(&told, 0, __ATOMIC_SEQ_CST);
    mtls_ssl_ctx_set_outcome_callback(l.client, tell, NULL);
    lab_run(&l);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(l.c.got, 5);
    assert_int_equal(__atomic_load_n(&told, __ATOMIC_SEQ_CST), 1);
    relay_start(&l.p2, RELAY_PATH2, "127.0.1.1", "127.0.1.1", 9);
    lab_free(&l);

    lab_make(&l, NULL, "prefer", ""); /* nothing is offered: path 1's socket is not known */
    groups(&l, "P-384", "X25519:P-384");
    __atomic_store_n(&told, 0, __ATOMIC_SEQ_CST);
    mtls_ssl_ctx_set_outcome_callback(l.client, tell, NULL);
    l.c.style = MEMORY;
    lab_run(&l);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(l.c.got, 5);
    assert_int_equal(__atomic_load_n(&told, __ATOMIC_SEQ_CST), 1);
    lab_free(&l);
}

static void require_against_plain_client(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS, NULL, "");
    __atomic_store_n(&told, 0, __ATOMIC_SEQ_CST);
    mtls_ssl_ctx_set_outcome_callback(l.server, tell, NULL);
    lab_run(&l);
    assert_failed(&l.s, MTLS_ERR_NOT_OFFERED);
    assert_int_equal(l.s.queue, MTLS_ERR_NOT_OFFERED);
    assert_int_equal(__atomic_load_n(&told, __ATOMIC_SEQ_CST), 1);
    assert_int_equal(l.c.got, 0);
    lab_free(&l);

    lab_make(&l, "policy=prefer", NULL, "");
    lab_run(&l);
    assert_int_equal(l.s.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(l.c.got, 5);
    lab_free(&l);
}

static void suites(void **state)
{
    static const char *const names[] = {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256",
                                        "TLS_CHACHA20_POLY1305_SHA256"};
    int i;

    for (i = 0; i < 3; i++) {
        struct lab l;

        lab_make(&l, SERVER_WORDS, "require", "");
        SSL_CTX_set_ciphersuites(l.client, names[i]);
        if (i == 0)
            groups(&l, "P-384", "X25519:P-384");
        lab_verified(&l);
        lab_free(&l);
    }
}

/* ---- client certificates ---- */

/* A certificate of about so many bytes that do not compress (libssl may compress certificates
 * from 3.2 on), signed by the test's own key. */
static X509 *big_certificate(size_t padding)
{
    X509 *x = X509_dup(pair_cert);
    ASN1_OCTET_STRING *data = ASN1_OCTET_STRING_new();
    ASN1_OBJECT *type = OBJ_txt2obj("1.3.6.1.4.1.55555.1", 1);
    unsigned char *noise = OPENSSL_malloc(padding + 1);
    X509_EXTENSION *ext;

    assert_int_equal(RAND_bytes(noise, (int)padding), 1);
    ASN1_OCTET_STRING_set(data, noise, (int)padding);
    ext = X509_EXTENSION_create_by_OBJ(NULL, type, 0, data);
    X509_add_ext(x, ext, -1);
    assert_true(X509_sign(x, pair_key, EVP_sha256()) > 0);
    X509_EXTENSION_free(ext);
    ASN1_OBJECT_free(type);
    ASN1_OCTET_STRING_free(data);
    OPENSSL_free(noise);
    return x;
}

static int accept_all(int ok, X509_STORE_CTX *ctx)
{
    return 1;
}

/* Not a byte of the client's second flight is on the wire while path 2 is held. */
static void client_certificate_once(size_t padding, enum style style)
{
    struct lab l;
    X509 *x;
    size_t before;

    lab_make(&l, SERVER_WORDS, "require", "");
    x = big_certificate(padding);
    SSL_CTX_use_certificate(l.client, x);
    SSL_CTX_use_PrivateKey(l.client, pair_key);
    SSL_CTX_set_verify(l.server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_all);
    l.c.style = style;
    relay_hold(&l.p2, false, true);
    lab_start(&l);
    relay_wait(&l.p1, S2C, 23, 5); /* CertificateRequest too */
    relay_wait(&l.p2, C2S, 1, 1);
    relay_release_after(&l.p2, 100);
    pthread_mutex_lock(&l.p1.lock);
    before = l.p1.seen[C2S][23];
    pthread_mutex_unlock(&l.p1.lock);
    assert_int_equal(before, 0);
    lab_join(&l);
    assert_verified(&l.c);
    assert_verified(&l.s);
    relay_stop(&l.p1);
    assert_true(l.p1.bytes[C2S] > padding);
    relay_start(&l.p1, RELAY_PATH1, "127.0.0.1", "127.0.0.1", l.port);
    X509_free(x);
    lab_free(&l);
}

static void client_certificate(void **state)
{
    static const size_t paddings[] = {16, 6000, 30000};
    int style;
    size_t i;

    for (i = 0; i < 3; i++) {
        for (style = 0; style < STYLES; style++) {
            if (tells_fd((enum style)style))
                client_certificate_once(paddings[i], (enum style)style);
        }
    }
}

/* And none at all where the proof is wrong or missing. */
static void client_certificate_kept(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++) {
        struct lab l;
        X509 *x;

        if (!tells_fd((enum style)style))
            continue;
        lab_make(&l, SERVER_WORDS "deadline=300", "require", "");
        x = big_certificate(6000);
        SSL_CTX_use_certificate(l.client, x);
        SSL_CTX_use_PrivateKey(l.client, pair_key);
        SSL_CTX_set_verify(l.server, SSL_VERIFY_PEER, accept_all);
        l.c.style = (enum style)style;
        relay_flip(&l.p2, 3, 1, 9);
        lab_run(&l);
        assert_failed(&l.c, MTLS_ERR_PROOF_WRONG);
        assert_int_equal(relay_seen(&l.p1, C2S, 23), 0);
        X509_free(x);
        lab_free(&l);
    }
}

/* TLS 1.2 under prefer: its second flight is plaintext handshake records, and it waits as well. */
static void client_certificate_tls12(void **state)
{
    struct lab l;
    X509 *x;

    lab_make(&l, NULL, "prefer", "grace=1000");
    x = big_certificate(16);
    SSL_CTX_set_max_proto_version(l.server, TLS1_2_VERSION);
    SSL_CTX_use_certificate(l.client, x);
    SSL_CTX_use_PrivateKey(l.client, pair_key);
    SSL_CTX_set_verify(l.server, SSL_VERIFY_PEER, accept_all);
    relay_hold(&l.p2, true, true);
    lab_start(&l);
    relay_wait(&l.p1, S2C, 22, 1);
    end_join(&l.c);
    end_join(&l.s);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(l.c.reason, MTLS_ERR_TLS_VERSION);
    assert_true(l.c.ms >= 900);
    assert_int_equal(l.c.got, 5);
    X509_free(x);
    lab_free(&l);

    lab_make(&l, NULL, "require", "");
    SSL_CTX_set_max_proto_version(l.server, TLS1_2_VERSION);
    lab_run(&l);
    assert_true(l.c.rc <= 0);
    assert_int_equal(l.c.got, 0);
    lab_free(&l);
}

/* ---- SNI ---- */

static int switch_to(SSL *ssl, int *alert, void *arg)
{
    SSL_set_SSL_CTX(ssl, arg);
    return SSL_TLSEXT_ERR_OK;
}

static void switched(const char *base, const char *target, struct lab *l)
{
    SSL_CTX *other = pair_server_ctx();

    if (target != NULL)
        assert_int_equal(mtls_ssl_ctx_hook(other, target), 1);
    lab_make(l, base, "require", "");
    SSL_CTX_set_tlsext_servername_callback(l->server, switch_to);
    SSL_CTX_set_tlsext_servername_arg(l->server, other);
    lab_run(l);
    SSL_CTX_free(other);
}

static void sni_switch(void **state)
{
    struct lab l;

    switched(SERVER_WORDS, SERVER_WORDS, &l);
    assert_verified(&l.c);
    assert_verified(&l.s);
    lab_free(&l);
    switched(SERVER_WORDS, NULL, &l);
    assert_failed(&l.s, MTLS_ERR_NOT_PROTECTED_CTX);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_FAILED);
    lab_free(&l);
    switched("policy=prefer", NULL, &l);
    assert_int_equal(l.c.outcome,
                     MTLS_OUTCOME_FAILED); /* it requires; the server's half is plain or cut */
    assert_int_not_equal(l.s.outcome, MTLS_OUTCOME_VERIFIED);
    lab_free(&l);
}

static void sni_switch_prefer(void **state)
{
    SSL_CTX *other = pair_server_ctx();
    struct lab l;

    lab_make(&l, "policy=prefer", "prefer", "");
    relay_stop(&l.p2); /* refused: READY would show a downgrade */
    SSL_CTX_set_tlsext_servername_callback(l.server, switch_to);
    SSL_CTX_set_tlsext_servername_arg(l.server, other);
    lab_run(&l);
    assert_int_equal(l.s.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(l.s.reason, MTLS_ERR_NOT_PROTECTED_CTX);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(l.c.got, 5);
    SSL_CTX_free(other);
    relay_start(&l.p2, RELAY_PATH2, "127.0.1.1", "127.0.1.1", 9);
    lab_free(&l);
}

/* ---- resumption ---- */

static SSL_SESSION *session_of(struct lab *l)
{
    SSL_SESSION *session;

    l->c.keep = true;
    lab_run(l);
    assert_verified(&l->c);
    session = SSL_get1_session(l->c.ssl);
    SSL_shutdown(l->c.ssl);
    end_close(&l->c);
    lab_ends(l);
    l->c.session = session;
    return session;
}

static void resumption(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++) {
        struct lab l;
        SSL_SESSION *session;

        if (!tells_fd((enum style)style))
            continue;
        lab_make(&l, SERVER_WORDS, "require", "reuse=off");
        session = session_of(&l);
        l.c.style = l.s.style = (enum style)style;
        lab_run(&l);
        assert_int_equal(l.c.outcome, MTLS_OUTCOME_RESUMED_VERIFIED);
        assert_int_equal(l.s.outcome, MTLS_OUTCOME_RESUMED_VERIFIED);
        assert_int_equal(l.c.got, 5);
        SSL_SESSION_free(session);
        lab_free(&l);
    }
}

/* The server's key is the same, the record is gone: confirmed anew over path 2. */
static void resumption_without_record(void **state)
{
    struct lab l;
    SSL_SESSION *session;

    lab_make(&l, SERVER_WORDS, "require", "reuse=off");
    session = session_of(&l);
    assert_int_equal(SSL_SESSION_set1_ticket_appdata(session, NULL, 0), 1);
    lab_run(&l);
    assert_verified(&l.c);
    assert_int_equal(l.s.outcome, MTLS_OUTCOME_RESUMED_VERIFIED);
    SSL_SESSION_free(session);
    lab_free(&l);
}

static void no_message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                       void *arg)
{
}

/* The application takes the message call-back: the client cannot know that when it says that it
 * needs no PROOF. The transcript hash is the observer's. Last of all: it stays on. */
static void resumption_displaced(void **state)
{
    struct lab l;
    SSL_SESSION *session;

    assert_int_equal(mtls_observer_enable(NULL), 1);
    lab_make(&l, SERVER_WORDS, "require", "reuse=off");
    session = session_of(&l);
    SSL_CTX_set_msg_callback(l.client, no_message);
    lab_run(&l);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_RESUMED_VERIFIED);
    assert_int_equal(l.s.outcome, MTLS_OUTCOME_RESUMED_VERIFIED);
    SSL_SESSION_free(session);
    lab_free(&l);
}

/* The record's age is over (its time is moved back by a day): not a word of it counts. */
static void resumption_expired(void **state)
{
    struct lab l;
    SSL_SESSION *session;
    void *data;
    size_t len;
    struct mtls_record record;
    uint8_t out[MTLS_RECORD_MAX];
    int n;

    lab_make(&l, SERVER_WORDS, "require", "reuse=off");
    session = session_of(&l);
    assert_int_equal(SSL_SESSION_get0_ticket_appdata(session, &data, &len), 1);
    assert_int_equal(mtls_record_parse(data, len, &record), 0);
    record.verified_at -= 86400 + 60;
    n = mtls_record_encode(&record, out, sizeof(out));
    assert_true(n > 0);
    assert_int_equal(SSL_SESSION_set1_ticket_appdata(session, out, (size_t)n), 1);
    lab_run(&l);
    assert_verified(&l.c);
    SSL_SESSION_free(session);
    lab_free(&l);
}

/* Without tickets the server writes nothing after the client's Finished: its gate goes away in a
 * read. */
static void no_tickets(void **state)
{
    static const enum style styles[] = {BLOCKING, LEVEL, EDGE, MEMORY_FD};

    for (size_t i = 0; i < sizeof(styles) / sizeof(styles[0]); i++) {
        struct lab l;

        lab_make(&l, SERVER_WORDS, "require", "");
        assert_int_equal(SSL_CTX_set_num_tickets(l.server, 0), 1);
        l.c.style = l.s.style = styles[i];
        lab_verified(&l);
        lab_free(&l);
    }
}

/* ---- KeyUpdate ---- */

static void key_update(void **state)
{
    struct lab l;
    char buf[16];
    int i;

    lab_make(&l, SERVER_WORDS, "require", "");
    l.c.keep = l.s.keep = l.c.no_data = l.s.no_data = true;
    lab_run(&l);
    for (i = 0; i < 2; i++) {
        assert_int_equal(SSL_key_update(i == 0 ? l.c.ssl : l.s.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        assert_int_equal(SSL_write(l.c.ssl, "a", 1), 1);
        assert_int_equal(SSL_read(l.s.ssl, buf, sizeof(buf)), 1);
        assert_int_equal(SSL_write(l.s.ssl, "b", 1), 1);
        assert_int_equal(SSL_read(l.c.ssl, buf, sizeof(buf)), 1);
    }
    assert_int_equal(mtls_get_outcome(l.c.ssl), MTLS_OUTCOME_VERIFIED);
    end_close(&l.c);
    end_close(&l.s);
    lab_free(&l);
}

/* ---- early data ---- */

/* A session whose ticket allows 0-RTT, from a server that is not hooked. */
static SSL_SESSION *early_session(SSL_CTX *client, struct lab *l)
{
    SSL_CTX *hooked = l->client, *server = l->server;
    SSL_SESSION *session;

    l->client = client;
    l->server = pair_server_ctx();
    SSL_CTX_set_max_early_data(l->server, 4096);
    lab_ends(l);
    l->c.keep = true;
    lab_run(l);
    assert_int_equal(l->c.got, 5);
    session = SSL_get1_session(l->c.ssl);
    SSL_shutdown(l->c.ssl);
    end_close(&l->c);
    assert_int_equal(SSL_SESSION_get_max_early_data(session), 4096);
    SSL_CTX_free(l->server);
    l->client = hooked;
    l->server = server;
    lab_ends(l);
    return session;
}

static struct {
    int read, write, error;
} early; /* what an end's thread saw */

static void early_write(struct end *e)
{
    size_t n;

    SSL_set_connect_state(e->ssl);
    early.write = SSL_write_early_data(e->ssl, "secret", 6, &n);
    early.error = mtls_last_error();
    ERR_clear_error();
}

static void early_data_client(void **state)
{
    struct lab l;
    SSL_CTX *client = pair_client_ctx();

    lab_make(&l, SERVER_WORDS "deadline=500", "require", "");
    l.c.session = early_session(client, &l);
    l.c.ready = early_write;
    lab_run(&l);
    assert_failed(&l.c, MTLS_ERR_EARLY_DATA);
    assert_int_equal(early.write, 0);
    assert_int_equal(early.error, MTLS_ERR_EARLY_DATA);
    SSL_SESSION_free(l.c.session);
    SSL_CTX_free(client);
    lab_free(&l);
}

static void half_rtt_write(struct end *e)
{
    char buf[16];
    size_t n;

    SSL_set_accept_state(e->ssl);
    early.read = SSL_read_early_data(e->ssl, buf, sizeof(buf), &n);
    early.write = SSL_write_early_data(e->ssl, "secret", 6, &n);
    early.error = mtls_last_error();
    ERR_clear_error();
}

/* As servers with 0-RTT switched on begin every handshake. */
static void read_early(struct end *e)
{
    char buf[16];
    size_t n;

    SSL_set_accept_state(e->ssl);
    early.read = SSL_read_early_data(e->ssl, buf, sizeof(buf), &n);
    ERR_clear_error();
}

static void half_rtt_server(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS, "require", "");
    SSL_CTX_set_max_early_data(l.server, 16384); /* after the hook, to no avail */
    l.s.ready = read_early;
    lab_verified(&l);
    assert_int_equal(early.read, SSL_READ_EARLY_DATA_FINISH);
    lab_free(&l);

    lab_make(&l, SERVER_WORDS "deadline=500", "require", "");
    l.s.ready = half_rtt_write;
    lab_run(&l);
    assert_int_equal(early.read, SSL_READ_EARLY_DATA_FINISH);
    assert_int_equal(early.write, 0);
    assert_int_equal(early.error, MTLS_ERR_EARLY_DATA);
    assert_failed(&l.s, MTLS_ERR_EARLY_DATA);
    assert_int_equal(l.c.got, 0);
    lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_retry),
        cmocka_unit_test(hello_retry_plain),
        cmocka_unit_test(require_against_plain_client),
        cmocka_unit_test(suites),
        cmocka_unit_test(client_certificate),
        cmocka_unit_test(client_certificate_kept),
        cmocka_unit_test(client_certificate_tls12),
        cmocka_unit_test(sni_switch),
        cmocka_unit_test(sni_switch_prefer),
        cmocka_unit_test(resumption),
        cmocka_unit_test(resumption_without_record),
        cmocka_unit_test(resumption_expired),
        cmocka_unit_test(no_tickets),
        cmocka_unit_test(key_update),
        cmocka_unit_test(early_data_client),
        cmocka_unit_test(half_rtt_server),
        cmocka_unit_test(resumption_displaced),
    };
    int rc;

    signal(SIGPIPE, SIG_IGN);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    SSL_CTX_free(lab_keeper);
    return rc;
}
