/* What an application does around the gate: objects reused, copied, forked, given other sockets;
 * what is left after the decision; the hook's own errors; the reactor driven by the application. */
#include "gate_lab.h"

#include <dirent.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <openssl/rand.h>

#include "mtls/core/wire_ext.h"

extern char **environ;

static unsigned entries(const char *dir)
{
    DIR *d = opendir(dir);
    unsigned n = 0;

    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n - 3; /* ".", "..", and the directory itself */
}

static unsigned told; /* atomic */

static void tell(SSL *ssl, enum mtls_outcome outcome, int reason, const char *json, void *arg)
{
    __atomic_add_fetch(&told, 1, __ATOMIC_SEQ_CST);
}

/* ---- after the decision ---- */

static BIO *rbio_before, *wbio_before;

static void note_bios(struct end *e)
{
    rbio_before = SSL_get_rbio(e->ssl);
    wbio_before = SSL_get_wbio(e->ssl);
}

static void separate_bios(struct end *e)
{
    SSL_set0_rbio(e->ssl, BIO_new_socket(e->fd, BIO_NOCLOSE));
    SSL_set0_wbio(e->ssl, BIO_new_socket(e->fd, BIO_NOCLOSE));
    note_bios(e);
}

static void gone_once(enum style style, bool server, bool separate)
{
    struct lab l;
    struct end *e;
    int lowat = 0;
    socklen_t len = sizeof(lowat);

    lab_make(&l, SERVER_WORDS, "require", "");
    e = server ? &l.s : &l.c;
    e->keep = true;
    e->style = style;
    e->ready = separate ? separate_bios : note_bios;
    relay_hold(&l.p2, false, true);
    lab_start(&l);
    relay_wait(&l.p1, S2C, 23, 4);
    relay_release_after(&l.p2, 20);
    lab_join(&l);
    assert_verified(e);
    assert_ptr_equal(SSL_get_rbio(e->ssl), rbio_before);
    assert_ptr_equal(SSL_get_wbio(e->ssl), wbio_before);
    assert_null(BIO_next(SSL_get_rbio(e->ssl)));
    assert_int_equal(getsockopt(e->fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, &len), 0);
    assert_int_equal(lowat, 1);
    end_close(e);
    lab_free(&l);
}

static void gone(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++) {
        if (tells_fd((enum style)style))
            gone_once((enum style)style, false, false);
        gone_once((enum style)style, true, false);
    }
    gone_once(POLLED, false, true);
    gone_once(POLLED, true, true);
}

static void wait_entries(unsigned most)
{
    uint64_t end = lab_ms() + LAB_LIMIT_MS;

    while (entries("/proc/self/fd") > most && lab_ms() < end)
        (void)poll(NULL, 0, 5);
    assert_true(entries("/proc/self/fd") <= most);
}

static void no_descriptor_left(void **state)
{
    struct lab l;
    unsigned before = 0, i;

    lab_make(&l, SERVER_WORDS "deadline=100", "require", "deadline=2000");
    for (i = 0; i < 220; i++) {
        lab_ends(&l);
        l.c.port = l.port; /* without the relay */
        l.c.style = (enum style)(i % STYLES);
        l.s.style = (enum style)(i / STYLES % STYLES);
        if (!tells_fd(l.c.style))
            l.c.style = MEMORY_FD;
        if (i % 10 == 9)
            relay_flip(&l.p2, 4, relay_seen(&l.p2, C2S, 4) + 1, 10); /* and some that fail */
        lab_run(&l);
        assert_int_equal(l.c.outcome, MTLS_OUTCOME_VERIFIED);
        relay_flip(&l.p2, 0, 0, 0);
        if (i == 19)
            before = entries("/proc/self/fd");
    }
    wait_entries(before + 4); /* the relay's own sockets come and go */
    lab_free(&l);
}

static void told_once(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=300", "require", "");
    mtls_ssl_ctx_set_outcome_callback(l.client, tell, NULL);
    __atomic_store_n(&told, 0, __ATOMIC_SEQ_CST);
    lab_run(&l);
    assert_verified(&l.c);
    assert_int_equal(__atomic_load_n(&told, __ATOMIC_SEQ_CST), 1);
    mtls_ssl_ctx_set_outcome_callback(l.client, NULL, NULL);
    mtls_ssl_ctx_set_outcome_callback(l.server, tell, NULL);
    lab_ends(&l);
    lab_run(&l);
    assert_verified(&l.s);
    assert_int_equal(__atomic_load_n(&told, __ATOMIC_SEQ_CST), 2);
    relay_flip(&l.p2, 4, 3, 10);
    lab_ends(&l);
    lab_run(&l);
    assert_failed(&l.s, MTLS_ERR_CONFIRM_MISSING);
    assert_int_equal(__atomic_load_n(&told, __ATOMIC_SEQ_CST), 3);
    lab_free(&l);
}

/* ---- objects ---- */

static void reconnect(struct lab *l, struct end *e, SSL *ssl)
{
    end_socket(e);
    if (e->server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    SSL_set_fd(ssl, e->fd);
    e->ssl = ssl;
}

static void *handshake_main(void *arg)
{
    struct end *e = arg;

    e->rc = end_do(e, HANDSHAKE, NULL, 0);
    if (e->rc == 1)
        end_data(e);
    e->outcome = mtls_get_outcome(e->ssl);
    e->reason = mtls_get_reason(e->ssl);
    ERR_clear_error();
    return NULL;
}

/* SSL_clear and the same object again, as either side; after a success and after a failure. */
static void cleared(void **state)
{
    int server, fail;

    for (server = 0; server < 2; server++) {
        for (fail = 0; fail < 2; fail++) {
            struct lab l;
            struct end *e;
            SSL *ssl;

            lab_make(&l, SERVER_WORDS "deadline=300", "require", "reuse=off");
            e = server ? &l.s : &l.c;
            e->keep = true;
            if (fail)
                relay_flip(&l.p2, server ? 4 : 3, 1, 10);
            lab_run(&l);
            assert_int_equal(e->outcome, fail ? MTLS_OUTCOME_FAILED : MTLS_OUTCOME_VERIFIED);
            ssl = e->ssl;
            close(e->fd);
            assert_int_equal(SSL_clear(ssl), 1);
            lab_ends(&l);
            relay_flip(&l.p2, 0, 0, 0);
            end_start(server ? &l.c : &l.s);
            reconnect(&l, e, ssl);
            handshake_main(e);
            assert_verified(e);
            end_close(e);
            end_join(server ? &l.c : &l.s);
            lab_free(&l);
        }
    }
}

static void dup_ready(struct end *e)
{
    SSL *copy = SSL_dup(e->ssl);

    assert_non_null(copy);
    assert_ptr_not_equal(copy, e->ssl);
    SSL_free(e->ssl);
    e->ssl = copy;
    SSL_set_fd(copy, e->fd);
}

static void duplicated(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS, "require", "");
    l.c.ready = l.s.ready = dup_ready;
    lab_run(&l);
    assert_verified(&l.c);
    assert_verified(&l.s);
    lab_free(&l);
}

/* SSL_set_fd in mid-handshake takes the gate away: whoever does it gets an error, not a session. */
static void displaced(void **state)
{
    int i, server, side;

    for (i = 0; i < 6; i++) {
        struct lab l;
        struct end *e;

        server = i % 2;
        side = i / 2; /* both BIOs, the one that writes, the one that reads */
        lab_make(&l, SERVER_WORDS "deadline=500", "require", "");
        e = server ? &l.s : &l.c;
        e->style = POLLED;
        relay_hold(&l.p2, false, true);
        end_start(server ? &l.c : &l.s);
        end_open(e);
        while (end_call(e, HANDSHAKE, NULL, 0) <= 0 &&
               mtls_get_time_us(e->ssl, MTLS_STEP_CLIENT_HELLO) == 0)
            assert_true(end_wait(e, e->ssl_error));
        assert_int_equal(e->ssl_error, SSL_ERROR_WANT_READ);
        if (side == 0)
            SSL_set_fd(e->ssl, dup(e->fd));
        else if (side == 1)
            SSL_set0_wbio(e->ssl, BIO_new_socket(dup(e->fd), BIO_CLOSE));
        else
            SSL_set0_rbio(e->ssl, BIO_new_socket(dup(e->fd), BIO_CLOSE));
        relay_hold(&l.p2, false, false);
        handshake_main(e);
        assert_failed(e, MTLS_ERR_GATE_DISPLACED);
        if (side == 0)
            close(SSL_get_fd(e->ssl));
        end_close(e);
        end_join(server ? &l.c : &l.s);
        assert_int_equal((server ? l.c : l.s).got, 0);
        lab_free(&l);
    }
}

/* The child's copy of a handshake fails and leaves the parent's alone. */
static int in_child(struct end *e)
{
    int rc = SSL_do_handshake(e->ssl), err = mtls_last_error();

    if (rc > 0 || err != MTLS_ERR_FORKED || mtls_get_reason(e->ssl) != MTLS_ERR_FORKED)
        return 1;
    SSL_free(e->ssl);
    return 0;
}

static void forked(void **state)
{
    int server;

    for (server = 0; server < 2; server++) {
        struct lab l;
        struct end *e;
        uint8_t own[1];
        pid_t pid;
        int status = -1;

        lab_make(&l, SERVER_WORDS, "require", "");
        e = server ? &l.s : &l.c;
        e->style = POLLED;
        relay_hold(&l.p2, false, true);
        end_start(server ? &l.c : &l.s);
        end_open(e);
        while (end_call(e, HANDSHAKE, NULL, 0) <= 0 && relay_seen(&l.p1, S2C, 23) < 4 &&
               SSL_get_finished(e->ssl, own, sizeof(own)) == 0)
            (void)fd_wait(e->fd, POLLIN);
        relay_wait(&l.p1, S2C, 23,
                   4); /* a server whose flight is out is gated: its descriptor is silent */
        (void)end_call(e, HANDSHAKE, NULL, 0);
        assert_int_equal(e->ssl_error, SSL_ERROR_WANT_READ);
        pid = fork();
        if (pid == 0)
            _exit(in_child(e));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        relay_hold(&l.p2, false, false);
        handshake_main(e);
        assert_verified(e);
        end_close(e);
        end_join(server ? &l.c : &l.s);
        lab_free(&l);
    }
}

static void two_contexts(void **state)
{
    struct lab a, b;

    lab_make(&a, SERVER_WORDS, "require", "");
    lab_make(&b, SERVER_WORDS, "require", "");
    lab_start(&a);
    lab_start(&b);
    lab_join(&a);
    lab_join(&b);
    assert_verified(&a.c);
    assert_verified(&b.c);
    assert_verified(&a.s);
    assert_verified(&b.s);
    lab_free(&b);
    lab_free(&a);
}

/* ---- call-backs ---- */

static unsigned messages; /* atomic */

static void message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                    void *arg)
{
    __atomic_add_fetch(&messages, 1, __ATOMIC_SEQ_CST);
}

static void message_callback(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=500", "require", "");
    SSL_CTX_set_msg_callback(l.client, message);
    lab_run(&l);
    assert_failed(&l.c, MTLS_ERR_TRANSCRIPT);
    lab_free(&l);

    lab_make(&l, SERVER_WORDS "deadline=500", "require", "");
    SSL_CTX_set_msg_callback(l.server, message);
    lab_run(&l);
    assert_failed(&l.s, MTLS_ERR_TRANSCRIPT);
    assert_int_equal(l.c.got, 0);
    lab_free(&l);

    lab_make(&l, SERVER_WORDS, "require", "");
    assert_int_equal(mtls_ssl_ctx_set_msg_callback(l.client, message, NULL), 1);
    assert_int_equal(mtls_ssl_ctx_set_msg_callback(l.server, message, NULL), 1);
    __atomic_store_n(&messages, 0, __ATOMIC_SEQ_CST);
    lab_run(&l);
    assert_verified(&l.c);
    assert_verified(&l.s);
    assert_true(__atomic_load_n(&messages, __ATOMIC_SEQ_CST) > 10);
    lab_free(&l);
}

/* ---- a client of its own making: the extension in only one of two ClientHellos, or another in the
 * second ---- */

static uint8_t own_ext[MTLS_EXT_CH_MAX], own_join[MTLS_JOIN_LEN];
static unsigned own_call, own_mask; /* bit i: send it in ClientHello i */
static bool own_changes;

static int own_add(SSL *ssl, unsigned int type, unsigned int context, const unsigned char **out,
                   size_t *outlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    struct mtls_ext_ch ch = {.nver = 1, .versions = {MTLS_VERSION_1}};
    unsigned i = own_call++;
    int n;

    if (context != SSL_EXT_CLIENT_HELLO || (own_mask & 1u << i) == 0)
        return 0;
    memcpy(ch.join, own_join, sizeof(ch.join));
    ch.join[0] ^= own_changes ? (uint8_t)i : 0;
    n = mtls_ext_ch_encode(&ch, own_ext, sizeof(own_ext));
    *out = own_ext;
    *outlen = (size_t)n;
    return 1;
}

static int own_parse(SSL *ssl, unsigned int type, unsigned int context, const unsigned char *in,
                     size_t inlen, X509 *x, size_t chainidx, int *al, void *arg)
{
    return 1;
}

static void own_client(const char *policy, unsigned mask, bool changes, int reason)
{
    char words[64];
    struct lab l;

    snprintf(words, sizeof(words), "policy=%s deadline=300", policy);
    lab_make(&l, words, NULL, "");
    assert_int_equal(SSL_CTX_set1_groups_list(l.server, "P-384"), 1);
    assert_int_equal(SSL_CTX_set1_groups_list(l.client, "X25519:P-384"), 1);
    SSL_CTX_add_custom_ext(l.client, MTLS_EXT_TYPE,
                           SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS |
                               SSL_EXT_TLS1_3_ONLY,
                           own_add, NULL, NULL, own_parse, NULL);
    own_call = 0;
    assert_int_equal(RAND_bytes(own_join, sizeof(own_join)), 1);
    own_mask = mask;
    own_changes = changes;
    lab_run(&l);
    assert_failed(&l.s, reason);
    assert_int_equal(l.c.got, 0);
    lab_free(&l);
}

static void extension_in_two_hellos(void **state)
{
    own_client("require", 3, false,
               MTLS_ERR_CONFIRM_MISSING); /* the twin: it is let in, and never confirms */
    own_client("prefer", 3, false, MTLS_ERR_CONFIRM_MISSING);
    own_client("require", 3, true, MTLS_ERR_EXT_CHANGED);
    own_client("prefer", 3, true, MTLS_ERR_EXT_CHANGED);
    own_client("prefer", 1, false, MTLS_ERR_EXT_CHANGED);
    own_client("prefer", 2, false, MTLS_ERR_EXT_CHANGED);
}

/* ---- the hook's own errors ---- */

static void hook_errors(void **state)
{
    static const struct {
        const char *words, *names;
        int error;
    } bad[] = {
        {"policy=require colour=blue", "colour", MTLS_ERR_CONFIG_KEY},
        {"policy=maybe", "maybe", MTLS_ERR_CONFIG_VALUE},
        {"policy=require path2=distance=3", "distance", 0},
        {"deadline=5", "deadline", MTLS_ERR_CONFIG_VALUE},
    };
    SSL_CTX *ctx = pair_client_ctx();
    size_t i;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[512] = "";
        const char *data = NULL;
        int flags = 0;

        ERR_clear_error();
        assert_int_equal(mtls_ssl_ctx_hook(ctx, bad[i].words), 0);
        if (bad[i].error != 0)
            assert_int_equal(mtls_last_error(), bad[i].error);
        ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
        snprintf(text, sizeof(text), "%s", data != NULL ? data : "");
        if (strstr(text, bad[i].names) == NULL)
            print_error("%s: %s\n", bad[i].words, text);
        assert_non_null(strstr(text, bad[i].names));
        assert_int_equal(mtls_ssl_ctx_is_hooked(ctx), 0);
    }
    assert_int_equal(mtls_ssl_ctx_hook(NULL, "policy=prefer"), 0);
    assert_int_equal(mtls_last_error(), MTLS_ERR_ARG);
    ERR_clear_error();
    assert_int_equal(mtls_ssl_ctx_hook(ctx, "policy=prefer"), 1);
    assert_int_equal(mtls_ssl_ctx_is_hooked(ctx), 1);
    assert_int_equal(mtls_ssl_ctx_hook(ctx, "policy=prefer"), 0);
    assert_int_equal(mtls_last_error(), MTLS_ERR_ARG);
    ERR_clear_error();
    SSL_CTX_free(ctx);
}

/* ---- reactor=app, in a process of its own ---- */

static bool app_step(SSL *ssl)
{
    int rc = SSL_do_handshake(ssl), err = SSL_get_error(ssl, rc);

    assert_true(rc == 1 || err == SSL_ERROR_WANT_READ || err == SSL_ERROR_WANT_WRITE);
    return rc == 1;
}

static SSL *app_ssl(SSL_CTX *ctx, int fd, bool server)
{
    SSL *ssl = SSL_new(ctx);

    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    SSL_set_fd(ssl, fd);
    if (server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
    SSL_set_tlsext_host_name(ssl, "server.example");
    return ssl;
}

static void app_driven(void **state)
{
    SSL_CTX *sctx = pair_server_ctx(), *cctx = pair_client_ctx();
    uint16_t port;
    int listener = pair_listen("127.0.0.1", &port), cfd, sfd, rounds = 0;
    char words[256];
    SSL *c, *s;
    bool cdone = false, sdone = false;

    assert_int_equal(mtls_ssl_ctx_hook(sctx, "policy=require listen=127.0.1.1:0 reactor=app"), 1);
    pair_words(words, sizeof(words), "require", pair_port2(sctx), "reactor=app");
    assert_int_equal(mtls_ssl_ctx_hook(cctx, words), 1);
    cfd = pair_connect("127.0.0.1", port);
    sfd = accept(listener, NULL, NULL);
    c = app_ssl(cctx, cfd, false);
    s = app_ssl(sctx, sfd, true);
    while (!(cdone && sdone)) {
        struct pollfd p[3] = {{.fd = cdone ? -1 : cfd, .events = POLLIN},
                              {.fd = sdone ? -1 : sfd, .events = POLLIN},
                              {.fd = mtls_pollable_fd(), .events = POLLIN}};

        cdone = cdone || app_step(c);
        sdone = sdone || app_step(s);
        p[0].fd = cdone ? -1 : cfd;
        p[1].fd = sdone ? -1 : sfd;
        if (!(cdone && sdone))
            assert_true(poll(p, 3, LAB_LIMIT_MS) > 0);
        assert_int_equal(mtls_dispatch(), 1);
        assert_true(++rounds < 100);
    }
    assert_int_equal(mtls_get_outcome(c), MTLS_OUTCOME_VERIFIED);
    assert_int_equal(mtls_get_outcome(s), MTLS_OUTCOME_VERIFIED);
    assert_int_equal(entries("/proc/self/task") + 1, 1);
    SSL_free(c);
    SSL_free(s);
    close(cfd);
    close(sfd);
    close(listener);
    SSL_CTX_free(cctx);
    SSL_CTX_free(sctx);
}

static void app_reactor(void **state)
{
    char self[] = "/proc/self/exe", arg[] = "app";
    char *argv[] = {self, arg, NULL};
    pid_t pid;
    int status = -1;

    assert_int_equal(posix_spawn(&pid, self, NULL, NULL, argv, environ), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hook_errors),
        cmocka_unit_test(gone),
        cmocka_unit_test(no_descriptor_left),
        cmocka_unit_test(told_once),
        cmocka_unit_test(cleared),
        cmocka_unit_test(duplicated),
        cmocka_unit_test(displaced),
        cmocka_unit_test(forked),
        cmocka_unit_test(two_contexts),
        cmocka_unit_test(message_callback),
        cmocka_unit_test(extension_in_two_hellos),
        cmocka_unit_test(app_reactor),
    };
    const struct CMUnitTest app[] = {cmocka_unit_test(app_driven)};
    int rc;

    signal(SIGPIPE, SIG_IGN);
    rc = argc > 1 ? cmocka_run_group_tests_name("app", app, NULL, NULL)
                  : cmocka_run_group_tests(tests, NULL, NULL);
    SSL_CTX_free(lab_keeper);
    return rc;
}
