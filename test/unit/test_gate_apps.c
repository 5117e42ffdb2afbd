/* What applications do of their own around the gate: their call-backs, set before the hook or after
 * it; handshakes that are left to SSL_read and SSL_write; one SSL_CTX for many threads; kernel TLS;
 * DTLS and QUIC, which are left alone; and what stays of ours after the decision. */
#include "gate_lab.h"

#include <dlfcn.h>
#include <signal.h>

#include "mtls/ossl/session.h"

/* ---- call-backs ---- */

enum { INFO, VERIFY, KEYLOG, HELLO, SECURITY, CERT, SNI, KINDS };

static const char *const kind_names[KINDS] = {"info",     "verify",      "keylog", "client-hello",
                                              "security", "certificate", "SNI"};

static unsigned counts[2][KINDS]; /* [server]; atomic */

static void count(const SSL *ssl, int kind)
{
    __atomic_add_fetch(&counts[SSL_is_server(ssl)][kind], 1, __ATOMIC_SEQ_CST);
}

static unsigned counted(int server, int kind)
{
    return __atomic_load_n(&counts[server][kind], __ATOMIC_SEQ_CST);
}

static void on_info(const SSL *ssl, int where, int ret)
{
    count(ssl, INFO);
}

static int on_verify(int ok, X509_STORE_CTX *ctx)
{
    count(X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx()), VERIFY);
    return ok;
}

static void on_keylog(const SSL *ssl, const char *line)
{
    count(ssl, KEYLOG);
}

static int on_hello(SSL *ssl, int *alert, void *arg)
{
    count(ssl, HELLO);
    return SSL_CLIENT_HELLO_SUCCESS;
}

static int on_security(const SSL *ssl, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                       void *ex)
{
    if (ssl != NULL)
        count(ssl, SECURITY);
    return 1;
}

static int on_certificate(SSL *ssl, void *arg)
{
    count(ssl, CERT);
    return 1;
}

static int on_sni(SSL *ssl, int *alert, void *arg)
{
    count(ssl, SNI);
    return SSL_TLSEXT_ERR_OK;
}

static void set_callbacks(SSL_CTX *ctx, bool server)
{
    SSL_CTX_set_info_callback(ctx, on_info);
    SSL_CTX_set_keylog_callback(ctx, on_keylog);
    SSL_CTX_set_security_callback(ctx, on_security);
    SSL_CTX_set_cert_cb(ctx, on_certificate, NULL);
    if (server) {
        SSL_CTX_set_client_hello_cb(ctx, on_hello, NULL);
        SSL_CTX_set_tlsext_servername_callback(ctx, on_sni);
    } else {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
    }
}

static void assert_called(int server)
{
    int kind;

    for (kind = 0; kind < KINDS; kind++) {
        bool applies = kind != (server ? VERIFY : HELLO) && (server || kind != SNI) &&
                       (server || kind != CERT); /* the client is asked for no certificate */

        if (applies && counted(server, kind) == 0)
            fail_msg("%s: %s was not called", server ? "server" : "client", kind_names[kind]);
    }
}

/* The lab with call-backs that are there before the hook. */
static void lab_with_callbacks(struct lab *l, const char *server, const char *policy)
{
    char words[256];

    lab_make(l, NULL, NULL, "");
    set_callbacks(l->server, true);
    set_callbacks(l->client, false);
    if (server != NULL)
        assert_int_equal(mtls_ssl_ctx_hook(l->server, server), 1);
    pair_words(words, sizeof(words), policy, l->p2.port, "");
    assert_int_equal(mtls_ssl_ctx_hook(l->client, words), 1);
}

static void callbacks(void **state)
{
    int after;

    for (after = 0; after < 2; after++) {
        struct lab l;

        memset(counts, 0, sizeof(counts));
        if (after) {
            lab_make(&l, SERVER_WORDS "deadline=600", "require", "");
            set_callbacks(l.server, true);
            set_callbacks(l.client, false);
        } else {
            lab_with_callbacks(&l, SERVER_WORDS "deadline=600", "require");
        }
        lab_run(&l);
        assert_verified(&l.c);
        assert_verified(&l.s);
        assert_called(0);
        assert_called(1);
        relay_flip(&l.p2, 3, 2, 20); /* the twin: a wrong proof is found all the same */
        lab_ends(&l);
        lab_run(&l);
        assert_failed(&l.c, MTLS_ERR_PROOF_WRONG);
        assert_int_equal(l.s.got, 0);
        lab_free(&l);
    }
}

/* The security call-back is where a server refuses a plain client first. Taken by the application,
 * it is not the only place. */
static void security_taken(void **state)
{
    int server;

    for (server = 0; server < 2; server++) {
        struct lab l;

        lab_make(&l, server ? SERVER_WORDS : NULL, server ? NULL : "require", "");
        relay_hold(&l.p2, true, true); /* the client must not learn anything from path 2 either */
        SSL_CTX_set_security_callback(server ? l.server : l.client, on_security);
        lab_run(&l);
        assert_failed(server ? &l.s : &l.c, MTLS_ERR_NOT_OFFERED);
        assert_int_equal(l.s.got, 0);
        assert_int_equal(l.c.got, 0);
        lab_free(&l);
    }
}

static int refuse(int ok, X509_STORE_CTX *ctx)
{
    return 0;
}

static void verify_refuses(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=500", "require", "");
    SSL_CTX_set_verify(l.client, SSL_VERIFY_PEER, refuse);
    lab_run(&l);
    assert_int_equal(l.c.ssl_error, SSL_ERROR_SSL);
    assert_int_not_equal(l.c.outcome, MTLS_OUTCOME_VERIFIED);
    assert_int_not_equal(l.s.outcome, MTLS_OUTCOME_VERIFIED);
    assert_int_equal(l.s.got, 0);
    lab_free(&l);
}

static int hello_later(SSL *ssl, int *alert, void *arg)
{
    return SSL_get_app_data(ssl) == NULL && SSL_set_app_data(ssl, ssl) == 1
               ? SSL_CLIENT_HELLO_RETRY
               : SSL_CLIENT_HELLO_SUCCESS;
}

static int certificate_later(SSL *ssl, void *arg)
{
    return SSL_get_app_data(ssl) == NULL && SSL_set_app_data(ssl, ssl) == 1 ? -1 : 1;
}

static int verify_later(X509_STORE_CTX *ctx, void *arg)
{
    SSL *ssl = X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());

    if (SSL_get_app_data(ssl) != NULL)
        return X509_verify_cert(ctx);
    SSL_set_app_data(ssl, ssl);
    return SSL_set_retry_verify(ssl);
}

/* Call-backs that pause the handshake, before path 2 has answered and after. */
static void paused(void **state)
{
    int what, late;

    for (what = 0; what < 6; what++) {
        struct lab l;
        struct end *e;

        late = what / 3;
        lab_make(&l, SERVER_WORDS, "require", "");
        e = what % 3 == 2 ? &l.c : &l.s;
        e->style = POLLED;
        if (what % 3 == 0)
            SSL_CTX_set_client_hello_cb(l.server, hello_later, NULL);
        else if (what % 3 == 1)
            SSL_CTX_set_cert_cb(l.server, certificate_later, NULL);
        else
            SSL_CTX_set_cert_verify_callback(l.client, verify_later, NULL);
        relay_hold(&l.p2, false, late != 0);
        lab_start(&l);
        relay_wait(&l.p1, S2C, 23, 4);
        relay_release_after(&l.p2, late ? 200 : 0);
        lab_join(&l);
        assert_verified(&l.c);
        assert_verified(&l.s);
        assert_int_equal(e->paused, 1);
        lab_free(&l);
    }
}

/* ---- handshakes that nobody asks for ---- */

static void implicit(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++) {
        struct lab l;

        if (!tells_fd((enum style)style))
            continue;
        lab_make(&l, SERVER_WORDS "deadline=400", "require", "");
        l.c.style = l.s.style = (enum style)style;
        l.c.implicit = l.s.implicit = true;
        relay_hold(&l.p2, false, true);
        lab_start(&l);
        relay_wait(&l.p1, S2C, 23, 4);
        relay_release_after(&l.p2, 50);
        lab_join(&l);
        assert_verified(&l.c);
        assert_verified(&l.s);
        relay_flip(&l.p2, 3, 2, 20); /* and the twin */
        lab_ends(&l);
        l.c.style = l.s.style = (enum style)style;
        l.c.implicit = l.s.implicit = true;
        lab_run(&l);
        assert_failed(&l.c, MTLS_ERR_PROOF_WRONG);
        assert_int_equal(l.c.queue, MTLS_ERR_PROOF_WRONG);
        assert_int_equal(l.s.got, 0);
        lab_free(&l);
    }
}

/* The newer calls, and SSL_peek: blocking, each as the first call on its SSL. */
static void *peeker_main(void *arg)
{
    struct end *e = arg;
    char buf[16] = "hello";
    size_t n = 0;

    end_open(e);
    if (e->server) {
        e->got = SSL_peek(e->ssl, buf, sizeof(buf));
        e->rc =
            SSL_read_ex(e->ssl, buf, sizeof(buf), &n) == 1 && SSL_write_ex(e->ssl, buf, n, &n) == 1;
    } else {
        e->rc =
            SSL_write_ex(e->ssl, buf, 5, &n) == 1 && SSL_read_ex(e->ssl, buf, sizeof(buf), &n) == 1;
        e->got = (int)n;
    }
    e->outcome = mtls_get_outcome(e->ssl);
    e->queue = mtls_last_error();
    ERR_clear_error();
    end_close(e);
    return NULL;
}

static void implicit_ex(void **state)
{
    int wrong;

    for (wrong = 0; wrong < 2; wrong++) {
        struct lab l;

        lab_make(&l, SERVER_WORDS "deadline=500", "require", "");
        if (wrong)
            relay_flip(&l.p2, 3, 1, 20);
        pthread_create(&l.s.thread, NULL, peeker_main, &l.s);
        pthread_create(&l.c.thread, NULL, peeker_main, &l.c);
        lab_join(&l);
        assert_int_equal(l.c.outcome, wrong ? MTLS_OUTCOME_FAILED : MTLS_OUTCOME_VERIFIED);
        assert_int_equal(l.c.queue, wrong ? MTLS_ERR_PROOF_WRONG : 0);
        assert_int_equal(l.c.rc, !wrong);
        assert_int_equal(l.s.rc, !wrong);
        assert_int_equal(l.s.got, wrong ? -1 : 5);
        lab_free(&l);
    }
}

/* ---- one SSL_CTX, many threads ---- */

enum { THREADS = 8, ROUNDS = 4 };

static void shared(void **state)
{
    struct end c[THREADS], s[THREADS];
    struct lab l;
    int i, round;

    lab_make(&l, SERVER_WORDS, "require", "");
    for (round = 0; round < ROUNDS; round++) {
        for (i = 0; i < THREADS; i++) {
            c[i] = l.c;
            s[i] = l.s;
            c[i].port = l.port; /* without the relay */
            c[i].style = (enum style)((i + round) % ASYNC);
            c[i].style = tells_fd(c[i].style) ? c[i].style : EDGE;
            s[i].style = (enum style)((i + 3 * round) % STYLES);
            end_start(&s[i]);
            end_start(&c[i]);
        }
        for (i = 0; i < THREADS; i++) {
            end_join(&c[i]);
            end_join(&s[i]);
            assert_verified(&c[i]);
            assert_verified(&s[i]);
        }
    }
    lab_free(&l);
}

/* ---- SSL_dup and SSL_set_fd ---- */

/* In mid-handshake SSL_dup() gives the same object. */
static void duplicated(void **state)
{
    struct lab l;
    SSL *same;

    lab_make(&l, SERVER_WORDS, "require", "");
    l.c.style = POLLED;
    relay_hold(&l.p2, false, true);
    end_start(&l.s);
    end_open(&l.c);
    while (relay_seen(&l.p1, S2C, 23) < 4) {
        assert_true(end_call(&l.c, HANDSHAKE, NULL, 0) <= 0);
        assert_int_equal(l.c.ssl_error, SSL_ERROR_WANT_READ);
        (void)poll(NULL, 0, 1);
    }
    same = SSL_dup(l.c.ssl);
    assert_ptr_equal(same, l.c.ssl);
    SSL_free(same);
    relay_hold(&l.p2, false, false);
    l.c.rc = end_do(&l.c, HANDSHAKE, NULL, 0);
    assert_int_equal(l.c.rc, 1);
    end_data(&l.c);
    l.c.outcome = mtls_get_outcome(l.c.ssl);
    assert_verified(&l.c);
    end_close(&l.c);
    end_join(&l.s);
    assert_verified(&l.s);
    lab_free(&l);
}

static void fd_again(struct end *e)
{
    SSL_set_fd(e->ssl, e->fd);
    SSL_set_fd(e->ssl, e->fd);
}

/* Before the handshake and after the decision SSL_set_fd() is the application's own affair. */
static void fd_renewed(void **state)
{
    struct lab l;
    uint8_t buf[8] = "again";
    int i;

    lab_make(&l, SERVER_WORDS, "require", "");
    l.c.ready = l.s.ready = fd_again;
    l.c.keep = l.s.keep = true;
    lab_run(&l);
    assert_verified(&l.c);
    assert_verified(&l.s);
    for (i = 0; i < 2; i++) {
        fd_again(&l.c);
        fd_again(&l.s);
        assert_int_equal(SSL_write(l.c.ssl, buf, 5), 5);
        assert_int_equal(SSL_read(l.s.ssl, buf, sizeof(buf)), 5);
        assert_int_equal(SSL_key_update(l.c.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
    }
    assert_int_equal(mtls_get_outcome(l.c.ssl), MTLS_OUTCOME_VERIFIED);
    assert_int_equal(mtls_get_outcome(l.s.ssl), MTLS_OUTCOME_VERIFIED);
    end_close(&l.c);
    end_close(&l.s);
    lab_free(&l);
}

/* ---- BIOs that the application keeps ---- */

/* What SSL_get_rbio() gave in mid-handshake is the gate. It may be used after the decision, and it
 * tells the socket before and after. */
static void bio_kept(void **state)
{
    int server;

    for (server = 0; server < 2; server++) {
        struct lab l;
        struct end *e;
        char buf[8];
        BIO *kept;

        lab_make(&l, SERVER_WORDS, "require", "");
        e = server ? &l.s : &l.c;
        e->style = POLLED;
        relay_hold(&l.p2, false, true);
        end_start(server ? &l.c : &l.s);
        end_open(e);
        assert_int_equal(SSL_get_fd(e->ssl), e->fd);
        while (mtls_get_time_us(e->ssl, MTLS_STEP_CLIENT_HELLO) == 0) {
            assert_true(end_call(e, HANDSHAKE, NULL, 0) <= 0);
            (void)poll(NULL, 0, 1);
        }
        kept = SSL_get_rbio(e->ssl);
        assert_non_null(BIO_next(kept));
        assert_int_equal(SSL_get_fd(e->ssl), e->fd);
        relay_hold(&l.p2, false, false);
        e->rc = end_do(e, HANDSHAKE, NULL, 0);
        assert_int_equal(e->rc, 1);
        end_data(e);
        e->outcome = mtls_get_outcome(e->ssl);
        assert_verified(e);
        assert_ptr_not_equal(SSL_get_rbio(e->ssl), kept);
        assert_int_equal(SSL_get_fd(e->ssl), e->fd);
        assert_int_equal(BIO_get_fd(kept, NULL), e->fd);
        assert_int_equal(BIO_pending(kept), 0);
        assert_true(server || BIO_read(kept, buf, 0) <= 0);
        end_close(e);
        end_join(server ? &l.c : &l.s);
        lab_free(&l);
    }
}

/* nginx ignores an end of file without close_notify. The gate's failure is one all the same, and
 * the client gets an alert. */
static void eof_ignored(void **state)
{
    struct lab l;
    char buf[8];

    lab_make(&l, SERVER_WORDS "deadline=400", "require", "");
    SSL_CTX_set_options(l.server, SSL_OP_IGNORE_UNEXPECTED_EOF);
    l.c.keep = l.c.no_data = true;
    l.s.style = EDGE;
    relay_flip(&l.p2, 4, 1, 20); /* CONFIRM */
    lab_run(&l);
    assert_failed(&l.s, MTLS_ERR_CONFIRM_MISSING);
    assert_int_equal(l.s.ssl_error, SSL_ERROR_SSL);
    assert_int_equal(l.s.queue, MTLS_ERR_CONFIRM_MISSING);
    assert_int_equal(l.c.rc, 1);
    assert_true(SSL_read(l.c.ssl, buf, sizeof(buf)) <= 0);
    assert_int_equal(ERR_GET_REASON(ERR_peek_error()),
                     SSL_R_TLSV1_ALERT_DECODE_ERROR); /* an alert, not an end of file */
    ERR_clear_error();
    end_close(&l.c);
    lab_free(&l);
}

/* ---- kernel TLS ---- */

/* BIO_CTRL_SET_KTLS and its like, which only libssl's own headers name. */
enum { SET_KTLS = 72, SET_KTLS_CTRL_MSG = 74, CLEAR_KTLS_CTRL_MSG = 75 };

static unsigned ktls_asked; /* atomic: what came through to the application's BIO */

static long ktls_spy(BIO *b, int cmd, long num, void *ptr)
{
    if (cmd == SET_KTLS || cmd == SET_KTLS_CTRL_MSG || cmd == CLEAR_KTLS_CTRL_MSG)
        __atomic_add_fetch(&ktls_asked, 1, __ATOMIC_SEQ_CST);
    if (cmd == BIO_CTRL_GET_KTLS_SEND || cmd == BIO_CTRL_GET_KTLS_RECV)
        return 1; /* a kernel that would */
    return custom_ctrl(b, cmd, num, ptr);
}

/* In mid-handshake the gate says that there is no kernel TLS, and switches none on: else the kernel
 * and libssl would both encrypt. */
static void ktls_refused(struct end *e)
{
    static const int cmds[] = {BIO_CTRL_GET_KTLS_SEND, BIO_CTRL_GET_KTLS_RECV, SET_KTLS,
                               SET_KTLS_CTRL_MSG, CLEAR_KTLS_CTRL_MSG};
    BIO *filter = SSL_get_wbio(e->ssl), *below = BIO_next(filter);
    size_t i;

    assert_non_null(below);
    for (i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++)
        assert_int_equal(BIO_ctrl(filter, cmds[i], 0, NULL), 0);
    assert_int_equal(__atomic_load_n(&ktls_asked, __ATOMIC_SEQ_CST), 0);
    assert_int_equal(BIO_ctrl(below, BIO_CTRL_GET_KTLS_SEND, 0, NULL), 1);
}

static void ktls_controls(void **state)
{
    BIO_METHOD *spying = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "spy");
    struct lab l;
    BIO *spy;

    BIO_meth_set_read(spying, custom_read);
    BIO_meth_set_write(spying, custom_write);
    BIO_meth_set_ctrl(spying, ktls_spy);
    BIO_meth_set_create(spying, custom_create);
    __atomic_store_n(&ktls_asked, 0, __ATOMIC_SEQ_CST);
    lab_make(&l, SERVER_WORDS "deadline=500", "require", "");
    l.c.style = CUSTOM_FD;
    relay_hold(&l.p2, false, true);
    end_start(&l.s);
    end_open(&l.c);
    spy = BIO_new(spying);
    BIO_set_data(spy, (void *)(intptr_t)l.c.fd);
    SSL_set_bio(l.c.ssl, spy, spy);
    SSL_set_options(l.c.ssl, SSL_OP_ENABLE_KTLS);
    assert_true(end_call(&l.c, HANDSHAKE, NULL, 0) <= 0);
    ktls_refused(&l.c);
    end_close(&l.c);
    end_join(&l.s);
    BIO_meth_free(spying);
    lab_free(&l);
}

/* With real sockets: it is verified, and data passes, whether the kernel can or not. */
static void ktls(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS, "require", "");
    SSL_CTX_set_options(l.client, SSL_OP_ENABLE_KTLS);
    SSL_CTX_set_options(l.server, SSL_OP_ENABLE_KTLS);
    l.c.echo = 8192;
    l.s.echo = 8192;
    lab_run(&l);
    assert_verified(&l.c);
    assert_verified(&l.s);
    lab_free(&l);
}

/* ---- no stream ---- */

static void refused_hook(SSL_CTX *ctx)
{
    assert_non_null(ctx);
    assert_int_equal(mtls_ssl_ctx_hook(ctx, "policy=require path2=remote=127.0.1.1"), 0);
    assert_int_equal(mtls_last_error(), MTLS_ERR_ARG);
    assert_int_equal(mtls_ssl_ctx_is_hooked(ctx), 0);
    ERR_clear_error();
    assert_int_equal(mtls_ssl_ctx_hook(ctx, "policy=off"), 1);
    SSL_CTX_free(ctx);
}

static void no_stream(void **state)
{
    static const char *const quic[] = {"OSSL_QUIC_client_method", "OSSL_QUIC_client_thread_method"};
    const SSL_METHOD *(*method)(void);
    SSL_CTX *tls = SSL_CTX_new(TLS_method());
    size_t i;

    refused_hook(SSL_CTX_new(DTLS_method()));
    refused_hook(SSL_CTX_new(DTLS_client_method()));
    refused_hook(SSL_CTX_new(DTLS_server_method()));
    for (i = 0; i < sizeof(quic) / sizeof(quic[0]); i++) { /* OpenSSL 3.2 */
        void *symbol = dlsym(RTLD_DEFAULT, quic[i]);

        memcpy(&method, &symbol, sizeof(method));
        if (symbol != NULL)
            refused_hook(SSL_CTX_new(method()));
    }
    assert_int_equal(mtls_ssl_ctx_hook(tls, "policy=require path2=remote=127.0.1.1"), 1);
    SSL_CTX_free(tls);
}

/* A hooked SSL_CTX that is given a method of DTLS: require lets it make no connection. */
static void made_dtls(void **state)
{
    static const char *const policies[] = {"policy=require path2=remote=127.0.1.1",
                                           "policy=prefer path2=remote=127.0.1.1"};
    void *symbol = dlsym(RTLD_DEFAULT, "SSL_CTX_set_ssl_version"); /* until OpenSSL 3 */
    int (*set_method)(SSL_CTX *, const SSL_METHOD *);
    int i;

    memcpy(&set_method, &symbol, sizeof(set_method));
    for (i = 0; symbol != NULL && i < 2; i++) {
        SSL_CTX *ctx = pair_client_ctx();
        char *sent;
        SSL *ssl;
        long n;

        assert_int_equal(mtls_ssl_ctx_hook(ctx, policies[i]), 1);
        assert_int_equal(set_method(ctx, DTLS_client_method()), 1);
        ssl = SSL_new(ctx);
        assert_true(SSL_is_dtls(ssl));
        assert_int_equal(SSL_set_min_proto_version(ssl, 0), 1);
        SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        assert_int_equal(SSL_connect(ssl), -1);
        n = BIO_get_mem_data(SSL_get_wbio(ssl), &sent);
        assert_int_equal(n > 0 && sent[0] == 22, i == 1); /* a ClientHello, or at most an alert */
        ERR_clear_error();
        SSL_free(ssl);
        SSL_CTX_free(ctx);
    }
}

/* ---- what stays ---- */

static void assert_compact(const struct end *e)
{
    const struct mtls_session *s = mtls_session_find(e->ssl);

    assert_non_null(s);
    assert_null(s->hs);
    if (e->outcome != MTLS_OUTCOME_FAILED) { /* whose gate stands, so that it stays failed */
        assert_null(s->gate);
        assert_null(BIO_next(SSL_get_rbio(e->ssl)));
        assert_null(BIO_next(SSL_get_wbio(e->ssl)));
    }
    if (e->outcome != MTLS_OUTCOME_RESUMED_VERIFIED || !e->server) {
        assert_null(s->timer);
        assert_null(s->service);
    }
}

static void kept_run(struct lab *l, SSL_SESSION **session, enum mtls_outcome outcome)
{
    lab_ends(l);
    l->c.session = *session;
    l->c.keep = l->s.keep = true;
    lab_run(l);
    assert_int_equal(l->c.outcome, outcome);
    assert_compact(&l->c);
    if (l->s.outcome != MTLS_OUTCOME_NONE)
        assert_compact(&l->s);
    SSL_SESSION_free(*session);
    *session = SSL_get1_session(l->c.ssl);
    SSL_shutdown(l->c.ssl);
    end_close(&l->c);
    end_close(&l->s);
}

static void nothing_stays(void **state)
{
    SSL_SESSION *session = NULL, *none = NULL;
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=400", "require", "reuse=off");
    kept_run(&l, &session, MTLS_OUTCOME_VERIFIED);
    kept_run(&l, &session, MTLS_OUTCOME_RESUMED_VERIFIED);
    relay_flip(&l.p2, 3, relay_seen(&l.p2, S2C, 3) + 1, 20);
    kept_run(&l, &none, MTLS_OUTCOME_FAILED);
    SSL_SESSION_free(session);
    SSL_SESSION_free(none);
    lab_free(&l);

    none = NULL;
    lab_make(&l, NULL, "prefer", "grace=1000");
    relay_hold(&l.p2, true, true);
    kept_run(&l, &none, MTLS_OUTCOME_PLAIN);
    SSL_SESSION_free(none);
    lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks),      cmocka_unit_test(security_taken),
        cmocka_unit_test(verify_refuses), cmocka_unit_test(paused),
        cmocka_unit_test(implicit),       cmocka_unit_test(implicit_ex),
        cmocka_unit_test(shared),         cmocka_unit_test(duplicated),
        cmocka_unit_test(fd_renewed),     cmocka_unit_test(bio_kept),
        cmocka_unit_test(eof_ignored),    cmocka_unit_test(ktls_controls),
        cmocka_unit_test(ktls),           cmocka_unit_test(no_stream),
        cmocka_unit_test(made_dtls),      cmocka_unit_test(nothing_stays),
    };
    int rc;

    signal(SIGPIPE, SIG_IGN);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    SSL_CTX_free(lab_keeper);
    return rc;
}
