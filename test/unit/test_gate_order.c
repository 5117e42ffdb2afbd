/* The server's gate and the order of arrival: what path 1 brings before path 2, in every style of
 * I/O; nothing is done to a socket to which nothing has come; and at the deadline to none but path
 * 1's. */
#include <signal.h>

#include "gate_lab.h"

enum { CALLS_MAX = 25, LATE_MS = 200, STALL_MS = 100, HELLO = 1 };

static int server_fd; /* atomic */

static void note_fd(struct end *e)
{
    __atomic_store_n(&server_fd, e->fd, __ATOMIC_SEQ_CST);
}

static int lowat(void)
{
    int value = 0;
    socklen_t len = sizeof(value);

    assert_int_equal(getsockopt(__atomic_load_n(&server_fd, __ATOMIC_SEQ_CST), SOL_SOCKET,
                                SO_RCVLOWAT, &value, &len),
                     0);
    return value;
}

/* libssl reads from path 1's own, non-blocking socket: data is held there when it comes, and not
 * before. */
static bool holds_late(enum style style)
{
    return style == POLLED || style == LEVEL || style == EDGE || style == SELECTED ||
           style == ONESHOT || style == URING;
}

static void wait_for_hold(void)
{
    uint64_t until = lab_ms() + LAB_LIMIT_MS;

    while (lowat() == 1 && lab_ms() < until)
        sched_yield();
    assert_true(lowat() > 1);
}

/* The client's Finished is there, and CONFIRM still under way. */
static void finished_first_once(enum style style)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS, "require", "");
    l.s.style = style;
    l.s.ready = note_fd;
    relay_hold(&l.p2, false, true);
    lab_start(&l);
    relay_wait(&l.p1, S2C, 23, 4);
    relay_wait(&l.p2, C2S, HELLO, 1);
    if (holds_late(style))
        assert_int_equal(lowat(), 1);
    relay_hold(&l.p2, true, false); /* PROOF passes, CONFIRM does not */
    relay_wait(&l.p1, C2S, 23, 1);
    if (holds_late(style))
        wait_for_hold();
    relay_release_after(&l.p2, LATE_MS);
    lab_join(&l);
    assert_verified(&l.c);
    assert_verified(&l.s);
    print_message("  %d: %u calls, %u us, longest %u ms\n", style, l.s.calls, (unsigned)l.s.cpu_us,
                  (unsigned)l.s.longest_ms);
    assert_true(l.s.ms >= LATE_MS - 50);
    assert_true(l.s.calls <= CALLS_MAX && l.s.cpu_us < CPU_MAX_US);
    if (holds_late(style))
        assert_true(l.s.longest_ms < STALL_MS);
    lab_free(&l);
}

static void finished_first(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++)
        finished_first_once((enum style)style);
}

/* CONFIRM is there, and Finished still under way. */
static void confirm_first_once(enum style style)
{
    struct lab l;

    lab_make(&l, SERVER_WORDS, "require", "");
    l.s.style = style;
    l.s.ready = note_fd;
    relay_hold(&l.p2, false, true);
    lab_start(&l);
    relay_wait(&l.p1, S2C, 23, 4);
    relay_hold(&l.p1, true, false);
    relay_hold(&l.p2, false, false);
    relay_wait(&l.p2, C2S, 4 /* CONFIRM */, 1);
    if (holds_late(style))
        assert_int_equal(lowat(), 1);
    relay_release_after(&l.p1, LATE_MS);
    lab_join(&l);
    assert_verified(&l.c);
    assert_verified(&l.s);
    assert_true(l.s.calls <= CALLS_MAX && l.s.cpu_us < CPU_MAX_US);
    lab_free(&l);
}

static void confirm_first(void **state)
{
    int style;

    for (style = 0; style < STYLES; style++)
        confirm_first_once((enum style)style);
}

/* The application has closed path 1's socket, and its number is another's when the deadline comes:
 * that one is left alone. */
static void number_reused(void **state)
{
    int other[2];
    struct lab l;
    char c;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
    lab_make(&l, SERVER_WORDS "deadline=300", "require", "deadline=900");
    l.s.style = POLLED;
    l.s.ready = note_fd;
    l.s.keep = true;
    relay_hold(&l.p2, true, true);
    lab_start(&l);
    relay_wait(&l.p1, S2C, 23, 4);
    assert_true(dup2(other[0], __atomic_load_n(&server_fd, __ATOMIC_SEQ_CST)) >= 0);
    assert_int_equal(send(other[1], "x", 1, MSG_NOSIGNAL), 1); /* wakes who looks by the number */
    end_join(&l.c); /* its deadline comes after the server's; then path 1 ends */
    assert_true(l.c.rc <= 0 && l.c.ms >= 600);
    end_join(&l.s);
    assert_int_equal(l.s.outcome, MTLS_OUTCOME_FAILED);
    end_close(&l.s);
    assert_int_equal(recv(other[0], &c, 1, MSG_DONTWAIT), 1);
    assert_int_equal(recv(other[0], &c, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
    close(other[0]);
    close(other[1]);
    lab_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finished_first),
        cmocka_unit_test(confirm_first),
        cmocka_unit_test(number_reused),
    };
    int rc;

    signal(SIGPIPE, SIG_IGN);
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    SSL_CTX_free(lab_keeper);
    return rc;
}
