/* Out of memory at each allocation of ours, in turn, on either side of a handshake: it is verified
 * or it fails, and nothing passes that `require` holds back; beside it the same with memory. */
#include <signal.h>
#include <stdbool.h>

#include "tls_pair.h"

#include "alloc_sweep.h"

static uint16_t port1, port2;
static int listener;

struct side {
    SSL_CTX *ctx;
    bool server, old; /* old: the application wants TLS 1.2 */
    int fd, got;
    unsigned fail_at; /* 0: none */
    bool failed;
    enum mtls_outcome outcome;
};

static void shake_hands(struct side *e, SSL *ssl)
{
    char buf[8];

    if (e->old) {
        SSL_set_min_proto_version(ssl, TLS1_2_VERSION);
        SSL_set_max_proto_version(ssl, TLS1_2_VERSION);
    }
    if (!e->server)
        SSL_set_tlsext_host_name(ssl, "server.example");
    SSL_set_fd(ssl, e->fd);
    if ((e->server ? SSL_accept(ssl) : SSL_connect(ssl)) == 1) {
        if (!e->server)
            SSL_write(ssl, "hello", 5);
        e->got = SSL_read(ssl, buf, sizeof(buf));
        if (e->server && e->got > 0)
            SSL_write(ssl, buf, e->got);
    }
    e->outcome = mtls_get_outcome(ssl);
    OPENSSL_free(mtls_report_json(ssl));
}

static void *side_main(void *arg)
{
    struct side *e = arg;
    SSL *ssl;

    if (e->fail_at != 0)
        alloc_arm(ALLOC_OURS, e->fail_at);
    ssl = SSL_new(e->ctx);
    if (ssl != NULL)
        shake_hands(e, ssl);
    SSL_free(ssl);
    e->failed = alloc_disarm();
    shutdown(e->fd, SHUT_RDWR);
    ERR_clear_error();
    return NULL;
}

static void pass(struct side *server, struct side *client)
{
    struct timeval limit = {.tv_sec = 20};
    pthread_t thread;

    client->fd = pair_connect("127.0.0.1", port1);
    server->fd = accept(listener, NULL, NULL);
    setsockopt(client->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(server->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    assert_int_equal(pthread_create(&thread, NULL, side_main, server), 0);
    side_main(client);
    pthread_join(thread, NULL);
    close(client->fd);
    close(server->fd);
}

/* honest: with memory the session is verified; else nothing passes whatever fails. */
static void sweep(SSL_CTX *server, SSL_CTX *client, bool starve_server, bool old, bool honest)
{
    unsigned n, verified = 0;

    for (n = 0;; n++) {
        struct side s = {.ctx = server, .server = true}, c = {.ctx = client, .old = old};
        struct side *hit = starve_server ? &s : &c;

        hit->fail_at = n;
        pass(&s, &c);
        if (n > 0 && !hit->failed)
            break;
        if (hit->got > 0 && hit->outcome != MTLS_OUTCOME_VERIFIED)
            print_error("allocation %u: %s\n", n, mtls_outcome_name(hit->outcome));
        assert_true(hit->got <= 0 || hit->outcome == MTLS_OUTCOME_VERIFIED);
        assert_true(hit->outcome != MTLS_OUTCOME_PLAIN);
        assert_int_equal(n > 0 || honest == (hit->got == 5), 1);
        verified += hit->got > 0;
    }
    assert_true(n > 1);
    assert_true(honest ? verified > 0 && verified < n : verified == 0);
}

/* The application took this place, which would refuse without an allocation of ours. */
static int lenient(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                   void *ex)
{
    return 1;
}

static SSL_CTX *server_of(bool taken)
{
    SSL_CTX *ctx = pair_server_ctx();

    assert_int_equal(mtls_ssl_ctx_hook(ctx, "policy=require deadline=1000"), 1);
    if (taken)
        SSL_CTX_set_security_callback(ctx, lenient);
    return ctx;
}

static SSL_CTX *client_of(bool taken)
{
    SSL_CTX *ctx = pair_client_ctx();
    char words[256];

    pair_words(words, sizeof(words), "require", port2, "reuse=off deadline=1000");
    assert_int_equal(mtls_ssl_ctx_hook(ctx, words), 1);
    if (taken)
        SSL_CTX_set_security_callback(ctx, lenient);
    return ctx;
}

static void honest(void **state)
{
    SSL_CTX *server = server_of(false), *client = client_of(false);

    sweep(server, client, false, false, true);
    sweep(server, client, true, false, true);
    SSL_CTX_free(server);
    SSL_CTX_free(client);
}

static void plain_client(void **state)
{
    SSL_CTX *server = server_of(true), *client = pair_client_ctx();

    sweep(server, client, true, false, false);
    SSL_CTX_free(server);
    SSL_CTX_free(client);
}

static void plain_server(void **state)
{
    SSL_CTX *server = pair_server_ctx(), *client = client_of(true);

    sweep(server, client, false, false, false);
    sweep(server, client, false, true, false);
    SSL_CTX_free(server);
    SSL_CTX_free(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(honest),
        cmocka_unit_test(plain_client),
        cmocka_unit_test(plain_server),
    };
    SSL_CTX *keeper = pair_server_ctx();
    int rc;

    signal(SIGPIPE, SIG_IGN);
    if (mtls_ssl_ctx_hook(keeper, "policy=prefer listen=127.0.1.1:0") != 1)
        return 99;
    port2 = (uint16_t)atoi(strrchr(mtls_ssl_ctx_get0_listener(keeper, 0), ':') + 1);
    listener = pair_listen("127.0.0.1", &port1);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    SSL_CTX_free(keeper);
    close(listener);
    return rc;
}
