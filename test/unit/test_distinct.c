/* [PATH-7] to [PATH-13]: which pairs of paths are distinct, what they share, and which of several
 * paths are counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/distinct.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
enum { C = MTLS_DISTINCT_CLIENT, S = MTLS_DISTINCT_SERVER, LO = 1, ETH = 2, WLAN = 3, WG = 4 };

static struct mtls_addr addr(const char *text)
{
    struct mtls_host h;

    assert_int_equal(mtls_host_parse(&h, text), 0);
    assert_int_not_equal(h.addr.family, 0);
    return h.addr;
}

/* A path out of a device to a remote; both ends known. */
static struct mtls_path_facts path(int ifindex, const char *remote)
{
    struct mtls_path_facts f = {.known = true, .ifindex = ifindex, .loopback = ifindex == LO};

    (void)snprintf(f.dev, sizeof(f.dev), "dev%d", ifindex);
    f.remote = addr(remote);
    f.local = addr(f.remote.family == 6 ? "2001:db8:ffff::1" : "192.0.2.1");
    f.local.ip[15] = f.local.ip[3] = (uint8_t)ifindex;
    if (f.local.family == 4)
        f.local.ip[15] = 0;
    return f;
}

static struct mtls_path_facts proxied(struct mtls_path_facts f, const char *proxy, bool tunnel)
{
    f.proxied = true;
    f.tunnel = tunnel;
    f.proxy = addr(proxy);
    return f;
}

static struct mtls_path_facts tunnel(struct mtls_path_facts f)
{
    f.tunnel = true;
    return f;
}

static void assert_scope(struct mtls_path_facts a, struct mtls_path_facts b, unsigned scope)
{
    assert_int_equal(mtls_paths_scope(&a, &b), scope);
    assert_int_equal(mtls_paths_scope(&b, &a), scope);
    assert_int_equal(mtls_paths_shared(&a, &b), mtls_paths_shared(&b, &a));
    a.known = false;
    assert_int_equal(mtls_paths_scope(&a, &b), 0);
    assert_int_equal(mtls_paths_scope(&b, &a), 0);
}

static void devices(void **state)
{
    const char *r = "198.51.100.1:443";
    struct mtls_path_facts f;

    assert_scope(path(ETH, r), path(WLAN, r), C);
    assert_scope(path(ETH, r), path(ETH, r), 0);
    assert_scope(path(0, r), path(WLAN, r), 0);
    assert_scope(path(0, r), path(0, r), 0);
    assert_scope(path(LO, r), path(ETH, r), 0); /* a loopback is distinct from nothing */
    assert_scope(path(LO, r), path(LO, r), 0);
    f = path(WLAN, r); /* a second loopback device */
    f.loopback = true;
    assert_scope(path(ETH, r), f, 0);
    /* Family, gateway and source address never count alone. */
    f = path(ETH, r);
    f.local = addr("192.0.2.99");
    f.gateway = addr("192.0.2.254");
    assert_scope(path(ETH, r), f, 0);
    assert_scope(path(ETH, r), path(ETH, "[2001:db8::1]:443"), 0);
}

static struct mtls_path_facts over(struct mtls_path_facts f, int lower)
{
    f.lower = lower;
    return f;
}

static struct mtls_path_facts in_tunnel(struct mtls_path_facts f)
{
    f.dev_tunnel = true;
    return f;
}

/* [PATH-7] Whoever owns a link is on all that stands on it; what cannot be seen does not count. */
static void stacks(void **state)
{
    const char *r = "198.51.100.1:443", *tor = "127.0.0.1:9050";
    struct mtls_path_facts f;

    assert_scope(path(ETH, r), over(path(WLAN, r), ETH), 0); /* a macvlan on the other's device */
    assert_scope(over(path(ETH, r), 9), over(path(WLAN, r), 9),
                 0); /* both on one, or in one bridge */
    assert_scope(over(path(ETH, r), 9), path(9, r), 0);
    assert_scope(over(path(ETH, r), 9), over(path(WLAN, r), 8), C);
    assert_scope(over(path(ETH, r), 9), path(WLAN, r), C);
    assert_scope(path(ETH, r), over(path(WLAN, r), -1), 0);
    assert_scope(path(ETH, r), over(tunnel(path(WG, r)), ETH), 0);
    /* A tunnel's device only by name, on either side. */
    assert_scope(path(ETH, r), in_tunnel(path(WG, r)), 0);
    assert_scope(path(ETH, "203.0.113.1:1"), in_tunnel(path(WG, r)), S);
    assert_scope(path(ETH, r), tunnel(in_tunnel(path(WG, r))), C);
    assert_scope(in_tunnel(path(WLAN, r)), tunnel(in_tunnel(path(WG, r))), 0);
    assert_scope(in_tunnel(path(WG, r)), proxied(path(LO, r), tor, true), 0);
    assert_scope(over(in_tunnel(path(WLAN, r)), WG), tunnel(in_tunnel(path(WG, r))), 0);
    /* [PATH-13] Several subflows may be anywhere. */
    f = path(ETH, r);
    f.multi = true;
    assert_scope(f, path(WLAN, r), 0);
    assert_scope(f, path(WLAN, "203.0.113.1:1"), S);
    assert_scope(f, proxied(path(LO, r), tor, true), 0);
}

static void tunnels(void **state)
{
    const char *r = "198.51.100.1:443", *ssh = "127.0.0.1:1080", *tor = "127.0.0.1:9050";

    assert_scope(path(ETH, r), proxied(path(LO, r), ssh, true), C);
    assert_scope(path(ETH, r), proxied(path(LO, r), ssh, false), 0);
    assert_scope(path(LO, r), proxied(path(LO, r), ssh, true), 0);
    assert_scope(path(ETH, r), proxied(path(ETH, r), "203.0.113.1:1080", true), C);
    assert_scope(path(ETH, r), proxied(path(ETH, r), "203.0.113.1:1080", false), 0);
    assert_scope(path(ETH, r), proxied(path(WLAN, r), "203.0.113.1:1080", false), C);
    /* Path 1 goes to the proxy by itself. */
    assert_scope(path(LO, ssh), proxied(path(LO, r), ssh, true), S);
    /* Or to another port of this host, where a proxy of another kind may lead into the same tunnel;
     * by whatever address of this host. */
    assert_scope(path(LO, "127.0.0.1:8118"), proxied(path(LO, r), tor, true), S);
    assert_scope(path(LO, "127.0.1.1:8118"), proxied(path(LO, r), tor, true), S);
    assert_scope(path(LO, "192.0.2.9:8118"), proxied(path(LO, r), tor, true), S);
    assert_scope(path(ETH, "127.0.0.1:8118"), proxied(path(LO, r), tor, true), S);
    assert_scope(path(LO, "127.0.0.1:8118"), proxied(path(LO, r), "192.0.2.9:9050", true), S);
    assert_scope(path(LO, "[::1]:8118"), proxied(path(LO, r), tor, true), 0);
    assert_scope(tunnel(path(LO, "127.0.0.1:8118")), proxied(path(LO, r), tor, true), S);
    assert_scope(path(ETH, "192.0.2.9:8118"), proxied(path(LO, r), tor, true), C | S);
    /* Two tunnels: different proxies or devices. */
    assert_scope(proxied(path(LO, r), tor, true), proxied(path(LO, r), ssh, true), C);
    assert_scope(proxied(path(LO, r), ssh, true), proxied(path(LO, r), ssh, true), 0);
    assert_scope(proxied(path(LO, r), ssh, true), proxied(path(LO, r), ssh, false), 0);
    assert_scope(proxied(path(ETH, r), "203.0.113.1:1", true),
                 proxied(path(ETH, r), "203.0.113.1:2", true), 0);
    assert_scope(proxied(path(ETH, r), "203.0.113.1:1", true),
                 proxied(path(ETH, r), "203.0.113.2:1", true), C);
    assert_scope(proxied(path(ETH, r), "203.0.113.1:1", true),
                 proxied(path(WLAN, r), "203.0.113.1:1", true), C);
    assert_scope(tunnel(path(WG, r)), proxied(path(LO, r), ssh, true), C);
    assert_scope(tunnel(path(WG, r)), proxied(path(WG, r), "203.0.113.1:1", true), C);
    assert_scope(tunnel(path(WG, r)), tunnel(path(ETH, r)), C);
    /* A tunnel device that carries path 1 too is no other path. */
    assert_scope(path(ETH, r), tunnel(path(WG, r)), C);
    assert_scope(path(WG, r), tunnel(path(WG, r)), 0);
    assert_scope(tunnel(path(WG, r)), tunnel(path(WG, r)), 0);
    assert_scope(path(0, r), tunnel(path(WG, r)), 0);
    assert_scope(path(LO, r), tunnel(path(WG, r)), C);
}

/* What is not known counts as the same. */
static void unknown_proxies(void **state)
{
    const char *r = "198.51.100.1:443";
    struct mtls_path_facts a = path(ETH, r), b = proxied(path(ETH, r), "203.0.113.1:1", true);

    assert_scope(a, b, C);
    b.proxy.family = 0;
    assert_scope(a, b, 0);
    b = proxied(path(ETH, r), "203.0.113.1:1", true);
    a.remote.family = 0;
    assert_scope(a, b, 0);
    a = proxied(path(ETH, r), "203.0.113.2:1", false);
    assert_scope(a, b, C);
    a.proxy.family = 0;
    assert_scope(a, b, 0);
}

static void prefixes(void **state)
{
    static const struct {
        const char *a, *b;
        unsigned scope;
    } cases[] = {
        {"198.51.100.1:1", "198.51.100.255:2", 0},
        {"198.51.100.1:1", "198.51.101.1:1", S},
        {"198.51.100.1:1", "198.50.100.1:1", S},
        {"197.51.100.1:1", "198.51.100.1:1", S},
        {"127.0.0.1:1", "127.0.1.1:1", S},
        {"[2001:db8:1::1]:1", "[2001:db8:1:ffff::2]:1", 0},
        {"[2001:db8:1::1]:1", "[2001:db8:2::1]:1", S},
        {"[2001:db8:1::1]:1", "[2001:db9:1::1]:1", S},
        {"[2001:db8:1::1]:1", "198.51.100.1:1", 0},
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mtls_path_facts a = path(ETH, cases[i].a), b = path(ETH, cases[i].b);

        assert_scope(a, b, cases[i].scope);
        b.ifindex = WLAN;
        assert_scope(a, b, cases[i].scope | C);
        b.remote.family = 0; /* the proxy resolved the name */
        assert_scope(a, b, C);
        a.remote.family = 0;
        assert_scope(a, b, C);
    }
}

static void assert_shared(struct mtls_path_facts a, struct mtls_path_facts b, const char *words)
{
    char out[128];
    unsigned shared = mtls_paths_shared(&a, &b);

    assert_int_equal(shared, mtls_paths_shared(&b, &a));
    assert_ptr_equal(mtls_shared_words(shared, out, sizeof(out)), out);
    assert_string_equal(out, words);
}

static void sharing(void **state)
{
    struct mtls_path_facts a = path(ETH, "198.51.100.1:443"), b = path(WLAN, "203.0.113.1:443"), c;

    assert_shared(a, b, "nothing");
    c = b;
    c.ifindex = ETH;
    assert_shared(a, c, "device");
    c = b;
    c.ifindex = 0;
    assert_shared(a, c, "unknown");
    c = b;
    c.known = false;
    assert_shared(a, c, "unknown");
    c = b;
    c.local = a.local;
    assert_shared(a, c, "local-address");
    c.local.family = 0;
    assert_shared(a, c, "unknown");
    c = b;
    c.remote = addr("198.51.100.1:914");
    assert_shared(a, c, "remote-address,remote-prefix");
    c.remote = addr("198.51.100.2:914");
    assert_shared(a, c, "remote-prefix");
    c.remote.family = 0;
    assert_shared(a, c, "unknown");
    c = b;
    a.resolver = addr("192.0.2.53:53");
    assert_shared(a, c, "nothing");
    c.resolver = a.resolver;
    assert_shared(a, c, "resolver");
    c = b;
    assert_shared(proxied(a, "127.0.0.1:1", true), proxied(c, "127.0.0.1:1", false), "proxy");
    assert_shared(proxied(a, "127.0.0.1:1", true), proxied(c, "127.0.0.1:2", false), "nothing");
    assert_shared(proxied(a, "127.0.0.1:1", true), c, "nothing");
    c = proxied(c, "127.0.0.1:1", true);
    c.proxy.family = 0;
    assert_shared(proxied(a, "127.0.0.1:1", true), c, "unknown");
}

static void sharing_of_next_hops(void **state)
{
    struct mtls_path_facts a = path(ETH, "198.51.100.1:443"), b = path(WLAN, "203.0.113.1:443");

    a.gateway = b.gateway = addr("192.168.1.1");
    assert_shared(a, b, "gateway");
    a.lladdr_known = true;
    a.lladdr_len = 6;
    memcpy(a.lladdr, "\2\0\0\0\0\1", 6);
    assert_shared(a, b, "gateway");
    memcpy(b.lladdr, a.lladdr, sizeof(b.lladdr));
    b.lladdr_len = 6;
    b.lladdr_known = true;
    assert_shared(a, b, "gateway,next-hop");
    b.lladdr[5] ^= 1; /* two networks that number alike */
    assert_shared(a, b, "nothing");
    b.lladdr[5] ^= 1;
    b.gateway.family = 0;
    assert_shared(a, b, "next-hop");
    b.lladdr_len = 5;
    assert_shared(a, b, "nothing");
    a.lladdr_len = b.lladdr_len = 0;
    assert_shared(a, b, "nothing");
}

static void words(void **state)
{
    char out[128];
    const char *all = "device,gateway,next-hop,local-address,remote-address,remote-prefix,resolver,"
                      "proxy,unknown";

    assert_string_equal(mtls_shared_words(0x1ff, out, sizeof(out)), all);
    assert_string_equal(mtls_shared_words(0, out, sizeof(out)), "nothing");
    for (size_t cap = 1; cap < sizeof(out); cap++) {
        memset(out, 'G', sizeof(out));
        (void)mtls_shared_words(0x1ff, out, cap);
        assert_true(strnlen(out, cap) < cap);
        assert_memory_equal(out, all, strlen(out));
        for (size_t i = cap; i < sizeof(out); i++)
            assert_int_equal(out[i], 'G');
    }
    memset(out, 'G', sizeof(out));
    (void)mtls_shared_words(1, out, 0);
    assert_int_equal(out[0], 'G');
}

/* ---- Random facts against rule 6 written a second time ---- */

static uint32_t seed = 1;

static unsigned random_below(unsigned n)
{
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 16) % n;
}

static struct mtls_path_facts random_facts(void)
{
    static const char *const remotes[] = {
        "127.0.0.1:1080",      "198.51.100.1:443",    "198.51.100.2:443", "198.51.101.1:443",
        "[2001:db8:1::1]:443", "[2001:db8:2::1]:443", "203.0.113.1:1080"};
    static const char *const proxies[] = {"127.0.0.1:1080", "127.0.0.1:9050", "203.0.113.1:1080",
                                          "203.0.113.1:1081"};
    struct mtls_path_facts f = path((int)random_below(5), remotes[random_below(COUNT(remotes))]);

    f.tunnel = random_below(3) == 0;
    f.lower = random_below(4) == 0 ? (int)random_below(6) - 1 : 0;
    f.dev_tunnel = random_below(8) == 0;
    f.multi = random_below(16) == 0;
    if (random_below(3) == 0)
        f = proxied(f, proxies[random_below(COUNT(proxies))], f.tunnel);
    if (random_below(10) == 0)
        f.proxy.family = 0;
    if (random_below(10) == 0)
        f.remote.family = 0;
    f.known = random_below(12) != 0;
    return f;
}

static bool equal_text(const struct mtls_addr *a, const struct mtls_addr *b, size_t ip_len,
                       bool port)
{
    return a->family == b->family && memcmp(a->ip, b->ip, ip_len) == 0 &&
           (!port || a->port == b->port);
}

/* The proxy that a path surely or possibly goes through is p's. */
static bool oracle_behind(const struct mtls_path_facts *p, const struct mtls_path_facts *q)
{
    if (p->proxy.family == 0)
        return true;
    if (!q->proxied)
        return q->remote.family == 0 || equal_text(&p->proxy, &q->remote, 16, true) ||
               ((p->ifindex == LO || p->proxy.ip[0] == 127) &&
                (q->ifindex == LO || q->remote.ip[0] == 127));
    if (q->proxy.family == 0)
        return true;
    return equal_text(&p->proxy, &q->proxy, 16, p->proxy.ip[0] == 127);
}

static unsigned oracle_scope(const struct mtls_path_facts *a, const struct mtls_path_facts *b)
{
    const int x = a->lower == 0 ? a->ifindex : a->lower, y = b->lower == 0 ? b->ifindex : b->lower;
    const bool differ =
        a->ifindex > 0 && b->ifindex > 0 && a->ifindex != b->ifindex && x > 0 && y > 0 && x != y;
    const bool loopback = a->ifindex == LO || b->ifindex == LO;
    bool client = differ && !loopback, server = false;

    if (!a->known || !b->known)
        return 0;
    if (a->tunnel && a->proxied)
        client = client || !oracle_behind(a, b);
    else if (b->tunnel && b->proxied)
        client = client || !oracle_behind(b, a);
    else if (a->tunnel || b->tunnel)
        client = client || differ;
    if (a->multi || b->multi || (!a->tunnel && a->dev_tunnel) || (!b->tunnel && b->dev_tunnel))
        client = false;
    if (a->remote.family == 4 && b->remote.family == 4)
        server = !equal_text(&a->remote, &b->remote, 3, false);
    if (a->remote.family == 6 && b->remote.family == 6)
        server = !equal_text(&a->remote, &b->remote, 6, false);
    return (client ? C : 0u) | (server ? S : 0u);
}

static void random_pairs(void **state)
{
    unsigned seen[4] = {0};

    for (int i = 0; i < 100000; i++) {
        struct mtls_path_facts a = random_facts(), b = random_facts();
        const unsigned scope = oracle_scope(&a, &b);

        assert_int_equal(mtls_paths_scope(&a, &b), scope);
        assert_int_equal(mtls_paths_scope(&b, &a), scope);
        assert_int_equal(mtls_paths_shared(&a, &b), mtls_paths_shared(&b, &a));
        assert_int_equal(mtls_paths_scope(&a, &a), 0);
        seen[scope]++;
    }
    for (int i = 0; i < 4; i++)
        assert_true(seen[i] > 1000);
}

/* Whether mask satisfies everyone, path 1 being index -1. */
static bool oracle_mask(const struct mtls_path_facts *p1, const struct mtls_path_facts *p,
                        const uint8_t *wanted, unsigned mask, unsigned *scope)
{
    *scope = C | S;
    for (int i = -1; i < 8; i++)
        for (int j = i + 1; j < 8; j++) {
            const unsigned need = (i < 0 ? 0u : wanted[i]) | wanted[j];
            unsigned have;

            if ((i >= 0 && (mask >> i & 1) == 0) || (mask >> j & 1) == 0)
                continue;
            have = oracle_scope(i < 0 ? p1 : &p[i], &p[j]);
            *scope &= have;
            if ((have & need) != need)
                return false;
        }
    return true;
}

/* Enumerates subsets by size, then in the order of their sorted indices: the first that fits. */
static unsigned oracle_select(const struct mtls_path_facts *p1, const struct mtls_path_facts *p,
                              const uint8_t *wanted, int n, unsigned *scope)
{
    for (int size = n; size > 0; size--)
        for (unsigned order = 1u << n; order-- > 0;) {
            unsigned mask = 0; /* order's highest bit is index 0 */

            for (int i = 0; i < n; i++)
                mask |= (order >> (n - 1 - i) & 1u) << i;
            if (__builtin_popcount(mask) == size && oracle_mask(p1, p, wanted, mask, scope))
                return mask;
        }
    *scope = 0;
    return 0;
}

static void random_selections(void **state)
{
    unsigned sizes[9] = {0};

    for (int round = 0; round < 4000; round++) {
        struct mtls_path_facts p1 = random_facts(), p[MTLS_PATHS_MAX];
        uint8_t wanted[MTLS_PATHS_MAX] = {0};
        const int n = (int)random_below(MTLS_PATHS_MAX + 1);
        unsigned expected, expected_scope, scope = 77, mask;

        p1.known = p1.known || round % 4 != 0;
        for (int i = 0; i < n; i++) {
            p[i] = random_facts();
            wanted[i] = (uint8_t)(1 + random_below(round % 2 != 0 ? 3 : 1));
        }
        expected = oracle_select(&p1, p, wanted, n, &expected_scope);
        mask = mtls_paths_select(&p1, p, wanted, (size_t)n, &scope);
        assert_int_equal(mask, expected);
        assert_int_equal(scope, expected_scope);
        sizes[__builtin_popcount(mask)]++;
    }
    for (int i = 0; i < 4; i++)
        assert_true(sizes[i] > 20);
}

static void selections(void **state)
{
    const char *r = "198.51.100.1:443", *other = "198.51.101.1:443";
    const struct mtls_path_facts p1 = path(ETH, r);
    struct mtls_path_facts p[9];
    uint8_t wanted[9] = {C, C, C, C, C, C, C, C, C};
    unsigned scope = 99;

    assert_int_equal(mtls_paths_select(&p1, p, wanted, 0, &scope), 0);
    assert_int_equal(scope, 0);
    p[0] = path(ETH, r);
    p[1] = path(WLAN, r);
    p[2] = path(WLAN, other);
    p[3] = path(WG, other);
    assert_int_equal(mtls_paths_select(&p1, p, wanted, 4, &scope), 0xa);
    assert_int_equal(scope, C);
    assert_int_equal(mtls_paths_select(&p1, p + 3, wanted, 1, &scope), 1);
    assert_int_equal(scope, C | S);
    wanted[2] = C | S; /* with 3 it shares the prefix */
    assert_int_equal(mtls_paths_select(&p1, p + 2, wanted + 2, 2, &scope), 1);
    assert_int_equal(scope, C | S);
    wanted[3] = S;
    p[0] = path(ETH, other);
    assert_int_equal(mtls_paths_select(&p1, p, wanted + 3, 1, &scope), 1);
    assert_int_equal(scope, S);
    wanted[0] = 0; /* never less than client-distinct */
    assert_int_equal(mtls_paths_select(&p1, p, wanted, 1, &scope), 0);
    for (int i = 0; i < 9; i++) { /* a ninth is not looked at */
        p[i] = path(10 + i, r);
        wanted[i] = C;
    }
    assert_int_equal(mtls_paths_select(&p1, p, wanted, 9, &scope), 0xff);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stacks),
        cmocka_unit_test(devices),
        cmocka_unit_test(tunnels),
        cmocka_unit_test(unknown_proxies),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(sharing),
        cmocka_unit_test(sharing_of_next_hops),
        cmocka_unit_test(words),
        cmocka_unit_test(random_pairs),
        cmocka_unit_test(selections),
        cmocka_unit_test(random_selections),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
