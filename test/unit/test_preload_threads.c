/* The preload library's shared state, in one program with it: threads that send whole, broken and
 * expected hellos, that close, hold and fork meanwhile. For the race checker, and for what must
 * hold all the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtls/ossl/interpose.h"
#include "preload/preload.h"

enum { THREADS = 4, ROUNDS = 100, HELLO = 5 + 4 + 60 };

static struct sockaddr_in to;
static int listener; /* nobody accepts: the kernel does */

static unsigned asked; /* how often the kernel was asked about a socket; atomic */

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
    __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED);
    return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

static void make_hello(uint8_t out[HELLO], unsigned number)
{
    static const uint8_t head[] = {22, 3, 1, 0, 64, 1, 0, 0, 60, 3, 3};

    memset(out, 0, HELLO);
    memcpy(out, head, sizeof(head));
    memcpy(out + sizeof(head), &number, sizeof(number));
}

static int dial(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
        return -1;
    return fd;
}

/* 0, or the errno of the first part that is refused. */
static int send_parts(int fd, const uint8_t *data, size_t len, size_t step)
{
    size_t at, part;

    for (at = 0; at < len; at += part) {
        part = len - at < step ? len - at : step;
        if (write(fd, data + at, part) != (ssize_t)part)
            return errno;
    }
    return 0;
}

static void *sends(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg, i;
    uintptr_t wrong = 0;
    uint8_t hello[HELLO];
    int fd;

    for (i = 0; i < ROUNDS; i++) {
        bool expected = i % 2 == 0;

        make_hello(hello, me << 16 | i);
        if (expected)
            preload_hello_expect(hello + 11, NULL);
        fd = dial();
        (void)preload_hold(fd, MTLS_INTERPOSE_ALL);
        wrong += send_parts(fd, hello, sizeof(hello), 1 + i % 20) != (expected ? 0 : ECONNABORTED);
        close(fd);
    }
    return (void *)wrong;
}

static void *forks(void *arg)
{
    uintptr_t wrong = 0;
    uint8_t hello[HELLO];
    int i, status;
    pid_t pid;

    for (i = 0; i < 10; i++) {
        pid = fork();
        if (pid == 0) {
            int fd = dial();

            make_hello(hello, 0xffff0000u + (unsigned)i);
            _exit(send_parts(fd, hello, sizeof(hello), 7) == ECONNABORTED ? 0 : 1);
        }
        wrong += waitpid(pid, &status, 0) != pid || status != 0;
    }
    return (void *)wrong;
}

static void test_threads(void **state)
{
    pthread_t t[THREADS], forker;
    void *wrong;
    uintptr_t i;

    for (i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, sends, (void *)i), 0);
    assert_int_equal(pthread_create(&forker, NULL, forks, NULL), 0);
    for (i = 0; i < THREADS; i++) {
        pthread_join(t[i], &wrong);
        assert_null(wrong);
    }
    pthread_join(forker, &wrong);
    assert_null(wrong);
    assert_int_equal(__atomic_load_n(&preload_holds, __ATOMIC_ACQUIRE), 0);
}

/* A thread that has no counterpart in the child is in the middle of a look there. */
static bool stop;

static void *chatters(void *arg)
{
    int fd = *(int *)arg;

    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        (void)!send(fd, "\x15\x03", 2, MSG_DONTWAIT);
        (void)!send(fd, "x", 1, MSG_DONTWAIT);
    }
    return NULL;
}

static void test_fork_beside_a_sender(void **state)
{
    uint8_t hello[HELLO];
    int i, status, fd = dial();
    pthread_t t;
    pid_t pid;

    __atomic_store_n(&stop, false, __ATOMIC_RELAXED);
    assert_int_equal(pthread_create(&t, NULL, chatters, &fd), 0);
    for (i = 0; i < 100; i++) {
        make_hello(hello, 0xfffe0000u + (unsigned)i);
        pid = fork();
        if (pid == 0) {
            int own = dup2(dial(), fd); /* the same number: what was kept by it is another's */

            if (i % 2 == 0)
                preload_hello_expect(hello + 11, NULL);
            _exit(send_parts(own, hello, sizeof(hello), sizeof(hello)) ==
                          (i % 2 == 0 ? 0 : ECONNABORTED)
                      ? 0
                      : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    pthread_join(t, NULL);
    close(fd);
}

/* After a failure: the address, whichever socket; and what was decided goes on. */
static void *says(void *arg)
{
    static const char get[] = "GET / HTTP/1.0\r\n\r\n";
    uintptr_t wrong = 0;
    int i, plain, decided;

    for (i = 0; i < ROUNDS; i++) {
        plain = dial();
        decided = dial();
        preload_guard_decided(decided);
        preload_guard_failed(arg, -1);
        wrong += send_parts(plain, (const uint8_t *)get, sizeof(get) - 1, 100) != ECONNABORTED;
        wrong += send_parts(decided, (const uint8_t *)get, sizeof(get) - 1, 100) != 0;
        close(plain);
        close(decided);
    }
    return (void *)wrong;
}

static void test_failed_address(void **state)
{
    pthread_t t[THREADS];
    char text[64];
    void *wrong;
    int i;

    snprintf(text, sizeof(text), "127.0.0.1:%u", ntohs(to.sin_port));
    for (i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, says, text), 0);
    for (i = 0; i < THREADS; i++) {
        pthread_join(t[i], &wrong);
        assert_null(wrong);
    }
}

/* More failed addresses than there is room for: then every address counts. */
static void test_full_table(void **state)
{
    struct sockaddr_in elsewhere = {.sin_family = AF_INET, .sin_port = 1, .sin_addr.s_addr = 1};
    char text[64];
    int i, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_false(preload_guard_is_on(fd, (struct sockaddr *)&elsewhere));
    for (i = 0; i < 20000; i++) {
        snprintf(text, sizeof(text), "192.0.2.%d:%d", i % 250, 1000 + i);
        preload_guard_failed(text, -1);
    }
    assert_true(preload_guard_is_on(fd, (struct sockaddr *)&elsewhere));
    close(fd);
}

/* What is sent once TLS is under way costs no system call, whatever is in it. */
static void test_application_data(void **state)
{
    static uint8_t data[16384];
    uint8_t whole[HELLO];
    int fd = dial();
    unsigned i, before;

    for (i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 ^ i >> 5);
    memcpy(data, (const uint8_t[]){23, 3, 3, 63, 251}, 5);
    assert_non_null(memchr(data, 22, sizeof(data)));
    before = __atomic_load_n(&asked, __ATOMIC_RELAXED);
    for (i = 0; i < 8; i++) /* from its middle, too: a record of which a part was sent */
        assert_true(write(fd, data + i * 100, 1500) == 1500);
    assert_int_equal(__atomic_load_n(&asked, __ATOMIC_RELAXED), before);
    make_hello(whole, UINT_MAX);
    preload_hello_expect(whole + 11, NULL);
    assert_int_equal(send_parts(fd, whole, HELLO, HELLO), 0);
    assert_int_equal(__atomic_load_n(&asked, __ATOMIC_RELAXED), before + 1);
    close(fd);
}

static void listen_anew(void)
{
    socklen_t len = sizeof(to);

    close(listener);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(bind(listener, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(listen(listener, 1000), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&to, &len), 0);
}

static int each(void **state)
{
    listen_anew();
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup(test_application_data, each),
                                       cmocka_unit_test_setup(test_threads, each),
                                       cmocka_unit_test_setup(test_fork_beside_a_sender, each),
                                       cmocka_unit_test_setup(test_failed_address, each),
                                       cmocka_unit_test_setup(test_full_table, each)};

    if (getenv("MTLS_CONFIG") == NULL) { /* read when the program starts */
        setenv("MTLS_CONFIG", "policy=require listen=127.0.0.1:0", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    listener = -1;
    alarm(100);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
