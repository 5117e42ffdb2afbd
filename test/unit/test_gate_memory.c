/* Clients whose BIOs are memory and that told their socket: the server's flight stays in the kernel
 * until path 2 has answered, so that no call blocks; what must not wait for path 2 does not. */
#include "gate_lab.h"

#include <signal.h>

enum { LATE_MS = 500, STALL_MS = 100, MANY = 24 };

static void groups(SSL_CTX *ctx, const char *list)
{
    assert_int_equal(SSL_CTX_set1_groups_list(ctx, list), 1);
}

static void assert_lively(const struct end *e)
{
    assert_true(e->longest_ms < STALL_MS);
    assert_true(e->cpu_us < CPU_MAX_US);
    assert_true(e->calls <= 10);
}

static const enum style styles[] = {MEMORY_FD, PAIR_FD};

/* A HelloRetryRequest is not kept: there is no PROOF before the second ClientHello. */
static void hello_retry(void **state)
{
    int i, late;

    for (i = 0; i < 4; i++) {
        struct lab l;

        late = i / 2;
        lab_make(&l, SERVER_WORDS, "require", "");
        groups(l.server, "P-384");
        groups(l.client, "X25519:P-384");
        l.c.style = styles[i % 2];
        relay_hold(&l.p2, false, late != 0);
        lab_start(&l);
        relay_wait(&l.p1, S2C, 23, 4);
        relay_release_after(&l.p2, late ? LATE_MS : 0);
        lab_join(&l);
        assert_verified(&l.c);
        assert_verified(&l.s);
        assert_int_equal(relay_seen(&l.p1, C2S, 22), 2);
        assert_lively(&l.c);
        assert_true(late ? l.c.ms >= LATE_MS - 50 : l.c.ms < LATE_MS);
        lab_free(&l);
    }
}

/* Nor is an alert, though the server keeps the connection open behind it. */
static void alert(void **state)
{
    int i;

    for (i = 0; i < 2; i++) {
        struct lab l;

        lab_make(&l, NULL, "require", "");
        groups(l.server, "P-521");
        groups(l.client, "X25519");
        l.c.style = styles[i];
        l.s.keep = true;
        relay_hold(&l.p2, true, true);
        lab_run(&l);
        assert_true(l.c.rc <= 0 && l.c.rc != -100);
        assert_int_equal(l.c.ssl_error, SSL_ERROR_SSL);
        assert_int_equal(l.c.outcome, MTLS_OUTCOME_NONE);
        assert_true(l.c.ms < LATE_MS);
        assert_lively(&l.c);
        end_close(&l.s);
        lab_free(&l);
    }
}

/* A server without Multipath TLS: READY is missed for the grace, a refusal is known at once. */
static void plain_server(void **state)
{
    int i;

    for (i = 0; i < 4; i++) {
        struct lab l;
        bool silent = i / 2 == 0;

        lab_make(&l, NULL, "prefer", "grace=1000");
        l.c.style = styles[i % 2];
        if (silent)
            relay_hold(&l.p2, true, true);
        else
            relay_stop(&l.p2);
        lab_run(&l);
        assert_plain(&l.c, MTLS_ERR_NOT_OFFERED);
        assert_int_equal(l.c.got, 5);
        assert_lively(&l.c);
        assert_true(silent ? l.c.ms >= 950 : l.c.ms < LATE_MS);
        if (!silent)
            relay_start(&l.p2, RELAY_PATH2, "127.0.1.1", "127.0.1.1", 9);
        lab_free(&l);
    }
}

/* Path 2 shows READY and path 1 hides the extension. */
static void downgrade(void **state)
{
    int i;

    for (i = 0; i < 2; i++) {
        struct lab l;

        lab_make(&l, NULL, "require", "");
        l.c.style = styles[i];
        lab_run(&l);
        assert_failed(&l.c, MTLS_ERR_DOWNGRADE);
        assert_lively(&l.c);
        assert_true(l.c.ms < 5000);
        lab_free(&l);
    }
}

/* ---- an event loop with many of them ---- */

static void loop_step(struct end *e, unsigned *open)
{
    if (e->calls > 0 && !mem_fill(e))
        fail_msg("nothing came");
    e->rc = end_call(e, HANDSHAKE, NULL, 0);
    e->calls++;
    if (e->rc == 1)
        (*open)--;
    else
        assert_int_equal(e->ssl_error, SSL_ERROR_WANT_READ);
}

static void loop_run(struct end *ends)
{
    struct pollfd p[MANY];
    unsigned open = MANY, i;

    for (i = 0; i < MANY; i++) {
        end_open(&ends[i]);
        loop_step(&ends[i], &open);
    }
    while (open > 0) {
        for (i = 0; i < MANY; i++)
            p[i] = (struct pollfd){.fd = ends[i].rc == 1 ? -1 : ends[i].fd, .events = POLLIN};
        assert_true(poll(p, MANY, LAB_LIMIT_MS) > 0);
        for (i = 0; i < MANY; i++) {
            if (p[i].revents != 0)
                loop_step(&ends[i], &open);
        }
    }
}

/* One thread, many handshakes, path 2 late for all: together they take no longer than one. */
static void many(void **state)
{
    static struct end clients[MANY], servers[MANY];
    struct lab l;
    uint64_t began, took, cpu;
    unsigned i;

    lab_make(&l, SERVER_WORDS, "require", "");
    relay_hold(&l.p2, false, true);
    for (i = 0; i < MANY; i++) {
        clients[i] = l.c;
        clients[i].port = l.port; /* without the relay */
        clients[i].style = styles[i % 2];
        servers[i] = l.s;
        servers[i].no_data = true;
        end_start(&servers[i]);
    }
    relay_release_after(&l.p2, LATE_MS);
    began = lab_ms();
    cpu = thread_cpu_us();
    loop_run(clients);
    took = lab_ms() - began;
    cpu = thread_cpu_us() - cpu;
    print_message("  %u handshakes: %u ms, %u us\n", MANY, (unsigned)took, (unsigned)cpu);
    assert_true(took >= LATE_MS - 50 && took < 2 * LATE_MS + 2000);
    for (i = 0; i < MANY; i++) {
        assert_int_equal(mtls_get_outcome(clients[i].ssl), MTLS_OUTCOME_VERIFIED);
        assert_true(clients[i].longest_ms < STALL_MS);
        end_join(&servers[i]);
        assert_int_equal(servers[i].outcome, MTLS_OUTCOME_VERIFIED);
        end_close(&clients[i]);
    }
    lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hello_retry), cmocka_unit_test(alert), cmocka_unit_test(plain_server),
        cmocka_unit_test(downgrade),   cmocka_unit_test(many),
    };
    int rc;

    signal(SIGPIPE, SIG_IGN);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    SSL_CTX_free(lab_keeper);
    return rc;
}
