/* Announced connections: HELLO before the ClientHello, each announcement for one session. */
#include "tls_pair.h"

#include <poll.h>
#include <sys/wait.h>

#include "mtls/core/wire_frame.h"
#include "mtls/net/announced.h"
#include "mtls/net/path2_service.h"
#include "mtls/net/reactor.h"

#define NAME "server.example"

struct world {
    SSL_CTX *server, *client;
    int listener;
    uint16_t port1;
    struct pair_server peer;
    enum mtls_outcome outcome;
    int reason;
    int64_t hello_us; /* after the ClientHello; negative: before */
};

static void world_open_as(struct world *w, const char *policy, const char *listen, uint16_t port2,
                          const char *more)
{
    char words[160];

    memset(w, 0, sizeof(*w));
    w->server = pair_server_ctx();
    if (listen != NULL)
        assert_int_equal(mtls_ssl_ctx_hook(w->server, listen), 1);
    w->client = pair_client_ctx();
    if (listen != NULL)
        port2 = pair_port2(w->server);
    assert_int_equal(
        mtls_ssl_ctx_hook(w->client, pair_words(words, sizeof(words), policy, port2, more)), 1);
    w->listener = pair_listen("127.0.0.1", &w->port1);
}

static void world_open(struct world *w, const char *listen, uint16_t port2, const char *more)
{
    world_open_as(w, "require", listen, port2, more);
}

static void world_close(struct world *w)
{
    close(w->listener);
    SSL_CTX_free(w->client);
    SSL_CTX_free(w->server);
}

static void world_connect(struct world *w)
{
    int fd = pair_connect("127.0.0.1", w->port1);
    SSL *ssl = SSL_new(w->client);
    char end;

    pair_server_start(&w->peer, w->server, w->listener);
    SSL_set_fd(ssl, fd);
    SSL_set_tlsext_host_name(ssl, NAME);
    if (SSL_connect(ssl) == 1) {
        SSL_shutdown(ssl);
        (void)!SSL_read(ssl, &end, 1); /* tickets, and the server's close_notify */
    }
    w->outcome = mtls_get_outcome(ssl);
    w->reason = mtls_get_reason(ssl);
    w->hello_us = (int64_t)(mtls_get_time_us(ssl, MTLS_STEP_HELLO) -
                            mtls_get_time_us(ssl, MTLS_STEP_CLIENT_HELLO));
    shutdown(fd, SHUT_RDWR);
    pair_server_join(&w->peer);
    free(w->peer.json);
    SSL_free(ssl);
    close(fd);
    ERR_clear_error();
}

static size_t waiting(void)
{
    struct mtls_p2s_stats stats;

    mtls_engine_lock();
    mtls_service_stats(&stats);
    mtls_engine_unlock();
    return stats.waiting_claims;
}

static void wait_waiting(size_t n)
{
    int i;

    for (i = 0; i < 500 && waiting() != n; i++) /* sooner than the server gives up by itself */
        (void)!poll(NULL, 0, 10);
    assert_int_equal(waiting(), n);
}

static struct mtls_announced *take(const char *name, uint16_t port)
{
    struct mtls_announced *a;

    mtls_engine_lock();
    a = mtls_announced_take(name, port);
    mtls_engine_unlock();
    return a;
}

static void drop(struct mtls_announced *a)
{
    mtls_engine_lock();
    mtls_announced_free(a);
    mtls_engine_unlock();
}

/* HELLO is with the server before path 1 has said a word; the next session finds nothing. */
static void hello_goes_ahead(void **state)
{
    struct world w;

    world_open(&w, "policy=require listen=127.0.1.1:0", 0, "reuse=off");
    assert_int_equal(mtls_announce(w.client, NAME, w.port1), 1);
    wait_waiting(1);
    world_connect(&w);
    assert_int_equal(w.outcome, MTLS_OUTCOME_VERIFIED);
    assert_true(w.hello_us < 0);
    world_connect(&w);
    assert_int_equal(w.outcome, MTLS_OUTCOME_VERIFIED);
    assert_true(w.hello_us >= 0);
    world_close(&w);
}

static void each_serves_one(void **state)
{
    struct world w;
    int i;

    world_open(&w, "policy=require listen=127.0.1.1:0", 0, "");
    for (i = 0; i < 2; i++)
        assert_int_equal(mtls_announce(w.client, NAME, w.port1), 1);
    wait_waiting(2);
    for (i = 0; i < 3; i++) {
        world_connect(&w);
        assert_int_equal(w.outcome, MTLS_OUTCOME_VERIFIED);
        assert_int_equal(w.hello_us < 0, i < 2);
    }
    world_close(&w);
}

static void another_name_or_port(void **state)
{
    struct world w;

    world_open(&w, "policy=require listen=127.0.1.1:0", 0, "reuse=off");
    assert_int_equal(mtls_announce(w.client, "other.example", w.port1), 1);
    assert_int_equal(mtls_announce(w.client, NAME, (uint16_t)(w.port1 + 1)), 1);
    wait_waiting(2);
    world_connect(&w);
    assert_int_equal(w.outcome, MTLS_OUTCOME_VERIFIED);
    assert_true(w.hello_us >= 0);
    drop(take("other.example", w.port1));
    drop(take(NAME, (uint16_t)(w.port1 + 1)));
    wait_waiting(0);
    world_close(&w);
}

static int await_failed(const char *name, uint16_t port1)
{
    struct mtls_path_status st = {.state = MTLS_PATH_STARTING};
    struct mtls_announced *a;

    for (int i = 0; i < 1000 && st.state != MTLS_PATH_FAILED; i++) {
        mtls_engine_lock();
        a = mtls_announced_take(name, port1);
        assert_non_null(a);
        mtls_path2_claim_status(a->claims[0], &st);
        mtls_announced_keep(a, mtls_now());
        mtls_engine_unlock();
        (void)!poll(NULL, 0, 10);
    }
    assert_int_equal(st.state, MTLS_PATH_FAILED);
    return st.error;
}

/* Nobody listened when it was announced; somebody does when it is needed. */
static void a_failure_is_not_adopted(void **state)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t len = sizeof(sin);
    int reserved = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct world w;
    char words[80];
    uint16_t port2;

    inet_pton(AF_INET, "127.0.1.1", &sin.sin_addr);
    assert_int_equal(bind(reserved, (struct sockaddr *)&sin, len), 0);
    assert_int_equal(getsockname(reserved, (struct sockaddr *)&sin, &len), 0);
    port2 = ntohs(sin.sin_port);
    world_open(&w, NULL, port2, "reuse=off");
    assert_int_equal(mtls_announce(w.client, NAME, w.port1), 1);
    assert_int_equal(await_failed(NAME, w.port1), MTLS_ERR_PATH_REFUSED);
    close(reserved);
    snprintf(words, sizeof(words), "policy=require listen=127.0.1.1:%u", port2);
    assert_int_equal(mtls_ssl_ctx_hook(w.server, words), 1);
    world_connect(&w);
    assert_int_equal(w.outcome, MTLS_OUTCOME_VERIFIED);
    world_close(&w);
}

/* A server that answers one HELLO, if it does, with READY{busy}; whoever asks again is not heard.
 */
static void answer_busy(int listener, bool answers)
{
    uint8_t in[MTLS_PREFACE_LEN + MTLS_HELLO_LEN], out[MTLS_PREFACE_LEN + MTLS_READY_LEN];
    uint8_t *hello = in + MTLS_PREFACE_LEN, hash[32];
    int fd = accept(listener, NULL, NULL);

    assert_int_equal(recv(fd, in, sizeof(in), MSG_WAITALL), sizeof(in));
    EVP_Digest(hello, MTLS_HELLO_LEN, hash, NULL, EVP_sha256(), NULL);
    memcpy(out, mtls_preface, MTLS_PREFACE_LEN);
    mtls_frame_ready(out + MTLS_PREFACE_LEN,
                     (uint32_t)hello[4] << 24 | (uint32_t)hello[5] << 16 | (uint32_t)hello[6] << 8 |
                         hello[7],
                     MTLS_READY_BUSY, hash, hash);
    if (answers)
        assert_int_equal(send(fd, out, sizeof(out), MSG_NOSIGNAL), sizeof(out));
    close(fd);
}

/* An announcement that got READY and ended is begun anew, and READY is not forgotten. [DWN-1] */
static void busy_is_remembered(void **state)
{
    for (int answers = 0; answers < 2; answers++) {
        struct world w;
        uint16_t port2;
        int listener = pair_listen("127.0.1.1", &port2);

        world_open_as(&w, "prefer", NULL, port2, "reuse=off");
        assert_int_equal(mtls_announce(w.client, NAME, w.port1), 1);
        answer_busy(listener, answers == 1);
        await_failed(NAME, w.port1);
        world_connect(&w); /* its own HELLO is not answered */
        assert_int_equal(w.outcome, answers ? MTLS_OUTCOME_FAILED : MTLS_OUTCOME_PLAIN);
        if (answers)
            assert_int_equal(w.reason, MTLS_ERR_DOWNGRADE);
        close(listener);
        world_close(&w);
    }
}

static void told_what_is_wrong(void **state)
{
    struct world w;

    world_open(&w, "policy=require listen=127.0.1.1:0", 0, "path2=dev=nodev0,remote=127.0.1.1");
    assert_int_equal(mtls_announce(w.client, NAME, 0), 0);
    assert_int_equal(mtls_last_error(), MTLS_ERR_ARG);
    ERR_clear_error();
    assert_int_equal(mtls_announce(w.client, NAME, w.port1), 0); /* one of the two paths */
    assert_int_equal(mtls_last_error(), MTLS_ERR_PATH_BIND);
    ERR_clear_error();
    wait_waiting(1);
    drop(take(NAME, w.port1));
    wait_waiting(0);
    world_close(&w);
}

static void late_mode_announces_nothing(void **state)
{
    struct world w;

    world_open(&w, "policy=require listen=127.0.1.1:0", 0, "early=off");
    assert_int_equal(mtls_announce(w.client, NAME, w.port1), 1);
    assert_null(take(NAME, w.port1));
    world_close(&w);
}

static unsigned held(uint16_t port1)
{
    struct mtls_announced *all[MTLS_ANNOUNCED_MAX + 8];
    unsigned n = 0, i;

    while (n < MTLS_ANNOUNCED_MAX + 8 && (all[n] = take(NAME, port1)) != NULL)
        n++;
    for (i = 0; i < n; i++)
        drop(all[i]);
    return n;
}

static void bounded_and_passing(void **state)
{
    struct mtls_addr unknown = {.family = 0};
    struct mtls_config config;
    struct world w;
    char words[160];
    int i;

    world_open(&w, "policy=require listen=127.0.1.1:0", 0, "");
    for (i = 0; i < MTLS_ANNOUNCED_MAX + 5; i++)
        assert_int_equal(mtls_announce(w.client, NAME, w.port1), 1);
    assert_int_equal(held(w.port1), MTLS_ANNOUNCED_MAX);
    wait_waiting(0);
    mtls_config_init(&config);
    pair_words(words, sizeof(words), "require", pair_port2(w.server), "");
    assert_int_equal(mtls_config_apply(&config, words, NULL, 0), 0);
    mtls_engine_lock(); /* as if it had been made long ago */
    assert_int_equal(mtls_announced_add(&config, NAME, w.port1, &unknown,
                                        mtls_now() - MTLS_ANNOUNCED_MS * 1000u + 100000),
                     0);
    mtls_engine_unlock();
    wait_waiting(1);
    wait_waiting(0);
    assert_null(take(NAME, w.port1));
    world_close(&w);
}

static void a_child_has_none(void **state)
{
    struct world w;
    int status = -1;
    pid_t pid;

    world_open(&w, "policy=require listen=127.0.1.1:0", 0, "");
    assert_int_equal(mtls_announce(w.client, NAME, w.port1), 1);
    wait_waiting(1);
    pid = fork();
    if (pid == 0)
        _exit(take(NAME, w.port1) == NULL ? 0 : 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(held(w.port1), 1);
    wait_waiting(0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_goes_ahead),
        cmocka_unit_test(each_serves_one),
        cmocka_unit_test(another_name_or_port),
        cmocka_unit_test(a_failure_is_not_adopted),
        cmocka_unit_test(busy_is_remembered),
        cmocka_unit_test(told_what_is_wrong),
        cmocka_unit_test(late_mode_announces_nothing),
        cmocka_unit_test(bounded_and_passing),
        cmocka_unit_test(a_child_has_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
