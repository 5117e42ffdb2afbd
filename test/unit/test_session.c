/* Hooked client and server in one process: outcomes, resumption, policies, with blocking sockets.
 */
#include "tls_pair.h"

static void exchange(SSL *ssl)
{
    char buf[16];

    assert_int_equal(SSL_write(ssl, "hello", 5), 5);
    assert_int_equal(SSL_read(ssl, buf, sizeof(buf)), 5);
    assert_memory_equal(buf, "hello", 5);
    assert_int_equal(SSL_read(ssl, buf, sizeof(buf)),
                     0); /* close_notify; tickets are read on the way */
}

struct fixture {
    SSL_CTX *server, *client;
    int listener;
    uint16_t port;
};

static void fixture_make(struct fixture *f, const char *server_words, const char *policy,
                         const char *more)
{
    char words[256];

    f->server = pair_server_ctx();
    f->client = pair_client_ctx();
    if (server_words != NULL)
        assert_int_equal(mtls_ssl_ctx_hook(f->server, server_words), 1);
    pair_words(words, sizeof(words), policy, server_words != NULL ? pair_port2(f->server) : 9,
               more);
    assert_int_equal(mtls_ssl_ctx_hook(f->client, words), 1);
    f->listener = pair_listen("127.0.0.1", &f->port);
}

static void fixture_free(struct fixture *f)
{
    SSL_CTX_free(f->server);
    SSL_CTX_free(f->client);
    close(f->listener);
}

static SSL *client_new(struct fixture *f, SSL_SESSION *session)
{
    SSL *ssl = SSL_new(f->client);

    SSL_set_tlsext_host_name(ssl, "server.example");
    X509_VERIFY_PARAM_set1_host(SSL_get0_param(ssl), "server.example", 0);
    if (session != NULL)
        SSL_set_session(ssl, session);
    SSL_set_fd(ssl, pair_connect("127.0.0.1", f->port));
    return ssl;
}

static void client_free(SSL *ssl)
{
    int fd = SSL_get_fd(ssl);

    SSL_shutdown(ssl); /* else libssl marks the session as not resumable */
    SSL_free(ssl);
    close(fd);
}

static void verified(void **state)
{
    struct fixture f;
    struct pair_server server;
    struct mtls_path_info path;
    SSL *ssl;
    char *json;

    fixture_make(&f, "policy=require listen=127.0.1.1:0", "require", "");
    pair_server_start(&server, f.server, f.listener);
    ssl = client_new(&f, NULL);
    assert_int_equal(SSL_connect(ssl), 1);
    json = mtls_report_json(ssl);
    assert_non_null(strstr(json, "\"outcome\": \"verified\""));
    OPENSSL_free(json);
    assert_int_equal(mtls_get_outcome(ssl), MTLS_OUTCOME_VERIFIED);
    assert_int_equal(mtls_get_scope(ssl), MTLS_SCOPE_SERVER);
    assert_int_equal(mtls_get_path(ssl, 1, &path), 1);
    assert_string_equal(path.state, "confirmed");
    exchange(ssl);
    client_free(ssl);
    pair_server_join(&server);
    OPENSSL_free(server.json);
    assert_int_equal(server.outcome, MTLS_OUTCOME_VERIFIED);
    fixture_free(&f);
}

static SSL_SESSION *first_session(struct fixture *f)
{
    struct pair_server server;
    SSL_SESSION *session;
    SSL *ssl;

    pair_server_start(&server, f->server, f->listener);
    ssl = client_new(f, NULL);
    assert_int_equal(SSL_connect(ssl), 1);
    exchange(ssl);
    session = SSL_get1_session(ssl);
    client_free(ssl);
    pair_server_join(&server);
    OPENSSL_free(server.json);
    return session;
}

static void second_session(struct fixture *f, SSL_SESSION *session, int client, int server_outcome)
{
    struct pair_server server;
    SSL *ssl;

    pair_server_start(&server, f->server, f->listener);
    ssl = client_new(f, session);
    assert_int_equal(SSL_connect(ssl), 1);
    assert_int_equal(SSL_session_reused(ssl), 1);
    assert_true((int)mtls_get_outcome(ssl) == client ||
                mtls_get_outcome(ssl) == MTLS_OUTCOME_RESUMED_VERIFIED);
    exchange(ssl);
    client_free(ssl);
    pair_server_join(&server);
    OPENSSL_free(server.json);
    assert_int_equal(server.outcome, server_outcome);
}

static void resumed(void **state)
{
    struct fixture f;
    SSL_SESSION *session;

    fixture_make(&f, "policy=require listen=127.0.1.1:0", "require", "reuse=off");
    session = first_session(&f);
    second_session(&f, session, MTLS_OUTCOME_RESUMED_VERIFIED, MTLS_OUTCOME_RESUMED_VERIFIED);
    SSL_SESSION_free(session);
    fixture_free(&f);
}

/* A kept secondary connection confirms a resumed session too, if its PROOF is there when the second
 * flight leaves: it is never waited for. */
static void resumed_warm(void **state)
{
    struct fixture f;
    SSL_SESSION *session;

    fixture_make(&f, "policy=require listen=127.0.1.1:0", "require", "");
    session = first_session(&f);
    second_session(&f, session, MTLS_OUTCOME_VERIFIED, MTLS_OUTCOME_RESUMED_VERIFIED);
    SSL_SESSION_free(session);
    fixture_free(&f);
}

/* resume=0: a ticket vouches for nothing; both ends confirm anew. */
static void resumed_never(void **state)
{
    struct fixture f;
    SSL_SESSION *session;

    fixture_make(&f, "policy=require listen=127.0.1.1:0 resume=0", "require", "reuse=off");
    session = first_session(&f);
    second_session(&f, session, MTLS_OUTCOME_VERIFIED, MTLS_OUTCOME_VERIFIED);
    SSL_SESSION_free(session);
    fixture_free(&f);
}

static void plain_server(void **state)
{
    struct fixture f;
    struct pair_server server;
    SSL *ssl;

    fixture_make(&f, NULL, "require", "");
    pair_server_start(&server, f.server, f.listener);
    ssl = client_new(&f, NULL);
    assert_int_equal(SSL_connect(ssl), -1);
    assert_int_equal(mtls_get_outcome(ssl), MTLS_OUTCOME_FAILED);
    assert_int_equal(mtls_last_error(), MTLS_ERR_NOT_OFFERED);
    ERR_clear_error();
    client_free(ssl);
    pair_server_join(&server);
    OPENSSL_free(server.json);
    assert_int_equal(server.accepted, -1);
    fixture_free(&f);

    fixture_make(&f, NULL, "prefer", "");
    pair_server_start(&server, f.server, f.listener);
    ssl = client_new(&f, NULL);
    assert_int_equal(SSL_connect(ssl), 1);
    assert_int_equal(mtls_get_outcome(ssl), MTLS_OUTCOME_PLAIN);
    exchange(ssl);
    client_free(ssl);
    pair_server_join(&server);
    OPENSSL_free(server.json);
    fixture_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verified),     cmocka_unit_test(resumed),
        cmocka_unit_test(resumed_warm), cmocka_unit_test(resumed_never),
        cmocka_unit_test(plain_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
