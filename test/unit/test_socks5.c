/* The SOCKS5 client: requests, every reply, split at every byte, every byte tampered with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "mtls/core/socks5.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct mtls_host host(const char *text)
{
    struct mtls_host h;

    assert_int_equal(mtls_host_parse(&h, text), 0);
    return h;
}

/* Takes what is to be sent, n bytes at a time, and compares it. */
static void assert_out(struct mtls_socks5 *s, const void *expected, size_t len, size_t n)
{
    size_t left;

    for (size_t at = 0; at < len; at += n) {
        const uint8_t *out = mtls_socks5_out(s, &left);

        assert_int_equal(left, len - at);
        assert_memory_equal(out, (const uint8_t *)expected + at, left);
        mtls_socks5_sent(s, n);
    }
    (void)mtls_socks5_out(s, &left);
    assert_int_equal(left, 0);
}

/* Up to the sent request. */
static void begin(struct mtls_socks5 *s, const char *to)
{
    const struct mtls_host h = host(to);
    size_t pos = 0, len;

    assert_int_equal(mtls_socks5_init(s, &h, 443), 0);
    assert_out(s, "\5\1\0", 3, 3);
    assert_int_equal(mtls_socks5_input(s, (const uint8_t *)"\5\0", 2, &pos), 0);
    assert_int_equal(pos, 2);
    (void)mtls_socks5_out(s, &len);
    assert_true(len > 0);
    mtls_socks5_sent(s, len);
}

static void requests(void **state)
{
    static const struct {
        const char *to;
        const char *request;
        size_t len;
    } cases[] = {
        {"www.example", "\5\1\0\3\13www.example\1\273", 18},
        {"192.0.2.1", "\5\1\0\1\300\0\2\1\1\273", 10},
        {"2001:db8::1", "\5\1\0\4\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1\1\273", 22},
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        for (size_t step = 1; step < 5; step++) {
            struct mtls_host h = host(cases[i].to);
            struct mtls_socks5 s;
            size_t pos = 0;

            h.addr.port = 99; /* the port is the argument's */
            assert_int_equal(mtls_socks5_init(&s, &h, 443), 0);
            assert_out(&s, "\5\1\0", 3, step);
            assert_int_equal(mtls_socks5_input(&s, (const uint8_t *)"\5\0", 2, &pos), 0);
            assert_out(&s, cases[i].request, cases[i].len, step);
            mtls_socks5_sent(&s, 1000); /* more than there is */
        }
}

static void longest_name(void **state)
{
    struct mtls_socks5 s;
    struct mtls_host h = {.name = ""};
    uint8_t expected[262] = {5, 1, 0, 3, 255};
    size_t pos = 0;

    memset(h.name, 'a', MTLS_HOST_MAX);
    memset(expected + 5, 'a', MTLS_HOST_MAX);
    expected[260] = 0xff;
    expected[261] = 0xfe;
    assert_int_equal(mtls_socks5_init(&s, &h, 0xfffe), 0);
    mtls_socks5_sent(&s, 3);
    assert_int_equal(mtls_socks5_input(&s, (const uint8_t *)"\5\0", 2, &pos), 0);
    assert_out(&s, expected, sizeof(expected), 262);
}

static void bad_arguments(void **state)
{
    struct mtls_socks5 s;
    struct mtls_host h = host("h");
    size_t len, pos = 0;

    assert_int_equal(mtls_socks5_init(&s, &h, 1), 0);
    assert_int_equal(mtls_socks5_init(&s, &h, 0), MTLS_ERR_ARG);
    (void)mtls_socks5_out(&s, &len);
    assert_int_equal(len, 0);
    assert_int_equal(mtls_socks5_input(&s, (const uint8_t *)"\5\0", 2, &pos), MTLS_ERR_ARG);
    assert_int_equal(pos, 0);
    h.addr.family = 5;
    assert_int_equal(mtls_socks5_init(&s, &h, 1), MTLS_ERR_ARG);
    h = host("h");
    h.name[0] = '\0';
    assert_int_equal(mtls_socks5_init(&s, &h, 1), MTLS_ERR_ARG);
    memset(h.name, 'a', sizeof(h.name));
    assert_int_equal(mtls_socks5_init(&s, &h, 1), MTLS_ERR_ARG);
}

/* reply, and what comes after it, in two pieces. */
static void assert_reply(const uint8_t *reply, size_t len, size_t used, size_t split, int expected)
{
    struct mtls_socks5 s;
    size_t pos = 0;
    int r;

    begin(&s, "www.example");
    r = mtls_socks5_input(&s, reply, split, &pos);
    if (split < used) {
        assert_int_equal(r, 0);
        assert_int_equal(pos, split);
        r = mtls_socks5_input(&s, reply, len, &pos);
    }
    assert_int_equal(r, expected);
    assert_int_equal(pos, used);
    assert_int_equal(mtls_socks5_input(&s, reply, len, &pos), expected); /* sticky, takes nothing */
    assert_int_equal(pos, used);
}

static void replies(void **state)
{
    static const struct {
        const char *bytes;
        size_t len, used;
        int expected;
    } cases[] = {
        {"\5\0\0\1\300\0\2\1\0\0tunnel", 16, 10, 1},
        {"\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0tunnel", 28, 22, 1},
        {"\5\0\0\3\3abc\0\0tunnel", 16, 10, 1},
        {"\5\0\0\3\0\0\0tunnel", 13, 7, 1},
        {"\5\5\0\1\0\0\0\0\0\0", 10, 2, MTLS_ERR_SOCKS_REFUSED},
        {"\5\5", 2, 2, MTLS_ERR_SOCKS_REFUSED},
        {"\5\1\0\1\0\0\0\0\0\0", 10, 2, MTLS_ERR_SOCKS_FAILED},
        {"\5\2", 2, 2, MTLS_ERR_SOCKS_FAILED},
        {"\5\3", 2, 2, MTLS_ERR_SOCKS_FAILED},
        {"\5\4", 2, 2, MTLS_ERR_SOCKS_FAILED},
        {"\5\6", 2, 2, MTLS_ERR_SOCKS_FAILED},
        {"\5\7", 2, 2, MTLS_ERR_SOCKS_FAILED},
        {"\5\10", 2, 2, MTLS_ERR_SOCKS_FAILED},
        {"\5\xf0", 2, 2, MTLS_ERR_SOCKS_FAILED},
        {"\4\0\0\1", 4, 1, MTLS_ERR_SOCKS_REPLY},
        {"HTTP/1.1", 8, 1, MTLS_ERR_SOCKS_REPLY},
        {"\5\0\1\1\0\0\0\0\0\0", 10, 3, MTLS_ERR_SOCKS_REPLY},
        {"\5\0\0\0\0\0\0\0\0\0", 10, 4, MTLS_ERR_SOCKS_REPLY},
        {"\5\0\0\2\0\0\0\0\0\0", 10, 4, MTLS_ERR_SOCKS_REPLY},
        {"\5\0\0\5\0\0\0\0\0\0", 10, 4, MTLS_ERR_SOCKS_REPLY},
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        for (size_t split = 0; split <= cases[i].used; split++)
            assert_reply((const uint8_t *)cases[i].bytes, cases[i].len, cases[i].used, split,
                         cases[i].expected);
}

static void longest_reply(void **state)
{
    uint8_t reply[263] = {5, 0, 0, 3, 255};

    for (size_t split = 0; split <= 262; split++)
        assert_reply(reply, sizeof(reply), 262, split, 1);
}

/* Every value of each byte that says something. */
static void tampered(void **state)
{
    static const uint8_t good[] = {5, 0, 0, 1, 192, 0, 2, 1, 0, 80};

    for (size_t i = 0; i < sizeof(good); i++)
        for (unsigned v = 0; v < 256; v++) {
            uint8_t reply[sizeof(good)];
            struct mtls_socks5 s;
            size_t pos = 0;
            int r;

            memcpy(reply, good, sizeof(good));
            reply[i] = (uint8_t)v;
            begin(&s, "192.0.2.1");
            r = mtls_socks5_input(&s, reply, sizeof(reply), &pos);
            if (v == good[i] || i > 3) /* the bound address is not looked at */
                assert_int_equal(r, 1);
            else if (i == 1)
                assert_int_equal(r, v == 5 ? MTLS_ERR_SOCKS_REFUSED : MTLS_ERR_SOCKS_FAILED);
            else if (i == 3 && v == 3)
                assert_int_equal(r, 0); /* a name of 192 bytes */
            else if (i == 3 && v == 4)
                assert_int_equal(r, 0);
            else
                assert_int_equal(r, MTLS_ERR_SOCKS_REPLY);
        }
}

static void methods(void **state)
{
    for (unsigned version = 0; version < 256; version++)
        for (unsigned method = 0; method < 256; method++) {
            const uint8_t reply[] = {(uint8_t)version, (uint8_t)method};
            const struct mtls_host h = host("h");
            struct mtls_socks5 s;
            size_t pos = 0;
            int expected = method == 0 ? 0 : MTLS_ERR_SOCKS_REPLY;

            if (method == 0xff)
                expected = MTLS_ERR_SOCKS_AUTH;
            if (version != 5)
                expected = MTLS_ERR_SOCKS_REPLY;
            assert_int_equal(mtls_socks5_init(&s, &h, 443), 0);
            mtls_socks5_sent(&s, 3);
            assert_int_equal(mtls_socks5_input(&s, reply, sizeof(reply), &pos), expected);
        }
}

/* What comes before we have spoken answers nothing of ours. */
static void ahead_of_us(void **state)
{
    const struct mtls_host h = host("h");
    struct mtls_socks5 s;
    size_t pos = 0;

    assert_int_equal(mtls_socks5_init(&s, &h, 443), 0);
    assert_int_equal(mtls_socks5_input(&s, NULL, 0, &pos), 0);
    mtls_socks5_sent(&s, 2);
    assert_int_equal(mtls_socks5_input(&s, (const uint8_t *)"\5\0", 2, &pos), MTLS_ERR_SOCKS_REPLY);
    assert_int_equal(pos, 0);

    assert_int_equal(mtls_socks5_init(&s, &h, 443), 0);
    mtls_socks5_sent(&s, 3);
    assert_int_equal(mtls_socks5_input(&s, (const uint8_t *)"\5\0\5\0\0\1\0\0\0\0\0\0", 12, &pos),
                     MTLS_ERR_SOCKS_REPLY);
    assert_int_equal(pos, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests),      cmocka_unit_test(longest_name),
        cmocka_unit_test(bad_arguments), cmocka_unit_test(replies),
        cmocka_unit_test(longest_reply), cmocka_unit_test(tampered),
        cmocka_unit_test(methods),       cmocka_unit_test(ahead_of_us),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
