/* Copies of descriptors: they end with their original, are not used once the program has closed
 * them, and close() may be called anywhere: under the engine lock, in a signal handler, in many
 * threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtls/net/engine.h"
#include "mtls/net/reactor.h"
#include "mtls/ossl/copy.h"

enum { DEADLINE_MS = 20000, ROUNDS = 300, THREADS = 4 };

struct end {
    struct mtls_copy copy;
    int app, peer;
    unsigned lost;
    bool of_open;
};

static void lost(struct mtls_copy *c, bool of_open)
{
    ((struct end *)(void *)c)->lost++;
    ((struct end *)(void *)c)->of_open = of_open;
}

static void make(struct end *e)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    *e = (struct end){.copy = {.fd = -1}, .app = fds[0], .peer = fds[1]};
    mtls_engine_lock();
    assert_true(mtls_copy_make(&e->copy, e->app, lost));
    mtls_engine_unlock();
}

/* What the preloaded close() does. */
static void app_closes(int fd)
{
    mtls_copies_closed(fd);
    close(fd);
}

static bool peer_sees_the_end(const struct end *e, int timeout_ms)
{
    struct pollfd p = {.fd = e->peer, .events = POLLIN};

    return poll(&p, 1, timeout_ms) == 1 && (p.revents & POLLHUP) != 0;
}

static int get(struct end *e)
{
    int fd;

    mtls_engine_lock();
    fd = mtls_copy_get(&e->copy);
    mtls_engine_unlock();
    return fd;
}

static int setup(void **state)
{
    struct mtls_crypto *crypto;

    signal(SIGPIPE, SIG_IGN);
    alarm(100); /* a deadlock is a failure */
    mtls_engine_lock();
    assert_int_equal(mtls_engine_crypto(&crypto), 0);
    assert_int_equal(mtls_reactor_start(mtls_reactor_get(), false), 0);
    mtls_engine_unlock();
    return 0;
}

static void test_ends_with_the_original(void **state)
{
    struct end e, other;

    make(&e);
    make(&other);
    app_closes(e.app);
    assert_true(peer_sees_the_end(&e, DEADLINE_MS));
    assert_int_equal(get(&e), -1);
    assert_int_equal(e.lost, 1);
    assert_false(e.of_open);
    /* The other one's stays, and keeps its socket open when nobody tells of the close. */
    assert_true(get(&other) >= 0);
    close(other.app);
    assert_false(peer_sees_the_end(&other, 0));
    assert_true(get(&other) >= 0);
    mtls_engine_lock();
    mtls_copy_close(&other.copy);
    mtls_copy_close(&other.copy);
    mtls_engine_unlock();
    assert_true(peer_sees_the_end(&other, 0));
    close(e.peer);
    close(other.peer);
}

static void test_number_used_again(void **state)
{
    struct end e, again;

    make(&e);
    mtls_engine_lock(); /* the reactor cannot look yet */
    app_closes(e.app);
    assert_int_equal(dup2(e.peer, e.app), e.app);
    again = (struct end){.copy = {.fd = -1}, .app = e.app, .peer = -1};
    assert_true(mtls_copy_make(&again.copy, again.app, lost));
    mtls_engine_unlock();
    assert_true(peer_sees_the_end(&e, DEADLINE_MS));
    assert_int_equal(get(&e), -1);
    assert_true(get(&again) >= 0);
    assert_int_equal(again.lost, 0);
    app_closes(again.app);
    assert_int_equal(get(&again), -1);
    assert_int_equal(again.lost, 1);
    close(e.peer);
}

static void test_the_program_closes_ours(void **state)
{
    struct end e;
    int number, null = open("/dev/null", O_RDWR | O_CLOEXEC);

    make(&e);
    number = e.copy.fd;
    mtls_engine_lock();
    app_closes(number); /* as closefrom() does */
    assert_int_equal(dup2(null, number), number);
    assert_int_equal(mtls_copy_get(&e.copy), -1);
    mtls_copy_close(&e.copy);
    mtls_engine_unlock();
    assert_true(fcntl(number, F_GETFD) >= 0);
    assert_int_equal(e.lost, 1);
    assert_true(e.of_open);
    close(number);
    close(null);
    close(e.app);
    close(e.peer);
}

static void test_under_the_lock(void **state)
{
    struct end e;

    make(&e);
    mtls_engine_lock();
    app_closes(e.app);
    assert_false(peer_sees_the_end(&e, 0));
    mtls_engine_unlock();
    assert_true(peer_sees_the_end(&e, DEADLINE_MS));
    assert_int_equal(get(&e), -1);
    close(e.peer);
}

static int signalled_fd;

static void on_signal(int number)
{
    app_closes(signalled_fd);
}

static void test_in_a_signal_handler(void **state)
{
    struct end e;

    make(&e);
    signalled_fd = e.app;
    signal(SIGUSR1, on_signal);
    mtls_engine_lock();
    raise(SIGUSR1);
    mtls_engine_unlock();
    assert_true(peer_sees_the_end(&e, DEADLINE_MS));
    assert_int_equal(get(&e), -1);
    close(e.peer);
}

static void test_fork(void **state)
{
    struct end e;
    int status;
    pid_t pid;

    make(&e);
    pid = fork();
    if (pid == 0) {
        alarm(20);
        app_closes(e.app);
        _exit(e.copy.fd == -1 && e.lost == 1 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(get(&e) >= 0);
    assert_int_equal(e.lost, 0);
    app_closes(e.app); /* the child's copy does not keep it open */
    assert_true(peer_sees_the_end(&e, DEADLINE_MS));
    assert_int_equal(get(&e), -1);
    close(e.peer);
}

static bool stop;

/* Each look at the descriptors sets what a poke sets. */
static void *looks(void *arg)
{
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        mtls_engine_lock();
        (void)mtls_reactor_get();
        mtls_engine_unlock();
        sched_yield();
    }
    return NULL;
}

static void *makes_and_closes(void *arg)
{
    struct end e;
    uintptr_t missing = 0;
    int i;

    for (i = 0; i < ROUNDS; i++) {
        make(&e);
        app_closes(e.app);
        if (i % 2 == 0) {
            missing += !peer_sees_the_end(&e, DEADLINE_MS);
        } else {
            mtls_engine_lock();
            mtls_copy_close(&e.copy);
            mtls_engine_unlock();
            missing += !peer_sees_the_end(&e, 0);
        }
        mtls_engine_lock(); /* e goes */
        missing += e.copy.fd != -1;
        mtls_engine_unlock();
        close(e.peer);
    }
    return (void *)missing;
}

static void test_threads(void **state)
{
    pthread_t looker, t[THREADS];
    void *missing;
    int i;

    assert_int_equal(pthread_create(&looker, NULL, looks, NULL), 0);
    for (i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, makes_and_closes, NULL), 0);
    for (i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(t[i], &missing), 0);
        assert_null(missing);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(looker, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_ends_with_the_original),
                                       cmocka_unit_test(test_number_used_again),
                                       cmocka_unit_test(test_the_program_closes_ours),
                                       cmocka_unit_test(test_under_the_lock),
                                       cmocka_unit_test(test_in_a_signal_handler),
                                       cmocka_unit_test(test_fork),
                                       cmocka_unit_test(test_threads)};

    return cmocka_run_group_tests(tests, setup, NULL);
}
