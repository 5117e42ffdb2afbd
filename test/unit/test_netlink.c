/* Unit tests for mtls/net/netlink.c: its attributes, refusals, and silence. Root. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <net/if.h>

#include "mtls/net/netlink.h"
#include "mtls/net/reactor.h"
#include "netns.h"

/* Attributes cut at every byte, and with every length falsified, are never read beyond their end.
 */
static void test_attributes(void **state)
{
    uint8_t good[28] = {8, 0, 1,  0, 'a', 'b', 'c', 'd', 5, 0, 2, 0, 'e', 0,
                        0, 0, 12, 0, 3,   0,   1,   2,   3, 4, 5, 6, 7,   8};
    size_t len;
    const char *p = mtls_nl_attr_find((const struct rtattr *)good, sizeof(good), 3, 8, &len);

    assert_non_null(p);
    assert_int_equal(len, 8);
    assert_null(mtls_nl_attr_find((const struct rtattr *)good, sizeof(good), 3, 9, NULL));
    assert_null(mtls_nl_attr_find((const struct rtattr *)good, sizeof(good), 4, 0, NULL));
    assert_non_null(mtls_nl_attr_find((const struct rtattr *)good, sizeof(good), 2, 1, NULL));
    for (size_t cut = 0; cut < sizeof(good); cut++) {
        uint8_t *copy = malloc(cut + 1); /* exactly as long as it may be read */

        memcpy(copy + 1, good, cut);
        assert_null(mtls_nl_attr_find((const struct rtattr *)(copy + 1), cut, 3, 1, NULL));
        free(copy);
    }
    for (size_t at = 0; at < sizeof(good); at += 8)
        for (unsigned value = 0; value < 256; value++) {
            uint8_t *copy = malloc(sizeof(good));

            memcpy(copy, good, sizeof(good));
            copy[at] = (uint8_t)value;
            p = mtls_nl_attr_find((const struct rtattr *)copy, sizeof(good), 3, 1, &len);
            assert_true(p == NULL || p + len <= (char *)copy + sizeof(good));
            free(copy);
        }
}

/* What the kernel refuses, and an answer of another type than expected. */
static void test_netlink_refusals(void **state)
{
    struct mtls_nl_question q;
    struct mtls_nl_answer a;
    uint8_t big[MTLS_NL_ATTRS_MAX] = {0};
    int lo = (int)if_nametoindex("lo");

    mtls_nl_question_init(&q, RTM_GETLINK, sizeof(q.body.link));
    q.body.link.ifi_index = lo;
    assert_int_equal(mtls_nl_ask(&q, &a, RTM_NEWLINK, sizeof(struct ifinfomsg)), 0);
    assert_int_equal(mtls_nl_ask(&q, &a, RTM_NEWROUTE, sizeof(struct rtmsg)), -EBADMSG);
    q.body.link.ifi_index = 99999;
    assert_int_equal(mtls_nl_ask(&q, &a, RTM_NEWLINK, sizeof(struct ifinfomsg)), -ENODEV);
    mtls_nl_question_add(&q, IFLA_IFNAME, big, sizeof(big));
    mtls_nl_question_add(&q, IFLA_IFNAME, big, 1); /* stays refused */
    assert_int_equal(mtls_nl_ask(&q, &a, RTM_NEWLINK, sizeof(struct ifinfomsg)), -EMSGSIZE);
}

/* No answer comes to a request that changes nothing: the wait for one is short. */
static void test_netlink_silence(void **state)
{
    struct mtls_nl_question q;
    struct mtls_nl_answer a;
    mtls_tstamp begin = mtls_now();

    mtls_nl_question_init(&q, RTM_SETLINK, sizeof(q.body.link));
    q.body.link.ifi_index = (int)if_nametoindex("lo");
    assert_int_equal(mtls_nl_ask(&q, &a, RTM_NEWLINK, sizeof(struct ifinfomsg)), -EAGAIN);
    assert_true(mtls_now() - begin < 700000); /* 0.1 s, on a busy machine */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attributes),
        cmocka_unit_test(test_netlink_refusals),
        cmocka_unit_test(test_netlink_silence),
    };

    netns_setup();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
