/* What a rogue on path 1 tries, each beside its honest twin: a connection reused after a cut handshake, BIOs set anew
 * in mid-handshake, the extension stripped late, a flight in one record, a group's PSK, a client key that fails, older
 * versions, another SSL_CTX by name. */
#include "rogue.h"

#include <signal.h>

#include <openssl/rand.h>

#include "mtls/ossl/session.h"

/* ---- the same SSL again ---- */

/* The first connection gets ServerHello and is cut; the program clears its SSL and connects again. */
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
    assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_DOWNGRADE);
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

static void no_message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
}

enum displace { LEAVE, SET_FD, SET_FD_AND_MESSAGES, DISPLACES };

static void displace(SSL *ssl, enum displace how)
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
        rc = SSL_do_handshake(ssl);
        assert_true(wants(ssl, rc));
        displace(ssl, how);
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
        assert_int_equal(r.outcome, how == LEAVE ? MTLS_OUTCOME_VERIFIED : MTLS_OUTCOME_FAILED);
        rogue_free(&r);
        SSL_CTX_free(ctx);
    }
}

struct offering {
    uint8_t ext[MTLS_EXT_CH_MAX];
    size_t len;
};

static int offering_add(SSL *ssl, unsigned type, unsigned context, const unsigned char **out, size_t *len, X509 *x,
                        size_t chainidx, int *al, void *arg)
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
                                            SSL_EXT_TLS_ONLY | SSL_EXT_TLS1_3_ONLY | SSL_EXT_CLIENT_HELLO |
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cleared),
        cmocka_unit_test(displaced_client),
        cmocka_unit_test(displaced_client_negotiated),
        cmocka_unit_test(displaced_server),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
