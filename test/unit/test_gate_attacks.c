/* What a rogue on path 1 tries, each beside its honest twin: a connection reused after a cut
 * handshake, BIOs set anew in mid-handshake, the extension stripped late, a flight in one record, a
 * group's PSK, a client key that fails, older versions, another SSL_CTX by name. */
#include "rogue.h"

#include <signal.h>

#include <openssl/rand.h>

#include "mtls/ossl/interpose.h"
#include "mtls/ossl/session.h"

/* ---- the same SSL again ---- */

/* The first connection gets ServerHello and is cut; the program clears its SSL and connects again.
 */
static void cleared(void **state)
{
    struct rogue r;
    SSL_CTX *ctx = visitor_ctx("require", honest_port2(), "deadline=800 reuse=off");
    SSL *ssl = visitor_new(ctx);
    struct pair_server honest;
    int listener;
    uint16_t port;

    rogue_make(&r, pair_server_ctx());
    r.shape = ROGUE_CUT;
    r.connections = 2;
    rogue_start(&r);
    visitor_dial(ssl, r.port, false);
    assert_true(visitor_drive(ssl, NULL) <= 0);
    visitor_hang_up(ssl);
    assert_int_equal(SSL_clear(ssl), 1);
    visitor_dial(ssl, r.port, false);
    assert_true(visitor_drive(ssl, NULL) <= 0);
    assert_int_equal(mtls_get_outcome(ssl), MTLS_OUTCOME_FAILED);
    assert_true(mtls_get_reason(ssl) == MTLS_ERR_NOT_OFFERED || /* path 2 was slower */
                mtls_get_reason(ssl) == MTLS_ERR_DOWNGRADE);
    assert_int_equal(visitor_talk(ssl), 0);
    visitor_hang_up(ssl);
    rogue_join_thread(&r);
    assert_true(rogue_got_nothing(&r));
    rogue_free(&r);

    listener = pair_listen("127.0.0.1", &port);
    assert_int_equal(SSL_clear(ssl), 1);
    pair_server_start(&honest, honest_keeper, listener);
    visitor_dial(ssl, port, false);
    assert_int_equal(visitor_drive(ssl, NULL), 1);
    assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
    assert_int_equal(visitor_talk(ssl), 6);
    visitor_free(ssl);
    pair_server_join(&honest);
    OPENSSL_free(honest.json);
    close(listener);
    SSL_CTX_free(ctx);
}

/* ---- other BIOs ---- */

static void no_message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                       void *arg)
{
}

enum displace { LEAVE, SET_FD, SET_FD_AND_MESSAGES, DISPLACES };

static void displace(SSL *ssl, int how)
{
    if (how == SET_FD_AND_MESSAGES)
        SSL_set_msg_callback(ssl, no_message);
    if (how != LEAVE)
        SSL_set_fd(ssl, SSL_get_fd(ssl));
}

static void displaced_client(void **state)
{
    int how;

    for (how = SET_FD; how < DISPLACES; how++) {
        struct rogue r;
        SSL_CTX *ctx = visitor_ctx("require", honest_port2(), "deadline=3000 reuse=off");
        SSL *ssl = visitor_new(ctx);
        int rc;

        rogue_make(&r, pair_server_ctx());
        r.delay_ms = 100;
        rogue_start(&r);
        visitor_dial(ssl, r.port, true);
        assert_int_equal(mtls_interpose_has_fd(ssl, SSL_get_fd(ssl)), 0);
        rc = SSL_do_handshake(ssl);
        assert_true(wants(ssl, rc));
        assert_int_equal(mtls_interpose_has_fd(ssl, SSL_get_fd(ssl)), 1);
        assert_int_equal(mtls_interpose_has_fd(ssl, SSL_get_fd(ssl) + 1), 0);
        assert_int_equal(mtls_interpose_has_fd(ssl, -1), 0);
        displace(ssl, how);
        assert_int_equal(mtls_interpose_has_fd(ssl, SSL_get_fd(ssl)), 0);
        assert_true(visitor_drive(ssl, NULL) <= 0);
        assert_int_equal(mtls_last_error(), MTLS_ERR_GATE_DISPLACED);
        assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_GATE_DISPLACED);
        assert_int_equal(visitor_talk(ssl), 0);
        visitor_free(ssl);
        rogue_join_thread(&r);
        assert_true(rogue_got_nothing(&r));
        rogue_free(&r);
        SSL_CTX_free(ctx);
    }
}

/* The same against a server that answers: the gate is gone when EncryptedExtensions come. */
static void displaced_client_negotiated(void **state)
{
    int how;

    for (how = LEAVE; how < DISPLACES; how++) {
        SSL_CTX *server = pair_server_ctx();
        SSL_CTX *ctx = visitor_ctx("require", honest_port2(), "deadline=3000 reuse=off");
        SSL *ssl = visitor_new(ctx);
        struct rogue r;
        int rc;

        assert_int_equal(mtls_ssl_ctx_hook(server, "policy=require deadline=600"), 1);
        rogue_make(&r, server);
        r.delay_ms = 100;
        rogue_start(&r);
        visitor_dial(ssl, r.port, true);
        rc = SSL_do_handshake(ssl);
        assert_true(wants(ssl, rc));
        displace(ssl, how);
        rc = visitor_drive(ssl, NULL);
        assert_outcome(ssl, how == LEAVE ? MTLS_OUTCOME_VERIFIED : MTLS_OUTCOME_FAILED,
                       how == LEAVE ? 0 : MTLS_ERR_GATE_DISPLACED);
        assert_int_equal(rc == 1, how == LEAVE);
        if (how == LEAVE)
            assert_int_equal(visitor_talk(ssl), 6);
        visitor_free(ssl);
        rogue_join_thread(&r);
        assert_int_equal(r.got, how == LEAVE ? 6 : 0);
        /* Whether it has failed or was given up before depends on which end hears first. */
        assert_int_equal(r.outcome == MTLS_OUTCOME_VERIFIED, how == LEAVE);
        rogue_free(&r);
        SSL_CTX_free(ctx);
    }
}

struct offering {
    uint8_t ext[MTLS_EXT_CH_MAX];
    size_t len;
};

static int offering_add(SSL *ssl, unsigned type, unsigned context, const unsigned char **out,
                        size_t *len, X509 *x, size_t chainidx, int *al, void *arg)
{
    struct offering *o = arg;

    *out = o->ext;
    *len = o->len;
    return 1;
}

/* A client of plain libssl that offers and never opens path 2. */
static SSL_CTX *offering_ctx(struct offering *o)
{
    struct mtls_ext_ch ch = {.nver = 1, .versions = {MTLS_VERSION_1}};
    SSL_CTX *ctx = pair_client_ctx();
    int n;

    RAND_bytes(ch.join, sizeof(ch.join));
    n = mtls_ext_ch_encode(&ch, o->ext, sizeof(o->ext));
    assert_true(n > 0);
    o->len = (size_t)n;
    assert_int_equal(SSL_CTX_add_custom_ext(ctx, MTLS_EXT_TYPE,
                                            SSL_EXT_TLS_ONLY | SSL_EXT_TLS1_3_ONLY |
                                                SSL_EXT_CLIENT_HELLO |
                                                SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS,
                                            offering_add, NULL, o, rogue_ext_parse, NULL),
                     1);
    return ctx;
}

struct talker {
    SSL_CTX *ctx;
    uint16_t port;
    pthread_t thread;
    int rc, got;
};

static void *talker_main(void *arg)
{
    struct talker *t = arg;
    SSL *ssl = visitor_new(t->ctx);

    visitor_dial(ssl, t->port, false);
    t->rc = visitor_drive(ssl, NULL);
    t->got = t->rc == 1 ? visitor_talk(ssl) : 0;
    visitor_free(ssl);
    return NULL;
}

/* The client never confirms; the server's program sets its socket anew while the gate holds. */
static void displaced_server(void **state)
{
    int how;

    for (how = LEAVE; how < DISPLACES; how++) {
        struct offering offering;
        struct talker t = {.ctx = offering_ctx(&offering)};
        SSL_CTX *server = pair_server_ctx();
        int listener = pair_listen("127.0.0.1", &t.port), fd, rc;
        SSL *ssl;

        assert_int_equal(mtls_ssl_ctx_hook(server, "policy=require deadline=400"), 1);
        ssl = SSL_new(server);
        SSL_set_accept_state(ssl);
        pthread_create(&t.thread, NULL, talker_main, &t);
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        SSL_set_fd(ssl, fd);
        do {
            struct pollfd p = {.fd = fd, .events = POLLIN};

            poll(&p, 1, LAB_LIMIT_MS);
            rc = SSL_do_handshake(ssl);
        } while (wants(ssl, rc) && mtls_session_find(ssl) == NULL);
        displace(ssl, how);
        rc = visitor_drive(ssl, NULL);
        assert_true(rc <= 0);
        assert_outcome(ssl, MTLS_OUTCOME_FAILED,
                       how == LEAVE ? MTLS_ERR_CONFIRM_MISSING : MTLS_ERR_GATE_DISPLACED);
        visitor_free(ssl);
        pthread_join(t.thread, NULL);
        assert_true(t.got <= 0);
        SSL_CTX_free(server);
        SSL_CTX_free(t.ctx);
        close(listener);
    }
}

/* ---- the client's certificate ---- */

static void client_certificate(SSL_CTX *ctx, bool can_sign)
{
    EVP_PKEY *key = EVP_EC_gen("P-256"), *public_half;
    uint8_t der[256], *end = der;
    const uint8_t *from = der;
    X509 *cert = X509_new();
    int len = i2d_PUBKEY(key, &end);

    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 7);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    pair_names(cert, "Alice");
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    public_half = d2i_PUBKEY(NULL, &from, len); /* CertificateVerify fails */
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, can_sign ? key : public_half), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    EVP_PKEY_free(public_half);
}

static int accept_any(int ok, X509_STORE_CTX *ctx)
{
    return 1;
}

static bool names_alice(const struct rogue *r)
{
    return memmem(r->raw, r->raw_len, "Alice", 5) != NULL;
}

static void old_rogue(struct rogue *r, enum rogue_shape shape)
{
    rogue_make(r, pair_server_ctx());
    SSL_CTX_set_max_proto_version(r->ctx, TLS1_2_VERSION);
    SSL_CTX_set_verify(r->ctx, SSL_VERIFY_PEER, accept_any);
    r->shape = shape;
    rogue_start(r);
}

/* TLS 1.2 asks for the client's certificate with all of its flight in one record. Path 2 shows that
 * the server is an honest one: nothing of it is on the wire. */
static void one_record(void **state)
{
    static const char *const policies[] = {"prefer", "require"};
    struct false2 f = {.proof = false};
    int i;

    false2_start(&f);
    for (i = 0; i < 2; i++) {
        SSL_CTX *ctx = visitor_ctx(policies[i], f.port, "deadline=3000 reuse=off");
        struct rogue r;
        SSL *ssl;

        client_certificate(ctx, true);
        SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION); /* the program's own, after the hook */
        ssl = visitor_new(ctx);
        old_rogue(&r, ROGUE_ONE_RECORD);
        visitor_dial(ssl, r.port, false);
        assert_true(visitor_drive(ssl, NULL) <= 0);
        /* Under require TLS 1.2 is not even offered. */
        assert_outcome(ssl, MTLS_OUTCOME_FAILED,
                       i == 0 ? MTLS_ERR_DOWNGRADE : MTLS_ERR_TLS_VERSION);
        visitor_free(ssl);
        rogue_join_thread(&r);
        assert_true(rogue_got_nothing(&r));
        assert_false(names_alice(&r));
        rogue_free(&r);
        SSL_CTX_free(ctx);
    }
    false2_stop(&f);
}

/* Path 2 is silent: only the grace ends the wait, and not before that does the certificate leave.
 * It refuses: at once. */
static void one_record_plain(void **state)
{
    struct false2 f = {.silent = true};
    uint16_t refusing;
    int i, fd = refusing_port(&refusing);

    false2_start(&f);
    for (i = 0; i < 2; i++) {
        SSL_CTX *ctx = visitor_ctx("prefer", i == 0 ? f.port : refusing, "reuse=off");
        struct rogue r;
        SSL *ssl;

        client_certificate(ctx, true);
        ssl = visitor_new(ctx);
        old_rogue(&r, ROGUE_ONE_RECORD);
        visitor_dial(ssl, r.port, false);
        assert_int_equal(visitor_drive(ssl, NULL), 1);
        assert_outcome(ssl, MTLS_OUTCOME_PLAIN, MTLS_ERR_TLS_VERSION);
        assert_int_equal(visitor_talk(ssl), 6);
        visitor_free(ssl);
        rogue_join_thread(&r);
        assert_true(names_alice(&r));
        assert_true(r.next_at - r.hello_at >= (i == 0 ? 950u : 0u));
        rogue_free(&r);
        SSL_CTX_free(ctx);
    }
    false2_stop(&f);
    close(fd);
}

/* Certificate lies in libssl's buffer when CertificateVerify fails: it stays there. */
static void key_fails(void **state)
{
    struct false2 f = {.proof = true};
    SSL_CTX *ctx;
    struct rogue r;
    SSL *ssl;

    false2_start(&f);
    ctx = visitor_ctx("require", f.port, "deadline=3000 reuse=off");
    client_certificate(ctx, false);
    ssl = visitor_new(ctx);
    rogue_make(&r, pair_server_ctx());
    SSL_CTX_set_verify(r.ctx, SSL_VERIFY_PEER, accept_any);
    rogue_answer_ext(&r, MTLS_EE_CONFIRM_NEEDED);
    rogue_start(&r);
    visitor_dial(ssl, r.port, false);
    assert_true(visitor_drive(ssl, NULL) <= 0);
    assert_int_equal(mtls_get_outcome(ssl), MTLS_OUTCOME_FAILED);
    visitor_free(ssl);
    rogue_join_thread(&r);
    assert_int_equal(r.seen[SSL3_MT_CERTIFICATE], 0);
    assert_true(rogue_got_nothing(&r));
    rogue_free(&r);
    SSL_CTX_free(ctx);
    false2_stop(&f);
}

static void key_signs(void **state)
{
    SSL_CTX *ctx = visitor_ctx("require", honest_port2(), "reuse=off"), *server = pair_server_ctx();
    SSL *ssl;
    struct rogue r;

    assert_int_equal(mtls_ssl_ctx_hook(server, "policy=require"), 1);
    client_certificate(ctx, true);
    ssl = visitor_new(ctx);
    rogue_make(&r, server);
    SSL_CTX_set_verify(server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, accept_any);
    rogue_start(&r);
    visitor_dial(ssl, r.port, false);
    assert_int_equal(visitor_drive(ssl, NULL), 1);
    assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
    assert_int_equal(visitor_talk(ssl), 6);
    visitor_free(ssl);
    rogue_join_thread(&r);
    assert_int_equal(r.outcome, MTLS_OUTCOME_VERIFIED);
    rogue_free(&r);
    SSL_CTX_free(ctx);
}

/* ---- the extension stripped, late ---- */

/* Late mode: path 2 begins when the flight is here, and answers 400 ms after that. The rogue has
 * let more than the grace pass before. */
static void stripped_late(void **state)
{
    struct relay p2;
    SSL_CTX *ctx;
    struct rogue r;
    SSL *ssl;

    relay_start(&p2, RELAY_PATH2, "127.0.1.1", "127.0.1.1", honest_port2());
    relay_hold(&p2, false, true);
    ctx = visitor_ctx("prefer", p2.port, "early=off reuse=off deadline=5000");
    ssl = visitor_new(ctx);
    rogue_make(&r, pair_server_ctx());
    r.delay_ms = 1100;
    rogue_start(&r);
    relay_release_after(&p2, 1500);
    visitor_dial(ssl, r.port, false);
    assert_true(visitor_drive(ssl, NULL) <= 0);
    assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_DOWNGRADE);
    visitor_free(ssl);
    rogue_join_thread(&r);
    assert_true(rogue_got_nothing(&r));
    rogue_free(&r);
    SSL_CTX_free(ctx);
    relay_stop(&p2);
}

static void plain_late(void **state)
{
    uint16_t refusing;
    int fd = refusing_port(&refusing);
    SSL_CTX *ctx = visitor_ctx("prefer", refusing, "early=off reuse=off deadline=5000");
    SSL *ssl = visitor_new(ctx);
    struct rogue r;

    rogue_make(&r, pair_server_ctx());
    r.delay_ms = 1100;
    rogue_start(&r);
    visitor_dial(ssl, r.port, false);
    assert_int_equal(visitor_drive(ssl, NULL), 1);
    assert_outcome(ssl, MTLS_OUTCOME_PLAIN, MTLS_ERR_NOT_OFFERED);
    assert_int_equal(visitor_talk(ssl), 6);
    visitor_free(ssl);
    rogue_join_thread(&r);
    assert_int_equal(r.got, 6);
    rogue_free(&r);
    SSL_CTX_free(ctx);
    close(fd);
}

/* ---- a session of before ---- */

/* A verified session's ticket, with the record in it; the same listener serves the rogue next. */
static SSL_SESSION *honest_session(SSL_CTX *ctx, struct rogue *r, SSL_SESSION *offer,
                                   enum mtls_outcome outcome)
{
    SSL_CTX *rogue_ctx = r->ctx;
    SSL_SESSION *session;
    SSL *ssl = visitor_new(ctx);
    char buf[4];

    r->ctx = honest_keeper;
    if (offer != NULL)
        SSL_set_session(ssl, offer);
    rogue_start(r);
    visitor_dial(ssl, r->port, false);
    assert_int_equal(visitor_drive(ssl, NULL), 1);
    assert_outcome(ssl, outcome, 0);
    assert_int_equal(visitor_talk(ssl), 6);
    (void)SSL_read(ssl, buf, sizeof(buf)); /* close_notify; the tickets are read on the way */
    session = SSL_get1_session(ssl);
    visitor_free(ssl);
    rogue_join_thread(r);
    r->ctx = rogue_ctx;
    r->got = r->accepted = 0;
    return session;
}

/* The client holds a record: the host is remembered, however late the stripped flight comes. */
static void stripped_with_record(void **state)
{
    SSL_SESSION *session, *again;
    struct relay p2;
    SSL_CTX *ctx;
    struct rogue r;
    SSL *ssl;

    relay_start(&p2, RELAY_PATH2, "127.0.1.1", "127.0.1.1", honest_port2());
    ctx = visitor_ctx("prefer", p2.port, "reuse=off deadline=5000");
    rogue_make(&r, pair_server_ctx());
    session = honest_session(ctx, &r, NULL, MTLS_OUTCOME_VERIFIED);
    again = honest_session(ctx, &r, session, MTLS_OUTCOME_RESUMED_VERIFIED);
    SSL_SESSION_free(session);
    relay_hold(&p2, false, true); /* and path 2 is slow */
    relay_release_after(&p2, 1500);
    r.delay_ms = 1100;
    rogue_start(&r);
    ssl = visitor_new(ctx);
    SSL_set_session(ssl, again);
    visitor_dial(ssl, r.port, false);
    assert_true(visitor_drive(ssl, NULL) <= 0);
    assert_int_equal(mtls_get_outcome(ssl), MTLS_OUTCOME_FAILED);
    assert_true(mtls_get_reason(ssl) == MTLS_ERR_REMEMBERED ||
                mtls_get_reason(ssl) == MTLS_ERR_DOWNGRADE);
    visitor_free(ssl);
    rogue_join_thread(&r);
    assert_true(rogue_got_nothing(&r));
    SSL_SESSION_free(again);
    rogue_free(&r);
    SSL_CTX_free(ctx);
    relay_stop(&p2);
}

static const char psk[32] = "a group's key: the rogue has it";

static unsigned psk_client(SSL *ssl, const char *hint, char *id, unsigned id_len,
                           unsigned char *key, unsigned key_len)
{
    memcpy(id, "group", sizeof("group"));
    memcpy(key, psk, sizeof(psk));
    return sizeof(psk);
}

static unsigned psk_server(SSL *ssl, const char *id, unsigned char *key, unsigned key_len)
{
    if (strcmp(id, "group") != 0)
        return 0;
    memcpy(key, psk, sizeof(psk));
    return sizeof(psk);
}

/* The record in the ticket vouches for the ticket's session, not for one that a group's PSK made.
 */
static void external_psk(void **state)
{
    SSL_CTX *ctx = visitor_ctx("require", honest_port2(), "reuse=off deadline=800");
    SSL_SESSION *session, *again;
    struct rogue r;
    SSL *ssl;

    rogue_make(&r, pair_server_ctx());
    SSL_CTX_set_psk_server_callback(r.ctx, psk_server);
    rogue_answer_ext(&r, 0); /* "your record is good enough" */
    session = honest_session(ctx, &r, NULL, MTLS_OUTCOME_VERIFIED);
    SSL_CTX_set_psk_client_callback(ctx, psk_client);
    again = honest_session(ctx, &r, session, MTLS_OUTCOME_RESUMED_VERIFIED);
    SSL_SESSION_free(session);
    rogue_start(&r);
    ssl = visitor_new(ctx);
    SSL_set_session(ssl, again);
    visitor_dial(ssl, r.port, false);
    assert_true(visitor_drive(ssl, NULL) <= 0);
    assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_PROOF_MISSING);
    visitor_free(ssl);
    rogue_join_thread(&r);
    assert_true(rogue_got_nothing(&r));
    SSL_SESSION_free(again);
    rogue_free(&r);
    SSL_CTX_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cleared),
        cmocka_unit_test(displaced_client),
        cmocka_unit_test(displaced_client_negotiated),
        cmocka_unit_test(displaced_server),
        cmocka_unit_test(one_record),
        cmocka_unit_test(one_record_plain),
        cmocka_unit_test(key_fails),
        cmocka_unit_test(key_signs),
        cmocka_unit_test(stripped_late),
        cmocka_unit_test(plain_late),
        cmocka_unit_test(stripped_with_record),
        cmocka_unit_test(external_psk),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
