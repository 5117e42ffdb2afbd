/* What may be said in the clear before TLS (preload/preamble.h): each preamble, and beside it the
 * same bytes with something behind them, or one of them changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "preload/preamble.h"

#define BYTES(text) text, sizeof(text) - 1

struct item {
    const char *data;
    size_t len;
};

static const struct item good[] = {
    {BYTES("EHLO me.example\r\n")},
    {BYTES("EHLO me\r\nSTARTTLS\r\n")},
    {BYTES("lhlo [192.0.2.1]\n")},
    {BYTES("QUIT\r\n")},
    {BYTES("a001 STARTTLS\r\n")},
    {BYTES("A1 CAPABILITY\r\nA2 STARTTLS\r\n")},
    {BYTES("STLS\r\n")},
    {BYTES("CAPA\r\n")},
    {BYTES("AUTH TLS\r\n")},
    {BYTES("CONNECT server.example:443 HTTP/1.1\r\nHost: server.example:443\r\n\r\n")},
    {BYTES("\5\1\0")},
    {BYTES("\5\2\0\2")},
    {BYTES("\5\1\0\1\300\0\2\1\1\273")},
    {BYTES("\5\1\0\3\1a\1\273")},
    {BYTES("\4\1\1\273\300\0\2\1\0")},
    {BYTES("\0\0\0\10\4\322\26\57")},
    {BYTES("\0\0\0\10\4\322\26\60")},
    {BYTES("\40\0\0\1\0\10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")},
    {BYTES("\x30\x1d\2\1\1\x77\x18\x80\x16"
           "1.3.6.1.4.1.1466.20037")},
    {BYTES("\x30\5\2\1\2\x42\0")},
    {BYTES("<?xml version='1.0'?><stream:stream to='a' version='1.0'>")},
    {BYTES("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")},
    {BYTES("\25\3\3\0\2\2\50")},
};

static const struct item bad[] = {
    {BYTES("")},
    {BYTES("GET / HTTP/1.1\r\n\r\n")},
    {BYTES("EHLO me.example")},
    {BYTES("EHLO me\r\nMAIL FROM:<a@b>\r\n")},
    {BYTES("EHLO me AUTH=secret stuff\r\n")},
    {BYTES("AUTH PLAIN AGEAYg==\r\n")},
    {BYTES("a001 LOGIN me secret\r\n")},
    {BYTES("a001 STARTTLS secret\r\n")},
    {BYTES(" STARTTLS\r\n")},
    {BYTES("USER me\r\n")},
    {BYTES("STLS\r\nPASS secret\r\n")},
    {BYTES("CONNECT server.example:443 HTTP/1.1\r\n\r\nsecret")},
    {BYTES("CONNECT a\r\n\r\nsecret\r\n\r\n")},
    {BYTES("\5\1\0secret")},
    {BYTES("\5\1\0\1\300\0\2\1\1\273secret")},
    {BYTES("\5\1\0\3\1a\1\273x")},
    {BYTES("\4\1\1\273\300\0\2\1me")},
    {BYTES("\0\0\0\10\4\322\26\57x")},
    {BYTES("\0\0\0\10\4\322\26\56")},
    {BYTES("\0\0\0\10\0\3\0\0")},
    {BYTES("\40\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")},
    {BYTES("\x30\x1d\2\1\1\x60\x18\x80\x16"
           "1.3.6.1.4.1.1466.20037")},
    {BYTES("\x30\x1d\2\1\1\x77\x18\x80\x16"
           "1.3.6.1.4.1.1466.20038")},
    {BYTES("\x30\5\2\1\2\x42\0x")},
    {BYTES("\x30\5\2\x7f\2\x42\0")},
    {BYTES("<stream:stream to='a'><auth>secret</auth>")},
    {BYTES("<starttls/>secret")},
    {BYTES("<stream:stream to='a'")},
    {BYTES("\25\3\3\0\2\2\50x")},
    {BYTES("\27\3\3\0\2\2\50")},
};

static void accepted(void **state)
{
    size_t i;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (!preload_preamble((const uint8_t *)good[i].data, good[i].len))
            fail_msg("%zu is refused: %s", i, good[i].data);
}

static void refused(void **state)
{
    size_t i;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (preload_preamble((const uint8_t *)bad[i].data, bad[i].len))
            fail_msg("%zu is accepted: %s", i, bad[i].data);
}

/* Cut anywhere, and with anything behind it, a preamble is none: what follows could be a secret. */
static void cut_and_longer(void **state)
{
    static const char secret[] = "\0secret";
    size_t i, len;
    uint8_t *copy;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        for (len = 0; len < good[i].len; len++) { /* reads nothing behind the end */
            copy = malloc(len + 1);
            assert_non_null(copy);
            memcpy(copy, good[i].data, len);
            (void)preload_preamble(copy, len);
            free(copy);
        }
        copy = malloc(good[i].len + sizeof(secret));
        assert_non_null(copy);
        memcpy(copy, good[i].data, good[i].len);
        memcpy(copy + good[i].len, secret, sizeof(secret));
        assert_false(preload_preamble(copy, good[i].len + sizeof(secret) - 1));
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted),
        cmocka_unit_test(refused),
        cmocka_unit_test(cut_and_longer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
