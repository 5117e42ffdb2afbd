/* More that programs and peers do around a handshake, each beside its honest twin: 0-RTT, an SSL
 * used again, where path 2's address comes from, an extension in one ClientHello of two, calls that
 * must not block. */
#include "rogue.h"

#include <signal.h>

#include <openssl/rand.h>

#include "mtls/net/engine.h"
#include "mtls/ossl/session.h"

static SSL_CTX *hooked_server(const char *words)
{
    SSL_CTX *ctx = pair_server_ctx();

    if (mtls_ssl_ctx_hook(ctx, words) != 1)
        ERR_print_errors_fp(stderr);
    assert_int_equal(mtls_ssl_ctx_is_hooked(ctx), 1);
    return ctx;
}

/* ---- a client of plain libssl that offers ---- */

struct offering {
    uint8_t ext[MTLS_EXT_CH_MAX];
    size_t len;
    bool in[2]; /* in the first, in the second ClientHello */
    bool other; /* the second is not the same */
    bool alien; /* nor has it our magic */
    unsigned hellos;
};

static int offering_add(SSL *ssl, unsigned type, unsigned context, const unsigned char **out,
                        size_t *len, X509 *x, size_t chainidx, int *al, void *arg)
{
    struct offering *o = arg;
    unsigned n = o->hellos++;

    if (n == 1 && o->other)
        o->ext[o->alien ? 0 : o->len - 1] ^= 1;
    *out = o->ext;
    *len = o->len;
    return o->in[n & 1];
}

static void offer_through(struct offering *o, SSL_CTX *ctx)
{
    struct mtls_ext_ch ch = {.nver = 1, .versions = {MTLS_VERSION_1}};
    int n;

    RAND_bytes(ch.join, sizeof(ch.join));
    n = mtls_ext_ch_encode(&ch, o->ext, sizeof(o->ext));
    assert_true(n > 0);
    o->len = (size_t)n;
    o->hellos = 0;
    assert_int_equal(SSL_CTX_add_custom_ext(ctx, MTLS_EXT_TYPE,
                                            SSL_EXT_TLS_ONLY | SSL_EXT_TLS1_3_ONLY |
                                                SSL_EXT_CLIENT_HELLO |
                                                SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS,
                                            offering_add, NULL, o, rogue_ext_parse, NULL),
                     1);
}

/* [EXT-3] A HelloRetryRequest makes two ClientHellos; the extension in one of them alone. */
static void one_sided(void **state)
{
    static const struct {
        bool first, second, other, alien;
        int require, prefer;
    } cases[] = {
        {true, true, false, false, MTLS_ERR_CONFIRM_MISSING, MTLS_ERR_CONFIRM_MISSING},
        {true, true, true, false, MTLS_ERR_EXT_CHANGED, MTLS_ERR_EXT_CHANGED},
        {true, true, true, true, MTLS_ERR_EXT_CHANGED, MTLS_ERR_EXT_CHANGED},
        {true, false, false, false, MTLS_ERR_EXT_CHANGED, MTLS_ERR_EXT_CHANGED},
        {false, true, false, false, MTLS_ERR_NOT_OFFERED, MTLS_ERR_EXT_CHANGED},
    };
    size_t i;
    int require;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (require = 0; require < 2; require++) {
            struct offering o = {.in = {cases[i].first, cases[i].second},
                                 .other = cases[i].other,
                                 .alien = cases[i].alien};
            SSL_CTX *ctx = pair_client_ctx();
            struct rogue r;
            SSL *ssl;

            rogue_make(&r, hooked_server(require ? "policy=require deadline=300"
                                                 : "policy=prefer deadline=300"));
            SSL_CTX_set1_groups_list(r.ctx, "P-384");
            SSL_CTX_set1_groups_list(ctx, "X25519:P-384");
            offer_through(&o, ctx);
            rogue_start(&r);
            ssl = visitor_new(ctx);
            visitor_dial(ssl, r.port, false);
            (void)visitor_drive(ssl, NULL);
            visitor_talk(ssl);
            visitor_free(ssl);
            rogue_join_thread(&r);
            assert_int_equal(r.outcome, MTLS_OUTCOME_FAILED);
            assert_int_equal(r.reason, require ? cases[i].require : cases[i].prefer);
            assert_true(r.accepted <= 0);
            assert_int_equal(r.got, 0);
            rogue_free(&r);
            SSL_CTX_free(ctx);
        }
    }
}

/* ---- 0-RTT ---- */

/* The program allows early data after the hook, for the SSL_CTX and for each SSL. */
struct early {
    SSL_CTX *ctx;
    int listener, accepted, got;
    pthread_t thread;
    enum mtls_outcome outcome;
    int reason;
};

static void *early_main(void *arg)
{
    struct early *e = arg;
    int fd = accept4(e->listener, NULL, NULL, SOCK_CLOEXEC), status;
    struct timeval limit = {.tv_sec = LAB_LIMIT_MS / 1000};
    SSL *ssl = SSL_new(e->ctx);
    char buf[32];
    size_t n = 0;

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    SSL_set_fd(ssl, fd);
    SSL_set_max_early_data(ssl, 16384);
    SSL_set_recv_max_early_data(ssl, 16384);
    e->got = 0;
    while ((status = SSL_read_early_data(ssl, buf, sizeof(buf), &n)) == SSL_READ_EARLY_DATA_SUCCESS)
        e->got += (int)n;
    e->accepted = status == SSL_READ_EARLY_DATA_FINISH ? SSL_accept(ssl) : -1;
    if (e->accepted == 1 && SSL_read_ex(ssl, buf, sizeof(buf), &n) == 1)
        SSL_write(ssl, buf, (int)n);
    e->outcome = mtls_get_outcome(ssl);
    e->reason = mtls_get_reason(ssl);
    if (e->accepted == 1)
        SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
    ERR_clear_error();
    return NULL;
}

/* Returns the client's status of its early data; *session is replaced by the newer ticket. */
static int early_visit(struct early *e, SSL_CTX *ctx, uint16_t port, SSL_SESSION **session)
{
    SSL *ssl = visitor_new(ctx);
    char buf[16];
    size_t n;
    int status;

    pthread_create(&e->thread, NULL, early_main, e);
    visitor_dial(ssl, port, false);
    if (*session != NULL) {
        SSL_set_session(ssl, *session);
        assert_int_equal(SSL_write_early_data(ssl, "EARLY", 5, &n), 1);
    }
    if (visitor_drive(ssl, NULL) == 1 && visitor_talk(ssl) == 6) {
        (void)SSL_read(ssl, buf, sizeof(buf));
        SSL_SESSION_free(*session);
        *session = SSL_get1_session(ssl);
    }
    status = SSL_get_early_data_status(ssl);
    visitor_free(ssl);
    pthread_join(e->thread, NULL);
    return status;
}

static void early_data(void **state)
{
    SSL_CTX *plain = pair_client_ctx(), *offers = pair_client_ctx();
    struct offering o = {.in = {true, true}};
    struct early e = {.ctx = hooked_server("policy=prefer deadline=300")};
    SSL_SESSION *session = NULL;
    uint16_t port;

    offer_through(&o, offers);
    e.listener = pair_listen("127.0.0.1", &port);
    SSL_CTX_set_max_early_data(e.ctx, 16384);
    SSL_CTX_set_recv_max_early_data(e.ctx, 16384);
    (void)early_visit(&e, plain, port, &session);
    assert_int_equal(e.outcome, MTLS_OUTCOME_PLAIN);
    assert_true(SSL_SESSION_get_max_early_data(session) > 0);
    /* without the extension that is the program's own affair */
    assert_int_equal(early_visit(&e, plain, port, &session), SSL_EARLY_DATA_ACCEPTED);
    assert_int_equal(e.got, 5);
    assert_int_equal(e.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(early_visit(&e, offers, port, &session), SSL_EARLY_DATA_REJECTED);
    assert_int_equal(e.got, 0);
    assert_int_equal(e.outcome, MTLS_OUTCOME_FAILED);
    assert_int_equal(e.reason, MTLS_ERR_CONFIRM_MISSING);
    SSL_SESSION_free(session);
    SSL_CTX_free(plain);
    SSL_CTX_free(offers);
    SSL_CTX_free(e.ctx);
    close(e.listener);
}

/* ---- an SSL used again ---- */

static void drive_again(SSL *ssl, struct rogue *r, int expected)
{
    rogue_start(r);
    visitor_dial(ssl, r->port, false);
    assert_int_equal(visitor_drive(ssl, NULL) == 1, expected == 1);
    if (expected == 1)
        assert_int_equal(visitor_talk(ssl), 6);
    visitor_hang_up(ssl);
    rogue_join_thread(r);
    ERR_clear_error();
}

static void assert_name(SSL *ssl, const char *name)
{
    char *json = mtls_report_json(ssl), member[64];

    snprintf(member, sizeof(member), "\"name\": \"%s\"", name);
    assert_non_null(strstr(json, member));
    OPENSSL_free(json);
}

/* What the program said of the connection before does not hold for the next; what it says after
 * SSL_clear() does. */
static void said_of_before(void **state)
{
    SSL_CTX *ctx = visitor_ctx("require", honest_port2(), "reuse=off resume=0 deadline=3000");
    SSL *ssl = visitor_new(ctx);
    const struct mtls_session *s;
    struct rogue r;
    int other[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
    rogue_make(&r, hooked_server("policy=require"));
    assert_int_equal(mtls_set_name(ssl, "first.example"), 1);
    assert_int_equal(mtls_name_checked(ssl), 1);
    assert_int_equal(mtls_set_fd(ssl, other[0]), 1);
    drive_again(ssl, &r, 0); /* path 1's socket is not known: nothing is distinct from it */
    assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_PATH_UNKNOWN);

    assert_int_equal(SSL_clear(ssl), 1);
    drive_again(ssl, &r, 1);
    assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
    s = mtls_session_find(ssl);
    assert_name(ssl, "server.example");
    assert_int_equal(s->given_fd, -1);
    assert_false(s->name_checked);

    assert_int_equal(SSL_clear(ssl), 1);
    assert_int_equal(mtls_set_name(ssl, "third.example"), 1);
    assert_int_equal(mtls_name_checked(ssl), 1);
    drive_again(ssl, &r, 1);
    assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
    assert_name(ssl, "third.example");
    assert_true(s->name_checked);

    assert_int_equal(SSL_clear(ssl), 1);
    assert_int_equal(mtls_set_fd(ssl, other[0]), 1);
    drive_again(ssl, &r, 0);
    assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_PATH_UNKNOWN);
    assert_false(s->name_checked);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    rogue_free(&r);
    close(other[0]);
    close(other[1]);
}

/* An SSL_CTX for both roles makes an SSL a server until the program says that it connects: what it
 * says of the session before that must not make a server of it. */
static void said_before_role(void **state)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_method());
    struct rogue r;
    char words[128];
    SSL *ssl;

    pair_certificate();
    X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), pair_cert);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    snprintf(words, sizeof(words), "policy=require path2=remote=127.0.1.1:%u,distinct=server",
             honest_port2());
    assert_int_equal(mtls_ssl_ctx_hook(ctx, words), 1);
    rogue_make(&r, hooked_server("policy=require"));
    ssl = SSL_new(ctx);
    assert_int_equal(SSL_is_server(ssl), 1);
    assert_int_equal(mtls_set_name(ssl, "third.example"), 1);
    SSL_set_connect_state(ssl);
    SSL_set_tlsext_host_name(ssl, "server.example");
    drive_again(ssl, &r, 1);
    assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
    assert_name(ssl, "third.example");
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    rogue_free(&r);
}

/* The same after a handshake that neither succeeded nor failed by us: it was cut. */
static void said_after_cut(void **state)
{
    SSL_CTX *ctx = visitor_ctx("require", honest_port2(), "reuse=off resume=0 deadline=3000");
    SSL_CTX *honest = hooked_server("policy=require"), *plain = pair_server_ctx();
    SSL *ssl = visitor_new(ctx);
    struct rogue r;

    rogue_make(&r, plain);
    r.shape = ROGUE_CUT;
    assert_int_equal(mtls_set_name(ssl, "first.example"), 1);
    drive_again(ssl, &r, 0);
    r.shape = ROGUE_AS_IS;
    r.ctx = honest;
    assert_int_equal(SSL_clear(ssl), 1);
    assert_int_equal(mtls_set_name(ssl, "second.example"), 1);
    assert_int_equal(mtls_name_checked(ssl), 1);
    drive_again(ssl, &r, 1);
    assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
    assert_name(ssl, "second.example");
    assert_true(mtls_session_find(ssl)->name_checked);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    SSL_CTX_free(plain);
    rogue_free(&r);
}

/* ---- path 2's address ---- */

/* A literal that somebody typed leads path 2; one that stands in SNI does not: a program puts its
 * own look-up's answer there. */
static void literal(void **state)
{
    char words[128];
    int typed;

    snprintf(words, sizeof(words),
             "policy=require path2=port=%u,distinct=server reuse=off deadline=2000",
             honest_port2());
    for (typed = 0; typed < 2; typed++) {
        SSL_CTX *ctx = pair_client_ctx();
        struct rogue r;
        SSL *ssl;

        assert_int_equal(mtls_ssl_ctx_hook(ctx, words), 1);
        rogue_make(&r, hooked_server("policy=require deadline=300"));
        rogue_start(&r);
        ssl = visitor_new(ctx);
        if (typed)
            assert_int_equal(mtls_set_name(ssl, "127.0.1.1"), 1);
        else
            SSL_set_tlsext_host_name(ssl, "127.0.1.1");
        visitor_dial(ssl, r.port, false);
        assert_int_equal(visitor_drive(ssl, NULL) == 1, typed);
        if (typed)
            assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
        else
            assert_outcome(ssl, MTLS_OUTCOME_FAILED, MTLS_ERR_NAME_UNKNOWN);
        if (typed)
            assert_int_equal(visitor_talk(ssl), 6);
        visitor_free(ssl);
        rogue_join_thread(&r);
        rogue_free(&r);
        SSL_CTX_free(ctx);
    }
}

static bool warm(const struct mtls_path_spec *spec, uint16_t port1)
{
    struct mtls_path2_request req = {
        .name = "127.0.1.1", .port1 = port1, .spec = spec, .tfo = true, .reuse = true};
    bool is;

    mtls_engine_lock();
    is = mtls_path2_is_warm(&req, mtls_now());
    mtls_engine_unlock();
    return is;
}

/* A server on one port of both addresses: the port it says is path 1's own. */
static void one_port(struct rogue *r)
{
    char words[64];
    int tries, ok = 0;

    for (tries = 0; !ok && tries < 20; tries++) {
        rogue_make(r, pair_server_ctx());
        snprintf(words, sizeof(words), "policy=require listen=127.0.1.1:%u", r->port);
        ok = mtls_ssl_ctx_hook(r->ctx, words);
        if (!ok)
            rogue_free(r);
    }
    assert_int_equal(ok, 1);
    ERR_clear_error();
}

/* The port that EncryptedExtensions say is kept with the connection: a session that has learned
 * none is not led there. */
static void learned_port(void **state)
{
    static struct mtls_config config;
    SSL_CTX *ctx = pair_client_ctx();
    char words[64];
    struct mtls_path_info info;
    struct rogue r;
    SSL *ssl;

    one_port(&r);
    assert_int_equal(mtls_ssl_ctx_hook(ctx, "policy=require path2=distinct=server early=off"), 1);
    ssl = visitor_new(ctx);
    assert_int_equal(mtls_set_name(ssl, "127.0.1.1"), 1);
    rogue_start(&r);
    visitor_dial(ssl, r.port, false);
    assert_int_equal(visitor_drive(ssl, NULL), 1);
    assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
    assert_int_equal(visitor_talk(ssl), 6);
    snprintf(words, sizeof(words), "port=%u", r.port);
    assert_int_equal(mtls_get_path(ssl, 1, &info), 1);
    assert_non_null(strstr(info.spec, words));
    mtls_config_init(&config);
    assert_int_equal(mtls_config_apply(&config, "path2=distinct=server", NULL, 0), 0);
    assert_false(warm(&config.path2[0], r.port));
    snprintf(words, sizeof(words), "path2=distinct=server,port=%u", r.port);
    assert_int_equal(mtls_config_apply(&config, words, NULL, 0), 0);
    assert_true(warm(&config.path2[0], r.port));
    visitor_free(ssl);
    rogue_join_thread(&r);
    rogue_free(&r);
    SSL_CTX_free(ctx);
}

/* ---- calls that must not block ---- */

/* Without the bound a call lasts as long as path 2 is slow: 600 ms, or the deadline of 3 s. */
enum { CALL_MAX_MS = 300 };

/* A wrong PROOF that says "another may follow": path 1 has its proof to wait for until the
 * deadline, the program's event loop has not. */
static void wrong_proof_with_more(void **state)
{
    int more;

    for (more = 0; more < 2; more++) {
        struct false2 f = {.proof = true, .more = (uint8_t)more};
        uint64_t longest = 0;
        struct rogue r;
        SSL_CTX *ctx;
        SSL *ssl;

        false2_start(&f);
        ctx = visitor_ctx("require", f.port, "reuse=off deadline=3000");
        rogue_make(&r, hooked_server("policy=require deadline=300"));
        rogue_start(&r);
        ssl = visitor_new(ctx);
        visitor_dial(ssl, r.port, true);
        assert_true(visitor_drive(ssl, &longest) <= 0);
        assert_outcome(ssl, MTLS_OUTCOME_FAILED,
                       more ? MTLS_ERR_PROOF_MISSING : MTLS_ERR_PROOF_WRONG);
        assert_true(longest < CALL_MAX_MS);
        visitor_free(ssl);
        rogue_join_thread(&r);
        assert_true(rogue_got_nothing(&r));
        rogue_free(&r);
        SSL_CTX_free(ctx);
        false2_stop(&f);
    }
}

/* The server packs its encrypted flight in one record, and path 2 is slow: the wait comes before
 * that record is read. */
static void packed(void **state)
{
    static const enum rogue_shape shapes[] = {ROGUE_AS_IS, ROGUE_PACKED};
    size_t i;

    for (i = 0; i < 4; i++) {
        bool nonblocking = i < 2;
        uint64_t longest = 0;
        struct relay p2;
        struct rogue r;
        SSL_CTX *ctx;
        SSL *ssl;

        relay_start(&p2, RELAY_PATH2, "127.0.1.1", "127.0.1.1", honest_port2());
        relay_hold(&p2, false, true);
        ctx = visitor_ctx("require", p2.port, "reuse=off");
        rogue_make(&r, hooked_server("policy=require"));
        r.shape = shapes[i & 1];
        rogue_start(&r);
        ssl = visitor_new(ctx);
        visitor_dial(ssl, r.port, nonblocking);
        relay_release_after(&p2, 600);
        assert_int_equal(visitor_drive(ssl, &longest), 1);
        assert_outcome(ssl, MTLS_OUTCOME_VERIFIED, 0);
        assert_int_equal(visitor_talk(ssl), 6);
        if (nonblocking)
            assert_true(longest < CALL_MAX_MS);
        visitor_free(ssl);
        rogue_join_thread(&r);
        assert_int_equal(r.outcome, MTLS_OUTCOME_VERIFIED);
        assert_int_equal(r.got, 6);
        rogue_free(&r);
        SSL_CTX_free(ctx);
        relay_stop(&p2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_sided),      cmocka_unit_test(early_data),
        cmocka_unit_test(said_of_before), cmocka_unit_test(said_before_role),
        cmocka_unit_test(said_after_cut), cmocka_unit_test(literal),
        cmocka_unit_test(learned_port),   cmocka_unit_test(wrong_proof_with_more),
        cmocka_unit_test(packed),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
