/* The sockets of path 2, in a network of the test's own: binding, plain and Fast Open connects,
 * listeners. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "mtls/net/path2_socket.h"
#include "mtls/net/route.h"
#include "netns.h"

static struct mtls_addr addr(const char *text, uint16_t port)
{
    struct mtls_host h;

    assert_int_equal(mtls_host_parse(&h, text), 0);
    h.addr.port = port;
    return h.addr;
}

static struct mtls_path_spec spec(const char *local, const char *dev)
{
    struct mtls_path_spec s = {0};

    if (local != NULL)
        s.local = addr(local, 0);
    if (dev != NULL)
        strcpy(s.dev, dev);
    return s;
}

static int opt(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);

    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void assert_device(int fd, const char *dev)
{
    char name[IFNAMSIZ + 1] = "";
    socklen_t len = IFNAMSIZ;

    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, &len), 0);
    assert_string_equal(name, dev);
}

/* A listener here or there, on a port of the kernel's choice. */
static int listener(bool there, const char *ip, struct mtls_addr *bound)
{
    struct mtls_addr a = addr(ip, 0);
    int fd;

    if (there)
        netns_go_there();
    assert_int_equal(mtls_path2_listen(&a, &fd, bound), 0);
    if (there)
        netns_go_here();
    assert_true(bound->port != 0);
    return fd;
}

static int wait_connected(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    assert_int_equal(poll(&p, 1, 10000), 1);
    return mtls_path2_connected(fd);
}

static int open_to(const struct mtls_path_spec *s, const struct mtls_addr *dst)
{
    int fd = -1;

    assert_int_equal(mtls_path2_socket(s, dst, &fd), 0);
    assert_true(fd >= 0);
    return fd;
}

/* Connects to dst with "hello" offered to the SYN; the result of the whole connect. */
static int try_connect(const struct mtls_path_spec *s, const struct mtls_addr *dst, bool tfo,
                       size_t *sent, int *out)
{
    int fd = open_to(s, dst), err;

    *sent = 99;
    err = mtls_path2_connect(fd, dst, tfo, (const uint8_t *)"hello", 5, sent);
    if (err == 0)
        err = wait_connected(fd);
    if (err == 0 && out != NULL)
        *out = fd;
    else
        close(fd);
    return err;
}

/* What a socket of ours must have, whatever it is bound to. */
static void test_socket_plain(void **state)
{
    struct mtls_path_spec none = spec(NULL, NULL);
    struct mtls_addr dst = addr("127.0.0.1", 1), empty = {0};
    int fd = open_to(&none, &dst);

    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(opt(fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(opt(fd, SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
    assert_device(fd, "");
    close(fd);
    assert_int_equal(mtls_path2_socket(&none, &empty, &fd), MTLS_ERR_ARG);
    assert_int_equal(fd, -1);
}

/* [PATH-6] local= binds the address and the device that owns it. */
static void test_socket_local(void **state)
{
    static const struct {
        const char *local, *dst, *dev;
    } cases[] = {{"10.2.0.2", "203.0.113.1", "v1"}, {"2001:db8:2::2", "2001:db8:9::1", "v1"},
                 {"10.1.0.2", "203.0.113.1", "v0"}, {"127.0.0.1", "127.0.0.1", "lo"},
                 {"127.0.0.77", "127.0.0.1", "lo"}, {"::1", "::1", "lo"}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mtls_path_spec s = spec(cases[i].local, NULL);
        struct mtls_addr dst = addr(cases[i].dst, 1), bound;
        struct sockaddr_storage ss;
        socklen_t len = sizeof(ss);
        int fd = open_to(&s, &dst);

        assert_device(fd, cases[i].dev);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&ss, &len), 0);
        assert_int_equal(mtls_addr_from_sockaddr(&bound, (struct sockaddr *)&ss, len), 0);
        assert_memory_equal(bound.ip, s.local.ip, 16);
        close(fd);
    }
}

static void test_socket_device(void **state)
{
    struct mtls_path_spec s = spec(NULL, "v1"), both = spec("10.2.0.2", "v1");
    struct mtls_addr dst = addr("203.0.113.1", 1);
    int fd = open_to(&s, &dst);

    assert_device(fd, "v1");
    close(fd);
    fd = open_to(&both, &dst);
    assert_device(fd, "v1");
    close(fd);
}

static void test_socket_refused(void **state)
{
    struct mtls_addr v4 = addr("203.0.113.1", 1), v6 = addr("2001:db8:9::1", 1);
    struct {
        struct mtls_path_spec spec;
        const struct mtls_addr *dst;
    } cases[] = {{spec("192.0.2.99", NULL), &v4}, /* nobody's address */
                 {spec(NULL, "nodev"), &v4},      /* no such device */
                 {spec("10.1.0.2", "v1"), &v4},   /* v0's address on v1 */
                 {spec("10.1.0.2", NULL), &v6},   /* of another family than the destination */
                 {spec("2001:db8:1::2", NULL), &v4}, {spec("10.1.0.2", "nodev"), &v4}};
    int fd;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fd = 7;
        assert_int_equal(mtls_path2_socket(&cases[i].spec, cases[i].dst, &fd), MTLS_ERR_PATH_BIND);
        assert_int_equal(fd, -1);
    }
}

/* One address on two devices: dev= says which. */
static void test_socket_shared_address(void **state)
{
    struct mtls_addr dst = addr("203.0.113.1", 1);
    struct mtls_path_spec first = spec("10.9.9.9", "v0"), second = spec("10.9.9.9", "v1");
    int fd;

    netns_sh("ip addr add 10.9.9.9/32 dev v0 && ip addr add 10.9.9.9/32 dev v1");
    fd = open_to(&first, &dst);
    assert_device(fd, "v0");
    close(fd);
    fd = open_to(&second, &dst);
    assert_device(fd, "v1");
    close(fd);
    netns_sh("ip addr del 10.9.9.9/32 dev v0 && ip addr del 10.9.9.9/32 dev v1");
}

/* A program without rights may bind to a device, too. */
static void test_socket_unprivileged(void **state)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};
    struct mtls_path_spec s = spec("10.2.0.2", NULL);
    struct mtls_addr dst = addr("203.0.113.1", 1);
    int status, fd;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        if (syscall(SYS_capset, &head, data) != 0)
            _exit(2);
        _exit(mtls_path2_socket(&s, &dst, &fd) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_connect(void **state)
{
    static const struct {
        bool there;
        const char *ip, *local;
    } cases[] = {{false, "127.0.0.1", NULL},        {false, "::1", NULL},
                 {false, "127.0.0.1", "127.0.0.2"}, {true, "203.0.113.1", NULL},
                 {true, "203.0.113.1", "10.2.0.2"}, {true, "2001:db8:9::1", "2001:db8:2::2"}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mtls_path_spec s = spec(cases[i].local, NULL);
        struct mtls_addr bound;
        size_t sent;
        int fd, lfd = listener(cases[i].there, cases[i].ip, &bound), afd;

        assert_int_equal(try_connect(&s, &bound, false, &sent, &fd), 0);
        assert_int_equal(sent, 0);
        afd = accept(lfd, NULL, NULL);
        assert_true(afd >= 0);
        assert_int_equal(opt(afd, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_true(mtls_path2_rtt_us(fd) > 0);
        close(afd);
        close(fd);
        close(lfd);
    }
    assert_int_equal(mtls_path2_rtt_us(-1), 0);
}

/* A port that is bound but does not listen is refused; with Fast Open just the same. */
static void test_connect_refused(void **state)
{
    struct mtls_path_spec none = spec(NULL, NULL), bound_spec = spec("10.2.0.2", NULL);
    struct mtls_addr bound, there;
    int lfd = listener(false, "127.0.0.1", &bound), tfd = listener(true, "203.0.113.1", &there);
    size_t sent;

    close(lfd);
    close(tfd);
    for (int tfo = 0; tfo < 2; tfo++) {
        assert_int_equal(try_connect(&none, &bound, tfo, &sent, NULL), MTLS_ERR_PATH_REFUSED);
        assert_int_equal(try_connect(&bound_spec, &there, tfo, &sent, NULL), MTLS_ERR_PATH_REFUSED);
    }
}

/* Waits for the SYN to dst on a packet socket and answers it with an ICMP error. */
static void answer_with_icmp(int packets, int icmp, const struct mtls_addr *dst, uint8_t type,
                             uint8_t code)
{
    struct pollfd p = {.fd = packets, .events = POLLIN};
    uint8_t syn[256], reply[8 + 28] = {type, code};
    struct sockaddr_in to = {.sin_family = AF_INET};
    uint32_t sum = 0;

    do {
        assert_int_equal(poll(&p, 1, 10000), 1);
        assert_true(recv(packets, syn, sizeof(syn), 0) >= 28);
    } while (syn[0] != 0x45 || syn[9] != IPPROTO_TCP || memcmp(syn + 16, dst->ip, 4) != 0);
    memcpy(reply + 8, syn, 28);
    for (size_t i = 0; i < sizeof(reply); i += 2)
        sum += (uint32_t)(reply[i] << 8 | reply[i + 1]);
    sum = ~((sum >> 16) + (sum & 0xffff) + (((sum >> 16) + (sum & 0xffff)) >> 16));
    reply[2] = (uint8_t)(sum >> 8);
    reply[3] = (uint8_t)sum;
    memcpy(&to.sin_addr, syn + 12, 4);
    assert_int_equal(sendto(icmp, reply, sizeof(reply), 0, (struct sockaddr *)&to, sizeof(to)),
                     sizeof(reply));
}

/* [DWN-4] The kernel reports "connection refused" for port unreachable, and errors of their own for
 * others; none is a refusal by the server. */
static void test_connect_icmp(void **state)
{
    struct mtls_path_spec none = spec(NULL, NULL);
    struct mtls_addr dst = addr("203.0.113.99", 443);
    static const uint8_t errors[][2] = {{3, 2}, {3, 3}, {3, 5}, {3, 8}, {12, 0}};
    int packets, icmp, fd;
    size_t sent;

    netns_go_there();
    netns_sh("ip route add blackhole 203.0.113.99");
    packets = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_IP));
    icmp = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP);
    netns_go_here();
    assert_true(packets >= 0 && icmp >= 0);
    for (size_t i = 0; i < 2 * sizeof(errors) / sizeof(*errors); i++) {
        fd = open_to(&none, &dst);
        assert_int_equal(
            mtls_path2_connect(fd, &dst, i % 2 != 0, (const uint8_t *)"hello", 5, &sent), 0);
        answer_with_icmp(packets, icmp, &dst, errors[i / 2][0], errors[i / 2][1]);
        assert_int_equal(wait_connected(fd), MTLS_ERR_PATH_UNREACHABLE);
        close(fd);
    }
    close(packets);
    close(icmp);
}

static void test_connect_unreachable(void **state)
{
    struct mtls_path_spec none = spec(NULL, NULL);
    struct mtls_addr dst = addr("198.51.100.1", 443), v6 = addr("2001:db8:77::1", 443), empty = {0};
    static const char *const kinds[] = {"unreachable", "prohibit"};
    size_t sent;
    int fd;

    for (int tfo = 0; tfo < 2; tfo++)
        for (size_t i = 0; i < 2; i++) {
            netns_sh("ip route add %s 198.51.100.0/24", kinds[i]);
            netns_sh("ip -6 route add %s 2001:db8:77::/48", kinds[i]);
            assert_int_equal(try_connect(&none, &dst, tfo, &sent, NULL), MTLS_ERR_PATH_UNREACHABLE);
            assert_int_equal(try_connect(&none, &v6, tfo, &sent, NULL), MTLS_ERR_PATH_UNREACHABLE);
            netns_sh("ip route del %s 198.51.100.0/24", kinds[i]);
            netns_sh("ip -6 route del %s 2001:db8:77::/48", kinds[i]);
        }
    /* And by an answer of the network. */
    netns_go_there();
    netns_sh("echo 1 > /proc/sys/net/ipv4/ip_forward && ip route add unreachable 198.51.100.0/24");
    netns_go_here();
    assert_int_equal(try_connect(&none, &dst, false, &sent, NULL), MTLS_ERR_PATH_UNREACHABLE);
    fd = open_to(&none, &dst);
    assert_int_equal(mtls_path2_connect(fd, &empty, false, NULL, 0, &sent), MTLS_ERR_ARG);
    close(fd);
    assert_int_equal(mtls_path2_connect(-1, &dst, false, NULL, 0, &sent), MTLS_ERR_IO);
}

/* Silence is not a refusal: the kernel gives up after one repetition of the SYN. */
static void test_connect_silent(void **state)
{
    struct mtls_path_spec none = spec(NULL, NULL);
    struct mtls_addr dst = addr("198.51.100.200", 443);
    size_t sent;
    int fd, one = 1;

    netns_sh("ip neigh add 10.1.0.99 lladdr 02:00:00:00:00:99 dev v0 && ip route add "
             "198.51.100.200 via 10.1.0.99");
    fd = open_to(&none, &dst);
    assert_int_equal(setsockopt(fd, IPPROTO_TCP, TCP_SYNCNT, &one, sizeof(one)), 0);
    assert_int_equal(mtls_path2_connect(fd, &dst, false, NULL, 0, &sent), 0);
    assert_int_equal(wait_connected(fd), MTLS_ERR_PATH_TIMEOUT);
    close(fd);
    netns_sh("ip route del 198.51.100.200 && ip neigh del 10.1.0.99 dev v0");
}

/* [DWN-4] Only an end by the peer itself is one. */
static void test_connected_other(void **state)
{
    struct mtls_path_spec none = spec(NULL, NULL);
    struct mtls_addr dst = addr("127.0.0.1", 1), bound;
    struct linger reset = {.l_onoff = 1};
    int fd = open_to(&none, &dst), lfd = listener(false, "127.0.0.1", &bound), peer;
    size_t sent;

    assert_int_equal(mtls_path2_connected(fd), MTLS_ERR_PATH_UNREACHABLE); /* never connected */
    close(fd);
    assert_int_equal(mtls_path2_connected(-1), MTLS_ERR_IO);
    fd = open_to(&none, &bound);
    assert_int_equal(mtls_path2_connect(fd, &bound, false, NULL, 0, &sent), 0);
    assert_int_equal(wait_connected(fd), 0);
    peer = accept4(lfd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(peer >= 0);
    assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
    close(peer);
    assert_int_equal(wait_connected(fd), MTLS_ERR_PATH_CLOSED);
    close(fd);
    close(lfd);
    assert_int_equal(mtls_path2_lost(ECONNRESET), MTLS_ERR_PATH_CLOSED);
    assert_int_equal(mtls_path2_lost(EPIPE), MTLS_ERR_PATH_CLOSED);
    assert_int_equal(mtls_path2_lost(ETIMEDOUT), MTLS_ERR_PATH_TIMEOUT);
    assert_int_equal(mtls_path2_lost(EHOSTUNREACH), MTLS_ERR_PATH_UNREACHABLE);
    assert_int_equal(mtls_path2_lost(ENOPROTOOPT), MTLS_ERR_PATH_UNREACHABLE);
}

static void assert_arrives(int lfd, const char *text)
{
    struct pollfd p = {.fd = lfd, .events = POLLIN};
    char buf[16] = "";
    int fd;

    assert_int_equal(poll(&p, 1, 10000), 1);
    fd = accept(lfd, NULL, NULL);
    assert_true(fd >= 0);
    p.fd = fd;
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(recv(fd, buf, sizeof(buf) - 1, 0), strlen(text));
    assert_string_equal(buf, text);
    close(fd);
}

/* Without a cookie nothing is taken; with one, the bytes are in the SYN and arrive once. */
static void test_fastopen(void **state)
{
    static const char *const ips[] = {"127.0.0.1", "203.0.113.1", "2001:db8:9::1"};

    for (size_t i = 0; i < 3; i++) {
        struct mtls_path_spec s = spec(NULL, NULL);
        struct mtls_addr bound;
        size_t sent;
        int fd, lfd = listener(i > 0, ips[i], &bound);

        assert_int_equal(try_connect(&s, &bound, true, &sent, &fd), 0);
        assert_int_equal(sent, 0);
        assert_int_equal(send(fd, "later", 5, 0), 5);
        assert_arrives(lfd, "later");
        close(fd);
        assert_int_equal(try_connect(&s, &bound, true, &sent, &fd), 0);
        assert_int_equal(sent, 5);
        assert_arrives(lfd, "hello");
        close(fd);
        assert_int_equal(try_connect(&s, &bound, false, &sent, &fd), 0);
        assert_int_equal(sent, 0);
        close(fd);
        close(lfd);
    }
}

/* Fast Open switched off in the kernel, at either end: connects all the same. */
static void test_fastopen_off(void **state)
{
    struct mtls_path_spec s = spec(NULL, NULL);
    struct mtls_addr bound;
    size_t sent;
    int fd, lfd;

    for (int bits = 0; bits < 3; bits++) {
        netns_sh("echo %d > /proc/sys/net/ipv4/tcp_fastopen", bits);
        lfd = listener(false, "127.0.0.1", &bound);
        for (int i = 0; i < 2; i++) {
            assert_int_equal(try_connect(&s, &bound, true, &sent, &fd), 0);
            /* The client bit alone: the cookie of an earlier connection may still be tried. */
            if (bits != 1)
                assert_int_equal(sent, 0);
            if (sent == 0)
                assert_int_equal(send(fd, "hello", 5, 0), 5);
            assert_arrives(lfd, "hello");
            close(fd);
        }
        close(lfd);
    }
    netns_sh("echo 3 > /proc/sys/net/ipv4/tcp_fastopen");
}

static void test_listen(void **state)
{
    struct mtls_addr v6 = addr("::", 0), bound, again, elsewhere = addr("192.0.2.99", 0),
                     none = {0};
    struct mtls_path_spec s = spec(NULL, NULL);
    int fd, other;
    size_t sent;

    assert_int_equal(mtls_path2_listen(&v6, &fd, &bound), 0);
    assert_int_equal(bound.family, 6);
    assert_true((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    again = addr("127.0.0.1", bound.port); /* IPV6_V6ONLY */
    assert_int_equal(try_connect(&s, &again, false, &sent, NULL), MTLS_ERR_PATH_REFUSED);
    again = addr("::1", bound.port);
    assert_int_equal(try_connect(&s, &again, false, &sent, NULL), 0);
    assert_int_equal(mtls_path2_listen(&bound, &other, &again), MTLS_ERR_LISTEN); /* taken */
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(other, -1);
    close(fd);
    assert_int_equal(mtls_path2_listen(&bound, &fd, &again), 0);
    assert_int_equal(again.port, bound.port);
    close(fd);
    assert_int_equal(mtls_path2_listen(&elsewhere, &fd, &again), MTLS_ERR_LISTEN);
    assert_int_equal(errno, EADDRNOTAVAIL);
    assert_int_equal(mtls_path2_listen(&none, &fd, &again), MTLS_ERR_LISTEN);
    assert_int_equal(fd, -1);
}

static int no_descriptors_lost(void **state)
{
    static int first;
    int fd = dup(0);

    close(fd);
    if (first == 0)
        first = fd;
    return fd == first ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_socket_plain, no_descriptors_lost,
                                        no_descriptors_lost),
        cmocka_unit_test_teardown(test_socket_local, no_descriptors_lost),
        cmocka_unit_test_teardown(test_socket_device, no_descriptors_lost),
        cmocka_unit_test_teardown(test_socket_refused, no_descriptors_lost),
        cmocka_unit_test_teardown(test_socket_shared_address, no_descriptors_lost),
        cmocka_unit_test_teardown(test_socket_unprivileged, no_descriptors_lost),
        cmocka_unit_test_teardown(test_connect, no_descriptors_lost),
        cmocka_unit_test_teardown(test_connect_refused, no_descriptors_lost),
        cmocka_unit_test_teardown(test_connect_icmp, no_descriptors_lost),
        cmocka_unit_test_teardown(test_connect_unreachable, no_descriptors_lost),
        cmocka_unit_test_teardown(test_connect_silent, no_descriptors_lost),
        cmocka_unit_test_teardown(test_connected_other, no_descriptors_lost),
        cmocka_unit_test_teardown(test_fastopen, no_descriptors_lost),
        cmocka_unit_test_teardown(test_fastopen_off, no_descriptors_lost),
        cmocka_unit_test_teardown(test_listen, no_descriptors_lost),
    };

    netns_setup();
    netns_sh("echo 3 > /proc/sys/net/ipv4/tcp_fastopen");
    netns_go_there();
    netns_sh("echo 3 > /proc/sys/net/ipv4/tcp_fastopen");
    netns_go_here();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
