/* What an application chooses after it has told the library something of an SSL: the side, the
 * SSL_CTX, the process; BIOs that connect by themselves; a session offered by several handshakes.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "tls_pair.h"

#include "mtls/ossl/glue.h"

struct rig {
    SSL_CTX *server;
    struct pair_server p;
    int listener;
    uint16_t port, port2;
};

/* words NULL: the server knows nothing of Multipath TLS. */
static void rig_make(struct rig *r, const char *words)
{
    static SSL_CTX *keeper; /* path 2's listener lives as long as the process */

    if (keeper == NULL) {
        keeper = pair_server_ctx();
        assert_int_equal(mtls_ssl_ctx_hook(keeper, "policy=prefer listen=127.0.1.1:0"), 1);
    }
    memset(r, 0, sizeof(*r));
    r->port2 = pair_port2(keeper);
    r->server = pair_server_ctx();
    if (words != NULL)
        assert_int_equal(mtls_ssl_ctx_hook(r->server, words), 1);
    r->listener = pair_listen("127.0.0.1", &r->port);
}

static void rig_start(struct rig *r)
{
    pair_server_start(&r->p, r->server, r->listener);
}

static void rig_join(struct rig *r)
{
    pair_server_join(&r->p);
    OPENSSL_free(r->p.json);
}

static void rig_free(struct rig *r)
{
    SSL_CTX_free(r->server);
    close(r->listener);
}

static SSL_CTX *client_of(const struct rig *r, const SSL_METHOD *method, const char *policy,
                          uint16_t port2)
{
    SSL_CTX *ctx = SSL_CTX_new(method);
    char words[256];

    X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), pair_cert);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    pair_words(words, sizeof(words), policy, port2 != 0 ? port2 : r->port2,
               "reuse=off deadline=5000");
    assert_int_equal(mtls_ssl_ctx_hook(ctx, words), 1);
    return ctx;
}

/* A port that nobody listens on: path 2 fails at once. */
static uint16_t closed_port(void)
{
    uint16_t port;

    close(pair_listen("127.0.1.1", &port));
    return port;
}

static int talk(SSL *ssl)
{
    char buf[8];
    int rc = SSL_connect(ssl);

    if (rc == 1 && SSL_write(ssl, "hello", 5) == 5)
        rc = SSL_read(ssl, buf, sizeof(buf)) == 5 ? 1 : -1;
    ERR_clear_error();
    return rc;
}

static void assert_outcome(const SSL *ssl, enum mtls_outcome outcome, int reason)
{
    assert_string_equal(mtls_error_name(mtls_get_reason(ssl)), mtls_error_name(reason));
    assert_int_equal(mtls_get_outcome(ssl), outcome);
}

/* An SSL of TLS_method() is a server's until somebody says so. */
static void client_late(const char *server_words)
{
    struct rig r;
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;

    rig_make(&r, server_words);
    ctx = client_of(&r, TLS_method(), "require", 0);
    rig_start(&r);
    fd = pair_connect("127.0.0.1", r.port);
    ssl = SSL_new(ctx);
    assert_int_equal(mtls_set_name(ssl, "server.example"), 1);
    assert_int_equal(mtls_set_fd(ssl, fd), 1);
    assert_int_equal(SSL_is_server(ssl), 1);
    SSL_set_fd(ssl, fd);
    SSL_set_connect_state(ssl);
    assert_int_equal(talk(ssl), server_words != NULL ? 1 : -1);
    if (server_words != NULL)
        assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
    else
        assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_NOT_OFFERED);
    SSL_free(ssl);
    close(fd);
    rig_join(&r);
    assert_int_equal(r.p.got, server_words != NULL ? 5 : 0);
    SSL_CTX_free(ctx);
    rig_free(&r);
}

static void side_client(void **state)
{
    client_late("policy=require");
    client_late(NULL);
}

struct accepting {
    SSL *ssl;
    int listener, got;
    enum mtls_outcome outcome;
};

static void *accept_main(void *arg)
{
    struct accepting *a = arg;
    int fd = accept(a->listener, NULL, NULL);
    char buf[8];

    SSL_set_connect_state(a->ssl);
    mtls_set_fd(a->ssl, fd);
    SSL_set_fd(a->ssl, fd);
    SSL_set_accept_state(a->ssl);
    if (SSL_accept(a->ssl) == 1 && (a->got = SSL_read(a->ssl, buf, sizeof(buf))) > 0)
        SSL_write(a->ssl, buf, a->got);
    a->outcome = mtls_get_outcome(a->ssl);
    SSL_free(a->ssl);
    close(fd);
    ERR_clear_error();
    return NULL;
}

static void server_late(bool honest)
{
    struct rig r;
    SSL_CTX *any = SSL_CTX_new(TLS_method()), *ctx, *plain = pair_client_ctx();
    struct accepting a = {.outcome = MTLS_OUTCOME_NONE};
    pthread_t thread;
    SSL *ssl;
    int fd;

    rig_make(&r, NULL);
    assert_int_equal(SSL_CTX_use_certificate(any, pair_cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(any, pair_key), 1);
    assert_int_equal(mtls_ssl_ctx_hook(any, "policy=require"), 1);
    ctx = client_of(&r, TLS_client_method(), "require", 0);
    a.ssl = SSL_new(any);
    a.listener = r.listener;
    assert_int_equal(pthread_create(&thread, NULL, accept_main, &a), 0);
    fd = pair_connect("127.0.0.1", r.port);
    ssl = SSL_new(honest ? ctx : plain);
    SSL_set_tlsext_host_name(ssl, "server.example");
    SSL_set_fd(ssl, fd);
    assert_int_equal(talk(ssl), honest ? 1 : -1);
    SSL_free(ssl);
    close(fd);
    pthread_join(thread, NULL);
    assert_int_equal(a.outcome, honest ? MTLS_OUTCOME_VERIFIED : MTLS_OUTCOME_FAILED);
    assert_int_equal(a.got, honest ? 5 : 0);
    SSL_CTX_free(any);
    SSL_CTX_free(ctx);
    SSL_CTX_free(plain);
    rig_free(&r);
}

static void side_server(void **state)
{
    server_late(true);
    server_late(false);
}

#ifndef __SANITIZE_THREAD__ /* it allows no thread in the child of a process with threads */
/* Told in the parent, handshake in the child. */
static void forked(const char *server_words)
{
    int fds[2], fd, rc, status;
    struct rig r;
    SSL_CTX *ctx;
    pid_t child;
    SSL *ssl;
    char go;

    rig_make(&r, server_words);
    ctx = client_of(&r, TLS_client_method(), "require", 0);
    ssl = SSL_new(ctx);
    assert_int_equal(mtls_set_name(ssl, "server.example"), 1);
    assert_int_equal(pipe(fds), 0);
    child = fork();
    if (child == 0) {
        if (read(fds[0], &go, 1) != 1)
            _exit(9);
        fd = pair_connect("127.0.0.1", r.port);
        SSL_set_fd(ssl, fd);
        rc = talk(ssl);
        if (rc == 1 && mtls_get_outcome(ssl) == MTLS_OUTCOME_VERIFIED)
            _exit(1);
        _exit(mtls_get_reason(ssl) == MTLS_ERR_NOT_OFFERED ? 2 : 3);
    }
    rig_start(&r); /* no thread but the library's at the fork */
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), server_words != NULL ? 1 : 2);
    rig_join(&r);
    assert_int_equal(r.p.got, server_words != NULL ? 5 : 0);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fds[0]);
    close(fds[1]);
    rig_free(&r);
}

static void process(void **state)
{
    forked("policy=require");
    forked(NULL);
}
#endif

/* The words are those of the SSL_CTX that the SSL has when its handshake begins. */
static void connect_plain(SSL *ssl, struct rig *r, enum mtls_outcome outcome)
{
    int fd;

    rig_start(r);
    fd = pair_connect("127.0.0.1", r->port);
    SSL_set_fd(ssl, fd);
    assert_int_equal(talk(ssl), outcome == MTLS_OUTCOME_PLAIN ? 1 : -1);
    assert_int_equal(mtls_get_outcome(ssl), outcome);
    SSL_shutdown(ssl);
    close(fd);
    rig_join(r);
    assert_int_equal(r->p.got, outcome == MTLS_OUTCOME_PLAIN ? 5 : 0);
}

static void context(void **state)
{
    SSL_CTX *prefer, *require;
    struct rig r;
    SSL *ssl;

    rig_make(&r, NULL);
    prefer = client_of(&r, TLS_client_method(), "prefer", closed_port());
    require = client_of(&r, TLS_client_method(), "require", closed_port());
    ssl = SSL_new(prefer);
    assert_int_equal(mtls_set_name(ssl, "server.example"), 1);
    connect_plain(ssl, &r, MTLS_OUTCOME_PLAIN);
    assert_int_equal(SSL_clear(ssl), 1); /* a second handshake, by other words */
    assert_ptr_equal(SSL_set_SSL_CTX(ssl, require), require);
    connect_plain(ssl, &r, MTLS_OUTCOME_FAILED);
    SSL_free(ssl);

    ssl = SSL_new(prefer);
    assert_int_equal(mtls_set_name(ssl, "server.example"), 1);
    assert_ptr_equal(SSL_set_SSL_CTX(ssl, require), require);
    connect_plain(ssl, &r, MTLS_OUTCOME_FAILED);
    SSL_free(ssl);

    ssl = SSL_new(require);
    assert_int_equal(mtls_set_name(ssl, "server.example"), 1);
    assert_ptr_equal(SSL_set_SSL_CTX(ssl, prefer), prefer);
    connect_plain(ssl, &r, MTLS_OUTCOME_PLAIN);
    SSL_free(ssl);
    SSL_CTX_free(prefer);
    SSL_CTX_free(require);
    rig_free(&r);
}

/* BIO_new_ssl_connect(): the socket is made when the first byte is written. */
static BIO *connect_bio(SSL_CTX *ctx, uint16_t port, SSL **ssl)
{
    BIO *b = BIO_new_ssl_connect(ctx);
    char to[32];

    snprintf(to, sizeof(to), "127.0.0.1:%u", port);
    BIO_set_conn_hostname(b, to);
    BIO_get_ssl(b, ssl);
    SSL_set_tlsext_host_name(*ssl, "server.example");
    return b;
}

static void connects(void **state)
{
    static const char *const policies[] = {"require", "prefer"};
    char buf[8];
    struct rig r;
    SSL_CTX *ctx;
    unsigned i;
    SSL *ssl;
    BIO *b;

    for (i = 0; i < 2; i++) {
        rig_make(&r, "policy=require");
        ctx = client_of(&r, TLS_client_method(), policies[i], 0);
        rig_start(&r);
        b = connect_bio(ctx, r.port, &ssl);
        assert_int_equal(BIO_do_connect(b), 1);
        assert_int_equal(BIO_write(b, "hello", 5), 5);
        assert_int_equal(BIO_read(b, buf, sizeof(buf)), 5);
        assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
        BIO_free_all(b);
        rig_join(&r);
        assert_int_equal(r.p.got, 5);
        SSL_CTX_free(ctx);
        rig_free(&r);
    }
}

/* Nobody listens, or nobody speaks it: nothing leaves. What the connection lacked is said first, as
 * without us. */
static void connects_in_vain(void **state)
{
    static const char *const policies[] = {"require", "prefer"};
    uint16_t port = 0;
    struct rig r;
    SSL_CTX *ctx;
    unsigned i;
    SSL *ssl;
    BIO *b;

    rig_make(&r, NULL);
    for (i = 0; i < 2; i++) {
        ctx = client_of(&r, TLS_client_method(), policies[i], 0);
        close(pair_listen("127.0.0.1", &port));
        ERR_clear_error();
        b = connect_bio(ctx, port, &ssl);
        assert_true(BIO_do_connect(b) <= 0);
        assert_int_equal(ERR_SYSTEM_ERROR(ERR_peek_error()), 1);
        assert_int_equal(ERR_GET_REASON(ERR_peek_error()), ECONNREFUSED);
        assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_PATH_UNKNOWN);
        BIO_free_all(b);
        SSL_CTX_free(ctx);
    }

    ctx = client_of(&r, TLS_client_method(), "require", 0);
    rig_start(&r);
    b = connect_bio(ctx, r.port, &ssl);
    assert_true(BIO_do_connect(b) <= 0);
    assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_NOT_OFFERED);
    BIO_free_all(b);
    rig_join(&r);
    assert_int_equal(r.p.got, 0);
    ERR_clear_error();
    SSL_CTX_free(ctx);
    rig_free(&r);
}

/* The handshake failed before the server said which session it is: the one that was offered may be
 * in other hands. */
static void offered_and_failed(void **state)
{
    struct mtls_record before, after;
    SSL_SESSION *session;
    struct rig r;
    SSL_CTX *ctx;
    SSL *ssl;
    int fd;

    rig_make(&r, "policy=require");
    ctx = client_of(&r, TLS_client_method(), "require", 0);
    rig_start(&r);
    fd = pair_connect("127.0.0.1", r.port);
    ssl = SSL_new(ctx);
    SSL_set_tlsext_host_name(ssl, "server.example");
    SSL_set_fd(ssl, fd);
    assert_int_equal(talk(ssl), 1);
    session = SSL_get1_session(ssl);
    assert_true(mtls_resume_record_of(session, &before));
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    rig_join(&r);

    ssl = SSL_new(ctx);
    SSL_set_session(ssl, session);
    assert_int_equal(mtls_set_name(ssl, "server.example"), 1);
    mtls_session_fail(mtls_session_find(ssl), MTLS_ERR_DEADLINE);
    assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_DEADLINE);
    assert_ptr_equal(SSL_get_session(ssl), session);
    assert_true(mtls_resume_record_of(session, &after));
    assert_int_equal(after.verified_at, before.verified_at);
    assert_int_equal(SSL_SESSION_is_resumable(session), 1);
    SSL_free(ssl);
    SSL_SESSION_free(session);
    SSL_CTX_free(ctx);
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifndef __SANITIZE_THREAD__
        cmocka_unit_test(process), /* first: forks */
#endif
        cmocka_unit_test(side_client),      cmocka_unit_test(side_server),
        cmocka_unit_test(context),          cmocka_unit_test(connects),
        cmocka_unit_test(connects_in_vain), cmocka_unit_test(offered_and_failed),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
