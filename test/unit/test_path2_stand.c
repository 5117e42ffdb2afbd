/* Who accepts path 2: a process that only forked the others leaves it to one that has sessions and
 * its listeners, and takes it up again when that one goes; in any other case it goes on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtls/net/path2_service.h"
#include "mtls/net/path2_stand.h"
#include "mtls/net/path2_workers.h"
#include "mtls/net/reactor.h"
#include "mtls/net/share.h"
#include "mtls/net/sockaddr.h"

enum { LIMIT_US = 20 * 1000000, CLIENTS = 16 };

static struct mtls_addr bound;
static unsigned asked; /* how often for a connection */

int accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
    asked++;
    return (int)syscall(SYS_accept4, fd, from, len, flags);
}

static int clients[CLIENTS];
static unsigned nclients;

static void service_open(const char *words, struct mtls_addr *at)
{
    struct mtls_config config;

    mtls_config_init(&config);
    assert_int_equal(mtls_config_apply(&config, words, NULL, 0), 0);
    mtls_engine_lock();
    assert_int_equal(mtls_service_open(&config, at), 0);
    assert_int_equal(mtls_reactor_start(mtls_reactor_get(), true), 0);
    mtls_engine_unlock();
}

static int begin(void **state)
{
    service_open("policy=prefer listen=127.0.0.1:0", &bound);
    return 0;
}

/* Connections that are open here. */
static size_t conns(void)
{
    struct mtls_p2s_stats s;

    mtls_engine_lock();
    mtls_service_stats(&s);
    mtls_engine_unlock();
    return s.conns;
}

static void dispatch(int timeout_ms)
{
    struct pollfd p = {.fd = mtls_reactor_fd_lock(), .events = POLLIN};

    (void)poll(&p, 1, timeout_ms);
    assert_int_equal(mtls_reactor_dispatch_lock(), 0);
}

static void dispatch_until_conns(size_t n)
{
    mtls_tstamp until = mtls_now() + LIMIT_US;

    while (conns() != n) {
        assert_true(mtls_now() < until);
        dispatch(20);
    }
}

static void client_connects(void)
{
    struct sockaddr_storage ss;
    socklen_t len;
    int fd;

    mtls_addr_to_sockaddr(&bound, &ss, &len);
    fd = socket(ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
    clients[nclients++] = fd;
}

static void clients_close(void)
{
    while (nclients > 0)
        close(clients[--nclients]);
    dispatch_until_conns(0);
}

static void confirmed(void *arg, uint8_t k, uint8_t n, const struct mtls_addr *local,
                      const struct mtls_addr *peer, mtls_tstamp now)
{
}

struct child {
    pid_t pid;
    int to, from;
};

/* On each byte: 's' begins a session, 'l' is leaving, 'a' accepts a connection; answers with it. */
static void child_run(int from, int to, const char *more)
{
    struct mtls_service_session *s;
    uint8_t join[MTLS_JOIN_LEN] = {0};
    struct mtls_addr at[2];
    char order;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (more != NULL)
        service_open(more, at);
    while (read(from, &order, 1) == 1) {
        mtls_engine_lock();
        memcpy(join, &(pid_t){getpid()}, sizeof(pid_t));
        if (order == 's' && mtls_service_session_new(&s, join, confirmed, NULL, mtls_now()) != 0)
            order = '?';
        if (order == 's')
            (void)!mtls_reactor_start(mtls_reactor_get(), true);
        if (order == 'l') {
            mtls_dir_set_leaving(mtls_share_lock(), mtls_share_self());
            mtls_share_unlock();
        }
        mtls_engine_unlock();
        if (order == 'a')
            dispatch_until_conns(1);
        (void)!write(to, &order, 1);
    }
    _exit(0);
}

static struct child start_child(const char *more)
{
    int down[2], up[2];
    struct child c;

    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    c.pid = fork();
    if (c.pid == 0)
        child_run(down[0], up[1], more);
    close(down[0]);
    close(up[1]);
    c.to = down[1];
    c.from = up[0];
    return c;
}

static void order(const struct child *c, char what)
{
    char answer = 0;

    assert_int_equal(write(c->to, &what, 1), 1);
    assert_int_equal(read(c->from, &answer, 1), 1);
    assert_int_equal(answer, what);
}

static void end_child(const struct child *c)
{
    kill(c->pid, SIGKILL);
    assert_int_equal(waitpid(c->pid, NULL, 0), c->pid);
    close(c->to);
    close(c->from);
}

/* One at which it may find out, however often it looks. */
static void takes_one_more(size_t *n)
{
    mtls_tstamp until = mtls_now() + 20000;

    while (mtls_now() < until)
        dispatch(1);
    client_connects();
    dispatch_until_conns(++*n);
}

static bool serves(void)
{
    struct mtls_dir_proc p;

    return mtls_dir_proc(mtls_share_peek(), mtls_share_self(), &p) && p.serves != 0;
}

/* The next connection is the child's, which nobody has woken here; and ours when it is gone. */
static void leaves_it_to_a_worker(void **state)
{
    struct child c = start_child(NULL);
    size_t n = 0;

    takes_one_more(&n);
    takes_one_more(&n);
    order(&c, 's');
    assert_false(serves());
    takes_one_more(&n); /* the watches go before it is taken: none may be left over */
    client_connects();
    dispatch(200);
    assert_int_equal(conns(), n);
    order(&c, 'a');
    client_connects(); /* waits for the child, and then for nobody */
    end_child(&c);
    dispatch_until_conns(n + 1);
    n++;
    takes_one_more(&n);
    clients_close();
}

/* Whoever serves is stopped: its sockets stay, and it takes nothing. */
static void one_that_is_stopped(void **state)
{
    struct child c = start_child(NULL);
    size_t n = 0;

    order(&c, 's');
    takes_one_more(&n);
    assert_int_equal(kill(c.pid, SIGSTOP), 0);
    client_connects();
    dispatch_until_conns(++n);
    takes_one_more(&n);
    end_child(&c);
    clients_close();
}

/* A session of our own, and with it the connections. */
static void a_session_brings_it_back(void **state)
{
    struct mtls_service_session *s;
    struct child c = start_child(NULL);
    uint8_t join[MTLS_JOIN_LEN] = {7};
    size_t n = 0;

    order(&c, 's');
    takes_one_more(&n);
    client_connects();
    dispatch(200);
    assert_int_equal(conns(), n);
    order(&c, 'a');
    mtls_engine_lock();
    assert_int_equal(mtls_service_session_new(&s, join, confirmed, NULL, mtls_now()), 0);
    mtls_engine_unlock();
    assert_true(serves());
    takes_one_more(&n); /* it is busy */
    takes_one_more(&n);
    mtls_engine_lock();
    mtls_service_session_free(s, 0, mtls_now());
    mtls_stand_reset(); /* as if that were long ago */
    mtls_engine_unlock();
    end_child(&c);
    clients_close();
}

static void goes_on_beside(const char *more, const char *orders)
{
    struct child c = start_child(more);
    size_t n = 0;

    for (; *orders != '\0'; orders++)
        order(&c, *orders);
    takes_one_more(&n);
    takes_one_more(&n);
    takes_one_more(&n);
    end_child(&c);
    clients_close();
}

static void one_call_for_a_connection(void **state)
{
    unsigned before = asked;

    client_connects();
    client_connects();
    client_connects();
    dispatch_until_conns(3);
    assert_int_equal(asked, before + 3);
    clients_close();
}

static void one_without_sessions(void **state)
{
    goes_on_beside(NULL, "");
}

static void one_that_is_leaving(void **state)
{
    goes_on_beside(NULL, "sl");
}

static void one_with_other_listeners(void **state)
{
    goes_on_beside("policy=prefer listen=127.0.0.1:0 listen=127.0.0.2:0", "s");
}

/* What drives its reactor may be at something else. */
static void one_that_is_driven(void **state)
{
    goes_on_beside("policy=prefer listen=127.0.0.1:0 reactor=app", "s");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_it_to_a_worker),     cmocka_unit_test(a_session_brings_it_back),
        cmocka_unit_test(one_call_for_a_connection), cmocka_unit_test(one_without_sessions),
        cmocka_unit_test(one_that_is_leaving),       cmocka_unit_test(one_with_other_listeners),
        cmocka_unit_test(one_that_is_stopped),       cmocka_unit_test(one_that_is_driven),
    };

    return cmocka_run_group_tests(tests, begin, NULL);
}
