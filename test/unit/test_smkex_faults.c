/* SMKEX over sockets when memory runs out: every allocation of a connection's own thread fails
 * once, in turn. Each side then fails cleanly or is verified, and nobody waits for ever. */
#include "smkex_lab.h"

#include "alloc_sweep.h"

enum { WAIT_MS = 20000, ALLOCATIONS_MAX = 400 };

/* A side that has failed closes, as programs do. */
static void drive_closing(struct pair *p)
{
    bool closed[2] = {false, false};

    for (;;) {
        struct pollfd fds[2] = {{.fd = -1}, {.fd = -1}};

        for (int i = 0; i < 2; i++) {
            if (p->s[i] != NULL && waits(p->rc[i]))
                p->rc[i] = smkex_handshake(p->s[i]);
            if (p->rc[i] < 0 && !waits(p->rc[i]) && !closed[i]) {
                shutdown(p->fd[i], SHUT_RDWR);
                closed[i] = true;
            }
            if (waits(p->rc[i]))
                fds[i] =
                    (struct pollfd){p->fd[i], p->rc[i] == SMKEX_WANT_WRITE ? POLLOUT : POLLIN, 0};
        }
        if (fds[0].fd < 0 && fds[1].fd < 0)
            return;
        assert_true(poll(fds, 2, WAIT_MS) > 0);
    }
}

/* One connection whose n-th allocation fails. True: it did. */
static bool connection(struct smkex_ctx *client, struct smkex_ctx *server, unsigned n)
{
    struct pair p = {0};
    bool hit;

    connect_pair(p.fd);
    alloc_arm(ALLOC_OURS, n);
    p.rc[0] = smkex_client_new(&p.s[0], client, p.fd[0], "203.0.113.1");
    p.rc[1] = smkex_server_new(&p.s[1], server, p.fd[1]);
    for (int i = 0; i < 2; i++) {
        assert_true((p.rc[i] == 0) == (p.s[i] != NULL));
        p.rc[i] = p.rc[i] == 0 ? SMKEX_WANT_READ : p.rc[i];
    }
    drive_closing(&p);
    hit = alloc_disarm();
    for (int i = 0; i < 2; i++) {
        enum smkex_outcome outcome =
            p.s[i] != NULL ? smkex_get_outcome(p.s[i]) : SMKEX_OUTCOME_FAILED;

        assert_int_equal(outcome, p.rc[i] == 0 ? SMKEX_OUTCOME_VERIFIED : SMKEX_OUTCOME_FAILED);
    }
    if (!hit) {
        expect(&p, SMKEX_OUTCOME_VERIFIED);
        both_ways(&p);
    }
    pair_free(&p);
    return hit;
}

static void allocations_of_a_connection_may_fail(void **state)
{
    struct smkex_ctx *server = server_context("deadline=4000");
    struct smkex_ctx *client = client_context(server, "deadline=4000 reuse=off");
    unsigned n = 1;

    while (connection(client, server, n)) {
        assert_true(n < ALLOCATIONS_MAX);
        assert_false(connection(client, server, ALLOCATIONS_MAX)); /* and nothing stays broken */
        n++;
    }
    assert_true(n > 10);
    smkex_ctx_free(client);
    smkex_ctx_free(server);
}

static void allocations_of_a_context_may_fail(void **state)
{
    char msg[128];

    for (unsigned n = 1;; n++) {
        struct smkex_ctx *ctx = NULL;
        int rc;

        alloc_arm(ALLOC_OURS, n);
        rc = smkex_ctx_new(&ctx, "path2=dev=v1,remote=203.0.113.1:1 listen=127.0.0.1:0", msg,
                           sizeof msg);
        if (!alloc_disarm()) {
            assert_int_equal(rc, 0);
            assert_true(n > 2);
            smkex_ctx_free(ctx);
            return;
        }
        assert_true((rc == 0) == (ctx != NULL));
        assert_true(rc == 0 || strlen(msg) > 0);
        smkex_ctx_free(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocations_of_a_context_may_fail),
        cmocka_unit_test(allocations_of_a_connection_may_fail),
    };

    netns_setup();
    open_listener();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
