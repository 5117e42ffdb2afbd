/* The look-up over path 2, against a name server that the test itself is: it answers between two
 * turns of the reactor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <poll.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "alloc_sweep.h"
#include "dns_server.h"
#include "mtls/net/path2_socket.h"
#include "mtls/net/resolve.h"
#include "mtls/net/route.h"
#include "netns.h"

enum { PATIENCE_MS = 5000, SHORT_MS = 300 };

static int server_close(void **state)
{
    close(server.udp);
    close(server.tcp);
    if (server.conn >= 0)
        close(server.conn);
    close(server.other);
    return 0;
}

static int server_local(void **state)
{
    server_open("127.0.0.53", "127.0.0.54", 0);
    return 0;
}

static int server_there(void **state)
{
    netns_go_there();
    server_open("203.0.113.1", "10.2.0.1", 0);
    netns_go_here();
    return 0;
}

/* ---- The look-up ---- */

static struct mtls_reactor *reactor;

static struct result {
    unsigned calls;
    int error;
    size_t n;
    struct mtls_addr addrs[MTLS_RESOLVE_MAX], resolver;
    mtls_tstamp at;
    struct mtls_resolve *free_inside;
} result;

static void resolved(void *arg, int error, const struct mtls_addr *addrs, size_t n,
                     const struct mtls_addr *resolver, mtls_tstamp now)
{
    struct result *r = arg;

    r->calls++;
    r->error = error;
    r->n = n;
    r->resolver = *resolver;
    r->at = now;
    assert_true(n <= MTLS_RESOLVE_MAX);
    memcpy(r->addrs, addrs, n * sizeof(addrs[0]));
    if (r->free_inside != NULL) {
        mtls_resolve_free(r->free_inside);
        r->free_inside = NULL;
    }
}

/* Turns reactor and name server until the look-up has ended, or until times out. */
static void turn(unsigned until_calls, int ms)
{
    mtls_tstamp end = mtls_now() + (mtls_tstamp)ms * 1000u;
    struct pollfd p[4] = {{.fd = mtls_reactor_fd_lock(), .events = POLLIN},
                          {.fd = server.udp, .events = POLLIN},
                          {.fd = server.tcp, .events = POLLIN},
                          {.fd = server.conn, .events = POLLIN}};

    while (result.calls < until_calls) {
        mtls_tstamp now = mtls_now();

        if (now >= end || poll(p, 4, (int)((end - now) / 1000u) + 1) <= 0)
            return;
        if (p[1].revents & POLLIN)
            serve_udp();
        if (p[3].revents != 0)
            serve_tcp();
        else if (server.conn < 0 && (p[2].revents & POLLIN))
            server.conn = accept(server.tcp, NULL, NULL);
        p[3].fd = server.conn;
        if (p[0].revents & POLLIN)
            assert_int_equal(mtls_reactor_dispatch_lock(), 0);
    }
}

static struct mtls_path_spec spec(const char *local, const char *dev)
{
    struct mtls_path_spec s = {.resolver = server.addr};
    struct mtls_host h;

    if (local != NULL) {
        assert_int_equal(mtls_host_parse(&h, local), 0);
        s.local = h.addr;
    }
    if (dev != NULL)
        strcpy(s.dev, dev);
    return s;
}

static int new_lookup(struct mtls_resolve **q, const struct mtls_path_spec *s, const char *name,
                      uint32_t ms)
{
    int err;

    memset(&result, 0, sizeof(result));
    mtls_engine_lock();
    err = mtls_resolve_new(q, reactor, s, name, ms, resolved, &result);
    mtls_engine_unlock();
    assert_int_equal(result.calls, 0); /* never from inside */
    return err;
}

static void drop(struct mtls_resolve *q)
{
    mtls_engine_lock();
    mtls_resolve_free(q);
    mtls_engine_unlock();
}

/* A whole look-up; its error. */
static int look_up(const struct mtls_path_spec *s, const char *name, uint32_t ms)
{
    struct mtls_resolve *q;
    int err = new_lookup(&q, s, name, ms);

    if (err != 0) {
        assert_null(q);
        return err;
    }
    turn(1, PATIENCE_MS);
    assert_int_equal(result.calls, 1);
    assert_memory_equal(&result.resolver, &server.addr, sizeof(server.addr));
    assert_true((result.error == 0) == (result.n > 0));
    drop(q);
    return result.error;
}

static void assert_result(size_t i, const char *ip)
{
    struct mtls_host h;

    assert_int_equal(mtls_host_parse(&h, ip), 0);
    assert_true(i < result.n);
    assert_memory_equal(&result.addrs[i], &h.addr, sizeof(h.addr)); /* port 0 */
}

static struct mtls_path_spec on_lo(void)
{
    return spec(NULL, "lo");
}

static void test_families(void **state)
{
    struct mtls_path_spec s = on_lo(), v4 = spec("127.0.0.1", NULL), v6 = spec("::1", "lo");

    script.a[0] = "192.0.2.1";
    assert_int_equal(look_up(&s, "Server.Example", PATIENCE_MS), 0);
    assert_int_equal(result.n, 1);
    assert_result(0, "192.0.2.1");
    assert_string_equal(server.name, "server.example.");
    script.a[0] = NULL;
    script.aaaa[0] = "2001:db8::1";
    assert_int_equal(look_up(&s, "server.example.", PATIENCE_MS), 0);
    assert_int_equal(result.n, 1);
    assert_result(0, "2001:db8::1");
    script.a[0] = "192.0.2.1";
    script.a[1] = "192.0.2.2";
    script.a[2] = "192.0.2.1"; /* once is enough */
    script.aaaa[1] = "2001:db8::2";
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), 0);
    assert_int_equal(result.n, 4);
    assert_result(0, "2001:db8::1");
    assert_result(1, "192.0.2.1");
    assert_result(2, "2001:db8::2");
    assert_result(3, "192.0.2.2");
    server.a = server.aaaa = 0;
    assert_int_equal(look_up(&v4, "server.example", PATIENCE_MS), 0);
    assert_int_equal(result.n, 2);
    assert_result(0, "192.0.2.1");
    assert_int_equal(server.aaaa, 0);
    assert_int_equal(look_up(&v6, "server.example", PATIENCE_MS), 0); /* over an IPv4 resolver */
    assert_int_equal(result.n, 2);
    assert_result(0, "2001:db8::1");
    assert_int_equal(server.a, 1);
}

static void test_many(void **state)
{
    static const char *const many[] = {"192.0.2.1", "192.0.2.2", "192.0.2.3",
                                       "192.0.2.4", "192.0.2.5", "192.0.2.6",
                                       "192.0.2.7", "192.0.2.8", "192.0.2.9"};
    struct mtls_path_spec s = on_lo();

    memcpy(script.a, many, sizeof(many));
    assert_int_equal(look_up(&s, "many.example", PATIENCE_MS), 0);
    assert_int_equal(result.n, MTLS_RESOLVE_MAX);
    script.aaaa[0] = "2001:db8::1";
    assert_int_equal(look_up(&s, "many.example", PATIENCE_MS), 0);
    assert_int_equal(result.n, MTLS_RESOLVE_MAX);
    assert_result(0, "2001:db8::1");
    assert_result(7, "192.0.2.7");
}

static void test_negative(void **state)
{
    struct mtls_path_spec s = on_lo();

    assert_int_equal(look_up(&s, "nothing.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    script.a[0] = "192.0.2.1";
    assert_int_equal(look_up(&s, "nothing.example", PATIENCE_MS), 0);
    script.rcode = NXDOMAIN;
    assert_int_equal(look_up(&s, "nothing.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    script.rcode = SERVFAIL;
    assert_int_equal(look_up(&s, "nothing.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
}

/* timeout_ms bounds the whole; a family that has answered does not wait for one that is silent. */
static void test_silence(void **state)
{
    struct mtls_path_spec s = on_lo();
    mtls_tstamp began = mtls_now();

    script.silent_a = script.silent_aaaa = true;
    assert_int_equal(look_up(&s, "silent.example", SHORT_MS), MTLS_ERR_PATH_RESOLVE);
    assert_true(result.at >= began + SHORT_MS * 1000u);
    assert_true(server.a > 1); /* asked again meanwhile */
    script.silent_a = false;
    script.a[0] = "192.0.2.1";
    began = mtls_now();
    assert_int_equal(look_up(&s, "half.example", 4000), 0);
    assert_result(0, "192.0.2.1");
    assert_true(result.at < began + 4000000u);
}

static void test_refused(void **state)
{
    struct mtls_path_spec s = on_lo();

    script.a[0] = "192.0.2.1";
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), 0);
    close(server.udp);
    assert_int_equal(look_up(&s, "server.example", 1000), MTLS_ERR_PATH_RESOLVE);
    server.udp = bound_socket(SOCK_DGRAM, "127.0.0.53", server.addr.port);
}

static void test_alias(void **state)
{
    struct mtls_path_spec s = on_lo();

    script.cname = true;
    script.a[0] = "192.0.2.1";
    script.aaaa[0] = "2001:db8::1";
    assert_int_equal(look_up(&s, "www.example", PATIENCE_MS), 0);
    assert_int_equal(result.n, 2);
}

static void test_tcp(void **state)
{
    struct mtls_path_spec s = spec("127.0.0.1", NULL);

    script.truncated = true;
    script.a[0] = "192.0.2.1";
    assert_int_equal(look_up(&s, "long.example", PATIENCE_MS), 0);
    assert_result(0, "192.0.2.1");
    assert_int_equal(server.tcp_questions, 1);
}

/* A forged answer, of another id, another question or from another address, changes nothing; the
 * right one after it is taken. */
static void test_forged(void **state)
{
    struct mtls_path_spec s = spec("127.0.0.1", NULL);
    bool *const how[] = {&script.wrong_id, &script.wrong_name, &script.wrong_source};

    script.a[0] = "192.0.2.1";
    for (size_t i = 0; i < 3; i++) {
        *how[i] = true;
        assert_int_equal(look_up(&s, "forged.example", PATIENCE_MS), 0);
        assert_int_equal(result.n, 1);
        assert_result(0, "192.0.2.1");
        script.forged_only = true;
        assert_int_equal(look_up(&s, "forged.example", SHORT_MS), MTLS_ERR_PATH_RESOLVE);
        script.forged_only = *how[i] = false;
    }
}

/* An answer cut at every byte: an error, or the right addresses from the whole answer that follows.
 */
static void test_cut(void **state)
{
    struct mtls_path_spec s = spec("127.0.0.1", NULL);

    script.a[0] = "192.0.2.1";
    script.a[1] = "192.0.2.2";
    assert_int_equal(look_up(&s, "cut.example", PATIENCE_MS), 0);
    assert_int_equal(result.n, 2);
    for (size_t cut = 1, whole = server.answer_len; cut < whole; cut++) {
        int err;

        script.cut = cut;
        err = look_up(&s, "cut.example", PATIENCE_MS);
        assert_true(err == 0 || err == MTLS_ERR_PATH_RESOLVE);
        if (err == 0) {
            assert_int_equal(result.n, 2);
            assert_result(1, "192.0.2.2");
        }
    }
}

static void test_cancel(void **state)
{
    struct mtls_path_spec s = on_lo();
    struct mtls_resolve *q;

    script.a[0] = "192.0.2.1";
    script.silent_aaaa = true;
    assert_int_equal(new_lookup(&q, &s, "cancel.example", PATIENCE_MS), 0);
    drop(q); /* at once */
    assert_int_equal(new_lookup(&q, &s, "cancel.example", PATIENCE_MS), 0);
    while (server.aaaa < 2 || server.a < 2)
        turn(1, 10); /* in mid-flight */
    drop(q);
    turn(1, 100);
    assert_int_equal(result.calls, 0);
    assert_int_equal(new_lookup(&q, &s, "cancel.example", PATIENCE_MS), 0);
    result.free_inside = q;
    turn(1, PATIENCE_MS);
    assert_int_equal(result.calls, 1);
    assert_null(result.free_inside);
    drop(NULL);
}

/* A fork child closes its copies of the sockets and leaves the parent's look-up alone. */
static void test_forget(void **state)
{
    struct mtls_path_spec s = on_lo();
    struct mtls_resolve *q;
    int status, fd = dup(0); /* the next descriptor: the look-up's socket */
    pid_t pid;

    close(fd);
    script.a[0] = "192.0.2.1";
    assert_int_equal(new_lookup(&q, &s, "fork.example", PATIENCE_MS), 0);
    assert_true(fcntl(fd, F_GETFD) >= 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        mtls_resolve_forget(NULL);
        mtls_resolve_forget(q);
        _exit(fcntl(fd, F_GETFD) < 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    turn(1, PATIENCE_MS);
    assert_int_equal(result.calls, 1);
    assert_int_equal(result.error, 0);
    drop(q);
}

static void test_limit(void **state)
{
    static struct mtls_resolve *all[256];
    struct mtls_path_spec s = spec("127.0.0.1", NULL);
    struct mtls_resolve *one;

    script.silent_a = true;
    for (size_t i = 0; i < 256; i++)
        assert_int_equal(new_lookup(&all[i], &s, "limit.example", PATIENCE_MS), 0);
    assert_int_equal(new_lookup(&one, &s, "limit.example", PATIENCE_MS), MTLS_ERR_LIMIT);
    assert_null(one);
    drop(all[7]);
    assert_int_equal(new_lookup(&all[7], &s, "limit.example", PATIENCE_MS), 0);
    assert_int_equal(new_lookup(&one, &s, "limit.example", PATIENCE_MS), MTLS_ERR_LIMIT);
    for (size_t i = 0; i < 256; i++)
        drop(all[i]);
}

/* [PATH-3] What a machine asks over path 1 is never asked for path 2: no hosts file, no search
 * list, no alias file. */
static void test_absolute(void **state)
{
    struct mtls_path_spec s = on_lo();

    setenv("LOCALDOMAIN", "evil.example", 1);
    setenv("RES_OPTIONS", "ndots:9", 1);
    script.a[0] = "192.0.2.1";
    assert_int_equal(look_up(&s, "single", PATIENCE_MS), 0);
    assert_string_equal(server.name, "single.");
    assert_int_equal(look_up(&s, "localhost", PATIENCE_MS), 0);
    assert_string_equal(server.name, "localhost.");
    assert_result(0, "192.0.2.1");
    script.rcode = NXDOMAIN;
    assert_int_equal(look_up(&s, "single", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    assert_string_equal(server.name, "single.");
    unsetenv("LOCALDOMAIN");
    unsetenv("RES_OPTIONS");
}

static void test_bad_names(void **state)
{
    static const char *const names[] = {"",          ".",           "a..b", "-a.example",
                                        "192.0.2.1", "2001:db8::1", "a b",  "10.1"};
    struct mtls_path_spec s = on_lo();
    char longest[300];

    script.a[0] = "192.0.2.1";
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(look_up(&s, names[i], PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    assert_int_equal(look_up(&s, NULL, PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    memset(longest, 'a', sizeof(longest));
    for (size_t i = 63; i < sizeof(longest); i += 64)
        longest[i] = '.';
    longest[253] = '\0';
    assert_int_equal(look_up(&s, longest, PATIENCE_MS), 0);
    assert_int_equal(strlen(server.name), 254);
    longest[253] = 'a';
    longest[254] = '\0';
    assert_int_equal(look_up(&s, longest, PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    assert_int_equal(server.a, 1);
}

/* [PATH-3] A loopback resolver is path 2's own on a loopback device alone, and an address of this
 * machine never is. */
static void test_resolver_inadmissible(void **state)
{
    struct mtls_path_spec s = spec(NULL, "v1"), lo = on_lo();
    struct mtls_host h;
    static const char *const own[] = {"127.0.0.53", "::1", "10.1.0.2", "2001:db8:2::2"};
    static const char *const never[] = {"0.0.0.0", "::", "224.0.0.1", "ff02::1"};

    script.a[0] = "192.0.2.1";
    assert_int_equal(look_up(&lo, "server.example", PATIENCE_MS), 0);
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    s = spec("10.2.0.2", NULL);
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    s = spec(NULL, NULL);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(mtls_host_parse(&h, own[i]), 0);
        s.resolver = h.addr;
        assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
        assert_int_equal(mtls_host_parse(&h, never[i]), 0);
        s.resolver = lo.resolver = h.addr;
        assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
        assert_int_equal(look_up(&lo, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    }
    s = spec(NULL, NULL);
    memset(&s.resolver, 0, sizeof(s.resolver)); /* none, and no link that has one */
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    strcpy(s.dev, "v1");
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    assert_int_equal(server.a, 1);
}

static void test_bind_fails(void **state)
{
    struct mtls_path_spec s = spec(NULL, "nodev");

    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_BIND);
    s = spec("192.0.2.99", NULL);
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_BIND);
    s = spec("10.1.0.2", "lo"); /* v0's address */
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_BIND);
    assert_int_equal(server.a + server.aaaa, 0);
}

/* Path 2's look-up leaves by path 2's device, whatever the routing table prefers, over UDP and over
 * TCP. */
static void test_over_path2(void **state)
{
    static const char *const locals[] = {"10.2.0.2", NULL, "10.1.0.2"}, *const devs[] = {NULL, "v1",
                                                                                         NULL};
    static const char *const seen[] = {"10.2.0.2", "10.2.0.2", "10.1.0.2"};
    char text[64];

    script.a[0] = "203.0.113.1";
    for (size_t i = 0; i < 3; i++) {
        struct mtls_path_spec s = spec(locals[i], devs[i]);

        script.truncated = i == 0;
        assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), 0);
        server.client.port = 0;
        mtls_addr_format(&server.client, text, sizeof(text));
        assert_string_equal(text, seen[i]);
    }
    assert_int_equal(server.tcp_questions, 1); /* local= asks for its own family alone */
}

/* An answer that would lead back into this machine, or to everyone, is none. */
static void test_inadmissible_answers(void **state)
{
    static const char *const bad4[] = {"127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255"};
    static const char *const bad6[] = {"::1", "::", "ff02::1"};
    struct mtls_path_spec s = spec(NULL, "v1");

    for (size_t i = 0; i < 4; i++) {
        script.a[0] = bad4[i];
        assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    }
    script.a[0] = NULL;
    for (size_t i = 0; i < 3; i++) {
        script.aaaa[0] = bad6[i];
        assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
    }
    script.aaaa[1] = "2001:db8:9::1";
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), 0);
    assert_int_equal(result.n, 1);
}

/* The family that path 2 has a route for comes first. */
static void test_order_by_route(void **state)
{
    struct mtls_path_spec s = spec(NULL, "v1");

    script.a[0] = "203.0.113.1";
    script.aaaa[0] = "2001:db8:9::1";
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), 0);
    assert_result(0, "2001:db8:9::1");
    netns_sh("ip -6 route del default dev v1");
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), 0);
    assert_int_equal(result.n, 2);
    assert_result(0, "203.0.113.1");
    netns_sh("ip -6 route add default via 2001:db8:2::1 dev v1 metric 200");
}

/* The whole way: a link whose state names its resolver, which listens on the port of DNS. */
static void test_link_resolver_used(void **state)
{
    struct mtls_path_spec s = spec(NULL, "v1");
    struct mtls_device d;
    int v1;
    char dev[MTLS_IF_MAX + 1];

    assert_int_equal(
        mtls_device_of_address(&(struct mtls_addr){.family = 4, .ip = {10, 2, 0, 2}}, dev, &v1), 0);
    assert_int_equal(mtls_device_get(v1, &d), 0);
    netns_sh("mkdir -p /run/systemd/netif/links && printf 'DNS=127.0.0.53 203.0.113.1\\n' > "
             "/run/systemd/netif/links/%d",
             v1);
    memset(&s.resolver, 0, sizeof(s.resolver));
    script.a[0] = "203.0.113.1";
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), 0);
    assert_int_equal(server.client.ip[1], 2); /* 10.2.0.2 */
    strcpy(s.dev, "v0");
    assert_int_equal(look_up(&s, "server.example", PATIENCE_MS), MTLS_ERR_PATH_RESOLVE);
}

static int server_there_53(void **state)
{
    netns_go_there();
    server_open("203.0.113.1", "10.2.0.1", 53);
    netns_go_here();
    return 0;
}

/* ---- Allocation failures ---- */

static int scenario(void *arg)
{
    struct mtls_path_spec s = on_lo();
    struct mtls_resolve *q;
    int err = new_lookup(&q, &s, "sweep.example", PATIENCE_MS);

    assert_true((err == 0) == (q != NULL));
    if (err == 0)
        drop(q);
    return err;
}

static void test_out_of_memory(void **state)
{
    assert_true(alloc_sweep(ALLOC_OURS, scenario, NULL) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define LOCAL(f) cmocka_unit_test_setup_teardown(f, server_local, server_close)
#define THERE(f) cmocka_unit_test_setup_teardown(f, server_there, server_close)
        LOCAL(test_families),
        LOCAL(test_many),
        LOCAL(test_negative),
        LOCAL(test_silence),
        LOCAL(test_refused),
        LOCAL(test_alias),
        LOCAL(test_tcp),
        LOCAL(test_forged),
        LOCAL(test_cut),
        LOCAL(test_cancel),
        LOCAL(test_forget),
        LOCAL(test_limit),
        LOCAL(test_absolute),
        LOCAL(test_bad_names),
        LOCAL(test_resolver_inadmissible),
        LOCAL(test_bind_fails),
        THERE(test_over_path2),
        THERE(test_inadmissible_answers),
        THERE(test_order_by_route),
        cmocka_unit_test_setup_teardown(test_link_resolver_used, server_there_53, server_close),
        LOCAL(test_out_of_memory),
    };
    int err;

    netns_setup();
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", "/run", "tmpfs", 0, NULL) != 0)
        netns_die("a /run of the test's own");
    mtls_engine_lock();
    reactor = mtls_reactor_get();
    err = reactor != NULL ? mtls_reactor_start(reactor, true) : MTLS_ERR_NOMEM;
    mtls_engine_unlock();
    return err != 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
