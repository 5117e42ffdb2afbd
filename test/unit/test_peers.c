/* The sockets between the processes of a service: members are heard, strangers shut out, the dead
 * noticed and forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtls/net/engine.h"
#include "mtls/net/peers.h"
#include "mtls/net/share.h"

enum { TTL = 60 * 1000000 };

static struct mtls_crypto *crypto;
static unsigned heard, lost;
static mtls_member from;
static uint8_t said[MTLS_JOIN_LEN];
static int came;

static void on_message(mtls_member peer, const struct mtls_handover *m, int fd, mtls_tstamp now)
{
    heard++;
    from = peer;
    memcpy(said, m->join, sizeof(said));
    came = fd;
}

static void on_lost(mtls_member peer, mtls_tstamp now)
{
    lost++;
    from = peer;
}

/* This process becomes a member; its parent, if any, is one already. */
static struct mtls_dir_proc enter(void)
{
    uint8_t name[MTLS_DIR_NAME_LEN];
    struct mtls_dir_proc p;
    struct mtls_dir *d;

    mtls_engine_lock();
    assert_int_equal(mtls_engine_crypto(&crypto), 0);
    assert_int_equal(mtls_share_open("", 64, crypto), 0);
    assert_int_equal(mtls_peers_open(mtls_reactor_get(), crypto, name, on_message, on_lost), 0);
    assert_int_equal(mtls_share_enter(name, mtls_peers_probe, mtls_now(), TTL), 0);
    assert_int_equal(mtls_reactor_start(mtls_reactor_get(), true), 0);
    d = mtls_share_lock();
    assert_non_null(d);
    assert_true(mtls_dir_proc(d, mtls_share_self(), &p));
    mtls_share_unlock();
    mtls_engine_unlock();
    return p;
}

static int open_all(void **state)
{
    static struct mtls_dir_proc me;

    me = enter();
    *state = &me;
    return 0;
}

static void work_until(const unsigned *what, unsigned n)
{
    struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};

    while (*what < n) {
        assert_int_equal(poll(&p, 1, 20000), 1);
        assert_int_equal(mtls_reactor_dispatch_lock(), 0);
    }
}

static int child_says(const struct mtls_dir_proc *to, int fd)
{
    struct mtls_handover m = {.type = MTLS_HANDOVER_WANT};
    int err;

    mtls_peers_fork_child();
    mtls_share_fork_child();
    enter();
    memset(m.join, 0x5a, sizeof(m.join));
    mtls_engine_lock();
    err = mtls_peers_send(to, &m, fd);
    mtls_engine_unlock();
    return err;
}

/* A member's word and descriptor arrive; its end is noticed behind them, and its place is free. */
static void member(void **state)
{
    const struct mtls_dir_proc *me = *state;
    struct mtls_dir_proc p;
    struct mtls_dir *d;
    int pipes[2], status;
    char c = 0;
    pid_t pid;

    assert_int_equal(pipe(pipes), 0);
    pid = fork();
    if (pid == 0)
        _exit(child_says(me, pipes[1]) == 0 ? 0 : 1);
    close(pipes[1]);
    heard = lost = 0;
    work_until(&heard, 1);
    assert_int_equal(said[0], 0x5a);
    assert_true(came >= 0);
    assert_int_equal(write(came, "x", 1), 1);
    close(came);
    assert_int_equal(read(pipes[0], &c, 1), 1);
    assert_int_equal(c, 'x');
    work_until(&lost, 1);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    mtls_engine_lock();
    d = mtls_share_lock();
    assert_true(mtls_dir_proc(d, from, &p) && p.pid == (uint32_t)pid);
    mtls_share_unlock();
    assert_false(mtls_peers_probe(&p));
    d = mtls_share_lock();
    mtls_dir_remove(d, from, mtls_now(), TTL);
    mtls_share_unlock();
    mtls_engine_unlock();
    close(pipes[0]);
}

/* Connects to the socket of that name and speaks; returns 0 when it is shut out unheard. */
static int stranger(const struct mtls_dir_proc *to, uid_t uid)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    int fd, n = 6;
    uint8_t want[2 + MTLS_JOIN_LEN] = {1, MTLS_HANDOVER_WANT};
    struct pollfd p;

    if (setuid(uid) != 0 && geteuid() == 0)
        return 1;
    memcpy(sun.sun_path + 1, "mtls-", 5);
    for (unsigned i = 0; i < MTLS_DIR_NAME_LEN; i++)
        n += sprintf(sun.sun_path + n, "%02x", to->name[i]);
    fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (connect(fd, (struct sockaddr *)&sun,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) != 0)
        return 2;
    (void)!send(fd, want, sizeof(want), MSG_NOSIGNAL);
    p = (struct pollfd){.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 20000) != 1)
        return 3;
    return recv(fd, want, 1, 0) <= 0 ? 0 : 4;
}

/* Another user's process, and one of this user that is no member. */
static void strangers(void **state)
{
    const struct mtls_dir_proc *me = *state;
    const uid_t uids[] = {geteuid() == 0 ? 65534 : geteuid(), geteuid()};
    const struct mtls_dir_proc who = {.pid = 1, .name = {1}};
    struct mtls_dir *d;
    mtls_member other; /* whom they could be taken for */

    mtls_engine_lock();
    d = mtls_share_lock();
    assert_int_equal(mtls_dir_enter(d, &who, &other), 0);
    mtls_share_unlock();
    mtls_engine_unlock();

    for (int i = 0; i < 2; i++) {
        struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};
        int status = -1;
        pid_t pid = fork();

        if (pid == 0)
            _exit(stranger(me, uids[i]));
        heard = lost = 0;
        while (waitpid(pid, &status, WNOHANG) == 0) {
            if (poll(&p, 1, 10) == 1)
                assert_int_equal(mtls_reactor_dispatch_lock(), 0);
        }
        assert_int_equal(status, 0);
        assert_int_equal(heard, 0);
        assert_int_equal(lost, 0);
    }
}

/* A name whose process is gone, taken by another; and no name at all. */
static void nobody_there(void **state)
{
    const struct mtls_dir_proc *me = *state;
    struct mtls_handover m = {.type = MTLS_HANDOVER_WANT};
    struct mtls_dir_proc p = *me;

    mtls_engine_lock();
    p.self += 1 << 16;
    p.name[0] ^= 1;
    assert_int_equal(mtls_peers_send(&p, &m, -1), MTLS_ERR_IO);
    assert_false(mtls_peers_probe(&p));
    p = *me;
    p.self += 1 << 16;
    p.pid += 1; /* the directory says that it is another process */
    assert_int_equal(mtls_peers_send(&p, &m, -1), MTLS_ERR_IO);
    assert_true(mtls_peers_probe(me));
    m.type = (enum mtls_handover_type)99;
    assert_int_equal(mtls_peers_send(me, &m, -1), MTLS_ERR_ARG);
    mtls_engine_unlock();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(member),
        cmocka_unit_test(strangers),
        cmocka_unit_test(nobody_there),
    };

    return cmocka_run_group_tests(tests, open_all, NULL);
}
