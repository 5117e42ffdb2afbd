/* The tools' small parts: the byte queue, JSON output, numbers and addresses, configuration words.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "apps/addr.h"
#include "apps/buf.h"
#include "apps/json.h"
#include "apps/option_settings.h"
#include "apps/tls_setup.h"

/* Bytes in, bytes out, in steps that are no divisor of the size: nothing lost, nothing reordered,
 * the bound kept. */
static void test_buf(void **state)
{
    struct buf b = {0};
    uint8_t in = 0, out = 0;
    size_t room;

    for (int round = 0; round < 2000; round++) {
        uint8_t piece[777], *at;

        if (round % 2 == 0) {
            for (size_t i = 0; i < sizeof piece; i++)
                piece[i] = (uint8_t)(in + i);
            if (buf_put(&b, piece, sizeof piece) == 0)
                in = (uint8_t)(in + sizeof piece);
            else
                assert_true(buf_space(&b) < sizeof piece);
        } else if ((at = buf_reserve(&b, &room)) != NULL) {
            assert_true(room > 0 && room <= buf_space(&b));
            at[0] = in++;
            buf_commit(&b, 1);
        }
        assert_true(buf_len(&b) + buf_space(&b) == BUF_SIZE);
        for (int i = 0; i < 300 && buf_len(&b) > 0; i++) {
            assert_int_equal(buf_head(&b)[0], out++);
            buf_consume(&b, 1);
        }
    }
    buf_clear(&b);
    assert_null(b.data);
}

static void test_buf_full_and_empty(void **state)
{
    static uint8_t all[BUF_SIZE];
    struct buf b = {0};
    size_t room;

    assert_int_equal(buf_put(&b, all, 0), 0);
    assert_null(b.data);
    assert_int_equal(buf_put(&b, all, BUF_SIZE), 0);
    assert_int_equal(buf_put(&b, all, 1), -1);
    assert_null(buf_reserve(&b, &room));
    assert_int_equal(room, 0);
    buf_consume(&b, 1);
    assert_int_equal(buf_put(&b, all, 2), -1);
    assert_int_equal(buf_put(&b, all, 1), 0);
    assert_int_equal(buf_space(&b), 0);
    buf_consume(&b, BUF_SIZE);
    assert_null(b.data);
}

static void assert_json(const char *value, const char *expected)
{
    struct json j;
    char *text;

    json_begin(&j);
    json_string(&j, "k", value);
    text = json_end(&j);
    assert_string_equal(text, expected);
    free(text);
}

static void test_json_strings(void **state)
{
    assert_json("a", "{\"k\": \"a\"}");
    assert_json(NULL, "{\"k\": \"\"}");
    assert_json("\"\\\n\x1f\x7f", "{\"k\": \"\\\"\\\\\\u000a\\u001f\\u007f\"}");
    assert_json("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
                "{\"k\": \"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"}");
    assert_json("\xc3", "{\"k\": \"\\ufffd\"}");                       /* cut short */
    assert_json("\xc0\x80", "{\"k\": \"\\ufffd\\ufffd\"}");            /* overlong */
    assert_json("\xed\xa0\x80", "{\"k\": \"\\ufffd\\ufffd\\ufffd\"}"); /* a surrogate */
    assert_json("\xf4\x90\x80\x80", "{\"k\": \"\\ufffd\\ufffd\\ufffd\\ufffd\"}");
    assert_json("\xff"
                "a",
                "{\"k\": \"\\ufffda\"}");
}

static void test_json_shapes(void **state)
{
    struct json j;
    char *text;

    json_begin(&j);
    json_number(&j, "n", UINT64_MAX);
    json_bool(&j, "b", true);
    json_open(&j, "a", '[');
    json_string(&j, NULL, "x");
    json_string(&j, NULL, "y");
    json_close(&j, ']');
    json_open(&j, "e", '{');
    json_close(&j, '}');
    json_splice(&j, "{}");
    json_splice(&j, "{\"s\": 1}");
    text = json_end(&j);
    assert_string_equal(
        text,
        "{\"n\": 18446744073709551615, \"b\": true, \"a\": [\"x\", \"y\"], \"e\": {}, \"s\": 1}");
    free(text);
}

static void test_numbers(void **state)
{
    unsigned long n;
    const char *bad[] = {"",   "-1",  "+1", " 1", "1 ",
                         "1x", "0x1", "0",  "11", "99999999999999999999999"};

    assert_int_equal(number_parse("1", 1, 10, &n), 0);
    assert_int_equal(number_parse("10", 1, 10, &n), 0);
    assert_int_equal(n, 10);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(number_parse(bad[i], 1, 10, &n), -1);
}

static void test_host_port(void **state)
{
    const char *bad[] = {"",      "h",       "h:",    ":1",    "h:0",    "h:65536",
                         "h:x",   "::1:443", "[::1]", "[h]:1", "[::1:1", "a b:1",
                         "a/b:1", "[::g]:1", "a,b:1", "h:1:2", "[]:1"};
    struct host_port hp;

    assert_int_equal(host_port_parse("name.example:443", 1, &hp), 0);
    assert_string_equal(hp.host, "name.example");
    assert_int_equal(hp.port, 443);
    assert_int_equal(hp.family, AF_UNSPEC);
    assert_int_equal(host_port_parse("192.0.2.1:65535", 1, &hp), 0);
    assert_int_equal(hp.family, AF_INET);
    assert_int_equal(host_port_parse("[2001:db8::1]:1", 1, &hp), 0);
    assert_int_equal(hp.family, AF_INET6);
    assert_string_equal(hp.host, "2001:db8::1");
    assert_int_equal(host_port_parse("127.0.0.1:0", 0, &hp), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(host_port_parse(bad[i], 1, &hp), -1);
}

static void test_address_text(void **state)
{
    char text[ADDR_TEXT];
    struct addr a;

    assert_int_equal(addr_parse("2001:db8::1", 5, &a), 0);
    addr_text((const struct sockaddr *)&a.sa, a.len, text);
    assert_string_equal(text, "[2001:db8::1]:5");
    assert_int_equal(addr_parse("192.0.2.1", 5, &a), 0);
    addr_set_port(&a, 6);
    addr_text((const struct sockaddr *)&a.sa, a.len, text);
    assert_string_equal(text, "192.0.2.1:6");
    assert_int_equal(addr_parse("192.0.2", 5, &a), -1);
    assert_int_equal(addr_parse("fe80::1%no-such-device", 5, &a), -1);
    assert_int_equal(addr_parse("fe80::1%lo", 5, &a), 0);
}

static void test_words(void **state)
{
    struct words w = {0};
    const char *value = "path2=x";
    int added = 0;

    assert_int_equal(words_add(&w, "policy", "require"), 0);
    assert_int_equal(words_add(&w, "path2", "local=a b"), -1);
    assert_int_equal(words_add(&w, NULL, "need=2 tfo=off"), 0);
    assert_string_equal(w.text, "policy=require need=2 tfo=off");
    while (words_add(&w, NULL, value) == 0)
        added++;
    assert_true(added > 900 && strlen(w.text) == w.len && w.len < sizeof w.text);
}

static void test_alpn(void **state)
{
    uint8_t wire[ALPN_WIRE_MAX];
    const char *bad[] = {"", ",", "a,", ",a", "a,,b"};

    assert_int_equal(tls_setup_alpn_wire("h2,http/1.1", wire), 12);
    assert_memory_equal(wire, "\x02h2\x08http/1.1", 12);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(tls_setup_alpn_wire(bad[i], wire), -1);
}

/* A flag's row says what it does; a wrong value changes nothing. */
static void test_option_settings(void **state)
{
    struct {
        const char *text;
        bool on;
        unsigned long number;
    } c = {.number = 7};
    static const struct option_def defs[] = {
        {1, 0, "text", "X", "", 0},   {2, 0, "on", NULL, "", 0},   {3, 0, "number", "N", "", 0},
        {4, 0, "policy", "P", "", 0}, {5, 0, "words", "W", "", 0}, {6, 0, "need", "K", "", 0},
        {7, 0, "other", NULL, "", 0}, {0, 0, NULL, NULL, NULL, 0},
    };
    const struct option_setting settings[] = {
        {1, OPTION_TEXT, (size_t)((char *)&c.text - (char *)&c), 0, 0, "text", NULL},
        {2, OPTION_ON, (size_t)((char *)&c.on - (char *)&c), 0, 0, NULL, NULL},
        {3, OPTION_NUMBER, (size_t)((char *)&c.number - (char *)&c), 10, 20, "n", NULL},
        {4, OPTION_WORD, 0, 0, 0, "policy", "off, prefer or require"},
        {5, OPTION_WORD, 0, 0, 0, NULL, NULL},
        {6, OPTION_WORD, 0, 1, 8, "need", NULL},
        {0, OPTION_ON, 0, 0, 0, NULL, NULL},
    };
    static const char *const bad[] = {"or", "offs", "of", "off,", "", "prefer or"};
    static struct words w;
    const struct option_target t = {"test", defs, settings, &c, &w};

    assert_int_equal(option_set(&t, 1, "x"), 0);
    assert_string_equal(c.text, "x");
    assert_int_equal(option_set(&t, 2, NULL), 0);
    assert_true(c.on);
    assert_int_equal(option_set(&t, 3, "21"), -1);
    assert_int_equal(c.number, 7);
    assert_int_equal(option_set(&t, 3, "20"), 0);
    assert_int_equal(c.number, 20);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(option_set(&t, 4, bad[i]), -1);
    assert_int_equal(option_set(&t, 4, "off"), 0);
    assert_int_equal(option_set(&t, 4, "prefer"), 0);
    assert_int_equal(option_set(&t, 4, "require"), 0);
    assert_int_equal(option_set(&t, 5, "a=1 b=2"), 0);
    assert_int_equal(option_set(&t, 6, "0"), -1);
    assert_int_equal(option_set(&t, 6, "8"), 0);
    assert_int_equal(option_set(&t, 1, "white space"), -1);
    assert_int_equal(option_set(&t, 7, NULL), 1);
    assert_string_equal(w.text,
                        "text=x n=20 policy=off policy=prefer policy=require a=1 b=2 need=8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buf),          cmocka_unit_test(test_buf_full_and_empty),
        cmocka_unit_test(test_json_strings), cmocka_unit_test(test_json_shapes),
        cmocka_unit_test(test_numbers),      cmocka_unit_test(test_host_port),
        cmocka_unit_test(test_address_text), cmocka_unit_test(test_words),
        cmocka_unit_test(test_alpn),         cmocka_unit_test(test_option_settings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
