/* What programs do around a handshake, and what a peer makes of it, each beside its honest twin:
 * versions and SSL_CTXs changed after the hook, path 2 reset, hosts remembered, 0-RTT, an SSL used
 * again, where path 2's address comes from, an extension in one ClientHello of two, a flight in one
 * record. */
#include "rogue.h"

#include <signal.h>
#include <sys/stat.h>

#include "mtls/ossl/session.h"

/* ---- the program's own versions ---- */

static int any_security(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                        void *ex)
{
    return 1;
}

/* max TLS 1.2 after the hook; with a security call-back of its own as well, or not. */
static void client_version(void **state)
{
    int replaced;

    for (replaced = 0; replaced < 2; replaced++) {
        SSL_CTX *ctx = visitor_ctx("require", honest_port2(), "deadline=800");
        SSL *ssl;
        struct rogue r;

        SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
        SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
        if (replaced)
            SSL_CTX_set_security_callback(ctx, any_security);
        ssl = visitor_new(ctx);
        rogue_make(&r, pair_server_ctx());
        rogue_start(&r);
        visitor_dial(ssl, r.port, false);
        assert_true(visitor_drive(ssl, NULL) <= 0);
        /* libssl has no version left and makes no ClientHello; or it would make one without us */
        assert_outcome(ssl, replaced ? MTLS_OUTCOME_FAILED : MTLS_OUTCOME_NONE,
                       replaced ? MTLS_ERR_TLS_VERSION : 0);
        assert_int_equal(visitor_talk(ssl), 0);
        visitor_free(ssl);
        rogue_join_thread(&r);
        assert_null(memmem(r.raw, r.raw_len, "server.example", 14));
        assert_true(rogue_got_nothing(&r));
        rogue_free(&r);
        SSL_CTX_free(ctx);
    }
}

static void server_version(void **state)
{
    int ours, replaced;

    for (replaced = 0; replaced < 2; replaced++) {
        for (ours = 0; ours < 2; ours++) {
            SSL_CTX *server = pair_server_ctx(), *ctx;
            struct rogue r;
            SSL *ssl;

            assert_int_equal(mtls_ssl_ctx_hook(server, "policy=require"), 1);
            SSL_CTX_set_min_proto_version(server, TLS1_2_VERSION);
            SSL_CTX_set_max_proto_version(server, TLS1_2_VERSION);
            if (replaced)
                SSL_CTX_set_security_callback(server, any_security);
            rogue_make(&r, server);
            rogue_start(&r);
            ctx = ours ? visitor_ctx("prefer", honest_port2(), "deadline=2000") : pair_client_ctx();
            ssl = visitor_new(ctx);
            visitor_dial(ssl, r.port, false);
            assert_true(visitor_drive(ssl, NULL) <= 0);
            visitor_free(ssl);
            rogue_join_thread(&r);
            assert_true(r.accepted <= 0);
            assert_int_equal(r.got, 0);
            assert_int_equal(r.outcome, replaced ? MTLS_OUTCOME_FAILED : MTLS_OUTCOME_NONE);
            assert_int_equal(r.reason, replaced ? MTLS_ERR_TLS_VERSION : 0);
            rogue_free(&r);
            SSL_CTX_free(ctx);
        }
    }
}

/* ---- another SSL_CTX by name ---- */

static int switch_ctx(SSL *ssl, int *al, void *arg)
{
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    if (name != NULL && strcmp(name, "server.example") == 0)
        SSL_set_SSL_CTX(ssl, arg);
    return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *switching_ctx(const char *from, const char *to, SSL_CTX **chosen)
{
    SSL_CTX *ctx = pair_server_ctx();

    *chosen = pair_server_ctx();
    assert_int_equal(mtls_ssl_ctx_hook(ctx, from), 1);
    assert_int_equal(mtls_ssl_ctx_hook(*chosen, to), 1);
    SSL_CTX_set_tlsext_servername_callback(ctx, switch_ctx);
    SSL_CTX_set_tlsext_servername_arg(ctx, *chosen);
    return ctx;
}

static void switched_policy(void **state)
{
    static const char *const to[] = {"policy=require", "policy=prefer"};
    int i, version;

    for (version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        for (i = 0; i < 2; i++) {
            SSL_CTX *chosen, *ctx = pair_client_ctx();
            struct rogue r;
            SSL *ssl;

            rogue_make(&r, switching_ctx("policy=prefer", to[i], &chosen));
            rogue_start(&r);
            SSL_CTX_set_max_proto_version(ctx, version);
            ssl = visitor_new(ctx);
            visitor_dial(ssl, r.port, false);
            assert_int_equal(visitor_drive(ssl, NULL) == 1 && visitor_talk(ssl) == 6, i == 1);
            visitor_free(ssl);
            rogue_join_thread(&r);
            assert_int_equal(r.got, i == 1 ? 6 : 0);
            assert_int_equal(r.outcome, i == 1 ? MTLS_OUTCOME_PLAIN : MTLS_OUTCOME_FAILED);
            assert_int_equal(r.reason, i == 1 && version == TLS1_2_VERSION ? MTLS_ERR_TLS_VERSION
                                                                           : MTLS_ERR_NOT_OFFERED);
            rogue_free(&r);
            SSL_CTX_free(chosen);
            SSL_CTX_free(ctx);
        }
    }
}

/* The words of the SSL_CTX that was chosen: its memory=, and resume=0. */
static void switched_words(void **state)
{
    static const char *const words[] = {"policy=require", "policy=require memory=77 resume=0"};
    int to;

    for (to = 0; to < 2; to++) {
        SSL_CTX *chosen, *ctx = visitor_ctx("require", honest_port2(), "reuse=off");
        SSL_SESSION *session = NULL;
        struct rogue r;
        int i;

        rogue_make(&r, switching_ctx(words[!to], words[to], &chosen));
        r.connections = 2;
        rogue_start(&r);
        for (i = 0; i < 2; i++) {
            SSL *ssl = visitor_new(ctx);
            char buf[4];

            if (session != NULL)
                SSL_set_session(ssl, session);
            visitor_dial(ssl, r.port, false);
            assert_int_equal(visitor_drive(ssl, NULL), 1);
            assert_outcome(
                ssl, i == 1 && to == 0 ? MTLS_OUTCOME_RESUMED_VERIFIED : MTLS_OUTCOME_VERIFIED, 0);
            if (i == 0)
                assert_int_equal(mtls_session_find(ssl)->ee.max_age, to == 0 ? 15552000 : 77);
            assert_int_equal(visitor_talk(ssl), 6);
            (void)SSL_read(ssl, buf, sizeof(buf));
            SSL_SESSION_free(session);
            session = SSL_get1_session(ssl);
            visitor_free(ssl);
        }
        rogue_join_thread(&r);
        SSL_SESSION_free(session);
        rogue_free(&r);
        SSL_CTX_free(chosen);
        SSL_CTX_free(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client_version),
        cmocka_unit_test(server_version),
        cmocka_unit_test(switched_policy),
        cmocka_unit_test(switched_words),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
