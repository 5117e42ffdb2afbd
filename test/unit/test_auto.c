/* `auto`: which second paths the library chooses, in which order, and what it never chooses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <net/if.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>

#include "mtls/net/path2_socket.h"
#include "mtls/net/route.h"
#include "netns.h"

static struct mtls_auto_choice choices[MTLS_PATHS_MAX];

static struct mtls_path_facts plan(const char *text)
{
    struct mtls_path_facts f = {0};
    struct mtls_host h;

    assert_int_equal(mtls_host_parse(&h, text), 0);
    assert_int_equal(mtls_route_to(&h.addr, &f), 0);
    return f;
}

static int choose(const struct mtls_path_facts *path1)
{
    memset(choices, 0, sizeof(choices));
    return mtls_path2_auto(path1, choices, MTLS_PATHS_MAX);
}

static void assert_choice(int i, const char *text, const char *why)
{
    assert_string_equal(choices[i].spec.text, text);
    assert_string_equal(choices[i].why, why);
}

/* A third link of the same form as the two that are always there. */
static void third_link(void)
{
    netns_link(2);
}

static void third_link_gone(void)
{
    netns_sh("ip link del v2");
}

static void learn(int i)
{
    netns_sh("ip neigh replace 10.%d.0.1 lladdr 02:00:00:00:0%d:01 dev v%d nud permanent", i + 1,
             i + 1, i);
}

static void test_other_device(void **state)
{
    struct mtls_path_facts p = plan("203.0.113.1");

    assert_string_equal(p.dev, "v0");
    assert_int_equal(choose(&p), 1);
    assert_choice(0, "local=10.2.0.2,dev=v1", "v1 (10.2.0.2): another device");
    assert_string_equal(choices[0].spec.dev, "v1");
    assert_int_equal(choices[0].spec.local.family, 4);
    assert_int_equal(choices[0].spec.distinct, MTLS_DISTINCT_CLIENT);
    assert_false(choices[0].spec.is_auto);
    learn(0);
    learn(1);
    p = plan("203.0.113.1");
    assert_int_equal(choose(&p), 1);
    assert_choice(0, "local=10.2.0.2,dev=v1", "v1 (10.2.0.2): another device and next hop");
    p = plan("2001:db8:9::1");
    assert_int_equal(choose(&p), 1);
    assert_choice(0, "local=2001:db8:2::2,dev=v1", "v1 (2001:db8:2::2): another device");
}

/* Another next hop before the same one. */
static void test_same_hop_later(void **state)
{
    struct mtls_path_facts p = plan("203.0.113.1");

    third_link();
    learn(2);
    netns_sh("ip neigh replace 10.2.0.1 lladdr 02:00:00:00:01:01 dev v1 nud permanent");
    assert_int_equal(choose(&p), 2);
    assert_choice(0, "local=10.3.0.2,dev=v2", "v2 (10.3.0.2): another device and next hop");
    assert_choice(1, "local=10.2.0.2,dev=v1", "v1 (10.2.0.2): another device, the same next hop");
    assert_int_equal(mtls_path2_auto(&p, choices, 1), 1); /* the best, not the first */
    assert_string_equal(choices[0].spec.dev, "v2");
    assert_int_equal(mtls_path2_auto(&p, choices, 0), 0);
    assert_int_equal(mtls_path2_auto(&p, choices, -1), 0);
    learn(1);
    third_link_gone();
}

/* A tunnel device that is up for as long as the descriptor is open. */
static int tun_open(const char *name)
{
    struct ifreq req = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    strcpy(req.ifr_name, name);
    assert_int_equal(ioctl(fd, TUNSETIFF, &req), 0);
    return fd;
}

/* [PATH-7] Whether a tunnel runs over path 1's device cannot be seen: never chosen. */
static void test_tunnel_never(void **state)
{
    struct mtls_path_facts p = plan("203.0.113.1");

    int tunnel = tun_open("g0");

    netns_sh("ip addr add 10.50.0.2/24 dev g0 && ip link set g0 up && ip route add default via "
             "10.50.0.1 dev g0 metric 50");
    p = plan("10.1.0.1"); /* stays on v0 */
    assert_string_equal(p.dev, "v0");
    netns_sh("ip route add 10.1.0.1/32 via 10.2.0.1 dev v1 metric 9 && ip route add 10.1.0.1/32 "
             "dev g0 metric 9999");
    assert_int_equal(choose(&p), 1);
    assert_string_equal(choices[0].spec.dev, "v1");
    netns_sh("ip link set v1 down");
    assert_int_equal(choose(&p), 0);
    netns_sh("ip link set v1 up && ip addr add 2001:db8:2::2/64 dev v1 nodad");
    netns_sh("ip route replace default via 10.2.0.1 dev v1 metric 200");
    netns_sh("ip -6 route replace default via 2001:db8:2::1 dev v1 metric 200");
    /* And the other way round: out of a tunnel that path 1 uses there is no choice at all. */
    p = plan("203.0.113.1");
    assert_string_equal(p.dev, "g0");
    assert_int_equal(choose(&p), 0);
    close(tunnel);
}

static void test_never(void **state)
{
    struct mtls_path_facts good = plan("203.0.113.1"), p;

    assert_int_equal(choose(&good), 1);
    p = good;
    p.known = false;
    assert_int_equal(choose(&p), 0);
    p = good;
    p.tunnel = true;
    assert_int_equal(choose(&p), 0);
    p = good;
    p.proxied = true;
    assert_int_equal(choose(&p), 0);
    p = good;
    p.multi = true;
    assert_int_equal(choose(&p), 0);
    p = good;
    p.ifindex = 99999;
    assert_int_equal(choose(&p), 0);
    p = plan("127.0.0.1");
    assert_int_equal(choose(&p), 0);
}

/* Down, without address, with a link-local one only, or without a way to the server: no choice. */
static void test_unusable(void **state)
{
    struct mtls_path_facts p = plan("203.0.113.1");

    netns_sh("ip -6 route del default dev v1");
    netns_sh("ip route del default dev v1");
    assert_int_equal(choose(&p), 0);
    netns_sh("ip route add 203.0.113.1/32 dev v1 metric 5"); /* on link */
    assert_int_equal(choose(&p), 1);
    netns_sh("ip link set v1 down");
    assert_int_equal(choose(&p), 0);
    netns_sh("ip link set v1 up && ip addr flush dev v1 && ip addr add 169.254.7.7/16 dev v1");
    netns_sh("ip route replace 203.0.113.1/32 dev v1 metric 5");
    assert_int_equal(choose(&p), 0);
    netns_sh("ip addr flush dev v1 && ip addr add 10.2.0.2/24 dev v1 && ip addr add "
             "2001:db8:2::2/64 dev v1 nodad");
    netns_sh("ip route add default via 10.2.0.1 dev v1 metric 200");
    assert_int_equal(choose(&p), 1);
}

/* Only the other family leads out of the device; only a rule for its own address does. */
static void test_other_ways(void **state)
{
    struct mtls_path_facts p = plan("203.0.113.1");

    netns_sh("ip route del default dev v1 && ip -6 route replace default via 2001:db8:2::1 dev v1 "
             "metric 200");
    assert_int_equal(choose(&p), 1);
    assert_choice(0, "local=2001:db8:2::2,dev=v1", "v1 (2001:db8:2::2): another device, IPv6 only");
    netns_sh(
        "ip route add default via 10.2.0.1 dev v1 table 72 && ip rule add from 10.2.0.2 table 72");
    assert_int_equal(choose(&p), 1);
    assert_string_equal(choices[0].spec.text, "local=10.2.0.2,dev=v1");
    netns_sh("ip rule del from 10.2.0.2 && ip route add default via 10.2.0.1 dev v1 metric 200");
}

/* [PATH-7] A device on top of path 1's is the same link, whatever it encapsulates in; so is path
 * 1's bridge. Neither is chosen; on top of another device it is. */
static void test_same_link(void **state)
{
    static const char *const kinds[] = {"macvlan", "vxlan id 7 remote 10.1.0.1 dstport 4789 dev v0",
                                        "bridge"};
    struct mtls_path_facts p = plan("203.0.113.1"), q;
    struct mtls_device d;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        bool bridge = strcmp(kinds[i], "bridge") == 0;
        bool link = strcmp(kinds[i], "macvlan") == 0;

        netns_sh("ip link add m0 %s type %s", link ? "link v0" : "", kinds[i]);
        netns_sh("ip addr add 10.60.0.2/24 dev m0 && ip link set m0 up");
        if (bridge)
            netns_sh("ip link set v0 master m0");
        netns_sh("ip route add default via 10.60.0.1 dev m0 metric 300");
        assert_int_equal(mtls_device_get((int)if_nametoindex("m0"), &d), 0);
        assert_true(d.up);
        assert_int_equal(choose(&p), 1);
        assert_string_equal(choices[0].spec.dev, "v1");
        /* And named, it is not counted. */
        memset(&q, 0, sizeof(q));
        assert_int_equal(mtls_route_via(&p.remote, d.ifindex, NULL, &q), 0);
        p = plan("203.0.113.1");
        assert_int_equal(mtls_paths_scope(&p, &q), 0);
        if (bridge)
            netns_sh("ip link set v0 nomaster");
        netns_sh("ip link del m0");
        p = plan("203.0.113.1");
    }
    netns_sh("ip link add m0 link v1 address 02:00:00:00:00:77 type macvlan && ip addr add "
             "10.60.0.2/24 dev m0 && ip link set m0 up");
    netns_sh("ip route add default via 10.60.0.1 dev m0 metric 300");
    assert_int_equal(choose(&p), 2);
    assert_string_equal(choices[1].spec.dev, "m0");
    assert_int_equal(mtls_route_via(&p.remote, (int)if_nametoindex("m0"), NULL, &q), 0);
    assert_int_equal(mtls_paths_scope(&p, &q), MTLS_DISTINCT_CLIENT);
    netns_sh("ip link del m0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_device), cmocka_unit_test(test_same_hop_later),
        cmocka_unit_test(test_tunnel_never), cmocka_unit_test(test_never),
        cmocka_unit_test(test_unusable),     cmocka_unit_test(test_other_ways),
        cmocka_unit_test(test_same_link),
    };

    netns_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
