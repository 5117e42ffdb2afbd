/* Connections that come from another process of the service: with their socket, and without it when
 * there was no descriptor left for it, or it is not what it should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtls/net/path2_service.h"
#include "mtls/net/path2_workers.h"
#include "mtls/net/peers.h"
#include "mtls/net/reactor.h"
#include "mtls/net/share.h"

enum { CLAIMS = 3 };

static struct mtls_dir_proc me;

static int open_service(void **state)
{
    struct mtls_config config;
    struct mtls_addr bound;

    mtls_config_init(&config);
    assert_int_equal(mtls_config_apply(&config, "policy=prefer listen=127.0.0.1:0", NULL, 0), 0);
    mtls_engine_lock();
    assert_int_equal(mtls_service_open(&config, &bound), 0);
    assert_int_equal(mtls_reactor_start(mtls_reactor_get(), true), 0);
    assert_true(mtls_dir_proc(mtls_share_peek(), mtls_share_self(), &me));
    mtls_engine_unlock();
    return 0;
}

static struct mtls_dir_stats in_directory(void)
{
    struct mtls_dir_stats s;

    mtls_dir_stats(mtls_share_peek(), &s);
    return s;
}

static struct mtls_p2s_stats here(void)
{
    struct mtls_p2s_stats s;

    mtls_engine_lock();
    mtls_service_stats(&s);
    mtls_engine_unlock();
    return s;
}

/* The client's end; the server's is *server. */
static int tcp_pair(int *server)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    socklen_t len = sizeof(sin);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&sin, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&sin, &len), 0);
    assert_int_equal(connect(client, (struct sockaddr *)&sin, len), 0);
    *server = accept(listener, NULL, NULL);
    assert_true(*server >= 0);
    close(listener);
    return client;
}

/* In a child: claims of its own become the parent's, with a connection. */
static int hand_over(int fd)
{
    static struct mtls_handover m = {.type = MTLS_HANDOVER_CONN};
    struct mtls_dir_view view;
    struct mtls_dir *d;
    int err;

    mtls_engine_lock();
    err = mtls_service_resume();
    m.conn.preface_done = m.conn.preface_sent = true;
    m.conn.nclaims = CLAIMS;
    m.conn.last_id = CLAIMS;
    d = mtls_share_lock();
    for (uint8_t i = 0; err == 0 && d != NULL && i < CLAIMS; i++) {
        m.conn.claims[i].id = i + 1u;
        m.conn.claims[i].join[0] = i;
        err = mtls_dir_claim_add(d, mtls_share_self(), m.conn.claims[i].join, mtls_now(), &view);
        mtls_dir_claim_move(d, mtls_share_self(), me.self, m.conn.claims[i].join, mtls_now());
    }
    mtls_share_unlock();
    if (err == 0)
        err = mtls_peers_send(&me, &m, fd);
    mtls_engine_unlock();
    return err;
}

/* Returns when it is on its way; the child stays until it is ended. */
static pid_t start_child(int fd, int client)
{
    int ready[2], err = 1;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(client);
        err = hand_over(fd);
        (void)!write(ready[1], &err, sizeof(err));
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &err, sizeof(err)), sizeof(err));
    assert_int_equal(err, 0);
    close(ready[0]);
    return pid;
}

static void end_child(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void work_until_waiting(uint32_t n)
{
    struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};
    mtls_tstamp until = mtls_now() + 20 * 1000000;

    do {
        assert_true(mtls_now() < until);
        (void)poll(&p, 1, 20);
        assert_int_equal(mtls_reactor_dispatch_lock(), 0);
    } while (in_directory().waiting != n);
}

static uint64_t moved_in(void)
{
    struct mtls_workers_stats s;

    mtls_engine_lock();
    mtls_workers_stats(&s);
    mtls_engine_unlock();
    return s.moved_in;
}

/* It is here with its claims, and so it stays until its client closes it. */
static void arrives(void **state)
{
    struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};
    int server, client = tcp_pair(&server);
    uint64_t before = moved_in();
    pid_t pid = start_child(server, client);

    close(server);
    while (moved_in() == before) {
        assert_int_equal(poll(&p, 1, 20000), 1);
        assert_int_equal(mtls_reactor_dispatch_lock(), 0);
    }
    assert_int_equal(here().claims, CLAIMS);
    assert_int_equal(in_directory().waiting, CLAIMS);
    close(client);
    work_until_waiting(0);
    assert_int_equal(here().claims, 0);
    end_child(pid);
}

/* No descriptor for it: its claims do not stay behind in the directory. */
static void no_descriptor(void **state)
{
    int server, client = tcp_pair(&server);
    uint64_t before = moved_in();
    struct rlimit files, none;
    pid_t pid;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    pid = start_child(server, client);
    close(server);
    assert_int_equal(in_directory().waiting, CLAIMS);
    (void)mtls_reactor_fd_lock();
    /* The link is taken up first: that needs a descriptor, too. */
    mtls_engine_lock();
    (void)mtls_peers_hear(0, mtls_now());
    none = files;
    none.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    mtls_engine_unlock();
    work_until_waiting(0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    assert_int_equal(moved_in(), before);
    assert_int_equal(here().claims, 0);
    close(client);
    end_child(pid);
}

/* Not a socket of the Internet. */
static void another_descriptor(void **state)
{
    uint64_t before = moved_in();
    int pipes[2];
    pid_t pid;

    assert_int_equal(pipe(pipes), 0);
    pid = start_child(pipes[0], pipes[1]);
    assert_int_equal(in_directory().waiting, CLAIMS);
    work_until_waiting(0);
    assert_int_equal(moved_in(), before);
    close(pipes[0]);
    close(pipes[1]);
    end_child(pid);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrives),
        cmocka_unit_test(no_descriptor),
        cmocka_unit_test(another_descriptor),
    };

    return cmocka_run_group_tests(tests, open_service, NULL);
}
