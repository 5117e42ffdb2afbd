/* What can go wrong on path 2, and what a peer can do to a gated session: each with the reason that
 * names it, and nothing released. */
#include "gate_lab.h"

#include <signal.h>

enum { HELLO = 1, READY = 2, PROOF = 3, CONFIRM = 4, TICKET = 4 };

static unsigned tickets; /* atomic */

static void count_tickets(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl,
                          void *arg)
{
    if (type == SSL3_RT_HANDSHAKE && len > 0 && *(const uint8_t *)buf == TICKET && !write_p)
        __atomic_add_fetch(&tickets, 1, __ATOMIC_SEQ_CST);
}

static void run(struct lab *l)
{
    __atomic_store_n(&tickets, 0, __ATOMIC_SEQ_CST);
    mtls_ssl_ctx_set_msg_callback(l->client, count_tickets, NULL);
    lab_run(l);
}

/* The positive twin of every test here: the same lab, nothing touched. */
static void untouched(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS, "require", "");
    run(&l);
    assert_verified(&l.c);
    assert_verified(&l.s);
    assert_int_equal(__atomic_load_n(&tickets, __ATOMIC_SEQ_CST), 2);
    lab_free(&l);
}

static void proof_flipped(void **state)
{
    unsigned at;

    for (at = 2; at < 34; at += 31) {
        struct lab l;

        lab_make(&l, SERVER_WORDS "deadline=600", "require", "");
        relay_flip(&l.p2, PROOF, 1, at);
        run(&l);
        assert_failed(&l.c, MTLS_ERR_PROOF_WRONG);
        assert_int_equal(l.c.queue, MTLS_ERR_PROOF_WRONG);
        assert_true(l.c.ms < 5000); /* more = 0: at once, not at the deadline of ten seconds */
        assert_int_equal(l.s.outcome, MTLS_OUTCOME_FAILED);
        assert_int_equal(l.s.got, 0);
        lab_free(&l);
    }
}

static void ready_flipped(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=600", "require", "");
    relay_flip(&l.p2, READY, 1, 40); /* the echo of HELLO */
    run(&l);
    assert_failed(&l.c, MTLS_ERR_PATH_FOREIGN);
    assert_true(l.c.ms < 5000);
    lab_free(&l);

    lab_make(&l, SERVER_WORDS "deadline=600", "require", "");
    relay_flip(&l.p2, READY, 1, 5); /* the server's nonce: the proof cannot fit */
    run(&l);
    assert_failed(&l.c, MTLS_ERR_PROOF_WRONG);
    lab_free(&l);
}

static void proof_missing(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=600", "require", "deadline=600");
    relay_set(&l.p2, &l.p2.drop_type, PROOF);
    run(&l);
    assert_failed(&l.c, MTLS_ERR_PROOF_MISSING);
    assert_true(l.c.ms >= 500 && l.c.ms < 5000);
    assert_failed(&l.s, MTLS_ERR_CONFIRM_MISSING);
    lab_free(&l);
}

static void refuse(struct lab *l)
{
    relay_stop(&l->p2);
}

static void free_refused(struct lab *l)
{
    relay_start(&l->p2, RELAY_PATH2, "127.0.1.1", "127.0.1.1", 9);
    lab_free(l);
}

static void refused(void **state)
{
    static const char *const policies[] = {"require", "prefer"};
    struct lab l;
    int i;

    for (i = 0; i < 2; i++) {
        lab_make(&l, SERVER_WORDS "deadline=600", policies[i], "");
        refuse(&l);
        run(&l);
        assert_failed(&l.c, MTLS_ERR_PATH_REFUSED);
        assert_true(l.c.ms < 5000);
        assert_int_equal(l.s.outcome, MTLS_OUTCOME_FAILED);
        free_refused(&l);
    }
    lab_make(&l, NULL, "prefer", "");
    refuse(&l);
    run(&l);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_PLAIN);
    assert_int_equal(l.c.reason, MTLS_ERR_NOT_OFFERED);
    assert_int_equal(l.c.got, 5);
    assert_true(l.c.ms < 900); /* definite: no grace */
    free_refused(&l);

    lab_make(&l, NULL, "require", "");
    refuse(&l);
    run(&l);
    assert_failed(&l.c, MTLS_ERR_NOT_OFFERED);
    free_refused(&l);
}

static void garbage(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=600", "require", "");
    relay_flag(&l.p2, &l.p2.garbage);
    run(&l);
    assert_failed(&l.c, MTLS_ERR_PATH_FOREIGN);
    lab_free(&l);

    lab_make(&l, NULL, "prefer", "");
    relay_flag(&l.p2, &l.p2.garbage);
    run(&l);
    assert_int_equal(l.c.outcome, MTLS_OUTCOME_PLAIN);
    assert_true(l.c.ms < 900);
    lab_free(&l);
}

static void closed(void **state)
{
    static const struct {
        int dir, type, reason;
    } at[] = {{C2S, HELLO, MTLS_ERR_PATH_CLOSED},
              {S2C, READY, MTLS_ERR_PATH_CLOSED},
              {S2C, PROOF, MTLS_ERR_PATH_CLOSED}};
    size_t i;

    for (i = 0; i < 3; i++) {
        struct lab l;

        lab_make(&l, SERVER_WORDS "deadline=600", "require", "reuse=off");
        relay_set(&l.p2, &l.p2.close_dir, at[i].dir);
        relay_set(&l.p2, &l.p2.close_type, at[i].type);
        run(&l);
        assert_failed(&l.c, at[i].reason);
        assert_true(l.c.ms < 5000);
        assert_int_equal(l.s.outcome, MTLS_OUTCOME_FAILED);
        lab_free(&l);
    }
}

static void never_answers(void **state)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS "deadline=600", "require", "deadline=600");
    relay_hold(&l.p2, true, true);
    run(&l);
    assert_failed(&l.c, MTLS_ERR_PATH_TIMEOUT);
    assert_failed(&l.s, MTLS_ERR_CONFIRM_MISSING);
    lab_free(&l);
}

/* The client has decided, the server never hears of it: it releases nothing. */
static void confirm_lost(void **state)
{
    int mode, style;

    for (mode = 0; mode < 2; mode++) {
        for (style = BLOCKING; style <= EDGE; style++) {
            struct lab l;

            lab_make(&l, SERVER_WORDS "deadline=400", "require", "");
            l.s.style = (enum style)style;
            if (mode == 0)
                relay_flip(&l.p2, CONFIRM, 1, 10);
            else
                relay_set(&l.p2, &l.p2.drop_type, CONFIRM);
            run(&l);
            assert_failed(&l.s, MTLS_ERR_CONFIRM_MISSING);
            assert_true(l.s.ms >= 350 && l.s.ms < 5000);
            assert_int_equal(l.c.got, 0);
            assert_int_equal(__atomic_load_n(&tickets, __ATOMIC_SEQ_CST), 0);
            lab_free(&l);
        }
    }
}

/* ---- what path 1's peer does while the server is gated ---- */

static void gated_server(struct lab *l, enum style style, unsigned deadline)
{
    char words[64];

    snprintf(words, sizeof(words), SERVER_WORDS "deadline=%u", deadline);
    lab_make(l, words, "require", "");
    l->s.style = style;
    relay_hold(&l->p2, true, true);
    lab_start(l);
    relay_wait(&l->p1, S2C, 23, 4);
}

static const enum style loops[] = {BLOCKING, POLLED, LEVEL,     EDGE,     SELECTED,
                                   ONESHOT,  URING,  CUSTOM_FD, MEMORY_FD};
enum { LOOPS = sizeof(loops) / sizeof(loops[0]) };

static void reset_while_gated(void **state)
{
    int i;

    for (i = 0; i < LOOPS; i++) {
        struct lab l;

        gated_server(&l, loops[i], 10000);
        relay_flag(&l.p1, &l.p1.do_reset);
        end_join(&l.s);
        assert_failed(&l.s, MTLS_ERR_PEER_CLOSED);
        assert_true(l.s.ms < 5000);
        assert_true(l.s.calls <= 10);
        assert_true(l.s.cpu_us < CPU_MAX_US);
        relay_hold(&l.p2, false, false);
        end_join(&l.c);
        assert_int_equal(l.c.got, 0);
        lab_free(&l);
    }
}

static void attacked(bool fin, bool upload)
{
    int i;

    for (i = 0; i < LOOPS; i++) {
        struct lab l;

        if (upload && loops[i] == MEMORY_FD) /* takes it out of the kernel: gate-flood */
            continue;
        gated_server(&l, loops[i], 500);
        if (upload)
            relay_flag(&l.p1, &l.p1.do_upload);
        if (fin)
            relay_flag(&l.p1, &l.p1.do_fin);
        end_join(&l.s);
        print_message("  style %d: %u calls, %u us\n", loops[i], l.s.calls, (unsigned)l.s.cpu_us);
        assert_failed(&l.s, MTLS_ERR_CONFIRM_MISSING);
        assert_true(l.s.ms >= 400 && l.s.ms < 5000);
        assert_true(l.s.calls < 600);
        /* The test makes a ring for each wait. */
        assert_true(l.s.cpu_us < (loops[i] == URING ? 6 : 3) * CPU_MAX_US);
        relay_hold(&l.p2, false, false);
        end_join(&l.c);
        assert_int_equal(l.c.got, 0);
        lab_free(&l);
    }
}

static void fin_while_gated(void **state)
{
    attacked(true, false);
}

static void upload_while_gated(void **state)
{
    attacked(false, true);
}

/* A client that sends ClientHello and nothing more: the server's own deadline ends it. */
static void silent_client(void **state)
{
    int i;

    for (i = 0; i < LOOPS && loops[i] != CUSTOM_FD; i++) {
        struct lab l;

        lab_make(&l, SERVER_WORDS "deadline=300", "require", "deadline=2000");
        l.s.style = loops[i];
        relay_hold(&l.p1, false, true); /* the client never sees the server's flight */
        lab_start(&l);
        end_join(&l.s);
        assert_failed(&l.s, MTLS_ERR_CONFIRM_MISSING);
        assert_true(l.s.ms >= 250 && l.s.ms < 2000);
        relay_stop(&l.p1);
        end_join(&l.c);
        assert_true(l.c.rc <= 0);
        relay_start(&l.p1, RELAY_PATH1, "127.0.0.1", "127.0.0.1", l.port);
        lab_free(&l);
    }
}

/* CONFIRM without Finished is not enough either. */
static void confirm_without_finished(void **state)
{
    int style;

    for (style = BLOCKING; style <= EDGE; style++) {
        struct lab l;

        lab_make(&l, SERVER_WORDS "deadline=500", "require", "");
        l.s.style = (enum style)style;
        relay_hold(&l.p2, false, true);
        lab_start(&l);
        relay_wait(&l.p1, S2C, 23, 4);
        relay_hold(&l.p1, true, false);
        relay_hold(&l.p2, false, false);
        relay_wait(&l.p2, C2S, CONFIRM, 1);
        end_join(&l.s);
        assert_int_equal(l.s.outcome, MTLS_OUTCOME_FAILED);
        assert_int_equal(l.s.got, 0);
        assert_true(l.s.ms >= 400 && l.s.ms < 5000);
        relay_hold(&l.p1, false, false);
        end_join(&l.c);
        assert_int_equal(l.c.got, 0);
        lab_free(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(untouched),       cmocka_unit_test(proof_flipped),
        cmocka_unit_test(ready_flipped),   cmocka_unit_test(proof_missing),
        cmocka_unit_test(refused),         cmocka_unit_test(garbage),
        cmocka_unit_test(closed),          cmocka_unit_test(never_answers),
        cmocka_unit_test(confirm_lost),    cmocka_unit_test(reset_while_gated),
        cmocka_unit_test(fin_while_gated), cmocka_unit_test(upload_while_gated),
        cmocka_unit_test(silent_client),   cmocka_unit_test(confirm_without_finished),
    };
    int rc;

    signal(SIGPIPE, SIG_IGN);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    SSL_CTX_free(lab_keeper);
    return rc;
}
