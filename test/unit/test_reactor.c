/* The reactor when the program takes its descriptors away: it neither spins nor closes what is not
 * its own, and there is a new one. And when the program forks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mtls/net/closing.h"
#include "mtls/net/path2_service.h"
#include "mtls/net/reactor.h"

static int rings, events;

static void ring(void *arg, mtls_tstamp now)
{
    rings++;
    pthread_cond_signal(arg);
}

static void event(void *arg, uint32_t epoll_events, mtls_tstamp now)
{
    events++;
}

/* A timer rings on r's thread. */
static void assert_runs(struct mtls_reactor *r)
{
    struct mtls_timer *t = NULL;
    pthread_cond_t cond;
    mtls_tstamp until = mtls_now() + 10000000;
    int before = rings;

    assert_int_equal(mtls_cond_init(&cond), 0);
    assert_int_equal(mtls_timer_new(&t, r, ring, &cond), 0);
    mtls_timer_set(t, mtls_now() + 1000);
    while (rings == before && mtls_now() < until)
        mtls_reactor_wait(r, &cond, until);
    assert_int_equal(rings, before + 1);
    mtls_timer_free(t);
    pthread_cond_destroy(&cond);
}

/* As a program does that becomes a daemon, all but its standard streams. */
static void close_everything(void)
{
    assert_int_equal(syscall(SYS_close_range, 3, ~0u, 0), 0);
}

static void test_closed_descriptors(void **state)
{
    struct mtls_reactor *r, *again;
    struct mtls_watch *w = NULL;
    int pair[2], next[2];

    mtls_engine_lock();
    r = mtls_reactor_get();
    assert_int_equal(mtls_reactor_start(r, false), 0);
    assert_ptr_equal(mtls_reactor_get(), r);
    assert_runs(r);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(mtls_watch_new(&w, r, pair[0], EPOLLIN, event, NULL), 0);
    assert_false(mtls_watch_lost(w) || mtls_watch_lost(NULL));
    close_everything();
    again = mtls_reactor_get();
    assert_non_null(again);
    assert_ptr_not_equal(again, r);
    assert_true(mtls_watch_lost(w));
    assert_int_equal(mtls_reactor_start(again, false), 0);
    assert_runs(again);
    /* The old watch touches nothing, though its number is in use again. */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, next), 0);
    assert_int_equal(next[0], pair[0]);
    assert_int_not_equal(mtls_watch_set(w, EPOLLIN | EPOLLOUT), 0);
    mtls_watch_free(w);
    assert_int_equal(mtls_watch_new(&w, again, next[0], EPOLLIN, event, NULL), 0);
    assert_int_equal(send(next[1], "x", 1, 0), 1);
    mtls_engine_unlock();
    for (int i = 0; i < 1000; i++) {
        mtls_engine_lock();
        if (events > 0)
            break;
        mtls_engine_unlock();
        (void)!poll(NULL, 0, 10);
    }
    assert_true(events > 0);
    mtls_watch_free(w);
    mtls_engine_unlock();
    close(next[0]);
    close(next[1]);
}

/* Whoever drives the reactor itself learns that its descriptor is gone, and gets another. */
static void test_descriptors_are_high(void **state)
{
    int fd = mtls_reactor_fd_lock();

    assert_true(fd >= 100);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(mtls_reactor_dispatch_lock(), 0);
    assert_int_equal(syscall(SYS_close, fd), 0); /* not seen by checkers of data races */
    assert_int_equal(mtls_reactor_dispatch_lock(), 0);
    assert_true(fcntl(mtls_reactor_fd_lock(), F_GETFD) & FD_CLOEXEC);
}

/* Listeners that were closed too are forgotten: hooked anew, there are new ones. */
static void test_listeners(void **state)
{
    struct mtls_addr bound, again;
    struct mtls_config config;
    char line[96], text[64];

    mtls_config_init(&config);
    assert_int_equal(mtls_config_apply(&config, "listen=127.0.0.1:0", NULL, 0), 0);
    mtls_engine_lock();
    assert_int_equal(mtls_service_open(&config, &bound), 0);
    mtls_addr_format(&bound, text, sizeof(text));
    (void)snprintf(line, sizeof(line), "listen=%s", text);
    mtls_config_init(&config);
    assert_int_equal(mtls_config_apply(&config, line, NULL, 0), 0);
    close_everything();
    assert_int_equal(mtls_service_resume(), 0);
    assert_int_equal(mtls_service_open(&config, &again), 0);
    assert_int_equal(again.port, bound.port);
    mtls_engine_unlock();
}

#ifndef __SANITIZE_THREAD__ /* it allows no thread in the child of a process with threads */
static int start_now(void)
{
    int err;

    mtls_engine_lock();
    err = mtls_reactor_start(mtls_reactor_get(), false);
    mtls_engine_unlock();
    return err;
}

/* A process that starts its reactor and forks, as servers do: the child's own starts as well. Under
 * a sanitizer, whose locks no fork handler opens, one in 500 did not when start did not wait for
 * the thread. */
static void fork_behind_start(void **state)
{
    for (unsigned i = 0; i < 200; i++) {
        int status = -1;
        pid_t pid = fork(), child;

        if (pid == 0) {
            if (start_now() != 0 || (child = fork()) < 0)
                _exit(1);
            if (child == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                _exit(start_now() != 0);
            }
            alarm(30); /* ends both */
            if (waitpid(child, &status, 0) != child)
                _exit(2);
            _exit(status != 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}
#endif

/* ---- descriptors closed behind the lock ---- */

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void closed_behind_the_lock(void **state)
{
    int fd = dup(STDERR_FILENO), many[100], i, open_now = 0;

    mtls_engine_lock();
    mtls_closing_add(fd); /* no reactor's thread: at once */
    assert_false(is_open(fd));
    fd = dup(STDERR_FILENO);
    mtls_closing_begin();
    mtls_closing_add(fd);
    assert_true(is_open(fd));
    mtls_closing_unlock();
    assert_false(is_open(fd));

    for (i = 0; i < 100; i++)
        many[i] = dup(STDERR_FILENO);
    mtls_engine_lock(); /* it was given up: or this would hang */
    mtls_closing_begin();
    for (i = 0; i < 100; i++)
        mtls_closing_add(many[i]);
    for (i = 0; i < 100; i++)
        open_now += is_open(many[i]);
    assert_in_range(open_now, 1, 99); /* what there is no room for is not kept */
    mtls_closing_unlock();
    for (i = 0; i < 100; i++)
        assert_false(is_open(many[i]));
}

#ifndef __SANITIZE_THREAD__
static void *closes(void *arg)
{
    int *fd = arg;

    while (__atomic_load_n(&fd[0], __ATOMIC_SEQ_CST) == 0) {
        mtls_engine_lock();
        mtls_closing_begin();
        for (int i = 1; i < 40; i++)
            mtls_closing_add(fd[i] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 500));
        mtls_closing_unlock();
    }
    return NULL;
}

/* A child inherits nothing that its parent was about to close. */
static void closing_and_fork(void **state)
{
    int fds[40] = {0}, round, i, status, wrong = 0;
    pthread_t thread;
    pid_t child;

    mtls_engine_lock();
    assert_non_null(mtls_reactor_get()); /* its fork handlers */
    mtls_engine_unlock();
    assert_int_equal(pthread_create(&thread, NULL, closes, fds), 0);
    for (round = 0; round < 200; round++) {
        child = fork();
        if (child == 0) {
            for (i = 500; i < 600; i++)
                if (is_open(i))
                    _exit(1);
            mtls_engine_lock();
            mtls_closing_begin();
            mtls_closing_add(dup(STDERR_FILENO));
            mtls_closing_unlock(); /* nobody holds these locks here */
            _exit(0);
        }
        wrong += child < 0 || waitpid(child, &status, 0) != child || status != 0;
    }
    __atomic_store_n(&fds[0], 1, __ATOMIC_SEQ_CST);
    pthread_join(thread, NULL);
    assert_int_equal(wrong, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_closed_descriptors), cmocka_unit_test(test_descriptors_are_high),
        cmocka_unit_test(test_listeners),          cmocka_unit_test(closed_behind_the_lock),
#ifndef __SANITIZE_THREAD__
        cmocka_unit_test(fork_behind_start),       cmocka_unit_test(closed_behind_the_lock),
        cmocka_unit_test(closing_and_fork),
#endif
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
