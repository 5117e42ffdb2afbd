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
        assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_TLS_VERSION);
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

/* What the server's EncryptedExtensions says. */
static void see_max_age(int write_p, int version, int content_type, const void *buf, size_t len,
                        SSL *ssl, void *arg)
{
    const uint8_t *msg = buf, *ext = msg + 6;
    struct mtls_ext_ee ee;

    if (content_type != SSL3_RT_HANDSHAKE || len < 6 || msg[0] != SSL3_MT_ENCRYPTED_EXTENSIONS)
        return;
    while (ext + 4 <= msg + len) {
        size_t n = (size_t)ext[2] << 8 | ext[3];

        if ((ext[0] << 8 | ext[1]) == MTLS_EXT_TYPE && mtls_ext_ee_parse(ext + 4, n, &ee) == 0)
            *(uint32_t *)arg = ee.max_age;
        ext += 4 + n;
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
        uint32_t max_age = 0;
        struct rogue r;
        int i;

        mtls_ssl_ctx_set_msg_callback(ctx, see_max_age, &max_age);
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
                assert_int_equal(max_age, to == 0 ? 15552000 : 77);
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

/* ---- path 2 reset ---- */

struct resetter {
    int listener, gap_us, pass; /* pass: CONFIRM goes on before the reset */
    uint16_t port;
    pthread_t thread;
};

static void reset_one(int fd, const struct resetter *r)
{
    enum { LEN = MTLS_PREFACE_LEN + MTLS_READY_LEN + MTLS_PROOF_LEN };
    struct timespec gap = {0, __atomic_load_n(&r->gap_us, __ATOMIC_SEQ_CST) * 1000L};
    struct linger reset = {.l_onoff = 1};
    int up = pair_connect("127.0.1.1", honest_port2()), n;
    uint8_t buf[LEN];

    n = (int)recv(fd, buf, MTLS_PREFACE_LEN + MTLS_HELLO_LEN, MSG_WAITALL);
    if (n > 0 && rogue_send(up, buf, (size_t)n) && recv(up, buf, LEN, MSG_WAITALL) == LEN) {
        (void)rogue_send(fd, buf, LEN);
        if (!__atomic_load_n(&r->pass, __ATOMIC_SEQ_CST))
            nanosleep(&gap, NULL);
        else if (recv(fd, buf, MTLS_CONFIRM_LEN, MSG_WAITALL) == MTLS_CONFIRM_LEN)
            (void)rogue_send(up, buf, MTLS_CONFIRM_LEN);
    }
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    close(fd);
    close(up);
}

static void *resetter_main(void *arg)
{
    struct resetter *r = arg;
    int fd;

    while ((fd = accept4(r->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        reset_one(fd, r);
    return NULL;
}

/* Between PROOF and CONFIRM, before, and behind them: whatever comes of it, nothing is used that
 * was freed, and only a confirmed client is verified at the server. */
static void path2_reset(void **state)
{
    enum { TIMES = 120 };
    struct resetter reset = {0};
    SSL_CTX *server = pair_server_ctx(), *ctx;
    unsigned verified = 0, i;
    struct rogue r;
    SSL *ssl;

    (void)honest_port2();
    reset.listener = pair_listen("127.0.1.1", &reset.port);
    pthread_create(&reset.thread, NULL, resetter_main, &reset);
    assert_int_equal(mtls_ssl_ctx_hook(server, "policy=require deadline=100"), 1);
    ctx = visitor_ctx("require", reset.port, "reuse=off deadline=300 tfo=off");
    rogue_make(&r, server);
    r.connections = 1;
    for (i = 0; i < TIMES; i++) {
        int rc, answered;

        ssl = visitor_new(ctx);
        __atomic_store_n(&reset.gap_us, (int)(i % 20) * 100, __ATOMIC_SEQ_CST);
        __atomic_store_n(&reset.pass, i % 4 < 2, __ATOMIC_SEQ_CST);
        r.got = 0;
        rogue_start(&r);
        visitor_dial(ssl, r.port, i % 2 == 0);
        rc = visitor_drive(ssl, NULL);
        answered = rc == 1 ? visitor_talk(ssl) : 0;
        assert_int_equal(rc == 1, mtls_get_outcome(ssl) == MTLS_OUTCOME_VERIFIED);
        visitor_free(ssl);
        rogue_join_thread(&r);
        assert_int_equal(r.outcome == MTLS_OUTCOME_VERIFIED, r.accepted == 1);
        assert_true(answered <= r.got);
        verified += r.outcome == MTLS_OUTCOME_VERIFIED;
    }
    assert_true(verified > 0 && verified < TIMES);
    shutdown(reset.listener, SHUT_RDWR);
    pthread_join(reset.thread, NULL);
    close(reset.listener);
    rogue_free(&r);
    SSL_CTX_free(ctx);
}

static void path2_left_alone(void **state)
{
    SSL_CTX *server = pair_server_ctx(), *ctx;
    struct rogue r;
    SSL *ssl;

    ctx = visitor_ctx("require", honest_port2(), "reuse=off");
    assert_int_equal(mtls_ssl_ctx_hook(server, "policy=require"), 1);
    rogue_make(&r, server);
    rogue_start(&r);
    ssl = visitor_new(ctx);
    visitor_dial(ssl, r.port, false);
    assert_int_equal(visitor_drive(ssl, NULL), 1);
    assert_int_equal(visitor_talk(ssl), 6);
    visitor_free(ssl);
    rogue_join_thread(&r);
    rogue_free(&r);
    SSL_CTX_free(ctx);
}

/* ---- hosts remembered ---- */

struct visit {
    int rc;
    enum mtls_outcome outcome;
    int reason, talked;
};

/* known: SSL_set_fd(); else a BIO of the application, which does not tell its socket. */
static struct visit visit(SSL_CTX *ctx, struct rogue *r, const char *name, bool known)
{
    SSL *ssl = visitor_new(ctx);
    struct visit v;
    BIO *bio;
    int fd;

    if (name != NULL)
        mtls_set_name(ssl, name);
    rogue_start(r);
    visitor_dial(ssl, r->port, false);
    fd = SSL_get_fd(ssl);
    if (!known) {
        bio = custom_bio(fd);
        SSL_set_bio(ssl, bio, bio);
    }
    v.rc = visitor_drive(ssl, NULL);
    v.outcome = mtls_get_outcome(ssl);
    v.reason = mtls_get_reason(ssl);
    v.talked = v.rc == 1 ? visitor_talk(ssl) : 0;
    if (v.rc == 1)
        SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    ERR_clear_error();
    rogue_join_thread(r);
    return v;
}

static void assert_visit(struct visit v, enum mtls_outcome outcome, int reason)
{
    if (v.outcome != outcome || v.reason != reason)
        print_error("%s, %s\n", mtls_outcome_name(v.outcome), mtls_error_name(v.reason));
    assert_int_equal(v.outcome, outcome);
    assert_int_equal(v.reason, reason);
    assert_int_equal(v.rc == 1, outcome != MTLS_OUTCOME_FAILED);
    assert_int_equal(v.talked, outcome == MTLS_OUTCOME_FAILED ? 0 : 6);
}

/* Verified once; then the same host without a second path to try: no socket that is known, or no
 * path in the configuration. */
static void remembered(void **state)
{
    char dir[] = "/tmp/mtls-hosts-XXXXXX", hosts[64], words[256];
    SSL_CTX *ctx, *none = pair_client_ctx(), *fresh, *plain;
    struct rogue r;

    assert_non_null(mkdtemp(dir));
    snprintf(hosts, sizeof(hosts), "%s/hosts", dir);
    snprintf(words, sizeof(words), "reuse=off resume=0 hosts=%s", hosts);
    ctx = visitor_ctx("prefer", honest_port2(), words);
    snprintf(words, sizeof(words), "policy=prefer hosts=%s", hosts);
    assert_int_equal(mtls_ssl_ctx_hook(none, words), 1);
    fresh = visitor_ctx("prefer", honest_port2(), "reuse=off resume=0");
    rogue_make(&r, pair_server_ctx());
    plain = r.ctx;

    assert_visit(visit(none, &r, NULL, true), MTLS_OUTCOME_PLAIN, MTLS_ERR_PATH_NONE);
    r.ctx = honest_keeper;
    assert_visit(visit(ctx, &r, NULL, true), MTLS_OUTCOME_VERIFIED, 0);
    r.ctx = plain;
    r.got = r.accepted = 0;
    assert_visit(visit(ctx, &r, NULL, false), MTLS_OUTCOME_FAILED, MTLS_ERR_REMEMBERED);
    assert_true(rogue_got_nothing(&r));
    assert_visit(visit(none, &r, NULL, true), MTLS_OUTCOME_FAILED, MTLS_ERR_REMEMBERED);
    assert_true(rogue_got_nothing(&r));
    assert_visit(visit(fresh, &r, NULL, false), MTLS_OUTCOME_PLAIN, MTLS_ERR_PATH_UNKNOWN);
    assert_visit(visit(none, &r, "other.example", true), MTLS_OUTCOME_PLAIN, MTLS_ERR_PATH_NONE);

    SSL_CTX_free(ctx);
    SSL_CTX_free(none);
    SSL_CTX_free(fresh);
    rogue_free(&r);
    unlink(hosts);
    snprintf(words, sizeof(words), "%s.lock", hosts);
    unlink(words);
    rmdir(dir);
}

/* A downgrade is remembered for ten minutes, without a file, for a program whose port is not known
 * as well. */
static void downgraded(void **state)
{
    SSL_CTX *ctx = visitor_ctx("prefer", honest_port2(), "reuse=off resume=0"), *none;
    struct rogue r;

    none = pair_client_ctx();
    assert_int_equal(mtls_ssl_ctx_hook(none, "policy=prefer"), 1);
    rogue_make(&r, pair_server_ctx());
    r.delay_ms = 100;
    assert_visit(visit(none, &r, "down.example", true), MTLS_OUTCOME_PLAIN, MTLS_ERR_PATH_NONE);
    assert_visit(visit(ctx, &r, "down.example", false), MTLS_OUTCOME_PLAIN, MTLS_ERR_PATH_UNKNOWN);
    assert_visit(visit(ctx, &r, "down.example", true), MTLS_OUTCOME_FAILED, MTLS_ERR_DOWNGRADE);
    r.got = r.accepted = 0;
    assert_visit(visit(ctx, &r, "down.example", false), MTLS_OUTCOME_FAILED, MTLS_ERR_REMEMBERED);
    assert_true(rogue_got_nothing(&r));
    assert_visit(visit(none, &r, "down.example", true), MTLS_OUTCOME_FAILED, MTLS_ERR_REMEMBERED);
    assert_true(rogue_got_nothing(&r));
    assert_visit(visit(ctx, &r, "up.example", false), MTLS_OUTCOME_PLAIN, MTLS_ERR_PATH_UNKNOWN);
    SSL_CTX_free(ctx);
    SSL_CTX_free(none);
    rogue_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(client_version),  cmocka_unit_test(server_version),
        cmocka_unit_test(switched_policy), cmocka_unit_test(switched_words),
        cmocka_unit_test(path2_reset),     cmocka_unit_test(path2_left_alone),
        cmocka_unit_test(remembered),      cmocka_unit_test(downgraded),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
