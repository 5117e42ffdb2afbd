/* The tools' HTTP parsers: requests (mtls-server --www) and responses (mtls-client --get). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "apps/http_request.h"
#include "apps/http_response.h"

#define REST " HTTP/1.1\r\nHost: h\r\n\r\n"

static int parse(const char *text, struct http_request *out, size_t *used)
{
    return http_request_parse((const uint8_t *)text, strlen(text), out, used);
}

/* Each refused request stands beside an accepted twin. */
static const struct {
    const char *text;
    int status;
    const char *path; /* of an accepted one */
    int keep_alive, head;
} requests[] = {
    {"GET /" REST, 200, "/", 1, 0},
    {"\r\nGET /" REST, 200, "/", 1, 0},
    {"HEAD /" REST, 200, "/", 1, 1},
    {"head /" REST, 405, NULL, 0, 0},
    {"POST /" REST, 405, NULL, 0, 0},
    {"G(T /" REST, 400, NULL, 0, 0},
    {"GET /a%20b?q=%zz" REST, 200, "/a b", 1, 0},
    {"GET /a%2" REST, 400, NULL, 0, 0},
    {"GET /a%2g" REST, 400, NULL, 0, 0},
    {"GET /a%00b" REST, 400, NULL, 0, 0},
    {"GET /a#b" REST, 400, NULL, 0, 0},
    {"GET /%2e%2e/x" REST, 200, "/../x", 1, 0},
    {"GET https://h/x" REST, 200, "/x", 1, 0},
    {"GET HTTP://h" REST, 200, "/", 1, 0},
    {"GET ftp://h/x" REST, 400, NULL, 0, 0},
    {"GET x" REST, 400, NULL, 0, 0},
    {"GET *" REST, 400, NULL, 0, 0},
    {"GET  /" REST, 400, NULL, 0, 0},
    {"GET /\r\nHost: h\r\n\r\n", 400, NULL, 0, 0},
    {"GET / HTTP/1.0\r\n\r\n", 200, "/", 0, 0},
    {"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200, "/", 1, 0},
    {"GET / HTTP/1.1\r\n\r\n", 400, NULL, 0, 0},
    {"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505, NULL, 0, 0},
    {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, NULL, 0, 0},
    {"GET / http/1.1\r\nHost: h\r\n\r\n", 400, NULL, 0, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\nConnection: x, close\r\n\r\n", 200, "/", 0, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 200, "/", 1, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n", 200, "/", 0, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 200, "/", 0, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400, NULL, 0, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\nX:\r\n\r\n", 200, "/", 1, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n", 400, NULL, 0, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n", 400, NULL, 0, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", 400, NULL, 0, 0},
    {"GET / HTTP/1.1\r\nHost: h\r\nX: a\x01\r\n\r\n", 400, NULL, 0, 0},
    {"GET / HTTP/1.1\nHost: h\r\n\r\n", 400, NULL, 0, 0},
};

static void test_requests(void **state)
{
    struct http_request r;
    size_t used;

    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        assert_int_equal(parse(requests[i].text, &r, &used), requests[i].status);
        if (requests[i].status != 200)
            continue;
        assert_int_equal(used, strlen(requests[i].text));
        assert_string_equal(r.path, requests[i].path);
        assert_int_equal(r.keep_alive, requests[i].keep_alive);
        assert_int_equal(r.head, requests[i].head);
    }
}

/* Cut at every byte a request is incomplete, never refused and never taken for a shorter one. */
static void test_request_cut(void **state)
{
    const char *text = "\r\nGET /path%41 HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n";
    struct http_request r;
    size_t used;

    for (size_t len = 0; len < strlen(text); len++) {
        uint8_t *exact = malloc(len + 1);

        memcpy(exact, text, len);
        assert_int_equal(http_request_parse(exact, len, &r, &used), 0);
        free(exact);
    }
    assert_int_equal(parse(text, &r, &used), 200);
    assert_string_equal(r.path, "/pathA");
}

static void test_request_pipeline(void **state)
{
    struct http_request r;
    size_t used;

    assert_int_equal(parse("GET /1" REST "GET /2" REST, &r, &used), 200);
    assert_string_equal(r.path, "/1");
    assert_int_equal(used, strlen("GET /1" REST));
}

static int parse_long(size_t path, size_t field, int finished)
{
    static char text[HTTP_HEAD_MAX * 2];
    static struct http_request r;
    size_t used, n = 0;

    n += (size_t)sprintf(text, "GET /");
    memset(text + n, 'p', path);
    n += path;
    n += (size_t)sprintf(text + n, " HTTP/1.1\r\nHost: h\r\nX: ");
    memset(text + n, 'f', field);
    n += field;
    if (finished)
        n += (size_t)sprintf(text + n, "\r\n\r\n");
    return http_request_parse((const uint8_t *)text, n, &r, &used);
}

static void test_request_bounds(void **state)
{
    size_t line = strlen("GET / HTTP/1.1\r"), head = strlen("GET / HTTP/1.1\r\nHost: h\r\nX: ");

    assert_int_equal(parse_long(HTTP_LINE_MAX - line, 0, 1), 200);
    assert_int_equal(parse_long(HTTP_LINE_MAX - line + 1, 0, 1), 414);
    assert_int_equal(parse_long(0, HTTP_HEAD_MAX - head, 1), 200);
    assert_int_equal(parse_long(0, HTTP_HEAD_MAX - head + 1, 1), 431);
    assert_int_equal(parse_long(0, HTTP_HEAD_MAX - head, 0), 0);
    assert_int_equal(parse_long(0, HTTP_HEAD_MAX - head + 1, 0), 431);
}

/* ---- responses ---- */

struct result {
    bool complete, broken;
    int status;
    char body[256];
    size_t body_len;
};

/* Feeds text in two pieces (each by its own exact allocation) and ends the connection. */
static struct result respond(const char *text, size_t cut, bool head)
{
    static struct http_response r;
    struct result out = {0};
    size_t lens[2] = {cut, strlen(text) - cut};
    const char *at = text;

    http_response_init(&r, head);
    for (int i = 0; i < 2; at += lens[i], i++) {
        uint8_t *piece = malloc(lens[i] + 1);
        size_t used = 0, body;

        memcpy(piece, at, lens[i]);
        while (used < lens[i] && r.state < HTTP_DONE) {
            used += http_response_feed(&r, piece + used, lens[i] - used, &body);
            memcpy(out.body + out.body_len, piece + used - body, body);
            out.body_len += body;
        }
        free(piece);
    }
    out.broken = r.state == HTTP_BROKEN;
    out.complete = http_response_end(&r);
    out.status = r.status;
    return out;
}

#define OK "HTTP/1.1 200 OK\r\n"
#define CH OK "Transfer-Encoding: chunked\r\n\r\n"

static const struct {
    const char *text;
    int status; /* 0: broken; -1: incomplete */
    const char *body;
    bool head;
} responses[] = {
    {OK "Content-Length: 5\r\n\r\nhello", 200, "hello", false},
    {OK "Content-Length: 5\r\n\r\nhell", -1, "hell", false},
    {OK "Content-Length: 5\r\n\r\nhello and more", 200, "hello", false},
    {OK "Content-Length: 5\r\n\r\n", 200, "", true},
    {OK "content-length: 5 \r\nContent-Length: 5\r\n\r\nhello", 200, "hello", false},
    {OK "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 0, "", false},
    {OK "Content-Length: -5\r\n\r\nhello", 0, "", false},
    {OK "Content-Length: 5, 5\r\n\r\nhello", 0, "", false},
    {OK "Content-Length: 9999999999999999999\r\n\r\nhello", 0, "", false},
    {OK "Content-Length: \r\n\r\nhello", 0, "", false},
    {OK "Content-Length: 0\r\n\r\n", 200, "", false},
    {OK "\r\nto the end", 200, "to the end", false},
    {"HTTP/1.0 200 OK\n\nbare", 200, "bare", false},
    {"HTTP/1.1 204 None\r\n\r\n", 204, "", false},
    {"HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n", 304, "", false},
    {"HTTP/1.1 404\r\nContent-Length: 1\r\n\r\nx", 404, "x", false},
    {"HTTP/1.1 100 Go\r\n\r\n" OK "Content-Length: 2\r\n\r\nok", 200, "ok", false},
    {"HTTP/1.1 101 Switch\r\n\r\n", 0, "", false},
    {"HTTP/1.1 099 X\r\n\r\n", 0, "", false},
    {"HTTP/1.1 20 OK\r\n\r\n", 0, "", false},
    {"HTTP/1.1 2000 OK\r\n\r\n", 0, "", false},
    {"HTTP/2 200 OK\r\n\r\n", 0, "", false},
    {"SSH-2.0-OpenSSH\r\n", 0, "", false},
    {OK "no colon\r\n\r\n", 0, "", false},
    {OK ": no name\r\n\r\n", 0, "", false},
    {CH "5\r\nhello\r\n0\r\n\r\n", 200, "hello", false},
    {CH "005;ext=1\r\nhello\r\n1 \r\n!\r\n0\r\nTrailer: x\r\n\r\n", 200, "hello!", false},
    {CH "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", 200, "01234567890123456789", false},
    {CH "5\r\nhello\r\n0\r\n", -1, "hello", false},
    {CH "5\r\nhello\r\n", -1, "hello", false},
    {CH "5\r\nhello", -1, "hello", false},
    {CH "5\r\nhelloX\r\n0\r\n\r\n", 0, "hello", false},
    {CH "\r\n", 0, "", false},
    {CH "x\r\n", 0, "", false},
    {CH "5x\r\nhello", 0, "", false},
    {CH "ffffffffffffffff\r\n", 0, "", false},
    {OK "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, "", false},
    {OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 0, "", false},
    {OK "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200,
     "hello", false},
    {"HTTP/1.1 200 OK", -1, "", false},
    {"", -1, "", false},
};

static void test_responses_split_at_every_byte(void **state)
{
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++)
        for (size_t cut = 0; cut <= strlen(responses[i].text); cut++) {
            struct result r = respond(responses[i].text, cut, responses[i].head);

            assert_int_equal(r.complete, responses[i].status > 0);
            assert_int_equal(r.broken, responses[i].status == 0);
            assert_int_equal(r.body_len, strlen(responses[i].body));
            assert_memory_equal(r.body, responses[i].body, r.body_len);
            if (responses[i].status > 0)
                assert_int_equal(r.status, responses[i].status);
        }
}

static enum http_response_state feed_lines(size_t line, size_t count)
{
    static struct http_response r;
    static uint8_t field[HTTP_RESPONSE_LINE_MAX + 8];
    size_t body;

    http_response_init(&r, false);
    http_response_feed(&r, (const uint8_t *)OK, strlen(OK), &body);
    memset(field, 'x', line);
    field[1] = ':';
    field[line] = '\n';
    for (size_t i = 0; i < count && r.state != HTTP_BROKEN; i++)
        http_response_feed(&r, field, line + 1, &body);
    return r.state;
}

static void test_response_bounds(void **state)
{
    static struct http_response r;
    size_t body;

    assert_int_equal(feed_lines(HTTP_RESPONSE_LINE_MAX - 1, 1), HTTP_FIELD);
    assert_int_equal(feed_lines(HTTP_RESPONSE_LINE_MAX, 1), HTTP_BROKEN);
    assert_int_equal(feed_lines(1000, 65), HTTP_FIELD);
    assert_int_equal(feed_lines(1000, 66), HTTP_BROKEN);
    http_response_init(&r, false);
    http_response_feed(&r, (const uint8_t *)"HTTP/1.1 200 a\0b\r\n", 18, &body);
    assert_int_equal(r.state, HTTP_BROKEN);
    assert_int_equal(http_response_feed(&r, (const uint8_t *)OK, strlen(OK), &body),
                     0); /* sticky */
    assert_false(http_response_end(&r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_request_cut),
        cmocka_unit_test(test_request_pipeline),
        cmocka_unit_test(test_request_bounds),
        cmocka_unit_test(test_responses_split_at_every_byte),
        cmocka_unit_test(test_response_bounds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
