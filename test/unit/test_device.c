/* Unit tests for mtls/net/device.c: what devices are, and what they stand on. Root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <net/if.h>

#include "mtls/net/device.h"
#include "netns.h"

static void test_device(void **state)
{
    struct mtls_device d;

    assert_int_equal(mtls_device_get((int)if_nametoindex("v0"), &d), 0);
    assert_true(d.up && !d.loopback && !d.tunnel && d.lower == 0);
    assert_string_equal(d.name, "v0");
    assert_int_equal(mtls_device_get((int)if_nametoindex("lo"), &d), 0);
    assert_true(d.loopback && !d.tunnel);
    assert_int_equal(mtls_device_get(0, &d), MTLS_ERR_PATH_BIND);
    assert_int_equal(mtls_device_get(-1, &d), MTLS_ERR_PATH_BIND);
    assert_int_equal(mtls_device_get(99999, &d), MTLS_ERR_PATH_BIND);

    netns_sh("ip link add m0 link v0 type macvlan && ip link set m0 up");
    assert_int_equal(mtls_device_get((int)if_nametoindex("m0"), &d), 0);
    assert_int_equal(d.lower, if_nametoindex("v0"));
    assert_false(d.tunnel);
    netns_sh("ip link del m0 && ip tuntap add t0 mode tun && ip tuntap add t1 mode tap");
    assert_int_equal(mtls_device_get((int)if_nametoindex("t0"), &d), 0);
    assert_true(d.tunnel && !d.up);
    assert_int_equal(mtls_device_get((int)if_nametoindex("t1"), &d), 0);
    assert_true(d.tunnel);
    netns_sh("ip tuntap del t0 mode tun && ip tuntap del t1 mode tap");
}

static struct mtls_path_facts stack_of(const char *dev)
{
    struct mtls_path_facts f = {.lower = 77, .dev_tunnel = true};
    struct mtls_device d;

    assert_int_equal(mtls_device_get((int)if_nametoindex(dev), &d), 0);
    mtls_device_stack(&d, &f);
    f.ifindex = d.ifindex;
    return f;
}

/* [PATH-7] What a device stands on, through several layers. */
static void test_stack(void **state)
{
    struct mtls_path_facts v0 = stack_of("v0"), v1 = stack_of("v1"), f, g;

    assert_true(v0.lower == 0 && !v0.dev_tunnel && v1.lower == 0);
    netns_sh("ip link add m0 link v0 type macvlan && ip link add n0 link m0 type macvlan");
    f = stack_of("n0");
    assert_int_equal(f.lower, v0.ifindex);
    assert_false(f.dev_tunnel);
    assert_true(mtls_paths_same_link(&f, &v0) && !mtls_paths_same_link(&f, &v1));
    netns_sh("ip link del n0 && ip link del m0");
    netns_sh("ip link add b0 type bridge && ip link set v0 master b0");
    g = stack_of("b0");
    assert_int_equal(stack_of("v0").lower, g.ifindex);
    assert_int_equal(g.lower, 0);
    netns_sh("ip link set v0 nomaster && ip link del b0");
    /* A veth pair inside one namespace; one of its ends in a bridge. */
    netns_sh("ip link add y0 type veth peer name y1");
    f = stack_of("y0");
    g = stack_of("y1");
    assert_true(mtls_paths_same_link(&f, &g) && !mtls_paths_same_link(&f, &v0));
    netns_sh("ip link add b0 type bridge && ip link set y1 master b0");
    f = stack_of("y0");
    assert_int_equal(f.lower, if_nametoindex("b0"));
    assert_int_equal(stack_of("y1").lower, f.lower);
    netns_sh("ip link del b0 && ip link del y0");
    /* A tunnel ends the stack, and shows through what stands on it. */
    netns_sh("ip link add x0 type vxlan id 7 remote 10.1.0.1 dstport 4789 dev v0 && "
             "ip link add m0 link x0 type macvlan");
    f = stack_of("x0");
    assert_true(f.dev_tunnel && f.lower == 0);
    f = stack_of("m0");
    assert_true(f.dev_tunnel && f.lower == (int)if_nametoindex("x0"));
    netns_sh("ip link del m0 && ip link del x0");
}

/* What is gone meanwhile, or is no link, cannot be told. */
static void test_stack_unknown(void **state)
{
    struct mtls_device d = {.ifindex = 5, .lower = 99999};
    struct mtls_path_facts f = {0}, v0 = stack_of("v0");

    mtls_device_stack(&d, &f);
    assert_int_equal(f.lower, -1);
    f.ifindex = d.ifindex;
    assert_true(mtls_paths_same_link(&f, &v0));
    d = (struct mtls_device){.ifindex = 5, .vrf = true};
    mtls_device_stack(&d, &f);
    assert_int_equal(f.lower, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_device),
        cmocka_unit_test(test_stack),
        cmocka_unit_test(test_stack_unknown),
    };

    netns_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
