/* Ends must reach the directory: while a hostile process keeps its lock, after a connection that
 * was handed over did not arrive, and when a process has died unnoticed. And a process out of
 * descriptors does not spin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtls/net/engine.h"
#include "mtls/net/peers.h"
#include "mtls/net/reactor.h"
#include "mtls/net/share.h"
#include "mtls/net/share_ends.h"

enum { TTL = 60 * 1000000, WORD = 2 /* of the memory: its lock */, SLACK_US = 2000000 };

static struct mtls_crypto *crypto;
static char path[64], name[32];
static uint8_t socket_name[MTLS_DIR_NAME_LEN];
static unsigned heard, gone;
static mtls_member gone_member;
static int came;
static uint8_t has_slots, has_claims;

static void on_message(mtls_member from, const struct mtls_handover *m, int fd, mtls_tstamp now)
{
    heard++;
    came = fd;
    if (fd >= 0)
        close(fd);
}

static void on_lost(mtls_member peer, mtls_tstamp now)
{
    struct mtls_dir *d = mtls_share_lock();

    gone++;
    gone_member = peer;
    mtls_dir_remove(d, peer, now, TTL);
    mtls_share_unlock();
}

static void has(void *arg, const uint8_t join[MTLS_JOIN_LEN], uint8_t *slots, uint8_t *nclaims)
{
    *slots = has_slots;
    *nclaims = has_claims;
}

/* Engine lock held. */
static int enter(void)
{
    struct mtls_reactor *r = mtls_reactor_get();
    int err = mtls_engine_crypto(&crypto);

    if (err == 0)
        err = mtls_share_open(name, 64, crypto);
    if (err == 0)
        err = mtls_peers_open(r, crypto, socket_name, on_message, on_lost);
    if (err == 0)
        err = mtls_share_enter(socket_name, mtls_peers_probe, mtls_now(), TTL);
    if (err == 0)
        err = mtls_ends_open(r, TTL, has, on_lost);
    return err == 0 ? mtls_reactor_start(r, true) : err;
}

static int open_all(void **state)
{
    int err;

    (void)snprintf(name, sizeof(name), "ends%ld", (long)getpid());
    (void)snprintf(path, sizeof(path), "/dev/shm/mtls3-%lu-%s", (unsigned long)geteuid(), name);
    mtls_engine_lock();
    err = enter();
    mtls_engine_unlock();
    return err;
}

static int close_all(void **state)
{
    return unlink(path);
}

static const uint8_t *join(unsigned n)
{
    static uint8_t j[MTLS_JOIN_LEN];

    j[0] = (uint8_t)n;
    return j;
}

static struct mtls_dir_stats stats(void)
{
    struct mtls_dir_stats s;

    mtls_dir_stats(mtls_share_peek(), &s);
    return s;
}

/* Its process writes to the lock without end: nobody else gets it. */
static pid_t start_hostile(void)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint32_t *words = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid_t pid;

    assert_true(fd >= 0 && words != MAP_FAILED);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (uint32_t n = 1;; n = n % 1000000 + 1) {
            __atomic_store_n(&words[WORD], n, __ATOMIC_RELAXED);
            usleep(50);
        }
    }
    while (__atomic_load_n(&words[WORD], __ATOMIC_RELAXED) == 0)
        usleep(1000);
    munmap(words, 4096);
    close(fd);
    return pid;
}

static void stop_child(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void work_until_empty(void)
{
    struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};
    mtls_tstamp until = mtls_now() + 20 * 1000000;

    while (stats().sessions + stats().waiting > 0) {
        assert_true(mtls_now() < until);
        (void)poll(&p, 1, 1000);
        assert_int_equal(mtls_reactor_dispatch_lock(), 0);
    }
}

/* Who keeps the lock costs each second a short wait, and no end is lost. */
static void locked(void **state)
{
    struct mtls_dir_view view;
    struct mtls_dir *d;
    mtls_tstamp began, us;
    uint8_t slot;
    pid_t pid;

    mtls_engine_lock();
    d = mtls_share_lock();
    assert_non_null(d);
    for (unsigned i = 1; i <= 10; i++) {
        assert_int_equal(mtls_dir_session_add(d, mtls_share_self(), join(i), 0, &slot, &view), 0);
        assert_int_equal(mtls_dir_claim_add(d, mtls_share_self(), join(100 + i), 0, &view), 0);
    }
    mtls_share_unlock();
    mtls_engine_unlock();
    pid = start_hostile();
    mtls_engine_lock();
    began = mtls_now();
    for (unsigned i = 1; i <= 10; i++) {
        mtls_ends_session(join(i), 0, mtls_now());
        mtls_ends_claim(join(100 + i), mtls_now());
    }
    us = mtls_now() - began;
    mtls_engine_unlock();
    print_message("20 calls while the lock is kept: %llu us\n", (unsigned long long)us);
    assert_true(us >= MTLS_SHARE_WAIT_US && us < MTLS_SHARE_WAIT_US + SLACK_US);
    assert_int_equal(stats().sessions, 10);
    assert_int_equal(stats().waiting, 10);
    stop_child(pid);
    work_until_empty();
    assert_int_equal(stats().ended, 10);
}

static void claims(unsigned n, mtls_member holder)
{
    struct mtls_dir *d;
    struct mtls_dir_view view;

    mtls_engine_lock();
    d = mtls_share_lock();
    assert_non_null(d);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(mtls_dir_claim_add(d, holder, join(i + 20), mtls_now(), &view), 0);
    mtls_share_unlock();
    mtls_engine_unlock();
}

static unsigned sweep(mtls_tstamp later)
{
    unsigned n;

    mtls_engine_lock();
    n = mtls_ends_sweep(mtls_now() + later);
    mtls_engine_unlock();
    return n;
}

/* A full directory of claims that nobody has (their connections did not arrive) is empty again
 * after a while; claims that are there stay. */
static void lost_connections(void **state)
{
    struct mtls_dir_view view;
    struct mtls_dir *d;

    claims(64, mtls_share_self());
    mtls_engine_lock();
    d = mtls_share_lock();
    assert_int_equal(mtls_dir_claim_add(d, mtls_share_self(), join(99), mtls_now(), &view),
                     MTLS_ERR_NOMEM);
    mtls_share_unlock();
    mtls_engine_unlock();
    assert_int_equal(sweep(0), 0); /* they may be on their way */
    has_claims = 1;
    assert_int_equal(sweep(MTLS_SWEEP_EVERY_US), 0);
    has_claims = 0;
    assert_int_equal(sweep(MTLS_SWEEP_EVERY_US), 64);
    assert_int_equal(stats().waiting, 0);
    claims(1, mtls_share_self());
    mtls_ends_claim(join(20), mtls_now());
    assert_int_equal(stats().waiting, 0);
}

/* Nobody spoke to it, nobody saw it die. */
static void died_unnoticed(void **state)
{
    int fds[2];
    mtls_member child = 0;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        mtls_peers_fork_child();
        mtls_ends_fork_child();
        mtls_share_fork_child();
        mtls_engine_lock();
        if (enter() != 0)
            _exit(1);
        mtls_engine_unlock();
        claims(3, mtls_share_self());
        child = mtls_share_self();
        if (write(fds[1], &child, sizeof(child)) != sizeof(child))
            _exit(1);
        for (;;)
            pause();
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &child, sizeof(child)), sizeof(child));
    gone = 0;
    assert_int_equal(sweep(MTLS_SWEEP_EVERY_US), 0); /* it lives */
    assert_int_equal(gone, 0);
    assert_int_equal(stats().waiting, 3);
    stop_child(pid);
    (void)sweep(MTLS_SWEEP_EVERY_US);
    assert_int_equal(gone, 1);
    assert_true(gone_member == child);
    assert_int_equal(stats().waiting, 0);
    close(fds[0]);
}

/* ---- Out of descriptors ---- */

static int connect_here(void)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), n = 6;

    memcpy(sun.sun_path + 1, "mtls-", 5);
    for (unsigned i = 0; i < MTLS_DIR_NAME_LEN; i++)
        n += sprintf(sun.sun_path + n, "%02x", socket_name[i]);
    assert_int_equal(connect(fd, (struct sockaddr *)&sun,
                             (socklen_t)(offsetof(struct sockaddr_un, sun_path)) + (socklen_t)n),
                     0);
    return fd;
}

static unsigned wakeups(int ms)
{
    struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};
    mtls_tstamp until = mtls_now() + (mtls_tstamp)ms * 1000, now;
    unsigned n = 0;

    while ((now = mtls_now()) < until) {
        if (poll(&p, 1, (int)((until - now + 999) / 1000)) == 1) {
            assert_int_equal(mtls_reactor_dispatch_lock(), 0);
            n++;
        }
    }
    return n;
}

/* What waits to be accepted does not wake the reactor again and again; it is served when there are
 * descriptors. */
static void out_of_descriptors(void **state)
{
    struct rlimit before, none;
    struct pollfd closed;
    int fd = connect_here();
    unsigned n;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    n = wakeups(500);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    print_message("%u wake-ups in 0.5 s out of descriptors\n", n);
    assert_true(n > 0 && n < 30);
    (void)wakeups(300);
    closed = (struct pollfd){.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&closed, 1, 20000), 1); /* a stranger: shut out, not forgotten */
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(locked),
        cmocka_unit_test(lost_connections),
        cmocka_unit_test(died_unnoticed),
        cmocka_unit_test(out_of_descriptors),
    };

    return cmocka_run_group_tests(tests, open_all, close_all);
}
