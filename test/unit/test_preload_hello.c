/* The beginning of a TLS handshake (preload/hello_scan.h): cut at every byte, into records of every
 * length, behind alerts; and beside it what only looks like one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "preload/hello_scan.h"

enum { BODY = 100 };

static size_t hello(uint8_t *out, uint8_t type, size_t record)
{
    uint8_t message[4 + BODY] = {type, 0, 0, BODY, 3, 3};
    size_t at, part, n = 0, i;

    for (i = 0; i < 32; i++)
        message[PRELOAD_RANDOM_AT + i] = (uint8_t)(0xa0 + i);
    for (at = 0; at < sizeof(message); at += part) {
        part = sizeof(message) - at < record ? sizeof(message) - at : record;
        out[n++] = 22;
        out[n++] = 3;
        out[n++] = 1;
        out[n++] = 0;
        out[n++] = (uint8_t)part;
        memcpy(out + n, message + at, part);
        n += part;
    }
    return n;
}

static void assert_found(const struct preload_hello_scan *s)
{
    size_t i;

    for (i = 0; i < 32; i++)
        assert_int_equal(s->head[PRELOAD_RANDOM_AT + i], 0xa0 + i);
}

static enum preload_scan cut(const uint8_t *data, size_t len, size_t first, size_t step)
{
    struct preload_hello_scan s = {.have = 0};
    enum preload_scan what = preload_hello_scan(&s, data, first);
    size_t at = first, part;

    for (; what == PRELOAD_SCAN_MORE && at < len; at += part) {
        part = len - at < step ? len - at : step;
        what = preload_hello_scan(&s, data + at, part);
    }
    if (what == PRELOAD_SCAN_HELLO)
        assert_found(&s);
    return what;
}

static void test_every_cut(void **state)
{
    uint8_t data[800];
    size_t len, record, i;
    uint8_t type;

    for (type = 1; type <= 2; type++)
        for (record = 1; record <= 4 + BODY; record++) {
            len = hello(data, type, record);
            for (i = 0; i <= len; i++)
                assert_int_equal(cut(data, len, i, len), PRELOAD_SCAN_HELLO);
            assert_int_equal(cut(data, len, 0, 1), PRELOAD_SCAN_HELLO);
        }
}

static void test_not_before_the_random_is_complete(void **state)
{
    uint8_t data[800];
    size_t i;

    (void)hello(data, 1, 4 + BODY);
    for (i = 0; i < 5 + PRELOAD_HELLO_HEAD; i++)
        assert_int_equal(cut(data, i, i, 1), PRELOAD_SCAN_MORE);
    assert_int_equal(cut(data, i, i, 1), PRELOAD_SCAN_HELLO);
}

static void test_behind_other_records(void **state)
{
    static const uint8_t before[] = {21, 3, 3, 0,  2, 1, 90, 20, 3, 3,
                                     0,  1, 1, 21, 3, 1, 0,  2,  2, 40};
    uint8_t data[800];
    size_t len = sizeof(before);

    memcpy(data, before, len);
    assert_int_equal(cut(data, len, 0, 3), PRELOAD_SCAN_MORE);
    len += hello(data + len, 1, 4 + BODY);
    assert_int_equal(cut(data, len, 0, len), PRELOAD_SCAN_HELLO);
    assert_int_equal(cut(data, len, 0, 1), PRELOAD_SCAN_HELLO);
    data[4] = 3; /* no alert is as long */
    assert_int_equal(cut(data, len, 0, len), PRELOAD_SCAN_OTHER);
}

/* One byte changed, to what no handshake has there. */
static void test_others(void **state)
{
    static const struct {
        unsigned at, value;
    } changes[] = {{0, 23}, {0, 19}, {0, 'G'}, {1, 2}, {1, 4},      {2, 5}, {3, 0x42}, {4, 0},
                   {5, 0},  {5, 3},  {5, 11},  {6, 3}, {8, 2 + 31}, {9, 2}, {9, 4},    {10, 5}};
    uint8_t data[800];
    size_t len = hello(data, 1, 4 + BODY), i;

    for (i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        uint8_t kept = data[changes[i].at];

        data[changes[i].at] = (uint8_t)changes[i].value;
        assert_int_equal(cut(data, len, 0, len), PRELOAD_SCAN_OTHER);
        assert_int_equal(cut(data, len, 0, 1), PRELOAD_SCAN_OTHER);
        data[changes[i].at] = kept;
    }
    assert_int_equal(cut(data, len, 0, len), PRELOAD_SCAN_HELLO);
}

/* What counts behind bytes that nobody knows. */
static void test_lengths(void **state)
{
    struct preload_hello_scan s = {.have = 0};
    uint8_t data[800];
    size_t len = hello(data, 1, 4 + BODY);

    assert_int_equal(preload_hello_scan(&s, data, len), PRELOAD_SCAN_HELLO);
    assert_true(preload_hello_fits(&s));
    data[4]++; /* a ClientHello is alone in its record */
    memset(&s, 0, sizeof(s));
    assert_int_equal(preload_hello_scan(&s, data, len), PRELOAD_SCAN_HELLO);
    assert_false(preload_hello_fits(&s));
    data[5] = 2;
    memset(&s, 0, sizeof(s));
    assert_int_equal(preload_hello_scan(&s, data, len), PRELOAD_SCAN_HELLO);
    assert_true(preload_hello_fits(&s));
    data[4] -= 2;
    memset(&s, 0, sizeof(s));
    assert_int_equal(preload_hello_scan(&s, data, len), PRELOAD_SCAN_HELLO);
    assert_false(preload_hello_fits(&s));
}

/* Where it says no there is nothing to find; and it says no of most that only has the byte. */
static void test_may_begin(void **state)
{
    static const uint8_t bytes[] = {22, 22, 22, 3, 3, 3, 1, 1, 2, 0, 0, 4, 20, 21, 100, 255};
    unsigned seen[2] = {0, 0}, random = 1, round;
    uint8_t data[400];
    size_t len, i;

    len = hello(data, 1, 1000);
    for (i = 1; i <= len; i++)
        assert_true(preload_hello_may_begin(data, i));
    for (round = 0; round < 2000; round++) {
        for (i = 0; i < sizeof(data); i++) {
            random = random * 1664525 + 1013904223;
            data[i] = bytes[random >> 28];
        }
        for (i = 0; i < sizeof(data); i++) {
            struct preload_hello_scan s = {.have = 0};
            bool may = preload_hello_may_begin(data + i, sizeof(data) - i);

            if (data[i] != 22)
                continue;
            if (!may)
                assert_int_equal(preload_hello_scan(&s, data + i, sizeof(data) - i),
                                 PRELOAD_SCAN_OTHER);
            seen[may]++;
        }
    }
    assert_true(seen[true] > 100 && seen[false] > 10 * seen[true]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_every_cut),
                                       cmocka_unit_test(test_not_before_the_random_is_complete),
                                       cmocka_unit_test(test_behind_other_records),
                                       cmocka_unit_test(test_others),
                                       cmocka_unit_test(test_lengths),
                                       cmocka_unit_test(test_may_begin)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
