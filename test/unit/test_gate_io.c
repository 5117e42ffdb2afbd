/* The gate under every style of I/O, on either side, with path 2 held for a while: the session is
 * verified, nobody spins, and a wrong proof fails in each style too. */
#include <signal.h>

#include "gate_lab.h"

static const char *const style_names[STYLES] = {
    "blocking", "poll",  "level",  "edge",      "memory",  "memory+fd", "async", "select",
    "oneshot",  "uring", "custom", "custom+fd", "pair+fd", "pipes",     "local"};

enum { CALLS_MAX = 25, LATE_MS = 500, STALL_MS = 100 };

/* Whether an event loop in this style is never kept in a call while path 2 is late. */
static bool never_stalls(const struct end *e)
{
    return e->style != BLOCKING && e->style != CUSTOM && e->style != PIPES && e->style != LOCAL;
}

static void check_waited(const struct end *e)
{
    print_message("  %s %s: %u calls, %u us, %u ms, longest call %u ms\n",
                  e->server ? "server" : "client", style_names[e->style], e->calls,
                  (unsigned)e->cpu_us, (unsigned)e->ms, (unsigned)e->longest_ms);
    assert_true(e->calls <= CALLS_MAX);
    assert_true(e->cpu_us < CPU_MAX_US);
    if (never_stalls(e))
        assert_true(e->longest_ms < STALL_MS);
}

/* One end in the given style, the other blocking; path 2 is held, then released. */
static void held_begin(struct lab *l, enum style client, enum style server, bool both)
{
    lab_make(l, SERVER_WORDS, "require", "");
    l->c.style = client;
    l->s.style = server;
    relay_hold(&l->p2, both, true);
    lab_start(l);
    relay_wait(&l->p1, S2C, 23, 4); /* the server's flight: it is gated now, and so is the client */
    relay_release_after(&l->p2, LATE_MS);
}

static void held_end(struct lab *l)
{
    lab_join(l);
    assert_verified(&l->c);
    assert_verified(&l->s);
    assert_true(l->c.ms >= LATE_MS - 50);
    check_waited(&l->c);
    check_waited(&l->s);
    lab_free(l);
}

/* Nothing comes over path 2 for a while, or all but the server's answers. */
static void held(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++) {
        struct lab server, client, nothing;
        bool tells = tells_fd((enum style)style);

        held_begin(&server, BLOCKING, (enum style)style, true);
        if (tells) {
            held_begin(&client, (enum style)style, BLOCKING, false);
            held_begin(&nothing, (enum style)style, (enum style)style, true);
            held_end(&client);
            held_end(&nothing);
        }
        held_end(&server);
    }
}

static void not_held_once(enum style client, enum style server)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS, "require", "");
    l.c.style = client;
    l.s.style = server;
    lab_run(&l);
    assert_verified(&l.s);
    assert_verified(&l.c);
    lab_free(&l);
}

/* Nothing to wait for: many times over, since this is where a lost wake-up would show. */
static void not_held(void **state)
{
    int style, i;

    for (i = 0; i < 10; i++) {
        for (style = 0; style < STYLES; style++)
            not_held_once(tells_fd((enum style)style) ? (enum style)style : EDGE,
                          (enum style)style);
    }
}

static void wrong_proof_once(enum style client)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=600", "require", "");
    l.c.style = client;
    relay_flip(&l.p2, 3, 1, 20);
    relay_hold(&l.p2, false, true);
    lab_start(&l);
    relay_wait(&l.p1, S2C, 23, 4);
    relay_release_after(&l.p2, 50);
    lab_join(&l);
    assert_failed(&l.c, MTLS_ERR_PROOF_WRONG);
    assert_int_equal(l.c.queue, MTLS_ERR_PROOF_WRONG);
    assert_true(l.c.ms < 5000);
    assert_int_equal(l.s.outcome, MTLS_OUTCOME_FAILED);
    lab_free(&l);
}

/* PROOF never comes, or nothing at all: each end's own deadline ends it. */
static void missing_once(enum style style, bool nothing)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=300", "require", "deadline=300");
    l.c.style = l.s.style = style;
    if (nothing)
        relay_hold(&l.p2, true, true);
    else
        relay_set(&l.p2, &l.p2.drop_type, 3);
    lab_run(&l);
    if (nothing && l.c.reason == MTLS_ERR_DEADLINE) /* it is as late for path 1 */
        assert_failed(&l.c, MTLS_ERR_DEADLINE);
    else
        assert_failed(&l.c, nothing ? MTLS_ERR_PATH_TIMEOUT : MTLS_ERR_PROOF_MISSING);
    assert_int_equal(l.c.queue, l.c.reason);
    assert_true(l.c.ms >= 280 && l.c.ms < 5000);
    assert_true(l.c.cpu_us < CPU_MAX_US && l.c.calls <= CALLS_MAX);
    if (never_stalls(&l.c))
        assert_true(l.c.longest_ms < STALL_MS);
    assert_int_not_equal(l.s.outcome, MTLS_OUTCOME_VERIFIED);
    assert_int_equal(l.s.got, 0);
    /* The client has closed by now, perhaps some time before the server's deadline. */
    assert_true(l.s.cpu_us < 3 * CPU_MAX_US && l.s.calls < 600);
    lab_free(&l);
}

static void missing(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++) {
        if (!tells_fd((enum style)style))
            continue;
        print_message("  %s\n", style_names[style]);
        missing_once((enum style)style, false);
        missing_once((enum style)style, true);
    }
}

static void wrong_confirm_once(enum style server)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=400", "require", "");
    l.s.style = server;
    relay_flip(&l.p2, 4, 1, 20);
    lab_run(&l);
    assert_failed(&l.s, MTLS_ERR_CONFIRM_MISSING);
    assert_int_equal(l.s.queue, MTLS_ERR_CONFIRM_MISSING);
    assert_true(l.s.ms >= 350 && l.s.ms < 5000);
    assert_true(l.s.cpu_us < CPU_MAX_US);
    assert_true(l.s.calls <= CALLS_MAX);
    assert_int_equal(l.c.outcome,
                     MTLS_OUTCOME_VERIFIED); /* it cannot know; no byte of an answer came */
    assert_int_equal(l.c.got, 0);
    lab_free(&l);
}

static void wrong(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++) {
        print_message("  %s\n", style_names[style]);
        if (tells_fd((enum style)style))
            wrong_proof_once((enum style)style);
        wrong_confirm_once((enum style)style);
    }
}

/* A client whose BIOs are memory and that never said its descriptor cannot judge its paths. */
static void memory_client_without_fd(void **state)
{
    struct lab l;

    lab_make(&l, "policy=prefer", "require", "");
    l.c.style = MEMORY;
    lab_run(&l);
    assert_failed(&l.c, MTLS_ERR_PATH_UNKNOWN);
    lab_free(&l);

    lab_make(&l, "policy=prefer", "prefer", "");
    l.c.style = MEMORY;
    lab_run(&l);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(l.c.reason, MTLS_ERR_PATH_UNKNOWN);
    assert_int_equal(l.c.got, 5);
    lab_free(&l);
}

/* SSL_CTX_set_read_ahead: libssl asks for more than a record. */
static void read_ahead(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++) {
        struct lab l;

        if (!tells_fd((enum style)style))
            continue;
        lab_make(&l, SERVER_WORDS, "require", "");
        SSL_CTX_set_read_ahead(l.server, 1);
        SSL_CTX_set_read_ahead(l.client, 1);
        l.c.style = l.s.style = (enum style)style;
        relay_hold(&l.p2, false, true);
        lab_start(&l);
        relay_wait(&l.p1, S2C, 23, 4);
        relay_release_after(&l.p2, 60);
        lab_join(&l);
        assert_verified(&l.c);
        assert_verified(&l.s);
        assert_true(l.c.calls <= CALLS_MAX);
        lab_free(&l);
    }
}

struct mute {
    int listener;
    size_t says; /* so much of a ServerHello's record */
    bool split;  /* and that in two pieces */
};

static void *mute_main(void *arg)
{
    uint8_t record[5 + 0x7a] = {22, 3, 3, 0, 0x7a, 2, 0, 0, 0x76, 3, 3}, hello[2048];
    struct mute *m = arg;
    int fd = accept4(m->listener, NULL, NULL, SOCK_CLOEXEC);
    size_t first = m->split ? m->says / 2 : m->says;
    struct timeval limit = {.tv_sec = 5};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    (void)!recv(fd, hello, sizeof(hello), 0);
    (void)!send(fd, record, first, MSG_NOSIGNAL);
    if (m->split && recv(fd, hello, 1, MSG_PEEK | MSG_DONTWAIT) < 0)
        (void)!send(fd, record + first, m->says - first, MSG_NOSIGNAL);
    while (recv(fd, hello, sizeof(hello), 0) > 0)
        continue;
    close(fd);
    return NULL;
}

/* [TIM] A server that falls silent in the middle of a record, wherever that is: one deadline, for a
 * blocking socket too. */
static void falls_silent(void **state)
{
    static const size_t says[] = {0, 1, 4, 5, 6, 60, 5 + 0x7a - 1};
    struct lab l;

    lab_make(&l, SERVER_WORDS, "require", "deadline=300");
    for (size_t i = 0; i < 2 * sizeof(says) / sizeof(says[0]); i++) {
        struct mute m = {.says = says[i / 2], .split = i % 2 == 1};
        pthread_t thread;
        uint16_t port;
        uint64_t began;
        SSL *ssl;
        int fd;

        m.listener = pair_listen("127.0.0.1", &port);
        assert_int_equal(pthread_create(&thread, NULL, mute_main, &m), 0);
        fd = pair_connect("127.0.0.1", port);
        ssl = SSL_new(l.client);
        assert_int_equal(SSL_set_fd(ssl, fd), 1);
        assert_int_equal(SSL_set_tlsext_host_name(ssl, "server.example"), 1);
        began = lab_ms();
        assert_int_not_equal(SSL_connect(ssl), 1);
        assert_in_range(lab_ms() - began, 290, 3000);
        assert_int_equal(mtls_get_reason(ssl), MTLS_ERR_DEADLINE);
        ERR_clear_error();
        SSL_free(ssl);
        close(fd);
        pthread_join(thread, NULL);
        close(m.listener);
    }
    lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_held),
        cmocka_unit_test(held),
        cmocka_unit_test(wrong),
        cmocka_unit_test(missing),
        cmocka_unit_test(memory_client_without_fd),
        cmocka_unit_test(read_ahead),
        cmocka_unit_test(falls_silent),
    };

    int rc;

    signal(SIGPIPE, SIG_IGN); /* the end that says goodbye last may find the pipe closed */
    rc = cmocka_run_group_tests(tests, NULL, NULL);

    SSL_CTX_free(lab_keeper);
    return rc;
}
