/* The listeners of path 2 under load: one source cannot take the process's descriptors, and whoever
 * speaks is answered [RDY-2]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mtls/core/wire_frame.h"
#include "mtls/net/engine.h"
#include "mtls/net/path2_service.h"
#include "mtls/net/reactor.h"
#include "mtls/net/route.h"

enum { FILES = 256, ROOM = FILES / 4, HALF = ROOM / 2, SILENT = 80 };

static struct mtls_addr server;

static int open_service(void **state)
{
    struct rlimit files = {.rlim_cur = FILES};
    struct mtls_config config;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = FILES;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    mtls_config_init(&config);
    assert_int_equal(mtls_config_apply(&config, "policy=prefer listen=127.0.0.1:0", NULL, 0), 0);
    mtls_engine_lock();
    assert_int_equal(mtls_service_open(&config, &server), 0);
    assert_int_equal(mtls_reactor_start(mtls_reactor_get(), true), 0);
    mtls_engine_unlock();
    return 0;
}

static struct mtls_p2s_stats stats(void)
{
    struct mtls_p2s_stats s;

    mtls_engine_lock();
    mtls_service_stats(&s);
    mtls_engine_unlock();
    return s;
}

static void work(void)
{
    struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};

    assert_true(p.fd >= 0);
    while (poll(&p, 1, 0) > 0)
        assert_int_equal(mtls_reactor_dispatch_lock(), 0);
}

/* From 127.0.0.x; in the server's hands when it returns, if the server could take it. */
static int client(uint8_t source)
{
    struct mtls_addr from = {.family = 4, .ip = {127, 0, 0, source}};
    struct sockaddr_storage ss;
    socklen_t len;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    mtls_addr_to_sockaddr(&from, &ss, &len);
    assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
    mtls_addr_to_sockaddr(&server, &ss, &len);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
    work();
    return fd;
}

static void hello(int fd, uint8_t number)
{
    uint8_t out[MTLS_PREFACE_LEN + MTLS_HELLO_LEN], secret[MTLS_SECRET_LEN] = {number},
                                                    nonce[MTLS_NONCE_LEN] = {number};

    memcpy(out, mtls_preface, MTLS_PREFACE_LEN);
    mtls_frame_hello(out + MTLS_PREFACE_LEN, 1, 443, 0, secret, nonce);
    assert_int_equal(send(fd, out, sizeof(out), MSG_NOSIGNAL), sizeof(out));
    work();
}

/* The status of READY, which may wait a moment [TIM-17]; -1: the connection has ended without one.
 */
static int ready(int fd)
{
    uint8_t in[MTLS_PREFACE_LEN + MTLS_READY_LEN];
    struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};
    ssize_t n;

    while ((n = recv(fd, in, sizeof(in), MSG_DONTWAIT)) < 0 && errno == EAGAIN) {
        assert_int_equal(poll(&p, 1, 5000), 1);
        work();
    }
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return -1;
    assert_int_equal(n, sizeof(in));
    assert_int_equal(in[MTLS_PREFACE_LEN], MTLS_FRAME_READY);
    return in[MTLS_PREFACE_LEN + MTLS_FRAME_HEADER_LEN];
}

static bool ended(int fd)
{
    char c;

    return recv(fd, &c, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

static void close_all(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
    work();
    assert_int_equal(stats().conns, 0);
}

/* The oldest silent ones of the source go; what speaks, of this source or another, is answered. */
static void test_silent_flood(void **state)
{
    int fds[SILENT + 2], i;

    for (i = 0; i < SILENT; i++)
        fds[i] = client(2);
    assert_int_equal(stats().conns, HALF);
    for (i = 0; i < SILENT; i++)
        assert_int_equal(ended(fds[i]), i < SILENT - HALF);
    fds[i] = client(3);
    hello(fds[i], 1);
    assert_int_equal(ready(fds[i]), MTLS_READY_OK);
    fds[++i] = client(2);
    hello(fds[i], 2);
    assert_int_equal(ready(fds[i]), MTLS_READY_OK);
    close_all(fds, SILENT + 2);
}

/* A source whose connections all wait with a claim hears that the server is busy, never a close. */
static void test_greedy_claims(void **state)
{
    int fds[HALF + 2], i;

    for (i = 0; i < HALF; i++) {
        fds[i] = client(2);
        hello(fds[i], (uint8_t)(10 + i));
        /* Waiting claims have a share of their own. */
        assert_int_equal(ready(fds[i]), MTLS_READY_OK);
    }
    fds[i] = client(2);
    hello(fds[i], 100);
    assert_int_equal(ready(fds[i]), MTLS_READY_BUSY);
    assert_int_equal(ready(fds[i]), -1);
    fds[++i] = client(3);
    hello(fds[i], 101);
    assert_int_equal(ready(fds[i]), MTLS_READY_OK);
    close_all(fds, HALF + 2);
}

/* The program itself has used up the descriptors: a silent connection makes room for the next. */
static void test_out_of_descriptors(void **state)
{
    int fds[3], spare[FILES], n = 0;
    struct sockaddr_storage ss;
    socklen_t len;

    fds[0] = client(2);
    fds[1] = client(3);
    fds[2] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while ((spare[n] = dup(fds[0])) >= 0)
        n++;
    mtls_addr_to_sockaddr(&server, &ss, &len);
    assert_int_equal(connect(fds[2], (struct sockaddr *)&ss, len), 0);
    hello(fds[2], 1);
    assert_int_equal(ready(fds[2]), MTLS_READY_OK);
    assert_true(ended(fds[0]));
    assert_false(ended(fds[1]));
    while (n > 0)
        close(spare[--n]);
    close_all(fds, 3);
}

/* As many SSL_CTXs as one likes, reloaded as often: one listener for the same words, port 0 too;
 * two for two such words. */
/* What lies in the kernel is worked on without the reactor, where it is asked for. */
static void read_without_the_reactor(void **state)
{
    uint8_t secret[MTLS_SECRET_LEN], join[MTLS_JOIN_LEN], fail[MTLS_FAIL_LEN];
    struct mtls_crypto *crypto;
    int fd = client(2);

    hello(fd, 1);
    assert_int_equal(ready(fd), MTLS_READY_OK);
    assert_int_equal(stats().claims, 1);
    memset(secret, 0, sizeof(secret));
    secret[0] = 1;
    mtls_frame_fail(fail, 1, 0);
    assert_int_equal(send(fd, fail, sizeof(fail), MSG_NOSIGNAL), sizeof(fail));
    mtls_engine_lock();
    assert_int_equal(mtls_engine_crypto(&crypto), 0);
    memset(join, 0, sizeof(join));
    mtls_service_read(join, mtls_now());
    assert_int_equal(mtls_crypto_join(crypto, secret, join), 0);
    mtls_engine_unlock();
    assert_int_equal(stats().claims, 1); /* another's join */
    mtls_engine_lock();
    mtls_service_read(join, mtls_now());
    mtls_engine_unlock();
    assert_int_equal(stats().claims, 0);
    close_all(&fd, 1);
}

static void one_listener_for_the_same_words(void **state)
{
    struct mtls_addr bound[2] = {{0}}, again[2];
    struct mtls_config config;

    mtls_config_init(&config);
    assert_int_equal(
        mtls_config_apply(&config, "policy=prefer listen=127.0.0.1:0,127.0.0.1:0", NULL, 0), 0);
    mtls_engine_lock();
    assert_int_equal(mtls_service_open(&config, bound), 0);
    assert_int_equal(bound[0].port, server.port);
    assert_int_not_equal(bound[1].port, server.port);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(mtls_service_open(&config, again), 0);
        assert_memory_equal(again, bound, sizeof(bound));
    }
    config.listen[1].ip[3] = 2; /* another address */
    assert_int_equal(mtls_service_open(&config, again), 0);
    assert_int_equal(again[1].ip[3], 2);
    mtls_engine_unlock();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_silent_flood),
        cmocka_unit_test(test_greedy_claims),
        cmocka_unit_test(test_out_of_descriptors),
        cmocka_unit_test(read_without_the_reactor),
        cmocka_unit_test(one_listener_for_the_same_words),
    };

    return cmocka_run_group_tests(tests, open_service, NULL);
}
