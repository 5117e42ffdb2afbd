/* The facts of a path, against the kernel's own routing in a network of the test's own [PATH-6]. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mtls/net/netlink.h"
#include "mtls/net/path2_socket.h"
#include "mtls/net/reactor.h"
#include "mtls/net/route.h"
#include "netns.h"

static struct mtls_addr addr(const char *text, uint16_t port)
{
    struct mtls_host h;

    assert_int_equal(mtls_host_parse(&h, text), 0);
    h.addr.port = port;
    return h.addr;
}

static void assert_addr(const struct mtls_addr *a, const char *text)
{
    char buf[64];
    struct mtls_addr ip = *a;

    ip.port = 0;
    mtls_addr_format(&ip, buf, sizeof(buf));
    assert_string_equal(buf, text);
}

static int there_fd, there6_fd, here_fd, here6_fd;
static struct mtls_addr there, there6, here, here6;

static int listeners_open(void **state)
{
    struct mtls_addr a = addr("203.0.113.1", 0), b = addr("2001:db8:9::1", 0),
                     c = addr("127.0.0.1", 0), d = addr("::1", 0);

    netns_go_there();
    assert_int_equal(mtls_path2_listen(&a, &there_fd, &there), 0);
    assert_int_equal(mtls_path2_listen(&b, &there6_fd, &there6), 0);
    netns_go_here();
    assert_int_equal(mtls_path2_listen(&c, &here_fd, &here), 0);
    return mtls_path2_listen(&d, &here6_fd, &here6);
}

static int listeners_close(void **state)
{
    close(there_fd);
    close(there6_fd);
    close(here_fd);
    close(here6_fd);
    return 0;
}

struct how {
    const char *local, *dev;
    int protocol;
    bool mapped;
    int mark;
};

static void how_apply(int fd, const struct how *h)
{
    struct sockaddr_storage ss;
    struct mtls_addr local;
    socklen_t len;

    if (h->dev != NULL)
        assert_int_equal(
            setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, h->dev, (socklen_t)strlen(h->dev)), 0);
    if (h->mark != 0)
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_MARK, &h->mark, sizeof(h->mark)), 0);
    if (h->local != NULL) {
        local = addr(h->local, 0);
        mtls_addr_to_sockaddr(&local, &ss, &len);
        assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
    }
}

/* A connected socket, made without our own path2_socket. */
static int connected(const struct mtls_addr *dst, struct how h)
{
    int family = dst->family == 6 || h.mapped ? AF_INET6 : AF_INET, fd;
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(dst->port)};
    struct sockaddr_storage ss;
    socklen_t len;

    fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, h.protocol);
    assert_true(fd >= 0);
    how_apply(fd, &h);
    mtls_addr_to_sockaddr(dst, &ss, &len);
    if (h.mapped) {
        mapped.sin6_addr.s6_addr[10] = mapped.sin6_addr.s6_addr[11] = 0xff;
        memcpy(mapped.sin6_addr.s6_addr + 12, dst->ip, 4);
        memcpy(&ss, &mapped, len = sizeof(mapped));
    }
    if (connect(fd, (struct sockaddr *)&ss, len) != 0)
        fail_msg("connect: %s", strerror(errno));
    return fd;
}

static struct mtls_path_facts facts_of(int fd)
{
    struct mtls_path_facts f = {0};

    assert_int_equal(mtls_route_of_socket(fd, &f), 0);
    assert_true(f.known);
    return f;
}

static void check(const struct mtls_addr *dst, struct how h, const char *dev, const char *gateway)
{
    int fd = connected(dst, h);
    struct mtls_path_facts f = facts_of(fd);

    assert_string_equal(f.dev, dev);
    assert_int_equal(f.ifindex, if_nametoindex(dev));
    assert_memory_equal(&f.remote, dst, sizeof(*dst));
    assert_true(f.local.port != 0);
    assert_addr(&f.gateway, gateway);
    close(fd);
}

static void test_default_route(void **state)
{
    static const uint8_t p0[6] = {2, 0, 0, 0, 1, 1};
    int fd = connected(&there, (struct how){0});
    struct mtls_path_facts f = {.tunnel = true, .proxied = true, .resolver = {.family = 4}};

    assert_int_equal(mtls_route_of_socket(fd, &f), 0);
    close(fd);
    assert_true(f.known && !f.loopback && f.lladdr_known);
    assert_true(f.tunnel && f.proxied && f.resolver.family == 4); /* the caller's */
    assert_string_equal(f.dev, "v0");
    assert_addr(&f.local, "10.1.0.2");
    assert_addr(&f.gateway, "10.1.0.1");
    assert_int_equal(f.lladdr_len, 6);
    assert_memory_equal(f.lladdr, p0, 6);
    check(&there6, (struct how){0}, "v0", "2001:db8:1::1");
    check(&there, (struct how){.protocol = IPPROTO_MPTCP}, "v0", "10.1.0.1");
    check(&there, (struct how){.mapped = true}, "v0", "10.1.0.1");
}

/* The device that the socket is bound to wins; its next hop is that device's. */
static void test_bound(void **state)
{
    static const uint8_t p1[6] = {2, 0, 0, 0, 2, 1};
    int fd = connected(&there, (struct how){.dev = "v1"});
    struct mtls_path_facts f = facts_of(fd);

    close(fd);
    assert_string_equal(f.dev, "v1");
    assert_true(f.lladdr_known);
    assert_memory_equal(f.lladdr, p1, 6);
    check(&there, (struct how){.dev = "v1"}, "v1", "10.2.0.1");
    check(&there, (struct how){.dev = "v1", .local = "10.2.0.2"}, "v1", "10.2.0.1");
    check(&there6, (struct how){.dev = "v1"}, "v1", "2001:db8:2::1");
    check(&there6, (struct how){.dev = "v1", .local = "2001:db8:2::2"}, "v1", "2001:db8:2::1");
    check(&there, (struct how){.dev = "v1", .mapped = true}, "v1", "10.2.0.1");
    check(&there, (struct how){.dev = "v1", .protocol = IPPROTO_MPTCP}, "v1", "10.2.0.1");
}

/* A source address says nothing about the egress device. */
static void test_source_is_no_evidence(void **state)
{
    check(&there, (struct how){.local = "10.2.0.2"}, "v0", "10.1.0.1");
    check(&there6, (struct how){.local = "2001:db8:2::2"}, "v0", "2001:db8:1::1");
}

/* Routing by mark, by the socket's owner and by port is seen, each beside its twin. */
static void test_rules(void **state)
{
    netns_sh("ip route add default via 10.2.0.1 dev v1 table 70");
    netns_sh("ip -6 route add default via 2001:db8:2::1 dev v1 table 70");
    netns_sh("ip rule add fwmark 7 table 70 && ip -6 rule add fwmark 7 table 70");
    check(&there, (struct how){.mark = 7}, "v1", "10.2.0.1");
    check(&there, (struct how){.mark = 8}, "v0", "10.1.0.1");
    check(&there6, (struct how){.mark = 7}, "v1", "2001:db8:2::1");
    check(&there6, (struct how){.mark = 8}, "v0", "2001:db8:1::1");
    netns_sh("ip rule del fwmark 7 && ip -6 rule del fwmark 7");

    netns_sh("ip rule add uidrange 0-0 table 70");
    check(&there, (struct how){0}, "v1", "10.2.0.1");
    netns_sh("ip rule del uidrange 0-0 && ip rule add uidrange 12345-12345 table 70");
    check(&there, (struct how){0}, "v0", "10.1.0.1");
    netns_sh("ip rule del uidrange 12345-12345");

    netns_sh("ip rule add ipproto 6 dport %u table 70", there.port);
    check(&there, (struct how){0}, "v1", "10.2.0.1");
    netns_sh("ip rule del ipproto 6 dport %u && ip rule add ipproto tcp dport %u table 70",
             there.port, (unsigned)(uint16_t)(there.port ^ 1));
    check(&there, (struct how){0}, "v0", "10.1.0.1");
    netns_sh("ip rule del ipproto 6 dport %u", (unsigned)(uint16_t)(there.port ^ 1));
    netns_sh("ip route flush table 70 && ip -6 route flush table 70");
}

/* A host route that is pushed later moves the unbound socket and is seen at the decision; the bound
 * one stays. */
static void test_pushed_route(void **state)
{
    int loose = connected(&there, (struct how){0}),
        bound = connected(&there, (struct how){.dev = "v0"});
    struct mtls_path_facts f;

    netns_sh("ip route add 203.0.113.1/32 via 10.2.0.1 dev v1");
    f = facts_of(loose);
    assert_string_equal(f.dev, "v1");
    f = facts_of(bound);
    assert_string_equal(f.dev, "v0");
    netns_sh("ip route del 203.0.113.1/32");
    f = facts_of(loose);
    assert_string_equal(f.dev, "v0");
    netns_sh("ip route add unreachable 203.0.113.1/32");
    assert_int_equal(mtls_route_of_socket(loose, &f), MTLS_ERR_IO);
    assert_false(f.known);
    f = facts_of(bound); /* known by its device alone */
    assert_string_equal(f.dev, "v0");
    netns_sh("ip route del unreachable 203.0.113.1/32");
    close(loose);
    close(bound);
}

/* What a handshake asks at its decision: a route that changed since is seen, and only then the
 * device and the neighbour are looked at anew. */
static void test_again(void **state)
{
    int loose = connected(&there, (struct how){0}),
        bound = connected(&there, (struct how){.dev = "v0"});
    struct mtls_path_facts f = facts_of(loose), b = facts_of(bound), other = facts_of(bound);

    f.lower = -7; /* a mark: it stays where nothing is read anew */
    assert_int_equal(mtls_route_again(loose, &f), 0);
    assert_true(f.known && f.lower == -7);
    netns_sh("ip route add 203.0.113.1/32 via 10.2.0.1 dev v1");
    assert_int_equal(mtls_route_again(loose, &f), 0);
    assert_string_equal(f.dev, "v1");
    assert_addr(&f.gateway, "10.2.0.1");
    assert_int_equal(f.lower, 0);
    assert_int_equal(mtls_route_again(bound, &b), 0);
    assert_string_equal(b.dev, "v0");
    netns_sh("ip route replace 203.0.113.1/32 via 10.1.0.1 dev v0");
    assert_int_equal(mtls_route_again(loose, &f), 0);
    assert_string_equal(f.dev, "v0");
    netns_sh("ip route replace unreachable 203.0.113.1/32");
    assert_int_equal(mtls_route_again(loose, &f), MTLS_ERR_IO);
    assert_false(f.known);
    netns_sh("ip route del unreachable 203.0.113.1/32");
    assert_int_equal(mtls_route_again(loose, &f), 0); /* not known: read as for the first time */
    assert_true(f.known && f.lower == 0);
    other.lower = -7; /* another socket's: its address differs */
    assert_int_equal(mtls_route_again(loose, &other), 0);
    assert_int_equal(other.lower, 0);
    close(loose);
    assert_int_equal(mtls_route_again(loose, &f), MTLS_ERR_PATH_UNKNOWN);
    assert_false(f.known);
    close(bound);
}

/* What a handshake asks before its ClientHello: the ends alone, none of the route. */
static void test_ends(void **state)
{
    int fd = connected(&there, (struct how){.dev = "v0"});
    struct mtls_path_facts f = facts_of(fd), ends;

    memset(&ends, 0x55, sizeof(ends));
    ends.known = true;
    assert_int_equal(mtls_route_ends(fd, &ends), 0); /* facts_of() has had an answer */
    assert_memory_equal(&ends.local, &f.local, sizeof(f.local));
    assert_memory_equal(&ends.remote, &f.remote, sizeof(f.remote));
    assert_true(!ends.known && ends.ifindex == 0 && !ends.lladdr_known);
    assert_int_equal(mtls_route_again(fd, &ends), 0); /* then all of it */
    assert_true(ends.known && ends.ifindex == f.ifindex);
    close(fd);
    assert_int_equal(mtls_route_ends(fd, &ends), MTLS_ERR_PATH_UNKNOWN);
    assert_true(!ends.known && ends.remote.family == 0);
}

/* Before the kernel has answered once, nobody knows that it will. */
static void test_ends_first(void **state)
{
    int status = -1, fd = connected(&there, (struct how){.dev = "v0"});
    pid_t child;

    if (mtls_nl_answered())
        fail_msg("this test must be the first");
    child = fork();
    if (child == 0) {
        struct mtls_path_facts f;
        bool right = mtls_route_ends(fd, &f) == MTLS_ERR_IO && !f.known && f.remote.family == 0 &&
                     mtls_route_of_socket(fd, &f) == 0 && mtls_route_ends(fd, &f) == 0;

        _exit(right ? 0 : 1);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(fd);
}

static void test_via_other_family(void **state)
{
    struct mtls_path_facts f = {0};
    struct mtls_addr dst = addr("198.51.100.7", 0);

    netns_sh("ip route add 198.51.100.0/24 via inet6 2001:db8:2::1 dev v1");
    assert_int_equal(mtls_route_to(&dst, &f), 0);
    assert_string_equal(f.dev, "v1");
    assert_addr(&f.gateway, "2001:db8:2::1");
    netns_sh("ip route del 198.51.100.0/24");
}

static void test_loopback(void **state)
{
    struct mtls_path_facts f;
    int fd = connected(&here, (struct how){0});

    f = facts_of(fd);
    close(fd);
    assert_true(f.loopback && !f.lladdr_known && f.gateway.family == 0);
    assert_string_equal(f.dev, "lo");
    fd = connected(&here6, (struct how){.dev = "lo"});
    f = facts_of(fd);
    close(fd);
    assert_true(f.loopback);
    assert_true(mtls_device_is_loopback("lo"));
    assert_false(mtls_device_is_loopback("v0"));
    assert_false(mtls_device_is_loopback("nodev"));
    assert_false(mtls_device_is_loopback(""));
    assert_false(mtls_device_is_loopback("a-name-too-long-for-a-device"));
    assert_false(mtls_device_is_loopback(NULL));
}

static void assert_unknown(int fd)
{
    struct mtls_path_facts f;

    memset(&f, 0x55, sizeof(f));
    f.known = true;
    assert_int_equal(mtls_route_of_socket(fd, &f), MTLS_ERR_PATH_UNKNOWN);
    assert_false(f.known);
    assert_int_equal(f.ifindex, 0);
    assert_int_equal(f.lladdr_len, 0);
}

static void test_not_a_connection(void **state)
{
    struct sockaddr_storage ss;
    socklen_t len;
    int pair[2], udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0),
                 tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    mtls_addr_to_sockaddr(&here, &ss, &len);
    assert_int_equal(connect(udp, (struct sockaddr *)&ss, len), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_unknown(-1);
    assert_unknown(udp);
    assert_unknown(tcp);
    assert_unknown(here_fd);
    assert_unknown(pair[0]);
    close(pair[0]);
    close(pair[1]);
    close(udp);
    close(tcp);
}

static void test_route_to(void **state)
{
    struct mtls_path_facts f = {0};
    struct mtls_addr none = {0}, far = addr("198.51.100.7", 0);

    assert_int_equal(mtls_route_to(&there, &f), 0);
    assert_true(f.known);
    assert_string_equal(f.dev, "v0");
    assert_addr(&f.local, "10.1.0.2");
    assert_int_equal(mtls_route_to(&there6, &f), 0);
    assert_addr(&f.local, "2001:db8:1::2");
    assert_int_equal(mtls_route_to(&none, &f), MTLS_ERR_PATH_UNKNOWN);
    assert_false(f.known);
    netns_sh("ip route add blackhole 198.51.100.0/24");
    assert_int_equal(mtls_route_to(&far, &f), MTLS_ERR_IO);
    assert_false(f.known);
    netns_sh("ip route del blackhole 198.51.100.0/24");
}

static void test_route_via(void **state)
{
    struct mtls_path_facts f = {0};
    int v0 = (int)if_nametoindex("v0"), v1 = (int)if_nametoindex("v1"),
        lo = (int)if_nametoindex("lo");
    struct mtls_addr none = {0}, own = addr("10.2.0.2", 0), foreign = addr("10.2.0.9", 0);

    assert_int_equal(mtls_route_via(&there, v1, NULL, &f), 0);
    assert_true(f.known);
    assert_string_equal(f.dev, "v1");
    assert_addr(&f.local, "10.2.0.2");
    assert_addr(&f.gateway, "10.2.0.1");
    assert_int_equal(mtls_route_via(&there6, v1, NULL, &f), 0);
    assert_addr(&f.local, "2001:db8:2::2");
    assert_int_equal(mtls_route_via(&there, v0, NULL, &f), 0);
    assert_int_equal(mtls_route_via(&there, lo, NULL, &f), MTLS_ERR_PATH_UNREACHABLE);
    assert_false(f.known);
    netns_sh("ip route del default dev v1 && ip -6 route del default dev v1");
    assert_int_equal(mtls_route_via(&there, v1, NULL, &f), MTLS_ERR_PATH_UNREACHABLE);
    assert_int_equal(mtls_route_via(&there6, v1, NULL, &f), MTLS_ERR_PATH_UNREACHABLE);
    /* A rule for the device's own address, as hosts with two providers have. */
    netns_sh("ip route add default via 10.2.0.1 dev v1 table 71");
    netns_sh("ip rule add from 10.2.0.2 table 71");
    assert_int_equal(mtls_route_via(&there, v1, NULL, &f), MTLS_ERR_PATH_UNREACHABLE);
    assert_int_equal(mtls_route_via(&there, v1, &own, &f), 0);
    assert_addr(&f.gateway, "10.2.0.1");
    assert_int_equal(mtls_route_via(&there, v1, &foreign, &f), MTLS_ERR_PATH_UNREACHABLE);
    netns_sh("ip rule del from 10.2.0.2 table 71 && ip route flush table 71");
    netns_sh("ip route add default via 10.2.0.1 dev v1 metric 200");
    netns_sh("ip -6 route add default via 2001:db8:2::1 dev v1 metric 200");
    assert_int_equal(mtls_route_via(&there, 0, NULL, &f), MTLS_ERR_PATH_UNKNOWN);
    assert_int_equal(mtls_route_via(&none, v1, NULL, &f), MTLS_ERR_PATH_UNKNOWN);
    assert_int_equal(mtls_route_via(&there, 99999, NULL, &f), MTLS_ERR_PATH_UNREACHABLE);
}

static void test_owner(void **state)
{
    static const struct {
        const char *ip, *dev;
    } cases[] = {{"10.1.0.2", "v0"},
                 {"2001:db8:2::2", "v1"},
                 {"127.0.0.1", "lo"},
                 {"127.8.9.10", "lo"},
                 {"::1", "lo"}};
    char dev[MTLS_IF_MAX + 1];
    int ifindex;
    struct mtls_addr a, none = {0};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        a = addr(cases[i].ip, 443);
        assert_int_equal(mtls_device_of_address(&a, dev, &ifindex), 0);
        assert_string_equal(dev, cases[i].dev);
        assert_int_equal(ifindex, if_nametoindex(dev));
        assert_true(mtls_device_owns_address(cases[i].dev, &a));
        assert_false(mtls_device_owns_address(strcmp(cases[i].dev, "v0") == 0 ? "v1" : "v0", &a));
        assert_false(mtls_device_owns_address("", &a));
    }
    a = addr("10.1.0.1", 0); /* the neighbour's */
    assert_int_equal(mtls_device_of_address(&a, dev, &ifindex), MTLS_ERR_PATH_BIND);
    a = addr("2001:db8:1::1", 0);
    assert_int_equal(mtls_device_of_address(&a, dev, &ifindex), MTLS_ERR_PATH_BIND);
    assert_int_equal(mtls_device_of_address(&none, dev, &ifindex), MTLS_ERR_PATH_BIND);
}

static bool is_multi(int fd)
{
    struct mtls_path_facts f = {0};

    assert_int_equal(mtls_route_of_socket(fd, &f), 0);
    return f.multi;
}

/* [PATH-13] MPTCP: one subflow is one path, several are none that is known. */
static void test_subflows(void **state)
{
    struct sockaddr_in sin = {.sin_family = AF_INET};
    struct sockaddr_storage ss;
    socklen_t len = sizeof(sin);
    struct mtls_addr to;
    int lfd, fd, peer, i;

    netns_go_there();
    netns_sh("ip mptcp limits set subflow 2 add_addr_accepted 2");
    lfd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
    assert_true(lfd >= 0);
    assert_int_equal(inet_pton(AF_INET, "203.0.113.1", &sin.sin_addr), 1);
    assert_int_equal(bind(lfd, (struct sockaddr *)&sin, sizeof(sin)), 0);
    assert_int_equal(listen(lfd, 4), 0);
    assert_int_equal(getsockname(lfd, (struct sockaddr *)&sin, &len), 0);
    netns_go_here();
    assert_int_equal(mtls_addr_from_sockaddr(&to, (struct sockaddr *)&sin, len), 0);
    mtls_addr_to_sockaddr(&to, &ss, &len);
    for (int several = 0; several < 2; several++) {
        if (several)
            netns_sh("ip mptcp limits set subflow 2 && "
                     "ip mptcp endpoint add 10.2.0.2 dev v1 subflow");
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
        assert_int_equal(connect(fd, (struct sockaddr *)&ss, len), 0);
        peer = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);
        assert_true(peer >= 0);
        assert_int_equal(send(peer, "x", 1, 0), 1);
        assert_int_equal(send(fd, "x", 1, 0), 1);
        if (!several)
            assert_false(is_multi(fd));
        if (several) { /* v0 and v1, and the device that the table would send the second by */
            struct mtls_path_facts f = {0}, v1;

            /* A subflow that is just coming may be seen, and then not for a moment. */
            for (i = 0; i < 1000 && !(f.multi && f.ndevices == 2); i++) {
                (void)!poll(NULL, 0, i > 0 ? 10 : 0);
                assert_int_equal(mtls_route_of_socket(fd, &f), 0);
            }
            assert_int_equal(f.ndevices, 2);
            assert_int_not_equal(f.devices[0].ifindex, f.devices[1].ifindex);
            memset(&v1, 0, sizeof(v1));
            v1.known = true;
            for (i = 0; i < 2; i++) {
                v1.ifindex = f.devices[i].ifindex;
                assert_int_equal(mtls_paths_scope(&f, &v1) & MTLS_DISTINCT_CLIENT, 0);
            }
            v1.ifindex = 9999; /* neither */
            assert_int_equal(mtls_paths_scope(&f, &v1) & MTLS_DISTINCT_CLIENT,
                             MTLS_DISTINCT_CLIENT);
        }
        close(fd);
        close(peer);
    }
    netns_sh("ip mptcp endpoint flush");
    close(lfd);
}

static void test_sockaddr(void **state)
{
    static const char *const texts[] = {"192.0.2.1", "2001:db8::1"};
    struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_port = htons(5)};
    struct sockaddr_storage ss;
    struct mtls_addr a, back;
    socklen_t len;

    for (int i = 0; i < 2; i++) {
        a = addr(texts[i], 65535);
        mtls_addr_to_sockaddr(&a, &ss, &len);
        assert_int_equal(mtls_addr_from_sockaddr(&back, (struct sockaddr *)&ss, len), 0);
        assert_memory_equal(&a, &back, sizeof(a));
        assert_int_equal(mtls_addr_from_sockaddr(&back, (struct sockaddr *)&ss, len - 1),
                         MTLS_ERR_ARG);
        assert_int_equal(mtls_addr_from_sockaddr(&back, (struct sockaddr *)&ss, 0), MTLS_ERR_ARG);
    }
    inet_pton(AF_INET6, "::ffff:192.0.2.1", &mapped.sin6_addr);
    assert_int_equal(mtls_addr_from_sockaddr(&back, (struct sockaddr *)&mapped, sizeof(mapped)), 0);
    assert_addr(&back, "192.0.2.1");
    assert_int_equal(back.port, 5);
    mapped.sin6_family = AF_UNIX;
    assert_int_equal(mtls_addr_from_sockaddr(&back, (struct sockaddr *)&mapped, sizeof(mapped)),
                     MTLS_ERR_ARG);
    memset(&a, 0, sizeof(a));
    mtls_addr_to_sockaddr(&a, &ss, &len);
    assert_int_equal(len, 0);
    assert_int_equal(ss.ss_family, AF_UNSPEC);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends_first),
        cmocka_unit_test(test_default_route),
        cmocka_unit_test(test_bound),
        cmocka_unit_test(test_source_is_no_evidence),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_pushed_route),
        cmocka_unit_test(test_again),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_via_other_family),
        cmocka_unit_test(test_loopback),
        cmocka_unit_test(test_not_a_connection),
        cmocka_unit_test(test_route_to),
        cmocka_unit_test(test_route_via),
        cmocka_unit_test(test_owner),
        cmocka_unit_test(test_subflows),
        cmocka_unit_test(test_sockaddr),
    };

    netns_setup();
    return cmocka_run_group_tests(tests, listeners_open, listeners_close);
}
